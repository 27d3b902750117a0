"""What the fake provider has counted since it was started or reset. Holds no token."""

import msgspec

_CODES_MAX = 100


class Stats(msgspec.Struct):
    """Counters; ``GET /stats`` shows them."""

    calls: int = 0
    """Token requests, whatever became of them."""
    successes: int = 0
    """Refreshes that were done, whether or not the answer arrived."""
    refusals: dict[str, int] = {}
    """How often each error code was the true outcome."""
    reuses_detected: int = 0
    """Presentations of a spent refresh token, outside of any grace."""
    grace_answers: int = 0
    """Presentations of a spent refresh token within its grace."""
    families_revoked: int = 0
    """Grants that ended because of a reuse."""
    double_presentations: int = 0
    """Presentations of a refresh token that was presented before, processed or not."""
    concurrent_presentations: int = 0
    """Those of them that came while another was still being answered."""
    unknown_tokens: int = 0
    overridden: int = 0
    """Answers that were not the true ones."""
    dropped_requests: int = 0
    lost_answers: int = 0
    half_answers: int = 0
    redirects_followed: int = 0
    in_flight: int = 0
    concurrency_max: int = 0
    hanging: int = 0

    def clear(self) -> None:
        """Start anew; requests that are under way stay counted as such."""
        fresh = Stats(in_flight=self.in_flight, hanging=self.hanging)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(fresh, name))

    def refused(self, code: str) -> None:
        """Count a refusal; beyond a hundred codes they share one line."""
        if code not in self.refusals and len(self.refusals) >= _CODES_MAX:
            code = "other"
        self.refusals[code] = self.refusals.get(code, 0) + 1

    def arrived(self) -> None:
        """Count a token request that has begun."""
        self.calls += 1
        self.in_flight += 1
        self.concurrency_max = max(self.concurrency_max, self.in_flight)
