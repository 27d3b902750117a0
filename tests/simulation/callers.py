"""Callers: several clients that work on the same connections, and remember what they were told.

A command is repeated with its ``Nats-Msg-Id`` until its answer is final or its caller gives up; then
nobody knows what became of it, and either is right.
"""

import random
from typing import Any
from uuid import UUID

import anyio
import msgspec
from anyio.abc import TaskGroup

from runtime.gateway.wire import MESSAGE_ID_HEADER, TIMEOUT_HEADER
from tests.fakes.commands import PROVIDER, USER, connection_number
from tests.simulation.bus import Message, Port, Servers
from tests.simulation.provider import Provider, family_of
from tests.simulation.world import World

PREFIX = "refreshd.v1"
SLUGS = ("strict", "grace")
_PASSING = (
    "DATABASE_ERROR",
    "OVERLOADED",
    "SHUTTING_DOWN",
    "TIMED_OUT",
    "REFRESH_IN_PROGRESS",
    "PROVIDER_UNAVAILABLE",
)
_ENDED = ("NOT_ACTIVE", "REAUTH_REQUIRED", "CONNECTION_NOT_FOUND")
"""What a caller does something about: the user signs in again."""
KINDS = {"refresh": 8, "token": 8, "get": 6, "expire": 1, "connect": 2, "synced": 1}
"""Of what kind commands are, and how many of each."""
READS = {"get": 24, "token": 4, "refresh": 4}
_OPEN_MAX = 4
"""How many commands of one connection may be open, far below what a connection remembers."""


class Attempt:
    """One request."""

    def __init__(self, inbox: str, sent_s: float, timeout_s: float) -> None:
        """Know no answer."""
        self.inbox = inbox
        self.sent_s = sent_s
        self.timeout_s = timeout_s
        self.answers: list[tuple[float, dict[str, Any]]] = []
        self.is_refused = False
        """Whether the servers knew nobody to take it."""


class Order:
    """One command of one caller, with all its repeats."""

    def __init__(self, caller: str, number: int, verb: str, message_id: str, now_s: float) -> None:
        """Be about to be sent."""
        self.caller = caller
        self.number = number
        self.verb = verb
        self.message_id = message_id
        self.began_s = now_s
        self.ended_s: float | None = None
        self.attempts: list[Attempt] = []
        self.answer: dict[str, Any] | None = None
        """The final one."""
        self.passing = ""
        """The last failure that may pass."""
        self.body: dict[str, Any] = {}
        self.family = ""
        """The grant that it brings."""

    @property
    def connection_id(self) -> UUID:
        """Whose."""
        return connection_number(self.number)

    @property
    def is_done(self) -> bool:
        """Whether its caller knows that it succeeded."""
        return self.answer is not None and "ok" in self.answer

    @property
    def code(self) -> str | None:
        """The final answer's failure code, if it is a failure."""
        return None if self.answer is None else self.answer.get("error", {}).get("code")

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.verb in ("get", "token")

    def __str__(self) -> str:
        """Return what it is called in the history."""
        return f"{self.message_id} {self.verb} {self.number}"


