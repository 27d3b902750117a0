"""Heartbeats as they go over NATS: MessagePack. Readers ignore fields that they do not know."""

import msgspec

from actors.members import Heartbeat
from runtime.logs import log

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Heartbeat)


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Return a heartbeat's message."""
    return _encoder.encode(beat)


def decode_heartbeat(data: bytes) -> Heartbeat | None:
    """Return the heartbeat in a message; None: it is none of ours."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        log.warning("heartbeat_unreadable")
        return None
