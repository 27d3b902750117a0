"""What callers were told holds: in order, once, never lost, in time, and never of an older state."""

from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from runtime.gateway.in_flight import OWNER_HEADER
from runtime.gateway.wire import digest_of_message
from runtime.ledger.subjects import partition_of
from tests.simulation.callers import Attempt, Callers, Order
from tests.simulation.told import Story, Told
from tests.simulation.town import Town

_NOTICED_S = 5.0
_BEFORE_S = 18.0
"""What was stopped or cut off is so for so long at most."""
_UNDER_WAY_S = 2.0
"""How long a request may take over two hops, where messages are slow."""
_UNSTORED = ("CONNECTION_NOT_FOUND", "INVALID_COMMAND")
"""Refusals that no record can remember."""


def orders_are_kept(
    told: Told, callers: Callers, town: Town, counts: Counter[str]
) -> Iterator[str]:
    """Yield what does not hold."""
    by_connection: dict[UUID, list[Order]] = {}
    for order in callers.orders:
        by_connection.setdefault(order.connection_id, []).append(order)
        counts["orders"] += 1
        counts["unknown"] += order.answer is None
    for connection_id, orders in by_connection.items():
        story = told.stories.get(connection_id, Story())
        commands = [order for order in orders if not order.is_read]
        yield from _nothing_is_lost(story, commands)
        yield from _time_is_kept(story, commands)
        partition = partition_of(connection_id, len(told.claims))
        hidden_s = [at_s for at_s, _, _ in told.claims[partition] if town.is_apart(at_s)]
        yield from _reads_are_of_now(story, orders, hidden_s, counts)
    for order in callers.orders:
        for attempt in order.attempts:
            yield from _is_answered(order, attempt, town, counts)


def _nothing_is_lost(story: Story, orders: list[Order]) -> Iterator[str]:
    """What was acknowledged is in the ledger, with that answer; each answer is the same."""
    for order in orders:
        executed = story.executed.get(digest_of_message(order.message_id))
        stored = None if executed is None else executed.answer.failure
        if order.is_done and executed is None:
            yield f"{order} was acknowledged, and is not in the ledger"
        elif order.is_done and stored is not None:
            yield f"{order} was acknowledged, but failed: {stored.code}"
        elif order.code is not None and executed is not None:
            code = None if stored is None else str(stored.code)
            if code != order.code:
                yield f"{order} was answered {order.code}, and stored is {code}"
        elif order.code is not None and order.code not in _UNSTORED:
            yield f"{order} was answered {order.code}, which is not in the ledger"


def _time_is_kept(story: Story, orders: list[Order]) -> Iterator[str]:
    """What was begun after another's answer comes after it."""
    known = [
        (order, executed.place)
        for order in orders
        if (executed := story.executed.get(digest_of_message(order.message_id))) is not None
    ]
    for first, place in known:
        answered_s = first_answer_s(first)
        for second, later in known:
            if answered_s < second.began_s and later < place:
                yield f"{second} was begun after {first} was answered, and executed before it"


def first_answer_s(order: Order) -> float:
    """Return when a caller first knew that a command was done, or refused for good."""
    if order.answer is None:
        return float("inf")
    kind = order.code
    return min(
        at_s
        for attempt in order.attempts
        for at_s, answer in attempt.answers
        if answer.get("error", {}).get("code") == kind
    )


def _reads_are_of_now(
    story: Story, orders: list[Order], hidden_s: list[float], counts: Counter[str]
) -> Iterator[str]:
    """A read shows what was acknowledged before it was asked, and nothing that is not stored.

    An owner that hears itself, and not those who take it for gone, sees another's claim within a
    second or two: until then its memory may be behind.
    """
    known = sorted(_known_generations(story, orders))
    for order in orders:
        if not order.is_read:
            continue
        for attempt in order.attempts:
            for at_s, answer in attempt.answers:
                value = answer.get("ok")
                if not value:
                    continue
                shown = value["generation"]
                least = max((one for known_s, one in known if known_s < attempt.sent_s), default=0)
                if shown < least and any(0 < at_s - one < _NOTICED_S for one in hidden_s):
                    counts["reads behind a claim that was hidden"] += 1
                elif shown < least:
                    yield f"{order} shows generation {shown}, {least} was known before"
                most = story.generation_at(at_s)
                if shown > most:
                    yield f"{order} shows generation {shown}, stored is {most}"
                token, stored = value.get("access_token"), story.tokens.get(shown)
                if token is not None and stored is not None and token != stored:
                    yield f"{order} gives {token}, stored with {shown} is {stored}"


def _known_generations(story: Story, orders: list[Order]) -> Iterator[tuple[float, int]]:
    """Yield from when on somebody knows that so many generations are stored."""
    for order in orders:
        executed = story.executed.get(digest_of_message(order.message_id))
        if executed is not None and order.is_done and order.verb in ("connect", "refresh"):
            yield first_answer_s(order), executed.stored.generation_before + 1
        if order.is_read:
            for attempt in order.attempts:
                for at_s, answer in attempt.answers:
                    if answer.get("ok"):
                        yield at_s, answer["ok"]["generation"]


def _is_answered(order: Order, attempt: Attempt, town: Town, counts: Counter[str]) -> Iterator[str]:
    """Whoever was reached, lives and is not cut off answers within the caller's time."""
    if attempt.answers or attempt.is_refused:
        return
    ends_s = attempt.sent_s + attempt.timeout_s
    if town.plan.weather.get("message_slow"):
        # Whoever takes it late counts the caller's time from then.
        ends_s += _UNDER_WAY_S
    if any(at_s <= ends_s for at_s in town.servers.replied_s.get(attempt.inbox, [])):
        counts["answers lost"] += 1
        return
    routed = town.servers.routed.get(attempt.inbox, [])
    if not routed or any(one.is_lost or not one.to for one in routed):
        counts["requests lost"] += 1
        return
    involved = {one.to for one in routed}
    involved |= {one.message.headers.get(OWNER_HEADER, one.to) for one in routed}
    for life in town.lives:
        is_disturbed = life.is_stopped or _is_disturbed(life.disturbed_s, attempt, ends_s)
        if life.name in involved and is_disturbed:
            counts["requests to the disturbed"] += 1
            return
    for link in town.links:
        is_disturbed = not link.way.is_open or _is_disturbed(link.disturbed_s, attempt, ends_s)
        if link.life.name in involved and is_disturbed:
            counts["requests to the disturbed"] += 1
            return
    yield f"{order} was taken by {sorted(involved)} at {attempt.sent_s:.3f}, and never answered"


def _is_disturbed(times_s: list[float], attempt: Attempt, ends_s: float) -> bool:
    """Whether something happened to who was asked, while that was under way or shortly before."""
    return any(attempt.sent_s - _BEFORE_S <= at_s <= ends_s for at_s in times_s)
