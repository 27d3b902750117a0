"""Core NATS, as the daemons of a cluster hear of each other."""

from collections.abc import Callable, Mapping
from functools import partial

import nats.errors

from actors.bus import Heard, Take
from runtime.nats.client import Arrived
from runtime.nats.errors import LinkError, NotSentError
from runtime.nats.link import NatsLink
from runtime.nats.waiting import cause_of


class NatsBus:
    """Implements ``actors.bus.Bus``."""

    def __init__(self, link: NatsLink) -> None:
        """Speak over ``link``."""
        self._link = link

    def publish(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """See ``Bus``."""
        try:
            self._link.publish_now(subject, data, reply=reply, headers=headers)
        except LinkError:
            return False
        return True

    async def subscribe(self, subject: str, take: Take) -> Callable[[], None]:
        """See ``Bus``."""

        def heard(message: Arrived) -> None:
            take(Heard(*message))

        client = self._link.client
        try:
            subscription = await client.subscribe(subject, cb=_never)
        except (OSError, nats.errors.Error) as error:
            raise NotSentError(cause_of(error)) from None
        sid = subscription._id  # noqa: SLF001 -- nats-py does not show it
        client.hand_over(sid, heard)

        return partial(client.give_up, sid)


async def _never(_: object) -> None:
    """Messages go past nats-py's queue."""
