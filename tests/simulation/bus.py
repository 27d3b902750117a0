"""Core NATS between processes and callers: at most once, in order from one sender to one receiver.

Messages are lost, late, and now and then come twice; between different senders there is no order.
What is sent to a process that is stopped waits in its socket. The servers go on counting a stopped
or black-holed process as a member of its queue groups.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import anyio

from tests.simulation.link import Link
from tests.simulation.world import World

_NO_RESPONDERS = {"Status": "503"}
_AT_ONCE_S = 0.0005
_DRAINED_S = 0.01
"""Longer than a message takes from a server to a connection of its."""


class Message(NamedTuple):
    """A message on its way; as ``actors.bus.Heard`` in its first fields."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str]
    sender: str


class Routed(NamedTuple):
    """What became of a message that carries a reply subject, for who looks why no answer came."""

    at_s: float
    message: Message
    to: str
    """Who gets it; empty: nobody."""
    is_lost: bool


class _Subscription:
    """One subscription of one connection."""

    def __init__(
        self, port: "Port", pattern: str, take: Callable[[Message], None], queue: str
    ) -> None:
        self.port = port
        self.pattern = pattern.split(".")
        self.take = take
        self.queue = queue
        self.is_over = False
        self.is_drained = False
        """Whether what the servers held for it has come: what comes now was between two of them."""


class Servers:
    """The NATS servers: who has subscribed to what."""

    def __init__(self, world: World) -> None:
        """Know nobody."""
        self.world = world
        self.routed: dict[str, list[Routed]] = {}
        """By reply subject."""
        self.replied_s: dict[str, list[float]] = {}
        """When answers were sent, by reply subject."""
        self.apart: set[tuple[str, str]] = set()
        """Pairs of hosts, of which the second hears nothing that the first one sends."""
        self._subscriptions: list[_Subscription] = []
        self._arrives_s: dict[tuple[str, str], float] = {}

    def add(self, subscription: _Subscription) -> None:
        """Route to a subscription from now on."""
        self._subscriptions.append(subscription)

    def end(self, subscription: _Subscription) -> None:
        """Forget a subscription."""
        self._subscriptions = [one for one in self._subscriptions if one is not subscription]

    def remove(self, port: "Port") -> None:
        """Forget a connection."""
        self._subscriptions = [one for one in self._subscriptions if one.port is not port]

    def route(self, message: Message) -> None:
        """Pass a message on to everybody, and to one of each queue group."""
        subject = message.subject.split(".")
        groups: dict[str, list[_Subscription]] = {}
        for one in self._subscriptions:
            if _matches(one.pattern, subject):
                groups.setdefault(one.queue, []).append(one)
        chosen = groups.pop("", [])
        chosen += [self.world.draws("queue").choice(group) for group in groups.values()]
        if not chosen and message.reply:
            self.note(message, "", is_lost=False)
            nobody = Message(message.reply, "", b"", _NO_RESPONDERS, "servers")
            self.world.after(_AT_ONCE_S, lambda: self.route(nobody))
        for one in chosen:
            self._pass_on(message, one)

    def note(self, message: Message, to: str, *, is_lost: bool) -> None:
        """Remember what became of a message that wants an answer."""
        if message.reply:
            one = Routed(self.world.now_s(), message, to, is_lost)
            self.routed.setdefault(message.reply, []).append(one)

    def _pass_on(self, message: Message, to: _Subscription) -> None:
        world, weather, receiver = self.world, self.world.weather, to.port.name
        is_apart = (_host(message.sender), _host(receiver)) in self.apart
        is_lost = is_apart or world.chance("messages", weather.message_lost)
        if is_lost or message.subject.startswith("refreshd_owner."):
            world.note(message.sender, f"{message.subject} to {receiver}{' LOST' * is_lost}")
        self.note(message, receiver, is_lost=is_lost)
        if is_lost:
            return
        for _ in range(2 if world.chance("messages", weather.message_twice) else 1):
            pause_s = world.latency_s("messages", slow=weather.message_slow, slow_s=1.0)
            # One sender's messages arrive in their order.
            pair = message.sender, receiver
            arrives_s = max(world.now_s() + pause_s, self._arrives_s.get(pair, 0.0) + 1e-6)
            self._arrives_s[pair] = arrives_s
            to.port.into(to, message, arrives_s - world.now_s())


