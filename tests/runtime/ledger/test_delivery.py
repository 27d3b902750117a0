"""An outcome that was spilled reaches whoever owns its connection, and only then its file goes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from actors.ports import Outcome, Sealer
from domain.credentials import Secret
from runtime.ledger.delivery import Delivery, receive_outcomes
from runtime.ledger.sealing import Keyring
from runtime.ledger.spill import SpillFolder, encode_outcome
from runtime.ledger.streams import Streams
from runtime.ledger.subjects import outcome_subject, partition_of
from runtime.nats.link import Login, NatsLink, open_link
from runtime.nats.reply_subjects import ReplySubjects
from tests.fakes.commands import connection_number
from tests.fakes.connections import active, refresh_events
from tests.fakes.eventually import eventually

ID = connection_number(1)
ATTEMPT = connection_number(2)
RING = Keyring(primary="a", keys={"a": bytes(32)})
OTHER_RING = Keyring(primary="a", keys={"a": bytes(31) + b"1"})
STREAMS = Streams(partitions=4, connections=0, record_bytes_max=1 << 20, tag="acme")


def _outcome() -> Outcome:
    connection = active(ID, generation=2)
    assert connection.credentials is not None
    payload = RING.seal(Secret(b"rotated"), connection_id=ID, generation=2)
    credentials = msgspec.structs.replace(connection.credentials, payload=payload)
    connection = msgspec.structs.replace(connection, credentials=credentials)
    return Outcome(ATTEMPT, 1, connection, tuple(refresh_events(ID, 1)[1:]))


class _Owner:
    """Notes what it takes in, and tells that it is stored as a test says."""

    def __init__(self, *, stores_from: int) -> None:
        self.taken: list[Outcome] = []
        self.stores_from = stores_from

    def take_in(self, outcome: Outcome, stored: Callable[[], None]) -> None:
        self.taken.append(outcome)
        if len(self.taken) >= self.stores_from:
            stored()


@contextlib.asynccontextmanager
async def _owning(
    login: Login, *, stores_from: int = 1, ring: Sealer = RING
) -> AsyncGenerator[_Owner]:
    async with open_link(login, name="owner") as link:
        owner = _Owner(stores_from=stores_from)
        await receive_outcomes(link, STREAMS, ring, owner.take_in)
        yield owner


@pytest.fixture
async def delivery(tmp_path: Path, link: NatsLink) -> AsyncGenerator[Delivery]:
    """A replaced daemon's delivery, running."""
    delivery = Delivery(SpillFolder(tmp_path / "outcomes"), link, STREAMS)
    running = asyncio.create_task(delivery.run())
    yield delivery
    running.cancel()


def _files(folder: Path) -> list[str]:
    return sorted(f.name for f in (folder / "outcomes").iterdir() if f.name != "ballast")


async def test_it_is_sent_until_it_is_stored_and_then_its_file_goes(
    tmp_path: Path, nats_login: Login, delivery: Delivery
):
    outcome = _outcome()
    assert await delivery.keep(outcome)
    async with _owning(nats_login, stores_from=2) as owner:
        await eventually(lambda: len(owner.taken) == 1)
        assert _files(tmp_path) == [f"{ID}.{ATTEMPT}"]

        async with asyncio.timeout(5):
            await delivery.done()

        assert owner.taken == [outcome, outcome]
    assert _files(tmp_path) == []


async def test_what_is_kept_while_it_runs_is_sent_without_delay(
    nats_login: Login, delivery: Delivery
):
    async with _owning(nats_login) as owner:
        await delivery.keep(_outcome())
        async with asyncio.timeout(5):
            await delivery.done()

        assert len(owner.taken) == 1


async def test_an_owner_with_another_keyring_leaves_it_where_it_is(
    tmp_path: Path, nats_login: Login, delivery: Delivery
):
    with capture_logs() as logs:
        async with _owning(nats_login, ring=OTHER_RING) as owner:
            await delivery.keep(_outcome())
            await eventually(lambda: any(one["event"] == "outcome_not_taken_in" for one in logs))

            assert owner.taken == []
    assert _files(tmp_path) == [f"{ID}.{ATTEMPT}"]


async def test_what_is_no_outcome_is_told_and_does_no_harm(nats_login: Login, link: NatsLink):
    subject = outcome_subject(partition_of(ID, 4), ID, STREAMS.tag)
    data = encode_outcome(_outcome())
    later = data.replace(b"\xa1v\x01", b"\xa1v\x09", 1)
    assert later != data
    with capture_logs() as logs:
        async with _owning(nats_login) as owner:
            for payload in (b"", b"\xff", data[:-1], later, data):
                link.publish_now(subject, payload)
            await eventually(lambda: len(owner.taken) == 1)

    refused = [one for one in logs if one["event"] == "outcome_not_taken_in"]
    assert [one["cause"] for one in refused] == ["DamagedError"] * 3 + ["schema 9"]


async def test_no_request_can_aim_an_answer_at_an_owner(link: NatsLink):
    link.replies = ReplySubjects(["refreshd_"])
    await receive_outcomes(link, STREAMS, RING, _Owner(stores_from=1).take_in)

    assert link.replies.allow(b"refreshd_else.x")
    assert not link.replies.allow(outcome_subject(0, ID, STREAMS.tag).encode())


async def test_an_outcome_that_the_ledger_took_after_all_is_not_sent(
    tmp_path: Path, nats_login: Login, link: NatsLink
):
    delivery = Delivery(SpillFolder(tmp_path / "outcomes"), link, STREAMS)
    await delivery.keep(_outcome())
    await delivery.forget(_outcome())

    async with asyncio.timeout(5):
        await delivery.done()

    assert _files(tmp_path) == []
