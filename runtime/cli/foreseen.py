"""What a dry run tells beside its rejects: the lines' providers, and what connect warns of."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from domain.profile import ProviderProfile
from runtime.cli.import_line import Planned
from runtime.cli.line_notes import LineNotes
from runtime.gateway.connect_warnings import with_warnings
from runtime.provider.profiles import configured_profile, shipped_profile

_SLUGS_MAX = 100


class _Slug(NamedTuple):
    lines: int
    has_profile: bool | None
    """None: no provider is configured here, so it is not known."""


class Foreseen:
    """Looks at lines as the daemon will that has the configuration which is read here."""

    def __init__(self, sections: Mapping[str, Mapping[str, Any]], warnings: LineNotes) -> None:
        """Know the profiles of ``[providers]``; secret files are not read.

        Args:
            sections: Empty where the daemon's are not known.
            warnings: Where to note what connect would warn of.

        Raises:
            ProfileError: A section is wrong.
        """
        self._profiles = {slug: configured_profile(slug, of) for slug, of in sections.items()}
        self._warnings = warnings
        self._slugs: dict[str, _Slug] = {}
        self._lines_of_others = 0

    def look(self, planned: Planned) -> None:
        """Note a line that would be sent."""
        slug = planned.command.provider_slug
        self._count(slug)
        profile_of = self._profiles.get if self._profiles else _likely_profile
        for warning in with_warnings(planned.command, profile_of).warnings:
            self._warnings.note(warning, planned.number)

    def told(self) -> dict[str, Any]:
        """Return of each provider how many lines name it, and whether it has a profile."""
        by_count = sorted(self._slugs.items(), key=lambda one: (-one[1].lines, one[0]))
        told: dict[str, Any] = {"provider_slugs": {slug: of._asdict() for slug, of in by_count}}
        if self._lines_of_others:
            told["lines_of_other_slugs"] = self._lines_of_others
        return told

    def _count(self, slug: str) -> None:
        found = self._slugs.get(slug)
        if found is None and len(self._slugs) >= _SLUGS_MAX:
            self._lines_of_others += 1
            return
        has_profile = slug in self._profiles if self._profiles else None
        self._slugs[slug] = _Slug(1 if found is None else found.lines + 1, has_profile)


def in_words(provider_slugs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the slugs that are told as a text for people."""
    return ", ".join(
        f"{slug} {of['lines']}{' (no profile)' if of['has_profile'] is False else ''}"
        for slug, of in provider_slugs.items()
    )


@lru_cache(maxsize=_SLUGS_MAX)
def _likely_profile(slug: str) -> ProviderProfile:
    try:
        return shipped_profile(slug)
    except LookupError:
        return ProviderProfile(slug=slug)