class Port:
    """One connection to core NATS. ``run`` must be running, in its process."""

    def __init__(self, servers: Servers, name: str, link: Link | None = None) -> None:
        """Subscribe to nothing yet; without ``link`` always connected: a caller."""
        self.name = name
        self._servers = servers
        self._world = servers.world
        self._link = link
        self._subscriptions: list[_Subscription] = []
        self._inbox: list[tuple[_Subscription, Message]] = []
        self._arrived = anyio.Event()
        if link is not None:
            link.lost.append(self._lost)
            link.reconnected.append(self._subscribe_again)

    @property
    def is_connected(self) -> bool:
        """Whether anything can be sent."""
        return self._link is None or self._link.is_connected

    def send(
        self,
        subject: str,
        data: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Send if there is a connection; it may be lost. Say whether there is one."""
        if not self.is_connected:
            return False
        if subject.startswith("_INBOX."):
            self._servers.replied_s.setdefault(subject, []).append(self._world.now_s())
        message = Message(subject, reply, data, dict(headers or {}), self.name)
        if self._world.chance("messages", self._world.weather.message_lost / 2):
            self._servers.note(message, "", is_lost=True)
        elif self._link is None:
            self._world.after(_AT_ONCE_S, lambda: self._servers.route(message))
        else:
            self._link.out(lambda: self._servers.route(message), _AT_ONCE_S)
        return True

    def hear(
        self, subject: str, take: Callable[[Message], None], *, queue: str = ""
    ) -> Callable[[], None]:
        """Have messages given to ``take``, within ``run``; returns how to end that."""
        subscription = _Subscription(self, subject, take, queue)
        self._subscriptions.append(subscription)
        if self.is_connected:
            self._servers.add(subscription)

        def end() -> None:
            subscription.is_over = True
            self._subscriptions = [one for one in self._subscriptions if one is not subscription]
            self._servers.end(subscription)

        return end

    async def drain(self, queue: str) -> None:
        """End the subscriptions of a queue group, and take first what the servers hold for them."""
        ending = [one for one in self._subscriptions if one.queue == queue]
        for one in ending:
            self._servers.end(one)
        await anyio.sleep(_DRAINED_S)
        for one in ending:
            one.is_over = one.is_drained = True
        self._subscriptions = [one for one in self._subscriptions if one not in ending]

    def into(self, to: _Subscription, message: Message, pause_s: float) -> None:
        """Have a message arrive in the socket."""
        if self._link is None:
            self._world.after(pause_s, lambda: self._arrive(to, message))
        else:
            self._link.into(lambda: self._arrive(to, message), pause_s)

    async def run(self) -> None:
        """Give what arrives to whoever has subscribed, until cancelled."""
        while True:
            while self._inbox:
                to, message = self._inbox.pop(0)
                if not to.is_over:
                    to.take(message)
            self._arrived = anyio.Event()
            await self._arrived.wait()

    def _arrive(self, to: _Subscription, message: Message) -> None:
        if to.is_drained:
            self._servers.note(message, self.name, is_lost=True)
        self._inbox.append((to, message))
        self._arrived.set()

    def _lost(self) -> None:
        """Lose what was not read yet, as nats-py does when it finds its socket closed."""
        self._servers.remove(self)
        self._inbox.clear()

    def _subscribe_again(self) -> None:
        for subscription in self._subscriptions:
            self._servers.add(subscription)


def _host(name: str) -> str:
    return name.partition("-")[0]


def _matches(pattern: list[str], subject: list[str]) -> bool:
    for number, token in enumerate(pattern):
        if token == ">":
            return len(subject) > number
        if number >= len(subject) or token not in ("*", subject[number]):
            return False
    return len(pattern) == len(subject)
