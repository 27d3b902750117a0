"""Answers of token endpoints, for the tests of reading and judging them."""

from datetime import datetime, timedelta

import msgspec

from domain.credentials import Secret
from domain.exchange import Answered
from tests.domain.shapes import NOW

FORM = "application/x-www-form-urlencoded"


def answered(
    body: object = b"",
    status: int = 200,
    *,
    content_type: str = "application/json",
    retry_after: str | None = None,
    is_rate_limited: bool = False,
    date: datetime | None = None,
    took_s: float = 0.0,
) -> Answered:
    """Return an answer that was asked for at ``NOW``; what is no text becomes JSON."""
    if isinstance(body, str):
        body = body.encode()
    return Answered(
        status=status,
        body=Secret(body if isinstance(body, bytes) else msgspec.json.encode(body)),
        content_type=content_type,
        retry_after=retry_after,
        is_rate_limited=is_rate_limited,
        sent_at=NOW,
        received_at=NOW + timedelta(seconds=took_s),
        date=date,
    )
