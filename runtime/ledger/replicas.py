"""How many replicas the servers keep of each stream, where they are fewer than is configured."""

import asyncio
from collections.abc import Iterable, Mapping

from runtime.logs import log
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError, StreamInfo, number_of, stream_info
from runtime.nats.link import NatsLink

_ANSWER_S = 1.0


def fewer_replicas(infos: Iterable[StreamInfo], configured: int) -> dict[str, int]:
    """Return the streams that have fewer replicas than ``configured``, with how many.

    One that has another number, fewer or more, is a line of the log.
    """
    fewer: dict[str, int] = {}
    for info in infos:
        name, replicas = str(info.config.get("name")), number_of(info.config, "num_replicas")
        if replicas != configured:
            log.warning("replicas_differ", stream=name, replicas=replicas, configured=configured)
        if replicas < configured:
            fewer[name] = replicas
    return fewer


async def still_fewer(link: NatsLink, known: Mapping[str, int], configured: int) -> dict[str, int]:
    """Return which of ``known`` still have fewer than ``configured``; takes a second at most.

    One whose servers do not answer counts as it was known.
    """
    now = await asyncio.gather(*(_replicas_now(link, *one) for one in known.items()))
    return {name: count for name, count in zip(known, now, strict=True) if count < configured}


async def _replicas_now(link: NatsLink, stream: str, known: int) -> int:
    try:
        info = await stream_info(link, stream, timeout_s=_ANSWER_S)
    except (LinkError, JetStreamError):
        return known
    return known if info is None else number_of(info.config, "num_replicas")
