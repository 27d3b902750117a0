"""Who must sign in again is told: at the connect, in the events, and by the list of those who must."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from runtime.fake_provider.grants import RevocationCause
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.refreshd_command import refreshd
from tests.fakes.token_daemon import connect, token, write_config

pytestmark = pytest.mark.anyio

ENDS_AT = (datetime.now(UTC) + timedelta(days=50)).replace(microsecond=0)
BARE = {
    "credential_type": "oauth2",
    "expires_at": ENDS_AT.isoformat(),
    "secret": {"access_token": "a"},
}
SHOWN = ENDS_AT.isoformat().replace("+00:00", "Z")


async def test_who_must_act_is_told_and_listed_and_so_is_who_came_back(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider, grant_lifetime_s=str(30 * 86_400))
        arguments = ("--data-dir", str(tmp_path / "data"), "--config", str(config))
        file = tmp_path / "bare.json"
        file.write_text(json.dumps(BARE))
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            well, _ = await connect(caller, provider, lives_s=3600)
            user_id = (await caller.get(well))["user_id"]
            ids = ("--user-id", user_id, "--provider-id", user_id, "--provider-slug", "fake")
            made = await refreshd(
                *("connect", *ids, "--credentials-file", str(file), "--refresh", "on_demand"),
                *("-o", "json", *arguments),
            )
            answer = json.loads(made.stdout)
            bare = answer["connection_id"]
            dead, grant = await connect(caller, provider)
            held = provider.book.get(grant.grant_id)
            assert held is not None
            provider.book.revoke(held, RevocationCause.ADMIN)
            assert (await token(caller, dead)).code == "REAUTH_REQUIRED"

            listed = await refreshd("list", "--needs-action", "-o", "json", *arguments)
            table = await refreshd("list", "--needs-action", *arguments)
            only = await refreshd("list", "--needs-action", "--status", "expired", *arguments)
            same = ("user_id", "provider_id")
            ours = {name: value for name, value in (await caller.get(dead)).items() if name in same}
            gone = await caller.get(dead)
            again, _ = await connect(caller, provider, lives_s=3600, connection_id=dead, **ours)
            left = await refreshd("list", "--needs-action", "-o", "json", *arguments)

            assert again == dead
            told = [event["type"] for event in (await caller.stories())[dead]]
            shown = await caller.get(bare)

    ended_at = gone["trouble"]["at"][:19] + "Z"
    assert "has no refresh_token, so it ends and cannot be refreshed" in answer["warnings"][0]
    assert shown["refresh"] == "on_demand"
    assert {one["connection_id"]: one["needs_action"] for one in json.loads(listed.stdout)} == {
        bare: f"it ends at {SHOWN}, and there is no refresh token",
        dead: f"the connection is expired since {ended_at}: "
        "The provider no longer accepts the refresh token",
    }
    assert all(text in table.stdout for text in ("ACTION", bare, dead))
    assert well not in table.stdout
    assert (dead in only.stdout, bare in only.stdout) == (True, False)
    assert [one["connection_id"] for one in json.loads(left.stdout)] == [bare]
    assert told[2:] == [
        *("ProviderTokenRefreshAttempted", "ProviderTokenRefreshFailed"),
        *("ProviderConnectionStatusChanged", "ProviderGrantNeedsReauth"),
        *("ProviderConnectionAttempted", "ProviderConnectionSucceeded"),
        "ProviderGrantRecovered",
    ]


async def test_what_explain_names_for_a_grant_that_ends_gives_it_new_credentials(tmp_path: Path):
    async with running_fake_provider() as provider:
        config = write_config(tmp_path, provider)
        file = tmp_path / "bare.json"
        file.write_text(json.dumps(BARE))
        async with (
            daemon_process(tmp_path / "data", "--config", str(config)) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            here = ("--data-dir", str(daemon.data_dir))
            whose = ("--user-id", str(uuid4()), "--provider-id", str(uuid4()))
            made = await refreshd(
                *("connect", *whose, "--provider-slug", "fake", "-o", "json", *here),
                *("--credentials-file", str(file)),
            )
            connection_id = json.loads(made.stdout)["connection_id"]
            explained = await refreshd("explain", connection_id, "-o", "json", *here)
            command = json.loads(explained.stdout)["advice"]["text"].split("`")[1]
            verb = command.replace("FILE", str(file)).split()[1:]

            given = await refreshd(*verb, *here)

            shown = await caller.get(connection_id)

    assert verb[0] == "refresh"
    assert (given.code, shown["status"], shown["generation"]) == (0, "active", 2)
