"""What decides in a cluster knows no event loop: it runs on trio here, on virtual time."""

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Overrides the asyncio of the other rooms' tests."""
    return ("trio", {"clock": MockClock(autojump_threshold=0)})
