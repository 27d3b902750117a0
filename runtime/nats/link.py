"""The one way to NATS: a connection that tells at once what was sent, lost or unanswered.

On top of nats-py, as NATS.md section 3 asks:

- nothing is buffered while disconnected (``pending_size=0``): a publish fails at once;
- requests have our own inbox: a lost connection fails every waiting request at once;
- a probe to ourselves every two seconds finds a connection that only looks alive;
- callbacks cannot raise; a connection closed for good is told to ``on_closed``;
- ``flush`` is never called under a cancel scope, ``drain`` and ``rtt`` never at all.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence

import nats.errors
from nkeys import NkeysError

from runtime.logs import log
from runtime.nats.client import ArmouredClient, Arrived, header_block, publish_line
from runtime.nats.errors import (
    CannotConnectError,
    LinkError,
    NoAnswerError,
    NoRespondersError,
    NotSentError,
    TooLargeError,
)
from runtime.nats.login import LinkLimits, Login, LoginError
from runtime.nats.opening import Opening
from runtime.nats.reply_subjects import INBOX_PREFIXES, ReplySubjects
from runtime.nats.seldom import Seldom
from runtime.nats.waiting import (
    Waiting,
    cause_of,
    give_up_waiting,
    new_token,
    refused_subject,
    run_to_its_end,
)

_SUBJECT = re.compile(r"\S+")
_CANNOT_CONNECT = (OSError, nats.errors.Error, ValueError, NkeysError, LinkError, LoginError)
SERVER_VERSION_MIN = (2, 12, 0)
PLAIN_INBOX = "_INBOX"
"""Where every NATS client's answers come in unless it is told otherwise."""


