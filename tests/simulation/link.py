"""A process's connection to NATS: up, black-holed, or lost and found to be.

What is sent into a black hole waits there: it arrives when that ends, unless the connection was given
up before (two pings without an answer). A lost one is made anew when there is a way.
"""

from collections.abc import Callable
from typing import TypeVar

import anyio

from runtime.nats.errors import NO_ANSWER_IN_TIME, LinkError, NoAnswerError, NotSentError
from runtime.nats.jetstream_api import JetStreamError
from tests.simulation.hosts import Life
from tests.simulation.world import World

T = TypeVar("T")

GIVEN_UP_S = 5.0
_RECONNECT_S = (0.05, 1.0)


class Way:
    """The network between one host and the servers, each direction by itself."""

    def __init__(self) -> None:
        """Be open."""
        self.out_open = True
        self.in_open = True

    @property
    def is_open(self) -> bool:
        """Whether anything can be asked and answered."""
        return self.out_open and self.in_open


class Link:
    """One process's connection."""

    def __init__(self, world: World, life: Life, way: Way) -> None:
        """Be connected, where that is possible."""
        self.world = world
        self.life = life
        self.way = way
        self.is_connected = way.is_open
        self.connections = 1
        """How often it was connected."""
        self.reconnected: list[Callable[[], None]] = []
        self.lost: list[Callable[[], None]] = []
        self.disturbed_s: list[float] = []
        """When it was last anything but open."""
        self._waiting_out: list[Callable[[], None]] = []
        self._waiting_in: list[Callable[[], None]] = []
        life.died.append(self.drop)

    def out(self, arrive: Callable[[], None], pause_s: float) -> None:
        """Send to the servers: ``arrive`` is called when it is there, if it ever is."""
        number = self.connections

        def leave() -> None:
            if self.connections != number or not self.is_connected:
                return
            if self.way.out_open:
                arrive()
            else:
                self._waiting_out.append(arrive)

        self.world.after(pause_s, leave)

    def into(self, arrive: Callable[[], None], pause_s: float) -> None:
        """Send from the servers to the process."""
        number = self.connections

        def leave() -> None:
            if self.connections != number or not self.is_connected or not self.life.is_alive:
                return
            if self.way.in_open:
                arrive()
            else:
                self._waiting_in.append(arrive)

        self.world.after(pause_s, leave)

    def changed(self) -> None:
        """Notice that the way was opened or closed."""
        self.disturbed_s.append(self.world.now_s())
        if self.way.out_open:
            self._flush(self._waiting_out)
        if self.way.in_open:
            self._flush(self._waiting_in)
        number = self.connections
        if self.way.is_open:
            if not self.is_connected and self.life.is_alive:
                pause_s = self.world.draws("reconnect").uniform(*_RECONNECT_S)
                self.world.after(pause_s, self._connect)
        elif self.is_connected:
            self.world.after(GIVEN_UP_S, lambda: self._give_up(number))

    def drop(self) -> None:
        """Lose the connection, now; it is made anew where the process lives."""
        if not self.is_connected:
            return
        self.is_connected = False
        self.disturbed_s.append(self.world.now_s())
        self._waiting_out.clear()
        self._waiting_in.clear()
        for tell in self.lost:
            tell()
        if self.life.is_alive and self.way.is_open:
            pause_s = self.world.draws("reconnect").uniform(*_RECONNECT_S)
            self.world.after(pause_s, self._connect)

    def _give_up(self, number: int) -> None:
        if self.connections == number and self.is_connected and not self.way.is_open:
            self.drop()

    def _connect(self) -> None:
        if not self.is_connected and self.way.is_open and self.life.is_alive:
            self.is_connected = True
            self.connections += 1
            self.disturbed_s.append(self.world.now_s())
            for tell in self.reconnected:
                tell()

    def _flush(self, waiting: list[Callable[[], None]]) -> None:
        arrived = waiting.copy()
        waiting.clear()
        for arrive in arrived:
            self.world.after(0.0, arrive)

    async def ask(self, what: str, act: Callable[[], T], *, timeout_s: float) -> T:
        """Make one request to JetStream.

        Args:
            what: What it is called.
            act: Done by the server when the request is there: returns or raises its answer.
            timeout_s: For the answer.

        Raises:
            LinkError, JetStreamError: As the port says.
        """
        if not self.is_connected:
            raise NotSentError("not connected")
        world, weather, request = self.world, self.world.weather, _Request()
        answers: list[T] = []

        def arrive() -> None:
            if world.chance(what, weather.request_lost):
                return
            error = None
            try:
                value = [act()]
            except SilenceError:
                return
            except (JetStreamError, LinkError) as refused:
                value, error = list[T](), refused
            if world.chance(what, weather.answer_lost):
                return

            def answer() -> None:
                answers.extend(value)
                request.end(error)

            self.into(answer, world.latency_s(what, slow=weather.request_slow))

        self.lost.append(request.cut)
        self.out(arrive, world.latency_s(what, slow=weather.request_slow))
        try:
            with anyio.move_on_after(timeout_s):
                await request.ended.wait()
        finally:
            self.lost.remove(request.cut)
        if request.error is not None:
            raise request.error
        if not answers:
            raise NoAnswerError(NO_ANSWER_IN_TIME)
        return answers[0]


class SilenceError(Exception):
    """Nobody answers a request."""


class _Request:
    """A request that waits for its answer."""

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.error: Exception | None = None

    def end(self, error: Exception | None) -> None:
        """Have its answer."""
        self.error = error
        self.ended.set()

    def cut(self) -> None:
        """Have none: the connection is lost."""
        if not self.ended.is_set():
            self.end(NoAnswerError("the connection was lost"))
