"""A trace is taken over whole, or not at all."""

import pytest

from domain.trace import Trace, read_trace

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_is_read_as_it_was_written() -> None:
    trace = Trace(PARENT, 'a=1,b="2"')

    assert read_trace(trace.headers) == trace
    assert read_trace({"Traceparent": PARENT, "Tracestate": "a=1"}) == Trace(PARENT, "a=1")
    assert read_trace({"traceparent": PARENT}) == Trace(PARENT)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"{PARENT}-more",
        f"{PARENT}\n",
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_a_parent_that_is_none_is_no_trace(parent: str) -> None:
    assert read_trace({"traceparent": parent, "tracestate": "a=1"}) is None


@pytest.mark.parametrize("state", ["", "a=1\r\nX: 1", "ä=1", "a" * 513])
def test_a_state_that_cannot_be_passed_on_is_left_out(state: str) -> None:
    assert read_trace({"traceparent": PARENT, "tracestate": state}) == Trace(PARENT)
