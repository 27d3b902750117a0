"""A command that is handed over to its partition's owner, with whatever its caller sent."""

import time
from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

import pytest

from actors.world import MAILBOX_FULL, overloaded
from domain.result import Success
from runtime.gateway.in_flight import (
    HOPS_HEADER,
    MESSAGE_HEADER,
    OWNER_HEADER,
    Desk,
    InFlight,
    Load,
)
from runtime.nats.client import header_block
from runtime.nats.discoverable import Counted


class _Desk:
    """Sends what can be sent."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, str]] = []
        self.now_s = time.monotonic
        self.arrivals = self
        self.responder: Any = self
        self.mailbox_refusals = 0

    def earliest_s(self) -> float:
        return self.now_s()

    def answer(self, *_: object, **__: object) -> None:
        """Answer nobody."""

    def send_on(self, _in_flight: InFlight, headers: Mapping[str, str]) -> bool:
        header_block(headers)
        self.sent.append(headers)
        return True


def in_flight(desk: _Desk, counted: Counted) -> InFlight:
    return InFlight(cast("Desk", desk), counted, Load(10), reply_subject="_INBOX.x", data=b"{}")


def handed_over(headers: Mapping[str, str], digest: bytes | None = None) -> Mapping[str, str]:
    desk, load = _Desk(), Load(10)
    one = InFlight(cast("Desk", desk), Counted(), load, reply_subject="_INBOX.x", data=b"{}")
    one.connection_id, one.headers, one.timeout_s, one.digest = uuid4(), headers, 4.0, digest
    load.requests, load.bytes = 1, 2

    assert one.forward("d-2")

    assert (load.requests, load.bytes) == (0, 0)
    return desk.sent[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"": "no name"},
        {"name with\x7f": "x"},
        {"näme": "x"},
        {"Traceparent": "a\nb"},
        {"Traceparent": "\u00e9"},
        {"Long": "x" * 100_000},
    ],
    ids=["empty", "control", "umlaut", "line", "value", "long"],
)
def test_a_header_that_cannot_be_sent_is_left_out_and_holds_nothing_up(odd: dict[str, str]):
    sent = handed_over({"Plain": "kept"} | odd)

    assert sent["Plain"] == "kept"
    assert not sent.keys() & odd.keys()


def test_what_daemons_tell_each_other_no_caller_can_set():
    named = {OWNER_HEADER: "d-9", HOPS_HEADER: "7", MESSAGE_HEADER: "00"}

    sent = handed_over(named)
    with_message = handed_over(named, digest=bytes(16))

    assert (sent[OWNER_HEADER], sent[HOPS_HEADER]) == ("d-2", "1")
    assert MESSAGE_HEADER not in sent
    assert with_message[MESSAGE_HEADER] == "0" * 32


def test_the_time_that_is_left_goes_with_it():
    assert 3900 < int(handed_over({})["Refreshd-Timeout-Ms"]) <= 4000


def test_a_command_counts_once_where_it_is_answered_and_apart_where_it_is_handed_over():
    desk, counted = _Desk(), Counted()

    in_flight(desk, counted).reply(Success(None))
    in_flight(desk, counted).reply(MAILBOX_FULL)
    in_flight(desk, counted).reply(overloaded("too many connections are busy"))
    in_flight(desk, counted).forward("d-2")

    assert (counted.succeeded, counted.forwarded, counted.codes) == (1, 1, {"OVERLOADED": 2})
    assert desk.mailbox_refusals == 1
