"""One refresh at the provider, from the intent to the stored outcome.

The order is what keeps the grant (DESIGN.md section 7):

1. the intent is decided, with Attempted; only when both are stored may the token be presented;
2. the request is made; from the intent on nothing cancels it;
3. the outcome is decided, with its events, before anything else happens with it, and is stored
   however long that takes; the daemon gives up only when it is stopped and its grace is over;
4. the callers are answered.

Until the intent is decided a flight holds nobody up: commands go on, and when its turn comes it
looks again at what they left. While the client must not ask (``actors.client_gate``) it waits as
long as a caller has time for that, and tells the others at once. A flight also ends what a crash
or a daemon that was replaced left open: it waits for the intent's deadline and then stores that the
outcome is unknown, or stores what that daemon's flight brings (DESIGN.md section 8).
"""

import math
from collections.abc import Callable

import anyio
from msgspec.structs import replace

from actors.client_gate import ClientGate, no_sooner, while_closed
from actors.closed import SOON_S
from actors.entry import Entry
from actors.not_asked import NO_TURN, STOPPED, STORED_TOO_LATE
from actors.open_intent import Brought, open_until_s
from actors.outcome_steps import MakeStep, OutcomeSteps
from actors.pilot import Pilot
from actors.ports import Outcome
from actors.presenting import presented
from actors.turnstile import Turn
from actors.wish import Hold, Route, Wish
from actors.world import INTERNAL_ERROR, SHUTTING_DOWN, Limits, World, database_error
from domain.connection import ProviderConnection
from domain.exchange import Tokens, Verdict
from domain.profile import ProviderProfile
from domain.refreshing import PREPARATION_S_MAX, Step, attempt_s_max, begun, came_late, left_open
from domain.result import Failure
from domain.token_read import failure_of, may_still_ask
from domain.trace import Trace

_LOOK_AGAIN_S = 1.0
"""How often a flight that waits looks whether the client may ask sooner than was said."""


