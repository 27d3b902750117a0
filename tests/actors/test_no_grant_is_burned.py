"""Whatever fails at any step, the daemon's death included, no grant is lost by our doing."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import GetToken
from domain.connection import ConnectionStatus
from domain.credentials import Sealed
from domain.decision import AccessToken
from domain.profile import NO_REUSE, NON_ROTATING, ProviderProfile, ReusePolicy
from domain.result import Failure, FailureCode, Success
from domain.token_read import REPLAY_LEAD_S
from tests.fakes.commands import SLUG
from tests.fakes.examples import examples
from tests.fakes.providers import VirtualClock, providers
from tests.fakes.schedule import run_seeded
from tests.fakes.stage import Stage
from tests.fakes.token_scene import ID, Scene
from tests.fakes.trouble import Rates, Trouble, TroubledLedger
from tests.fakes.troubled_provider import KilledError, ProviderRates, TroubledProvider
from tests.fakes.world import CountingIds

_LIFETIME_S = 120
_rate = st.sampled_from((0.0, 0.0, 0.1, 0.4))


def _provider_rates(*, kills: bool = True, loses: bool = True) -> st.SearchStrategy[ProviderRates]:
    never = st.just(0.0)
    return st.builds(
        ProviderRates,
        not_sent=_rate,
        rate_limited=_rate,
        html=_rate,
        unavailable=_rate if loses else never,
        request_is_lost=_rate if loses else never,
        answer_is_lost=_rate if loses else never,
        unavailable_after=_rate if loses else never,
        answer_is_cut=_rate if loses else never,
        killed=st.sampled_from((0.0, 0.02, 0.1)) if kills else never,
    )


_store_rates = st.builds(
    Rates,
    wait_s_max=st.sampled_from((0.0, 0.5)),
    read_fails=_rate,
    append_is_unclear=_rate,
    is_in_memory=_rate,
)


class _Life:
    """One connection's story over several daemons on one ledger."""

    def __init__(
        self, seed: int, rates: ProviderRates, store_rates: Rates, policy: ReusePolicy
    ) -> None:
        self.clock = VirtualClock()
        self.trouble = Trouble(seed, store_rates)
        self.ledger = TroubledLedger(self.trouble)
        self.provider = TroubledProvider(seed, rates, self.clock, lifetime_s=_LIFETIME_S)
        self.profile = ProviderProfile(
            slug=SLUG,
            client_id="me",
            reuse_policy=policy,
            ambiguous_max=10_000,
            timeout_s=5.0,
            lifetime_default_s=_LIFETIME_S,
        )
        self.lives = 0
        self.stages: list[Stage] = []

    def stage(self) -> Stage:
        """Return the next daemon."""
        self.lives += 1
        stage = Stage(
            ledger=self.ledger,
            clock=self.clock,
            providers=providers(self.provider, self.profile, owner=f"d-{self.lives}"),
            ids=CountingIds(self.lives * 1_000_000),
        )
        self.stages.append(stage)
        return stage

    async def run(self, asks: list[tuple[float, int, bool]]) -> None:
        """Connect, let callers ask while everything fails, then let the world heal."""
        rates, self.provider.rates = self.provider.rates, ProviderRates()
        store_rates, self.trouble.rates = self.trouble.rates, Rates()
        first = self.stage()
        async with first.opened():
            await first.ask(Scene().connect(lives_s=float(_LIFETIME_S)))
        self.provider.rates, self.trouble.rates = rates, store_rates
        pending = list(asks)
        while pending:
            await self._live(pending)
        self.provider.ended()
        self.trouble.ended()

    async def _live(self, pending: list[tuple[float, int, bool]]) -> None:
        stage = self.stage()
        self.ledger.before = self.provider.on_ledger
        try:
            async with stage.opened():
                while pending:
                    pause_s, callers, force = pending.pop(0)
                    await anyio.sleep(pause_s)
                    for _ in range(callers):
                        stage.send(GetToken(connection_id=ID, force=force), patience_s=4.0)
                await anyio.sleep(10.0)
                await stage.settled()
        except BaseExceptionGroup as group:
            if group.split(KilledError)[1] is not None:
                raise
            connection = self.ledger.records[ID].connection
            assert connection is not None
            stored = connection.credentials
            assert stored is not None
            assert isinstance(stored.payload, Sealed)
            # Between the provider's answer and the store there is a moment.
            if f'"{self.provider.live}"'.encode() not in stored.payload.ciphertext:
                self.provider.may_be_spent_unheard = True
            if self.provider.access.encode() not in stored.payload.ciphertext:
                self.provider.forgot_the_last_cut()
        finally:
            self.ledger.before = None

    async def heal(self) -> Success[AccessToken] | Failure:
        """Ask in a world without faults until there is an answer that stays."""
        stage = self.stage()
        async with stage.opened():
            reply: object = None
            for _ in range(60):
                reply = await stage.ask(GetToken(connection_id=ID, min_ttl_s=1.0))
                if isinstance(reply, Success):
                    return reply  # type: ignore[return-value]
                if reply.code is FailureCode.REAUTH_REQUIRED:
                    return reply
                await anyio.sleep(30.0)
        raise AssertionError(f"never healed: {reply}")


