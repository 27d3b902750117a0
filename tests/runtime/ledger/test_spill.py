"""A spilled outcome is stored by the next start if, and only if, its attempt is still open."""

import shutil
import stat
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import anyio
import msgspec
import pytest

from actors.ports import Outcome, RecordUnreadableError, Stored, StoreUnavailableError
from domain.connection import ProviderConnection, RefreshIntent
from domain.credentials import Sealed
from domain.remembered import Answers, Remembered
from runtime.ledger.partition_ledger import RecordTooLargeError
from runtime.ledger.spill import SpillError, SpillFolder
from tests.fakes.commands import connection_number
from tests.fakes.connections import active, refresh_events
from tests.fakes.world import EPOCH, MemoryLedger

ID = connection_number(1)
ATTEMPT, OTHER_ATTEMPT = UUID(int=7 << 76 | 2 << 62 | 1), UUID(int=7 << 76 | 2 << 62 | 2)


def _open(attempt_id: UUID = ATTEMPT, *, generation: int = 1) -> ProviderConnection:
    """Return a connection whose attempt has no outcome yet."""
    intent = RefreshIntent(
        attempt_id=attempt_id,
        generation=generation,
        owner="d-1",
        started_at=EPOCH,
        deadline_at=EPOCH + timedelta(seconds=35),
    )
    return msgspec.structs.replace(active(ID, generation=generation), intent=intent)


def _outcome(*, generation: int = 2) -> Outcome:
    events = tuple(refresh_events(ID, 1)[1:])
    return Outcome(ATTEMPT, 1, active(ID, generation=generation), events)


def _holding(connection: ProviderConnection | None, answers: Answers = ()) -> MemoryLedger:
    ledger = MemoryLedger()
    if connection is not None:
        ledger.records[connection.id] = Stored(connection, answers)
    return ledger


async def _taken_in(
    folder: Path, ledger: MemoryLedger, outcome: Outcome | None = None
) -> list[str]:
    """Spill an outcome, let another daemon take it in, and return the files that are left."""
    assert await SpillFolder(folder / "outcomes").keep(outcome or _outcome())
    await SpillFolder(folder / "outcomes").take_in({0: ledger}, lambda _: 0)
    return _files(folder)


def _files(folder: Path) -> list[str]:
    return sorted(f.name for f in (folder / "outcomes").iterdir() if f.name != "ballast")


async def test_a_file_is_for_its_owner_alone_and_named_by_connection_and_attempt(tmp_path: Path):
    await SpillFolder(tmp_path / "outcomes").keep(_outcome())

    (name,) = _files(tmp_path)
    file = tmp_path / "outcomes" / name
    assert file.name == f"{ID}.{ATTEMPT}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_what_was_stored_after_all_is_forgotten(tmp_path: Path):
    spill = SpillFolder(tmp_path / "outcomes")
    await spill.keep(_outcome())

    await spill.forget(_outcome())
    await spill.forget(_outcome())

    assert _files(tmp_path) == []


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    spill = SpillFolder(tmp_path / "outcomes")
    shutil.rmtree(tmp_path / "outcomes")
    (tmp_path / "outcomes").write_text("a file is in the way")

    assert not await spill.keep(_outcome())


async def test_the_outcome_of_an_open_attempt_is_stored_with_its_events(tmp_path: Path):
    answers = (Remembered(message_id=b"0123456789abcdef"),)
    ledger, outcome = _holding(_open(), answers), _outcome()

    assert await _taken_in(tmp_path, ledger, outcome) == []

    (change,) = ledger.changes_of(ID)
    assert change[:4] == (ID, outcome.connection, answers, outcome.events)
    assert change.next_due == outcome.connection.updated_at


@pytest.mark.parametrize(
    "stored",
    [_open(generation=3), active(ID, generation=5)],
    ids=["another generation", "no attempt"],
)
async def test_credentials_that_the_ledger_has_gone_on_without_are_set_aside(
    tmp_path: Path, stored: ProviderConnection
):
    ledger = _holding(stored)

    left = await _taken_in(tmp_path, ledger)
    await SpillFolder(tmp_path / "outcomes").take_in({0: ledger}, lambda _: 0)

    assert left == [f"{ID}.{ATTEMPT}.aside"]
    assert ledger.groups == []


@pytest.mark.parametrize(
    "stored", [active(ID, generation=1), _open(OTHER_ATTEMPT)], ids=["ended", "another began"]
)
async def test_what_was_taken_for_unknown_meanwhile_is_left_to_be_delivered(
    tmp_path: Path, stored: ProviderConnection
):
    spill, ledger = SpillFolder(tmp_path / "outcomes"), _holding(stored)
    await spill.keep(_outcome())

    (left,) = await spill.take_in({0: ledger}, lambda _: 0)

    assert left.attempt_id == ATTEMPT
    assert _files(tmp_path) == [f"{ID}.{ATTEMPT}"]
    assert ledger.groups == []


def _failure_with_a_new_refresh_token() -> Outcome:
    outcome, held = _outcome(generation=1), active(ID).credentials
    assert held is not None
    payload = Sealed(key_id="k", nonce=b"n", ciphertext=b"with another refresh token")
    renewed = msgspec.structs.replace(held, payload=payload)
    connection = msgspec.structs.replace(outcome.connection, credentials=renewed)
    return outcome._replace(connection=connection)


async def test_a_new_refresh_token_of_a_failed_refresh_is_not_thrown_away(tmp_path: Path):
    ledger = _holding(active(ID, generation=1))

    left = await _taken_in(tmp_path, ledger, _failure_with_a_new_refresh_token())

    assert left == [f"{ID}.{ATTEMPT}.aside"]
    assert ledger.groups == []


