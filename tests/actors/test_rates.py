"""What a provider counts is never above its rate, whatever the ledger does meanwhile."""

import random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.result import Success
from tests.fakes.crowd import Crowd
from tests.fakes.examples import examples
from tests.fakes.schedule import run_seeded
from tests.fakes.stage import Sent
from tests.fakes.windows import is_kept


@settings(max_examples=examples(25))
@given(
    st.sampled_from((1.0, 7.0, 50.0)),
    st.integers(1, 4),
    st.sampled_from((0.0, 0.3, 0.9)),
    st.sampled_from((None, 0)),
    st.integers(0, 2**32),
)
def test_a_ledger_that_stalls_bunches_no_requests_and_further_secrets_are_counted(
    per_s: float, burst: int, stall_s: float, bad_secret: int | None, seed: int
) -> None:
    crowd = Crowd(rate_per_s=per_s, burst=burst, client_secrets=2)
    crowd.provider.bad_secret, draw = bad_secret, random.Random(seed)

    async def scene() -> list[Sent]:
        async with crowd.stage.opened():
            for number in range(20):
                await crowd.connect(number)
            crowd.stage.ledger.after_append = lambda: anyio.sleep(draw.random() * stall_s)
            sent = [crowd.ask(number, patience_s=600.0) for number in range(20)]
            for one in sent:
                await one.answered.wait()
            return sent

    sent = run_seeded(scene, seed=seed)
    assert is_kept(crowd.provider.at_s["everybody"], per_s=per_s, burst=burst)
    assert all(isinstance(one.reply, Success) for one in sent)


async def test_each_host_has_a_rate_of_its_own() -> None:
    crowd = Crowd(is_templated=True, rate_per_s=1.0)
    async with crowd.stage.opened():
        for number in range(8):
            await crowd.connect(number, "a" if number % 2 else "b")
        began_s = anyio.current_time()
        for one in [crowd.ask(number) for number in range(8)]:
            await one.answered.wait()

    assert 3.0 <= anyio.current_time() - began_s < 3.5
    assert {host: len(at_s) for host, at_s in crowd.provider.at_s.items()} == {"a": 4, "b": 4}
    assert all(is_kept(at_s, per_s=1.0, burst=1) for at_s in crowd.provider.at_s.values())


async def test_a_gate_that_must_remember_its_rate_is_kept() -> None:
    crowd = Crowd(is_templated=True, rate_per_s=0.01)
    async with crowd.stage.opened():
        for number in range(200):
            await crowd.connect(number, f"s{number}")
        for one in [crowd.ask(number) for number in range(200)]:
            await one.answered.wait()
        await crowd.connect(999, "s7")
        again = crowd.ask(999, patience_s=4.0)
        await anyio.sleep(5.0)

    assert len(crowd.provider.at_s["s7"]) == 1
    assert not isinstance(again.reply, Success)


@pytest.mark.parametrize("rate_per_s", [0.05, None])
async def test_a_further_secret_is_tried_in_the_same_attempt_only_where_the_rate_lets_it(
    rate_per_s: float | None,
) -> None:
    crowd = Crowd(rate_per_s=rate_per_s, client_secrets=2)
    crowd.provider.bad_secret = 0
    async with crowd.stage.opened():
        await crowd.connect(1)
        first = crowd.ask(1)
        await first.answered.wait()
        await anyio.sleep(1.0)
        second = crowd.ask(1, patience_s=60.0)
        await second.answered.wait()

    assert isinstance(first.reply, Success) is (rate_per_s is None)
    assert isinstance(second.reply, Success)
    assert len(crowd.provider.at_s["everybody"]) == 2


async def test_callers_flights_go_first_and_a_proactive_one_that_a_caller_joins_is_one() -> None:
    crowd = Crowd(max_concurrency=1)
    async with crowd.stage.opened():
        for number in range(6):
            await crowd.connect(number)
        crowd.ask(0)
        await anyio.sleep(0.01)
        for number, lives_s in ((1, 900.0), (2, 300.0), (3, 600.0)):
            crowd.fly(number, due_s=anyio.current_time() + lives_s)
        await anyio.sleep(0.01)
        crowd.ask(4, patience_s=20.0)
        crowd.ask(5, patience_s=10.0)
        await anyio.sleep(0.01)
        crowd.ask(1, patience_s=5.0)
        await crowd.stage.settled()

    assert crowd.provider.order == ["r0", "r1", "r5", "r4", "r2", "r3"]
