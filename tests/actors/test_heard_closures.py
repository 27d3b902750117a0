"""What one member finds closed holds at every member, and for no longer than it must."""

from uuid import UUID

import anyio
import msgspec
import pytest

from actors.client_gate import ClientGate, ClientGates
from actors.closed import Closed
from actors.gate_word import Closure, GateKey, GateWord
from domain.exchange import Reach, Verdict
from domain.profile import FailureClass
from domain.result import Success
from tests.fakes.commands import connection_number
from tests.fakes.crowd import Crowd
from tests.fakes.gates import (
    FIVE,
    FOUR,
    HERE,
    HOUR,
    LIMITED,
    NOT_THERE,
    ONE,
    PROFILE,
    REFUSED,
    TENANTS,
    THREE,
    TWO,
    O,
    T,
    paused,
    shop,
    verdict,
)

DOWN = verdict(T, "It is down")
HERE_KEY = GateKey("acme", "c-1", "acme.test")


class Pair:
    """Two members; what ``told`` tells is heard at once."""

    def __init__(self) -> None:
        self.news = 0
        self.told = ClientGates(me="a", news=self._count)
        self.hears = ClientGates(me="b")
        self.tell()
        self.told.heard("b", self.hears.word())
        self.there = self.told.of(PROFILE, HERE)
        self.here = self.hears.of(PROFILE, HERE)
        self.news = 0

    def tell(self) -> None:
        """Let the other member hear the next word."""
        self.hears.heard("a", self.told.word())

    def _count(self) -> None:
        self.news += 1


async def _tries(gate: ClientGate, connection_id: UUID, told: Verdict | None = None) -> bool:
    """Return whether a connection might ask; None tells of a success."""
    async with gate.slot(connection_id) as closed:
        if closed is None and told is None:
            gate.succeeded(connection_id)
        elif closed is None and told is not None:
            gate.failed(connection_id, told)
        return closed is None


async def test_a_cool_down_holds_at_the_other_member_until_somebody_succeeds() -> None:
    pair = Pair()
    async with pair.there.slot(FOUR):
        pair.there.failed(ONE, HOUR)
        assert pair.news == 1
        pair.tell()
        assert pair.here.closed(TWO) == Closed(T, "Too many requests", 60.0)
        assert pair.hears.of(PROFILE, shop("other")).closed(TWO) is None

    await anyio.sleep(10.0)
    pair.tell()
    assert pair.here.closed(TWO) == Closed(T, "Too many requests", 50.0)
    await anyio.sleep(51.0)
    assert await _tries(pair.there, FIVE)
    assert pair.news == 2
    pair.tell()
    assert pair.here.closed(TWO) is None


@pytest.mark.parametrize(("told", "failure_class"), [(REFUSED, O), (NOT_THERE, O), (DOWN, T)])
async def test_a_pause_and_a_circuit_hold_at_the_other_member_and_end_there_at_once(
    told: Verdict, failure_class: FailureClass
) -> None:
    pair = Pair()
    paused(pair.there, told)
    assert pair.news == 1
    pair.tell()
    closed = pair.here.closed(FIVE)

    assert closed == Closed(failure_class, told.reason, 1.0)
    async with pair.here.slot(FIVE) as refused:
        assert refused == closed
    pair.there.succeeded(FOUR)
    assert pair.news == 2
    pair.tell()
    assert pair.here.closed(FIVE) is None


async def test_a_client_that_is_refused_is_closed_at_all_of_its_hosts() -> None:
    pair = Pair()
    paused(pair.there, REFUSED)
    paused(pair.told.of(TENANTS, shop("a")), NOT_THERE)
    pair.tell()

    assert pair.hears.of(PROFILE, shop("b")).closed(FIVE) is not None
    assert pair.hears.of(TENANTS, shop("a")).closed(FIVE) is not None
    assert pair.hears.of(TENANTS, shop("b")).closed(FIVE) is None


