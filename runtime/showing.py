"""The web of a daemon, where it is configured and can be."""

import contextlib
import importlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from runtime.logs import log
from runtime.provider.secret_files import ConfigError
from runtime.web.address import DEFAULT_LISTEN, HttpConfig, read_address
from runtime.web.server import listening

if TYPE_CHECKING:
    from runtime.web.app import Web


@contextlib.asynccontextmanager
async def shown(config: HttpConfig) -> AsyncGenerator["Web"]:
    """Yield a web that answers until the end, as starting until ``show``.

    Where nothing is configured and the port is taken, as by another daemon of this machine, it
    listens nowhere: nobody asked for it.

    Raises:
        ConfigError: Nobody can listen where it is configured.
    """
    is_asked_for = config.listen is not None
    try:
        address = read_address(DEFAULT_LISTEN if config.listen is None else config.listen)
    except ValueError as error:
        raise ConfigError(f"http.listen: {error}") from None
    # It takes longer to import than most commands take, and nobody else needs it.
    app = importlib.import_module("runtime.web.app")
    web: Web = app.Web(is_local=address is None or address.is_loopback)
    async with contextlib.AsyncExitStack() as stack:
        if address is not None:
            try:
                at = await stack.enter_async_context(
                    listening(web.app, address, connections_max=config.connections_max)
                )
            except OSError as error:
                cause = error.strerror or type(error).__name__
                if is_asked_for:
                    raise ConfigError(
                        f"http.listen: {address} cannot be listened on ({cause}): name another, "
                        'or "" for none'
                    ) from None
                log.warning(
                    "http_off",
                    listen=str(address),
                    cause=cause,
                    remedy='free the port, or name another: [http] listen = "127.0.0.1:9378"',
                )
            else:
                web.address = str(at)
                if not address.is_loopback:
                    log.warning("http_without_login", listen=web.address)
        yield web
