"""``RefreshdAuth`` for httpx: ``pip install 'refreshd-client[httpx]'``."""

try:
    import httpx
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "httpx is not installed: pip install 'refreshd-client[httpx]'", name="httpx"
    ) from None

from refreshd_client.auth import TokenFlow


class RefreshdAuth(TokenFlow[httpx.Request, httpx.Response], httpx.Auth):
    """The ``auth=`` of a request or an ``httpx.AsyncClient``; ``TokenFlow`` says what it does.

    ::

        async with httpx.AsyncClient(auth=RefreshdAuth(refreshd, connection_id)) as api:
            response = await api.get(url)
    """

    NOT_READ = httpx.RequestNotRead
