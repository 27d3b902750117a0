"""What an event tells, in words: pure, of a CloudEvent as it is in the stream."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from domain.refreshing import NOT_ASKED_CODE


class Told(NamedTuple):
    """An event, for people."""

    time: str
    """To the second."""
    what: str
    outcome: str
    took: str
    """How long after the Attempted before it; empty where there is none."""
    detail: str


_KIND = re.compile(r"Provider(?P<what>\w+?)(?P<outcome>Attempted|Succeeded|Failed)")
_WHAT = {
    "Connection": "connection",
    "Disconnection": "disconnection",
    "TokenRefresh": "token_refresh",
}
_AT_PROVIDER = "at the provider"
_NOT_ASKED = "about to ask the provider"
_TOOK_S_MIN = 0.001
"""What is decided at once took no time."""
_CHANGES = {
    "ProviderConnectionStatusChanged": ("status", "changed"),
    "ProviderGrantExpiring": ("grant", "expiring"),
    "ProviderGrantNeedsReauth": ("grant", "needs_reauth"),
    "ProviderGrantRecovered": ("grant", "recovered"),
    "ProviderClientPaused": ("client", "paused"),
    "ProviderClientResumed": ("client", "resumed"),
}


def told(events: Sequence[Mapping[str, Any]]) -> list[Told]:
    """Return each of a connection's events in words.

    Args:
        events: CloudEvents, in the order of the stream. One of a later version has its type and no
            words.
    """
    not_asked = {
        event["data"].get("attempt_id")
        for event in events
        if event["data"].get("code") == NOT_ASKED_CODE
    }
    begun: dict[str, str] = {}
    found: list[Told] = []
    for event in events:
        what, outcome = _named(event["type"])
        took = ""
        if outcome == "attempted":
            begun[what] = event["time"]
        elif outcome in ("succeeded", "failed") and (at := begun.pop(what, None)) is not None:
            took = _took(at, event["time"])
        time = re.sub(r"\.[0-9]+", "", event["time"])
        detail = _detail(event["data"], what, outcome)
        if detail == _AT_PROVIDER and event["data"]["attempt_id"] in not_asked:
            detail = _NOT_ASKED
        found.append(Told(time, what, outcome, took, detail))
    return found


def _named(kind: str) -> tuple[str, str]:
    """Return what an event is about and which step it tells."""
    if kind in _CHANGES:
        return _CHANGES[kind]
    step = _KIND.fullmatch(kind)
    if step is None or step["what"] not in _WHAT:
        return kind.removeprefix("Provider"), "-"
    return _WHAT[step["what"]], step["outcome"].lower()


def _took(begun: str, ended: str) -> str:
    """Return how long a step took, or nothing where a clock was set back meanwhile."""
    try:
        took_s = (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds()
    except ValueError:
        return ""
    if took_s < _TOOK_S_MIN:
        return ""
    return f"{took_s * 1000:.0f} ms" if took_s < 1 else f"{took_s:.1f} s"


def _detail(data: Mapping[str, Any], what: str, outcome: str) -> str:
    """Return what else there is to say, in one line."""
    parts: list[str] = []
    if what == "token_refresh" and outcome == "attempted":
        parts.append(_AT_PROVIDER if data.get("attempt_id") else "a caller's credentials")
    if "to_status" in data:
        change = f"{data.get('from_status')} -> {data['to_status']}"
        parts.append(f"{change}:" if data.get("reason") else change)
    if data.get("grant_ends_at"):
        parts.append(f"ends at {_to_the_second(data['grant_ends_at'])} by its {data.get('cause')}")
    if data.get("reason"):
        parts.append(str(data["reason"]))
    codes = [str(data[name]) for name in ("code", "provider_code") if data.get(name)]
    if codes:
        parts.append(f"({', '.join(dict.fromkeys(codes))})")
    if data.get("needs_user_action"):
        parts.append("- its user must act")
    if data.get("retry_at"):
        parts.append(f"- not again before {_to_the_second(data['retry_at'])}")
    return " ".join(parts)


def _to_the_second(time: object) -> str:
    return re.sub(r"\.[0-9]+", "", str(time))
