"""One daemon a prefix: a start beside a living one is refused, unless it is told to take over."""

import asyncio
import signal
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import (
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config


async def test_a_start_beside_a_living_daemon_is_refused_and_names_it(tmp_path: Path):
    async with (
        external_nats(tmp_path) as server,
        daemon_process(tmp_path / "one", "--nats", server.url) as living,
        plain_caller(server.url) as caller,
    ):
        daemon = (await caller.ask("status")).body["ok"]["daemon"]

        second = await refreshd("serve", "--data-dir", str(tmp_path / "two"), "--nats", server.url)

        assert second.code == 75
        assert f"daemon {daemon} serves refreshd.v1 already" in second.stderr.splitlines()[-1]
        assert "--take-over" in second.stderr
        assert (await caller.connect()) is not None
        assert living.process.returncode is None


async def test_a_daemon_of_another_prefix_is_nobody_to_ask(tmp_path: Path):
    async with (
        external_nats(tmp_path) as server,
        daemon_process(tmp_path / "one", "--nats", server.url),
        daemon_process(
            tmp_path / "two",
            "--nats",
            server.url,
            environment={"REFRESHD_SERVICE_PREFIX": "other.v1"},
        ) as second,
    ):
        assert second.said[-1].startswith("ready ")


@pytest.mark.parametrize("is_busy", [False, True])
async def test_take_over_ends_the_living_one_with_a_clear_line(tmp_path: Path, *, is_busy: bool):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with (
        external_nats(tmp_path) as server,
        daemon_process(tmp_path / "one", "--nats", server.url) as former,
        plain_caller(server.url) as caller,
    ):
        connection_id = await caller.connect()
        async with daemon_process(
            tmp_path / "two", "--nats", server.url, "--take-over", environment=keys
        ):
            # The former one learns it by its next write, or else when it looks.
            if is_busy:
                await _refresh_until_over(caller, connection_id, former)
            code = await former.stop_by_itself()
            answer = await caller.refresh(connection_id)

    assert code == 75
    assert "another daemon writes its ledger" in former.said[-1]
    assert answer.code == "ok"


async def test_a_replaced_daemon_is_out_of_the_way_at_once_and_ends_in_its_grace_with_75(
    tmp_path: Path,
):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with running_fake_provider() as provider, external_nats(tmp_path) as server:
        config = write_config(tmp_path, provider, timeout_s="45")
        arguments = ("--config", str(config), "--nats", server.url)
        async with (
            daemon_process(
                tmp_path / "one", *arguments, environment={"REFRESHD_SERVICE_DRAIN_GRACE_S": "3"}
            ) as former,
            plain_caller(server.url) as caller,
        ):
            served, _ = await connect(caller, provider, lives_s=3600.0)
            hanging, _ = await connect(caller, provider)
            provider.quirks.set({"hang": "after"})
            asked = asyncio.create_task(token(caller, hanging))
            await eventually(lambda: provider.stats.hanging == 1)

            async with daemon_process(
                tmp_path / "two", *arguments, "--take-over", environment=keys
            ):
                await eventually(lambda: any("draining" in line for line in former.said))
                held = await asked
                answers = [await caller.refresh(served) for _ in range(20)]
                is_running = former.process.returncode is None
                former.process.send_signal(signal.SIGTERM)
                code = await former.stop_by_itself()
            provider.release()

    assert held.code == "SHUTTING_DOWN"
    assert any("cannot_go_on" in line and "is lost" in line for line in former.said)
    assert {answer.code for answer in answers} == {"ok"}
    assert is_running
    assert code == 75


async def test_grants_in_flight_at_a_strict_provider_survive_a_take_over(tmp_path: Path):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with running_fake_provider() as provider, external_nats(tmp_path) as server:
        config = write_config(tmp_path, provider, timeout_s="30")
        arguments = ("--config", str(config), "--nats", server.url)
        async with (
            daemon_process(tmp_path / "one", *arguments) as former,
            plain_caller(server.url) as caller,
        ):
            ids = [(await connect(caller, provider))[0] for _ in range(10)]
            provider.quirks.set({"hang": "after"})
            asked = [asyncio.create_task(token(caller, one)) for one in ids]
            await eventually(lambda: provider.stats.hanging == 10)
            provider.quirks.set({"hang": "no"})

            async with daemon_process(
                tmp_path / "two", *arguments, "--take-over", environment=keys
            ):
                await eventually(lambda: any("draining" in line for line in former.said))
                # They wait for the intents that the former one has left open.
                again = [
                    asyncio.create_task(token(caller, one, timeout_ms=9000)) for one in ids[:5]
                ]
                await asyncio.gather(*asked)
                provider.release()
                code = await former.stop_by_itself()
                answers = [await one for one in again]
                answers += [await token(caller, one) for one in ids[5:]]

    assert [one.code for one in answers] == ["ok"] * 10
    assert {one.body["ok"]["generation"] for one in answers} == {2}
    assert provider.stats.calls == 10
    assert code == 75
    assert [file.name for file in (tmp_path / "one" / "outcomes").iterdir()] == ["ballast"]


async def _refresh_until_over(
    caller: PlainCaller, connection_id: str, former: DaemonProcess
) -> None:
    while former.process.returncode is None:
        await caller.refresh(connection_id)


async def _asked_who_is_there(caller: PlainCaller, *, times: int) -> asyncio.Future[None]:
    """Return a future that is done when daemons have been asked for so many times."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asked: list[Msg] = []

    async def count(message: Msg) -> None:
        asked.append(message)
        if len(asked) == times:
            done.set_result(None)

    await caller.client.subscribe("$SRV.PING.refreshd", cb=count)
    await caller.client.flush()
    return done


async def test_a_start_waits_for_a_daemon_that_drains_and_loses_nothing(tmp_path: Path):
    keys = {"REFRESHD_KEYS_FILE": str(tmp_path / "one" / "keyring.json")}
    async with running_fake_provider() as provider, external_nats(tmp_path) as server:
        arguments = ("--config", str(write_config(tmp_path, provider)), "--nats", server.url)
        async with (
            daemon_process(tmp_path / "one", *arguments) as former,
            plain_caller(server.url) as caller,
        ):
            connection_id, _ = await connect(caller, provider)
            provider.quirks.set({"hang": "after"})
            asked = asyncio.create_task(token(caller, connection_id))
            await eventually(lambda: provider.stats.hanging == 1)
            former.process.send_signal(signal.SIGTERM)
            await eventually(lambda: any("draining" in line for line in former.said))
            asked_twice = await _asked_who_is_there(caller, times=2)
            asked_twice.add_done_callback(lambda _: provider.release())
            provider.quirks.set({"hang": "no"})

            async with daemon_process(tmp_path / "two", *arguments, environment=keys) as later:
                assert await former.stop_by_itself() == 0
                again = await token(caller, connection_id)
            first = await asked

    assert first.code == again.code == "ok"
    assert again.body["ok"]["generation"] == 2
    assert provider.stats.calls == 1
    assert any("waiting_for_a_daemon_that_drains" in line for line in later.said)
