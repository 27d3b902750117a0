"""A token request as it came, read leniently: what it must look like is judged later."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request

_BODY_BYTES_MAX = 64 * 1024


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters, and where they stood. Never shows: they hold tokens and secrets."""

    method: str
    body_format: str
    """``form``, ``json`` or ``query``; where both a body and a query are sent, the body's."""
    parameters: dict[str, str]
    repeated: tuple[str, ...] = ()
    """Parameters that came more than once."""
    authorization: str = ""

    def __repr__(self) -> str:
        """Show the shape only."""
        return f"Asked({self.method} {self.body_format})"

    @property
    def refresh_token(self) -> str:
        """What is presented; empty where nothing is."""
        return self.parameters.get("refresh_token", "")


async def read_asked(request: Request) -> Asked:
    """Read a request; what cannot be read has no parameters.

    Raises:
        starlette.requests.ClientDisconnect: The client left before it was complete.
    """
    body = b""
    async for chunk in request.stream():
        body = (body + chunk)[: _BODY_BYTES_MAX + 1]
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    pairs: list[tuple[str, str]]
    if len(body) > _BODY_BYTES_MAX:
        body_format, pairs = "form", []
    elif content_type == "application/json":
        body_format, pairs = "json", _json_pairs(body)
    elif body:
        body_format, pairs = "form", parse_qsl(body.decode(errors="replace"), True)  # noqa: FBT003
    else:
        body_format, pairs = "query", list(request.query_params.multi_items())
    parameters = dict(pairs)
    names = [name for name, _ in pairs]
    return Asked(
        method=request.method,
        body_format=body_format,
        parameters=parameters,
        repeated=tuple(name for name in parameters if names.count(name) > 1),
        authorization=request.headers.get("authorization", ""),
    )


def _json_pairs(body: bytes) -> list[tuple[str, str]]:
    """Return the texts of a JSON object."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return [(name, value) for name, value in fields.items() if isinstance(value, str)]
