"""Where the daemon is: a NATS context file, such as the daemon writes for its embedded server."""

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from refreshd_client.errors import NotConnectedError

_NEXT_SERVER = re.compile(r",\s*(?=(?:nats|tls|wss?)://)")


class _Context(msgspec.Struct):
    """As much of a NATS context (ADR-21) as says how to get in."""

    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    inbox_prefix: str = ""


def context_path(environment: Mapping[str, str]) -> Path:
    """Return where a daemon on this machine keeps its context, unless it was told otherwise."""
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    folder = environment.get("REFRESHD_DATA_DIR") or Path(state) / "refreshd"
    return Path(folder) / "context.json"


def servers_of(servers: str | Sequence[str]) -> list[str]:
    """Return the URLs in a list, or in one text with commas between; a password may hold one."""
    return _NEXT_SERVER.split(servers) if isinstance(servers, str) else [*servers]


def addresses_of(servers: str | Sequence[str] | None) -> str:
    """Return `` at `` and where the servers are, without users and passwords, for an error."""
    if not servers:
        return ""
    parts = [servers] if isinstance(servers, str) else servers
    return " at " + ", ".join(map(_address, parts))


def _address(server: str) -> str:
    scheme, separator, rest = server.partition("://")
    rest = rest if separator else server
    host = re.split(r"[/?#]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}://{host}" if separator else host


def options_of(context: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return what ``nats.connect`` is given to go where a context leads.

    Args:
        context: The file; None: that of the daemon on this machine.

    Raises:
        NotConnectedError: It is not there, or is no context. Its text is not quoted.
    """
    path = context_path(os.environ) if context is None else Path(context).expanduser()
    try:
        read = msgspec.json.decode(path.read_bytes(), type=_Context)
    except OSError as error:
        raise NotConnectedError(
            f"{path}: {error.strerror}; start a daemon here, or give servers= or context=: a "
            "daemon on an external NATS server writes no such file"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise NotConnectedError(f"{path}: is no NATS context") from None
    options = {
        "servers": servers_of(read.url) if read.url else "",
        "user": read.user,
        "password": read.password,
        "token": read.token,
        "user_credentials": read.creds,
        "nkeys_seed": read.nkey,
        "inbox_prefix": read.inbox_prefix,
    }
    found: dict[str, Any] = {name: value for name, value in options.items() if value}
    if read.ca or read.cert:
        found["tls"] = tls = ssl.create_default_context(cafile=read.ca or None)
        if read.cert:
            tls.load_cert_chain(read.cert, read.key or None)
    return found
