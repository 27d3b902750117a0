"""One presenter per refresh token, and no answer lost that a process has heard and lived to store."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from domain.connection import ProviderConnection
from domain.events import ProviderTokenRefreshAttempted, ProviderTokenRefreshFailed
from domain.profile import ProviderProfile
from domain.refreshing import OUTCOME_UNKNOWN, attempt_s_max
from domain.token_read import REPLAY_LEAD_S
from runtime.ledger.spill import decode_outcome
from tests.fakes.commands import connection_number
from tests.simulation.provider import GRACE_S, TIMEOUT_S, Fate, Presented, family_of
from tests.simulation.told import Story, Told, tokens_of
from tests.simulation.town import Town

_STORED_S = 10.0
"""A process that has heard an answer, and lives for so long, has stored it or written it down."""
_BROUGHT_S = 1.5
_DELIVERED_S = 1.5
"""An outcome that is sent again and again is stored within so long."""
_RATE_MIN = 0.99
_CLOCKS_S = 15.0
"""How far two hosts' clocks may be apart, where nobody has set one."""


def tokens_are_presented_once(told: Told, town: Town, counts: Counter[str]) -> Iterator[str]:
    """Yield what does not hold."""
    held = _held(town)
    first: dict[str, Presented] = {}
    attempts: set[UUID] = set()
    for one in town.provider.book:
        counts["presented"] += 1
        story = told.stories.get(connection_of(one.token), Story())
        yield from _is_intended(one, story, attempts)
        spent = first.get(one.token)
        if one.fate in (Fate.ROTATED, Fate.GRACED):
            first.setdefault(one.token, one)
        if spent is not None:
            yield from _may_come_again(one, spent, story, town, counts)
        if one.is_heard and one.issued:
            yield from _is_kept(one, told, held, town, counts)
    for at_s, slug, crowd in town.provider.crowds:
        if crowd > 2 * town.provider.max_concurrency or not town.was_anybody_cut_off(at_s):
            yield f"{crowd} requests were at {slug} at once at {at_s:.3f}"


def intents_are_waited_for(told: Told, town: Town) -> Iterator[str]:
    """An intent of another daemon is taken for unknown when its full time has passed, not sooner.

    That counts from when its partition was taken: no two hosts' clocks are compared.
    """
    full_s = attempt_s_max(ProviderProfile(slug="any", timeout_s=TIMEOUT_S))
    for story in told.stories.values():
        begun: dict[UUID | None, str] = {}
        for one in story.entries:
            for event in one.events:
                if isinstance(event, ProviderTokenRefreshAttempted):
                    begun[event.attempt_id] = one.daemon
                is_given_up = (
                    isinstance(event, ProviderTokenRefreshFailed)
                    and event.code == OUTCOME_UNKNOWN.code
                    and begun.get(event.attempt_id, one.daemon) != one.daemon
                )
                claims = [at_s for at_s, seq, _ in told.claims[one.partition] if seq < one.seq]
                if is_given_up and one.at_s - claims[-1] < full_s * _RATE_MIN:
                    waited_s = one.at_s - claims[-1]
                    yield f"{one.daemon} gives an intent up {waited_s:.2f} s after its claim"


def connection_of(token: str) -> UUID:
    """Return the connection that a token was given for."""
    return connection_number(int(family_of(token).partition(".")[2].partition("_")[0]))


def _is_intended(one: Presented, story: Story, attempts: set[UUID]) -> Iterator[str]:
    """What is presented is stored, and so is the presenter's intent, still open and used once.

    No answer of this provider makes a second request of an attempt safe.
    """
    connection = story.as_of(one.sent_s)
    if connection is None or connection.intent is None:
        yield f"{one.by} presents {one.token} at {one.sent_s:.3f} without an open intent"
    elif connection.intent.owner != one.by:
        owner = connection.intent.owner
        yield f"{one.by} presents {one.token} at {one.sent_s:.3f}, intended by {owner}"
    elif tokens_of(connection)[1] != one.token:
        yield f"{one.by} presents {one.token}, stored is {tokens_of(connection)[1]}"
    elif connection.intent.attempt_id in attempts:
        yield f"{one.by} presents {one.token} at {one.sent_s:.3f} twice in one attempt"
    else:
        attempts.add(connection.intent.attempt_id)


