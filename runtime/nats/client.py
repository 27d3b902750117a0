"""nats-py's client, mended where one hostile message would end the connection or misuse it.

nats-py 2.16 runs every parser callback inside its read loop, and the loop ends at the first
exception that it does not expect, while ``is_connected`` stays true:

- a subject, reply or status line that is not UTF-8 raises in ``_build_message`` or
  ``_process_headers``: anybody who may publish to us could silence the daemon;
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
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from runtime.nats.reply_subjects import ReplySubjects

_CRLF = 2
_WORDS = 5
"""MSG, subject, subscription, reply subject and size."""
_HEADER_LINES = re.compile(r"(?:[!-9;-~]+: [ -~]*\r\n)*")


class Arrived(NamedTuple):
    """A message as it came."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str] | None


class _QuickParser(Parser):
    """nats-py's parser, with a short cut for requests that have no headers: most of them.

    Several come in one packet, and a request costs less to handle than to be parsed by nats-py,
    which matches each by a regular expression and copies it twice. Whatever is not plainly whole
    goes nats-py's way.
    """

    def __init__(self, client: "ArmouredClient") -> None:
        super().__init__(client)
        self._client = client

    async def parse(self, data: bytes = b"") -> None:
        """Take what a connection has read."""
        if self.state == AWAITING_CONTROL_LINE:
            data, is_begun = self._client.take_whole(bytes(self.buf) + data)
            self.buf.clear()
            if is_begun:
                # A part of another one: the rest of it comes with the next packet.
                self.buf.extend(data)
                return
        await super().parse(data)


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
        self._ps = _QuickParser(self)
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

    def take_whole(self, data: bytes) -> tuple[bytes, bool]:
        """Hand the requests at the beginning of ``data`` over.

        Returns:
            What is left of it, and whether that begins with a part of another such request.
        """
        at, is_begun = 0, False
        while data.startswith(b"MSG ", at):
            end = data.find(b"\r\n", at)
            words = data[at:end].split()
            if end < 0 or len(words) != _WORDS:
                break
            take = self._takers.get(int(words[2]))
            over = end + _CRLF + int(words[4])
            is_begun = take is not None and len(data) < over + _CRLF
            if take is None or is_begun:
                break
            self._hand(take, words[1], words[3], data[end + _CRLF : over], None)
            at = over + _CRLF
        return data[at:] if at else data, is_begun

    def _hand(
        self,
        take: Callable[[Arrived], None],
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            take(Arrived(subject.decode(errors="replace"), self._answerable(reply), data, headers))
        except Exception:  # noqa: BLE001 -- the read loop must go on
            self._on_bad_message()

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

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Hand a message to its subscription, or drop it when it cannot be read."""
        take = self._takers.get(sid)
        try:
            if take is not None:
                lines = await self._process_headers(headers) if headers else None
                self._hand(take, subject, reply, data, lines)
                return
            if reply and not self._is_inbox(sid):
                reply = self._answerable(reply).encode()
            await super()._process_msg(sid, _as_utf8(subject), _as_utf8(reply), data, headers)
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
