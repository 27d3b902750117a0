"""One refresh at the provider, from the intent to the stored outcome.

The order is what keeps the grant (DESIGN.md section 7):

1. the intent is stored by compare-and-set; only then may the token be presented;
2. Attempted is published, the request is made; from the intent on nothing cancels it;
3. the outcome is stored before anything else happens with it. While the store fails, it is
   held and tried again; the daemon gives up only when it is stopped and its grace is over;
4. the outcome's events are published, and the callers are answered.

A flight also ends what an earlier owner left open: it waits for the intent's deadline and
then stores that the outcome is unknown.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from actors.client_gate import ClientGate
from actors.landing import Wish, database_error, rebased, while_closed
from actors.ports import (
    OutcomeUnknownError,
    Stored,
    StoreUnavailableError,
    Write,
    WriteConflictError,
)
from actors.world import Limits, World
from domain.connection import ProviderConnection
from domain.credentials import Credentials, Secret
from domain.events import Event
from domain.exchange import ExchangeRequest, NotSent, Tokens, Verdict
from domain.oauth_secret import OAuthSecret
from domain.profile import FailureClass, ProviderProfile
from domain.refreshing import (
    PREPARATION_S_MAX,
    Step,
    attempt_s_max,
    begun,
    died,
    failed,
    left_open,
    succeeded,
)
from domain.result import Failure
from domain.token_read import failure_of, may_still_ask
from domain.verdicts import client_changed, escalated, judge, rotation_lost

Publish = Callable[[Sequence[Event]], Awaitable[None]]


class Flight:
    """One refresh, or the end of one that was left open. ``run`` is its only entry."""

    def __init__(
        self,
        stored: Stored,
        profile: ProviderProfile,
        *,
        world: World,
        limits: Limits,
        publish: Publish,
        ended: Callable[[], None],
    ) -> None:
        """Prepare a flight.

        Args:
            stored: The connection as it is stored.
            profile: The provider's.
            world: The ports.
            limits: The pauses between tries.
            publish: Publishes events in order, or owes them.
            ended: Called once when the flight is over. Must not raise.
        """
        assert stored.connection is not None
        self.stored: Stored | None = stored
        """What is known to be stored; None asks to read."""
        self.is_over = False
        self.is_fresh = False
        """Whether the provider gave tokens, and they are stored."""
        self.failure: Failure | None = None
        """What to answer where the present token does not do; None: look again."""
        self.is_stored = False
        """Whether the intent is stored: the provider may have been asked."""
        self._connection = stored.connection
        self._revision = stored.revision
        self._profile = profile
        self._world = world
        self._limits = limits
        self._publish = publish
        self.stopped = False
        """Set when the daemon ends: nothing more is presented, and what is held is tried for
        ``last_outcome_s``."""
        self.gives_up = False
        """Set when there is nothing left to store it in."""
        self._ended = ended

    async def run(self, wish: Wish | None) -> None:
        """Fly. Never raises but to be cancelled, and not once the intent is being stored.

        Args:
            wish: None only ends an open intent.
        """
        try:
            if self._connection.intent is not None:
                await self._end_open_intent()
            elif wish is not None and wish.secret is not None:
                await self._ask_in_turn(wish)
            elif wish is not None and wish.dead is not None:
                await self._bury(wish.dead)
        except Exception as error:  # noqa: BLE001 -- the supervisor's edge
            self._world.journal.crashed(self._connection.id, error)
            self.stored, self.failure = None, database_error("internal error")
        finally:
            self.is_over = True
            self._ended()

    async def _end_open_intent(self) -> None:
        """Wait until the other owner's attempt is over for certain, and store that."""
        intent = self._connection.intent
        assert intent is not None
        left_s = (intent.deadline_at - self._world.clock.now()).total_seconds()
        # A clock that was set back must not make this wait for hours.
        await anyio.sleep(min(max(left_s, 0.0), attempt_s_max(self._profile)))
        with anyio.CancelScope(shield=True):
            now, ids = self._world.clock.now(), self._world.ids
            step = left_open(self._connection, self._profile, now=now, ids=ids)
            if await self._write(step.connection):
                await self._publish(step.events)

    async def _bury(self, verdict: Verdict) -> None:
        """Store that the grant is over, without asking."""
        with anyio.CancelScope(shield=True):
            now, ids = self._world.clock.now(), self._world.ids
            step = died(self._connection, verdict, self._profile, now=now, ids=ids)
            if await self._write(step.connection):
                await self._publish(step.events)
                self.failure = failure_of(step.connection, now)

    async def _ask_in_turn(self, wish: Wish) -> None:
        """Wait for one of the client's slots, and ask; or say why the client must wait.

        The slot is given back when the provider has answered: storing may take longer.
        """
        assert wish.secret is not None
        gate = self._world.providers.gates.of(self._profile)
        closed = gate.closed()
        outcome: Tokens | Verdict | None = None
        with anyio.CancelScope() as scope:
            if closed is None:
                async with gate.slot() as closed:
                    if closed is None:
                        if not self._may_still_ask(wish):
                            return
                        scope.shield = True
                        outcome = await self._attempt(gate, wish.secret)
            if isinstance(outcome, Tokens):
                await self._keep(outcome, wish.secret)
            elif outcome is not None:
                await self._note(outcome, gate)
        if closed is not None:
            self.failure = while_closed(closed)

    def _may_still_ask(self, wish: Wish) -> bool:
        """Whether what read as "ask" before the wait for a slot still does."""
        return not self.stopped and may_still_ask(
            self._connection,
            self._profile,
            was_rejected=wish.was_rejected,
            now=self._world.clock.now(),
        )

    async def _attempt(self, gate: ClientGate, secret: OAuthSecret) -> Tokens | Verdict | None:
        """Store the intent and make the request; None: nothing was presented, ``failure`` says why.

        An intent that took too long to store is not acted on: its deadline is for the others.
        """
        world = self._world
        step = begun(
            self._connection,
            self._profile,
            attempt_id=next(world.ids),
            owner=world.providers.owner,
            now=world.clock.now(),
        )
        if not await self._write(step.connection):
            return None
        self.is_stored = True
        await self._publish(step.events)
        intent = self._connection.intent
        assert intent is not None
        is_late = (world.clock.now() - intent.started_at).total_seconds() > PREPARATION_S_MAX
        if is_late or self.stopped:
            not_sent = judge(self._profile, NotSent(code="not_begun"), sent_scope=False)
            assert isinstance(not_sent, Verdict)
            return not_sent
        outcome = await self._present(gate, secret)
        if isinstance(outcome, Tokens):
            gate.succeeded()
            return outcome
        verdict = self._judged(outcome)
        if gate.failed(verdict):
            world.journal.client_paused(self._profile.slug, verdict.code, verdict.reason)
        return verdict

    async def _present(self, gate: ClientGate, secret: OAuthSecret) -> Tokens | Verdict:
        """Ask, and once more where that is safe: the client was refused, so no token was spent.

        Flights of one client may try its secrets side by side; each tries each of them once.
        """
        profile = self._profile
        index = gate.secret_index
        presented = secret.text(profile.presents)
        assert presented is not None
        secrets = max(profile.client_secrets, 1)
        with_scope, secrets_tried = True, 1
        while True:
            exchange = await self._world.providers.endpoint.exchange(
                ExchangeRequest(
                    profile=profile,
                    presented=Secret(presented.encode()),
                    params=self._connection.params,
                    endpoint_base=self._connection.endpoint_base,
                    secret_index=index % secrets,
                    with_scope=with_scope,
                )
            )
            sent_scope = with_scope and profile.scope is not None
            outcome = judge(profile, exchange, sent_scope=sent_scope)
            if isinstance(outcome, Tokens):
                return outcome
            if outcome.tries_next_secret and secrets_tried < secrets:
                secrets_tried += 1
                if gate.secret_index == index:
                    gate.secret_index = (index + 1) % secrets
                index = (index + 1) % secrets
            elif outcome.drops_scope and with_scope:
                with_scope = False
            else:
                return outcome

    async def _keep(self, tokens: Tokens, secret: OAuthSecret) -> None:
        """Store what the provider gave, before anything else happens with it."""
        world = self._world
        now = world.clock.now()
        renewed = secret.renewed(tokens)

        def make(connection: ProviderConnection) -> Step:
            assert connection.credentials is not None
            payload = world.sealer.seal(
                renewed, connection_id=connection.id, generation=connection.generation + 1
            )
            credentials = Credentials(
                credential_type=connection.credentials.credential_type,
                payload=payload,
                expires_at=tokens.expires_at,
                issued_at=now,
                client_id=self._profile.client_id,
                notes=tokens.notes,
            )
            return succeeded(connection, tokens, credentials, now=now, ids=world.ids)

        step = await self._write_at_last(make, adopts=True)
        if step is not None:
            self.is_fresh = True
            await self._publish(step.events)

    def _judged(self, verdict: Verdict) -> Verdict:
        """Return what a failure means for this grant, by what is known of it."""
        profile, before, now = self._profile, self._connection, self._world.clock.now()
        credentials = before.credentials
        assert credentials is not None
        if verdict.failure_class is FailureClass.USER:
            if credentials.client_id not in (None, profile.client_id):
                verdict = client_changed(verdict)
            elif before.doubted_at is not None:
                verdict = rotation_lost(verdict)
        has_expired = credentials.expires_at is not None and credentials.expires_at <= now
        in_a_row = (before.trouble.ambiguous if before.trouble else 0) + 1
        return escalated(verdict, in_a_row, profile, access_token_expired=has_expired)

    async def _note(self, verdict: Verdict, gate: ClientGate) -> None:
        """Store what a failure means."""
        world, profile = self._world, self._profile
        now, draw = world.clock.now(), world.providers.draw()

        def make(connection: ProviderConnection) -> Step:
            return failed(connection, verdict, profile, draw=draw, now=now, ids=world.ids)

        step = await self._write_at_last(make)
        if step is not None:
            await self._publish(step.events)
            closed = gate.closed()
            self.failure = (
                while_closed(closed)
                if closed is not None and verdict.failure_class is closed.failure_class
                else failure_of(step.connection, now)
            )

    async def _write(self, connection: ProviderConnection) -> bool:
        """Store a step that can be done without; False: it is not stored, ``failure`` says why.

        A conflict means that somebody else wrote: nothing is answered, and the callers are
        looked at anew.
        """
        world = self._world
        write = Write(connection, self._revision, next(world.ids).bytes)
        in_doubt, pause_s = False, self._limits.debt_pause_s_min
        while True:
            try:
                self._is_stored_as(connection, await world.store.write(write))
            except WriteConflictError:
                self.stored = None
                return False
            except (StoreUnavailableError, OutcomeUnknownError) as error:
                world.journal.store_failed(connection.id, str(error))
                self.failure = database_error(str(error))
                in_doubt = in_doubt or isinstance(error, OutcomeUnknownError)
                if not in_doubt:
                    return False
                if self.gives_up or self.stopped:
                    self.stored = None
                    return False
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._limits.debt_pause_s_max)
            else:
                self.failure = None
                return True

    async def _write_at_last(
        self, make: Callable[[ProviderConnection], Step], *, adopts: bool = False
    ) -> Step | None:
        """Store an outcome, however long the store fails; None: it is void, or could not be kept.

        A conflict with a connection that still has our intent is decided anew on that.

        Args:
            make: The outcome on top of what is stored.
            adopts: Whether it is also good where somebody else has ended our intent for us:
                new tokens are, as long as the credentials are those that were presented.
        """
        world = self._world
        intent = self._connection.intent
        assert intent is not None
        step = make(self._connection)
        write = Write(step.connection, self._revision, next(world.ids).bytes)
        pause_s, until_s = self._limits.debt_pause_s_min, None
        while True:
            try:
                self._is_stored_as(step.connection, await world.store.write(write))
            except WriteConflictError:
                current = await self._reloaded()
            except (StoreUnavailableError, OutcomeUnknownError) as error:
                current = None
                world.journal.outcome_held(self._connection.id, str(error))
                if self.stopped and until_s is None:
                    until_s = anyio.current_time() + self._limits.last_outcome_s
                if self.gives_up or (until_s is not None and anyio.current_time() >= until_s):
                    world.journal.outcome_lost(self._connection.id)
                    self.stored, self.failure = None, database_error(str(error))
                    return None
            else:
                return step
            if current is None:
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._limits.debt_pause_s_max)
                continue
            base = rebased(current.connection, intent, adopts=adopts)
            if base is None:
                world.journal.outcome_superseded(self._connection.id)
                self.stored = current
                return None
            is_ours = current.connection == base
            self._is_stored_as(base, current.revision)
            # Whoever ended our intent has told how the attempt ended.
            step = make(base) if is_ours else make(base)._replace(events=())
            write = Write(step.connection, self._revision, next(world.ids).bytes)

    async def _reloaded(self) -> Stored | None:
        """Return what is stored, or None where it cannot be read now."""
        try:
            return await self._world.store.load(self._connection.id)
        except StoreUnavailableError:
            return None

    def _is_stored_as(self, connection: ProviderConnection, revision: int) -> None:
        """Know what is stored now."""
        self._connection, self._revision = connection, revision
        self.stored = Stored(connection, revision)
