"""Clients of a real server, plain and armoured, with a proxy between or without."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from nats.aio.client import Client

from runtime.nats.link import LinkLimits, Login, NatsLink, open_link
from tests.fakes.tcp_proxy import TcpProxy, tcp_proxy

PATIENT = LinkLimits(ping_interval_s=60, probe_interval_s=60.0, reconnect_wait_s=0.02)
"""No ping and no probe heals a link in a test that is about something else."""


@contextlib.asynccontextmanager
async def plain_client(login: Login, **options: Any) -> AsyncGenerator[Client]:
    """Yield nats-py's own client."""
    client = Client()
    defaults: dict[str, Any] = {"error_cb": _ignore, "reconnect_time_wait": 0.02}
    await client.connect(login.url, **(login.options() | defaults | options))
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            await client.close()


@contextlib.asynccontextmanager
async def proxied_client(login: Login, **options: Any) -> AsyncGenerator[tuple[TcpProxy, Client]]:
    """Yield nats-py's own client, behind a proxy."""
    async with (
        tcp_proxy(login.url) as proxy,
        plain_client(proxy.login(login), **options) as client,
    ):
        yield proxy, client


@contextlib.asynccontextmanager
async def proxied_link(
    login: Login, limits: LinkLimits = PATIENT
) -> AsyncGenerator[tuple[TcpProxy, NatsLink]]:
    """Yield a link behind a proxy."""
    async with (
        tcp_proxy(login.url) as proxy,
        open_link(proxy.login(login), name="proxied", limits=limits) as link,
    ):
        yield proxy, link


async def _ignore(_error: Exception) -> None:
    """Take a background error of nats-py."""


async def leave_unsent(sender: Client | NatsLink, *, messages: int) -> None:
    """Publish so many large messages without waiting until they are sent."""
    for _ in range(messages):
        if isinstance(sender, NatsLink):
            sender.publish_now("big", b"x" * 500_000)
        else:
            await sender.publish("big", b"x" * 500_000)
        await anyio.lowlevel.checkpoint()
