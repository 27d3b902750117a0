"""``RefreshdAuth`` for httpx2: ``pip install 'refreshd-client[httpx2]'``."""

try:
    import httpx2
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "httpx2 is not installed: pip install 'refreshd-client[httpx2]'", name="httpx2"
    ) from None

from refreshd_client.auth import TokenFlow


class RefreshdAuth(TokenFlow[httpx2.Request, httpx2.Response], httpx2.Auth):
    """The ``auth=`` of a request or an ``httpx2.AsyncClient``; ``TokenFlow`` says what it does.

    ::

        async with httpx2.AsyncClient(auth=RefreshdAuth(refreshd, connection_id)) as api:
            response = await api.get(url)
    """

    NOT_READ = httpx2.RequestNotRead
