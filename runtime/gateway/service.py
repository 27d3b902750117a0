"""The NATS service: it takes requests off the wire, hands them to actors, and answers.

nats-py's ``nats.micro`` gives discovery (ADR-32). A handler here runs within the connection's
read loop: it only decodes and hands over, it neither waits nor raises, and the answer goes out
through the responder.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from actors.directory import Directory
from actors.envelope import Envelope, due_s
from actors.ports import Ids
from actors.world import Count, overloaded
from domain.commands import Command, Connect, GetToken
from domain.decision import Reply
from domain.list_query import ListQuery
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode, Success
from runtime.gateway.connect_warnings import with_warnings
from runtime.gateway.living import DRAINING
from runtime.gateway.replies import failure_body, failure_headers, reply_body, value_body
from runtime.gateway.responder import Responder
from runtime.gateway.subjects import QUEUE_GROUP, SERVICE_NAME
from runtime.gateway.wire import (
    CONNECTION_VERBS,
    MESSAGE_ID_HEADER,
    TIMEOUT_HEADER,
    MalformedError,
    digest_of_message,
    id_of_message,
    read_command,
    read_connect,
    read_connection_id,
    read_list_query,
    read_timeout_s,
)
from runtime.logs import log
from runtime.nats.client import Arrived
from runtime.nats.discoverable import Counted, DiscoverableService, ServiceConfig
from runtime.nats.errors import LinkError
from runtime.nats.link import NatsLink

ListConnections = Callable[[ListQuery, float], Awaitable[Success[object] | Failure]]
"""Answers ``connections.list`` within so many seconds; never raises but to be cancelled."""
ReportStatus = Callable[[], Awaitable[dict[str, object]]]


class ServiceLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the endpoints hold at once; beyond it a request is answered ``OVERLOADED``."""

    commands_max: Count = 20_000
    bytes_max: Count = 256 * 1024 * 1024
    """Bodies of the commands in flight, together."""
    token_callers_max: Count = 50_000
    """Callers of ``token`` that wait at once; counted apart from the commands. Beyond it those
    are still answered whom memory can answer."""
    lists_max: Count = 8
    """Listings that run at once; four times as many wait. A ``status`` counts as one."""
    list_records_max: Count = 5_000
    """How many records one page of a listing looks at; it may be short for that, even empty."""
    credential_bytes_max: Count = 64 * 1024


class _Load:
    """How much of one kind is taken and not answered yet."""

    __slots__ = ("bytes", "requests", "requests_max")

    def __init__(self, requests_max: int) -> None:
        self.requests_max = requests_max
        self.requests = 0
        self.bytes = 0


class _InFlight:
    """One request that was taken and is not answered yet."""

    __slots__ = (
        "can_wait",
        "counted",
        "load",
        "message_id",
        "reply_subject",
        "service",
        "size_bytes",
        "started_s",
        "timeout_s",
    )

    def __init__(
        self,
        service: "CommandService",
        counted: Counted,
        load: "_Load",
        reply_subject: str,
        size_bytes: int,
    ) -> None:
        self.service = service
        self.load = load
        self.counted = counted
        self.reply_subject = reply_subject
        self.size_bytes = size_bytes
        self.started_s = service.now_s()
        self.timeout_s = 0.0
        self.message_id: str | None = None
        self.can_wait = True

    @property
    def deadline_s(self) -> float:
        """When the caller's time is up."""
        return self.started_s + self.timeout_s

    def reply(self, reply: Reply) -> None:
        """Answer with what an actor says; called once."""
        match reply:
            case Failure():
                self.fail(reply)
            case Success():
                self._send(reply_body(reply), None)

    def fail(self, failure: Failure) -> None:
        """Answer with a failure; called instead of ``reply``."""
        self.counted.codes[failure.code] += 1
        self.counted.last_error = failure.code
        self._send(failure_body(failure), failure_headers(failure))

    def succeed(self, value: object) -> None:
        """Answer with a value that no actor made; called instead of ``reply``."""
        self._send(value_body(value), None)

    def _send(self, body: bytes, headers: dict[str, str] | None) -> None:
        now_s = self.service.now_s()
        self.counted.processing_ns += int((now_s - self.started_s) * 1e9)
        self.service.responder.answer(
            self.reply_subject,
            body,
            headers=headers,
            expires_s=max(self.deadline_s, now_s + 1.0),
            sent=self._sent,
        )

    def _sent(self) -> None:
        self.load.requests -= 1
        self.load.bytes -= self.size_bytes


