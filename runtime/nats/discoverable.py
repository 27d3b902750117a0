"""A service that NATS tools can discover (ADR-32), on nats-py's ``nats.micro``."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
from nats.aio.msg import Msg
from nats.micro.request import Request
from nats.micro.service import EndpointStats, Service, ServiceStats
from nats.micro.service import ServiceConfig as MicroServiceConfig

from runtime.nats.client import ArmouredClient, Arrived
from runtime.nats.link import NatsLink

ServiceConfig = MicroServiceConfig


class Discovered(msgspec.Struct):
    """A service that answered a PING."""

    id: str = ""
    metadata: dict[str, str] = {}


async def discovered(link: NatsLink, name: str, *, inbox: str, within_s: float) -> list[Discovered]:
    """Return the services of a name that answer within ``within_s`` (ADR-32).

    Args:
        link: Who asks.
        name: The services'.
        inbox: Where the answers come in.
        within_s: Not waited for where the server knows that there is nobody.

    Raises:
        LinkError: The question could not be sent.
    """
    found: list[Discovered] = []
    nobody = asyncio.Event()

    async def take(message: Msg) -> None:
        if message.headers and message.headers.get("Status") == "503":
            nobody.set()
            return
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(msgspec.json.decode(message.data, type=Discovered))

    subscription = await link.client.subscribe(inbox, cb=take)
    link.publish_now(f"$SRV.PING.{name}", b"", reply=inbox)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await nobody.wait()
    await subscription.unsubscribe()
    return found


class EndpointCounts(msgspec.Struct):
    """What one endpoint of a service has done."""

    name: str = ""
    num_requests: int = 0
    processing_time: int = 0
    """In nanoseconds."""
    data: Mapping[str, Mapping[str, int]] | None = None
    """``errors``: how many answers had each error code."""


class ServiceCounts(msgspec.Struct):
    """What a service that answered a STATS has done."""

    id: str = ""
    endpoints: Sequence[EndpointCounts] = ()


async def counted(
    link: NatsLink, name: str, *, services: int, within_s: float
) -> list[ServiceCounts]:
    """Return what the services of a name have done (ADR-32): when so many have answered, or then.

    None answers where the asker may not publish to ``$SRV.STATS.<name>``.

    Raises:
        LinkError: The question could not be sent.
    """
    found: list[ServiceCounts] = []
    is_whole = asyncio.Event()

    async def take(message: Msg) -> None:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found.append(msgspec.json.decode(message.data, type=ServiceCounts))
        if len(found) >= services:
            is_whole.set()

    inbox = link.client.new_inbox()
    subscription = await link.client.subscribe(inbox, cb=take)
    link.publish_now(f"$SRV.STATS.{name}", b"", reply=inbox)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await is_whole.wait()
    await subscription.unsubscribe()
    return found


class Counted:
    """What one endpoint has done, for ``$SRV.STATS``."""

    __slots__ = ("codes", "forwarded", "last_error", "processing_ns", "requests", "succeeded")

    def __init__(self) -> None:
        """Start at zero."""
        self.requests = 0
        self.succeeded = 0
        self.forwarded = 0
        """Handed over to another daemon, which answers."""
        self.codes: Counter[str] = Counter()
        self.last_error = ""
        self.processing_ns = 0


class DiscoverableService(Service):
    """nats-py's service, with true numbers in STATS and a stop that drains.

    The base class counts only what its handler raises and times only the handing over.
    """

    def __init__(self, client: ArmouredClient, config: ServiceConfig) -> None:
        """See ``nats.micro.add_service``."""
        super().__init__(client, config)
        self._armoured = client
        self.counted: dict[str, Counted] = {}

    async def add(self, name: str, subject: str, take: Callable[[Arrived], None]) -> Counted:
        """Add an endpoint, and return what counts its requests.

        Its requests go past nats-py's queue and handler, which cost more than most commands do.

        Args:
            name: What NATS tools show.
            subject: Where requests come in.
            take: Called with each. Must neither block nor raise.
        """
        counted = self.counted[name] = Counted()

        async def handler(request: Request) -> None:
            message = request._msg  # noqa: SLF001 -- nats.micro does not show it
            take(Arrived(message.subject, message.reply, message.data, message.headers))

        await self.add_endpoint(name=name, subject=subject, handler=handler)
        subscription = self._endpoints[-1]._subscription  # noqa: SLF001 -- as above
        assert subscription is not None
        self._armoured.hand_over(subscription._id, take)  # noqa: SLF001 -- as above
        return counted

    def stats(self) -> ServiceStats:
        """Return the statistics, with failures answered and times until the answer."""
        stats = super().stats()
        for endpoint in stats.endpoints:
            self._complete(endpoint)
        return stats

    def _complete(self, endpoint: EndpointStats) -> None:
        counted = self.counted.get(endpoint.name)
        if counted is None:
            return
        endpoint.num_requests = counted.requests
        endpoint.num_errors = sum(counted.codes.values())
        endpoint.last_error = counted.last_error
        endpoint.processing_time = counted.processing_ns
        # What is under way, or was handed over, has no time yet.
        answered = counted.succeeded + endpoint.num_errors
        endpoint.average_processing_time = counted.processing_ns // max(answered, 1)
        endpoint.data = {"errors": dict(counted.codes)}

    async def drain_endpoints(self) -> None:
        """Take no new requests, and return when those already received were handed over.

        ``stop`` would drop them (ADR-32 asks for a drain; nats-py unsubscribes).
        """
        subscriptions = [
            endpoint._subscription  # noqa: SLF001 -- nats.micro has no public way to drain
            for endpoint in self._endpoints
            if endpoint._subscription is not None  # noqa: SLF001
        ]
        await asyncio.gather(
            *(subscription.drain() for subscription in subscriptions), return_exceptions=True
        )
