"""Reads all that is stored out of the buckets, with the secrets in the clear.

The buckets follow the ledgers. So a partition is read when its bucket holds what its ledger held
at the beginning: whatever was acknowledged before is there. A record that is written meanwhile
moves to the bucket's end, so none is left out, and some come twice.
"""

from collections import Counter
from collections.abc import AsyncGenerator

import anyio
import msgspec

from domain.credentials import Opaque, Sealed
from domain.record import RecordError, decode_record
from runtime.backup.archive import Kept
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.marked_view import MarkedView, MarkerError
from runtime.ledger.partition_streams import View
from runtime.ledger.sealing import Keyring, UnsealError
from runtime.ledger.streams import StreamsError, partitions_stored, state_tag
from runtime.ledger.subjects import bucket_stream, is_record_key, record_key_subject
from runtime.nats.direct_get import next_messages
from runtime.nats.link import NatsLink

_ANSWER_S = 10.0
_PAUSE_S = 0.1
_PAUSE_BEHIND_S = 0.05
_MESSAGES_MAX = 500
_SCAN_BYTES_MAX = 4 * 1024 * 1024
IN_SECRET = Opaque(data=b"")
"""The payload of what is in the clear beside it."""


class StoredState:
    """All that one prefix has stored."""

    def __init__(self, link: NatsLink, prefix: str, keyring: Keyring, *, patience_s: float) -> None:
        """Read nothing yet.

        Args:
            link: Of a user that may do what the daemon may.
            prefix: Of the commands' subjects.
            keyring: What the secrets are sealed with.
            patience_s: How long a bucket may take to hold what its ledger does.
        """
        self._link = link
        self._prefix = prefix
        self._keyring = keyring
        self._patience_s = patience_s
        self.unreadable = 0
        """Records that nobody can read; they are left out."""
        self.unopened: Counter[str] = Counter()
        """Connections whose secret does not open, by the key that sealed it; they stay sealed."""

    async def connections(self) -> AsyncGenerator[Kept]:
        """Yield every connection; one that is written meanwhile perhaps twice, the later one last.

        Raises:
            StreamsError: Nothing is stored, or a bucket stays behind its ledger.
            LinkError, JetStreamError: It cannot be read.
        """
        tag = await state_tag(self._link, self._prefix)
        partitions = await partitions_stored(self._link, tag)
        if partitions is None:
            raise StreamsError(f"nothing is stored for {self._prefix}")
        for partition in range(partitions):
            marker_seq = await self._caught_up(partition, tag)
            start_seq = 1
            while True:
                found = await next_messages(
                    self._link,
                    bucket_stream(partition, tag),
                    start_seq=start_seq,
                    messages_max=_MESSAGES_MAX,
                    bytes_max=_SCAN_BYTES_MAX,
                    timeout_s=_ANSWER_S,
                )
                for message in found:
                    start_seq = message.seq + 1
                    if message.data and _is_record(message.subject, partition, tag):
                        kept = self._kept(message.data)
                        if kept is not None:
                            yield kept
                if not found:
                    if start_seq > marker_seq:
                        break
                    # A replica that lags behind; another one may not.
                    await anyio.sleep(_PAUSE_BEHIND_S)

    async def _caught_up(self, partition: int, tag: str) -> int:
        """Return the sequence of a bucket's marker when the bucket holds what the ledger does."""
        streams = JetStreamPartition(self._link, partition, tag=tag, answer_timeout_s=_ANSWER_S)
        _, last_seq = await streams.bounds()
        mark = MarkedView(streams, View.RECORDS)
        until_s = anyio.current_time() + self._patience_s
        while True:
            try:
                await mark.load()
            except MarkerError as error:
                raise StreamsError(f"partition {partition}: {error}") from None
            if mark.through >= last_seq:
                return mark.seq
            if anyio.current_time() > until_s:
                raise StreamsError(
                    f"partition {partition}: its bucket holds {mark.through} of {last_seq} of its "
                    "ledger: only a running daemon brings it on"
                )
            await anyio.sleep(_PAUSE_S)

    def _kept(self, data: bytes) -> Kept | None:
        """Return a record with its secret in the clear, as far as it opens."""
        try:
            record = decode_record(data)
        except RecordError:
            self.unreadable += 1
            return None
        connection = record.connection
        credentials = connection.credentials
        if credentials is None or not isinstance(credentials.payload, Sealed):
            return Kept(record=record)
        try:
            secret = self._keyring.unseal(
                credentials.payload, connection_id=connection.id, generation=connection.generation
            )
        except UnsealError:
            self.unopened[credentials.payload.key_id] += 1
            return Kept(record=record)
        bare = msgspec.structs.replace(credentials, payload=IN_SECRET)
        connection = msgspec.structs.replace(connection, credentials=bare)
        return Kept(
            record=msgspec.structs.replace(record, connection=connection), secret=secret.reveal()
        )


def _is_record(subject: str, partition: int, tag: str) -> bool:
    """Whether a key of a bucket is a connection's id."""
    key = subject.removeprefix(record_key_subject(partition, "", tag))
    return is_record_key(key)