@pytest.mark.parametrize(
    ("stored", "outcome"),
    [
        (active(ID, generation=5), _failure_with_a_new_refresh_token()),
        (active(ID, generation=2), _outcome()),
        (active(ID, generation=5), _outcome(generation=1)),
        (None, _outcome()),
    ],
    ids=[
        "it gave no new ones",
        "stored already",
        "it gave no credentials",
        "the connection is not stored",
    ],
)
async def test_an_outcome_without_which_nothing_is_lost_is_removed(
    tmp_path: Path, stored: ProviderConnection | None, outcome: Outcome
):
    ledger = _holding(stored)

    assert await _taken_in(tmp_path, ledger, outcome) == []
    assert ledger.groups == []


def _unreadable(*errors: Exception, lasts: bool = False) -> MemoryLedger:
    """Return a ledger with an open intent, whose reads fail in turn, the last for ever if it lasts."""
    ledger, left = _holding(_open()), list(errors)

    def fail(operation: str, _: UUID) -> None:
        if operation == "read" and left:
            raise left[0] if lasts and len(left) == 1 else left.pop(0)

    ledger.before = fail
    return ledger


async def test_a_ledger_that_cannot_be_read_at_once_is_asked_again(tmp_path: Path):
    ledger = _unreadable(StoreUnavailableError("no answer"), StoreUnavailableError("not fresh"))

    assert await _taken_in(tmp_path, ledger) == []
    assert ledger.records[ID].connection == _outcome().connection


async def test_there_is_no_start_while_it_cannot_be_told_whether_the_attempt_is_open(
    tmp_path: Path,
):
    spill = SpillFolder(tmp_path / "outcomes")
    await spill.keep(_outcome())
    file = tmp_path / "outcomes" / f"{ID}.{ATTEMPT}"
    ledger = _unreadable(StoreUnavailableError("no JetStream"), lasts=True)

    with pytest.raises(SpillError, match=f"{file}: .*: no JetStream; start again") as refused:
        await spill.take_in({0: ledger}, lambda _: 0, within_s=0.01)
    ledger.before = None
    await spill.take_in({0: ledger}, lambda _: 0)

    assert "move the file away" in str(refused.value)
    assert _files(tmp_path) == []
    assert ledger.records[ID].connection == _outcome().connection


async def test_there_is_no_start_while_the_ledger_does_not_take_an_outcome(tmp_path: Path):
    spill, ledger = SpillFolder(tmp_path / "outcomes"), _holding(_open())
    await spill.keep(_outcome())

    ledger.before = lambda operation, _: anyio.sleep_forever() if operation == "append" else None

    with pytest.raises(SpillError, match="its ledger takes nothing"):
        await spill.take_in({0: ledger}, lambda _: 0, within_s=0.01)

    assert _files(tmp_path) == [f"{ID}.{ATTEMPT}"]


async def test_there_is_no_start_while_a_file_cannot_be_read(tmp_path: Path):
    spill = SpillFolder(tmp_path / "outcomes")
    (tmp_path / "outcomes" / f"{ID}.{ATTEMPT}").mkdir()

    with pytest.raises(SpillError, match=f"{ATTEMPT}: Is a directory: .*move it away"):
        await spill.take_in({0: _holding(_open())}, lambda _: 0)


async def test_an_outcome_whose_connection_nobody_can_trust_waits_and_holds_up_no_start(
    tmp_path: Path,
):
    ledger = _unreadable(RecordUnreadableError("the record cannot be read"), lasts=True)

    assert await _taken_in(tmp_path, ledger) == [f"{ID}.{ATTEMPT}"]
    ledger.before = None
    assert await _taken_in(tmp_path, ledger) == []


async def test_a_damaged_file_is_set_aside(tmp_path: Path):
    ledger = _holding(_open())
    (tmp_path / "outcomes").mkdir()
    (tmp_path / "outcomes" / "broken").write_bytes(b"\xc1")
    (tmp_path / "outcomes" / ".draft").write_bytes(b"half an outcome")

    assert await _taken_in(tmp_path, ledger) == ["broken.aside"]
    assert ledger.records[ID].connection == _outcome().connection


@pytest.mark.parametrize("what", ["file", "record"])
async def test_a_later_versions_file_is_left_for_a_later_version(tmp_path: Path, what: str):
    ledger = _holding(_open())
    assert await SpillFolder(tmp_path / "outcomes").keep(_outcome())
    (name,) = _files(tmp_path)
    file = tmp_path / "outcomes" / name
    later = msgspec.msgpack.decode(file.read_bytes())
    # What else is in it is not for this version to understand.
    unknown = {"v": 99, "connection": 7}
    later |= {"record": msgspec.msgpack.encode(unknown)} if what == "record" else unknown
    file.write_bytes(msgspec.msgpack.encode(later))

    await SpillFolder(tmp_path / "outcomes").take_in({0: ledger}, lambda _: 0)

    assert _files(tmp_path) == [name]
    assert ledger.records[ID].connection == _open()


async def test_a_record_that_no_bucket_takes_holds_no_start_up(tmp_path: Path):
    ledger = _holding(_open())

    def fail(operation: str, _: UUID) -> None:
        if operation == "add":
            raise RecordTooLargeError

    ledger.before = fail

    assert await _taken_in(tmp_path, ledger) == [f"{ID}.{ATTEMPT}.aside"]


async def test_a_file_stays_until_its_append_is_acknowledged(tmp_path: Path):
    ledger, there = _holding(_open()), list[bool]()
    file = tmp_path / "outcomes" / f"{ID}.{ATTEMPT}"
    ledger.after_append = lambda: there.append(file.exists())

    await _taken_in(tmp_path, ledger)

    assert there == [True]
    assert not file.exists()
