"""The way to a provider: which authorities its certificate may come from, and through which proxy.

``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` stand in for the system's authorities, ``HTTPS_PROXY`` and
``NO_PROXY`` name a proxy for all providers; a provider's own ``ca_file`` and ``proxy`` come first.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx2

from runtime.provider.secret_files import ConfigError, located

_PROXY = re.compile(r"http://([^/@\s]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/?")


class Route(NamedTuple):
    """A provider's own settings."""

    ca_file: Path | None = None
    """PEM; in place of the system's authorities."""
    proxy: str | None = None
    """None: as the environment says; empty: none."""

    def trust(self) -> ssl.SSLContext:
        """Return whom to trust; the files were checked at the start."""
        if self.ca_file is not None:
            return ssl.create_default_context(cafile=self.ca_file)
        return httpx2.create_ssl_context()

    def proxy_to(self, url: str) -> str | None:
        """Return the proxy for a request to ``url``; plain http stays on this machine."""
        place = urlsplit(url)
        if place.scheme != "https":
            return None
        if self.proxy is not None:
            return self.proxy or None
        proxies = getproxies_environment()
        if proxy_bypass(place.hostname or ""):
            return None
        return _with_scheme(proxies.get("https") or proxies.get("all") or "") or None


DIRECT = Route()


def route_of(section: Mapping[str, Any], where: str) -> Route:
    """Return what a provider's section says of the way to it.

    Raises:
        ConfigError: A file cannot be used, or a proxy is none; names the path.
    """
    ca_file, proxy = section.get("ca_file"), section.get("proxy")
    if ca_file is not None:
        if not isinstance(ca_file, str | Path) or not str(ca_file):
            raise ConfigError(f"{where}.ca_file: expected a path")
        ca_file = located(Path(ca_file))
        _check_authorities(ca_file, f"{where}.ca_file")
    if proxy is not None and proxy != "":
        if not isinstance(proxy, str) or _PROXY.fullmatch(proxy) is None:
            raise ConfigError(f"{where}.proxy: expected http://host:port, or empty for none")
        if "@" in proxy:
            raise ConfigError(f"{where}.proxy: no password here; HTTPS_PROXY may have one")
    return Route(ca_file, proxy)


def check_environment() -> None:
    """Check what the environment says for all providers.

    Raises:
        ConfigError: A variable cannot be used; its value is not quoted where it may be a secret.
    """
    if file := os.environ.get("SSL_CERT_FILE"):
        _check_authorities(Path(file), "environment variable SSL_CERT_FILE")
    proxies = getproxies_environment()
    for name, variable in (("https", "HTTPS_PROXY"), ("all", "ALL_PROXY")):
        proxy = _with_scheme(proxies.get(name) or "")
        if proxy and _PROXY.fullmatch(proxy) is None:
            raise ConfigError(
                f"environment variable {variable}: only proxies by http:// are used; unset it, or "
                'set proxy = "" for each provider'
            )


def _with_scheme(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _check_authorities(file: Path, where: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ConfigError(f"{where}: {file}: no certificates in PEM") from None
    except OSError as error:
        raise ConfigError(f"{where}: {file}: {error.strerror}") from None
