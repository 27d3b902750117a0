"""The one writer of a partition's ledger: what an append's answer means is decided here.

==========================================  =======================================================
an acknowledgement                          stored
10071, wrong last sequence                  the message at the expected sequence tells: ours, it is
                                            stored; another's, the partition is lost; none, where
                                            the ledger ends before it: not known, for a leader that
                                            was paused and replaced answers as of then
10164, another write in flight              not stored; a pause, and the same bytes again
not sent, no responders, any other error,   not known; the same bytes again until one of the above
time-out, connection lost, odd answer
==========================================  =======================================================

No clock, no lease and no read is trusted: who has not read everything can write nothing.
"""

import random

import anyio

from actors.ports import PartitionLostError
from runtime.ledger.partition_streams import PartitionStreams
from runtime.logs import log
from runtime.nats.errors import LinkError, TooLargeError
from runtime.nats.jetstream_api import WRONG_LAST_SEQUENCE, JetStreamError

_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 0.5
_TOLD_AFTER_S = 1.0
_SHORT_MAX = 30
"""How often in a row a ledger may end before what was read of it: 15 s, longer than an election."""


class LogWriter:
    """Appends one message after another, each behind the last that is known."""

    def __init__(self, streams: PartitionStreams, *, partition: int, last_seq: int) -> None:
        """Write behind ``last_seq``, which was read."""
        self._streams = streams
        self._partition = partition
        self.last_seq = last_seq
        """The last sequence that is known: everything up to it was read or acknowledged."""
        self.tries = 0
        """How many copies of appends were sent."""
        self.trouble = ""
        """Why the append under way is not known to be stored; empty where none is."""
        self._short = 0
        """How often in a row the ledger was said to end before what is known of it."""

    async def append(self, data: bytes) -> int:
        """Return the sequence at which ``data`` is stored, when it is certain.

        Raises:
            PartitionLostError: Another's message is there.
        """
        pause_s, began_s, is_told = _PAUSE_S_MIN, anyio.current_time(), False
        while True:
            self.tries += 1
            try:
                seq = await self._streams.append(data, expected_seq=self.last_seq)
                if seq == self.last_seq + 1:
                    break
                cause = f"an append was acknowledged at {seq}"
            except JetStreamError as error:
                cause = str(error)
                if error.err_code == WRONG_LAST_SEQUENCE and await self._is_ours(data):
                    break
            except TooLargeError:
                # It can never be stored. Groups are bounded far below what the server takes.
                raise
            except LinkError as error:
                cause = str(error)
            self.trouble = cause
            if not is_told and anyio.current_time() - began_s > _TOLD_AFTER_S:
                is_told = True
                log.error("append_unclear", partition=self._partition, cause=cause)
            await anyio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)
        if is_told:
            took_s = round(anyio.current_time() - began_s, 1)
            log.warning("append_settled", partition=self._partition, took_s=took_s)
        self.trouble, self._short = "", 0
        self.last_seq += 1
        return self.last_seq

    async def _is_ours(self, data: bytes) -> bool:
        """After "wrong last sequence": return whether it is stored; False: not known yet.

        Raises:
            PartitionLostError: It is not, and never will be.
        """
        seq = self.last_seq + 1
        try:
            found = await self._streams.group_at(seq)
            if found is None:
                await self._has_none(seq)
                return False
        except (LinkError, JetStreamError) as error:
            self.trouble = str(error)
            return False
        self._short = 0
        if found == data:
            return True
        raise PartitionLostError(
            f"partition {self._partition} is lost: another daemon writes its ledger"
        )

    async def _has_none(self, seq: int) -> None:
        """Return where whoever has no message ``seq`` may be a leader that was replaced.

        Raises:
            PartitionLostError: Another owner has trimmed it, or the stream is not the one we read.
            LinkError, JetStreamError: It cannot be told now.
        """
        first_seq, last_seq = await self._streams.bounds()
        self._short += 1
        if first_seq > seq or self._short >= _SHORT_MAX:
            raise PartitionLostError(
                f"partition {self._partition} is lost: its ledger ends at {last_seq} and has no "
                f"message {seq}"
            )