def _may_come_again(
    one: Presented, spent: Presented, story: Story, town: Town, counts: Counter[str]
) -> Iterator[str]:
    """A spent token comes again only where nobody knows that, within its grace or at the end."""
    if any(token == spent.issued and at_s < one.sent_s for at_s, token in story.refresh_tokens):
        yield f"{one.by} presents {one.token} although its successor is stored"
        return
    since_s = one.at_s - spent.at_s
    has_grace, may_seem_s = one.family.startswith("grace."), GRACE_S + _CLOCKS_S
    if one.fate is Fate.GRACED or (
        has_grace and since_s <= GRACE_S and one.fate is Fate.NOT_LOOKED_AT
    ):
        counts["replayed within the grace"] += 1
        return
    if (
        has_grace
        and GRACE_S < since_s <= may_seem_s
        and one.by.partition("-")[0] != spent.by.partition("-")[0]
    ):
        counts["replayed after the grace, by a host with another clock"] += 1
        return
    connection = story.as_of(one.sent_s)
    assert connection is not None
    if not _is_at_its_end(connection, one, town):
        yield f"{one.by} replays {one.token} at {one.sent_s:.3f} while its access token lives"
        return
    counts["replayed at the end" if not spent.is_heard else "replayed, killed in between"] += 1


def _is_at_its_end(connection: ProviderConnection, one: Presented, town: Town) -> bool:
    credentials = connection.credentials
    if credentials is None or credentials.expires_at is None or town.clocks_were_set:
        return True
    now = town.world.time_of(one.sent_s)
    left_s = (credentials.expires_at - now).total_seconds()
    return left_s <= REPLAY_LEAD_S + _CLOCKS_S


def _is_kept(  # noqa: PLR0911 -- one for each excuse
    one: Presented, told: Told, held: set[str], town: Town, counts: Counter[str]
) -> Iterator[str]:
    """An answer that a process heard is stored, or that process was killed or cut off."""
    story = told.stories[connection_of(one.token)]
    if any(token == one.issued for _, token in story.refresh_tokens):
        return
    life = next(life for life in town.lives if life.name == one.by)
    if one.issued in held:
        counts["set aside"] += 1
        yield f"what {one.by} heard for {one.token} at {one.heard_s:.3f} is held, not stored"
        return
    if life.died_s is not None and life.died_s < one.heard_s + _STORED_S + life.stopped_s:
        counts["killed with an answer"] += 1
        return
    if town.world.now_s() < one.heard_s + _STORED_S:
        return
    again_s = [again.sent_s for again in town.provider.book if again.token == one.token]
    if again_s[-1] > one.heard_s and town.was_cut_off(life, one.heard_s, again_s[-1]):
        counts["replayed, the answer cut off"] += 1
        return
    given_up = _given_up(one, story, told)
    if given_up is not None and town.was_cut_off(life, one.heard_s, given_up.at_s):
        counts["given up, the answer cut off"] += 1
        return
    if given_up is not None and town.were_apart(one.heard_s, given_up.at_s - _DELIVERED_S):
        counts["given up, the answer not heard"] += 1
        return
    if given_up is not None and given_up.at_s - given_up.claimed_s < _BROUGHT_S:
        counts["given up at once, by whom it was"] += 1
        return
    yield f"what {one.by} heard for {one.token} at {one.heard_s:.3f} is stored nowhere"


class _GivenUp(NamedTuple):
    """An attempt that was taken for unknown."""

    at_s: float
    claimed_s: float
    """When its partition was taken by who did."""


def _given_up(one: Presented, story: Story, told: Told) -> _GivenUp | None:
    """Return when the attempt that presented a token was taken for unknown, if it was."""
    connection = story.as_of(one.sent_s)
    attempt_id = connection and connection.intent and connection.intent.attempt_id
    for entry in story.entries:
        for event in entry.events:
            if isinstance(event, ProviderTokenRefreshFailed) and event.attempt_id == attempt_id:
                claims = [at_s for at_s, seq, _ in told.claims[entry.partition] if seq < entry.seq]
                return _GivenUp(entry.at_s, claims[-1])
    return None


def _held(town: Town) -> set[str]:
    """Return the refresh tokens that lie in data folders."""
    found: set[str] = set()
    for host in town.hosts:
        folder = host.folder / "outcomes"
        for file in folder.iterdir() if folder.is_dir() else ():
            if "." in file.name and not file.name.startswith("."):
                found.add(tokens_of(decode_outcome(file.read_bytes()).connection)[1])
    return found
