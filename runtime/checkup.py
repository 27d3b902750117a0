"""What a daemon knows of the ground that it stands on, for ``status`` and ``refreshd doctor``."""

import time
from datetime import datetime

from runtime.config import Config
from runtime.ledger.rights import daemon_rights
from runtime.ledger.sealing import Keyring
from runtime.ledger.streams import Streams
from runtime.ledger.subjects import event_stream
from runtime.nats.errors import LinkError
from runtime.nats.jetstream_api import JetStreamError, stream_info
from runtime.nats.link import NatsLink
from runtime.nats.permissions import lacking, own_permissions
from runtime.provider.clocks import ProviderClocks
from runtime.world import SystemClock

_ASKED_AGAIN_S, _REFUSED_AGAIN_S = 60.0, 3_600.0
"""How long what the server told of our rights is good for, and that it tells nothing."""
_ANSWER_S = 1.0


class Checkup:
    """Asks little, and nothing in vain: a ``status`` may come each second."""

    def __init__(
        self,
        config: Config,
        link: NatsLink,
        streams: Streams,
        keyring: Keyring,
        clocks: ProviderClocks,
    ) -> None:
        """Know these; nothing is asked yet."""
        self._link = link
        self._streams = streams
        self._keyring = keyring
        self._clocks = clocks
        self._rights = daemon_rights(
            prefix=config.service.prefix,
            tag=streams.tag,
            partitions=streams.partitions,
            inbox=link.inbox,
        )
        self._lacking: list[str] | None = None
        self._ask_again_s = 0.0

    async def facts(self) -> dict[str, object]:
        """Return the fields of ``status`` that docs/operation.md names under the checkup."""
        nats_ahead_s = await self._server_ahead_s()
        return {
            "nats_version": ".".join(map(str, self._link.server_version)),
            "lacking_permissions": await self._lacks(),
            "keys": {
                "primary": self._keyring.primary,
                "held": sorted(self._keyring.ids),
                "sealed_with": sorted(self._sealed_with()),
            },
            "clocks": {"nats_ahead_s": nats_ahead_s, "providers_ahead_s": self._clocks.far_s},
        }

    def _sealed_with(self) -> set[str]:
        """Return the keys that may have sealed what is stored."""
        now = self._keyring.primary
        return {now, self._streams.keyring_id or now, *self._streams.earlier_keys}

    async def _server_ahead_s(self) -> float | None:
        """Return how far the NATS server's clock is ahead of ours; None: it does not say."""
        before = SystemClock().now()
        try:
            name = event_stream(self._streams.tag)
            info = await stream_info(self._link, name, timeout_s=_ANSWER_S)
        except (LinkError, JetStreamError):
            return None
        after = SystemClock().now()
        if info is None or info.ts is None:
            return None
        return ahead_s(info.ts, before, after)

    async def _lacks(self) -> list[str] | None:
        """Return what our user may not do and should; None: that cannot be told."""
        now_s = time.monotonic()
        if now_s >= self._ask_again_s:
            self._ask_again_s = now_s + _ASKED_AGAIN_S
            permissions = await own_permissions(self._link)
            self._lacking = None
            if permissions is None:
                self._ask_again_s = now_s + _REFUSED_AGAIN_S
            if permissions is not None:
                publish, subscribe = self._rights
                self._lacking = lacking(permissions, publish=publish, subscribe=subscribe)
        return self._lacking


def ahead_s(told: datetime, before: datetime, after: datetime) -> float:
    """Return how far a clock is ahead at the least that was read between two of our times."""
    if told > after:
        return round((told - after).total_seconds(), 1)
    return round(min((told - before).total_seconds(), 0.0), 1)
