"""Secrets are sealed before anything else happens with them."""

import msgspec

from actors.world import World
from domain.commands import Command, Connect, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Credentials, Unsealed
from domain.exchange import Verdict
from domain.grant_life import NO_REFRESH_TOKEN_NOTE
from domain.oauth_secret import OAuthSecret, cannot_last

_WITH_CREDENTIALS = (Connect, Refresh)


def sealed(command: Command, connection: ProviderConnection | None, world: World) -> Command:
    """Return ``command`` with its plaintext sealed for the generation it would become.

    The client that the grant belongs to is noted with it, as far as a profile tells, and so is
    (``no_refresh_token``) that it will end and cannot be refreshed.
    """
    if not isinstance(command, _WITH_CREDENTIALS):
        return command
    credentials = command.credentials
    if not isinstance(credentials, Unsealed):
        return command
    generation = 1 if connection is None else connection.generation + 1
    payload = world.sealer.seal(
        credentials.secret, connection_id=command.connection_id, generation=generation
    )
    slug = command.provider_slug if isinstance(command, Connect) else None
    slug = connection.provider_slug if connection is not None else slug
    profile = None if slug is None else world.providers.profile(slug)
    if profile is None:
        return msgspec.structs.replace(command, credentials=credentials.sealed_as(payload))
    notes = (NO_REFRESH_TOKEN_NOTE,) if cannot_last(credentials, profile) else ()
    return msgspec.structs.replace(
        command,
        credentials=credentials.sealed_as(payload, client_id=profile.client_id, notes=notes),
    )


def rotated(
    connection: ProviderConnection, secret: OAuthSecret, verdict: Verdict, world: World
) -> Credentials | None:
    """Return the present credentials with the new refresh token of a failed refresh, if any."""
    if verdict.refresh_token is None:
        return None
    assert connection.credentials is not None
    payload = world.sealer.seal(
        secret.rotated(verdict.refresh_token),
        connection_id=connection.id,
        generation=connection.generation,
    )
    client_id = world.providers.of(connection).client_id
    return msgspec.structs.replace(connection.credentials, payload=payload, client_id=client_id)
