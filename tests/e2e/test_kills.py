"""Killed at any instant: nothing acknowledged is lost, each event is there once and in order."""

import asyncio
import contextlib
import gc
import random
import signal
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats.errors
import pytest

from tests.fakes.daemon_process import (
    CREDENTIALS,
    Answer,
    DaemonProcess,
    PlainCaller,
    daemon_process,
    external_nats,
    plain_caller,
)
from tests.fakes.eventually import eventually

# nats-py leaves a socket to the collector where it is closed while it connects again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CONNECTIONS = 40
CALLERS = 32
ROUNDS = 3


@pytest.fixture(autouse=True)
def collected() -> Generator[None]:
    """Collect that socket here, where the warning is expected, and not in the next module."""
    yield
    gc.collect()


_UNKNOWN = {"DATABASE_ERROR", "SHUTTING_DOWN", "TIMED_OUT", "OVERLOADED"}


class Books:
    """What callers did and were told, over any number of daemons."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.acknowledged: Counter[str] = Counter()
        self.sent = 0
        self.is_over = False
        """Nobody begins another one: a cancellation alone may be lost in nats-py's wait_for."""

    async def prepare(self, caller: PlainCaller) -> None:
        self.ids = [await caller.connect() for _ in range(CONNECTIONS)]

    async def refresh(self, caller: PlainCaller) -> None:
        """Refresh one connection at random, and note what was acknowledged."""
        connection_id = random.choice(self.ids)
        self.sent += 1
        try:
            answer = await caller.refresh(connection_id, timeout_s=2.0)
        except (nats.errors.Error, TimeoutError):
            await asyncio.sleep(0.01)
        else:
            self.acknowledged[connection_id] += answer.code == "ok"

    async def load(self, caller: PlainCaller, refreshes: int) -> None:
        """Keep callers busy until so many more refreshes are acknowledged, or it is cancelled."""
        wanted = self.acknowledged.total() + refreshes

        async def call_on() -> None:
            while self.acknowledged.total() < wanted and not self.is_over:
                await self.refresh(caller)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(call_on())

    async def check(self, caller: PlainCaller) -> None:
        """Compare with what is stored and told."""
        stories = await caller.stories()
        for connection_id in self.ids:
            generation = (await caller.get(connection_id))["generation"]
            assert generation >= 1 + self.acknowledged[connection_id]
            types = [event["type"] for event in stories[connection_id]]
            succeeded = ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]
            told = [
                pair
                for pair in zip(types[2::2], types[3::2], strict=True)
                if pair == tuple(succeeded)
            ]
            assert len(told) == generation - 1
            assert {pair[0] for pair in zip(types[2::2], types[3::2], strict=True)} <= {
                "ProviderTokenRefreshAttempted"
            }
            assert len({event["id"] for event in stories[connection_id]}) == len(types)


@contextlib.asynccontextmanager
async def busy(books: Books, caller: PlainCaller):
    """Keep callers busy while the body does harm."""
    books.is_over = False
    loading = asyncio.create_task(books.load(caller, 10**9))
    try:
        yield
    finally:
        books.is_over = True
        loading.cancel()
        await asyncio.wait({loading})


async def grown(books: Books, refreshes: int) -> None:
    """Return when so many more are acknowledged."""
    wanted = books.acknowledged.total() + refreshes
    await eventually(lambda: books.acknowledged.total() >= wanted, within_s=20)


async def test_daemon_and_server_killed_together_under_load(tmp_path: Path):
    books = Books()
    for number in range(ROUNDS):
        async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
            if not number:
                await books.prepare(caller)
            async with busy(books, caller):
                await grown(books, 300)
                await daemon.stop(signal.SIGKILL)
    async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
        await books.check(caller)

    assert books.acknowledged.total() >= 300 * ROUNDS


async def test_the_daemon_alone_killed_under_load(tmp_path: Path):
    books = Books()
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        for number in range(ROUNDS):
            async with daemon_process(tmp_path / "data", "--nats", server.url) as daemon:
                if not number:
                    await books.prepare(caller)
                async with busy(books, caller):
                    await grown(books, 300)
                    await daemon.stop(signal.SIGKILL)
        async with daemon_process(tmp_path / "data", "--nats", server.url):
            await books.check(caller)


async def _repeated(caller: PlainCaller, connection_id: str, message_id: str) -> Answer | None:
    """Send a refresh until its answer is definite, as a plain client does; None: never."""
    for _ in range(100):
        with contextlib.suppress(nats.errors.Error, asyncio.TimeoutError):
            answer = await caller.refresh(
                connection_id,
                headers={"Nats-Msg-Id": message_id, "Refreshd-Timeout-Ms": "1500"},
                timeout_s=2.0,
            )
            if answer.code not in _UNKNOWN:
                return answer
        await asyncio.sleep(0.05)
    return None


