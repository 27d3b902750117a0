"""The small parts of an actor, each by itself."""

import math
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from actors.entry import Entry
from actors.envelope import Envelope
from actors.refused_events import refused_events
from actors.sealed import sealed
from actors.waiting_line import WaitingLine
from actors.world import (
    MAILBOX_FULL,
    SHUTTING_DOWN,
    TIMED_OUT,
    Providers,
    World,
    database_error,
    overloaded,
)
from domain.commands import Connect, GetToken, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Credentials, CredentialType, Sealed, Secret, Unsealed
from domain.decision import Reply
from domain.profile import ProviderProfile
from domain.result import FailureCode, Success
from tests.fakes.commands import SLUG, connect, connection_number, get, refresh
from tests.fakes.connections import active
from tests.fakes.providers import no_providers
from tests.fakes.stage import Stage, reasons
from tests.fakes.world import EPOCH

_ID = connection_number(1)
_DONE: Reply = Success(None)


def _envelope(due_s: float, answers: list[Reply], command: Any = None) -> Envelope:
    return Envelope(command or refresh(_ID), due_s=due_s, reply=answers.append)


def test_a_line_takes_so_many_in_their_order_and_answers_whose_time_is_up() -> None:
    line, answers = WaitingLine(), list[Reply]()
    waiting = [_envelope(due_s, answers) for due_s in (5.0, 3.0, 4.0)]
    assert all(one.can_wait for one in waiting)
    for one in waiting:
        line.join(one, commands_max=3)
    line.join(_envelope(1.0, answers), commands_max=3)
    assert answers == [MAILBOX_FULL]

    assert [line.answer_late(now_s) for now_s in (2.9, 3.0, 3.9, 4.0)] == [0, 1, 0, 1]
    assert answers[1:] == [TIMED_OUT] * 2
    assert len(line) == 1
    assert [*line.leave()] == waiting[:1]
    assert len(line) == 0
    assert line.answer_late(math.inf) == 0
    line.join(_envelope(5.0, answers), commands_max=3)
    assert [line.answer_late(6.0), line.answer_late(7.0)] == [1, 0]


class _Maker:
    def __init__(self) -> None:
        self.settled_entries: list[Entry] = []

    def settled(self, entry: Entry) -> None:
        self.settled_entries.append(entry)

    def broke(self, asked: object, error: Exception) -> None:
        raise AssertionError(asked, error)


def test_an_entry_counts_who_came_for_no_token_and_answers_each_in_its_time() -> None:
    maker, answers = _Maker(), list[Reply]()
    entry = Entry(_ID, maker)
    assert (entry.connection, entry.before, entry.answers, entry.commands) == (
        None,
        None,
        (),
        0,
    )
    assert (entry.is_open, entry.is_stored, entry.is_lost) == (True, False, False)
    for due_s, command in ((1.0, refresh(_ID)), (2.0, GetToken(connection_id=_ID)), (3.0, None)):
        entry.owe(_envelope(due_s, answers, command), _DONE)
    assert entry.commands == 2

    entry.refuse(TIMED_OUT, due_s=0.5)
    assert (answers, entry.commands) == ([], 2)
    entry.refuse(TIMED_OUT, due_s=2.0)
    assert (answers, entry.commands) == ([TIMED_OUT] * 2, 1)
    entry.fail(SHUTTING_DOWN)
    assert answers[2:] == [SHUTTING_DOWN]
    assert (entry.is_open, entry.is_stored, entry.is_lost, entry.commands) == (
        False,
        False,
        True,
        0,
    )
    assert maker.settled_entries == [entry]


def _world(profile: ProviderProfile | None = None) -> World:
    providers = no_providers()._replace(profile=lambda slug: profile if slug == SLUG else None)
    return Stage(providers=providers).directory.world


def _unsealed(text: str = '{"access_token": "a"}', lives_s: float | None = None) -> Unsealed:
    ends_at = None if lives_s is None else EPOCH + timedelta(seconds=lives_s)
    return Unsealed(
        credential_type=CredentialType.OAUTH2, secret=Secret(text.encode()), expires_at=ends_at
    )


def _sealed_by(
    command: Connect | Refresh, before: ProviderConnection | None, world: World
) -> tuple[bytes, str | None, tuple[str, ...]]:
    after = sealed(command, before, world)
    assert isinstance(after, Connect | Refresh)
    credentials = after.credentials
    assert isinstance(credentials, Credentials)
    assert isinstance(credentials.payload, Sealed)
    return credentials.payload.nonce, credentials.client_id, credentials.notes


@pytest.mark.parametrize("is_known", [False, True])
def test_credentials_are_sealed_for_the_next_generation_and_noted_with_their_client(
    is_known: bool,
) -> None:
    world = _world(ProviderProfile(slug=SLUG, client_id="me") if is_known else None)
    client_id = "me" if is_known else None
    first = msgspec.structs.replace(connect(_ID), credentials=_unsealed())
    again = Refresh(connection_id=_ID, credentials=_unsealed())
    before = msgspec.structs.replace(active(_ID), provider_slug=SLUG, generation=4)

    assert _sealed_by(first, None, world) == (f"{_ID}:1".encode(), client_id, ())
    assert _sealed_by(again, before, world) == (f"{_ID}:5".encode(), client_id, ())
    assert _sealed_by(again, None, world) == (f"{_ID}:1".encode(), None, ())
    other = msgspec.structs.replace(first, provider_slug="another")
    assert _sealed_by(other, before, world)[1] == client_id
    ending = msgspec.structs.replace(first, credentials=_unsealed(lives_s=60.0))
    assert _sealed_by(ending, None, world)[2] == (("no_refresh_token",) if is_known else ())


def test_a_command_without_plaintext_stays_as_it_is() -> None:
    world = _world()
    for command in (get(_ID), Refresh(connection_id=_ID, credentials=None)):
        assert sealed(command, None, world) is command


def test_the_events_of_refused_commands_name_the_cause_and_reads_have_none() -> None:
    world, answers = _world(), list[Reply]()
    commands = [get(_ID), refresh(_ID), GetToken(connection_id=_ID), connect(_ID)]
    envelopes = [_envelope(1.0, answers, command) for command in commands]

    told = [*refused_events(None, envelopes, "the cause", world)]

    assert [[event.workflow for event in events] for events in told] == [
        ["token_refresh"] * 2,
        ["connection"] * 2,
    ]
    for events in told:
        assert [reason.endswith(": the cause") for reason in reasons(events)] == [True]
    ids = [event.id for events in told for event in events]
    assert len({*ids}) == 4
    assert all(event.occurred_at >= EPOCH for events in told for event in events)


def test_refusals_say_when_to_ask_again_and_that_no_user_is_needed() -> None:
    full, broken = overloaded("words"), database_error("words")
    assert (full.code, full.retry_after_s) == (FailureCode.OVERLOADED, 1.0)
    assert (broken.code, broken.retry_after_s) == (FailureCode.DATABASE_ERROR, 1.0)
    assert broken.needs_user_action is False
    for failure in (full, broken):
        assert failure.message.endswith("words")


def test_a_provider_that_is_not_known_has_a_profile_that_knows_nothing() -> None:
    known = ProviderProfile(slug=SLUG, client_id="me")
    providers: Providers = _world(known).providers
    before = msgspec.structs.replace(active(_ID), provider_slug=SLUG)

    assert providers.of(before) is known
    other = msgspec.structs.replace(before, provider_slug="another")
    assert providers.of(other) == ProviderProfile(slug="another")
