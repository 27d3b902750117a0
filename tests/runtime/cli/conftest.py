"""The command line sets up logs for its process; here the process is everybody's."""

from collections.abc import Generator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Generator[None]:
    """Take back what a command has set up."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
