"""What goes wrong at providers with the connections that are owned here."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from domain.profile import ProviderProfile
from runtime.ledger.kinds import Kind
from runtime.ledger.last_outcomes import Failing, failing_of
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.provider_names import OTHERS

WITHOUT_TOLD_MAX = 20

ProfileOf = Callable[[str], ProviderProfile | None]


def failing_here(ledgers: Iterable[PartitionLedger]) -> list[Failing]:
    """Return whose last refreshes failed, as far as they are counted; a bounded number."""
    counts = (ledger.statuses for ledger in ledgers)
    return failing_of(
        one for count in counts for one in count.outcomes.failing(count.by_kind or {})
    )


def without_profile(ledgers: Iterable[PartitionLedger], profile: ProfileOf) -> Counter[str] | None:
    """Return how many active connections could be refreshed but for a profile, by provider.

    Of what has no name of its own nothing is told. None: not all are counted yet.
    """
    found: Counter[str] = Counter()
    for ledger in ledgers:
        kinds: Mapping[Kind, int] | None = ledger.statuses.by_kind
        if kinds is None:
            return None
        for kind, connections in kinds.items():
            if kind.is_refreshable and kind.provider != OTHERS and profile(kind.provider) is None:
                found[kind.provider] += connections
    return +found


def most_of(counts: Counter[str] | None) -> dict[str, int] | None:
    """Return the largest of them, as many as a heartbeat holds."""
    return None if counts is None else dict(counts.most_common(WITHOUT_TOLD_MAX))
