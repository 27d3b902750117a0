"""A client as one of the NATS users of SECURITY.md: it does its part, and is told what it lacks."""

from collections.abc import AsyncGenerator
from pathlib import Path
from uuid import uuid4

import pytest
from refreshd_client import (
    Credentials,
    LoginRefusedError,
    NotAllowedError,
    Refreshd,
    TryAgainError,
)

from runtime.config import load_config
from runtime.daemon import run_daemon
from tests.fakes.nats_process import guarded_server
from tests.fakes.papers import block

pytestmark = pytest.mark.anyio
USERS = ("daemon", "app", "tokens", "reader", "events", "admin", "setup", "audit")


@pytest.fixture
async def url(tmp_path: Path) -> AsyncGenerator[str]:
    """A server with the page's users, each with the password ``pw``, and a daemon on it."""
    passwords = (user.upper() for user in USERS)
    password_file = tmp_path / "password"
    password_file.write_text("pw\n")
    password_file.chmod(0o600)
    async with guarded_server(tmp_path, block("SECURITY.md", "", "accounts"), passwords) as server:
        environment = {
            "REFRESHD_NATS_URL": server,
            "REFRESHD_NATS_USER": "daemon",
            "REFRESHD_NATS_PASSWORD_FILE": str(password_file),
        }
        async with run_daemon(load_config(None, environment=environment), tmp_path / "data"):
            yield server


def client(url: str, user: str) -> Refreshd:
    return Refreshd(url, user=user, password="pw", inbox_prefix=f"_INBOX_{user}")


async def test_each_user_does_its_part_and_is_told_at_once_what_it_may_not(url: str):
    user_id = uuid4()
    async with (
        client(url, "app") as app,
        client(url, "tokens") as tokens,
        client(url, "reader") as reader,
        client(url, "admin") as admin,
    ):
        made = await app.connect(
            user_id=user_id,
            provider_id=user_id,
            provider_slug="schwab",
            credentials=Credentials(secret={"access_token": "at"}),
        )
        token = await tokens.token(made.connection_id)
        listed = [one.id async for one in reader.list()]
        await admin.revoke(made.connection_id)

        for barred in (
            app.token(made.connection_id),
            tokens.get(made.connection_id),
            reader.disconnect(made.connection_id, user_id),
            admin.token(made.connection_id),
        ):
            with pytest.raises(NotAllowedError, match=str(made.connection_id)):
                await barred

    assert token.access_token == "at"
    assert listed == [made.connection_id]


async def test_a_user_whose_answers_would_come_to_an_inbox_of_all_is_told_the_mend(url: str):
    with pytest.raises(NotAllowedError, match="inbox_prefix="):
        await Refreshd(url, user="tokens", password="pw").open()


async def test_a_wrong_password_is_told_before_the_time_is_up(url: str):
    with pytest.raises(LoginRefusedError, match=r"(?i)authorization") as told:
        await Refreshd(url, user="tokens", password="wrong", timeout_s=60.0).open()

    assert not isinstance(told.value, TryAgainError)
    assert str(told.value).startswith(f"no connection to NATS at {url}: ")
