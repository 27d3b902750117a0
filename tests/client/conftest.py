"""A daemon as a process, a provider to refresh at, and a client of theirs."""

from collections.abc import AsyncGenerator

import pytest
from refreshd_client import Refreshd

from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.client_scene import ClientScene
from tests.fakes.daemon_process import DaemonProcess, daemon_process, plain_caller
from tests.fakes.token_daemon import write_config


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """As everywhere, but for as long as the module's daemon lives."""
    return "asyncio"


@pytest.fixture(scope="module")
async def running_provider() -> AsyncGenerator[FakeProvider]:
    async with running_fake_provider() as running:
        yield running


@pytest.fixture
def provider(running_provider: FakeProvider) -> FakeProvider:
    """The module's provider, with nothing odd about it."""
    running_provider.quirks.clear()
    running_provider.stats.clear()
    return running_provider


@pytest.fixture(scope="module")
async def daemon(
    tmp_path_factory: pytest.TempPathFactory, running_provider: FakeProvider
) -> AsyncGenerator[DaemonProcess]:
    """A daemon that refreshes there; tests share it and use connections of their own."""
    folder = tmp_path_factory.mktemp("daemon")
    config = write_config(folder, running_provider)
    async with daemon_process(folder / "data", "--config", str(config)) as process:
        yield process


@pytest.fixture
async def refreshd(daemon: DaemonProcess) -> AsyncGenerator[Refreshd]:
    """A client of that daemon, let in by its context."""
    async with Refreshd(context=daemon.data_dir / "context.json") as client:
        yield client


@pytest.fixture
async def scene(
    daemon: DaemonProcess, provider: FakeProvider, refreshd: Refreshd
) -> AsyncGenerator[ClientScene]:
    async with plain_caller(**daemon.context) as caller:
        yield ClientScene(daemon, provider, refreshd, caller)
