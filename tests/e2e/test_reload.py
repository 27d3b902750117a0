"""SIGHUP takes new profiles, secrets, keys and limits, or nothing at all; no command notices."""

import asyncio
import base64
import contextlib
import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.credentials import Sealed
from domain.record import decode_record
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, token, write_config

_RELOADED = ("reloaded", "reload_refused")


class Scene:
    """A daemon, its caller, its provider, and its configuration to change."""

    def __init__(self, daemon: DaemonProcess, caller: PlainCaller, provider: FakeProvider) -> None:
        self.daemon, self.caller, self.provider = daemon, caller, provider
        self.folder = daemon.data_dir.parent
        self.config = self.folder / "refreshd.toml"

    def lines(self, *events: str) -> list[dict[str, Any]]:
        """Return what the log has said, by event."""
        found = [json.loads(line) for line in self.daemon.said if line.startswith("{")]
        return [line for line in found if line["event"] in events]

    def write(self, *, more: str = "", **settings: str) -> None:
        """Configure the provider anew."""
        write_config(self.folder, self.provider, **{"refresh": '"on_demand"', **settings})
        self.config.write_text(self.config.read_text() + more)

    async def reload(self) -> dict[str, Any]:
        """Send SIGHUP, and return the line of the log that says what came of it."""
        before = len(self.lines(*_RELOADED))
        self.daemon.process.send_signal(signal.SIGHUP)
        await eventually(lambda: len(self.lines(*_RELOADED)) > before)
        return self.lines(*_RELOADED)[before]


