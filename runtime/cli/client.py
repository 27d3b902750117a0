"""A caller of the daemon: one request, one reply, as the command line and the demo make them."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from domain.result import Failure, Success
from runtime.gateway.wire import MESSAGE_ID_HEADER, TIMEOUT_HEADER
from runtime.ledger.streams import state_tag
from runtime.ledger.subjects import event_stream, events_filter
from runtime.nats.errors import NoAnswerError
from runtime.nats.link import NatsLink
from runtime.nats.stream_reader import read_stream

_GRACE_S = 1.0
"""How much longer than the daemon the caller waits, for the way there and back."""


class _Reply(msgspec.Struct):
    ok: Any = msgspec.UNSET
    error: Failure | None = None


_event = msgspec.json.Decoder(dict[str, Any])
_reply = msgspec.json.Decoder(_Reply)


class CommandClient:
    """Makes requests under one subject prefix."""

    def __init__(self, link: NatsLink, *, prefix: str, timeout_s: float = 4.0) -> None:
        """Ask over ``link``; the daemon is told how long we wait."""
        self._link = link
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._headers = {TIMEOUT_HEADER: str(int(timeout_s * 1000))}

    async def call(self, subject: str, body: object = None) -> Success[Any] | Failure:
        """Return the daemon's reply to ``body`` (None: empty) on ``<prefix>.<subject>``.

        Raises:
            LinkError: No daemon listens, or no answer came.
        """
        return await self.send(subject, b"" if body is None else msgspec.json.encode(body))

    async def send(
        self, subject: str, body: bytes, *, message_id: str | None = None
    ) -> Success[Any] | Failure:
        """Do as ``call`` with JSON that is encoded, and may be repeated under ``message_id``.

        Raises:
            LinkError: No daemon listens, or no answer came.
        """
        headers = self._headers
        if message_id is not None:
            headers = {**headers, MESSAGE_ID_HEADER: message_id}
        answer = await self._link.request(
            f"{self._prefix}.{subject}",
            body,
            headers=headers,
            timeout_s=self._timeout_s + _GRACE_S,
        )
        try:
            reply = _reply.decode(answer.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            reply = _Reply()
        if reply.error is not None:
            return reply.error
        if reply.ok is msgspec.UNSET:
            raise NoAnswerError("the answer is not refreshd's")
        return Success(reply.ok)

    async def events(
        self,
        *,
        connection_id: str | None = None,
        provider_slug: str | None = None,
        start_seq: int = 1,
        follow: bool = False,
    ) -> AsyncGenerator[tuple[int, dict[str, Any]]]:
        """Yield stream sequence and CloudEvent of each event, oldest first.

        Raises:
            LinkError, JetStreamError: The stream cannot be read, or holds what is no event.
        """
        subject = events_filter(
            self._prefix, provider_slug=provider_slug, connection_id=connection_id
        )
        stream = event_stream(await state_tag(self._link, self._prefix))
        messages = read_stream(
            self._link, stream, start_seq=start_seq, filter_subject=subject, follow=follow
        )
        async with contextlib.aclosing(messages):
            async for message in messages:
                try:
                    event = _event.decode(message.data)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    raise NoAnswerError(f"event {message.sequence} is not refreshd's") from None
                yield message.sequence, event
