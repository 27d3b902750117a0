"""Where a NATS server is, how to be let in, and the bounds of the connection to it."""

import re
from pathlib import Path
from typing import Any

import msgspec

from actors.world import Count, Seconds

_SCHEME = re.compile(r"(nats|tls|wss?)://")
_AFTER_HOST = re.compile(r"[/?#]")


class LinkLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bounds of the NATS connection."""

    connect_timeout_s: Seconds = 10.0
    reconnect_wait_s: Seconds = 0.25
    ping_interval_s: Count = 2
    pings_outstanding_max: Count = 2
    probe_interval_s: Seconds = 2.0
    probes_missed_max: Count = 2
    requests_waiting_max: Count = 65_536
    unsent_bytes_max: Count = 64 * 1024 * 1024


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is, and how to be let in. Passwords and seeds never show."""

    url: str
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds_file: Path | None = None
    nkey_seed_file: Path | None = None

    @property
    def address(self) -> str:
        """The URL without any user, password, path or query in it."""
        known = _SCHEME.match(self.url)
        scheme = known[0] if known else ""
        before, _, host = self.url.removeprefix(scheme).rpartition("@")
        if _AFTER_HOST.search(before):
            # Was that a mark in the password, or the @ in the query? Show neither.
            return "an address that is not shown"
        return scheme + _AFTER_HOST.split(host, maxsplit=1)[0]

    def __repr__(self) -> str:
        """Show the address alone."""
        return f"Login({self.address})"

    def options(self) -> dict[str, Any]:
        """Return nats-py's connect options for this login."""
        options: dict[str, Any] = {
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": None if self.creds_file is None else str(self.creds_file),
            "nkeys_seed": None if self.nkey_seed_file is None else str(self.nkey_seed_file),
        }
        return {name: value for name, value in options.items() if value is not None}
