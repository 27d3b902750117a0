"""A member's share of one gate, step by step: who has what when which words were heard."""

from functools import partial

import anyio
import pytest

from actors.client_gate import ClientGate, ClientGates
from tests.fakes.commands import connection_number
from tests.fakes.gate_members import limited
from tests.fakes.gates import HERE, Visit, settle, shop


async def introduce(*everybody: ClientGates) -> None:
    """Let all hear the next words of all, their own as well."""
    words = [(gates._others.shares.me, gates.word()) for gates in everybody]
    for gates in everybody:
        for name, word in words:
            gates.heard(name, word)
    await settle()


def _trio(names: str = "abc") -> list[ClientGates]:
    return [ClientGates(me=name) for name in names]


async def test_slots_are_split_and_what_is_left_over_goes_to_other_members_at_other_gates() -> None:
    everybody, profile = _trio(), limited(max_concurrency=8)
    await introduce(*everybody)
    extra = dict.fromkeys(range(3), 0)
    async with anyio.create_task_group() as tasks:
        for host in range(30):
            inside: list[int] = []
            for gates in everybody:
                gate = gates.of(profile, shop(f"h{host}"))
                for number in range(8):
                    tasks.start_soon(Visit(gate, number))
                await settle()
                inside.append(gate.in_flight)
            assert sorted(inside) == [2, 3, 3]
            extra[inside.index(2)] += 1
        tasks.cancel_scope.cancel()

    assert min(extra.values()) >= 4


async def test_whoever_is_inside_stays_when_a_member_comes_and_the_newcomer_waits_for_that() -> (
    None
):
    (old, new), profile = _trio("ab"), limited(max_concurrency=4)
    visits = [Visit(old.of(profile, HERE), number) for number in range(6)]
    late = [Visit(new.of(profile, HERE), number) for number in range(6)]
    async with anyio.create_task_group() as tasks:
        for visit in visits:
            tasks.start_soon(visit)
            await settle()
        await introduce(old, new)
        await introduce(old, new)
        for visit in late:
            tasks.start_soon(visit)
        await settle()
        assert [len(visit.found) for visit in visits] == [1, 1, 1, 1, 0, 0]
        assert not any(visit.found for visit in late)

        for visit in visits[:2]:
            visit.leave.set()
        await settle()
        await introduce(old, new)
        assert [len(visit.found) for visit in visits] == [1, 1, 1, 1, 0, 0]
        assert sum(len(visit.found) for visit in late) == 2
        new.gone("a")
        await settle()
        assert sum(len(visit.found) for visit in late) == 4
        tasks.cancel_scope.cancel()


async def test_who_is_alone_has_everything_at_once_and_tells_of_nothing() -> None:
    news: list[None] = []
    gates = ClientGates(me="a", news=lambda: news.append(None))
    gate = gates.of(limited(max_concurrency=1, rate_per_s=1.0), HERE)

    async with gate.slot(Visit(gate)._connection_id) as closed:
        assert closed is None
        assert gates.word().gates == ()

    assert not news


