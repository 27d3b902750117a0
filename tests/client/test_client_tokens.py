"""What is kept of tokens: never served past what was asked for, once rejected, nor for long."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from refreshd_client import AccessToken, NoAnswerError, NotConnectedError, ReauthRequiredError
from refreshd_client.tokens import VAIN_S, Tokens, Wish

pytestmark = pytest.mark.anyio
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


class Daemon:
    """Answers with the next of what it is given, when it is let, and counts what it is asked."""

    def __init__(self, keep_s: float = 10.0) -> None:
        self.now_s = 1000.0
        self.asked: list[Wish] = []
        self.answers: Sequence[AccessToken | Exception] = []
        self.takes_s = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.tokens = Tokens(ask=self._ask, now_s=lambda: self.now_s, keep_s=keep_s, tokens_max=3)

    async def get(self, connection_id: str = "a", **wish: Any) -> AccessToken:
        timeout_s = wish.pop("timeout_s", 5.0)
        return await self.tokens.get(connection_id, Wish(**wish), timeout_s=timeout_s)

    async def _ask(self, _connection_id: str, wish: Wish, _timeout_s: float) -> AccessToken:
        self.asked.append(wish)
        answer = self.answers[0]
        self.answers = self.answers[1:] or self.answers
        await self.may_answer.wait()
        self.now_s += self.takes_s
        if isinstance(answer, Exception):
            raise answer
        return answer


def token(generation: int = 1, lives_s: int | None = 3600, **fields: Any) -> AccessToken:
    """Return a token that has long ended by any clock but the steady one."""
    known: dict[str, Any] = {
        "expires_at": None if lives_s is None else LONG_AGO,
        "expires_in_s": lives_s,
        "stale": False,
    }
    return AccessToken(
        access_token=f"at-{generation}",
        token_type="Bearer",
        generation=generation,
        **known | fields,
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_token_is_asked_for_once_and_then_kept_for_a_moment():
    daemon = Daemon()
    daemon.answers = [token()]

    await daemon.get()
    daemon.now_s += 9.9
    kept = await daemon.get()
    daemon.now_s += 0.1
    await daemon.get()

    assert kept.access_token == "at-1"
    assert kept.expires_in_s == 3590
    assert len(daemon.asked) == 2


async def test_a_kept_token_that_has_not_as_long_to_live_as_is_asked_is_asked_for_anew():
    daemon = Daemon(keep_s=1e9)
    daemon.answers = [token(lives_s=100)]

    await daemon.get(min_ttl_s=60.0)
    daemon.now_s += 39.9
    await daemon.get(min_ttl_s=60.0)
    assert len(daemon.asked) == 1
    daemon.now_s += 0.1

    await daemon.get(min_ttl_s=60.0)
    await daemon.get(min_ttl_s=100.0)

    assert [wish.min_ttl_s for wish in daemon.asked] == [60.0, 60.0, 100.0]


async def test_the_time_that_an_answer_takes_is_no_time_of_the_tokens_life():
    daemon = Daemon(keep_s=1e9)
    daemon.answers, daemon.takes_s = [token(lives_s=100)], 50.0

    await daemon.get(min_ttl_s=30.0)
    kept = await daemon.get(min_ttl_s=30.0)
    daemon.now_s += 20.0
    await daemon.get(min_ttl_s=30.0)

    assert kept.expires_in_s == 50
    assert len(daemon.asked) == 2


def test_the_clock_is_one_that_nobody_sets_and_that_goes_on_in_sleep(
    monkeypatch: pytest.MonkeyPatch,
):
    tokens = Tokens(ask=Daemon()._ask, keep_s=1.0, tokens_max=1)
    expected = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    monkeypatch.setattr(time, "time", lambda: 0.0)

    assert expected <= tokens.now_s() < expected + 60


@pytest.mark.parametrize(
    "answer",
    [
        token(stale=True),
        token(lives_s=0),
        token(expires_in_s=None),
        token(lives_s=60),
    ],
    ids=["stale", "ended", "of a daemon that tells no lifetime", "too short"],
)
async def test_what_may_not_be_served_again_is_not_kept(answer: AccessToken):
    daemon = Daemon()
    daemon.answers = [answer]

    for _ in range(3):
        assert await daemon.get() == answer

    assert len(daemon.asked) == 3


async def test_a_token_that_never_ends_is_kept_as_long_as_any():
    daemon = Daemon()
    daemon.answers = [token(lives_s=None)]

    for _ in range(3):
        assert (await daemon.get()).expires_in_s is None
    daemon.now_s += 10.0
    await daemon.get()

    assert len(daemon.asked) == 2


async def test_nothing_is_kept_where_nothing_is_to_be():
    daemon = Daemon(keep_s=0.0)
    daemon.answers = [token()]

    for _ in range(3):
        await daemon.get()

    assert len(daemon.asked) == 3


async def test_all_who_want_the_same_at_a_time_ask_once():
    daemon = Daemon()
    daemon.answers = [token()]
    daemon.may_answer.clear()

    asking = [asyncio.create_task(daemon.get()) for _ in range(50)]
    await asyncio.sleep(0)
    daemon.may_answer.set()
    got = await asyncio.gather(*asking)

    assert {one.access_token for one in got} == {"at-1"}
    assert len(daemon.asked) == 1


async def test_who_wants_more_than_what_is_asked_for_asks_too():
    daemon = Daemon()
    daemon.answers = [token()]
    daemon.may_answer.clear()

    wishes: list[dict[str, Any]] = [
        {"min_ttl_s": 60.0},
        {"min_ttl_s": 600.0},
        {"if_generation": 1},
        {"force": True},
        {"force": True},
    ]
    asking = [asyncio.create_task(daemon.get(**wish)) for wish in wishes]
    await asyncio.sleep(0)
    daemon.may_answer.set()
    await asyncio.gather(*asking)

    assert len(daemon.asked) == len(wishes)


async def test_a_caller_who_goes_away_takes_nothing_from_the_others():
    daemon = Daemon()
    daemon.answers = [token()]
    daemon.may_answer.clear()

    first = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    second = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    daemon.may_answer.set()

    assert (await second).access_token == "at-1"
    assert first.cancelled()
    assert len(daemon.asked) == 1


async def test_a_caller_whose_time_is_up_is_told_so_and_what_comes_is_kept_for_others():
    daemon = Daemon()
    daemon.answers = [token()]
    daemon.may_answer.clear()

    asking = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    with pytest.raises(NoAnswerError):
        await daemon.get(timeout_s=0.01)
    daemon.may_answer.set()
    await asking

    await daemon.get()
    assert len(daemon.asked) == 1


async def test_a_failure_is_told_to_everyone_who_waits_and_kept_by_nobody():
    daemon = Daemon()
    daemon.answers = [ReauthRequiredError("dead"), token(2)]
    daemon.may_answer.clear()

    asking = [asyncio.create_task(daemon.get()) for _ in range(3)]
    await asyncio.sleep(0)
    daemon.may_answer.set()
    told = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(one) for one in told] == [ReauthRequiredError] * 3
    assert len({id(one) for one in told}) == 3
    assert (await daemon.get()).generation == 2


async def test_who_has_time_left_asks_anew_when_the_one_it_waited_for_had_none():
    daemon = Daemon()
    daemon.answers = [NoAnswerError("no answer in time"), token()]
    daemon.may_answer.clear()

    hasty = asyncio.create_task(daemon.get(timeout_s=0.5))
    await asyncio.sleep(0)
    patient = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    daemon.may_answer.set()

    assert (await patient).access_token == "at-1"
    with pytest.raises(NoAnswerError):
        await hasty
    assert len(daemon.asked) == 2


async def test_a_rejected_token_is_served_to_nobody_again():
    daemon = Daemon()
    daemon.answers = [token(1), token(2)]

    await daemon.get()
    renewed = await daemon.get(if_generation=1)
    again = await daemon.get()

    assert (renewed.generation, again.generation) == (2, 2)
    assert [wish.if_generation for wish in daemon.asked] == [None, 1]


async def test_who_comes_late_with_a_rejection_gets_the_token_that_is_there():
    daemon = Daemon()
    daemon.answers = [token(2)]
    await daemon.get()

    late = await daemon.get(if_generation=1)

    assert late.generation == 2
    assert len(daemon.asked) == 1


async def test_an_answer_that_was_on_its_way_does_not_bring_a_rejected_token_back():
    daemon = Daemon()
    daemon.answers = [token(1), token(1, stale=True), token(2)]
    daemon.may_answer.clear()
    on_its_way = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    rejected = asyncio.create_task(daemon.get(if_generation=1))
    await asyncio.sleep(0)

    daemon.may_answer.set()
    await asyncio.gather(on_its_way, rejected)

    assert (await daemon.get()).generation == 2


async def test_an_older_token_that_comes_late_does_not_replace_a_newer_one():
    daemon = Daemon()
    daemon.answers = [token(1), token(2)]
    daemon.may_answer.clear()
    older = asyncio.create_task(daemon.get(min_ttl_s=1.0))
    await asyncio.sleep(0)
    daemon.may_answer.set()
    newer = asyncio.create_task(daemon.get(min_ttl_s=2.0))
    await asyncio.gather(older, newer)
    daemon.answers = [token(1)]
    await daemon.get(force=True)

    assert (await daemon.get()).generation == 2


async def test_what_is_forgotten_is_not_brought_back_by_what_was_asked_before():
    daemon = Daemon()
    daemon.answers = [token(1), token(2)]
    daemon.may_answer.clear()
    before = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)

    daemon.tokens.forget("a")
    after = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)
    daemon.may_answer.set()

    assert (await before).generation == 1
    assert (await after).generation == 2
    assert (await daemon.get()).generation == 2


async def test_so_many_connections_tokens_are_kept_and_those_last_asked_for():
    daemon = Daemon()
    daemon.answers = [token()]

    for name in ("a", "b", "c", "a", "d"):
        await daemon.get(name)
    assert len(daemon.asked) == 4
    for name in ("a", "c", "d"):
        await daemon.get(name)
    assert len(daemon.asked) == 4
    await daemon.get("b")

    assert len(daemon.asked) == 5


async def test_a_closed_client_keeps_nothing_and_tells_who_waits():
    daemon = Daemon()
    daemon.answers = [token()]
    daemon.may_answer.clear()
    waiting = asyncio.create_task(daemon.get())
    await asyncio.sleep(0)

    daemon.tokens.close()

    with pytest.raises(NotConnectedError, match="closed"):
        await waiting


async def test_a_renewal_in_vain_counts_for_a_while_and_for_that_token_alone():
    daemon = Daemon()
    daemon.answers = [token(2)]
    await daemon.get()

    daemon.tokens.was_in_vain("a", 2)

    assert daemon.tokens.is_in_vain("a", 2)
    assert not daemon.tokens.is_in_vain("a", 3)
    assert not daemon.tokens.is_in_vain("b", 2)
    daemon.now_s += VAIN_S
    assert not daemon.tokens.is_in_vain("a", 2)
