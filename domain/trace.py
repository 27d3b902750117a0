"""Whose trace something belongs to: W3C trace context as it is passed on, not looked into.

Source:
    https://www.w3.org/TR/trace-context-1/, sections 3.2 and 3.3.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

PARENT = "traceparent"
STATE = "tracestate"
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")


class Trace(NamedTuple):
    """The two headers, checked: nothing in them ends a header or a line."""

    parent: str
    state: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Return them as headers."""
        return {PARENT: self.parent} | ({} if self.state is None else {STATE: self.state})


def read_trace(headers: Mapping[str, str]) -> Trace | None:
    """Return the trace that a command's headers name; None: none, or not as it must be."""
    parent = headers.get(PARENT) or headers.get("Traceparent")
    if parent is None or not _PARENT.fullmatch(parent):
        return None
    state = headers.get(STATE) or headers.get("Tracestate")
    return Trace(parent, state if state is not None and _STATE.fullmatch(state) else None)
