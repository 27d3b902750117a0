"""How far each provider's clock is from ours, by the ``Date`` of its answers (quirk 9)."""

from urllib.parse import urlsplit

from domain.exchange import Answered
from domain.expiry import SKEW_S_MIN, clock_offset_s
from runtime.logs import log

HOSTS_MAX = 1_000
"""Of how many hosts with another clock than ours the offset is kept; the oldest is forgotten."""


class ProviderClocks:
    """The offsets by profile and host: one tenant's clock says nothing of another's."""

    def __init__(self) -> None:
        """Start with clocks that agree."""
        self._offsets_s: dict[tuple[str, str | None], float] = {}
        self._told: dict[str, float] = {}

    def offset_s(self, slug: str, url: str) -> float:
        """Return how far the clock behind ``url`` is ahead of ours; 0: no difference is known."""
        return self._offsets_s.get((slug, urlsplit(url).hostname), 0.0)

    @property
    def far_s(self) -> dict[str, float]:
        """How far clocks are ahead of ours that differ by more than 30 s, by provider."""
        return {slug: round(ahead_s, 1) for slug, ahead_s in self._told.items()}

    def note(self, slug: str, url: str, answered: Answered) -> None:
        """Take an answer's ``Date``, if it has one."""
        if answered.date is None:
            return
        sent_at, received_at = answered.sent_at, answered.received_at or answered.sent_at
        offset_s = clock_offset_s(answered.date, sent_at=sent_at, received_at=received_at)
        key = (slug, urlsplit(url).hostname)
        self._offsets_s.pop(key, None)
        if offset_s:
            self._offsets_s[key] = offset_s
        if len(self._offsets_s) > HOSTS_MAX:
            del self._offsets_s[next(iter(self._offsets_s))]
        self._tell(slug, offset_s)

    def _tell(self, slug: str, offset_s: float) -> None:
        """Log an offset that matters: once, and again when it has changed as much."""
        if abs(offset_s) <= SKEW_S_MIN:
            self._told.pop(slug, None)
        elif abs(offset_s - self._told.get(slug, 0.0)) > SKEW_S_MIN:
            self._told[slug] = offset_s
            log.warning("clock_skew", provider_slug=slug, provider_ahead_s=round(offset_s, 1))
