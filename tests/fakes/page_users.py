"""The users of SECURITY.md on a server with the page's block, and the daemon as one of them."""

import contextlib
import json
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import nats
from nats.aio.client import Client

from runtime.config import load_config
from runtime.daemon import Daemon, run_daemon
from tests.fakes.eventually import eventually

NOBODYS = "nobody.may"
CREDENTIALS = {
    "credential_type": "oauth2",
    "expires_at": "2099-01-01T00:00:00Z",
    "secret": {"access_token": "at", "refresh_token": "rt-canary"},
}


class User(NamedTuple):
    """One of the page's users, and what the server has refused it."""

    client: Client
    refusals: list[str]

    async def ask(self, subject: str, body: object = None) -> Any:
        """Return the answer to a command."""
        data = b"" if body is None else json.dumps(body).encode()
        message = await self.client.request(f"refreshd.v1.{subject}", data, timeout=5)
        return json.loads(message.data)

    async def ok(self, subject: str, body: object = None) -> Any:
        """Return the value of a command that must succeed."""
        answer = await self.ask(subject, body)
        assert "ok" in answer, answer
        return answer["ok"]

    async def refused(self, verb: str, subjects: Iterable[str]) -> set[str]:
        """Return those of the subjects that the server refuses, when it has refused the last.

        nats-py tells the subject in lower case; a flush of its would overtake what is unsent.
        """
        last = f'{verb} to "{NOBODYS}"'
        await eventually(lambda: any(last in said for said in self.refusals))
        said = "".join(self.refusals)
        return {subject for subject in subjects if f'{verb} to "{subject.lower()}"' in said}


@contextlib.asynccontextmanager
async def daemon(url: str, tmp_path: Path) -> AsyncGenerator[Daemon]:
    """Run a daemon that is let in as the page's user of that name."""
    password_file = tmp_path / "password"
    password_file.write_text("pw\n")
    password_file.chmod(0o600)
    environment = {
        "REFRESHD_NATS_URL": url,
        "REFRESHD_NATS_USER": "daemon",
        "REFRESHD_NATS_PASSWORD_FILE": str(password_file),
    }
    config = load_config(None, environment=environment)
    async with run_daemon(config, tmp_path / "data") as running:
        yield running


@contextlib.asynccontextmanager
async def user(url: str, name: str) -> AsyncGenerator[User]:
    """Yield one of the page's users, connected."""
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    inbox = "_INBOX_refreshd" if name == "daemon" else f"_INBOX_{name}"
    client = await nats.connect(url, user=name, password="pw", error_cb=note, inbox_prefix=inbox)
    try:
        yield User(client, refusals)
    finally:
        await client.close()


def connect_body(user_id: str) -> dict[str, Any]:
    ids = {"user_id": user_id, "provider_id": user_id, "provider_slug": "schwab"}
    return ids | {"credentials": CREDENTIALS}


async def told(one: User, connection: str, *, events: int) -> list[Any]:
    """Return a connection's events, when the stream that lags behind has so many."""
    found: list[Any] = []

    async def are_told() -> bool:
        found[:] = (await one.ok(f"{connection}.history"))["events"]
        return len(found) >= events

    await eventually(are_told)
    return found
