"""What ``RefreshdAuth`` does for either HTTP library."""

import logging
from collections.abc import AsyncGenerator, Generator, MutableMapping
from typing import Generic, NoReturn, Protocol, TypeVar
from uuid import UUID

from refreshd_client.client import Refreshd
from refreshd_client.errors import InvalidCommandError

log = logging.getLogger("refreshd_client")
_UNAUTHORIZED = 401


class Request(Protocol):
    """As much of a request as is touched."""

    @property
    def headers(self) -> MutableMapping[str, str]:
        """Its headers, to write to."""
        ...

    @property
    def content(self) -> bytes:
        """Its body; raises where that is a stream."""
        ...


class Response(Protocol):
    """As much of a response as is looked at."""

    @property
    def status_code(self) -> int:
        """Its status."""
        ...


RequestT = TypeVar("RequestT", bound=Request)
ResponseT = TypeVar("ResponseT", bound=Response)


class TokenFlow(Generic[RequestT, ResponseT]):
    """Signs each request with a connection's token; on a 401 once more, with the next one.

    The next one is asked for with ``if_generation``, so all who meet the 401 cause one refresh. A
    request whose body is a stream is not repeated, for the stream is spent: its 401 is returned,
    and the next request has the new token. Nor is one repeated where there is no other token, or
    where the API rejected a new one as well within the last minute: then it is not the token.

    Raises what ``Refreshd.token`` raises, out of the HTTP client's call.
    """

    NOT_READ: type[Exception]
    """What the library raises for the content of a body that is a stream."""

    def __init__(
        self,
        refreshd: Refreshd,
        connection_id: UUID | str,
        *,
        min_ttl_s: float = 60.0,
        header: str = "Authorization",
        scheme: str = "Bearer",
    ) -> None:
        """Sign for one connection.

        Args:
            refreshd: An open client.
            connection_id: Whose token.
            min_ttl_s: How long a token must still live when a request begins.
            header: Where the API wants it. Of another name than ``Authorization`` it stays in a
                request that is redirected to another host: do not follow redirects with it.
            scheme: What stands before it there; may be empty.
        """
        self._refreshd = refreshd
        self._connection_id = _known(connection_id)
        self._min_ttl_s = min_ttl_s
        self._header = header
        self._before = f"{scheme} " if scheme else ""

    async def async_auth_flow(self, request: RequestT) -> AsyncGenerator[RequestT, ResponseT]:
        """See the class."""
        refreshd, name = self._refreshd, self._connection_id
        token = await refreshd.token(name, min_ttl_s=self._min_ttl_s)
        request.headers[self._header] = self._before + token.access_token
        response = yield request
        if response.status_code != _UNAUTHORIZED:
            return
        if refreshd.tokens.is_in_vain(name, token.generation):
            return
        renewed = await refreshd.token(
            name, min_ttl_s=self._min_ttl_s, if_generation=token.generation
        )
        if renewed.generation == token.generation:
            return
        if self._is_spent(request):
            log.warning("401, and not repeated: the request's body is a stream, which is spent")
            return
        request.headers[self._header] = self._before + renewed.access_token
        response = yield request
        if response.status_code == _UNAUTHORIZED:
            refreshd.tokens.was_in_vain(name, renewed.generation)

    def sync_auth_flow(self, request: RequestT) -> Generator[RequestT, ResponseT, NoReturn]:
        """Refuse: tokens are asked for on an event loop.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("RefreshdAuth is for AsyncClient")
        yield request

    def _is_spent(self, request: RequestT) -> bool:
        """Whether the body cannot be sent a second time."""
        try:
            len(request.content)
        except self.NOT_READ:
            return True
        return False


def _known(connection_id: UUID | str) -> str:
    """Return the id as text; a wrong one is told when the auth is made."""
    try:
        return str(connection_id if isinstance(connection_id, UUID) else UUID(connection_id))
    except ValueError:
        raise InvalidCommandError("connection_id is not a UUID") from None
