"""nats-py's client, mended where one hostile message would end the connection or misuse it.

nats-py 2.16 runs every parser callback inside its read loop, and the loop ends at the first
exception that it does not expect, while ``is_connected`` stays true:

- a subject, reply or status line that is not UTF-8 raises in ``_build_message`` or
  ``_process_headers``: anybody who may publish to us could silence the daemon;
- a subject with a vertical tab or a form feed does not match the parser's expressions, which ends
  the connection;
- a PONG for a ``flush`` that was cancelled or timed out raises InvalidStateError.

It sends the login unencrypted to a server that does not ask for TLS, also to a ``tls://`` one.
Before it reconnects, it waits until the old connection has taken all that is unsent, which a
dead one never does.

And one danger is not nats-py's: a reply subject that aims at something; see ``ReplySubjects``.

The overridden methods are private, so nats-py is pinned, and ``test_nats_traps.py`` shows each
trap on the plain client and its absence here.
"""

import re
import secrets
from asyncio import Future, StreamWriter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.protocol.command import hpub_cmd, pub_cmd
from nats.protocol.parser import Parser

from runtime.nats.reply_subjects import ReplySubjects

_CRLF = 2
_HEADER_LINES = re.compile(r"(?:[!-9;-~]+: [ -~]*\r\n)*")