async def test_a_gate_that_nobody_needs_any_more_is_not_told_of() -> None:
    (one, other), profile = _trio("ab"), limited(max_concurrency=1)
    await introduce(one, other)
    visit = Visit(one.of(profile, HERE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit)
        await settle()
        assert visit.found == []
        await introduce(one, other)
        await introduce(one, other)
        assert visit.found == [None]
        assert [gate.over for gate in one.word().gates] == [0]
        visit.leave.set()
        await settle()

    assert one.word().gates == ()


async def test_who_asks_for_a_gate_and_who_gives_it_on_has_news_and_whoever_hears_of_it_too() -> (
    None
):
    news = dict.fromkeys("ab", 0)

    def count(name: str) -> None:
        news[name] += 1

    one, other = (ClientGates(me=name, news=partial(count, name)) for name in "ab")
    await introduce(one, other)
    profile = limited(max_concurrency=1)
    visits = [Visit(gates.of(profile, HERE)) for gates in (one, other)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visits[0])
        await settle()
        assert news == {"a": 1, "b": 0}
        await introduce(one, other)
        assert news == {"a": 1, "b": 1}
        await introduce(one, other)
        assert visits[0].found == [None]
        tasks.start_soon(visits[1])
        await settle()
        assert news == {"a": 1, "b": 2}
        await introduce(one, other)
        assert visits[1].found == []
        # Nobody waits at the first any more: it has given the gate on, and what is inside is told.
        assert news["a"] == 3
        await introduce(one, other)
        assert one.word().gates[0].over == 1
        visits[0].leave.set()
        await settle()
        assert news["a"] == 4
        await introduce(one, other)
        assert visits[1].found == [None]
        visits[1].leave.set()


async def test_who_waits_for_a_rate_goes_on_sooner_when_a_member_that_shared_it_is_gone() -> None:
    everybody, profile = _trio("abcd"), limited(max_concurrency=4, rate_per_s=0.1, burst=4)
    await introduce(*everybody)
    at_s: list[float] = []

    async def visit_twice(gate: ClientGate) -> None:
        for number in range(2):
            async with gate.slot(connection_number(number)):
                at_s.append(anyio.current_time() - began_s)

    began_s = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for gates in everybody[:3]:
            tasks.start_soon(visit_twice, gates.of(profile, HERE))
        await anyio.sleep(20.0)
        for gates in everybody[:3]:
            gates.gone("d")

    # Half of an interval of 40 s was over, and one of 30 s has begun in its place. What is left
    # over of the burst is one member's, at once.
    assert sorted(at_s) == pytest.approx([0.0, 0.0, 0.0, 20.0, 35.0, 35.0], abs=0.01)


async def test_a_newcomer_asks_after_those_who_asked_before_it_came() -> None:
    (one, other, late), profile = _trio("bca"), limited(max_concurrency=1)
    visits = [Visit(gates.of(profile, HERE)) for gates in (one, other, late)]
    await introduce(one, other)
    async with anyio.create_task_group() as tasks:
        for visit in visits[:2]:
            tasks.start_soon(visit)
            await settle()
        await introduce(one, other, late)
        tasks.start_soon(visits[2])
        await settle()
        for _ in range(3):
            await introduce(one, other, late)

        assert [visit.found for visit in visits] == [[None], [], []]
        asked = [gates.word().gates[0].asked for gates in (other, late)]
        assert asked == sorted(asked)
        tasks.cancel_scope.cancel()


async def test_words_that_come_late_or_from_oneself_are_passed_over() -> None:
    one, other = _trio("ab")
    old, new = other.word(), other.word()
    one.heard("b", new)
    one.heard("b", old)
    one.heard("a", one.word())

    assert one.word().heard == {"b": new.number}


async def test_a_member_that_does_not_hear_us_holds_a_gate_for_seconds_only() -> None:
    (one, deaf), profile = _trio("ab"), limited(max_concurrency=1)
    one.heard("b", deaf.word())
    visit = Visit(one.of(profile, HERE))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(visit)
        for _ in range(4):
            await anyio.sleep(1.0)
            one.heard("b", deaf.word())
        assert visit.found == []
        await anyio.sleep(1.0)
        one.heard("b", deaf.word())
        await settle()
        assert visit.found == [None]
        visit.leave.set()


async def test_gates_beyond_what_a_word_holds_are_asked_for_when_others_are_done() -> None:
    (one, other), profile = _trio("ab"), limited(max_concurrency=1)
    await introduce(one, other)
    visits: list[Visit] = []
    async with anyio.create_task_group() as tasks:
        for host in range(150):
            visits.append(Visit(one.of(profile, shop(f"h{host}"))))
            visits[-1].leave.set()
            tasks.start_soon(visits[-1])
            await settle()
        assert len(one.word().gates) == 100
        for _ in range(4):
            await introduce(one, other)

    assert all(visit.found for visit in visits)
