"""The configured providers, as a reload replaces them while requests are under way."""

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from domain.profile import ProviderProfile
from runtime.provider.client_auth import ProviderSecrets
from runtime.provider.route import Route

_FORMER_MAX = 16


class Configured(NamedTuple):
    """One provider: what belongs together is looked up together."""

    profile: ProviderProfile
    secrets: ProviderSecrets
    route: Route


class Changes(NamedTuple):
    """What a reload has changed, by slug, sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    """A field, a secret or the way to it."""
    removed: tuple[str, ...]


class Profiles:
    """The configured providers and their secrets. Never shows a secret.

    A request that has begun with a profile that was replaced goes on with the secrets and the way
    of that profile, up to sixteen replacements later.
    """

    def __init__(self, providers: Mapping[str, Configured]) -> None:
        """Take all by slug."""
        self.providers = dict(providers)
        self._taken_at = dict.fromkeys(self.providers, datetime.now(UTC))
        self._former: deque[dict[str, Configured]] = deque(maxlen=_FORMER_MAX)

    def become(self, other: "Profiles") -> Changes:
        """Be what ``other`` is, for all who look here; return the differences."""
        before, after = self.providers, other.providers
        self._former.appendleft(before)
        self.providers = after
        both = before.keys() & after.keys()
        changes = Changes(
            added=tuple(sorted(after.keys() - before.keys())),
            changed=tuple(sorted(slug for slug in both if _differ(before[slug], after[slug]))),
            removed=tuple(sorted(before.keys() - after.keys())),
        )
        now = datetime.now(UTC)
        new = dict.fromkeys((*changes.added, *changes.changed), now)
        self._taken_at = {slug: new.get(slug) or self._taken_at.get(slug, now) for slug in after}
        return changes

    def taken_at(self, slug: str) -> datetime | None:
        """Return since when a provider is as it is, secrets and all: the start, or a reload."""
        return self._taken_at.get(slug)

    def get(self, slug: str) -> ProviderProfile | None:
        """Return a provider's profile, or None where there is none of that name."""
        found = self.providers.get(slug)
        return None if found is None else found.profile

    def secrets(self, profile: ProviderProfile) -> ProviderSecrets:
        """Return what the client proves itself with at a provider.

        Raises:
            LookupError: There is no such provider.
        """
        return self._of(profile).secrets

    def route(self, profile: ProviderProfile) -> Route:
        """Return the way to a provider.

        Raises:
            LookupError: There is no such provider.
        """
        return self._of(profile).route

    def _of(self, profile: ProviderProfile) -> Configured:
        """Return what belongs to a profile; of one that nobody remembers, what is newest."""
        for providers in (self.providers, *self._former):
            found = providers.get(profile.slug)
            if found is not None and found.profile == profile:
                return found
        return self.providers[profile.slug]

    def __iter__(self) -> Iterator[ProviderProfile]:
        """Go through the profiles by slug."""
        return iter(self.providers[slug].profile for slug in sorted(self.providers))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.providers)

    def __repr__(self) -> str:
        """Tell the slugs only."""
        return f"Profiles({', '.join(sorted(self.providers))})"


def _differ(one: Configured, other: Configured) -> bool:
    same = one.profile == other.profile and one.route == other.route
    return not same or _revealed(one.secrets) != _revealed(other.secrets)


def _revealed(secrets: ProviderSecrets) -> list[bytes]:
    key = secrets.private_key
    return [*(one.reveal() for one in secrets.client_secrets), b"" if key is None else key.reveal()]
