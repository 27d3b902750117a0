"""The service's names and the subject prefix of its endpoints."""

import re

SERVICE_NAME = "refreshd"
QUEUE_GROUP = "refreshd"
DEFAULT_PREFIX = "refreshd.v1"

_PREFIX_PATTERN = re.compile(r"\A[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


def is_prefix(text: str) -> bool:
    """Whether ``text`` can be the subject prefix: plain tokens, no wildcard, not ``$...``."""
    return _PREFIX_PATTERN.match(text) is not None