async def test_what_a_member_cannot_try_itself_is_tried_here_one_a_second_until_one_succeeds() -> (
    None
):
    pair = Pair()
    paused(pair.there, REFUSED)
    began_s, tried_s = anyio.current_time(), list[float]()
    for _ in range(100):
        pair.tell()
        if await _tries(pair.here, FOUR, verdict(T, "Its own", reach=Reach.CONNECTION)):
            tried_s.append(round(anyio.current_time() - began_s, 1))
        assert not any(hold.trying for hold in pair.hears._others.closures._holds.values())
        await anyio.sleep(0.1)
    assert tried_s == pytest.approx([float(second) for second in range(1, 10)], abs=0.2)

    await anyio.sleep(1.0)
    pair.tell()
    assert await _tries(pair.here, FIVE)
    pair.tell()
    assert pair.here.closed(FOUR) is None
    pair.there.succeeded(FOUR)
    pair.tell()
    for number in range(20, 23):
        pair.there.failed(connection_number(number), REFUSED)
    pair.tell()
    assert pair.here.closed(FOUR) is not None


async def test_a_long_limit_of_another_member_is_tried_one_by_one_after_a_minute() -> None:
    pair = Pair()
    pair.there.failed(ONE, HOUR)
    pair.tell()
    await anyio.sleep(60.0)
    pair.tell()

    assert await _tries(pair.here, FOUR, verdict(T))
    assert pair.here.closed(TWO) == Closed(T, "Too many requests", 1.0)
    await anyio.sleep(1.0)
    assert await _tries(pair.here, TWO, HOUR)
    assert pair.here.closed(THREE) == Closed(T, "Too many requests", 60.0)


async def test_while_one_member_probes_an_endpoint_the_others_do_not() -> None:
    pair = Pair()
    paused(pair.there, DOWN)
    await anyio.sleep(1.0)
    async with pair.there.slot(FOUR) as closed:
        assert closed is None
        await anyio.sleep(20.0)
        pair.tell()
        assert pair.here.closed(FIVE) == Closed(T, "It is down", 1.0)


async def test_a_success_of_a_flight_from_before_does_not_open_what_was_heard_since() -> None:
    pair = Pair()
    paused(pair.there, NOT_THERE)
    async with pair.here.slot(FOUR):
        pair.tell()
        pair.here.succeeded(FOUR)
        assert pair.here.closed(FIVE) is not None
    await anyio.sleep(1.0)
    async with pair.here.slot(FOUR) as closed:
        assert closed is None
        pair.there.failed(ONE, LIMITED)
        pair.tell()
        pair.here.succeeded(FOUR)
    assert pair.here.closed(FIVE) is not None


async def test_what_was_heard_is_not_told_on_and_news_of_it_are_none() -> None:
    pair = Pair()
    news: list[None] = []
    third = ClientGates(me="c", news=lambda: news.append(None))
    paused(pair.there, REFUSED)
    pair.tell()
    third.heard("b", pair.hears.word())

    assert pair.hears.word().closures == ()
    assert third.of(PROFILE, HERE).closed(FIVE) is None
    assert not news


async def test_what_a_member_that_is_gone_named_last_holds_for_its_time_and_no_longer() -> None:
    pair = Pair()
    paused(pair.there, REFUSED)
    pair.there.failed(FOUR, LIMITED)
    pair.tell()
    pair.hears.gone("a")

    assert pair.here.closed(FIVE) == Closed(T, "Too many requests", 60.0)
    await anyio.sleep(60.0)
    assert await _tries(pair.here, ONE, verdict(T))
    assert await _tries(pair.here, TWO, verdict(T))
    pair.hears.heard("c", ClientGates(me="c").word())
    assert pair.hears._others.closures._holds == {}


async def test_a_member_that_is_heard_again_holds_a_gate_closed_as_before() -> None:
    pair = Pair()
    paused(pair.there, REFUSED)
    pair.tell()
    pair.hears.gone("a")
    pair.tell()
    await anyio.sleep(1.0)

    assert await _tries(pair.here, FOUR, verdict(T))
    assert pair.here.closed(FIVE) == Closed(O, "No such client", 1.0)


