"""What a person should do about a connection, and who: its user, an operator, or nobody.

Pure. ``domain.grant_end.action_needed`` says whether somebody must act for the grant; beside it
stands what an operator must mend where a provider refuses our configuration.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from domain.connection import ConnectionStatus, ProviderConnection
from domain.grant_end import action_needed
from domain.grant_life import NO_PROFILE, EndCause, access_ends_at, grant_ends, is_refreshable
from domain.profile import FailureClass, ProviderProfile


class HeldBack(NamedTuple):
    """A pause, a cool-down or an open circuit at a provider, as one connection meets it."""

    failure_class: FailureClass
    reason: str
    left_s: float
    """After how long this connection may ask."""


class Who(StrEnum):
    """Who has to act."""

    USER = "user"
    """The connection's user, whom the product asks."""
    OPERATOR = "operator"
    """Whoever runs the daemon."""
    NOBODY = "nobody"


class Advice(msgspec.Struct, frozen=True):
    """Who should do what."""

    who: Who
    text: str


_NOTHING = Advice(Who.NOBODY, "nothing has to be done")
_SIGN_IN = "ask the user to sign in again, and give the new credentials with "
_REFRESH = "`refreshd refresh {id} --credentials-file FILE`"
_CONNECT_AGAIN = (
    "refreshd connect --connection-id {id} --user-id {user_id} --provider-id {provider_id} "
    "--provider-slug {slug} --credentials-file FILE"
)
_CONNECT = f"`{_CONNECT_AGAIN}`"
_OF_STATUS = {
    ConnectionStatus.PENDING: Advice(
        Who.USER,
        f"let the user sign in, and give the credentials with {_CONNECT}; mark it with fail where "
        "that does not work out",
    ),
    ConnectionStatus.FAILED: Advice(
        Who.USER, f"let the user try once more, and give the credentials with {_CONNECT}"
    ),
    ConnectionStatus.EXPIRED: Advice(Who.USER, f"{_SIGN_IN}{_CONNECT}"),
    ConnectionStatus.REVOKED: Advice(Who.USER, f"if access is wanted again, {_SIGN_IN}{_CONNECT}"),
    ConnectionStatus.DISCONNECTED: Advice(
        Who.NOBODY, "nothing has to be done; another connection of this user gets an id of its own"
    ),
}


def advice(
    connection: ProviderConnection,
    profile: ProviderProfile | None,
    held_back: HeldBack | None,
    *,
    now: datetime,
    is_changed: bool = False,
) -> Advice:
    """Return who should do what. Never raises.

    Args:
        connection: As it is stored.
        profile: The provider's; None where the slug has none.
        held_back: Why the provider is asked nothing now, if so.
        now: Aware UTC.
        is_changed: As ``is_newer`` has it.
    """
    if connection.status in _OF_STATUS:
        found = _OF_STATUS[connection.status]
        return Advice(found.who, found.text.format(**_named(connection)))
    if connection.needs_reauth:
        return _sign_in(connection)
    mend = _mend(connection, profile, held_back)
    if mend is not None and is_changed:
        mend = f"if the next try does not show that it is mended: {mend}"
    return _of_the_grant(connection, profile, now) if mend is None else Advice(Who.OPERATOR, mend)


def _named(connection: ProviderConnection) -> dict[str, object]:
    """Return what commands name a connection by."""
    return {
        "id": connection.id,
        "user_id": connection.user_id,
        "provider_id": connection.provider_id,
        "slug": connection.provider_slug,
    }


def is_newer(connection: ProviderConnection, taken_at: datetime | None) -> bool:
    """Whether the configuration that the last refresh of a connection failed by is another now.

    Args:
        connection: As it is stored.
        taken_at: Since when its provider's is as it is; None: there is none, or nobody knows.
    """
    trouble = connection.trouble
    if trouble is None or trouble.failure_class is not FailureClass.OPERATOR:
        return False
    return taken_at is not None and trouble.at < taken_at and trouble.code != _OF_THE_KEYRING


