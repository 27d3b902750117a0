"""``refreshd demo``: the main job, shown on a daemon of its own and checked from what it left.

Many callers refresh a thousand connections at once, a fifth of the calls on a single one. The
verdict is then read from the store and the event stream, not from what the callers believe:
their only evidence is which refreshes were acknowledged to them.
"""

import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from domain.connection import ProviderConnection
from domain.credentials import Sealed
from domain.record import decode_record
from domain.result import Failure, Success
from runtime.cli import demo_herd
from runtime.cli.client import CommandClient
from runtime.data_folder import KEYRING_FILE
from runtime.ending import DaemonError
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from runtime.ledger.sealing import Keyring, UnsealError, open_keyring
from runtime.ledger.streams import PARTITIONS_DEFAULT
from runtime.ledger.subjects import (
    DEFAULT_PREFIX,
    MARKER_KEY,
    NO_TAG,
    RECORDS_FILTER,
    bucket_stream,
    record_key_subject,
)
from runtime.nats.embedded import CONTEXT_FILE, read_context
from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink, open_link
from runtime.nats.stream_reader import read_stream
from runtime.world import Uuid7Ids

_HOT_SHARE = 0.2
_START_TIMEOUT_S = 30.0
_CATCH_UP_TIMEOUT_S = 10.0
_PROVIDER = "demo-bank"


class Check(NamedTuple):
    """One promise, and what was found."""

    promise: str
    kept: bool
    found: str


class Run:
    """What the callers did, and what was acknowledged to them."""

    def __init__(self) -> None:
        """Start with nothing done."""
        self.acknowledged: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.tokens: dict[str, set[str]] = {}
        """For each connection, the access tokens that were acknowledged as stored."""
        self.latencies_s: list[float] = []
        self.elapsed_s = 0.0


async def run_demo(*, connections: int, refreshes: int, callers: int, herd: int) -> bool:
    """Run the demo, print its verdict, and return whether every promise was kept."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="refreshd-demo-") as folder:
        data_dir = Path(folder)
        console.print(f"A daemon with an embedded NATS server starts in {folder} ...")
        async with (
            running_fake_provider(quirks=demo_herd.QUIRKS) as provider,
            _daemon(data_dir, demo_herd.write_config(data_dir, provider)) as ready_line,
        ):
            console.print(f"  {ready_line}", markup=False, highlight=False, soft_wrap=True)
            context = read_context(data_dir / CONTEXT_FILE)
            assert context is not None
            async with open_link(context.login(), name="refreshd demo") as link:
                run = Run()
                client = CommandClient(link, prefix=DEFAULT_PREFIX)
                with _progress(console, connections=connections, refreshes=refreshes) as advance:
                    await _work(client, run, connections, refreshes, callers, advance=advance)
                keyring = open_keyring(data_dir / KEYRING_FILE, create=False)
                checks = await verdict(link, client, keyring, run, connections)
                _report(checks, run, callers, connections)
                kept, burned = await _herds(console, client, provider, herd)
        demo_herd.report(kept, burned)
    is_kept = all(check.kept for check in checks) and demo_herd.is_kept(kept)
    _conclude(is_kept=is_kept)
    return is_kept


async def _herds(
    console: Console, client: CommandClient, provider: FakeProvider, callers: int
) -> tuple[demo_herd.Herd, demo_herd.Herd]:
    """Let the herd come with refreshd and without."""
    names = ("with refreshd", "without")
    with _progress(console, **dict.fromkeys(names, callers)) as advance:
        kept = await demo_herd.with_refreshd(
            client, provider, callers, lambda: advance("with refreshd")
        )
        burned = await demo_herd.each_by_itself(provider, callers, lambda: advance("without"))
    return kept, burned


@contextlib.asynccontextmanager
async def _daemon(data_dir: Path, config: Path) -> AsyncGenerator[str]:
    """Yield the ready line of a daemon that runs as a process of its own.

    Raises:
        DaemonError: It did not become ready.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "runtime", "serve", "--data-dir", str(data_dir), "--config", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=_environment(),
    )
    assert process.stderr is not None
    said: list[str] = []
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not (said and said[-1].startswith("ready ")):
                line = await process.stderr.readline()
                if not line:
                    raise DaemonError("the demo's daemon did not start: " + " / ".join(said))
                said.append(line.decode().strip())
        reading = asyncio.create_task(_read_away(process.stderr))
        yield said[-1]
        process.terminate()
        await process.wait()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """Return an environment without settings that are meant for the user's own daemon."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")}


async def _read_away(stream: asyncio.StreamReader) -> None:
    """Keep the daemon's log from filling its pipe."""
    while await stream.read(65536):
        pass


