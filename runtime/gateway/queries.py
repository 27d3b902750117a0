"""Queries off the wire: which connections are listed, and which of one's events are told."""

import msgspec

from domain.connection import ConnectionStatus
from domain.list_query import HistoryQuery, ListQuery
from runtime.gateway.wire import MalformedError, decode_body

_list_query = msgspec.json.Decoder(ListQuery)
_history_query = msgspec.json.Decoder(HistoryQuery)
_STATUSES = frozenset(status.value for status in ConnectionStatus)


def read_history_query(body: bytes) -> HistoryQuery:
    """Return the query of ``connection.<id>.history``.

    Raises:
        MalformedError: ``INVALID_COMMAND`` or ``TOO_LARGE``.
    """
    return decode_body(_history_query, body or b"{}", 0)


def read_list_query(body: bytes) -> ListQuery:
    """Return the query of ``connections.list``.

    Raises:
        MalformedError: ``INVALID_COMMAND`` or ``TOO_LARGE``.
    """
    query = decode_body(_list_query, body or b"{}", 0)
    if query.status is not None and query.status not in _STATUSES:
        raise MalformedError(
            f"status is none of the six: {', '.join(ConnectionStatus)} - at `$.status`"
        )
    return query
