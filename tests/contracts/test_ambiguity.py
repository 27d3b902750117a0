"""What the store on JetStream makes of each answer, and of none.

Row by row the table in ``runtime/ledger/connection_store.py``: a write is never doubled, never
reported lost when it may be stored, and never sent again with other bytes.
"""

from collections.abc import Callable

import msgspec
import pytest

from actors.ports import (
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from domain.record import Record, encode_record
from runtime.ledger.connection_store import JetStreamConnectionStore, StoreLimits
from runtime.ledger.subjects import bucket_stream, partition_of, record_subject
from runtime.nats.jetstream_api import last_message
from tests.fakes.connections import active, ids
from tests.fakes.faulty_link import Fate, FaultyLink

_PARTITIONS = 3
_RECORD_BYTES_MAX = 64 * 1024
_PATIENT = StoreLimits(
    load_timeout_s=10.0, write_timeout_s=10.0, answer_timeout_s=10.0, retry_pause_s=0.005
)
_HASTY = StoreLimits(
    load_timeout_s=0.1, write_timeout_s=0.1, answer_timeout_s=10.0, retry_pause_s=0.005
)
_IN_DOUBT = [Fate.ANSWER_LOST, Fate.REQUEST_LOST, Fate.ANSWERED_ODDLY]
_CERTAINLY_NOT = [Fate.NOT_SENT, Fate.NO_RESPONDERS]


@pytest.fixture
def store(link: FaultyLink) -> JetStreamConnectionStore:
    """The store under test."""
    return JetStreamConnectionStore(link, partitions=_PARTITIONS, limits=_PATIENT)


@pytest.fixture
def hasty_store(link: FaultyLink) -> JetStreamConnectionStore:
    """The same, for what is never answered: it gives up soon."""
    return JetStreamConnectionStore(link, partitions=_PARTITIONS, limits=_HASTY)


async def _second_write(store: JetStreamConnectionStore, link: FaultyLink) -> Write:
    """Return a write on top of a first one that is stored; the link's notes are empty."""
    connection_id = next(ids)
    first = Write(active(connection_id), 0, next(ids).bytes)
    revision = await store.write(first)
    link.requested.clear()
    return Write(active(connection_id, generation=2), revision, next(ids).bytes)


async def _put_raw(link: FaultyLink, write: Write, value: bytes) -> None:
    """Overwrite a record as an operator with the wrong tool would."""
    subject = record_subject(write.connection.id, _PARTITIONS)
    await link.request(subject, value, timeout_s=5.0)


async def _assert_stored(store: JetStreamConnectionStore, write: Write) -> None:
    stored = await store.load(write.connection.id)
    assert stored.connection == write.connection


@pytest.mark.parametrize("fate", _IN_DOUBT)
@pytest.mark.parametrize("times", [1, 3])
async def test_a_lost_answer_is_followed_by_the_same_bytes_and_one_effect(
    store: JetStreamConnectionStore, link: FaultyLink, fate: Fate, times: int
) -> None:
    write = await _second_write(store, link)
    link.write_fates.extend([fate] * times)

    revision = await store.write(write)

    assert len(link.requested) == times + 1
    assert len({(copy.subject, copy.payload) for copy in link.requested}) == 1
    assert [copy.headers for copy in link.requested] == [
        {"Nats-Expected-Last-Subject-Sequence": str(write.expected_revision)}
    ] * (times + 1)
    assert await store.load(write.connection.id) == Stored(write.connection, revision)


async def test_a_write_that_was_applied_unheard_is_known_by_its_op_id(
    store: JetStreamConnectionStore, link: FaultyLink
) -> None:
    write = await _second_write(store, link)
    link.write_fates.append(Fate.ANSWER_LOST)

    revision = await store.write(write)
    third = Write(active(write.connection.id, generation=3), revision, next(ids).bytes)
    await store.write(third)

    await _assert_stored(store, third)


@pytest.mark.parametrize("fate", [*_CERTAINLY_NOT, Fate.REFUSED_IN_FLIGHT])
async def test_a_copy_that_was_certainly_not_applied_is_sent_again(
    store: JetStreamConnectionStore, link: FaultyLink, fate: Fate
) -> None:
    write = await _second_write(store, link)
    link.write_fates.extend([fate] * 2)

    revision = await store.write(write)

    assert len(link.requested) == 3
    assert len({(c.payload, *c.headers.items()) for c in link.requested}) == 1
    assert await store.load(write.connection.id) == Stored(write.connection, revision)


async def test_anothers_write_is_a_conflict(
    store: JetStreamConnectionStore, link: FaultyLink
) -> None:
    write = await _second_write(store, link)
    another = write._replace(op_id=next(ids).bytes)
    await store.write(another)

    with pytest.raises(WriteConflictError):
        await store.write(write)


async def test_anothers_write_that_overtook_a_lost_request_is_a_conflict(
    store: JetStreamConnectionStore, link: FaultyLink
) -> None:
    write = await _second_write(store, link)
    another = Write(active(write.connection.id, generation=7), write.expected_revision, b"other")
    await store.write(another)
    link.write_fates.append(Fate.REQUEST_LOST)

    with pytest.raises(WriteConflictError):
        await store.write(write)

    await _assert_stored(store, another)


@pytest.mark.parametrize("fate", _IN_DOUBT)
async def test_a_write_unanswered_to_the_end_is_of_unknown_outcome(
    store: JetStreamConnectionStore,
    hasty_store: JetStreamConnectionStore,
    link: FaultyLink,
    fate: Fate,
) -> None:
    write = await _second_write(store, link)
    link.lasting_fate = fate
    # The first copy that arrives makes the next one "wrong last sequence": lose that as well.
    link.read_fates.extend([Fate.REQUEST_LOST] * 100)

    with pytest.raises(OutcomeUnknownError):
        await hasty_store.write(write)

    link.lasting_fate = Fate.PASSES
    link.read_fates.clear()
    revision = await store.write(write)
    assert await store.load(write.connection.id) == Stored(write.connection, revision)


@pytest.mark.parametrize("fate", [*_CERTAINLY_NOT, Fate.REFUSED_IN_FLIGHT, Fate.REFUSED])
async def test_a_doubt_stays_a_doubt_whatever_later_copies_meet(
    store: JetStreamConnectionStore,
    hasty_store: JetStreamConnectionStore,
    link: FaultyLink,
    fate: Fate,
) -> None:
    write = await _second_write(store, link)
    link.write_fates.append(Fate.REQUEST_LOST)
    link.lasting_fate = fate

    with pytest.raises(OutcomeUnknownError):
        await hasty_store.write(write)


@pytest.mark.parametrize("fate", [*_CERTAINLY_NOT, Fate.REFUSED_IN_FLIGHT, Fate.REFUSED])
async def test_a_write_that_was_never_taken_is_certainly_not_applied(
    store: JetStreamConnectionStore,
    hasty_store: JetStreamConnectionStore,
    link: FaultyLink,
    fate: Fate,
) -> None:
    write = await _second_write(store, link)
    link.lasting_fate = fate

    with pytest.raises(StoreUnavailableError):
        await hasty_store.write(write)

    await _assert_stored(store, write._replace(connection=active(write.connection.id)))


@pytest.mark.parametrize("fate", [*_IN_DOUBT, *_CERTAINLY_NOT, Fate.REFUSED])
async def test_a_conflict_that_cannot_be_looked_into_is_of_unknown_outcome(
    store: JetStreamConnectionStore, link: FaultyLink, fate: Fate
) -> None:
    write = await _second_write(store, link)
    link.write_fates.append(Fate.ANSWER_LOST)
    link.read_fates.append(fate)

    with pytest.raises(OutcomeUnknownError):
        await store.write(write)

    assert await store.write(write) > write.expected_revision


async def test_a_record_that_is_too_large_for_its_bucket_is_not_applied(
    store: JetStreamConnectionStore, link: FaultyLink
) -> None:
    write = await _second_write(store, link)
    large = active(write.connection.id, generation=2, secret_bytes=_RECORD_BYTES_MAX)

    with pytest.raises(StoreUnavailableError):
        await store.write(write._replace(connection=large))

    assert len(link.requested) == 1
    await _assert_stored(store, write._replace(connection=active(write.connection.id)))


async def test_without_a_bucket_nothing_is_read_or_written(link: FaultyLink) -> None:
    partitions = 1000
    connection_id = next(one for one in ids if partition_of(one, partitions) >= _PARTITIONS)
    limits = StoreLimits(write_timeout_s=1.0)
    store = JetStreamConnectionStore(link, partitions=partitions, limits=limits)

    with pytest.raises(StoreUnavailableError):
        await store.load(connection_id)
    with pytest.raises(StoreUnavailableError):
        await store.write(Write(active(connection_id), 0, next(ids).bytes))


@pytest.mark.parametrize("fate", _CERTAINLY_NOT)
async def test_a_read_that_was_not_sent_is_tried_again(
    store: JetStreamConnectionStore, link: FaultyLink, fate: Fate
) -> None:
    write = await _second_write(store, link)
    link.read_fates.extend([fate] * 2)

    stored = await store.load(write.connection.id)

    assert stored == Stored(active(write.connection.id), write.expected_revision)


@pytest.mark.parametrize("fate", [*_IN_DOUBT, *_CERTAINLY_NOT, Fate.REFUSED])
async def test_a_read_without_an_answer_is_never_taken_for_nothing_stored(
    store: JetStreamConnectionStore,
    hasty_store: JetStreamConnectionStore,
    link: FaultyLink,
    fate: Fate,
) -> None:
    write = await _second_write(store, link)
    link.read_fates.extend([fate] * 100)

    with pytest.raises(StoreUnavailableError):
        await hasty_store.load(write.connection.id)


def _of_a_newer_schema(record: bytes) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(record) | {"v": 99})


