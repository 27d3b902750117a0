"""A plain subscription: the payload of each message, whatever its headers and its reply subject."""

from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.msg import Msg

from runtime.nats.errors import NotSentError
from runtime.nats.link import NatsLink
from runtime.nats.waiting import cause_of


async def hear(link: NatsLink, subject: str, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Call ``take`` with one payload after the other, from now on and after reconnections, too.

    What it raises is one ``nats_error`` line of the log.

    Raises:
        LinkError: The server did not take the subscription.
    """

    async def heard(message: Msg) -> None:
        await take(message.data)

    try:
        await link.client.subscribe(subject, cb=heard)
    except (OSError, nats.errors.Error) as error:
        raise NotSentError(cause_of(error)) from None
    await link.flush()
