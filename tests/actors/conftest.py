"""The actors run on trio here, on virtual time: an hour of waiting costs nothing."""

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Overrides the asyncio of the runtime's tests; a test that asks for it indirectly has it."""
    if getattr(request, "param", "trio") == "asyncio":
        return "asyncio"
    return ("trio", {"clock": MockClock(autojump_threshold=0)})
