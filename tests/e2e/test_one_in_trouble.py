"""With one connection alone, what is wrong at its provider is on every screen, before any pause."""

import json
import re
import shlex
import signal
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config

CANARY = "canary-of-the-secret"
DEAD = 'token_endpoint = "http://127.0.0.1:9/token"\nclient_id = "x"\nclient_auth = "none"\n'


class Screens(NamedTuple):
    """What an operator sees, and the exit code of ``doctor``."""

    doctor: str
    top: str
    status: dict[str, Any]
    page: str
    metrics: str
    code: int | None

    @property
    def all_text(self) -> str:
        return self.doctor + self.top + self.page + self.metrics + json.dumps(self.status)


class Scene(NamedTuple):
    daemon: DaemonProcess
    caller: PlainCaller
    provider: FakeProvider
    config: Path

    async def status(self) -> dict[str, Any]:
        return (await self.caller.ask("status")).body["ok"]

    async def screens(self) -> Screens:
        here = ("--config", str(self.config), "--data-dir", str(self.daemon.data_dir))
        doctor = await refreshd("doctor", *here, COLUMNS="80")
        top = await refreshd("top", *here, "--interval-s", "0.2", COLUMNS="80")
        async with httpx2.AsyncClient(base_url=self.daemon.http) as web:
            page, metrics = (await web.get("/")).text, (await web.get("/metrics")).text
        return Screens(doctor.stdout, top.stdout, await self.status(), page, metrics, doctor.code)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    """A daemon whose client secret is wrong, and that knows an endpoint where nobody listens."""
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider, secret=CANARY)
        ending = f"[providers.ending]\n{DEAD}grant_lifetime_s = 432000\n"
        config.write_text(f"{config.read_text()}[providers.dead]\n{DEAD}{ending}")
        options = ("--config", str(config))
        environment = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
        async with (
            daemon_process(tmp_path / "data", *options, environment=environment) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            yield Scene(daemon, caller, provider, config)


async def test_a_wrong_client_secret_is_a_problem_with_its_error_and_the_way_to_its_mend(
    scene: Scene,
):
    one, _ = await connect(scene.caller, scene.provider)
    await token(scene.caller, one, timeout_ms=1000)

    seen = await scene.screens()

    [told] = seen.status["failing"]
    assert (told["provider_slug"], told["failure_class"], told["connections"]) == (
        *("fake", "operator"),
        1,
    )
    assert (told["code"], told["connection_id"]) == ("invalid_client", one)
    assert seen.code == 1
    assert "problem  providers" in seen.doctor
    for command in (f"`refreshd explain {one}`", "`refreshd provider test fake`"):
        assert command in seen.doctor
    for screen in (seen.doctor, seen.top, seen.page):
        assert told["reason"] in " ".join(screen.replace("&#x27;", "'").split())
    assert 'refreshd_connections_failing{outcome="operator",provider="fake"} 1.0' in seen.metrics
    assert CANARY not in seen.all_text


async def test_a_secret_that_was_mended_is_not_blamed_until_it_was_tried(scene: Scene):
    one, _ = await connect(scene.caller, scene.provider, refresh="on_demand")
    await token(scene.caller, one, timeout_ms=500)

    async def explained() -> str:
        here = ("--data-dir", str(scene.daemon.data_dir))
        return " ".join((await refreshd("explain", one, *here)).stdout.split())

    said = "was taken anew after that"
    assert said not in await explained()
    (scene.config.parent / "client-secret").write_text(scene.provider.client.client_secrets[0])
    scene.daemon.process.send_signal(signal.SIGHUP)
    changed = "operator: if the next try does not show that it is mended: correct client_id"

    async def is_told() -> bool:
        text = await explained()
        return said in text and changed in text

    await eventually(is_told)

    async def is_tried() -> bool:
        return (await token(scene.caller, one)).code == "ok" and said not in await explained()

    await eventually(is_tried, within_s=30)


async def test_an_endpoint_where_nobody_listens_is_a_warning_with_its_error(scene: Scene):
    one, _ = await connect(scene.caller, scene.provider, provider_slug="dead")
    await token(scene.caller, one, timeout_ms=1000)

    seen = await scene.screens()

    [told] = seen.status["failing"]
    assert (told["failure_class"], told["code"]) == ("transient", "connect_failed")
    assert seen.code == 0
    assert "warning  providers" in seen.doctor
    for screen in (seen.doctor, seen.top, seen.page):
        assert told["reason"] in " ".join(screen.split())


async def test_connections_whose_provider_has_no_profile_are_told_of_until_it_has_one(
    scene: Scene,
):
    for _ in range(2):
        await connect(scene.caller, scene.provider, provider_slug="acme")
    api_key = {"credential_type": "api_key", "secret": {"api_key": CANARY}}
    await scene.caller.connect(provider_slug="keys-only", credentials=api_key)

    seen = await scene.screens()

    assert seen.status["connections_without_profile"] == {"acme": 2}
    assert seen.code == 1
    assert "problem  connections" in seen.doctor
    assert "2 of acme" in seen.doctor
    assert "-> add [providers.acme] to it, and reload (SIGHUP)" in seen.doctor
    assert "2 of acme: they are never refreshed" in seen.top
    assert "2 of acme are never refreshed" in seen.page
    assert 'refreshd_connections_without_profile{provider="acme"} 2.0' in seen.metrics
    assert CANARY not in seen.all_text

    scene.config.write_text(f"{scene.config.read_text()}[providers.acme]\n{DEAD}")
    scene.daemon.process.send_signal(signal.SIGHUP)

    async def is_known() -> bool:
        return (await scene.status())["connections_without_profile"] == {}

    await eventually(is_known)


async def test_whom_the_list_has_the_page_and_the_metrics_have_too(scene: Scene):
    needing = [await ended(scene), await bare(scene), await ending(scene)]
    await connect(scene.caller, scene.provider, lives_s=3600.0)

    async def is_told() -> bool:
        seen = await scene.screens()
        return all(one in seen.page for one in needing) and "3 in all" in seen.page

    await eventually(is_told, within_s=20)
    listed = (await scene.caller.ask("connections.list", {"needs_action": True})).body["ok"]
    assert {found["id"] for found in listed["connections"]} == set(needing)
    seen = await scene.screens()
    for slug, count in (("fake", 2), ("ending", 1)):
        assert f'refreshd_connections_needing_action{{provider="{slug}"}} {count}' in seen.metrics
    assert "by the calendar its grant ends within 7 d" in seen.page
    assert "and there is no refresh token" in seen.page
    assert "the connection is revoked" in seen.page


async def test_of_one_that_was_revoked_after_a_failure_all_tell_the_same_time_and_reason(
    scene: Scene,
):
    why = "their user asked us to"
    one, _ = await connect(scene.caller, scene.provider, provider_slug="dead")
    await token(scene.caller, one, timeout_ms=500)
    assert (await scene.caller.ask(f"connection.{one}.revoke", {"reason": why})).code == "ok"
    at = (await scene.caller.get(one))["updated_at"][:19]

    async def is_on_the_page() -> bool:
        said = re.sub(r"<[^>]+>", " ", (await scene.screens()).page)
        expected = f"{one} dead {at.replace('T', ' ')} the connection is revoked: {why}"
        return expected in " ".join(said.split())

    await eventually(is_on_the_page, within_s=20)
    here = ("--data-dir", str(scene.daemon.data_dir))
    told = " ".join((await refreshd("explain", one, *here)).stdout.split())
    listed = " ".join((await refreshd("list", "--needs-action", *here)).stdout.split())
    assert f"because it was revoked {at}Z (" in told
    assert f"ago): {why} before that the last refresh failed" in told.replace("(now)", "(0 s ago)")
    assert "may work later" not in told
    assert f"the connection is revoked since {at}Z: {why}" in listed

    credentials = {"credential_type": "oauth2", "secret": {"access_token": "a"}}
    (command,) = re.findall(r"`refreshd (connect .*?)`", told)
    words = [word if word != "FILE" else "-" for word in shlex.split(command)]
    done = await refreshd(*words, *here, stdin=json.dumps(credentials))
    assert (done.code, (await scene.caller.get(one))["status"]) == (0, "active")


async def ended(scene: Scene) -> str:
    """Return a connection that was revoked."""
    one, _ = await connect(scene.caller, scene.provider, lives_s=3600.0)
    await scene.caller.ask(f"connection.{one}.revoke", {})
    return one


async def bare(scene: Scene) -> str:
    """Return a connection that has no refresh token."""
    ends_at = (datetime.now(UTC) + timedelta(days=50)).isoformat()
    secret = {"access_token": "a"}
    credentials = {"credential_type": "oauth2", "expires_at": ends_at, "secret": secret}
    return await scene.caller.connect(provider_slug="fake", credentials=credentials)


async def ending(scene: Scene) -> str:
    """Return a connection whose grant ends by the calendar in five days."""
    one, _ = await connect(scene.caller, scene.provider, lives_s=86_400.0, provider_slug="ending")
    return one
