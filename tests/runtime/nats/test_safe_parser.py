"""However the bytes are cut into packets, each request is handed over once, whole and in order."""

from typing import NamedTuple

import anyio
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from runtime.nats.client import ArmouredClient, Arrived
from runtime.nats.reply_subjects import ReplySubjects

_HEADERS = b"NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n"
_OURS, _ANOTHERS = 1, 2


class Line(NamedTuple):
    """One message as the server sends it."""

    subject: bytes
    sid: int
    reply: bytes
    has_headers: bool
    payload: bytes

    @property
    def wire(self) -> bytes:
        """Its bytes."""
        reply = b" " + self.reply if self.reply else b""
        if not self.has_headers:
            head = b"MSG %b %d%b %d\r\n" % (self.subject, self.sid, reply, len(self.payload))
            return head + self.payload + b"\r\n"
        sizes = (len(_HEADERS), len(_HEADERS) + len(self.payload))
        head = b"HMSG %b %d%b %d %d\r\n" % (self.subject, self.sid, reply, *sizes)
        return head + _HEADERS + self.payload + b"\r\n"

    @property
    def arrived(self) -> Arrived:
        """What is handed over."""
        headers = {"Nats-Msg-Id": "7"} if self.has_headers else None
        return Arrived(self.subject.decode(), self.reply.decode(), self.payload, headers)


_lines = st.builds(
    Line,
    # White space to nats-py, but not to a server.
    st.sampled_from((b"a.b", b"a.\x0b7", b"a\x0c1\x0b2.b")),
    st.sampled_from((_OURS, _OURS, _OURS, _ANOTHERS)),
    st.sampled_from((b"_INBOX.x.1", b"_INBOX.x.2", b"")),
    st.sampled_from((False, False, True)),
    st.binary(max_size=40)
    | st.sampled_from((b"MSG a.b 1 _INBOX.x 3\r\nabc\r\n", b"\r\n", b"PING\r\n")),
)


@given(st.lists(_lines, max_size=12), st.data())
def test_requests_are_handed_over_once_and_in_order_however_their_bytes_are_cut(
    lines: list[Line], data: st.DataObject
) -> None:
    wire = b"+OK\r\n" + b"".join(line.wire for line in lines)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    taken: list[Arrived] = []
    bad = 0

    def count() -> None:
        nonlocal bad
        bad += 1

    async def feed() -> None:
        client = ArmouredClient(count, ReplySubjects())
        client.hand_over(_OURS, taken.append)
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            await client._ps.parse(wire[start:end])

    anyio.run(feed)

    assert taken == [line.arrived for line in lines if line.sid == _OURS]
    assert not bad


class _Kept(bytearray):
    """What waits for the rest, and how often it was taken up again."""

    taken_up = 0

    def clear(self) -> None:
        self.taken_up += 1
        super().clear()


async def test_a_long_message_is_put_together_once_in_how_many_packets_it_may_come():
    client = ArmouredClient(lambda: None, ReplySubjects())
    kept = client._ps.buf = _Kept()
    taken: list[Arrived] = []
    client.hand_over(_OURS, taken.append)
    lines = [Line(b"a.b", _OURS, b"", has, b"x" * 100_000) for has in (False, True)]
    wire = b"".join(line.wire for line in lines)

    for start in range(0, len(wire), 1000):
        await client._ps.parse(wire[start : start + 1000])

    assert taken == [line.arrived for line in lines]
    assert kept.taken_up == len(lines)


@given(
    st.lists(
        st.binary(max_size=12)
        | st.sampled_from((b"Nats-Msg-Id: 7", b" a : b ", b": x", b"a\x1cb:1", b"a b:1", b"\x85:1"))
        | st.text(":\x1c\x85 \tab\u20ac", max_size=8).map(str.encode)
    )
)
def test_headers_are_read_as_nats_py_reads_them(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)

    assert ArmouredClient._parse_header_lines(raw) == Client._parse_header_lines(raw)