class CommandService:
    """The endpoints of DESIGN.md section 3, in front of a directory of actors."""

    def __init__(
        self,
        *,
        link: NatsLink,
        directory: Directory,
        responder: Responder,
        ids: Ids,
        prefix: str,
        limits: ServiceLimits,
        list_connections: ListConnections,
        report_status: ReportStatus,
        profile: Callable[[str], ProviderProfile | None],
    ) -> None:
        """Prepare the endpoints; ``start`` makes them known to NATS."""
        self._link = link
        self._directory = directory
        self.responder = responder
        self._ids = ids
        self._prefix = prefix
        self._limits = limits
        self._answer_margin_s = directory.limits.answer_margin_s
        self._list_connections = list_connections
        self._report_status = report_status
        self._profile = profile
        self._commands = _Load(limits.commands_max)
        self._token_callers = _Load(limits.token_callers_max)
        self._lists: set[asyncio.Task[None]] = set()
        self._list_slots = asyncio.Semaphore(limits.lists_max)
        self._service: DiscoverableService | None = None
        self._metadata: dict[str, str] = {}
        self.now_s = asyncio.get_running_loop().time

    @property
    def commands_in_flight(self) -> int:
        """How many requests are taken and not yet answered."""
        return self._commands.requests

    @property
    def token_callers(self) -> int:
        """How many callers of ``token`` are not answered yet."""
        return self._token_callers.requests

    async def start(self, *, version: str, metadata: dict[str, str]) -> None:
        """Make the endpoints known, and return when the server routes requests to them.

        Raises:
            LinkError: The server did not take the subscriptions.
        """
        self._metadata = metadata
        self._link.replies.forbid(f"{self._prefix}.", f"{self._link.inbox}.")
        service = DiscoverableService(
            self._link.client,
            ServiceConfig(
                name=SERVICE_NAME,
                version=version,
                description="Owns provider connections and refreshes their credentials",
                metadata=metadata,
                queue_group=QUEUE_GROUP,
            ),
        )
        self._service = service
        await service.start()
        await self._add("connect", "connect", self._take_connect)
        for verb in CONNECTION_VERBS:
            take = partial(self._take_command, verb)
            await self._add(f"connection-{verb}", f"connection.*.{verb}", take)
        await self._add("connections-list", "connections.list", self._take_list)
        await self._add("status", "status", self._take_status)
        await self._link.flush()

    async def stop_taking(self) -> None:
        """Take no new requests; those already received are handed over first."""
        self._metadata[DRAINING] = "true"
        if self._service is not None:
            await self._service.drain_endpoints()

    async def stop(self) -> None:
        """Wait for listings, and leave discovery."""
        if self._lists:
            await asyncio.wait(self._lists, timeout=5.0)
        if self._service is not None:
            with contextlib.suppress(Exception):
                await self._service.stop()

    async def _add(
        self, name: str, subject: str, take: Callable[[Arrived, _InFlight], None]
    ) -> None:
        """Add one endpoint."""
        assert self._service is not None
        load = self._token_callers if name == "connection-token" else self._commands
        handle = partial(self._handle, take, name, load)
        await self._service.add(name, f"{self._prefix}.{subject}", handle)

    def _handle(
        self,
        take: Callable[[Arrived, _InFlight], None],
        name: str,
        load: _Load,
        request: Arrived,
    ) -> None:
        """Take one request without waiting for its answer. Never raises."""
        assert self._service is not None
        counted = self._service.counted[name]
        counted.requests += 1
        load.requests += 1
        load.bytes += len(request.data)
        in_flight = _InFlight(self, counted, load, request.reply, len(request.data))
        # A token that memory can answer needs no place among those who wait.
        in_flight.can_wait = load.requests <= load.requests_max
        is_full = not in_flight.can_wait and load is not self._token_callers
        if is_full or load.bytes > self._limits.bytes_max:
            in_flight.fail(overloaded("the daemon has too many commands in flight"))
            return
        try:
            headers = request.headers or {}
            in_flight.timeout_s = read_timeout_s(headers.get(TIMEOUT_HEADER))
            in_flight.message_id = headers.get(MESSAGE_ID_HEADER) or None
            take(request, in_flight)
        except MalformedError as error:
            in_flight.fail(Failure(code=error.code, message=str(error)))
        except Exception as error:  # noqa: BLE001 -- the edge: a bug answers one caller
            log.error("request_crashed", error=type(error).__name__)
            in_flight.fail(_internal_error())

    def _take_connect(self, request: Arrived, in_flight: _InFlight) -> None:
        """Take a connect whose id, if any, is in the body."""
        self._submit(
            read_connect(
                request.data,
                new_id=partial(self._new_id, in_flight.message_id),
                credential_bytes_max=self._limits.credential_bytes_max,
            ),
            in_flight,
        )

    def _take_command(self, verb: str, request: Arrived, in_flight: _InFlight) -> None:
        """Take a command whose id is in the subject."""
        connection_id: UUID = read_connection_id(request.subject.rsplit(".", 2)[1])
        self._submit(
            read_command(
                verb,
                connection_id,
                request.data,
                credential_bytes_max=self._limits.credential_bytes_max,
            ),
            in_flight,
        )

    def _new_id(self, message_id: str | None, user_id: UUID) -> UUID:
        """Return the id of a connection that the caller has not named: a repeat's is the same."""
        return next(self._ids) if message_id is None else id_of_message(user_id, message_id)

    def _submit(self, command: Command | GetToken, in_flight: _InFlight) -> None:
        """Hand a command to its actor, which answers it."""
        if isinstance(command, Connect):
            command = with_warnings(command, self._profile)
        message_id = in_flight.message_id
        self._directory.submit(
            Envelope(
                command,
                due_s=due_s(in_flight.started_s, in_flight.timeout_s, self._answer_margin_s),
                reply=in_flight.reply,
                message_id=None if message_id is None else digest_of_message(message_id),
                can_wait=in_flight.can_wait,
            )
        )

    def _take_list(self, request: Arrived, in_flight: _InFlight) -> None:
        """Take a listing, which reads the buckets and not the actors."""
        query = read_list_query(request.data)
        if not self._is_crowded(in_flight):
            self._spawn(self._answer_list(query, in_flight))

    def _take_status(self, _request: Arrived, in_flight: _InFlight) -> None:
        """Take an operator's question, which asks JetStream for each bucket."""
        if not self._is_crowded(in_flight):
            self._spawn(self._answer_status(in_flight))

    def _is_crowded(self, in_flight: _InFlight) -> bool:
        """Refuse the request where too many others keep JetStream busy; say whether."""
        crowded = len(self._lists) >= 5 * self._limits.lists_max
        if crowded:
            in_flight.fail(overloaded("too many listings at once"))
        return crowded

    def _spawn(self, work: Any) -> None:  # noqa: ANN401
        task = asyncio.create_task(work)
        self._lists.add(task)
        task.add_done_callback(self._lists.discard)

    async def _answer_list(self, query: ListQuery, in_flight: _InFlight) -> None:
        """Answer one listing. Never raises."""
        try:
            async with self._list_slots:
                left_s = in_flight.deadline_s - self.now_s()
                result = await self._list_connections(query, left_s)
        except Exception as error:  # noqa: BLE001 -- the edge
            log.error("list_crashed", error=type(error).__name__)
            in_flight.fail(_internal_error())
            return
        match result:
            case Success(value):
                in_flight.succeed(value)
            case Failure():
                in_flight.fail(result)

    async def _answer_status(self, in_flight: _InFlight) -> None:
        """Answer one status. Never raises."""
        try:
            in_flight.succeed(await self._report_status())
        except LinkError as error:
            message = f"Database error occurred: {error}"
            in_flight.fail(Failure(code=FailureCode.DATABASE_ERROR, message=message))
        except Exception as error:  # noqa: BLE001 -- the edge
            log.error("status_crashed", error=type(error).__name__)
            in_flight.fail(_internal_error())


def _internal_error() -> Failure:
    return Failure(
        code=FailureCode.DATABASE_ERROR,
        message="Database error occurred: internal error",
        retry_after_s=1.0,
    )
