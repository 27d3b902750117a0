"""The client: what a daemon can be asked, as methods.

Each waits ``timeout_s`` at most and repeats within that time what is safe to repeat; each raises
``RefreshdError`` in one of its kinds. One client serves a whole process; it is of the event loop
that opened it.
"""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

import msgspec
from nats.aio.client import Client

from refreshd_client.asking import TRY_S_MAX, Asker
from refreshd_client.errors import InvalidCommandError, NotConnectedError
from refreshd_client.link import Link
from refreshd_client.places import options_of, servers_of
from refreshd_client.tokens import Tokens, Wish
from refreshd_client.values import AccessToken, Connected, Connection, Credentials

PREFIX = "refreshd.v1"

_T = TypeVar("_T")


class Refreshd:
    """A daemon, or a cluster of them, that one can ask.

    ::

        async with Refreshd() as refreshd:
            token = await refreshd.token(connection_id)
    """

    def __init__(
        self,
        servers: str | Sequence[str] | None = None,
        *,
        context: str | os.PathLike[str] | None = None,
        nats: Client | None = None,
        prefix: str = PREFIX,
        timeout_s: float = 10.0,
        try_timeout_s: float = 4.0,
        keep_s: float = 10.0,
        tokens_max: int = 1000,
        **options: Any,  # noqa: ANN401 -- nats.connect's
    ) -> None:
        """Prepare; ``async with`` or ``open`` connects.

        Without ``servers``, ``context`` and ``nats`` it is the daemon on this machine.

        Args:
            servers: The NATS servers' URLs, in a list or with commas between.
            context: A NATS context file in their place.
            nats: A connection of your own in their place. It stays open. Its ``inbox_prefix``
                and callbacks are yours.
            prefix: The daemon's subject prefix.
            timeout_s: How long a call may take, all its repeats included.
            try_timeout_s: After how long without an answer it is repeated, at most 60.
            keep_s: For how long a token is kept at most: for so long it may be served although
                its connection was just revoked by somebody else. 0: not at all.
            tokens_max: Of how many connections.
            **options: What else ``nats.connect`` takes: ``user``, ``password``,
                ``user_credentials``, ``tls``, ``inbox_prefix``. A callback takes our own's place.

        Raises:
            ValueError: A limit is out of its range, or there are two places.
        """
        if sum(place is not None for place in (servers, context, nats)) > 1:
            raise ValueError("give one of servers, context and nats")
        if timeout_s <= 0 or not 0 < try_timeout_s <= TRY_S_MAX or keep_s < 0 or tokens_max < 0:
            raise ValueError(
                "timeout_s must be above 0, try_timeout_s from 0 to 60, keep_s and tokens_max 0 up"
            )
        self._context = context
        self._servers = servers
        self._nats = nats
        self._options = options
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._try_timeout_s = try_timeout_s
        self._link: Link | None = None
        self._asker: Asker | None = None
        self.tokens = Tokens(ask=self._ask_token, keep_s=keep_s, tokens_max=tokens_max)
        """What is kept; for ``RefreshdAuth``."""

    def __repr__(self) -> str:
        """Show the prefix; where it is may hold a password."""
        return f"Refreshd(prefix={self._prefix!r})"

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def open(self) -> None:
        """Connect to NATS. The daemon need not be there yet. Twice is as good as once.

        Raises:
            NotConnectedError: No server could be reached within ``timeout_s``.
            LoginRefusedError: One has refused the login, at once.
            NotAllowedError: This user may not have answers.
        """
        if self._link is not None:
            return
        link = Link(self._nats, self._place)
        await link.open(self._timeout_s)
        self._link = link
        self._asker = Asker(link, prefix=self._prefix, try_timeout_s=self._try_timeout_s)

    async def close(self) -> None:
        """End what is under way, and the connection if it is ours. Twice is as good as once."""
        link, self._link, self._asker = self._link, None, None
        self.tokens.close()
        if link is not None:
            await link.close()

    async def token(
        self,
        connection_id: UUID | str,
        *,
        min_ttl_s: float = 60.0,
        if_generation: int | None = None,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> AccessToken:
        """Return an access token that lives for ``min_ttl_s``, or is marked ``stale``.

        It comes from what is kept, where that lives long enough; else the daemon is asked, once
        for all who want the same at a time.

        Args:
            connection_id: Whose.
            min_ttl_s: How long it must still live.
            if_generation: An API has just rejected the token of this generation (401).
            force: Refresh whatever its age; for people.
            timeout_s: In place of the client's.
        """
        wish = Wish(min_ttl_s=min_ttl_s, if_generation=if_generation, force=force)
        return await self.tokens.get(
            _id(connection_id), wish, timeout_s=self._timeout_s if timeout_s is None else timeout_s
        )

    async def get(self, connection_id: UUID | str, *, timeout_s: float | None = None) -> Connection:
        """Return a connection, without its secrets."""
        return await self._ask(f"connection.{_id(connection_id)}.get", None, Connection, timeout_s)

    async def list(
        self,
        *,
        user_id: UUID | str | None = None,
        provider_slug: str | None = None,
        status: str | None = None,
        needs_action: bool = False,
        page: int = 100,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Connection]:
        """Yield the connections that match; one that is written meanwhile may come twice.

        Args:
            user_id: Only this user's.
            provider_slug: Only at this provider.
            status: Only with this status.
            needs_action: Only those of which somebody must act, with the reason.
            page: How many are asked for at a time, at most 1000.
            timeout_s: For each page, in place of the client's.
        """
        wanted = {"user_id": user_id, "provider_slug": provider_slug, "status": status}
        fields: dict[str, object] = {k: v for k, v in wanted.items() if v is not None}
        fields |= {"limit": page} | ({"needs_action": True} if needs_action else {})
        while True:
            found = await self._ask("connections.list", fields, _Page, timeout_s)
            for connection in found.connections:
                yield connection
            if found.cursor is None:
                return
            fields["cursor"] = found.cursor

    async def connect(
        self,
        *,
        user_id: UUID | str,
        provider_id: UUID | str,
        provider_slug: str,
        credentials: Credentials | None,
        connection_id: UUID | str | None = None,
        alias: str | None = None,
        params: Mapping[str, str] | None = None,
        refresh: str | None = None,
        granted_at: datetime | None = None,
        grant_expires_at: datetime | None = None,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Connected:
        """Make a connection, or give one that is not active new credentials.

        Args:
            user_id: Whose it is.
            provider_id: At which provider.
            provider_slug: The provider's name in the daemon's configuration.
            credentials: What the provider has issued; None: they come later (``pending``).
            connection_id: That of the connection, known before or new; None: the daemon makes one.
            alias: A name for people.
            params: Values for the templates of the provider's profile.
            refresh: ``proactive`` or ``on_demand``, in place of the profile's word.
            granted_at: When the user consented; None: now.
            grant_expires_at: When refreshing ends, as the provider told.
            message_id: That of an earlier call which has failed with ``may_be_done``.
            timeout_s: In place of the client's.
        """
        optional = {
            "connection_id": None if connection_id is None else _id(connection_id),
            "alias": alias,
            "params": params,
            "refresh": refresh,
            "granted_at": granted_at,
            "grant_expires_at": grant_expires_at,
            "credentials": None if credentials is None else credentials.fields(),
            "pending": True if credentials is None else None,
        }
        fields = {"user_id": user_id, "provider_id": provider_id, "provider_slug": provider_slug}
        fields |= {name: value for name, value in optional.items() if value is not None}
        done = await self._ask("connect", fields, Connected, timeout_s, message_id or str(uuid4()))
        self.tokens.forget(str(done.connection_id))
        return done

    async def refresh(
        self,
        connection_id: UUID | str,
        credentials: Credentials,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Replace an active connection's credentials by new ones that you have."""
        fields = {"credentials": credentials.fields()}
        await self._change(connection_id, "refresh", fields, message_id, timeout_s)

    async def expire(
        self,
        connection_id: UUID | str,
        reason: str | None = None,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Set an active connection expired."""
        await self._change(connection_id, "expire", {"reason": reason}, message_id, timeout_s)

    async def revoke(
        self,
        connection_id: UUID | str,
        reason: str | None = None,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Set an active connection revoked."""
        await self._change(connection_id, "revoke", {"reason": reason}, message_id, timeout_s)

    async def fail(
        self,
        connection_id: UUID | str,
        reason: str | None = None,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Set a pending connection failed."""
        await self._change(connection_id, "fail", {"reason": reason}, message_id, timeout_s)

    async def synced(
        self,
        connection_id: UUID | str,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Note that the provider's data were just read through an active connection."""
        await self._change(connection_id, "synced", None, message_id, timeout_s)

    async def disconnect(
        self,
        connection_id: UUID | str,
        user_id: UUID | str,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """End a connection for good, and clear its credentials."""
        await self._change(connection_id, "disconnect", {"user_id": user_id}, message_id, timeout_s)

    def _place(self) -> dict[str, Any]:
        """Return how to connect, by the context file as it is now where there is one."""
        if self._servers is None:
            return options_of(self._context) | self._options
        return {"servers": servers_of(self._servers), **self._options}

    async def _change(
        self,
        connection_id: UUID | str,
        verb: str,
        fields: object,
        message_id: str | None,
        timeout_s: float | None,
    ) -> None:
        """Ask for what changes a connection, and serve no token from before it."""
        name = _id(connection_id)
        message_id = message_id or str(uuid4())
        try:
            await self._ask(f"connection.{name}.{verb}", fields, NoneType, timeout_s, message_id)
        finally:
            if verb != "synced":
                self.tokens.forget(name)

    async def _ask_token(self, connection_id: str, wish: Wish, timeout_s: float) -> AccessToken:
        fields: dict[str, object] = {"min_ttl_s": wish.min_ttl_s}
        fields |= {} if wish.if_generation is None else {"if_generation": wish.if_generation}
        fields |= {"force": True} if wish.force else {}
        return await self._ask(f"connection.{connection_id}.token", fields, AccessToken, timeout_s)

    async def _ask(
        self,
        subject: str,
        fields: object,
        kind: type[_T],
        timeout_s: float | None,
        message_id: str | None = None,
    ) -> _T:
        if self._asker is None:
            raise NotConnectedError("the client is not open: use `async with`, or `open()`")
        return await self._asker.ask(
            subject,
            fields,
            kind,
            timeout_s=self._timeout_s if timeout_s is None else timeout_s,
            message_id=message_id,
        )


class _Page(msgspec.Struct):
    connections: tuple[Connection, ...]
    cursor: str | None = None


def _id(given: UUID | str) -> str:
    """Return an id as subjects have it."""
    try:
        return str(given if isinstance(given, UUID) else UUID(given))
    except ValueError:
        raise InvalidCommandError("connection_id is not a UUID", code="INVALID_COMMAND") from None
