"""The commands: where each is asked, what it takes, what it gives."""

from typing import NamedTuple

import msgspec

from domain.decision import AccessToken, ConnectionRef
from domain.explanation import Explanation
from domain.list_query import HistoryQuery, ListQuery
from runtime.contract.answers import ConnectionPage, ConnectionView, HistoryPage
from runtime.gateway.bodies import (
    ConnectBody,
    DisconnectBody,
    EmptyBody,
    ReasonBody,
    RefreshBody,
    TokenBody,
)


class Command(NamedTuple):
    """One endpoint of DESIGN.md section 3."""

    name: str
    subject: str
    """What follows the prefix."""
    summary: str
    body: type[msgspec.Struct]
    value: type[msgspec.Struct] | None = None
    """None: null."""
    changes: bool = True
    """Whether it changes something, and so is given a ``Nats-Msg-Id``."""
    is_open: bool = False
    """Whether its value is an object that is not fixed."""


_ONE = "connection.{connection_id}."

COMMANDS = (
    Command("Connect", "connect", "Make a connection.", ConnectBody, ConnectionRef),
    Command(
        "ConnectOne",
        f"{_ONE}connect",
        "Make a connection with this id, or give it new credentials when it is not active.",
        ConnectBody,
        ConnectionRef,
    ),
    Command("Refresh", f"{_ONE}refresh", "Replace the credentials by new ones.", RefreshBody),
    Command(
        "Token",
        f"{_ONE}token",
        "Give an access token that lives; it is refreshed at the provider where needed.",
        TokenBody,
        AccessToken,
        changes=False,
    ),
    Command("Get", f"{_ONE}get", "Show the connection.", EmptyBody, ConnectionView, changes=False),
    Command(
        "Explain",
        f"{_ONE}explain",
        "Tell in words where the connection stands, why, what comes next, and who must do what.",
        EmptyBody,
        Explanation,
        changes=False,
    ),
    Command(
        "History",
        f"{_ONE}history",
        "Tell what happened to the connection, the newest event last.",
        HistoryQuery,
        HistoryPage,
        changes=False,
    ),
    Command("Expire", f"{_ONE}expire", "Set an active connection expired.", ReasonBody),
    Command("Revoke", f"{_ONE}revoke", "Set an active connection revoked.", ReasonBody),
    Command("Fail", f"{_ONE}fail", "Set a pending connection failed.", ReasonBody),
    Command("Synced", f"{_ONE}synced", "Note that the provider's data were read.", EmptyBody),
    Command("Disconnect", f"{_ONE}disconnect", "End the connection for good.", DisconnectBody),
    Command(
        "List", "connections.list", "List connections.", ListQuery, ConnectionPage, changes=False
    ),
    Command(
        "Status", "status", "Tell how the daemons are.", EmptyBody, changes=False, is_open=True
    ),
)
