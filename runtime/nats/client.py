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
from asyncio import Future, StreamWriter, get_running_loop
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.protocol.parser import Parser

from runtime.logs import frames_of, log
from runtime.nats.reply_subjects import ReplySubjects
from runtime.nats.server_pool import known_servers, others_first

_CRLF = 2
_NO_STATUS = b"NATS/1.0\r\n"
"""How a header block begins that is a caller's own."""
_MESSAGES = (b"MSG ", b"HMSG ")
_PLAIN = b"M"[0]
_WORDS_WITH_REPLY = 5
_UNSENT_BYTES = 64 * 1024
"""Where the event loop has more to send than this, nats-py's flusher waits until it has not."""
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
        if self.buf:
            if len(self.buf) + len(data) < self.needed:
                # Joined anew at each read, a long message would cost the square of its length.
                self.buf.extend(data)
                return
            data = bytes(self.buf) + data
            self.buf.clear()
        self.needed, at, takers = 0, 0, self._client.takers
        while (end := data.find(b"\r\n", at)) >= 0:
            over, line = end + _CRLF, data[at:end]
            if not line.startswith(_MESSAGES):
                await super().parse(data[at:over])
                at = over
                continue
            words = line.split(b" ")
            at_content, over = over, over + int(words[-1]) + _CRLF
            if len(data) < over:
                self.needed = over - at
                break
            content, at = data[at_content : over - _CRLF], over
            if line[0] == _PLAIN and (take := takers.get(words[2])) is not None:
                self._client.take_plain(take, words, content)
            else:
                await self._take(words, content)
        self.buf.extend(data[at:])

    async def _take(self, words: Sequence[bytes], content: bytes) -> None:
        """Hand a message over whose protocol line was ``words``."""
        verb, subject, sid, *more = words
        sizes = 2 if verb == b"HMSG" else 1
        size = int(more[-2]) if sizes > 1 else 0
        reply = more[0] if len(more) > sizes else b""
        await self._client.handle(sid, subject, reply, content[size:], content[:size])


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
        self._turn: list[bytes] = []
        self._turn_bytes = 0
        self.takers: dict[bytes, Callable[[Arrived], None]] = {}
        """Who takes a subscription's messages as they are read, by its number as it is written."""

    def new_inbox(self) -> str:
        """Return a subject that nobody can guess; nats-py's follow from the one before."""
        return f"{bytes(self._inbox_prefix).decode()}.{secrets.token_hex(16)}"

    async def take_all(
        self, subject: str, take: Callable[[Arrived], None], *, queue: str = ""
    ) -> None:
        """Subscribe, and call ``take`` with each message as it is read; see ``hand_over``."""
        subscription = await self.subscribe(subject, queue, cb=_never)
        self.hand_over(subscription._id, take)  # noqa: SLF001 -- nats-py does not show it

    def hand_over(self, sid: int, take: Callable[[Arrived], None]) -> None:
        """Call ``take`` with each message of a subscription as it is read, past its queue.

        Args:
            sid: The subscription's number.
            take: Must neither block nor raise.
        """
        self.takers[b"%d" % sid] = take

    def give_up(self, sid: int) -> None:
        """End a subscription at once; what is on its way is dropped."""
        self.takers.pop(b"%d" % sid, None)
        subscription = self._subs.pop(sid, None)
        if subscription is not None:
            subscription._stop_processing()  # noqa: SLF001 -- nats-py's own way waits
        if self.can_send:
            self.send_commands((b"UNSUB %d\r\n" % sid,))

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
        if not self._turn:
            get_running_loop().call_soon(self._send_turn)
        self._turn.append(line := publish_line(subject, reply, headers, payload))
        self._turn_bytes += len(line)

    def _send_turn(self) -> None:
        """Write what this turn of the event loop has sent: a write costs as much as a message."""
        if self._turn:
            self.send_commands(())

    def send_commands(self, commands: Sequence[bytes]) -> None:
        """Put whole protocol lines of messages behind all that was sent before."""
        if self._turn:
            commands, self._turn, self._turn_bytes = [*self._turn, *commands], [], 0
        size_bytes = sum(map(len, commands))
        self.stats["out_msgs"] += len(commands)
        self.stats["out_bytes"] += size_bytes
        writer = self._free_writer()
        if writer is not None:
            # nats-py's flusher would do the same a turn of the event loop later.
            writer.write(b"".join(commands))
            return
        self._pending.extend(commands)
        self._pending_data_size += size_bytes
        if self._flush_queue is not None and self._flush_queue.empty():
            # What nats-py's own publish does, less the waiting that never comes.
            self._flush_queue.put_nowait(Future())

    @property
    def can_send(self) -> bool:
        """Whether there is a connection, and none that broke before nats-py has read of it.

        uvloop raises RuntimeError for what is written in that time.
        """
        writer = self._writer
        return self.is_connected and (writer is None or not writer.transport.is_closing())

    @property
    def unsent_bytes(self) -> int:
        """How much nats-py and the socket's writer hold together."""
        writer = self._writer
        held = 0 if writer is None else writer.transport.get_write_buffer_size()
        return self._turn_bytes + self._pending_data_size + held

    @property
    def _writer(self) -> StreamWriter | None:
        """The socket's writer; None without a socket of our own, as for a websocket."""
        transport = self._transport
        # nats-py does not show it.
        return transport._io_writer if isinstance(transport, TcpTransport) else None  # noqa: SLF001

    def _free_writer(self) -> StreamWriter | None:
        """Return the socket's writer if it is open and little is unsent, here and there."""
        writer = self._writer
        if self._pending or writer is None or not self.can_send:
            return None
        return writer if writer.transport.get_write_buffer_size() <= _UNSENT_BYTES else None

    async def close(self) -> None:
        """Close, and leave no socket open where nats-py's own close breaks off before it."""
        self._send_turn()
        try:
            await super().close()
        finally:
            writer = self._writer
            if writer is not None and not writer.transport.is_closing():
                writer.transport.abort()

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
        if told := info.get("connect_urls"):
            self._server_pool = known_servers(self._server_pool, told)

    def take_plain(
        self, take: Callable[[Arrived], None], words: Sequence[bytes], content: bytes
    ) -> None:
        """Hand over a message without headers whose protocol line was ``words``."""
        reply = words[3] if len(words) == _WORDS_WITH_REPLY else b""
        self._hand_over(take, words[1], reply, content, None)

    async def handle(
        self, sid: bytes, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Hand a message to its subscription, or drop it when it cannot be read."""
        take = self.takers.get(sid)
        if take is not None:
            if not headers:
                lines = None
            elif headers.startswith(_NO_STATUS):
                lines = self._parse_header_lines(headers[len(_NO_STATUS) :]) or None
            else:
                lines = await self._process_headers(headers)
            self._hand_over(take, subject, reply, data, lines)
            return
        try:
            number = int(sid)
            if reply and not self._is_inbox(number):
                reply = self._answerable(reply).encode()
            await self._process_msg(number, _as_utf8(subject), _as_utf8(reply), data, headers)
        except Exception:  # noqa: BLE001 -- whatever the bytes did, the read loop must go on
            self._on_bad_message()

    def _hand_over(
        self,
        take: Callable[[Arrived], None],
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: Mapping[str, str] | None,
    ) -> None:
        try:
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
            text = subject.decode(errors="replace")
            take(Arrived(text, self._answerable(reply), data, headers))
        except Exception as error:  # noqa: BLE001 -- a taker's bug: the read loop must go on
            log.error("message_crashed", error=type(error).__name__, frames=frames_of(error))
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

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Do as nats-py does, which looks for white space in a name letter by letter."""
        lines: dict[str, str] = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            name = name.strip()
            if colon and name.isascii():
                key = name.decode()
                if not key or key.split() == [key]:
                    lines[key] = value.strip().decode("utf-8", "replace")
        return lines

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:  # noqa: ANN401
        """Parse a header block; an unreadable one counts as none."""
        try:
            return await super()._process_headers(headers)
        except Exception:  # noqa: BLE001 -- as above
            self._on_bad_message()
            return None

    async def _attempt_reconnect(self) -> None:
        """Drop the old connection with all that it has not sent, and find a new one."""
        writer = self._writer
        if writer is not None:
            writer.transport.abort()
        self.options["dont_randomize"] = True
        self._server_pool = others_first(self._server_pool, self._current_server)
        await super()._attempt_reconnect()

    async def _send_ping(self, future: Future[bool] | None = None) -> None:
        """Send a PING behind all that is unsent; nats-py's overtakes what a flush shall confirm."""
        self._send_turn()
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


async def _never(_: Msg) -> None:
    """Stand for a callback: what is handed over goes past it."""


def publish_line(subject: str, reply: str, headers: bytes, payload: bytes) -> bytes:
    """Return a message as it goes over the wire; see ``ArmouredClient.send``."""
    where, size = f"{subject} {reply}" if reply else subject, len(headers) + len(payload)
    if not headers:
        return b"".join((f"PUB {where} {size}\r\n".encode(), payload, b"\r\n"))
    line = f"HPUB {where} {len(headers)} {size}\r\n".encode()
    return b"".join((line, headers, payload, b"\r\n"))


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
