"""The actors run on trio here, on virtual time: an hour of waiting costs nothing."""

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Overrides the asyncio of the runtime's tests."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)})
