"""What the caller of a connect is told beside its answer."""

from collections.abc import Callable

import msgspec

from domain.commands import Connect
from domain.credentials import Unsealed
from domain.oauth_secret import cannot_last
from domain.profile import ProviderProfile


def with_warnings(command: Connect, profile_of: Callable[[str], ProviderProfile | None]) -> Connect:
    """Return a connect that tells its caller what will not work later.

    In the same words for all of a provider's connections: an import shows each text once.

    Args:
        command: As it was read.
        profile_of: Gives a provider's profile, where one is configured.
    """
    credentials = command.credentials
    if not isinstance(credentials, Unsealed) or not credentials.credential_type.is_refreshable:
        return command
    slug = command.provider_slug
    profile = profile_of(slug)
    if profile is None:
        text = f"no profile is configured for provider {slug}: its tokens will not be refreshed"
    elif cannot_last(credentials, profile):
        text = (
            f"the secret has no {profile.presents}, so it ends and cannot be refreshed: ask {slug} "
            "for offline access, and let the user sign in once more"
        )
    else:
        return command
    return msgspec.structs.replace(command, warnings=(*command.warnings, text))