async def _work(
    client: CommandClient,
    run: Run,
    connections: int,
    refreshes: int,
    callers: int,
    *,
    advance: Callable[[str], None],
) -> None:
    """Make the connections, then refresh them from many callers at once."""
    ids = [str(i) for i, _ in zip(Uuid7Ids(), range(connections), strict=False)]
    user_id = ids[0]

    async def connect(connection_id: str) -> None:
        body = {
            "user_id": user_id,
            "provider_id": user_id,
            "provider_slug": _PROVIDER,
            "connection_id": connection_id,
            "credentials": _credentials(f"{connection_id}-0"),
        }
        reply = await client.call("connect", body)
        if isinstance(reply, Failure):
            raise DaemonError(f"a connect was refused: {reply.code}: {reply.message}")
        run.tokens[connection_id] = {f"{connection_id}-0"}
        advance("connections")

    async def refresh(number: int) -> None:
        hot = number % round(1 / _HOT_SHARE) == 0
        connection_id = ids[0] if hot else random.choice(ids)  # noqa: S311 -- no secret
        token = f"{connection_id}-{number + 1}"
        body = {"credentials": _credentials(token)}
        started_s = time.perf_counter()
        try:
            reply = await client.call(f"connection.{connection_id}.refresh", body)
        except LinkError as error:
            run.refused[str(error)] += 1
        else:
            match reply:
                case Success():
                    run.acknowledged[connection_id] += 1
                    run.tokens[connection_id].add(token)
                case Failure():
                    run.refused[reply.code] += 1
        run.latencies_s.append(time.perf_counter() - started_s)
        advance("refreshes")

    await _by_callers(callers, (connect(connection_id) for connection_id in ids))
    started_s = time.perf_counter()
    await _by_callers(callers, (refresh(number) for number in range(refreshes)))
    run.elapsed_s = time.perf_counter() - started_s


async def _by_callers(callers: int, calls: Iterator[Any]) -> None:
    """Let so many callers take the calls, each one call at a time."""

    async def caller() -> None:
        for call in calls:
            await call

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())


def _credentials(access_token: str) -> dict[str, Any]:
    """Return credentials as a provider's answer would become them."""
    return {
        "credential_type": "oauth2",
        "expires_at": "2099-01-01T00:00:00Z",
        "secret": {
            "access_token": access_token,
            "refresh_token": f"refresh-{access_token}",
            "token_type": "Bearer",
            "scope": "accounts trading offline_access",
        },
    }


async def verdict(
    link: NatsLink, client: CommandClient, keyring: Keyring, run: Run, connections: int
) -> list[Check]:
    """Return what the store and the event stream say about the run."""
    await _views_caught_up(client)
    stored: dict[str, ProviderConnection] = {}
    for partition in range(PARTITIONS_DEFAULT):
        keys = record_key_subject(partition, RECORDS_FILTER, NO_TAG)
        stream = bucket_stream(partition, NO_TAG)
        async for message in read_stream(link, stream, filter_subject=keys):
            if message.subject.endswith(f".{MARKER_KEY}"):
                continue
            connection = decode_record(message.data).connection
            stored[str(connection.id)] = connection
    stories: dict[str, list[str]] = {}
    event_ids: Counter[str] = Counter()
    async for _, event in client.events():
        stories.setdefault(event["subject"], []).append(event["type"])
        event_ids[event["id"]] += 1
    acknowledged = run.acknowledged
    lost = sum(
        max(0, 1 + n - (stored[i].generation if i in stored else 0))
        for i, n in acknowledged.items()
    )
    inexact = [i for i, c in stored.items() if c.generation != 1 + acknowledged[i]]
    broken = [i for i in stored if stories.get(i) != _expected_story(acknowledged[i])]
    repeated = sum(count - 1 for count in event_ids.values())
    unopened = [i for i, c in stored.items() if _token_in(c, keyring) not in run.tokens[i]]
    total = acknowledged.total()
    hot = max(acknowledged.values(), default=0)
    return [
        Check(
            "Every connection is in the store",
            len(stored) == connections,
            f"{len(stored):,} of {connections:,}",
        ),
        Check(
            "Every acknowledged refresh is stored",
            lost == 0 and not run.refused,
            f"{total:,} acknowledged, {lost} lost, {run.refused.total()} refused",
        ),
        Check(
            "Generations are exact: one more per refresh, none skipped, none shared",
            not inexact,
            f"the hot connection is at {1 + hot:,} after {hot:,} refreshes; {len(inexact)} wrong",
        ),
        Check(
            "Each refresh has its two events, Attempted then Succeeded, in order, once",
            not broken and not repeated,
            f"{event_ids.total():,} events; {len(broken)} broken stories, {repeated} repeated",
        ),
        Check(
            "Every stored secret opens, and is one that a caller was told is stored",
            not unopened,
            f"{len(stored) - len(unopened):,} opened, {len(unopened)} not",
        ),
    ]


