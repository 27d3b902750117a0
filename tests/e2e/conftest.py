"""Fixtures of the end-to-end tests: one daemon process per module, and a caller with NATS alone."""

from collections.abc import AsyncGenerator

import pytest

from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As everywhere, but for as long as the module's daemon lives."""
    return "asyncio"


@pytest.fixture(scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[DaemonProcess]:
    """A daemon with an embedded server; tests share it and use ids of their own."""
    async with daemon_process(tmp_path_factory.mktemp("daemon"), is_warm=False) as process:
        yield process


@pytest.fixture(scope="module")
async def caller(daemon: DaemonProcess) -> AsyncGenerator[PlainCaller]:
    """A caller of that daemon."""
    async with plain_caller(**daemon.context) as plain:
        yield plain
