"""The command line sets up logs for its process; here the process is everybody's."""

from collections.abc import Generator

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_width_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the width of no terminal: parallel runs of the tests name one."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Generator[None]:
    """Take back what a command has set up."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
