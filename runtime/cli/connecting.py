"""``refreshd connect``: one request, and what will not work later on stderr."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from runtime.cli.asking import Asking, StreamOrFile, ask, read_json, read_pair, to_stderr
from runtime.cli.tables import show_fields

_HERE = Asking()


def connect(
    *,
    user_id: str,
    provider_id: str,
    provider_slug: str,
    credentials_file: StreamOrFile | None = None,
    connection_id: str | None = None,
    alias: str | None = None,
    param: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    refresh: Literal["proactive", "on_demand"] | None = None,
    granted_at: str | None = None,
    grant_expires_at: str | None = None,
    pending: Annotated[bool, Parameter(negative=())] = False,
    asking: Asking = _HERE,
) -> None:
    """Create a connection, or give one that is not active new credentials.

    Parameters
    ----------
    user_id
        The owner's UUID.
    provider_id
        The provider's UUID.
    provider_slug
        1-50 of a-z, 0-9, _ and -.
    credentials_file
        JSON: {"credential_type", "expires_at"?, "secret" or "encrypted_data"}; - for stdin.
    connection_id
        Its UUID; the daemon chooses one without it.
    alias
        A name for people, at most 100 characters.
    param
        NAME=VALUE for the templates of the provider's profile; may be repeated.
    refresh
        When its tokens are refreshed: before they end, or when somebody asks; the provider's
        profile says it without.
    granted_at
        When the user consented, in RFC 3339 (2026-01-31T09:00:00Z); now without it.
    grant_expires_at
        When refreshing ends, in RFC 3339, as the provider told.
    pending
        Create it without credentials.
    """
    body: dict[str, Any] = {
        "user_id": user_id,
        "provider_id": provider_id,
        "provider_slug": provider_slug,
        "connection_id": connection_id,
        "alias": alias,
        "refresh": refresh,
        "granted_at": granted_at,
        "grant_expires_at": grant_expires_at,
        "pending": pending,
    }
    if credentials_file is not None:
        body["credentials"] = read_json(credentials_file)
    if param:
        body["params"] = dict(read_pair(text) for text in param)

    def show(value: dict[str, Any]) -> str:
        for warning in value.pop("warnings", ()):
            to_stderr(f"refreshd: warning: {warning}")
        return show_fields(value)

    ask(asking, "connect", body, show)
