"""By which names providers are counted: a bounded number of them, and one for all others."""

from collections.abc import Iterable, Iterator

OTHERS = "other"
NAMES_MAX = 200


class ProviderNames:
    """Slugs as they are counted; whoever connects names a slug, so their number has no bound.

    A slug keeps its name for as long as the process lives.
    """

    def __init__(self, *, names_max: int = NAMES_MAX) -> None:
        """Know none yet."""
        self._names_max = names_max
        self._names: dict[str, str] = {}

    def admit(self, slugs: Iterable[str]) -> None:
        """Have these counted by their own names, as far as there is room."""
        for slug in slugs:
            self.of(slug)

    def __iter__(self) -> Iterator[str]:
        """Go through the names that slugs have of their own."""
        return iter(self._names)

    def of(self, slug: str) -> str:
        """Return the name by which a slug is counted: its own, or ``other``."""
        name = self._names.get(slug)
        if name is not None:
            return name
        if len(self._names) >= self._names_max:
            return OTHERS
        self._names[slug] = slug
        return slug