async def test_a_gate_that_two_members_keep_closed_is_open_when_both_have_ended_it() -> None:
    pair, third = Pair(), ClientGates(me="c")
    for gates in (pair.told, third):
        paused(gates.of(PROFILE, HERE), REFUSED)
    pair.tell()
    pair.hears.heard("c", third.word())
    pair.there.succeeded(FOUR)
    pair.tell()
    assert pair.here.closed(FIVE) is not None

    third.of(PROFILE, HERE).succeeded(FOUR)
    pair.hears.heard("c", third.word())
    assert pair.here.closed(FIVE) is None


async def test_what_was_shown_not_to_hold_is_believed_again_when_it_is_named_anew() -> None:
    pair, third = Pair(), ClientGates(me="c")
    there, yonder, here = (gates.of(TENANTS, shop("a")) for gates in (pair.told, third, pair.hears))
    paused(there, REFUSED)
    paused(yonder, REFUSED)
    pair.tell()
    pair.hears.heard("c", third.word())
    await anyio.sleep(1.0)
    assert await _tries(here, FIVE)
    assert here.closed(FIVE) is None

    there.succeeded(FOUR)
    pair.tell()
    for number in range(20, 23):
        there.failed(connection_number(number), REFUSED)
    pair.tell()
    assert here.closed(FIVE) == Closed(O, "No such client", 1.0)


async def test_of_what_holds_at_a_gate_and_for_its_client_the_longer_is_told() -> None:
    pair = Pair()
    paused(pair.there, DOWN)
    await anyio.sleep(0.5)
    pair.tell()
    assert pair.here.closed(FIVE) == Closed(T, "It is down", 0.5)
    paused(pair.there, REFUSED)
    pair.tell()
    assert pair.here.closed(FIVE) == Closed(O, "No such client", 1.0)
    pair.there.failed(FOUR, LIMITED)
    pair.tell()
    assert pair.here.closed(FIVE) == Closed(T, "Too many requests", 60.0)


async def test_a_word_names_a_hundred_closures_at_most_the_longest_first_and_no_more_are_heard() -> (
    None
):
    pair = Pair()
    for number in range(150):
        gate = pair.told.of(TENANTS, shop(f"h{number}"))
        wait_s = 10.0 + number / 10
        gate.failed(ONE, verdict(T, cools_client=True, retry_after_s=wait_s))

    told = pair.told.word().closures
    assert len(told) == 100
    assert [one.left_s for one in told] == sorted((one.left_s for one in told), reverse=True)
    assert told[0].key == GateKey("tenants", "c-1", "h149.test")
    many = [
        Closure(key=HERE_KEY._replace(host=str(n)), failure_class=T, reason="r", left_s=9.0)
        for n in range(101)
    ]
    pair.hears.heard("z", GateWord(number=1, closures=tuple(many)))
    assert len(pair.hears._others.closures._holds) == 100


async def test_a_word_is_the_same_after_it_was_sent() -> None:
    pair = Pair()
    paused(pair.there, REFUSED)
    word = pair.told.word()

    assert msgspec.json.decode(msgspec.json.encode(word), type=GateWord) == word
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(word), type=GateWord) == word


async def test_flights_wait_for_what_another_member_keeps_closed_and_go_on_when_it_opens() -> None:
    crowd, other = Crowd(), ClientGates(me="b")
    gates = crowd.stage.providers.gates
    place = crowd.provider.place(crowd.profile, None, None)
    gate = other.of(crowd.profile, place)
    async with crowd.stage.opened():
        await crowd.connect(1)
        await crowd.connect(2)
        gate.failed(ONE, LIMITED)
        gates.heard("b", other.word())
        patient, impatient = crowd.ask(1, patience_s=90.0), crowd.ask(2, patience_s=4.0)
        await impatient.answered.wait()
        assert not isinstance(impatient.reply, Success)
        assert impatient.reply.message == "Too many requests"
        await anyio.sleep(61.0)
        gates.heard("b", other.word())
        await patient.answered.wait()

    assert isinstance(patient.reply, Success)
