"""Secrets in commands are sealed before anything else happens with them."""

import msgspec

from actors.world import World
from domain.commands import Command, Connect, Refresh
from domain.connection import ProviderConnection
from domain.credentials import Unsealed

_WITH_CREDENTIALS = (Connect, Refresh)


def sealed(command: Command, connection: ProviderConnection | None, world: World) -> Command:
    """Return ``command`` with its plaintext sealed for the generation it would become.

    The client that the grant belongs to is noted with it, as far as a profile tells.
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
    client_id = None if profile is None else profile.client_id
    return msgspec.structs.replace(
        command, credentials=credentials.sealed_as(payload, client_id=client_id)
    )
