"""A view's place: batches that end with its marker, each written by compare-and-set on it.

The marker says "complete through ledger sequence s". It is in the same batch as what it speaks
of, so after any crash a view goes on exactly where it stopped, and a daemon that was replaced can
write nothing: its marker is not the last one any more.
"""

from collections.abc import Sequence

import msgspec

from runtime.ledger.groups import Owner
from runtime.ledger.partition_streams import Found, Outgoing, PartitionStreams, View
from runtime.logs import log
from runtime.nats.jetstream_api import DUPLICATE_IN_BATCH, JetStreamError

SCHEMA_VERSION = 1


class MarkerError(Exception):
    """A marker is not one that this version can trust."""


class NewerMarkerError(MarkerError):
    """A marker is of a later version's."""


class ReplacedError(Exception):
    """A later owner has moved the marker on: only the ledger can tell what that means."""


class DuePlace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the due index is looked through, which is no more than a place to begin at."""

    minute: int = 0
    """Nothing is left of this minute, nor of any before it; 0: not known."""
    policy: str = ""
    """By which policy the records up to ``scanned_seq`` are indexed."""
    scanned_seq: int = 0
    """Of the bucket; what lies behind it was written by that policy or a later one."""
    scan_end_seq: int = 0
    """Where the scan ends."""


class Marker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a marker says."""

    v: int
    through: int
    """Everything up to and with this sequence of the ledger is in the view."""
    claim: bytes
    """Who wrote it."""
    claim_seq: int = 0
    """Where the writer's claim is; 0: it does not say. It never goes back: who has claimed earlier
    writes over no later one's marker."""
    daemon: str = ""
    """The writer's id."""
    due: DuePlace = DuePlace()
    """The records view's alone."""


class _Version(msgspec.Struct):
    v: int


_decoder = msgspec.msgpack.Decoder(Marker)
_version_decoder = msgspec.msgpack.Decoder(_Version)


class MarkedView:
    """Where one view of one partition stands."""

    def __init__(self, streams: PartitionStreams, view: View) -> None:
        """Know nothing yet; ``load`` reads."""
        self._streams = streams
        self.view = view
        self.seq = 0
        """The greatest sequence known to be a marker's own: what a read is held against. It never
        goes back, for a former leader that was paused answers as of then."""
        self._expected_seq = 0
        """What the next batch expects the marker's own sequence to be."""
        self.through = 0
        """Up to which ledger sequence the view is complete."""
        self.is_marked = False
        """Whether a marker was found."""
        self.written_by = ""
        """The id of the daemon that wrote it."""
        self.due = DuePlace()
        """What the next marker says of the due index."""
        self._owner: Owner | None = None
        self._claim_seq = 0

    async def load(self) -> None:
        """Read the marker.

        Raises:
            LinkError, JetStreamError: It cannot be read.
            MarkerError: It is of a newer version, or none of ours.
        """
        found = await self._streams.marker(self.view)
        self._adopt(found)
        if found is not None and found.data:
            self.due = _decoded(found).due

    def claimed(self, owner: Owner, claim_seq: int) -> None:
        """Write for ``owner`` from now on, whose claim is at ``claim_seq`` of the ledger."""
        self._owner, self._claim_seq = owner, claim_seq

    def forget_scan(self) -> None:
        """Say that records may lack an entry of the due index, whoever has looked for them."""
        self.due = DuePlace(minute=self.due.minute)

    def decide_by(self, policy: str) -> None:
        """Say nothing of what another policy has indexed: records are decided by this one now."""
        if self.due.policy != policy:
            self.forget_scan()

    async def write(self, messages: Sequence[Outgoing], through: int) -> bool:
        """Write messages and the marker behind them, or nothing.

        Returns:
            Whether it was written. If not, an earlier batch, ours or the former owner's, has
            moved the marker meanwhile: ``through`` says how far, which is progress.

        Raises:
            LinkError, JetStreamError: Not written, or not known; call again.
            ReplacedError: A later owner writes the view.
        """
        assert through >= self.through
        try:
            await self._put(messages, through)
        except JetStreamError as error:
            if not error.is_refused:
                raise
            seq_before = self._expected_seq
            await self._reload()
            if self._expected_seq != seq_before:
                return False
            if error.err_code != DUPLICATE_IN_BATCH:
                raise
            # The marker was lost, and with it how far the view was: the stream still knows some of
            # these events, so each goes by itself, and the marker alone.
            for message in messages:
                await self._put_unless_known(message)
            return await self.write((), through)
        return True

    async def _put(self, messages: Sequence[Outgoing], through: int) -> None:
        """Write one batch with its marker.

        Raises:
            LinkError, JetStreamError: Not written, or not known.
        """
        assert self._owner is not None
        says = Marker(
            v=SCHEMA_VERSION,
            through=through,
            claim=self._owner.claim,
            claim_seq=self._claim_seq,
            daemon=self._owner.daemon,
            due=self.due,
        )
        marker = msgspec.msgpack.encode(says)
        self._expected_seq = await self._streams.write(
            self.view, messages, marker, expected_seq=self._expected_seq
        )
        self.seq = max(self.seq, self._expected_seq)
        self.through = through

    async def _put_unless_known(self, message: Outgoing) -> None:
        """Write one event, and a marker that says no more than the last one.

        In a batch as always: an event that asked for an acknowledgement by itself would show its
        subscribers our inbox.
        """
        try:
            await self._put((message,), self.through)
        except JetStreamError as error:
            if error.err_code != DUPLICATE_IN_BATCH:
                raise

    async def _reload(self) -> None:
        """Read the marker again after a refusal."""
        assert self._owner is not None
        found = await self._streams.marker(self.view)
        try:
            marker = None if found is None or not found.data else _decoded(found)
        except NewerMarkerError as error:
            raise ReplacedError(str(error)) from None
        except MarkerError:
            # Somebody has written over it by hand; how far the view is we know ourselves.
            marker = None
        if marker is None:
            self._expected_seq, self.is_marked = 0 if found is None else found.seq, False
            log.error("marker_lost", view=self.view)
            return
        assert found is not None
        is_later = max(marker.claim_seq, marker.through) > self._claim_seq
        if marker.claim != self._owner.claim and is_later:
            raise ReplacedError(f"the {self.view} view has a later owner")
        self._adopt(found)

    def _adopt(self, found: Found | None) -> None:
        """Take over what the stream says. A marker that aged out takes nothing back."""
        if found is None or not found.data:
            # One without data is what is left where an operator deleted it.
            self._expected_seq, self.is_marked = 0 if found is None else found.seq, False
            return
        self._expected_seq, self.is_marked = found.seq, True
        self.seq = max(self.seq, found.seq)
        marker = _decoded(found)
        self.through, self.written_by = max(self.through, marker.through), marker.daemon


def _decoded(found: Found) -> Marker:
    try:
        version = _version_decoder.decode(found.data).v
        if version > SCHEMA_VERSION:
            raise NewerMarkerError(f"a view's marker has schema {version}")
        return _decoder.decode(found.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MarkerError("a view's marker is not one of ours") from None