async def _views_caught_up(client: CommandClient) -> None:
    """Return when the bucket and the event stream hold all that was acknowledged.

    Raises:
        DaemonError: They do not, after ten seconds.
    """
    until_s = time.monotonic() + _CATCH_UP_TIMEOUT_S
    while time.monotonic() < until_s:
        reply = await client.call("status", None)
        if isinstance(reply, Success):
            ledger: Any = reply.value["ledger"]
            if not any(p["records_lag"] or p["events_lag"] for p in ledger["partitions"]):
                return
        await asyncio.sleep(0.05)
    raise DaemonError("the views do not catch up with the ledger")


def _expected_story(refreshes: int) -> list[str]:
    """Return the event types of a connection that was connected and refreshed so often."""
    return [
        "ProviderConnectionAttempted",
        "ProviderConnectionSucceeded",
        *(("ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded") * refreshes),
    ]


def _token_in(connection: ProviderConnection, keyring: Keyring) -> str | None:
    """Return the access token that is stored, or None when it does not open."""
    credentials = connection.credentials
    if credentials is None or not isinstance(credentials.payload, Sealed):
        return None
    try:
        secret = keyring.unseal(
            credentials.payload,
            connection_id=UUID(str(connection.id)),
            generation=connection.generation,
        )
    except UnsealError:
        return None
    return msgspec.json.decode(secret.reveal())["access_token"]


@contextlib.contextmanager
def _progress(console: Console, **totals: int) -> Generator[Callable[[str], None]]:
    """Yield what advances the bar of its name by one."""
    with Progress(
        TextColumn("  {task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        tasks = {name: progress.add_task(name, total=total) for name, total in totals.items()}
        yield lambda name: progress.advance(tasks[name])


def _report(checks: list[Check], run: Run, callers: int, connections: int) -> None:
    """Print the verdict."""
    console = Console()
    total = len(run.latencies_s)
    console.print(
        f"\n{total:,} refreshes of {connections:,} connections by {callers:,} callers at once, "
        f"every fifth on the same connection.\nWhat the store and the event stream say:\n",
        highlight=False,
        soft_wrap=True,
    )
    for check in checks:
        mark = "[green]kept  [/green]" if check.kept else "[red]BROKEN[/red]"
        console.print(f"  {mark}  {check.promise}", highlight=False, soft_wrap=True)
        console.print(f"          {check.found}", style="dim", highlight=False, soft_wrap=True)
    quantiles = statistics.quantiles(run.latencies_s, n=100)
    console.print(
        f"\n  {total / run.elapsed_s:,.0f} refreshes/s, each durable (fsync) before its answer; "
        f"latency median {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms",
        highlight=False,
        soft_wrap=True,
    )


def _conclude(*, is_kept: bool) -> None:
    """Print the last line."""
    console = Console()
    if is_kept:
        console.print(
            "\n[bold green]No refresh was lost, doubled or reordered, and no grant "
            "burned.[/bold green]"
        )
    else:
        console.print("\n[bold red]A promise was broken: please report this.[/bold red]")
