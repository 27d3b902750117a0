"""A herd on expired tokens: twenty callers on each of many connections, at a slow provider."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from bench.measured import Measured
from bench.rows import Row, reads
from bench.system import System, new_ids, opened_system
from bench.views import WrongOutcomeError
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks
from runtime.fake_provider.server import running_fake_provider

CALLERS_EACH = 20
PROVIDER_DELAY_S = 0.1
_SLUG = "bench-provider"


class HerdRow(Row):
    """Each connection is refreshed once, whoever asks, and everybody gets the new token."""

    unit = "tokens"

    def __init__(self, name: str, system: System, provider: FakeProvider, *, requests: int) -> None:
        """Use a daemon that refreshes at ``provider``."""
        super().__init__(name, requests=requests)
        self._system = system
        self._provider = provider

    async def measure(self, requests: int) -> Measured:
        """See ``Row``. The grants are new each time."""
        system, provider, ids = self._system, self._provider, new_ids(requests // CALLERS_EACH)
        await system.connect(ids, body=self._connect_body)
        system.ids = ids
        before = provider.stats.successes
        measured = await system.measure(
            reads(system, "token", connections=len(ids), callers=requests, requests=requests)
        )
        for one in ids:
            system.refreshed(one, 1)
        asked, doubles = provider.stats.successes - before, provider.stats.double_presentations
        if asked != len(ids) or doubles:
            raise WrongOutcomeError(
                f"{len(ids)} grants were refreshed {asked} times, {doubles} tokens came twice"
            )
        return measured

    async def check(self) -> None:
        """See ``Row``."""
        await self._system.check()

    def _connect_body(self, connection_id: str) -> bytes:
        grant = self._provider.create(expires_in=-1.0)
        return msgspec.json.encode(
            {
                "user_id": connection_id,
                "provider_id": connection_id,
                "provider_slug": _SLUG,
                "connection_id": connection_id,
                "credentials": {
                    "credential_type": "oauth2",
                    "expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
                    "secret": {
                        "access_token": grant.access_token,
                        "refresh_token": grant.refresh_token,
                    },
                },
            }
        )


@contextlib.asynccontextmanager
async def opened_herd(folder: Path, name: str, *, requests: int) -> AsyncGenerator[HerdRow]:
    """Yield the row, on a daemon of its own and a strict provider in this process.

    Args:
        folder: An empty one.
        name: The row's.
        requests: How many callers come in a round.
    """
    quirks = Quirks(delay_before_s=PROVIDER_DELAY_S)
    async with running_fake_provider(quirks=quirks) as provider:
        secret, config = folder / "secret", folder / "refreshd.toml"
        secret.touch(mode=0o600)
        secret.write_text(provider.client.client_secrets[0])
        config.write_text(
            f"[providers.{_SLUG}]\n"
            f'token_endpoint = "{provider.token_endpoint}"\n'
            f'client_id = "{provider.client.client_id}"\n'
            f'client_secret_file = "{secret}"\n'
            f'reuse_policy = "none"\n'
        )
        async with opened_system(folder, settings={"REFRESHD_CONFIG": str(config)}) as system:
            yield HerdRow(name, system, provider, requests=requests)
