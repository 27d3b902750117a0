"""How a daemon, or a restore in its place, reaches NATS and the ledgers there."""

import contextlib
import time
from functools import partial
from pathlib import Path

import msgspec

from runtime.config import Config
from runtime.gateway.living import refuse_beside_others
from runtime.ledger.jetstream_partition import JetStreamPartition
from runtime.ledger.ledgers import ENVELOPE_BYTES, Ledgers
from runtime.ledger.streams import Streams
from runtime.nats.embedded import EmbeddedNats
from runtime.nats.link import Login, NatsLink, open_link

DAEMON_INBOX = "_INBOX_refreshd"
"""Stored records come in there: no other user of the server needs the right to read it."""


def ledgers_of(link: NatsLink, config: Config, streams: Streams, daemon_id: str) -> Ledgers:
    """Return the ledgers of a daemon that owns nothing yet."""
    limits, room_bytes = config.state.limits, link.max_payload - ENVELOPE_BYTES
    return Ledgers(
        partial(
            JetStreamPartition, link, answer_timeout_s=limits.answer_timeout_s, tag=streams.tag
        ),
        daemon=daemon_id,
        prefix=config.service.prefix,
        tag=streams.tag,
        limits=msgspec.structs.replace(
            limits, group_bytes_max=min(limits.group_bytes_max, room_bytes)
        ),
        record_bytes_max=streams.record_bytes_max,
        now_s=time.time,
    )


def daemon_link(
    config: Config, login: Login, daemon_id: str
) -> contextlib.AbstractAsyncContextManager[NatsLink]:
    """Return a link as the daemon has it."""
    return open_link(
        login,
        name=f"refreshd {daemon_id}",
        limits=config.nats.link,
        inbox_prefix=config.nats.inbox_prefix or DAEMON_INBOX,
        reply_prefixes=config.service.reply_prefixes,
    )


async def refuse_others(config: Config, link: NatsLink, *, may_join: bool) -> None:
    """Return when no daemon is there that must not be; see ``refuse_beside_others``."""
    await refuse_beside_others(
        config.service.prefix,
        link,
        inbox_prefix=config.nats.inbox_prefix or DAEMON_INBOX,
        may_join=may_join,
    )


def embedded_server(config: Config, data_dir: Path) -> EmbeddedNats:
    """Return the embedded server, as it is configured; it is not started."""
    nats = config.nats
    return EmbeddedNats(
        data_dir,
        server_bin=nats.server_bin,
        port=nats.port,
        start_timeout_s=nats.start_timeout_s,
    )