_asks = st.lists(
    st.tuples(st.sampled_from((0.0, 0.5, 20.0, 70.0, 130.0)), st.integers(1, 5), st.booleans()),
    min_size=1,
    max_size=12,
)


def _everybody_was_answered(life: _Life) -> None:
    """Nobody is answered twice, and nobody whose daemon lived on is left without an answer."""
    for stage in life.stages:
        assert all(len(sent.replies) <= 1 for sent in stage.sent)
    assert all(len(sent.replies) == 1 for sent in life.stages[-1].sent)


def _no_token_is_replayed_while_there_is_something_to_lose(life: _Life) -> None:
    """A strict token goes out again only if it was not spent for certain, or at the very end.

    An answer says what became of the token. Without one, the access token that came with it
    must be about to end before the refresh token is shown again; where the answer broke off, the
    access token that was still read.
    """
    provider = life.provider
    for number, (token, at_s, _) in enumerate(provider.history):
        before = [one for one in provider.history[:number] if one.token == token]
        if any(one.ended != "answered" for one in before):
            cut_at_s = [one.at_s for one in before if one.ended == "cut"]
            issued_at_s = max(cut_at_s, default=provider.issued_at_s[token])
            assert at_s >= issued_at_s + _LIFETIME_S - REPLAY_LEAD_S - 1.0


@pytest.mark.parametrize("policy", [NO_REUSE, NON_ROTATING], ids=str)
@given(seed=st.integers(0, 2**32), asks=_asks, rates=_provider_rates(), store=_store_rates)
@settings(max_examples=examples(60))
def test_a_rotation_that_was_answered_is_never_lost_and_everybody_is_answered(
    policy: ReusePolicy,
    seed: int,
    asks: list[tuple[float, int, bool]],
    rates: ProviderRates,
    store: Rates,
) -> None:
    async def scene() -> None:
        life = _Life(seed, rates, store, policy)
        await life.run(asks)
        healed = await life.heal()
        _everybody_was_answered(life)
        if policy is NO_REUSE:
            _no_token_is_replayed_while_there_is_something_to_lose(life)
        if not life.provider.may_be_spent_unheard:
            assert isinstance(healed, Success), healed
            assert not life.provider.is_revoked
        if isinstance(healed, Failure):
            assert life.stages[-1].stored(ID).status is ConnectionStatus.EXPIRED

    run_seeded(scene, seed=seed)


@given(seed=st.integers(0, 2**32), asks=_asks, rates=_provider_rates(kills=False, loses=False))
@settings(max_examples=examples(60))
def test_without_a_lost_answer_no_spent_token_is_ever_presented(
    seed: int, asks: list[tuple[float, int, bool]], rates: ProviderRates
) -> None:
    async def scene() -> None:
        life = _Life(seed, rates, Rates(append_is_unclear=0.2, wait_s_max=0.5), NO_REUSE)
        await life.run(asks)
        assert isinstance(await life.heal(), Success)
        assert not life.provider.is_revoked

    run_seeded(scene, seed=seed)
