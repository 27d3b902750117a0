"""How the last refreshes at each provider went, as far as a partition has seen."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from domain.profile import FailureClass
from runtime.ledger.kinds import Counted, Kind

FAILING_TOLD_MAX = 20
_NEVER = datetime.min.replace(tzinfo=UTC)


class Failing(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of one provider whose last refresh failed, in one way."""

    provider_slug: str
    failure_class: FailureClass
    connections: int
    """Active ones."""
    code: str
    """Of the last of those failures, as what is below."""
    reason: str
    at: datetime
    connection_id: UUID


class LastOutcomes:
    """The last failure of each provider, by class, and its last success since this was made.

    As many are kept as there are names of providers.
    """

    def __init__(self) -> None:
        """Know of none."""
        self._failed: dict[tuple[str, FailureClass], Failing] = {}
        self._succeeded: dict[str, datetime] = {}

    def counted(self, connection: Counted, kind: Kind) -> None:
        """Know of a connection that is counted, or was changed."""
        trouble = connection.trouble
        if trouble is None or kind.failing is None:
            return
        before = self._failed.get((kind.provider, kind.failing))
        if before is None or before.at <= trouble.at:
            self._failed[kind.provider, kind.failing] = Failing(
                provider_slug=kind.provider,
                failure_class=kind.failing,
                connections=0,
                code=trouble.code,
                reason=trouble.reason,
                at=trouble.at,
                connection_id=connection.id,
            )

    def succeeded(self, name: str, at: datetime) -> None:
        """Know that an answer with new credentials was stored."""
        self._succeeded[name] = at

    def failing(self, kinds: Mapping[Kind, int]) -> list[Failing]:
        """Return who fails now, as ``failing_of`` has it.

        What the configuration is to blame for is told as long as a connection has it. Anything
        else may pass by itself, so it is told as long as nobody has succeeded after it.
        """
        counts: Counter[tuple[str, FailureClass]] = Counter()
        for kind, connections in kinds.items():
            if kind.failing is not None and kind.failing is not FailureClass.USER:
                counts[kind.provider, kind.failing] += connections
        return [
            msgspec.structs.replace(last, connections=connections)
            for (name, failure_class), connections in counts.items()
            if connections
            and (last := self._failed.get((name, failure_class))) is not None
            and (
                failure_class is FailureClass.OPERATOR
                or last.at > self._succeeded.get(name, _NEVER)
            )
        ]


def failing_of(all_failing: Iterable[Failing]) -> list[Failing]:
    """Return partitions' in one, each provider and class once: the most connections first.

    At most ``FAILING_TOLD_MAX`` are told.
    """
    found: dict[tuple[str, FailureClass], Failing] = {}
    for one in all_failing:
        key = (one.provider_slug, one.failure_class)
        known = found.get(key)
        connections = one.connections + (known.connections if known else 0)
        newest = one if known is None or known.at <= one.at else known
        found[key] = msgspec.structs.replace(newest, connections=connections)
    most = sorted(found.values(), key=lambda one: (-one.connections, one.provider_slug))
    return most[:FAILING_TOLD_MAX]