class Callers:
    """All clients."""

    def __init__(
        self, world: World, servers: Servers, provider: Provider, *, clients: int, connections: int
    ) -> None:
        """Have asked nothing yet."""
        self.world = world
        self.provider = provider
        self.orders: list[Order] = []
        self.connections = connections
        self.kinds = KINDS
        self.pause_s = 0.3
        """Between two commands of one client, on average."""
        self.is_over = False
        self._ports = [Port(servers, f"caller{one}") for one in range(clients)]
        self._attempts: dict[str, Attempt] = {}
        self._answered: dict[str, anyio.Event] = {}
        self._open: dict[int, int] = {}
        self._tasks: TaskGroup | None = None

    @property
    def open(self) -> int:
        """How many commands are under way."""
        return sum(self._open.values())

    def slug(self, number: int) -> str:
        """Return a connection's provider."""
        return SLUGS[number % len(SLUGS)]

    async def run(self) -> None:
        """Ask until told that it is over."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            for port in self._ports:
                port.hear(f"_INBOX.{port.name}.*", self._take)
                tasks.start_soon(port.run)
                tasks.start_soon(self._ask_on, port)
            for number in range(self.connections):
                port = self._ports[number % len(self._ports)]
                tasks.start_soon(self.ask, port, "connect", number)

    async def ask_all(self, verb: str, *, tries: int, **body: object) -> list[Order]:
        """Ask the same of every connection at once, and return what came of it."""
        found: list[Order] = []

        async def ask(number: int) -> None:
            port = self._ports[number % len(self._ports)]
            found.append(await self.ask(port, verb, number, tries=tries, extra=body))

        async with anyio.create_task_group() as tasks:
            for number in range(self.connections):
                tasks.start_soon(ask, number)
        return found

    async def _ask_on(self, port: Port) -> None:
        draws = self.world.draws(port.name)
        assert self._tasks is not None
        while not self.is_over:
            await anyio.sleep(draws.expovariate(1 / self.pause_s))
            number = draws.randrange(self.connections)
            verb = draws.choices([*self.kinds], [*self.kinds.values()])[0]
            if self._open.get(number, 0) < _OPEN_MAX and not self.is_over:
                self._tasks.start_soon(self.ask, port, verb, number)

    async def ask(
        self,
        port: Port,
        verb: str,
        number: int,
        tries: int = 6,
        extra: dict[str, object] | None = None,
    ) -> Order:
        """Give one command, until its answer is final."""
        draws = self.world.draws(port.name)
        message_id = f"{port.name[-1]}-{len(self.orders)}"
        order = Order(port.name, number, verb, message_id, self.world.now_s())
        order.body = {**self._body(order, draws), **(extra or {})}
        self.orders.append(order)
        self._open[number] = self._open.get(number, 0) + 1
        timeout_s = draws.choice((1.0, 2.0, 4.0))
        for _ in range(tries):
            answer = await self._attempt(port, order, timeout_s)
            code = None if answer is None else answer.get("error", {}).get("code", "")
            if answer is not None and code not in _PASSING:
                order.answer = answer
                break
            order.passing = code or ""
            await anyio.sleep(draws.uniform(0.05, 0.8))
        order.ended_s = self.world.now_s()
        self._open[number] -= 1
        if order.code in _ENDED and not self.is_over and draws.random() < 0.5:
            assert self._tasks is not None
            self._tasks.start_soon(self.ask, port, "connect", number)
        return order

    async def _attempt(self, port: Port, order: Order, timeout_s: float) -> dict[str, Any] | None:
        inbox = f"_INBOX.{port.name}.{len(self._attempts)}"
        attempt = self._attempts[inbox] = Attempt(inbox, self.world.now_s(), timeout_s)
        order.attempts.append(attempt)
        answered = self._answered[inbox] = anyio.Event()
        headers = {TIMEOUT_HEADER: str(int(timeout_s * 1000))}
        if not order.is_read:
            headers[MESSAGE_ID_HEADER] = order.message_id
        subject = f"{PREFIX}.connection.{order.connection_id}.{order.verb}"
        self.world.note(port.name, f"asks {order} ({len(order.attempts)})")
        port.send(subject, msgspec.json.encode(order.body), reply=inbox, headers=headers)
        with anyio.move_on_after(timeout_s):
            await answered.wait()
        if not attempt.answers:
            why = "nobody is there" if attempt.is_refused else "no answer"
            self.world.note(port.name, f"has {why}: {order}")
            return None
        answer = attempt.answers[0][1]
        told = answer.get("error", {}).get("code") or f"ok {_generation(answer)}"
        self.world.note(port.name, f"is told {told}: {order}")
        return answer

    def _take(self, message: Message) -> None:
        attempt = self._attempts[message.subject]
        if "Status" in message.headers:
            attempt.is_refused = True
        else:
            attempt.answers.append((self.world.now_s(), msgspec.json.decode(message.data)))
        self._answered[message.subject].set()

    def _body(self, order: Order, draws: random.Random) -> dict[str, Any]:
        match order.verb:
            case "connect" | "refresh":
                slug = self.slug(order.number)
                access, refresh = self.provider.grant(slug, f"{order.number}_{order.message_id}")
                order.family = family_of(refresh)
                lives_s = draws.choice((0.0, 5.0, float(self.provider.lifetime_s)))
                ends = self.world.time_of(self.world.now_s() + lives_s)
                secret = {"access_token": access, "refresh_token": refresh}
                credentials = {
                    "credential_type": "oauth2",
                    "secret": secret,
                    "expires_at": ends.isoformat(),
                }
                if order.verb == "refresh":
                    return {"credentials": credentials}
                return {
                    "user_id": str(USER),
                    "provider_id": str(PROVIDER),
                    "provider_slug": slug,
                    "credentials": credentials,
                }
            case "token":
                return {"force": True} if draws.random() < 0.3 else {}
            case _:
                return {}


def _generation(answer: dict[str, Any]) -> str:
    value = answer.get("ok")
    return f"generation {value['generation']}" if value and "generation" in value else ""
