"""Tells whether a NATS server syncs each write before it acknowledges it, where it can be told."""

import asyncio
import http.client
import urllib.request
from typing import Literal

import msgspec

from runtime.logs import log

_TIMEOUT_S = 3.0
_BYTES_MAX = 1_000_000


class _JetStreamConfig(msgspec.Struct):
    sync_always: bool = False


class _Jsz(msgspec.Struct):
    config: _JetStreamConfig | None = None


Durable = bool | Literal["unknown"]


async def warn_unless_durable(monitoring_url: str | None) -> Durable:
    """Return whether the server runs with ``sync_interval: always``; warn unless it does.

    A client cannot see the setting, only the server's HTTP monitoring shows it.
    """
    if monitoring_url is None:
        _warn("unknown: set nats.monitoring_url to have it checked")
        return "unknown"
    try:
        answer = await asyncio.to_thread(_get_jsz, monitoring_url)
    except (OSError, ValueError, http.client.HTTPException, msgspec.MsgspecError):
        _warn("unknown: nats.monitoring_url gives no JetStream settings")
        return "unknown"
    if answer.config is None or not answer.config.sync_always:
        _warn("no")
        return False
    return True


def _get_jsz(monitoring_url: str) -> _Jsz:
    url = f"{monitoring_url.rstrip('/')}/jsz?config=true"
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an HTTP address")
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 -- checked
        return msgspec.json.decode(response.read(_BYTES_MAX), type=_Jsz)


def _warn(sync_always: str) -> None:
    log.warning(
        "store_may_lose_acknowledged_writes",
        sync_always=sync_always,
        consequence="a power failure can lose a rotated refresh token: its user must sign in again",
        remedy="run nats-server with jetstream { sync_interval: always }",
    )
