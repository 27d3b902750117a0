"""The service's names and the subject prefix of its endpoints."""

import re

SERVICE_NAME = "refreshd"
QUEUE_GROUP = "refreshd"

_PREFIX_CHARACTERS_MAX = 100
"""It is in the names of streams, twice as long, and those are folders' names: at most 255."""
_PREFIX_PATTERN = re.compile(r"\A[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


def is_prefix(text: str) -> bool:
    """Whether ``text`` can be the subject prefix: plain tokens, no wildcard, short."""
    return len(text) <= _PREFIX_CHARACTERS_MAX and _PREFIX_PATTERN.match(text) is not None
