"""kill -9 in the two worst moments of a refresh: how many grants die, and why?

Each round kills the daemon once, with one refresh under way at a fake provider that spends
each refresh token (a spent one ends the grant):

- ``before``: the intent is stored and the request is sent, but not processed;
- ``after``: the token is rotated, and the answer has not reached the daemon.

Then another daemon starts on the same data, and the connection's token is asked for until
there is an answer that stays. The provider knows which grants died, and of what.

    python -m bench.kill_nine [ROUNDS] [none|grace]
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import nats
from nats.aio.client import Client

from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks, Rotation
from runtime.fake_provider.server import running_fake_provider
from runtime.nats.embedded import CONTEXT_FILE, read_context

ROOT = Path(__file__).parent.parent
GRACE_S = 60.0
_PATIENCE_S = 30.0


class Daemons:
    """One daemon after another on the same folder."""

    def __init__(self, folder: Path, config: Path) -> None:
        """Start none yet."""
        self._data_dir = folder / "data"
        self._arguments = ("--data-dir", str(self._data_dir), "--config", str(config))
        self._process: asyncio.subprocess.Process | None = None
        self._log = (folder / "log").open("ab")

    async def start(self) -> Client:
        """Start one, and return a client's connection to it."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runtime", "serve", *self._arguments),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._log.write(line)
            if line.startswith(b"ready "):
                break
        else:
            raise SystemExit(f"the daemon did not start; its log is {self._log.name}")
        self._reading = asyncio.create_task(self._read_on(self._process.stderr))
        context = read_context(self._data_dir / CONTEXT_FILE)
        assert context is not None
        return await nats.connect(
            context.url,
            user=context.user,
            password=context.password,
            error_cb=_swallowed,
            allow_reconnect=False,
        )

    async def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read_on(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self._log.write(line)


async def _swallowed(_error: Exception) -> None:
    """Say nothing of a server that was killed on purpose."""


async def connect(client: Client, provider: FakeProvider) -> tuple[str, Issued]:
    """Connect a new grant whose access token is over."""
    grant = provider.create(expires_in=-1.0)
    connection_id = str(uuid4())
    body = {
        "user_id": connection_id,
        "provider_id": connection_id,
        "provider_slug": "fake",
        "connection_id": connection_id,
        "credentials": {
            "credential_type": "oauth2",
            "expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
            "secret": {"access_token": grant.access_token, "refresh_token": grant.refresh_token},
        },
    }
    await _ask(client, "connect", body)
    return connection_id, grant


async def settled(client: Client, connection_id: str) -> str:
    """Ask for a token until there is one, or the user is needed; return which."""
    until_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until_s:
        answer = await _ask(client, f"connection.{connection_id}.token", {})
        code = "ok" if "ok" in answer else answer["error"]["code"]
        if code in ("ok", "REAUTH_REQUIRED"):
            return code
        await asyncio.sleep(answer["error"].get("retry_after_s", 0.5))
    return "unsettled"


async def one_round(
    daemons: Daemons, client: Client, provider: FakeProvider, moment: str
) -> tuple[str, str]:
    """Kill once; return the connection and its grant."""
    connection_id, grant = await connect(client, provider)
    provider.quirks.set({"hang": moment})
    asked = asyncio.create_task(_ask(client, f"connection.{connection_id}.token", {}))
    await _hanging(provider, 1)
    await daemons.kill()
    asked.cancel()
    await client.close()
    # A request that hangs ends with its connection, and one that was not processed never is.
    await _hanging(provider, 0)
    provider.quirks.set({"hang": "no"})
    return connection_id, grant.grant_id


async def _hanging(provider: FakeProvider, requests: int) -> None:
    """Return when so many requests hang at the provider."""
    while provider.stats.hanging != requests:  # noqa: ASYNC110 -- a counter tells nobody
        await asyncio.sleep(0.001)


async def _ask(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    message = await client.request(f"refreshd.v1.{subject}", msgspec.json.encode(body), timeout=10)
    return msgspec.json.decode(message.data)


async def main(rounds: int, policy: str) -> None:
    """Run both moments, and print."""
    rotation = Rotation.GRACE if policy == "grace" else Rotation.STRICT
    quirks = Quirks(rotation=rotation, grace_s=GRACE_S)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_fake_provider(quirks=quirks) as provider:
            config = folder / "refreshd.toml"
            (folder / "secret").write_text(provider.client.client_secrets[0])
            reuse = f"grace:{GRACE_S:g}" if policy == "grace" else "none"
            config.write_text(
                f"[providers.fake]\n"
                f'token_endpoint = "{provider.token_endpoint}"\n'
                f'client_id = "{provider.client.client_id}"\n'
                f'client_secret_file = "{folder / "secret"}"\n'
                f'reuse_policy = "{reuse}"\n'
                f"timeout_s = 1\nconnect_timeout_s = 0.5\n"
            )
            daemons = Daemons(folder, config)
            for moment in ("before", "after"):
                await _moment(daemons, provider, moment, rounds, policy)


async def _moment(
    daemons: Daemons, provider: FakeProvider, moment: str, rounds: int, policy: str
) -> None:
    answers, causes = Counter[str](), Counter[str]()
    client = await daemons.start()
    for _ in range(rounds):
        connection_id, grant_id = await one_round(daemons, client, provider, moment)
        client = await daemons.start()
        answers[await settled(client, connection_id)] += 1
        grant = provider.book.get(grant_id)
        assert grant is not None
        revoked = grant.revoked
        causes["alive" if revoked is None else str(revoked)] += 1
    await client.close()
    await daemons.kill()
    print(f"{policy:<6}{moment:<8}{rounds} kills: answers {dict(answers)}, grants {dict(causes)}")


if __name__ == "__main__":
    asyncio.run(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 100,
            sys.argv[2] if len(sys.argv) > 2 else "none",
        )
    )
