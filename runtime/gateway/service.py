"""The NATS service: it takes requests off the wire, hands them to actors, and answers.

nats-py's ``nats.micro`` gives discovery (ADR-32). A handler here runs within the connection's
read loop: it only decodes and hands over, it neither waits nor raises, and the answer goes out
through the responder.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from uuid import UUID

import msgspec

from actors.bus import Heard
from actors.directory import Directory
from actors.envelope import due_s
from actors.ports import Ids
from actors.world import TIMED_OUT, Count, overloaded
from domain.commands import Connect
from domain.connection import ProviderConnection
from domain.decision import Reply
from domain.list_query import ListQuery
from domain.profile import ProviderProfile
from domain.result import Failure, FailureCode, Success
from runtime.gateway.arrivals import Arrivals
from runtime.gateway.connect_warnings import with_warnings
from runtime.gateway.explaining import Explainer
from runtime.gateway.in_flight import (
    HOPS_HEADER,
    MESSAGE_HEADER,
    OWNER_HEADER,
    InFlight,
    Load,
    Span,
)
from runtime.gateway.living import DRAINING
from runtime.gateway.queries import read_history_query, read_list_query
from runtime.gateway.responder import Responder
from runtime.gateway.sited import Sited
from runtime.gateway.slow_answers import ReportStatus, SlowAnswers, internal_error
from runtime.gateway.subjects import QUEUE_GROUP, SERVICE_NAME
from runtime.gateway.wire import (
    CONNECTION_VERBS,
    EXPLAIN,
    MESSAGE_ID_HEADER,
    TIMEOUT_HEADER,
    MalformedError,
    body_bytes_max,
    digest_of_message,
    id_of_message,
    read_command,
    read_connect,
    read_connection_id,
    read_timeout_s,
)
from runtime.logs import log
from runtime.nats.client import Arrived
from runtime.nats.discoverable import Counted, DiscoverableService, ServiceConfig
from runtime.nats.link import NatsLink

ListConnections = Callable[[ListQuery, float], Awaitable[Success[object] | Failure]]
"""Answers ``connections.list`` within so many seconds; never raises but to be cancelled."""


class ServiceLimits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the endpoints hold at once; beyond it a request is answered ``OVERLOADED``."""

    commands_max: Count = 20_000
    bytes_max: Count = 256 * 1024 * 1024
    """Bodies of the commands in flight, together."""
    token_callers_max: Count = 50_000
    """Callers of ``token`` that wait at once; counted apart from the commands. Beyond it those
    are still answered whom memory can answer."""
    lists_max: Count = 8
    """Listings that run at once; four times as many wait. History and ``status`` count, too."""
    list_records_max: Count = 5_000
    """How many records one page of a listing looks at; it may be short for that, even empty."""
    credential_bytes_max: Count = 64 * 1024


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
        explainer: Explainer,
        report_status: ReportStatus,
        profile: Callable[[str], ProviderProfile | None],
        sited: Sited,
        begin_span: Callable[[str, Mapping[str, str]], Span] | None = None,
    ) -> None:
        """Prepare the endpoints; ``start`` makes them known to NATS."""
        self._sited = sited
        self._link = link
        self._directory = directory
        self.responder = responder
        self._ids = ids
        self._prefix = prefix
        self.limits = limits
        self._list_connections = list_connections
        self._explainer = explainer
        self._report_status = report_status
        self._profile = profile
        self._commands = Load(limits.commands_max)
        self._token_callers = Load(limits.token_callers_max)
        self._slow = SlowAnswers(limits.lists_max)
        self._service: DiscoverableService | None = None
        self._metadata: dict[str, str] = {}
        self.now_s = asyncio.get_running_loop().time
        self.arrivals = Arrivals(link)
        self._pulse: asyncio.Task[None] | None = None
        self._begin_span = begin_span
        self.mailbox_refusals = 0
        """How many commands a connection's full mailbox has refused."""

    @property
    def counted(self) -> Mapping[str, Counted]:
        """What each endpoint has done, by its name; empty before ``start``."""
        return {} if self._service is None else self._service.counted

    @property
    def is_draining(self) -> bool:
        """Whether no new commands are taken."""
        return DRAINING in self._metadata

    def reread_limits(self) -> None:
        """Keep what the limits say from now on; who is in stays."""
        self._commands.requests_max = self.limits.commands_max
        self._token_callers.requests_max = self.limits.token_callers_max
        self._slow.at_once_max = self.limits.lists_max

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
        self._pulse = asyncio.create_task(self.arrivals.run(), name="arrivals")
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
        await self._add("connection-history", "connection.*.history", self._take_history)
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
        await self._slow.stop()
        if self._pulse is not None:
            self._pulse.cancel()
        if self._service is not None:
            with contextlib.suppress(Exception):
                await self._service.stop()

    async def _add(
        self, name: str, subject: str, take: Callable[[Arrived, InFlight], None]
    ) -> None:
        """Add one endpoint."""
        assert self._service is not None
        load = self._token_callers if name == "connection-token" else self._commands
        handle = partial(self._handle, take, name, load)
        await self._service.add(name, f"{self._prefix}.{subject}", handle)

    def _handle(
        self,
        take: Callable[[Arrived, InFlight], None],
        name: str,
        load: Load,
        request: Arrived,
    ) -> None:
        """Take one request without waiting for its answer. Never raises."""
        assert self._service is not None
        counted = self._service.counted[name]
        counted.requests += 1
        load.requests += 1
        load.bytes += len(request.data)
        in_flight = InFlight(self, counted, load, reply_subject=request.reply, data=request.data)
        # A token that memory can answer needs no place among those who wait.
        in_flight.can_wait = load.requests <= load.requests_max
        is_full = not in_flight.can_wait and load is not self._token_callers
        if is_full or load.bytes > self.limits.bytes_max:
            in_flight.fail(overloaded("the daemon has too many commands in flight"))
            return
        try:
            headers = in_flight.headers = request.headers or {}
            if self._begin_span is not None:
                in_flight.span = self._begin_span(name, headers)
            timeout_s = in_flight.timeout_s = read_timeout_s(headers.get(TIMEOUT_HEADER))
            margin_s = self._directory.limits.answer_margin_s
            in_flight.due_s = due_s(in_flight.started_s, timeout_s, margin_s)
            message_id = headers.get(MESSAGE_ID_HEADER)
            if message_id:
                in_flight.digest = digest_of_message(message_id)
            take(request, in_flight)
        except MalformedError as error:
            in_flight.fail(Failure(code=error.code, message=str(error)))
        except Exception as error:  # noqa: BLE001 -- the edge: a bug answers one caller
            log.error("request_crashed", error=type(error).__name__)
            in_flight.fail(internal_error())

    def _take_connect(self, request: Arrived, in_flight: InFlight) -> None:
        """Take a connect whose id, if any, is in the body."""
        message_id = in_flight.headers.get(MESSAGE_ID_HEADER) or None
        command = read_connect(
            request.data,
            new_id=partial(self._new_id, message_id),
            credential_bytes_max=self.limits.credential_bytes_max,
        )
        in_flight.command = command
        self._address(in_flight, "connect", command.connection_id)

    def _take_command(self, verb: str, request: Arrived, in_flight: InFlight) -> None:
        """Take a command whose id is in the subject."""
        self._address(in_flight, verb, read_connection_id(request.subject.rsplit(".", 2)[1]))

    def _address(self, in_flight: InFlight, verb: str, connection_id: UUID) -> None:
        """Begin a command, where all partitions are here, or route it."""
        in_flight.verb, in_flight.connection_id = verb, connection_id
        if in_flight.due_s < self.now_s():
            self._directory.world.journal.dropped(connection_id, 1)
            in_flight.fail(TIMED_OUT)
            return
        if self._sited.are_all_here:
            self.begin(in_flight)
        elif len(in_flight.data) > body_bytes_max(self.limits.credential_bytes_max):
            # With the headers of a hand-over it might be more than a message can hold.
            in_flight.fail(Failure(code=FailureCode.TOO_LARGE, message="the body is too large"))
        else:
            in_flight.partition = self._sited.partition_of(connection_id)
            self._sited.router.route(in_flight)

    def take_handed_over(self, message: Heard) -> None:
        """Take a command that another daemon has handed over. Never raises.

        Its subject ends with the verb and the id.
        """
        headers = message.headers or {}
        verb, connection_id = message.subject.rsplit(".", 2)[1:]
        name = f"connection-{verb}"
        if self._service is None or name not in self._service.counted:
            return
        if headers.get(OWNER_HEADER) != self._sited.me:
            return
        load = self._token_callers if verb == "token" else self._commands
        request = Arrived(f"{self._prefix}.connection.{connection_id}.{verb}", *message[1:])

        def take(request: Arrived, in_flight: InFlight) -> None:
            in_flight.hops = int(headers.get(HOPS_HEADER, "1"))
            if MESSAGE_HEADER in headers:
                in_flight.digest = bytes.fromhex(headers[MESSAGE_HEADER])
            self._take_command(verb, request, in_flight)

        self._handle(take, name, load, request)

    def route(self, in_flight: InFlight) -> None:
        """See ``Desk``."""
        assert in_flight.connection_id is not None
        in_flight.partition = self._sited.partition_of(in_flight.connection_id)
        self._sited.router.route(in_flight)

    def send_on(self, in_flight: InFlight, headers: Mapping[str, str]) -> bool:
        """See ``Desk``."""
        subject = self._sited.owner_subject(
            in_flight.partition, in_flight.verb, str(in_flight.connection_id)
        )
        return self._sited.bus.publish(
            subject, in_flight.data, reply=in_flight.reply_subject, headers=headers
        )

    def _new_id(self, message_id: str | None, user_id: UUID) -> UUID:
        """Return the id of a connection that the caller has not named: a repeat's is the same."""
        return next(self._ids) if message_id is None else id_of_message(user_id, message_id)

    def begin(self, in_flight: InFlight) -> None:
        """See ``Desk``: hand a command to its actor, which answers it."""
        assert in_flight.connection_id is not None
        try:
            command = in_flight.command or read_command(
                in_flight.verb,
                in_flight.connection_id,
                in_flight.data,
                credential_bytes_max=self.limits.credential_bytes_max,
            )
        except MalformedError as error:
            in_flight.fail(Failure(code=error.code, message=str(error)))
            return
        if isinstance(command, Connect):
            command = with_warnings(command, self._profile)
        reply = partial(self._explain, in_flight) if in_flight.verb == EXPLAIN else None
        self._directory.submit(in_flight.envelope(command, reply))

    def _explain(self, in_flight: InFlight, reply: Reply) -> None:
        """Answer with the words for what an actor says."""
        if isinstance(reply, Success) and isinstance(reply.value, ProviderConnection):
            in_flight.succeed(self._explainer.explained(reply.value))
        else:
            in_flight.reply(reply)

    def _take_list(self, request: Arrived, in_flight: InFlight) -> None:
        """Take a listing, which reads the buckets and not the actors."""
        query = read_list_query(request.data)
        self._slow.read(partial(self._list_connections, query), in_flight, self.now_s)

    def _take_history(self, request: Arrived, in_flight: InFlight) -> None:
        """Take a question for a connection's events, which reads their stream."""
        connection_id = str(read_connection_id(request.subject.rsplit(".", 2)[1]))
        read = partial(self._explainer.history, connection_id, read_history_query(request.data))
        self._slow.read(read, in_flight, self.now_s)

    def _take_status(self, _request: Arrived, in_flight: InFlight) -> None:
        """Take an operator's question, which asks JetStream for each bucket."""
        self._slow.report(self._report_status, in_flight)
