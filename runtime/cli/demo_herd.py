"""The demo's second half: a herd of callers on expired connections, with refreshd and without.

A fake provider rotates strictly: a refresh token that is presented a second time ends its
grant, as RFC 9700 section 4.14.2 asks of providers. The same herd comes twice:

- each caller asks refreshd for a token;
- each caller does what a worker without refreshd does: it reads the row that all share, sees
  that the access token is over, refreshes, and writes the row.

What is printed is what the provider counted, and whose tokens open the provider's resource.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from rich.console import Console
from rich.table import Table

from domain.result import Failure, Success
from runtime.cli.client import CommandClient
from runtime.ending import DaemonError
from runtime.fake_provider.grants import Issued
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.quirks import Quirks
from runtime.nats.errors import LinkError
from runtime.world import Uuid7Ids

CONNECTIONS = 100
PROVIDER_SLUG = "demo-provider"
QUIRKS = Quirks(delay_before_s=0.02)
"""What a refresh takes there."""
_HTTP_CONNECTIONS = 100
_TIMEOUT_MS = 30_000


class Herd(NamedTuple):
    """What became of one herd."""

    callers: int
    with_token: int
    """Callers that were given an access token."""
    with_live_token: int
    """Callers whose token the provider still takes in the end."""
    provider_calls: int
    reuses: int
    """How often a spent refresh token was presented."""
    grants_alive: int
    elapsed_s: float
    refused: dict[str, int]


def write_config(folder: Path, provider: FakeProvider) -> Path:
    """Write the configuration of a daemon that refreshes at ``provider``."""
    client = provider.client
    secret = folder / "demo-client-secret"
    secret.touch(mode=0o600)
    secret.write_text(client.client_secrets[0])
    config = folder / "demo.toml"
    config.write_text(
        f"[providers.{PROVIDER_SLUG}]\n"
        f'token_endpoint = "{provider.token_endpoint}"\n'
        f'client_id = "{client.client_id}"\n'
        f'client_secret_file = "{secret}"\n'
        f'reuse_policy = "none"\n'
    )
    return config


async def with_refreshd(
    client: CommandClient, provider: FakeProvider, callers: int, advance: Callable[[], None]
) -> Herd:
    """Let each caller ask refreshd."""
    provider.reset()
    provider.quirks.set({"delay_before_s": QUIRKS.delay_before_s})
    grants: dict[str, Issued] = {}
    for connection_id, _ in zip(Uuid7Ids(), range(CONNECTIONS), strict=False):
        grants[str(connection_id)] = grant = provider.create(expires_in=-1.0)
        reply = await client.call("connect", _connect_body(str(connection_id), grant))
        if isinstance(reply, Failure):
            raise DaemonError(f"a connect was refused: {reply.code}: {reply.message}")
    ids = list(grants)
    given: Counter[str] = Counter()
    refused: Counter[str] = Counter()

    async def caller(number: int) -> None:
        try:
            reply = await client.call(f"connection.{ids[number % CONNECTIONS]}.token", {})
        except LinkError as error:
            refused[str(error)] += 1
        else:
            match reply:
                case Success(value):
                    given[value["access_token"]] += 1
                case Failure():
                    refused[reply.code] += 1
        advance()

    started_s = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(callers)))
    return await _counted(provider, grants.values(), given, refused, started_s)


async def each_by_itself(provider: FakeProvider, callers: int, advance: Callable[[], None]) -> Herd:
    """Let each caller refresh by itself, from rows that all share."""
    provider.reset()
    provider.quirks.set({"delay_before_s": QUIRKS.delay_before_s})
    grants = [provider.create(expires_in=-1.0) for _ in range(CONNECTIONS)]
    rows = [{"refresh_token": grant.refresh_token, "access_token": ""} for grant in grants]
    given: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    client_id, secret = provider.client.client_id, provider.client.client_secrets[0]
    limits = httpx2.Limits(max_connections=_HTTP_CONNECTIONS)
    async with httpx2.AsyncClient(limits=limits, timeout=60.0, trust_env=False) as http:

        async def caller(number: int) -> None:
            row = rows[number % CONNECTIONS]
            form = {"grant_type": "refresh_token", "refresh_token": row["refresh_token"]}
            try:
                answer = await http.post(
                    provider.token_endpoint, data=form, auth=(client_id, secret)
                )
            except httpx2.HTTPError as error:
                refused[type(error).__name__] += 1
            else:
                tokens: dict[str, Any] = answer.json()
                if "error" in tokens:
                    refused[tokens["error"]] += 1
                else:
                    row |= tokens
                    given[tokens["access_token"]] += 1
            advance()

        started_s = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
    return await _counted(provider, grants, given, refused, started_s)


async def _counted(
    provider: FakeProvider,
    grants: Any,  # noqa: ANN401 -- any collection of grants
    given: Counter[str],
    refused: Counter[str],
    started_s: float,
) -> Herd:
    """Return what the provider says of a herd that is through."""
    elapsed_s = time.perf_counter() - started_s
    live = 0
    async with httpx2.AsyncClient(trust_env=False) as http:
        for access_token, callers in given.items():
            headers = {"Authorization": f"Bearer {access_token}"}
            answer = await http.get(f"{provider.url}/resource", headers=headers)
            live += callers if answer.is_success else 0
    books = [provider.book.get(grant.grant_id) for grant in grants]
    return Herd(
        callers=given.total() + refused.total(),
        with_token=given.total(),
        with_live_token=live,
        provider_calls=provider.stats.calls,
        reuses=provider.stats.reuses_detected,
        grants_alive=sum(1 for grant in books if grant is not None and grant.revoked is None),
        elapsed_s=elapsed_s,
        refused=dict(refused),
    )


def is_kept(herd: Herd) -> bool:
    """Whether refreshd kept its promise: one request a rotation, and no grant lost."""
    return (
        herd.with_live_token == herd.callers
        and herd.provider_calls == CONNECTIONS
        and herd.reuses == 0
        and herd.grants_alive == CONNECTIONS
    )


def report(kept: Herd, burned: Herd) -> None:
    """Print both herds side by side."""
    console = Console()
    console.print(
        f"\n{kept.callers:,} callers at once on {CONNECTIONS} connections whose access tokens are "
        f"over,\nat a provider that ends a grant when a spent refresh token comes again:\n",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 3, 0, 2))
    table.add_column("")
    table.add_column("with refreshd", justify="right", style="green" if is_kept(kept) else "red")
    table.add_column("each by itself", justify="right", style="red")
    lines = {
        "requests to the provider": [f"{herd.provider_calls:,}" for herd in (kept, burned)],
        "spent tokens presented": [f"{herd.reuses:,}" for herd in (kept, burned)],
        "grants alive afterwards": [
            f"{herd.grants_alive} of {CONNECTIONS}" for herd in (kept, burned)
        ],
        "callers with a working token": [
            f"{herd.with_live_token:,} of {herd.callers:,}" for herd in (kept, burned)
        ],
        "seconds": [f"{herd.elapsed_s:.1f}" for herd in (kept, burned)],
    }
    for line, values in lines.items():
        table.add_row(line, *values)
    console.print(table)


def _connect_body(connection_id: str, grant: Issued) -> dict[str, Any]:
    """Return a connect whose access token is over."""
    return {
        "user_id": connection_id,
        "provider_id": connection_id,
        "provider_slug": PROVIDER_SLUG,
        "connection_id": connection_id,
        "credentials": {
            "credential_type": "oauth2",
            "expires_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
            "secret": {"access_token": grant.access_token, "refresh_token": grant.refresh_token},
        },
    }