class NatsLink:
    """A connection to NATS; make one with ``open_link``."""

    def __init__(
        self,
        login: Login,
        limits: LinkLimits,
        name: str,
        inbox_prefix: str = PLAIN_INBOX,
        reply_prefixes: Sequence[str] = INBOX_PREFIXES,
    ) -> None:
        """Prepare a link; nothing is opened."""
        self._inbox_prefix = inbox_prefix
        self._login = login
        self._limits = limits
        self._name = name
        self.replies = replies = ReplySubjects(reply_prefixes)
        self._client = ArmouredClient(self._count_bad_message, replies, wants_tls=login.wants_tls)
        self.inbox = ""
        self._waiting = Waiting()
        self._connected = asyncio.Event()
        self._seldom = Seldom()
        self._probe: asyncio.Task[None] | None = None
        self._closing = False
        self._opening: Opening | None = None
        self.closed = asyncio.Event()
        """Set when the connection has ended for good without ``close`` being called."""
        self.bad_messages = self.reconnects = 0

    @property
    def client(self) -> ArmouredClient:
        """The nats-py client, for subscriptions and services."""
        return self._client

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._connected.is_set() and self._client.can_send

    @property
    def server_version(self) -> tuple[int, int, int]:
        """The connected server's version."""
        version = self._client.connected_server_version
        return (version.major, version.minor, version.patch)

    @property
    def max_payload(self) -> int:
        """How large a message the server takes, headers included, in bytes."""
        return self._client.max_payload

    @property
    def url(self) -> str:
        """The address that was given, without any user or password in it."""
        return self._login.address

    @property
    def requests_waiting(self) -> int:
        """How many requests wait for an answer."""
        return len(self._waiting)

    async def open(self, *, is_patient: bool = True) -> None:
        """Connect, and be able to make requests; see ``open_link`` for ``is_patient``.

        Raises:
            CannotConnectError: No server let us in within ``connect_timeout_s``.
        """
        limits, self._opening = self._limits, Opening(is_patient=is_patient)
        opening = self._opening
        # Python 3.11 may lose the one cancellation by which a time-out ends what nats-py waits for.
        impatience = asyncio.get_running_loop().call_later(
            limits.connect_timeout_s, opening.lose_patience
        )
        try:
            async with asyncio.timeout(limits.connect_timeout_s):
                await self._client.connect(
                    self._login.servers,
                    name=self._name,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_closed,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=limits.reconnect_wait_s,  # type: ignore[arg-type]
                    ping_interval=limits.ping_interval_s,
                    max_outstanding_pings=limits.pings_outstanding_max,
                    pending_size=0,
                    inbox_prefix=self._inbox_prefix,
                    **self._login.options(),
                )
                opening.cause = ""
                self.inbox = self._client.new_inbox()
                if self._inbox_prefix != PLAIN_INBOX:
                    # A request that names it would have us answer ourselves.
                    self.replies.forbid(f"{self._inbox_prefix}.")
                await self._client.take_all(f"{self.inbox}.*", self._on_answer)
                await self.flush()
                if opening.cause:
                    raise NoAnswerError(opening.cause)
        except _CANNOT_CONNECT as error:
            await self.close()
            raise opening.error(self.url, cause_of(error)) from None
        finally:
            impatience.cancel()
        self._opening = None
        self._connected.set()
        self._probe = asyncio.create_task(self._probe_for_ever(), name="nats-probe")

    async def close(self) -> None:
        """Close the connection. Never raises; whatever is unsent for two seconds is dropped."""
        self._closing = True
        if self._probe is not None:
            self._probe.cancel()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                await self._client.close()
        self._waiting.abort()

    async def flush(self) -> None:
        """Wait until the server has taken everything that was sent before.

        Raises:
            LinkError: It did not within five seconds.
        """
        try:
            await run_to_its_end(self._client.flush(5))
        except (OSError, nats.errors.Error, TimeoutError) as error:
            raise NoAnswerError(cause_of(error)) from None

    async def wait_connected(self) -> None:
        """Return at once when connected, else when a connection was made again."""
        await self._connected.wait()
        while not self.is_connected:
            # nats-py is yet to tell us.
            await asyncio.sleep(0.01)
            await self._connected.wait()

    def publish_now(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Put a message behind all that was sent before; nothing can come in between.

        Raises:
            NotSentError: Not connected, too much unsent already, or too large.
        """
        self._check_connected()
        if not _SUBJECT.fullmatch(subject):
            raise NotSentError("not a subject")
        try:
            block = header_block(headers) if headers else b""
            if len(block) + len(payload) > self._client.max_payload:
                # nats-py forgets the headers; a message beyond it ends the connection for good.
                raise TooLargeError("too large")
            self._client.send(subject, reply, block, payload)
        except (OSError, nats.errors.Error, ValueError) as error:
            raise NotSentError(cause_of(error)) from None

    def publish_batch(self, messages: Iterable[tuple[str, bytes, bytes]]) -> None:
        """Put several messages behind all that was sent before, together.

        Args:
            messages: Subject, header block (ADR-4) and payload, built of safe parts: unchecked.

        Raises:
            NotSentError: Not connected, too much unsent already, or one is too large: none is sent.
        """
        self._check_connected()
        size_max = self._client.max_payload
        commands: list[bytes] = []
        for subject, block, payload in messages:
            if len(block) + len(payload) > size_max:
                raise TooLargeError("too large")
            commands.append(publish_line(subject, "", block, payload))
        self._client.send_commands(commands)

    def _check_connected(self) -> None:
        if not self.is_connected:
            raise NotSentError("not connected")
        if self._client.unsent_bytes > self._limits.unsent_bytes_max:
            raise NotSentError("too much is unsent")

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Arrived:
        """Send a request and return its first answer.

        Raises:
            NotSentError: As for ``publish``; also where this user may not publish there.
            NoRespondersError: Nobody listens on ``subject``.
            NoAnswerError: Time ran out, or the connection was lost meanwhile.
        """
        token = new_token()
        return await self._requested(token, subject, payload, timeout_s=timeout_s, headers=headers)

    async def _requested(
        self,
        token: str,
        subject: str,
        payload: bytes,
        gathered: list[Arrived] | None = None,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Arrived:
        """Send a request whose answers come in under ``token``, and return the last."""
        if len(self._waiting) >= self._limits.requests_waiting_max:
            raise NotSentError("too many requests wait")
        answer = self._waiting.open(token, subject, gathered)
        timer = answer.get_loop().call_later(timeout_s, give_up_waiting, answer)
        try:
            self.publish_now(subject, payload, reply=f"{self.inbox}.{token}", headers=headers)
            message = await answer
        finally:
            timer.cancel()
            self._waiting.close(token)
        if message.headers and message.headers.get("Status") == "503":
            raise NoRespondersError("no responders")
        return message

    async def request_many(
        self, subject: str, payload: bytes, *, timeout_s: float
    ) -> list[Arrived]:
        """Do as ``request``, and return all answers, the last of which has a status."""
        gathered: list[Arrived] = []
        last = await self._requested(new_token(), subject, payload, gathered, timeout_s=timeout_s)
        return [*gathered, last]

    def _count_bad_message(self) -> None:
        self.bad_messages += 1

    def _on_answer(self, message: Arrived) -> None:
        """Hand an answer to the request that waits for it."""
        self._waiting.answer(message.subject.rpartition(".")[2], message)

    async def _on_error(self, error: Exception) -> None:
        """Note a background error of nats-py.

        Must not raise while there is a connection: that would end the read loop. Without one it
        is the way out of nats-py's endless trying.
        """
        cause = cause_of(error)
        with contextlib.suppress(Exception):
            state = "connected" if self._client.is_connected else "still trying"
            self._seldom.warn("nats_error", cause, url=self.url, state=state)
        if (refused := refused_subject(error, "publish")) is not None:
            self._waiting.refuse(refused, self._login.who)
        if self._closing and not self._client.is_connected:
            raise CannotConnectError(cause)
        if self._opening is None:
            return
        self._opening.failed(error, cause)
        if refused_subject(error, "subscription") is not None:
            self._opening.cause = f"{self._login.who} may not subscribe to {self.inbox}.>"
        if self._opening.is_over(len(self._client.servers)) and not self._client.is_connected:
            raise CannotConnectError(cause)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self._waiting.abort()
        if not self._closing:
            log.warning("nats_disconnected", url=self.url)

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        self._connected.set()
        log.info("nats_reconnected", url=self.url)

    async def _on_closed(self) -> None:
        self._connected.clear()
        self._waiting.abort()
        if not self._closing:
            log.error("nats_closed", url=self.url)
            self.closed.set()

    async def _probe_for_ever(self) -> None:
        """Ask ourselves for an answer, and reconnect when none comes twice in a row."""
        missed = 0
        while True:
            await asyncio.sleep(self._limits.probe_interval_s)
            if self._client.is_closed:
                # nats-py closes without telling when it hangs or fails on what is unsent.
                await self._on_closed()
                return
            if not self.is_connected:
                missed = 0
                continue
            try:
                await self._ask_ourselves()
                missed = 0
            except LinkError:
                missed += 1
            if missed >= self._limits.probes_missed_max:
                missed = 0
                log.warning("nats_probe_missed", url=self.url)
                await self._client.force_reconnect()

    async def _ask_ourselves(self) -> None:
        """Send a message through the server to our own inbox and wait for it."""
        token = new_token()
        subject = f"{self.inbox}.{token}"
        answer = self._waiting.open(token, subject)
        try:
            async with asyncio.timeout(self._limits.probe_interval_s):
                self.publish_now(subject, b"")
                await answer
        except TimeoutError:
            raise NoAnswerError("no answer in time") from None
        finally:
            self._waiting.close(token)


@contextlib.asynccontextmanager
async def open_link(  # noqa: ANN201
    login: Login,
    *,
    name: str,
    limits: LinkLimits | None = None,
    inbox_prefix: str = PLAIN_INBOX,
    reply_prefixes: Sequence[str] = INBOX_PREFIXES,
    is_patient: bool = True,
):
    """Yield a connected link, and close it afterwards.

    Args:
        login: Where, and as whom.
        name: What the server shows for the connection.
        limits: The link's bounds.
        inbox_prefix: Where answers come in. One of its own keeps other users of the server from
            reading them: permissions can be given for it alone.
        reply_prefixes: What ``ReplySubjects`` allows; our own inbox it never does.
        is_patient: Whether servers that cannot be reached are tried again.

    Raises:
        LinkError: No server let us in.
    """
    link = NatsLink(login, limits or LinkLimits(), name, inbox_prefix, reply_prefixes)
    try:
        await link.open(is_patient=is_patient)
        yield link
    finally:
        await run_to_its_end(link.close())
