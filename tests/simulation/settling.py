"""Whether everything is in order again: every partition owned, every debt paid."""

from collections.abc import Iterator

from domain.record import Record, decode_record
from runtime.ledger.partition_streams import View
from runtime.ledger.subjects import is_record_key
from tests.simulation.callers import Callers
from tests.simulation.daemon import Daemon
from tests.simulation.kept import marker_through
from tests.simulation.town import Town

_LATE_S = 20.0
"""How late a look may be, which the hosts' clocks are not at one about."""


def debts(town: Town, callers: Callers, daemons: list[Daemon]) -> Iterator[str]:
    """Yield what is not in order yet."""
    living = [one for one in daemons if one.life.is_alive]
    if callers.open:
        yield f"{callers.open} commands are under way"
    if len(living) < len(town.hosts) or any(not one.is_serving for one in living):
        yield "a daemon is not there"
    if any(not one.link.is_connected for one in living):
        yield "a daemon is not connected"
    owned = [partition for one in living for partition in one.holdings.owned]
    if sorted(owned) != [*range(len(town.kept.partitions))]:
        yield f"owned is {sorted(owned)} of {len(town.kept.partitions)} partitions"
    share, rest = divmod(len(town.kept.partitions), max(len(living), 1))
    if any(len(one.holdings.owned) > share + (rest > 0) for one in living):
        yield "partitions are not balanced"
    for one in living:
        folder = one.life.host.folder / "outcomes"
        left = [file.name for file in folder.iterdir() if "." in file.name]
        if any(not name.endswith(".aside") for name in left):
            yield f"{one.life.name} still holds outcomes: {left}"
    yield from _kept_debts(town)


def _kept_debts(town: Town) -> Iterator[str]:
    now = town.world.time_of(town.world.now_s() - _LATE_S)
    for kept in town.kept.partitions:
        where, last_seq = f"partition {kept.partition}", kept.ledger.last_seq
        for view in View:
            marker = kept.marker(view, float("inf"))
            through = 0 if marker is None else marker_through(marker.data)
            if through < last_seq:
                yield f"{where}: its {view} view is at {through}, its ledger at {last_seq}"
        if kept.ledger.first_seq <= last_seq:
            yield f"{where}: its ledger is not trimmed: {kept.ledger.first_seq} to {last_seq}"
    for record in records(town):
        if not town.clocks_were_set and record.next_due is not None and record.next_due < now:
            yield f"{record.connection.id.int & 0xFF} should have been looked at"


def records(town: Town) -> Iterator[Record]:
    """Yield what the buckets hold of each connection."""
    for kept in town.kept.partitions:
        for key, found in kept.bucket.all(float("inf")).items():
            if is_record_key(key):
                yield decode_record(found.data)
