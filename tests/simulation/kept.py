"""What JetStream keeps of every partition: the truth that all hosts reach for.

Every stream remembers its past: a replica that lags, and for a moment a former leader, answer as of
an earlier time. Nothing here waits or fails by chance; ``streams`` is the way here.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from runtime.ledger.marked_view import Marker
from runtime.ledger.partition_streams import Found, Outgoing, View
from runtime.ledger.subjects import MARKER_KEY, NO_TAG, record_key_subject
from tests.fakes.memory_streams import DUPLICATE_IN_BATCH, WRONG_SEQUENCE, refusal

_WINDOW_S = 0.1


class Appended(NamedTuple):
    """A group of a ledger, trimmed or not."""

    at_s: float
    data: bytes
    by: str
    """The process that sent it, which no stream knows."""


class KeptLedger:
    """One ledger's stream."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Be empty."""
        self._now_s = now_s
        self.appended: list[Appended] = []
        """All there ever was; the first has sequence 1."""
        self.first_seq = 1
        self._first_before = 1
        self._trimmed_s = -1.0

    @property
    def last_seq(self) -> int:
        """The last sequence."""
        return len(self.appended)

    def last_seq_at(self, at_s: float) -> int:
        """Return the last sequence as of a time."""
        return bisect_right(self.appended, at_s, key=lambda one: one.at_s)

    def append(self, data: bytes, expected_seq: int, by: str) -> int:
        """Append by compare-and-set on the last sequence."""
        if expected_seq != self.last_seq:
            raise refusal(WRONG_SEQUENCE)
        self.appended.append(Appended(self._now_s(), data, by))
        return self.last_seq

    def at(self, seq: int, last_seq: int) -> bytes | None:
        """Return a message as of when ``last_seq`` was the last."""
        is_kept = self.first_seq <= seq <= min(last_seq, self.last_seq)
        return self.appended[seq - 1].data if is_kept else None

    def trim(self, through_seq: int) -> None:
        """Remove messages."""
        after = min(through_seq, self.last_seq) + 1
        if after > self.first_seq:
            self._first_before, self._trimmed_s = self.first_seq, self._now_s()
            self.first_seq = after

    def crash(self, within_s: float) -> bool:
        """Have what the last trim removed back, where it is that fresh; say whether it is."""
        comes_back = self._trimmed_s > self._now_s() - within_s
        if comes_back:
            self.first_seq, self._trimmed_s = self._first_before, -1.0
        return comes_back


class _Version(NamedTuple):
    at_s: float
    seq: int
    data: bytes | None
    """None: purged."""


class KeptBucket:
    """One bucket's stream, with every state that its keys ever had."""

    def __init__(self, partition: int, now_s: Callable[[], float]) -> None:
        """Be empty."""
        self._now_s = now_s
        self._keys_begin = len(record_key_subject(partition, "", NO_TAG))
        self.last_seq = 0
        self._versions: dict[str, list[_Version]] = {}

    def found(self, key: str, at_s: float) -> Found | None:
        """Return a key's value as of a time."""
        versions = self._versions.get(key, [])
        number = bisect_right(versions, at_s, key=lambda one: one.at_s)
        last = versions[number - 1] if number else None
        return None if last is None or last.data is None else Found(last.seq, last.data)

    def all(self, at_s: float) -> dict[str, Found]:
        """Return everything as of a time."""
        found = ((key, self.found(key, at_s)) for key in self._versions)
        return {key: one for key, one in found if one is not None}

    def put(self, key: str, data: bytes) -> int:
        """Write one key."""
        self.last_seq += 1
        versions = self._versions.setdefault(key, [])
        versions.append(_Version(self._now_s(), self.last_seq, data))
        return self.last_seq

    def write(self, messages: Sequence[Outgoing], marker: bytes, expected_seq: int) -> int:
        """Write a batch by compare-and-set on the marker."""
        found = self.found(MARKER_KEY, self._now_s())
        if expected_seq != (0 if found is None else found.seq):
            raise refusal(WRONG_SEQUENCE)
        for message in messages:
            self.put(message.subject[self._keys_begin :], message.body)
        return self.put(MARKER_KEY, marker)

    def purge(self, prefix: str, through_seq: int) -> None:
        """Remove what is under a prefix and was written up to then."""
        now_s = self._now_s()
        for key, found in self.all(now_s).items():
            if key.startswith(prefix) and found.seq <= through_seq:
                self._versions[key].append(_Version(now_s, found.seq, None))


class Told(NamedTuple):
    """An event as the stream has it."""

    seq: int
    partition: int
    """Whose batch it was in, which the stream does not know."""
    message: Outgoing