class Arrived(NamedTuple):
    """A message as it came."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str] | None


class _SafeParser(Parser):
    """nats-py's parser, but for messages: their lines are split where the server puts a space.

    nats-py's expressions also split where a subject holds another white space, such as a vertical
    tab, which a server lets anybody publish; and they cost more than handling most requests does.
    """

    def __init__(self, client: "ArmouredClient") -> None:
        super().__init__(client)
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        """Take what a connection has read; a part of a line or message waits for the rest."""
        data, at = bytes(self.buf) + data, 0
        self.buf.clear()
        while (end := data.find(b"\r\n", at)) >= 0:
            over = end + _CRLF
            line = data[at:end]
            if line.startswith((b"MSG ", b"HMSG ")):
                over += int(line[line.rindex(b" ") :]) + _CRLF
                if len(data) < over:
                    break
                await self._take(line, data[end + _CRLF : over - _CRLF])
            else:
                await super().parse(data[at:over])
            at = over
        self.buf.extend(data[at:])

    async def _take(self, line: bytes, content: bytes) -> None:
        """Hand a message over whose protocol line is ``line``."""
        verb, subject, sid, *more = line.split(b" ")
        sizes = 2 if verb == b"HMSG" else 1
        size = int(more[-2]) if sizes > 1 else 0
        reply = more[0] if len(more) > sizes else b""
        await self._client.handle(int(sid), subject, reply, content[size:], content[:size])


class ArmouredClient(Client):
    """A client whose read loop survives any message."""

    def __init__(
        self, on_bad_message: Callable[[], None], replies: ReplySubjects, *, wants_tls: bool = False
    ) -> None:
        """Make an unconnected client.

        Args:
            on_bad_message: Called for each message that could not be read. Must not raise.
            replies: Which reply subjects of requests to us are taken for one.
            wants_tls: Tell a server that does not speak TLS nothing.
        """
        super().__init__()
        self._ps = _SafeParser(self)
        self._on_bad_message = on_bad_message
        self._replies = replies
        self._wants_tls = wants_tls
        self._takers: dict[int, Callable[[Arrived], None]] = {}

    def new_inbox(self) -> str:
        """Return a subject that nobody can guess; nats-py's follow from the one before."""
        return f"{bytes(self._inbox_prefix).decode()}.{secrets.token_hex(16)}"

    def hand_over(self, sid: int, take: Callable[[Arrived], None]) -> None:
        """Call ``take`` with each message of a subscription as it is read, past its queue.

        Args:
            sid: The subscription's number.
            take: Must neither block nor raise.
        """
        self._takers[sid] = take

    def send(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """Publish at once what the caller has checked; ``publish`` would check it again.

        With ``pending_size=0`` there is no point at which a cancelled caller could leave half
        a message behind.

        Args:
            subject: Not empty, no white space.
            reply: The same, or empty.
            headers: A whole header block (ADR-4), or empty.
            payload: Together with the headers within the server's limit.
        """
        self.send_commands((publish_line(subject, reply, headers, payload),))

    def send_commands(self, commands: Sequence[bytes]) -> None:
        """Put whole protocol lines of messages behind all that was sent before."""
        size_bytes = sum(map(len, commands))
        self.stats["out_msgs"] += len(commands)
        self.stats["out_bytes"] += size_bytes
        self._pending.extend(commands)
        self._pending_data_size += size_bytes
        if self._flush_queue is not None and self._flush_queue.empty():
            # What nats-py's own publish does, less the waiting that never comes.
            self._flush_queue.put_nowait(Future())

    async def _process_info(
        self,
        info: dict[str, Any],
        initial_connection: bool = False,  # noqa: FBT001, FBT002 -- nats-py's signature
    ) -> None:
        """Take what a server says of itself, before it is told who we are."""
        if self._wants_tls and initial_connection and not info.get("tls_required"):
            # nats-py goes on without TLS, whatever the URL's scheme, password and all.
            assert self._current_server is not None
            if self._current_server.uri.scheme != "wss":
                raise nats.errors.Error("the server does not speak TLS")
        await super()._process_info(info, initial_connection)

    async def handle(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Hand a message to its subscription, or drop it when it cannot be read."""
        take = self._takers.get(sid)
        try:
            if take is not None:
                self.stats["in_msgs"] += 1
                self.stats["in_bytes"] += len(data)
                lines = await self._process_headers(headers) if headers else None
                text = subject.decode(errors="replace")
                take(Arrived(text, self._answerable(reply), data, lines))
                return
            if reply and not self._is_inbox(sid):
                reply = self._answerable(reply).encode()
            await self._process_msg(sid, _as_utf8(subject), _as_utf8(reply), data, headers)
        except Exception:  # noqa: BLE001 -- whatever the bytes did, the read loop must go on
            self._on_bad_message()

    def _answerable(self, reply: bytes) -> str:
        """Return a reply subject, or nothing where no answer may go to it.

        Mended bytes would lead nowhere, and could be a longer line than the server takes: it
        ends a connection for that.
        """
        if not reply:
            return ""
        try:
            text = reply.decode()
        except UnicodeDecodeError:
            self._on_bad_message()
            return ""
        return text if self._replies.allow(reply) else ""

    def _is_inbox(self, sid: int) -> bool:
        """Whether a subscription is an inbox: JetStream delivers with ``$JS.ACK`` replies."""
        subscription = self._subs.get(sid)
        prefix = bytes(self._inbox_prefix).decode() + "."
        return subscription is not None and subscription.subject.startswith(prefix)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:  # noqa: ANN401
        """Parse a header block; an unreadable one counts as none."""
        try:
            return await super()._process_headers(headers)
        except Exception:  # noqa: BLE001 -- as above
            self._on_bad_message()
            return None

    async def _attempt_reconnect(self) -> None:
        """Drop the old connection with all that it has not sent, and find a new one."""
        writer: StreamWriter | None = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()

    async def _send_ping(self, future: Future[bool] | None = None) -> None:
        """Send a PING behind all that is unsent; nats-py's overtakes what a flush shall confirm."""
        self._pongs.append(future or Future())
        await self._send_command(b"PING\r\n")
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Take a PONG; the one that waited for it may have gone."""
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            return
        await super()._process_pong()


def publish_line(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    """Return a message as it goes over the wire; see ``ArmouredClient.send``."""
    if headers:
        return hpub_cmd(subject, reply, headers, payload)
    return pub_cmd(subject, reply, payload)


def header_block(headers: Mapping[str, str]) -> bytes:
    """Return headers as they go over the wire (ADR-4).

    Raises:
        ValueError: One is not printable ASCII, or holds what would begin another line.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if not _HEADER_LINES.fullmatch(lines) or lines.count("\n") != len(headers):
        raise ValueError("a header is not plain text")
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _as_utf8(text: bytes) -> bytes:
    """Return ``text`` unchanged when it is UTF-8, else with its bad bytes replaced."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode()
    return text
