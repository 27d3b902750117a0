"""What the caller of a connect is told beside its answer."""

from collections.abc import Callable

import msgspec

from domain.commands import Connect
from domain.credentials import Unsealed


def with_warnings(command: Connect, has_profile: Callable[[str], bool]) -> Connect:
    """Return a connect that tells its caller what will not work later.

    Args:
        command: As it was read.
        has_profile: Whether a provider of that slug is configured.
    """
    credentials, slug = command.credentials, command.provider_slug
    is_refreshable = (
        isinstance(credentials, Unsealed) and credentials.credential_type.is_refreshable
    )
    if not is_refreshable or has_profile(slug):
        return command
    text = f"no profile is configured for provider {slug}: its tokens will not be refreshed"
    return msgspec.structs.replace(command, warnings=(*command.warnings, text))