class KeptEvents:
    """The event stream, which all partitions share."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Be empty."""
        self._now_s = now_s
        self.last_seq = 0
        self.told: list[Told] = []
        self._ids: dict[str, float] = {}
        self._markers: dict[int, list[_Version]] = {}

    def marker(self, partition: int, at_s: float) -> Found | None:
        """Return a partition's marker as of a time."""
        versions = self._markers.get(partition, [])
        number = bisect_right(versions, at_s, key=lambda one: one.at_s)
        last = versions[number - 1] if number else None
        return None if last is None or last.data is None else Found(last.seq, last.data)

    def write(
        self, partition: int, messages: Sequence[Outgoing], marker: bytes, expected_seq: int
    ) -> int:
        """Write a batch by compare-and-set on the partition's marker."""
        found = self.marker(partition, self._now_s())
        if expected_seq != (0 if found is None else found.seq):
            raise refusal(WRONG_SEQUENCE)
        ids = {message.header_lines.partition("\r\n")[0] for message in messages}
        now_s = self._now_s()
        # The shortest of windows: nothing may rely on it.
        if any(now_s - self._ids.get(one, float("-inf")) < _WINDOW_S for one in ids):
            raise refusal(DUPLICATE_IN_BATCH)
        self._ids |= dict.fromkeys(sorted(ids), now_s)
        for message in messages:
            self.last_seq += 1
            self.told.append(Told(self.last_seq, partition, message))
        self.last_seq += 1
        version = _Version(self._now_s(), self.last_seq, marker)
        self._markers.setdefault(partition, []).append(version)
        return self.last_seq


class Leader:
    """Who answers for one stream: nobody for a while, and then perhaps one who knows too little."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Be there, and up to date."""
        self._now_s = now_s
        self.absent_until_s = -1.0
        self._knows_until_s = 0.0
        self._stale_until_s = -1.0

    def change(self, *, absent_s: float, stale_s: float) -> None:
        """Change; for ``stale_s`` the former one goes on answering gets as of now."""
        self._knows_until_s = self._now_s()
        self.absent_until_s = self._knows_until_s + absent_s
        self._stale_until_s = self._knows_until_s + stale_s

    def come_back(self) -> None:
        """Be there from now on."""
        self.absent_until_s = -1.0

    @property
    def is_there(self) -> bool:
        """Whether anything can be written."""
        return self._now_s() >= self.absent_until_s

    @property
    def is_stale(self) -> bool:
        """Whether a former leader answers gets."""
        return self._now_s() < self._stale_until_s

    @property
    def as_of_s(self) -> float:
        """As of when a get is answered."""
        return self._knows_until_s if self.is_stale else self._now_s()


class KeptPartition:
    """All of one partition."""

    def __init__(self, partition: int, events: KeptEvents, now_s: Callable[[], float]) -> None:
        """Be empty."""
        self._now_s = now_s
        self.partition = partition
        self.ledger = KeptLedger(now_s)
        self.bucket = KeptBucket(partition, now_s)
        self.events = events
        self.leader = Leader(now_s)
        """The ledger's."""
        self.view_leaders = {View.RECORDS: Leader(now_s), View.EVENTS: Leader(now_s)}
        self.refusing: dict[View, float] = {View.RECORDS: -1.0, View.EVENTS: -1.0}
        """Until when a view takes nothing: its disk is full."""
        self.stuck_s: float | None = None
        """As of when the replica answers that has stopped following, while there is one."""

    @property
    def held_seq(self) -> int:
        """Up to which group both views hold everything, by their markers."""
        markers = [self.marker(view, self._now_s()) for view in View]
        return min(0 if one is None else marker_through(one.data) for one in markers)

    def marker(self, view: View, at_s: float) -> Found | None:
        """Return a view's marker as of a time."""
        if view is View.EVENTS:
            return self.events.marker(self.partition, at_s)
        return self.bucket.found(MARKER_KEY, at_s)

    def write(
        self, view: View, messages: Sequence[Outgoing], marker: bytes, expected_seq: int
    ) -> int:
        """Write a view's batch."""
        if view is View.EVENTS:
            return self.events.write(self.partition, messages, marker, expected_seq)
        return self.bucket.write(messages, marker, expected_seq)


def marker_through(data: bytes) -> int:
    """Return how far a marker says that its view is."""
    return msgspec.msgpack.decode(data, type=Marker).through


class Kept:
    """Everything that JetStream keeps."""

    def __init__(self, partitions: int, now_s: Callable[[], float]) -> None:
        """Make empty streams."""
        self.events = KeptEvents(now_s)
        self.partitions = [KeptPartition(one, self.events, now_s) for one in range(partitions)]
