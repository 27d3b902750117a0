"""Where a NATS server is, how to be let in, and the bounds of the connection to it."""

import contextlib
import re
import ssl
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

import msgspec

from actors.world import Count, Seconds

_SCHEME = re.compile(r"(nats|tls|wss?)://")
_NEXT_SERVER = re.compile(r",\s*(?=(?:nats|tls|wss?)://)")
_AFTER_HOST = re.compile(r"[/?#]")


class LoginError(Exception):
    """It cannot be used; the text names the key of ``[nats]`` and quotes no password."""


class LinkLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of the NATS connection."""

    connect_timeout_s: Seconds = 10.0
    """How long the first connection may take."""
    reconnect_wait_s: Seconds = 0.25
    """The pause between two tries to connect again."""
    ping_interval_s: Count = 2
    """How often the server is pinged."""
    pings_outstanding_max: Count = 2
    """More pings without an answer, and another server is tried."""
    probe_interval_s: Seconds = 2.0
    """How often a message to ourselves tells whether the connection works."""
    probes_missed_max: Count = 2
    """So many missed in a row, and the connection is made anew."""
    requests_waiting_max: Count = 65_536
    """How many requests wait for the server's answer at once; one more is refused."""
    unsent_bytes_max: Count = 64 * 1024 * 1024
    """How much waits to be sent; beyond it nothing more is taken."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is, and how to be let in. Passwords and seeds never show."""

    url: str
    """Of one server, or of several with commas between; ``servers`` tells them apart."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds_file: Path | None = None
    nkey_seed_file: Path | None = None
    ca_file: Path | None = None
    """Trusted in place of the system's authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None
    """None where ``cert_file`` holds the key, too."""

    @property
    def address(self) -> str:
        """The URL without any user, password, path or query in it."""
        return ",".join(map(_address, self._parts))

    @property
    def who(self) -> str:
        """Whom the server takes us for, in words; a token or a seed is not shown."""
        if self.user is not None:
            return f"user {self.user!r}"
        file = self.creds_file or self.nkey_seed_file
        return "this user" if file is None else f"the user of {file}"

    def __repr__(self) -> str:
        """Show the address alone."""
        return f"Login({self.address})"

    @property
    def servers(self) -> list[str]:
        """The URL of each server. One without a user has that of the first that has one.

        A comma ends a server where a scheme follows it, or where there is no ``@`` in all of it:
        it may be a password's.

        Raises:
            LoginError: One of several is no server; the text says which.
        """
        parts = self._parts
        if len(parts) == 1:
            return parts
        known = [_checked(part, f"{n} of {len(parts)}") for n, part in enumerate(parts, 1)]
        if len({one.scheme in ("ws", "wss") for one in known}) > 1:
            raise LoginError("nats.url: either all servers are ws:// or wss://, or none is")
        first = next((_userinfo(one) for one in known if _userinfo(one)), "")
        return [
            one.geturl() if _userinfo(one) else one._replace(netloc=first + one.netloc).geturl()
            for one in known
        ]

    @property
    def wants_tls(self) -> bool:
        """Whether a server that does not speak TLS is to be told nothing."""
        given = self.ca_file or self.cert_file or self.key_file
        return given is not None or any(
            part.startswith(("tls://", "wss://")) for part in self._parts
        )

    @property
    def _parts(self) -> list[str]:
        if "@" in self.url:
            return _NEXT_SERVER.split(self.url)
        return [part.strip() for part in self.url.split(",")]

    def options(self) -> dict[str, Any]:
        """Return nats-py's connect options for this login.

        Raises:
            LoginError: A certificate or its key cannot be used.
        """
        options: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": None if self.creds_file is None else str(self.creds_file),
            "nkeys_seed": None if self.nkey_seed_file is None else str(self.nkey_seed_file),
            "tls": self._tls(),
        }
        return {name: value for name, value in options.items() if value is not None}

    def _tls(self) -> ssl.SSLContext | None:
        if not self.wants_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise LoginError(_told("ca_file", self.ca_file, error)) from None
        if self.cert_file is None and self.key_file is not None:
            raise LoginError("nats.key_file: the certificate is missing: set nats.cert_file")
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, _no_passphrase)
            except OSError as error:
                key = "cert_file" if self.key_file is None else "cert_file and nats.key_file"
                raise LoginError(_told(key, self.cert_file, error)) from None
        return context


def _address(part: str) -> str:
    """Return one server's URL without any user, password, path or query in it."""
    known = _SCHEME.match(part)
    scheme = known[0] if known else ""
    before, _, host = part.removeprefix(scheme).rpartition("@")
    if _AFTER_HOST.search(before):
        # Was that a mark in the password, or the @ in the query? Show neither.
        return "an address that is not shown"
    return scheme + _AFTER_HOST.split(host, maxsplit=1)[0]


def _checked(part: str, which: str) -> SplitResult:
    """Return one of several servers' URL, with its scheme."""
    with contextlib.suppress(ValueError):
        url = urlsplit(part if _SCHEME.match(part) else f"nats://{part}")
        if url.hostname and url.port != 0 and not re.search(r"[\s,]", url.netloc):
            return url
    raise LoginError(
        f"nats.url: server {which}, {_address(part)!r}, is not nats://host:port; where a user is "
        "given, each server needs its scheme"
    )


def _userinfo(url: SplitResult) -> str:
    """Return user and password of a URL with the @ behind them, or nothing."""
    return "".join(url.netloc.rpartition("@")[:2])


def _told(key: str, file: Path | None, error: OSError) -> str:
    """Return what is wrong with a file; OpenSSL's own words say no more than that it is no PEM."""
    if isinstance(error, ssl.SSLError):
        return f"nats.{key}: {file}: not PEM, or certificate and key do not belong together"
    return f"nats.{key}: {error.filename or file}: {error.strerror}"


def _no_passphrase() -> NoReturn:
    """Keep OpenSSL from asking for one on the terminal."""
    raise LoginError("nats.key_file: the key is encrypted: write it without a passphrase")
