"""Stands where a daemon would, and answers each request with the next of what it is given."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime.nats.link import Login

SILENCE = None
"""In place of an answer."""
OK = {"ok": None}


def failure(code: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": code.lower(), **fields}}


class Asked(NamedTuple):
    """A request as it came."""

    subject: str
    body: Any
    message_id: str | None
    timeout_ms: int
    at_s: float


class ScriptedDaemon:
    """Answers with the first of ``answers``, and with the last for ever."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.asked: list[Asked] = []
        self.answers: list[dict[str, Any] | None] = [OK]

    async def listen(self) -> None:
        """Take requests from now on."""
        await self.client.subscribe("refreshd.v1.>", cb=self._take)
        # The first may overtake the subscription.
        await self.client.flush()
        await self.client.flush()

    async def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        self.asked.append(
            Asked(
                message.subject.removeprefix("refreshd.v1."),
                json.loads(message.data or b"null"),
                headers.get("Nats-Msg-Id"),
                int(headers["Refreshd-Timeout-Ms"]),
                asyncio.get_running_loop().time(),
            )
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not SILENCE:
            await message.respond(json.dumps(answer).encode())


@contextlib.asynccontextmanager
async def scripted_daemon(login: Login) -> AsyncGenerator[ScriptedDaemon]:
    """Yield one that does not listen yet."""
    client = await nats.connect(login.url, user=login.user, password=login.password)
    try:
        yield ScriptedDaemon(client)
    finally:
        await client.close()