class Flight:
    """One refresh, or the end of one that was left open. ``run`` is its only entry."""

    def __init__(self, actor: Pilot, wish: Wish | None, *, world: World, limits: Limits) -> None:
        """Prepare a flight.

        Args:
            actor: Whose flight it is.
            wish: None only ends an open intent.
            world: The ports.
            limits: How long a stopping daemon tries to store an outcome.
        """
        self.actor = actor
        self.is_begun = wish is None
        """Whether there is an intent: commands that change state wait."""
        self.is_fresh = False
        """Whether the provider gave tokens, and they are stored."""
        self.failure: Failure | None = None
        """What to answer where the present token does not do; None: look again."""
        self._steps = OutcomeSteps(actor, world)
        self._wish = wish
        self._turn = Turn() if wish is None else wish.turn()
        self._world = world
        self._limits = limits
        self._patience_s = math.inf
        self._opens_s = -math.inf
        """When the client may ask again, while that is waited for."""
        self._brought: Brought | None = None
        self._older: Brought | None = None
        self._awake: anyio.Event | None = None
        self.is_stopped = False
        """Whether nothing is presented any more that was not presented yet."""
        self._flying = anyio.CancelScope()
        """Shielded from the intent on."""
        self._asking: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Fly. Never raises but to be cancelled, and not once the intent is decided."""
        try:
            if self._wish is None:
                await self._end_open_intent()
            else:
                await self._ask_in_turn(self._wish)
        except anyio.get_cancelled_exc_class():
            self.failure = SHUTTING_DOWN
            raise
        except Exception as error:  # noqa: BLE001 -- the supervisor's edge
            self._world.journal.crashed(self.actor.connection_id, error)
            self.failure = INTERNAL_ERROR
        finally:
            self.actor.landed(self)

    def refrain(self) -> None:
        """Present nothing any more: a flight without an intent ends with ``SHUTTING_DOWN``."""
        if self._wish is None or not self.is_begun:
            self.failure = SHUTTING_DOWN
            self._flying.cancel()
        self.is_stopped = True

    def is_handed_over(self) -> None:
        """Begin nothing more; a request whose intent is decided goes out: the next owner waits."""
        if self._wish is None or not self.is_begun:
            self.refrain()

    def dismissed(self) -> None:
        """Spill at once what comes of a request whose intent is stored, and begin nothing."""
        self.is_handed_over()
        self._patience_s = 0.0
        self.wake()

    def stop(self, *, at_once: bool) -> None:
        """Refrain, and try to store what is held for ``last_outcome_s``, or spill it at once."""
        self.refrain()
        self._patience_s = 0.0 if at_once else self._limits.last_outcome_s
        self.wake()

    def cut_off(self) -> None:
        """Wait for nothing more: the intent of a request that has no answer yet stays open."""
        self.stop(at_once=True)
        if self._asking is not None:
            self._asking.cancel()

    def refusal(self, due_s: float) -> Failure | None:
        """Return what a caller whose time ends at ``due_s`` is told at once, or None."""
        if self.failure is None or self._opens_s < due_s:
            return None
        left_s = max(round(self._opens_s - anyio.current_time(), 1), 0.1)
        return replace(self.failure, retry_after_s=left_s)

    def joined(self, due_s: float) -> None:
        """Note a caller that waits for it, too, and must be answered at ``due_s``."""
        self._turn.joined(due_s)

    @property
    def ends_access_token(self) -> bool:
        """Whether its success ends the access token that callers have (quirk 12)."""
        if self._wish is None or not self.is_begun:
            return False
        return self._world.providers.of(self._connection()).old_access_token_dies

    def wake(self) -> None:
        """Look whether what is waited for is stored."""
        if self._awake is not None:
            self._awake.set()

    def take_in(self, outcome: Outcome, stored: Callable[[], None]) -> None:
        """End the open intent with what another daemon's flight brought; call ``stored`` then.

        What an older attempt gave is stored behind that end, where it is of use still.
        """
        is_awaited = outcome.is_awaited_by(self._connection())
        if self._wish is None and not is_awaited:
            self._older = Brought(outcome, stored)
        elif self._wish is None and self._brought is None:
            self._brought = Brought(outcome, stored)
            self.wake()

    async def _end_open_intent(self) -> None:
        """Wait until the attempt that was left open is over for certain, and store that.

        What another daemon's flight brings meanwhile is stored in its place, at once.
        """
        connection = self._connection()
        assert connection.intent is not None
        world, profile = self._world, self._world.providers.of(connection)
        until_s = open_until_s(
            connection.intent,
            us=world.providers.owner,
            owned_s=self.actor.partition.owned_s,
            now=world.clock.now(),
            attempt_s=attempt_s_max(profile),
        )
        with self._flying:
            while self._brought is None and (left_s := until_s - anyio.current_time()) > 0:
                # What is less than a clock can measure would never pass.
                await self._sleep(max(left_s, SOON_S))
        if self._flying.cancelled_caught:
            return
        if (brought := self._brought) is None:
            world.journal.outcome_unknown(profile.slug)
            step = left_open(connection, profile, now=world.clock.now(), ids=world.ids)
        else:
            step = Step(brought.outcome.connection, brought.outcome.events)
        entry, older = self.actor.commit(step), self._older
        if older is not None and older.outcome.is_of_use_to(step.connection):
            given, told = older.outcome.connection, older.outcome.events
            step = came_late(step.connection, given, told, now=world.clock.now(), ids=world.ids)
            entry, brought = self.actor.commit(step), older
        if not await self._is_stored(entry):
            self.failure = database_error("an open refresh cannot be closed")
        elif brought is not None:
            self.is_fresh = step.connection.generation > connection.generation
            brought.stored()

    async def _ask_in_turn(self, wish: Wish) -> None:
        """Wait until the client may ask, and for one of its slots, and ask.

        The slot is given back when the provider has answered: storing may take longer.
        """
        make_step: MakeStep | None = None
        with self._flying as scope:
            while (route := await self._open_route(wish)) is not None:
                async with route.gate.slot(self.actor.connection_id, self._turn) as closed:
                    if closed is not None:
                        continue
                    if self._may_still_ask(wish, route.profile):
                        scope.shield = True
                        make_step = await self._attempt(wish, route)
                break
            if make_step is not None:
                assert route is not None
                await self._keep(make_step, route.gate, wish.trace)

    async def _open_route(self, wish: Wish) -> Route | None:
        """Wait until the provider may be asked, if that is in the time of a caller: return where.

        None: nobody waits for that, or what they saw has changed or was never stored.
        """
        providers = self._world.providers
        while (connection := self.actor.connection) is not None and not self.is_stopped:
            if connection.generation != wish.generation or not connection.is_active:
                self.failure = None
                return None
            profile = providers.of(connection)
            place = providers.endpoint.place(profile, connection.params, connection.endpoint_base)
            gate = providers.gates.of(profile, place)
            closed, now_s = gate.closed(connection.id), anyio.current_time()
            self._opens_s, self.failure = -math.inf, None
            if closed is not None:
                self._opens_s, self.failure = now_s + closed.left_s, while_closed(closed)
            if wish.hold is not None:
                self._waits_out(wish.hold, now_s)
            if self.failure is None:
                return Route(profile, gate)
            if not self.actor.callers_wait(self._opens_s, self.failure):
                return None
            await self._sleep(min(self._opens_s - now_s, _LOOK_AGAIN_S))
        return None

    def _waits_out(self, hold: Hold, now_s: float) -> None:
        """Take the connection's own back-off into account, where it is longer than its client's."""
        if (left_s := hold.until_s - now_s) > SOON_S and hold.until_s > self._opens_s:
            told_s = max(round(left_s, 1), 0.1)
            self._opens_s, self.failure = hold.until_s, replace(hold.failure, retry_after_s=told_s)

    def _may_still_ask(self, wish: Wish, profile: ProviderProfile) -> bool:
        """Whether what read as "ask" before the wait for a slot still does."""
        connection = self.actor.connection
        if self.is_stopped or connection is None or not connection.is_active:
            return False
        if wish.secret.text(profile.presents) is None or not self._world.providers.has(profile):
            return False
        is_same, now = connection.generation == wish.generation, self._world.clock.now()
        return is_same and may_still_ask(
            connection, profile, was_rejected=wish.was_rejected, now=now
        )

    async def _attempt(self, wish: Wish, route: Route) -> MakeStep | None:
        """Store the intent, make the request, and return how to keep what came of it.

        None: nothing was presented, ``failure`` says why. An intent that took too long to store
        is not acted on, and says nothing of the provider: its deadline is for the others.
        """
        world, profile, gate = self._world, route.profile, route.gate
        self.failure = world.refusal() or self.actor.partition.refusal()
        if self.failure is not None:
            return None
        started_s = anyio.current_time()
        step = begun(
            self._connection(),
            profile,
            attempt_id=next(world.ids),
            owner=world.providers.owner,
            now=world.clock.now(),
        )
        self.is_begun = True
        entry = self.actor.commit(step.traced(wish.trace))
        in_time = await self._is_stored(entry, within_s=PREPARATION_S_MAX)
        took_s = anyio.current_time() - started_s
        if entry.is_lost:
            self.failure = database_error("the refresh could not be noted")
            return None
        until_s = started_s + PREPARATION_S_MAX
        in_time = in_time and took_s <= PREPARATION_S_MAX
        if not in_time or not await self._departs(gate, until_s):
            cause = STOPPED if self.is_stopped else NO_TURN if in_time else STORED_TOO_LATE
            self.failure = cause.failure
            return self._steps.not_asked(cause.reason)
        outcome = None
        with anyio.CancelScope() as self._asking:
            outcome = await presented(
                wish.secret,
                self._connection(),
                route,
                trace=wish.trace,
                endpoint=world.providers.endpoint,
                departs=lambda: self._departs(gate, until_s),
            )
        self._asking = None
        if outcome is None:
            world.journal.cut_off(self.actor.connection_id)
            self.failure = SHUTTING_DOWN
            return None
        return self._told(outcome, wish, route)

    def _told(self, outcome: Tokens | Verdict, wish: Wish, route: Route) -> MakeStep:
        """Tell the gate what came of it, and return how to keep that and what the gate says."""
        world, profile, gate = self._world, route.profile, route.gate
        was_paused = gate.is_told_paused
        if isinstance(outcome, Tokens):
            gate.succeeded(self.actor.connection_id)
            make_step = self._steps.succeeded(outcome, wish.secret, profile)
        else:
            verdict = self._steps.judged(outcome, profile)
            make_step = self._steps.failed(verdict, wish.secret, profile)
            if gate.failed(self.actor.connection_id, verdict):
                world.journal.client_paused(profile.slug, verdict.code, verdict.reason)
                return self._steps.pausing(make_step, verdict)
        if was_paused and not gate.is_told_paused:
            world.journal.client_resumed(profile.slug)
            return self._steps.resuming(make_step)
        return make_step

    async def _departs(self, gate: ClientGate, until_s: float) -> bool:
        """Wait until the rate lets one request go out; False: that is not before ``until_s``."""
        while not self.is_stopped and (left_s := gate.departs()) > 0:
            if anyio.current_time() + left_s > until_s:
                return False
            await self._sleep(left_s)
        return not self.is_stopped

    async def _keep(self, make_step: MakeStep, gate: ClientGate, trace: Trace | None) -> None:
        """Store an outcome, and know what to answer."""
        intent, step = self._connection().intent, make_step().traced(trace)
        assert intent is not None
        entry = self.actor.commit(step)
        outcome = Outcome(intent.attempt_id, intent.generation, step.connection, step.events)
        is_stored = await self._is_stored(entry, within_s=self._limits.unclear_s)
        if not is_stored and not await self._is_stored_or_spilled(entry, outcome):
            self.failure = database_error("the outcome is not stored")
            return
        trouble = step.connection.trouble
        if self.failure is not None:
            return
        if trouble is None:
            self.is_fresh = True
            return
        closed = gate.closed(self.actor.connection_id)
        failure = failure_of(step.connection, self._world.clock.now())
        if closed is not None and trouble.failure_class is closed.failure_class:
            failure = replace(failure, message=closed.reason)
        self.failure = no_sooner(failure, closed)

    async def _is_stored_or_spilled(self, entry: Entry, outcome: Outcome) -> bool:
        """Spill an outcome that the ledger does not take; return whether it is stored after all.

        While the ledger is in doubt the daemon may be killed: so it is spilled before that ends.
        """
        connection_id, spill = self.actor.connection_id, self._world.spill
        is_spilled = await spill.keep(outcome)
        if await self._is_stored(entry):
            await spill.forget(outcome)
            return True
        if not is_spilled and not await spill.keep(outcome):
            self._world.journal.outcome_lost(connection_id)
        return False

    async def _is_stored(self, entry: Entry, *, within_s: float = math.inf) -> bool:
        """Wait for an entry, and return whether it is stored.

        It goes on being stored when the time is up; a stop bounds the wait, too.
        """
        until_s, stop_s = anyio.current_time() + within_s, math.inf
        while not (entry.is_stored or entry.is_lost or self.actor.partition.is_over):
            now_s = anyio.current_time()
            stop_s = min(stop_s, now_s + self._patience_s)
            if not await self._sleep(min(until_s, stop_s) - now_s):
                break
        return entry.is_stored

    async def _sleep(self, pause_s: float) -> bool:
        """Sleep so long, or until woken: return whether that came first."""
        self._awake = anyio.Event()
        with anyio.move_on_after(pause_s) as scope:
            await self._awake.wait()
        self._awake = None
        return not scope.cancelled_caught

    def _connection(self) -> ProviderConnection:
        """Return the newest state, which nobody else changes once there is an intent."""
        connection = self.actor.connection
        assert connection is not None
        return connection
