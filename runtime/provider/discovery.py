"""Finds an issuer's token endpoint from its metadata (RFC 8414, OpenID Connect Discovery)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from domain.exchange import Answered, Exchange, Misconfigured, NotSent
from runtime.provider.endpoint_url import discovered_url

_KEPT_S = 3600.0
_FAILURE_KEPT_S = 5.0
_ENTRIES_MAX = 1000
_OK = 200

Found = str | Misconfigured | NotSent


class _Metadata(msgspec.Struct):
    issuer: str
    token_endpoint: str


class _Kept(NamedTuple):
    found: Found
    until_s: float


class _Key(NamedTuple):
    issuer: str
    allowed_hosts: tuple[str, ...]


class Discovery:
    """Token endpoints by issuer: asked for once, kept for an hour, a failure for seconds."""

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[Exchange]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take ``fetch``, which makes one bounded GET and never raises."""
        self._fetch = fetch
        self._monotonic = monotonic
        self._kept: dict[_Key, _Kept] = {}
        self._under_way: dict[_Key, asyncio.Task[Found]] = {}

    async def token_endpoint(self, issuer: str, *, allowed_hosts: tuple[str, ...]) -> Found:
        """Return the token endpoint that ``issuer`` names.

        Simultaneous callers share one search, which goes on when one of them leaves.

        Args:
            issuer: An https URL that ``resolved_url`` returned, exactly as the metadata has it.
            allowed_hosts: Where the endpoint may be, besides the issuer's own host.

        Returns:
            The URL; ``Misconfigured`` where the metadata is another issuer's or names a host that
            is not allowed; ``NotSent`` where there is none to be had now.

        Source:
            RFC 8414 section 3, OpenID Connect Discovery 1.0 section 4.
        """
        key = _Key(issuer, allowed_hosts)
        kept = self._kept.get(key)
        if kept is not None and self._monotonic() < kept.until_s:
            return kept.found
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._search(key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """End the searches that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _search(self, key: _Key) -> Found:
        found: Found = NotSent(code="discovery_failed")
        for url in metadata_urls(key.issuer):
            read = _read(await self._fetch(url), key)
            # Some hosts answer anything at the first address: the second may still be right.
            if read is not None:
                found = read
            if isinstance(found, str):
                break
        lifetime_s = _KEPT_S if isinstance(found, str) else _FAILURE_KEPT_S
        self._kept.pop(key, None)
        while len(self._kept) >= _ENTRIES_MAX:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = _Kept(found, self._monotonic() + lifetime_s)
        return found


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Return where an issuer's metadata may be: RFC 8414's place, then OpenID's."""
    scheme, _, rest = issuer.partition("://")
    host, _, path = rest.rstrip("/").partition("/")
    tail = f"/{path}" if path else ""
    return (
        f"{scheme}://{host}/.well-known/oauth-authorization-server{tail}",
        f"{scheme}://{host}{tail}/.well-known/openid-configuration",
    )


def _read(exchange: Exchange, key: _Key) -> str | Misconfigured | None:
    """Return what a metadata document says; None where there is no such document."""
    if not isinstance(exchange, Answered) or exchange.status != _OK:
        return None
    try:
        metadata = msgspec.json.decode(exchange.body.reveal(), type=_Metadata)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if metadata.issuer != key.issuer:
        # Another issuer's metadata would send our client secret to another issuer.
        return Misconfigured(code="issuer_mismatch")
    return discovered_url(
        metadata.token_endpoint, issuer=key.issuer, allowed_hosts=key.allowed_hosts
    )
