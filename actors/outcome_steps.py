"""What a connection becomes by a provider's answer: tokens, or a failure by what is known of it."""

from collections.abc import Callable

from actors.pilot import Pilot
from actors.sealed import rotated
from actors.world import World
from domain.connection import ProviderConnection
from domain.credentials import Credentials
from domain.exchange import Tokens, Verdict
from domain.oauth_secret import OAuthSecret
from domain.profile import FailureClass, ProviderProfile
from domain.refreshing import (
    Step,
    failed,
    not_asked,
    succeeded,
    with_client_paused,
    with_client_resumed,
)
from domain.token_read import token_left_s
from domain.verdicts import client_changed, escalated, rotation_lost

MakeStep = Callable[[], Step]
"""To be called when the step is decided, on the newest state."""


class OutcomeSteps:
    """The steps that can end one flight's attempt."""

    def __init__(self, actor: Pilot, world: World) -> None:
        """Make steps for an actor's connection, which has credentials."""
        self._actor = actor
        self._world = world

    def succeeded(self, tokens: Tokens, secret: OAuthSecret, profile: ProviderProfile) -> MakeStep:
        """Return how to store what the provider gave."""
        world = self._world

        def step() -> Step:
            connection, now = self._connection(), world.clock.now()
            assert connection.credentials is not None
            payload = world.sealer.seal(
                secret.renewed(tokens),
                connection_id=connection.id,
                generation=connection.generation + 1,
            )
            credentials = Credentials(
                credential_type=connection.credentials.credential_type,
                payload=payload,
                expires_at=tokens.expires_at,
                issued_at=now,
                client_id=profile.client_id,
                notes=tokens.notes,
                scope=tokens.narrowed_scope,
            )
            return succeeded(connection, tokens, credentials, profile, now=now, ids=world.ids)

        return step

    def failed(self, verdict: Verdict, secret: OAuthSecret, profile: ProviderProfile) -> MakeStep:
        """Return how to store what a failure means, which may have brought a refresh token."""
        world, ids, draw = self._world, self._world.ids, self._world.providers.draw()
        if verdict.outcome_unknown:
            world.journal.outcome_unknown(profile.slug)

        def step() -> Step:
            before, now = self._connection(), world.clock.now()
            held = rotated(before, secret, verdict, world)
            return failed(before, verdict, profile, credentials=held, draw=draw, now=now, ids=ids)

        return step

    def not_asked(self, reason: str) -> MakeStep:
        """Return how to store that nothing was presented, and that for no fault of a provider's."""
        world = self._world
        return lambda: not_asked(self._connection(), reason, now=world.clock.now(), ids=world.ids)

    def pausing(self, make_step: MakeStep, verdict: Verdict) -> MakeStep:
        """Return how to store a failure by which its client was paused."""
        world = self._world
        return lambda: with_client_paused(make_step(), verdict, world.clock.now(), world.ids)

    def resuming(self, make_step: MakeStep) -> MakeStep:
        """Return how to store an outcome by which its client's pause was over."""
        world = self._world
        return lambda: with_client_resumed(make_step(), world.clock.now(), world.ids)

    def judged(self, verdict: Verdict, profile: ProviderProfile) -> Verdict:
        """Return what a failure means for this grant, by what is known of it."""
        before, now = self._connection(), self._world.clock.now()
        credentials = before.credentials
        assert credentials is not None
        if verdict.failure_class is FailureClass.USER:
            if credentials.client_id not in (None, profile.client_id):
                verdict = client_changed(verdict)
            elif before.doubted_at is not None:
                verdict = rotation_lost(verdict)
        has_expired = token_left_s(credentials, now) <= 0
        in_a_row = (before.trouble.ambiguous if before.trouble else 0) + 1
        return escalated(verdict, in_a_row, profile, access_token_expired=has_expired)

    def _connection(self) -> ProviderConnection:
        connection = self._actor.connection
        assert connection is not None
        return connection
