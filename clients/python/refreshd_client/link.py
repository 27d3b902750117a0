"""The connection to NATS: a request that is answered, or fails for a reason that is told apart.

The answers come to an inbox of our own, so a lost connection, and a server that refuses a
subject, fail at once whoever waits for it. What is asked while there is no connection is not
sent later.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from refreshd_client.errors import (
    LoginRefusedError,
    NoAnswerError,
    NoDaemonError,
    NotAllowedError,
    NotConnectedError,
    RefreshdError,
    TooLargeError,
)
from refreshd_client.places import addresses_of

log = logging.getLogger("refreshd_client")
_REFUSED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"")
_CLOSE_TIMEOUT_S = 2.0
_LATE_S = 1.0
"""How much later than asked an attempt to connect may end: that has a cause to tell."""
_HEADER_BYTES_MAX = 512
_CAUSES_MAX = 64
_OPTIONS: dict[str, Any] = {
    "name": "refreshd-client",
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 1,
    "connect_timeout": 2,
}


class Link:
    """A connection to NATS, of our own or of somebody else's."""

    def __init__(self, client: Client | None, options: Callable[[], dict[str, Any]]) -> None:
        """Prepare; nothing is opened.

        Args:
            client: A connected one, which stays open; None: one is made.
            options: Says how to connect, as ``nats.connect`` takes it, each time anew.
        """
        self._given = client
        self._opening = asyncio.Lock()
        self._is_wanted = False
        self._client = client or Client()
        self._subscription: Subscription | None = None
        self._options = options
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._inbox = ""
        self._barred = ""
        self._warned_of: set[str] = set()
        """What was the matter since the last reconnection."""
        self._opens_until_s: float | None = None

    async def open(self, timeout_s: float) -> None:
        """Connect, and subscribe to the inbox.

        Raises:
            NotConnectedError: No server let us in within ``timeout_s``; the text says why.
            LoginRefusedError: One has refused the login; that is told at once.
            NotAllowedError: We may not subscribe to our inbox.
        """
        self._is_wanted = True
        await self._open(timeout_s)

    async def close(self) -> None:
        """Close our connection, or leave somebody else's as it was. Never raises."""
        self._is_wanted = False
        self._abort("the client was closed")
        await self._shut()

    async def request(
        self, subject: str, body: bytes, *, headers: dict[str, str], wait_s: float
    ) -> bytes:
        """Return the answer's body.

        Raises:
            NotConnectedError: Nothing was sent.
            NoDaemonError: Nobody listens on ``subject``.
            NoAnswerError: None came within ``wait_s``, or the connection was lost.
            NotAllowedError, TooLargeError: The server does not take it.
        """
        if self._client.is_closed:
            await self._open_again(wait_s)
        if not self._client.is_connected:
            raise NotConnectedError("the connection to NATS is lost")
        if len(body) + _HEADER_BYTES_MAX > self._client.max_payload:
            raise TooLargeError("the message is larger than the NATS server takes")
        token, answer = uuid4().hex, asyncio.get_running_loop().create_future()
        self._waiting[token] = (subject, answer)
        try:
            async with asyncio.timeout(wait_s):
                await self._client.publish(
                    subject, body, reply=f"{self._inbox}.{token}", headers=headers
                )
                message = await answer
        except TimeoutError:
            raise NoAnswerError("no answer in time") from None
        except (OSError, nats.errors.Error) as error:
            raise NotConnectedError(f"not sent: {_cause(error)}") from None
        finally:
            del self._waiting[token]
        if message.headers and message.headers.get("Status") == "503":
            raise NoDaemonError(f"no daemon answers on {subject}")
        return message.data

    async def _open(self, timeout_s: float) -> None:
        self._opens_until_s = asyncio.get_running_loop().time() + timeout_s
        options = {} if self._given is not None else self._options()
        try:
            # Time is for the whole; nats-py's own tries end where its error callback raises.
            async with asyncio.timeout(timeout_s + _LATE_S):
                if self._given is None:
                    self._client, self._barred = Client(), ""
                    await self._client.connect(**self._callbacks() | _OPTIONS | options)
                self._inbox = inbox = self._client.new_inbox()
                self._subscription = await self._client.subscribe(f"{inbox}.*", cb=self._on_answer)
                # The first flush may overtake the subscription, which nats-py gathers; the second
                # comes back behind whatever the server says to that.
                await self._client.flush()
                await self._client.flush()
        except (OSError, nats.errors.Error, ValueError, RefreshdError) as error:
            await self._shut()
            cause, at = _cause(error), addresses_of(options.get("servers"))
            kind = LoginRefusedError if _is_refusal(cause) else NotConnectedError
            raise kind(f"no connection to NATS{at}: {cause}") from None
        finally:
            self._opens_until_s = None
        if self._barred:
            await self._shut()
            raise NotAllowedError(self._barred)

    async def _shut(self) -> None:
        subscription, self._subscription = self._subscription, None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if self._given is None:
                    await self._client.close()
                elif subscription is not None:
                    await subscription.unsubscribe()

    async def _open_again(self, wait_s: float) -> None:
        """Connect anew where nats-py has ended our connection for good.

        It does so after most of a server's errors, as when a user's credentials have expired.
        """
        async with self._opening:
            if self._client.is_closed and self._is_wanted and self._given is None:
                await self._open(max(wait_s - _LATE_S, 0.1))
                if not self._is_wanted:
                    await self._shut()

    def _callbacks(self) -> dict[str, Any]:
        return {
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
        }

    async def _on_answer(self, message: Msg) -> None:
        _, answer = self._waiting.get(message.subject.rpartition(".")[2], ("", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _on_disconnected(self) -> None:
        self._abort("the connection to NATS was lost")

    async def _on_reconnected(self) -> None:
        self._warned_of.clear()

    async def _on_error(self, error: Exception) -> None:
        """Fail whoever asked for what the server refuses; while opening, end nats-py's tries."""
        cause = _cause(error)
        refused = _REFUSED.search(cause.lower())
        if refused is not None and refused[1] == "publish":
            for subject, answer in self._waiting.values():
                if subject.lower() == refused[2] and not answer.done():
                    answer.set_exception(NotAllowedError(f"this NATS user may not ask {subject}"))
        elif refused is not None:
            self._barred = (
                f"this NATS user may not subscribe to {self._inbox}.*: give its inbox_prefix="
            )
        else:
            # nats-py tries, and tells, once a second for as long as a server is away.
            level = logging.DEBUG if cause in self._warned_of else logging.WARNING
            log.log(level, "nats: %s", cause)
            if len(self._warned_of) < _CAUSES_MAX:
                self._warned_of.add(cause)
        ends_s = self._opens_until_s
        is_over = ends_s is not None and asyncio.get_running_loop().time() > ends_s
        if ends_s is not None and (is_over or _is_refusal(cause)):
            raise NotConnectedError(cause)

    def _abort(self, cause: str) -> None:
        """Fail everyone who waits: no answer can come any more."""
        for _, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NoAnswerError(cause))


def _is_refusal(cause: str) -> bool:
    """Whether a server has refused the login."""
    return "authorization violation" in cause.lower()


def _cause(error: BaseException) -> str:
    """Return a short text for an error of nats-py or of the socket; none quotes a payload."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__)[:200]
