"""Where HTTP is served: ``[http]`` of the configuration."""

import ipaddress
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

DEFAULT_LISTEN = "127.0.0.1:9377"
_PATTERN = r"\A((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5})?\Z"
_PORT_MAX = 65_535


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health, metrics and the status page: without a login, so on loopback unless it is said."""

    listen: Annotated[str, Meta(pattern=_PATTERN)] | None = None
    """``host:port``; port 0: any free one; empty: nowhere. None: ``127.0.0.1:9377``, where
    nobody else listens there."""
    connections_max: Annotated[int, Meta(ge=1, le=1024)] = 64
    """How many connections are open at once; beyond it a new one is closed."""


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is reached from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_address(text: str) -> Address | None:
    """Return where to listen; None: nowhere.

    Raises:
        ValueError: The port is none; the text says so.
    """
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if int(port) > _PORT_MAX:
        raise ValueError(f"port {port} is over {_PORT_MAX}")
    return Address(host.strip("[]"), int(port))
