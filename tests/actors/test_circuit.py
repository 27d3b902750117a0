"""One circuit a token endpoint: opened by its own faults alone, and tried by one at a time."""

import anyio
import pytest

from actors.circuit import CircuitNews, CircuitState
from actors.client_gate import ClientGate, ClientGates
from actors.closed import Closed
from domain.credentials import Secret
from domain.exchange import Answered, Exchange, Lost, Misconfigured, NotSent, Verdict
from domain.profile import ProviderProfile
from domain.verdicts import judge
from tests.fakes.commands import connection_number
from tests.fakes.crowd import Crowd
from tests.fakes.gates import (
    FIVE,
    FOUR,
    HERE,
    LIMITED,
    ONE,
    PROFILE,
    TENANTS,
    THREE,
    TWO,
    A,
    O,
    T,
    U,
    shop,
    verdict,
)
from tests.fakes.tenants import Fault
from tests.fakes.windows import is_kept
from tests.fakes.world import EPOCH

DOWN = verdict(T, "It is down")


def opened(gate: ClientGate | None = None) -> ClientGate:
    """Return a gate at which three connections met a dead endpoint."""
    gate = gate or ClientGates().of(PROFILE, HERE)
    for one in (ONE, TWO, THREE):
        gate.failed(one, DOWN)
    return gate


def _answered(status: int, error: str = "", retry_after: str | None = None) -> Answered:
    body = Secret(f'{{"error": "{error}"}}'.encode())
    return Answered(status=status, body=body, sent_at=EPOCH, retry_after=retry_after)


@pytest.mark.parametrize(
    ("exchange", "is_blamed"),
    [
        (NotSent(code="connect_failed"), True),
        (NotSent(code="tls_failed"), True),
        (Lost(code="timeout"), True),
        (Lost(code="connection_lost"), True),
        (_answered(500), True),
        (_answered(503, retry_after="30"), True),
        (_answered(503, "invalid_grant"), True),
        (_answered(429, retry_after="30"), False),
        (_answered(400, "invalid_grant"), False),
        (_answered(401, "invalid_client"), False),
        (_answered(404), False),
        (_answered(400, "invalid_request"), False),
        (_answered(403), False),
        (_answered(200), False),
        (Misconfigured(code="client_key_unusable"), False),
    ],
)
async def test_only_what_is_the_endpoints_own_fault_opens_a_circuit(
    exchange: Exchange, is_blamed: bool
) -> None:
    told = judge(ProviderProfile(slug="acme"), exchange, sent_scope=False)
    assert isinstance(told, Verdict)
    gate = ClientGates().of(PROFILE, HERE)

    for number in range(20):
        gate.failed(connection_number(number), told)

    assert gate.circuit.is_closed is not is_blamed


async def test_one_grant_that_always_fails_opens_no_circuit_and_nor_do_two() -> None:
    gate = ClientGates().of(PROFILE, HERE)
    for _ in range(50):
        gate.failed(ONE, DOWN)
        gate.failed(TWO, DOWN)

    assert gate.closed(FOUR) is None


@pytest.mark.parametrize("told", [None, verdict(U), verdict(A), LIMITED])
async def test_any_answer_between_failures_means_that_the_endpoint_is_in_order(
    told: Verdict | None,
) -> None:
    gate = ClientGates().of(PROFILE, HERE)
    gate.failed(ONE, DOWN)
    gate.failed(TWO, DOWN)
    if told is None:
        gate.succeeded(FIVE)
    else:
        gate.failed(FIVE, told)
    gate.failed(THREE, DOWN)
    gate.failed(FOUR, DOWN)

    assert gate.circuit.is_closed


async def test_an_open_circuit_lets_one_request_through_at_a_time_and_its_answer_closes_it() -> (
    None
):
    news: list[CircuitNews] = []
    gates = ClientGates(news.append)
    gate, elsewhere = opened(gates.of(TENANTS, shop("a"))), gates.of(TENANTS, shop("b"))

    assert gate.closed(FOUR) == Closed(T, "It is down", 1.0)
    assert elsewhere.closed(FOUR) is None
    assert gates.circuits == [
        CircuitNews("tenants", "a.test", CircuitState.OPEN, "It is down", 0.0, 0, 1.0)
    ]
    await anyio.sleep(1.0)
    async with gate.slot(FOUR) as closed:
        assert closed is None
        assert gate.closed(FIVE) == Closed(T, "It is down", 1.0)
        async with gate.slot(FIVE) as second:
            assert second is not None
        gate.succeeded(FOUR)

    assert gate.closed(FIVE) is gate.closed(ONE) is None
    assert gates.circuits == []
    assert [(one.state, one.down_s) for one in news] == [
        (CircuitState.OPEN, 0.0),
        (CircuitState.HALF_OPEN, 1.0),
        (CircuitState.CLOSED, 1.0),
    ]


async def test_the_pauses_between_probes_grow_to_the_profiles_bound() -> None:
    gate, pauses_s = opened(), list[float]()
    for number in range(20):
        closed = gate.closed(FIVE)
        assert closed is not None
        pauses_s.append(closed.left_s)
        await anyio.sleep(closed.left_s)
        one = connection_number(100 + number)
        async with gate.slot(one):
            gate.failed(one, DOWN)

    assert pauses_s[:10] == pytest.approx([1.0] * 10)
    assert pauses_s[10:] == pytest.approx([2.0, 4.0, 8.0, 16.0, *[30.0] * 6])


async def test_who_has_not_failed_probes_before_those_who_have_and_of_these_the_oldest() -> None:
    gate = opened()

    lefts = [closed.left_s if (closed := gate.closed(one)) else None for one in (FOUR, ONE, TWO)]

    assert lefts == [1.0, 1.5, 2.0]


async def test_a_probe_that_asks_nothing_is_followed_by_another_at_once() -> None:
    gate = opened()
    await anyio.sleep(1.0)
    async with gate.slot(FOUR):
        gate.failed(FOUR, verdict(O))
    async with gate.slot(FIVE) as closed:
        assert closed is None
    assert not gate.circuit.is_closed


async def test_whose_failures_were_their_own_open_no_circuit_again_until_they_are_answered() -> (
    None
):
    gate = opened()
    gate.succeeded(FIVE)
    opened(gate)
    assert gate.circuit.is_closed

    for one in (ONE, TWO, THREE):
        gate.succeeded(one)

    assert not opened(gate).circuit.is_closed


async def test_a_provider_that_is_down_for_long_is_asked_little_and_then_drains_at_its_rate() -> (
    None
):
    crowd, people = Crowd(rate_per_s=2.0), range(40)
    asked_at_s = crowd.provider.at_s
    async with crowd.stage.opened():
        for number in people:
            await crowd.connect(number)
        crowd.provider.faults["everybody"] = Fault.UNREACHABLE
        for _ in range(30):
            for number in people:
                crowd.ask(number, patience_s=4.0)
            await anyio.sleep(60.0)
        asked = len(asked_at_s["everybody"])
        del crowd.provider.faults["everybody"]
        began_s = anyio.current_time()
        while stale := crowd.not_refreshed(people):
            for number in stale:
                crowd.ask(number, patience_s=4.0)
            await anyio.sleep(4.0)

    assert asked <= 16 + 10 + 30
    assert anyio.current_time() - began_s <= 40 / 2.0 + 45.0
    assert is_kept(asked_at_s["everybody"], per_s=2.0, burst=1)