_OF_THE_KEYRING = "cannot_unseal"


def _mend(
    connection: ProviderConnection, profile: ProviderProfile | None, held_back: HeldBack | None
) -> str | None:
    """Return what an operator is to mend for an ACTIVE connection, if anything."""
    trouble, slug = connection.trouble, connection.provider_slug
    if profile is None and is_refreshable(connection):
        return (
            f"add [providers.{slug}] to the configuration, and reload (SIGHUP): without it nothing "
            "is refreshed"
        )
    if trouble is not None and trouble.failure_class is FailureClass.OPERATOR:
        return mend_of(trouble.code, connection)
    if held_back is not None and held_back.failure_class is FailureClass.OPERATOR:
        return mend_of("", connection)
    if trouble is not None and trouble.failure_class is FailureClass.AMBIGUOUS:
        return f"nothing yet: if it goes on, see with `refreshd provider test {slug}` what answers"
    return None


def _sign_in(connection: ProviderConnection, *, by: str = "") -> Advice:
    """Return what gives an ACTIVE connection a new grant: its ``connect`` would be refused."""
    return Advice(Who.USER, f"{by}{_SIGN_IN}{_REFRESH.format(id=connection.id)}")


def _of_the_grant(
    connection: ProviderConnection, profile: ProviderProfile | None, now: datetime
) -> Advice:
    if action_needed(connection, profile, now) is not None:
        ends = grant_ends(connection, profile or NO_PROFILE)
        if any(end.cause is not EndCause.IDLE for end in ends):
            is_over = any(end.cause is not EndCause.IDLE and end.at <= now for end in ends)
            return _sign_in(connection, by="" if is_over else "before the grant ends, ")
        return Advice(
            Who.OPERATOR, "see that the provider can be asked before that: a refresh is enough"
        )
    trouble, ends_at = connection.trouble, access_ends_at(connection)
    if trouble is not None and ends_at is not None and ends_at <= now:
        return Advice(
            Who.NOBODY,
            "nothing has to be done: the daemon tries again; look at the provider's status page",
        )
    return _NOTHING


_PLACE = "[providers.{slug}]"
_THEN = (
    "; `refreshd provider test {slug}` tries it, a reload (SIGHUP) takes it, then "
    "`refreshd token {id} --force` refreshes as soon as the provider may be asked"
)
_CLIENT = f"correct client_id and client_secret_file of {_PLACE}{_THEN}"
_ALLOW = f"let this client refresh at the provider, or correct client_id of {_PLACE}{_THEN}"
_PARAMS = (
    "give this connection the params that its provider's URL needs: `refreshd expire {id}`, then "
    f"`{_CONNECT_AGAIN} --param NAME=VALUE`"
)
_MENDS = {
    "invalid_client": _CLIENT,
    "unauthorized": _CLIENT,
    "client_refused": _CLIENT,
    "unauthorized_client": _ALLOW,
    "unsupported_grant_type": _ALLOW,
    "invalid_scope": f"correct scope of {_PLACE}, or leave it out{_THEN}",
    "client_changed": (
        f"put the client_id that the grant was issued to back into {_PLACE}, or let the user sign "
        "in again"
    ),
    "wrong_endpoint": f"correct token_endpoint of {_PLACE}{_THEN}",
    "issuer_mismatch": f"correct issuer of {_PLACE}{_THEN}",
    "not_the_provider": "let the proxy or firewall before the provider pass this daemon's requests",
    _OF_THE_KEYRING: (
        "put the key that sealed its credentials back into the keyring, and reload (SIGHUP)"
    ),
    "template_value_missing": _PARAMS,
    "template_value_malformed": _PARAMS,
    "host_not_allowed": f"add its host to allowed_hosts of {_PLACE}, if it may be asked{_THEN}",
}
_ELSE = f"correct {_PLACE} of the configuration{_THEN}"


def mend_of(code: str, connection: ProviderConnection) -> str:
    """Return what an operator does about a failure that is the configuration's."""
    return _MENDS.get(code, _ELSE).format(**_named(connection))