async def test_commands_repeated_through_a_kill_have_one_effect_and_equal_answers(tmp_path: Path):
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        async with daemon_process(tmp_path / "data", "--nats", server.url) as daemon:
            ids = [await caller.connect() for _ in range(8)]
            commands = [(ids[number % 8], uuid4().hex) for number in range(96)]
            asking = [
                asyncio.create_task(_repeated(caller, connection_id, message_id))
                for connection_id, message_id in commands
                for _ in range(3)
            ]
            await asyncio.wait(asking[:60], return_when=asyncio.FIRST_COMPLETED)
            await daemon.stop(signal.SIGKILL)
        async with daemon_process(tmp_path / "data", "--nats", server.url):
            answers = [await one for one in asking]
            stories = await caller.stories()
            generations = {one: (await caller.get(one))["generation"] for one in ids}

    assert all(answer is not None and answer.code == "ok" for answer in answers)
    asked = Counter(connection_id for connection_id, _ in commands)
    for connection_id in ids:
        assert generations[connection_id] == 1 + asked[connection_id]
        assert len(stories[connection_id]) == 2 * generations[connection_id]


async def test_a_connect_without_an_id_is_one_connection_however_often_it_is_sent(tmp_path: Path):
    user_id = str(uuid4())
    body = {
        "user_id": user_id,
        "provider_id": user_id,
        "provider_slug": "schwab",
        "credentials": CREDENTIALS,
    }
    headers = {"Nats-Msg-Id": "sign-up of somebody"}
    answers: list[Answer] = []
    others: set[str] = set()
    listed: list[dict[str, Any]] = []
    story: list[dict[str, Any]] = []
    for _ in range(2):
        async with daemon_process(tmp_path) as daemon, plain_caller(**daemon.context) as caller:
            answers += await asyncio.gather(
                *(caller.ask("connect", body, headers=headers) for _ in range(3))
            )
            others.add(await caller.connect(connection_id=None))
            connection_id = answers[0].body["ok"]["connection_id"]
            answer = await caller.ask("connections.list", {"user_id": user_id})
            listed = answer.body["ok"]["connections"]
            story = (await caller.stories())[connection_id]
            await daemon.stop(signal.SIGKILL)

    assert all(answer.body == answers[0].body for answer in answers)
    assert [one["id"] for one in listed] == [answers[0].body["ok"]["connection_id"]]
    assert answers[0].body["ok"]["warnings"]
    assert len(story) == 2
    assert len(others) == 2


async def test_partitions_that_a_stranger_wrote_into_are_taken_again_and_nothing_is_lost(
    tmp_path: Path,
):
    async with (
        external_nats(tmp_path) as server,
        plain_caller(server.url) as caller,
        daemon_process(tmp_path / "data", "--nats", server.url) as daemon,
    ):
        ids = [await caller.connect() for _ in range(20)]
        for partition in range(4):
            await caller.client.publish(f"refreshd_ledger.{partition:02d}", b"a stranger's")
        await caller.client.flush()
        codes = await asyncio.gather(*(_code(caller, one) for one in ids))
        refreshed = {one for one, code in zip(ids, codes, strict=True) if code == "ok"}

        for one in ids:
            await eventually(lambda one=one: _is_refreshed(caller, one), within_s=20)
        generations = {one: (await caller.get(one))["generation"] for one in ids}
        assert await daemon.stop() == 0

    # What was not answered in time may have been done all the same.
    assert all(generations[one] >= (3 if one in refreshed else 2) for one in ids)
    assert any("another daemon writes its ledger" in line for line in daemon.said)


async def _is_refreshed(caller: PlainCaller, connection_id: str) -> bool:
    return await _code(caller, connection_id) == "ok"


async def _code(caller: PlainCaller, connection_id: str) -> str:
    try:
        return (await caller.refresh(connection_id, timeout_s=2.0)).code
    except (TimeoutError, nats.errors.Error):
        return "no answer"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
async def test_views_that_were_behind_are_caught_up_by_the_next_start(
    tmp_path: Path, stop: signal.Signals
):
    async with external_nats(tmp_path) as server, plain_caller(server.url) as caller:
        async with daemon_process(tmp_path / "data", "--nats", server.url) as daemon:
            connection_id = await caller.connect()
            await caller.events_caught_up()
            await _update_events(caller, max_msg_size=1)
            for _ in range(5):
                assert (await caller.refresh(connection_id)).code == "ok"
            await eventually(lambda: is_reported(daemon, caller), within_s=10)
            await daemon.stop(stop)
        await _update_events(caller, max_msg_size=-1)
        async with daemon_process(tmp_path / "data", "--nats", server.url):
            story = (await caller.stories())[connection_id]

    refresh = ["ProviderTokenRefreshAttempted", "ProviderTokenRefreshSucceeded"]
    assert [event["type"] for event in story[2:]] == refresh * 5
    assert len({event["id"] for event in story}) == 12


async def _update_events(caller: PlainCaller, **settings: int) -> None:
    """Change the event stream: one that takes no message is as good as a full one."""
    config = (await caller.client.jetstream().stream_info("REFRESHD_EVENTS")).config
    await caller.client.jetstream().update_stream(config.evolve(**settings))


async def is_reported(daemon: DaemonProcess, caller: PlainCaller) -> bool:
    """Whether status and log tell of the view that cannot be written."""
    ledger = (await caller.ask("status")).body["ok"]["ledger"]
    told = any("events" in one["troubles"] for one in ledger["partitions"])
    logged = any("view_cannot_be_written" in line for line in daemon.said)
    return told and logged and ledger["events_lacking"] == 10