def _breaking_an_invariant(record: bytes) -> bytes:
    decoded = msgspec.msgpack.decode(record)
    decoded["connection"]["credentials"] = None
    return msgspec.msgpack.encode(decoded)


def _of_another_connection(_record: bytes) -> bytes:
    return encode_record(Record(op_id=next(ids).bytes, connection=active(next(ids))))


def _not_a_record(_record: bytes) -> bytes:
    return b"not a record"


@pytest.mark.parametrize(
    "spoiled", [_of_a_newer_schema, _breaking_an_invariant, _of_another_connection, _not_a_record]
)
async def test_a_record_that_cannot_be_trusted_is_unavailable_and_left_untouched(
    store: JetStreamConnectionStore, link: FaultyLink, spoiled: Callable[[bytes], bytes]
) -> None:
    write = await _second_write(store, link)
    value = spoiled(encode_record(Record(op_id=write.op_id, connection=write.connection)))
    await _put_raw(link, write, value)

    with pytest.raises(StoreUnavailableError):
        await store.load(write.connection.id)
    with pytest.raises(WriteConflictError):
        await store.write(write._replace(op_id=next(ids).bytes))

    subject = record_subject(write.connection.id, _PARTITIONS)
    stream = bucket_stream(partition_of(write.connection.id, _PARTITIONS))
    message = await last_message(link, stream, subject)
    assert message is not None
    assert message.data == value


async def test_a_key_deleted_by_an_operator_holds_nothing_and_can_be_written_again(
    store: JetStreamConnectionStore, link: FaultyLink
) -> None:
    write = await _second_write(store, link)
    await _put_raw(link, write, b"")

    stored = await store.load(write.connection.id)
    assert stored.connection is None
    assert stored.revision > write.expected_revision
    with pytest.raises(WriteConflictError):
        await store.write(write)

    again = write._replace(expected_revision=stored.revision, op_id=next(ids).bytes)
    await store.write(again)
    await _assert_stored(store, again)
