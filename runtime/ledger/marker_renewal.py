"""Keeps the markers of the event stream from ageing out with the events that they speak of."""

from collections.abc import Callable, Iterable

import anyio

from runtime.ledger.marked_view import ReplacedError
from runtime.ledger.partition_ledger import PartitionLedger
from runtime.ledger.subjects import event_stream
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError, stream_info
from runtime.nats.link import NatsLink
from runtime.nats.seldom import Seldom

_LOOK_S = 1.0
_NANOSECONDS = 1_000_000_000


async def renew_markers(
    link: NatsLink, tag: str, owned: Callable[[], Iterable[PartitionLedger]]
) -> None:
    """Renew each marker before it is among the oldest half of what the stream may hold."""
    seldom = Seldom()
    while True:
        await anyio.sleep(_LOOK_S)
        try:
            await _renew(link, tag, [*owned()])
        except (LinkError, JetStreamError, ReplacedError) as error:
            seldom.warn("marker_not_renewed", str(error))


async def _renew(link: NatsLink, tag: str, owned: Iterable[PartitionLedger]) -> None:
    info = await stream_info(link, event_stream(tag))
    if info is None:
        return
    age_s = int(str(info.config.get("max_age", 0))) / _NANOSECONDS
    bytes_max = int(str(info.config.get("max_bytes", -1)))
    is_filling = bytes_max > 0 and info.state.bytes > bytes_max / 4
    middle_seq = (info.state.first_seq + info.state.last_seq) // 2
    for ledger in owned:
        if is_filling and ledger.events.mark.seq <= middle_seq:
            await ledger.events.renew(0.0)
        elif age_s:
            await ledger.events.renew(age_s / 3)
