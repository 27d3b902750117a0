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
from typing import NamedTuple

import anyio

from actors.client_gate import ClientGate, Closed
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
from domain.decision import DATABASE_ERROR
from domain.events import Event
from domain.exchange import ExchangeRequest, Tokens, Verdict
from domain.oauth_secret import OAuthSecret
from domain.profile import FailureClass, ProviderProfile
from domain.refreshing import Step, attempt_s_max, begun, died, failed, left_open, succeeded
from domain.result import Failure, FailureCode
from domain.token_read import failure_of, misconfigured
from domain.verdicts import client_changed, escalated, judge, rotation_lost

Publish = Callable[[Sequence[Event]], Awaitable[None]]


class Wish(NamedTuple):
    """What a flight is for: to present a token, or to store that the grant is over."""

    secret: OAuthSecret | None
    dead: Verdict | None


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
        self.gives_up = False
        """Set when the daemon ends now, whatever is still held."""
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
                await self._ask_in_turn(wish.secret)
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

    async def _ask_in_turn(self, secret: OAuthSecret) -> None:
        """Wait for one of the client's slots, and ask; or say why the client must wait."""
        gate = self._world.providers.gates.of(self._profile)
        closed = gate.closed()
        if closed is None:
            async with gate.slot() as closed:
                if closed is None:
                    with anyio.CancelScope(shield=True):
                        await self._attempt(gate, secret)
                    return
        self.failure = _while_closed(closed)

    async def _attempt(self, gate: ClientGate, secret: OAuthSecret) -> None:
        """Intent, request, outcome."""
        world = self._world
        step = begun(
            self._connection,
            self._profile,
            attempt_id=next(world.ids),
            owner=world.providers.owner,
            now=world.clock.now(),
        )
        if not await self._write(step.connection):
            return
        self.is_stored = True
        await self._publish(step.events)
        outcome = await self._present(gate, secret)
        if isinstance(outcome, Tokens):
            gate.succeeded()
            await self._keep(outcome, secret)
        else:
            await self._note(outcome, gate)

    async def _present(self, gate: ClientGate, secret: OAuthSecret) -> Tokens | Verdict:
        """Ask, and once more where that is safe: the client was refused, so no token was spent."""
        profile = self._profile
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
                    secret_index=gate.secret_index % secrets,
                    with_scope=with_scope,
                )
            )
            sent_scope = with_scope and profile.scope is not None
            outcome = judge(profile, exchange, sent_scope=sent_scope)
            if isinstance(outcome, Tokens):
                return outcome
            if outcome.tries_next_secret and secrets_tried < secrets:
                secrets_tried += 1
                gate.secret_index = (gate.secret_index + 1) % secrets
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

        step = await self._write_at_last(make)
        if step is not None:
            self.is_fresh = True
            await self._publish(step.events)

    async def _note(self, verdict: Verdict, gate: ClientGate) -> None:
        """Store what the failure means, and tell the client's gate."""
        world, profile, before = self._world, self._profile, self._connection
        now = world.clock.now()
        credentials = before.credentials
        assert credentials is not None
        if verdict.failure_class is FailureClass.USER:
            if credentials.client_id not in (None, profile.client_id):
                verdict = client_changed(verdict)
            elif before.doubted_at is not None:
                verdict = rotation_lost(verdict)
        has_expired = credentials.expires_at is not None and credentials.expires_at <= now
        in_a_row = (before.trouble.ambiguous if before.trouble else 0) + 1
        verdict = escalated(verdict, in_a_row, profile, access_token_expired=has_expired)
        if gate.failed(verdict):
            world.journal.client_paused(profile.slug, verdict.code, verdict.reason)
        draw = world.providers.draw()

        def make(connection: ProviderConnection) -> Step:
            return failed(connection, verdict, profile, draw=draw, now=now, ids=world.ids)

        step = await self._write_at_last(make)
        if step is not None:
            await self._publish(step.events)
            closed = gate.closed()
            self.failure = (
                _while_closed(closed)
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
                if self.gives_up:
                    self.stored = None
                    return False
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._limits.debt_pause_s_max)
            else:
                self.failure = None
                return True

    async def _write_at_last(self, make: Callable[[ProviderConnection], Step]) -> Step | None:
        """Store an outcome, however long the store fails; None: somebody else's write is on top.

        A conflict with a connection that still has our intent is decided anew on that.
        """
        world = self._world
        intent = self._connection.intent
        assert intent is not None
        step = make(self._connection)
        write = Write(step.connection, self._revision, next(world.ids).bytes)
        pause_s = self._limits.debt_pause_s_min
        while True:
            try:
                self._is_stored_as(step.connection, await world.store.write(write))
            except WriteConflictError:
                pass
            except (StoreUnavailableError, OutcomeUnknownError) as error:
                world.journal.outcome_held(self._connection.id, str(error))
                if self.gives_up:
                    world.journal.outcome_lost(self._connection.id)
                    self.stored, self.failure = None, database_error(str(error))
                    return None
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, self._limits.debt_pause_s_max)
                continue
            else:
                return step
            try:
                current = await world.store.load(self._connection.id)
            except StoreUnavailableError:
                # The same write again: it conflicts again, and is read again.
                await anyio.sleep(pause_s)
                continue
            connection = current.connection
            if connection is None or connection.intent != intent:
                world.journal.outcome_superseded(self._connection.id)
                self.stored = current
                return None
            self._is_stored_as(connection, current.revision)
            step = make(connection)
            write = Write(step.connection, self._revision, next(world.ids).bytes)

    def _is_stored_as(self, connection: ProviderConnection, revision: int) -> None:
        """Know what is stored now."""
        self._connection, self._revision = connection, revision
        self.stored = Stored(connection, revision)


def _while_closed(closed: Closed) -> Failure:
    """Return the answer while the client must not ask."""
    left_s = round(closed.left_s, 1)
    if closed.failure_class is FailureClass.OPERATOR:
        return misconfigured(closed.reason, left_s)
    return Failure(
        code=FailureCode.PROVIDER_UNAVAILABLE,
        message=closed.reason,
        needs_user_action=False,
        retry_after_s=max(left_s, 0.1),
    )


def database_error(cause: str) -> Failure:
    """Return the answer to a caller whose token could not be read or stored."""
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message=f"{DATABASE_ERROR}: {cause}",
        needs_user_action=False,
        retry_after_s=1.0,
    )
