"""Which refreshes have failed is told once, and only when it is stored."""

from typing import cast
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from actors.entry import Entry, Maker
from actors.ports import Ledger, PartitionLostError, Stored
from domain.commands import Refresh
from domain.connection import ConnectionStatus
from domain.decision import store_failed
from domain.events import Event, ProviderTokenRefreshFailed
from domain.exchange import Verdict
from domain.profile import FailureClass, ProviderProfile
from domain.refreshing import failed
from runtime.ledger.told_ledger import ToldLedger
from runtime.world import LoggingJournal
from tests.domain.shapes import CONNECTION_ID, NOW, SLUG, USER_ID, stored
from tests.fakes.world import CountingIds

ACTIVE = stored(ConnectionStatus.ACTIVE)
PROFILE = ProviderProfile(slug=SLUG)
DEAD = Verdict(failure_class=FailureClass.USER, code="invalid_grant", reason="It is over")
BROKEN = Verdict(failure_class=FailureClass.TRANSIENT, code="server_error", reason="It broke")


class FakeLedger:
    """Stores nothing; is full or lost as a test says."""

    def __init__(self) -> None:
        self.is_full = self.is_lost = False
        self.has_room = True

    def add(self, entry: Entry) -> bool:
        return not self.is_full

    async def append(self) -> None:
        if self.is_lost:
            raise PartitionLostError

    def recall(self, connection_id: UUID) -> Stored | None:
        return None

    async def read(self, connection_id: UUID) -> Stored:
        return Stored(ACTIVE)


def entry_of(*events: Event) -> Entry:
    entry = Entry(CONNECTION_ID, cast("Maker", None))
    entry.events.extend(events)
    return entry


def dead() -> tuple[Event, ...]:
    return failed(ACTIVE, DEAD, PROFILE, draw=0.5, now=NOW, ids=CountingIds()).events


def broken() -> tuple[Event, ...]:
    return failed(ACTIVE, BROKEN, PROFILE, draw=0.0, now=NOW, ids=CountingIds()).events


async def test_failures_are_counted_and_a_grant_that_needs_its_user_is_one_line():
    journal = LoggingJournal()
    ledger = ToldLedger(FakeLedger(), tell=journal.refresh_failed)
    refused = store_failed(
        ACTIVE,
        Refresh(connection_id=uuid4(), credentials=None),
        cause="no",
        now=NOW,
        ids=CountingIds(),
    )

    with capture_logs() as logs:
        for events in (dead(), broken(), broken(), refused.events):
            assert ledger.add(entry_of(*events))
        await ledger.append()
        await ledger.append()

    assert journal.verdicts == {SLUG: {"user": 1, "transient": 2}}
    assert logs == [
        {
            "event": "grant_needs_user",
            "log_level": "info",
            "provider_slug": SLUG,
            "connection_id": str(CONNECTION_ID),
            "user_id": str(USER_ID),
            "code": "invalid_grant",
            "reason": "It is over",
        }
    ]


async def test_what_is_not_stored_is_not_told():
    told: list[ProviderTokenRefreshFailed] = []
    inner = FakeLedger()
    ledger = ToldLedger(inner, tell=told.append)

    inner.is_full = True
    assert not ledger.add(entry_of(*dead()))
    await ledger.append()
    inner.is_full, inner.is_lost = False, True
    assert ledger.add(entry_of(*dead()))
    with pytest.raises(PartitionLostError):
        await ledger.append()

    assert told == []


async def test_all_else_is_the_ledgers_own():
    inner: Ledger = FakeLedger()
    ledger = ToldLedger(inner, tell=lambda _event: None)

    assert ledger.has_room
    assert ledger.recall(CONNECTION_ID) is None
    assert (await ledger.read(CONNECTION_ID)).connection == ACTIVE
