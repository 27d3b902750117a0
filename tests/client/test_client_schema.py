"""What a daemon really answers and tells is what the published schemas say."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fakes.client_scene import PROVIDER_ID, USER_ID, ClientScene
from tests.fakes.daemon_process import clean_environment
from tests.fakes.held_to_schema import FILES, SCHEMA_FOLDER, faults
from tests.fakes.warm_program import run_warm

pytestmark = pytest.mark.anyio


class Asking:
    """Asks, holds each answer to its schema, and knows which it has seen."""

    def __init__(self, scene: ClientScene) -> None:
        self._scene = scene
        self.outcomes: set[str] = set()

    async def __call__(self, name: str, subject: str, body: object = None) -> dict[str, Any]:
        answer = await self._scene.caller.ask(subject, body)
        assert faults(f"{name}Answer", answer.body, is_closed=name != "Status") == [], answer
        self.outcomes.add(f"{name} {answer.code}")
        return answer.body


async def test_answers_and_events_of_a_life_are_in_their_schemas(scene: ClientScene):
    ask = Asking(scene)
    grant = scene.provider.create(expires_in=-1.0)
    secret = {"access_token": grant.access_token, "refresh_token": grant.refresh_token}
    credentials = {
        "credential_type": "oauth2",
        "secret": secret,
        "expires_at": "2026-01-01T00:00:00Z",
    }
    fields = {
        "user_id": str(USER_ID),
        "provider_id": str(PROVIDER_ID),
        "provider_slug": "fake",
        "credentials": credentials,
        "grant_expires_at": "2027-01-01T00:00:00Z",
    }

    made = await ask("Connect", "connect", fields)
    one = f"connection.{made['ok']['connection_id']}"
    await ask("Connect", "connect", {**fields, "provider_slug": "nobody"})
    await ask("Token", f"{one}.token", {})
    await ask("Get", f"{one}.get")
    await ask("Synced", f"{one}.synced")
    scene.revoke(grant)
    await ask("Token", f"{one}.token", {"force": True})
    await ask("Get", f"{one}.get")
    await ask("List", "connections.list", {"needs_action": True})
    await ask("ConnectOne", f"{one}.connect", fields)
    await ask("Refresh", f"{one}.refresh", {"credentials": credentials})
    await ask("Refresh", f"{one}.refresh", {"credentials": None})
    await ask("Fail", f"{one}.fail", {"reason": "no"})
    await ask("Revoke", f"{one}.revoke", {"reason": "no"})
    await ask("Expire", f"{one}.expire")
    await ask("Token", f"{one}.token", {"min_ttl_s": -1})
    await ask("Disconnect", f"{one}.disconnect", {"user_id": str(uuid4())})
    await ask("Disconnect", f"{one}.disconnect", {"user_id": str(USER_ID)})
    await ask("Get", f"{one}.get")
    await ask("Get", f"connection.{uuid4()}.get")
    await ask("List", "connections.list", {})
    await ask("Status", "status")
    await scene.caller.events_caught_up()
    events = [
        {name: value for name, value in event.items() if not name.startswith("_")}
        for event in await scene.caller.told()
    ]

    assert [faults(event["type"], event) for event in events] == [[]] * len(events)
    assert {event["type"] for event in events} >= {
        *(f"ProviderConnection{outcome}" for outcome in ("Attempted", "Succeeded")),
        *(f"ProviderDisconnection{outcome}" for outcome in ("Attempted", "Succeeded", "Failed")),
        *(f"ProviderTokenRefresh{outcome}" for outcome in ("Attempted", "Succeeded", "Failed")),
        "ProviderConnectionStatusChanged",
        "ProviderGrantNeedsReauth",
        "ProviderGrantRecovered",
    }
    assert ask.outcomes >= {
        *(f"{name} ok" for name in ("Connect", "ConnectOne", "Refresh", "Token", "Get", "List")),
        *(f"{name} ok" for name in ("Synced", "Revoke", "Disconnect", "Status")),
        "Token REAUTH_REQUIRED",
        "Token INVALID_COMMAND",
        "Refresh INVALID_CREDENTIALS",
        "Fail INVALID_TRANSITION",
        "Expire INVALID_TRANSITION",
        "Disconnect NOT_OWNED_BY_USER",
        "Get CONNECTION_NOT_FOUND",
    }


async def test_the_command_prints_what_is_kept_and_knows_the_configured_prefix(tmp_path: Path):
    configured = tmp_path / "refreshd.toml"
    configured.write_text('[service]\nprefix = "acme.tokens"\n')

    for kind, file in FILES.items():
        assert await printed("schema", kind) == (SCHEMA_FOLDER / file).read_bytes()
    document = json.loads(await printed("schema", "--config", str(configured)))

    assert document["channels"]["Token"]["address"].startswith("acme.tokens.connection.")


async def printed(*arguments: str) -> bytes:
    """Return what the command line prints."""
    process = await run_warm(arguments, clean_environment())
    said, complained = await process.communicate()
    assert (complained, process.returncode) == (b"", 0)
    return said