@contextlib.asynccontextmanager
async def _scene(folder: Path, **settings: str) -> AsyncGenerator[Scene]:
    # Unless a test says otherwise none is refreshed before it asks.
    settings = {"refresh": '"on_demand"', **settings}
    async with running_fake_provider() as provider:
        config = write_config(folder, provider, **settings)
        async with (
            daemon_process(folder / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            yield Scene(daemon, caller, provider)


@pytest.mark.timeout(30)
async def test_a_new_secret_is_used_and_what_is_under_way_ends_with_the_former(tmp_path: Path):
    async with _scene(tmp_path) as scene:
        ids = [(await connect(scene.caller, scene.provider))[0] for _ in range(6)]
        scene.provider.quirks.set({"hang": "after"})
        under_way = [asyncio.create_task(token(scene.caller, one)) for one in ids[:4]]
        await eventually(lambda: scene.provider.stats.hanging == 4)

        scene.write(secret="wrong")
        first = await scene.reload()
        scene.provider.quirks.clear()
        scene.provider.release()
        answers = await asyncio.gather(*under_way)
        refused = await token(scene.caller, ids[4])
        scene.write()
        second = await scene.reload()
        taken = await token(scene.caller, ids[5])

    assert [answer.code for answer in answers] == ["ok"] * 4
    assert (first["providers_changed"], second["providers_changed"]) == (["fake"], ["fake"])
    assert refused.code == "PROVIDER_MISCONFIGURED"
    assert taken.code == "ok"


@pytest.mark.timeout(30)
async def test_a_mended_secret_is_tried_at_once_by_those_who_were_held(tmp_path: Path):
    async with _scene(tmp_path) as scene:
        ids = [(await connect(scene.caller, scene.provider))[0] for _ in range(6)]
        scene.write(secret="wrong")
        await scene.reload()
        refused = [await token(scene.caller, one) for one in ids]
        paused = (await scene.caller.ask("status")).body["ok"]["paused_providers"]

        scene.write()
        await scene.reload()
        taken = [await token(scene.caller, one) for one in ids[:4]]
        resumed = (await scene.caller.ask("status")).body["ok"]["paused_providers"]
        await scene.caller.events_caught_up()
        types = {event["type"] for event in await scene.caller.told()}

    assert {answer.code for answer in refused} == {"PROVIDER_MISCONFIGURED"}
    assert max(answer.body["error"]["retry_after_s"] for answer in refused) > 60
    assert [answer.code for answer in taken] == ["ok"] * 4
    assert (paused, resumed) == (["fake"], [])
    assert {"ProviderClientPaused", "ProviderClientResumed"} <= types


@pytest.mark.timeout(30)
async def test_a_bad_file_is_refused_with_file_path_and_mend_and_nothing_changes(tmp_path: Path):
    async with _scene(tmp_path) as scene:
        one, _ = await connect(scene.caller, scene.provider)
        good = scene.config.read_text()
        bad = good.replace("client_id", "client_idd") + "\n[actors]\nlooks_max = 0\nidle = 1\n"
        scene.config.write_text(bad)

        await scene.reload()
        answered = await token(scene.caller, one)
        refusals = scene.lines("reload_refused")
        scene.config.write_text(good)
        after = await scene.reload()

    told = {line["path"]: (line["file"], line["level"], line["message"]) for line in refusals}
    assert {file for file, _, _ in told.values()} == {str(scene.config)}
    assert {level for _, level, _ in told.values()} == {"error"}
    assert told["providers.fake.client_idd"][2] == "no such key; did you mean client_id?"
    assert told["actors.looks_max"][2] == "Expected `int` >= 1"
    assert "no such key; did you mean" in told["actors.idle"][2]
    assert answered.code == "ok"
    assert after["event"] == "reloaded"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[providers\n", "no TOML: "),
        (None, "No such file or directory"),
        ("[nats]\nreplicas = 1\n", None),
    ],
)
@pytest.mark.timeout(30)
async def test_a_file_that_is_none_is_refused_and_one_without_providers_is_not(
    tmp_path: Path, text: str | None, told: str | None
):
    async with _scene(tmp_path) as scene:
        if text is None:
            scene.config.unlink()
        else:
            scene.config.write_text(text)

        line = await scene.reload()
        state = scene.daemon.process.returncode

    assert state is None
    if told is None:
        assert (line["event"], line["providers_removed"]) == ("reloaded", ["fake"])
    else:
        assert (line["event"], line["file"]) == ("reload_refused", str(scene.config))
        assert line["message"].startswith(told)


@pytest.mark.timeout(30)
async def test_no_command_fails_while_the_daemon_is_reloaded_again_and_again(tmp_path: Path):
    async with _scene(tmp_path, max_concurrency="2") as scene:
        ids = [(await connect(scene.caller, scene.provider))[0] for _ in range(10)]
        going_on = True
        codes: list[str] = []

        async def ask_on(connection_id: str) -> None:
            while going_on:
                codes.append((await scene.caller.get(connection_id))["status"])
                codes.append((await token(scene.caller, connection_id, force=True)).code)

        asking = [asyncio.create_task(ask_on(one)) for one in ids]
        for number in range(12):
            scene.write(
                max_concurrency=str(1 + number % 3),
                timeout_s=str(5 + number % 2),
                **({"rate_per_s": "500", "burst": "50"} if number % 4 < 2 else {}),
            )
            assert (await scene.reload())["event"] == "reloaded"
        going_on = False
        await asyncio.gather(*asking)

    assert set(codes) == {"active", "ok"}
    assert len(codes) > 50
    assert not scene.lines("actor_crashed", "request_crashed", "reload_crashed")


@pytest.mark.timeout(30)
async def test_a_removed_provider_serves_what_lives_then_is_unknown_until_it_is_back(
    tmp_path: Path,
):
    async with _scene(tmp_path, max_concurrency="1") as scene:
        living, _ = await connect(scene.caller, scene.provider, lives_s=3600.0)
        ended = [(await connect(scene.caller, scene.provider))[0] for _ in range(3)]
        scene.provider.quirks.set({"hang": "after"})
        asked = [asyncio.create_task(token(scene.caller, one)) for one in ended]
        await eventually(lambda: scene.provider.stats.hanging == 1)

        scene.config.write_text("")
        line = await scene.reload()
        warned = scene.lines("provider_removed")
        waiting = await asyncio.gather(*asked[1:])
        scene.provider.quirks.clear()
        scene.provider.release()
        under_way = await asked[0]
        served = await token(scene.caller, living)
        refused = await token(scene.caller, living, force=True)
        scene.write()
        await scene.reload()
        back = await asyncio.gather(*(token(scene.caller, one) for one in (living, *ended[1:])))

    assert line["providers_removed"] == ["fake"]
    assert [(one["provider_slug"], one["level"]) for one in warned] == [("fake", "warning")]
    assert [answer.code for answer in waiting] == ["UNKNOWN_PROVIDER"] * 2
    assert under_way.code == "ok"
    assert served.code == "ok"
    assert refused.code in ("ok", "UNKNOWN_PROVIDER")
    assert [answer.code for answer in back] == ["ok"] * 3
    assert scene.provider.stats.reuses_detected == 0


@pytest.mark.timeout(30)
async def test_a_profile_that_refreshes_earlier_now_finds_those_that_are_due_by_it(tmp_path: Path):
    async with _scene(tmp_path) as scene:
        ids = [(await connect(scene.caller, scene.provider))[0] for _ in range(5)]

        scene.write(refresh='"proactive"')
        assert (await scene.reload())["event"] == "reloaded"

        await eventually(lambda: scene.provider.stats.calls >= len(ids), within_s=20)
        generations = [(await scene.caller.get(one))["generation"] for one in ids]

    assert min(generations) >= 2


@pytest.mark.timeout(30)
async def test_a_new_key_seals_from_then_on_and_a_missing_one_is_kept_until_the_next_start(
    tmp_path: Path,
):
    async with _scene(tmp_path) as scene:
        file = scene.daemon.data_dir / "keyring.json"
        first = json.loads(file.read_text())
        before, _ = await connect(scene.caller, scene.provider)
        fresh = {"id": "k-new", "key": base64.b64encode(bytes(range(32))).decode()}
        file.write_text(json.dumps({"primary": "k-new", "keys": [fresh]}))

        line = await scene.reload()
        after, _ = await connect(scene.caller, scene.provider)
        answers = [await token(scene.caller, one) for one in (before, after)]
        keys = [await _key_of(scene.caller, one) for one in (before, after)]
        kept = scene.lines("keys_kept")
        clashing = [{**fresh, "key": first["keys"][0]["key"]}]
        file.write_text(json.dumps({"primary": "k-new", "keys": clashing}))
        refused = await scene.reload()
        file.unlink()
        gone = await scene.reload()
        file.touch(0o600)
        file.write_text(json.dumps({"primary": "k-new", "keys": [fresh, *first["keys"]]}))
        await scene.daemon.stop()
        async with (
            daemon_process(scene.daemon.data_dir, "--config", str(scene.config)) as again,
            plain_caller(**again.context) as caller,
        ):
            opened = [await token(caller, one, force=True) for one in (before, after)]

    assert (line["event"], line["keys_added"], line["primary_key"]) == (
        *("reloaded", ["k-new"]),
        "k-new",
    )
    assert [one["keys"] for one in kept] == [[first["primary"]]]
    assert [answer.code for answer in (*answers, *opened)] == ["ok"] * 4
    assert keys == ["k-new", "k-new"]
    assert "key 'k-new' is another one than the daemon has" in refused["message"]
    assert (gone["event"], gone["file"]) == ("reload_refused", str(file))
    assert not any(fresh["key"] in line for line in (*scene.daemon.said, *again.said))


async def _key_of(caller: PlainCaller, connection_id: str) -> str:
    """Return which key seals a connection's record in its bucket."""
    async with asyncio.timeout(10):
        while True:
            await caller.ask("connections.list", {})
            for number in range(4):
                name = f"refreshd_connections_{number:02d}"
                subject = f"$KV.{name}.{connection_id}"
                with contextlib.suppress(Exception):
                    message = await caller.client.jetstream().get_last_msg(f"KV_{name}", subject)
                    credentials = decode_record(message.data or b"").connection.credentials
                    assert credentials is not None
                    assert isinstance(credentials.payload, Sealed)
                    return credentials.payload.key_id


@pytest.mark.timeout(30)
async def test_limits_are_taken_and_what_needs_a_restart_is_named(tmp_path: Path):
    async with _scene(tmp_path) as scene:
        one, _ = await connect(scene.caller, scene.provider)
        two, _ = await connect(scene.caller, scene.provider)
        scene.provider.quirks.set({"hang": "after"})

        scene.write(
            more="\n[actors]\ntoken_callers_per_provider_max = 1\n[log]\nlevel = 'debug'\n"
            "[service]\nprefix = 'else'\n[nats]\nfree_bytes_min = 0\n"
        )
        line = await scene.reload()
        first = asyncio.create_task(token(scene.caller, one))
        await eventually(lambda: scene.provider.stats.hanging == 1)
        second = await token(scene.caller, two)
        scene.provider.quirks.clear()
        scene.provider.release()
        answered = await first
        waiting = scene.lines("reload_needs_restart")

    assert line["settings"] == ["actors.token_callers_per_provider_max", "log.level"]
    assert (answered.code, second.code) == ("ok", "OVERLOADED")
    assert waiting[0]["settings"] == ["nats.free_bytes_min", "service.prefix"]
