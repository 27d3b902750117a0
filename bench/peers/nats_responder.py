"""A peer behind NATS, as the daemon is: the same transport, subjects, bodies and answers.

``python -m bench.peers.nats_responder`` reads ``Settings`` and answers until its input ends.

Fair: the client is the daemon's own, which takes a message as it is read and answers without a
second check; nats-py's subscriptions and ``respond`` cost more. Each request has a task of its own.
"""

import asyncio
import sys
import traceback

import uvloop

from bench.peers.handling import Peer, answer
from bench.peers.opening import Settings, open_peer, read_settings
from runtime.nats.client import ArmouredClient, Arrived
from runtime.nats.reply_subjects import ReplySubjects

_QUEUE_GROUP = "peers"
_FAILED = b'{"error":{"code":"DATABASE_ERROR","message":"Database error occurred"}}'


async def serve(peer: Peer, settings: Settings, until_closed: asyncio.Event) -> None:
    """Answer requests until told to end.

    Raises:
        nats.errors.Error: The server does not let us in.
    """
    assert settings.nats is not None
    assert settings.subject is not None
    place = settings.subject.split(".").index("*")
    client = ArmouredClient(lambda: None, ReplySubjects())
    context = settings.nats
    await client.connect(context.url, user=context.user, password=context.password)
    tasks: set[asyncio.Task[None]] = set()

    async def respond(message: Arrived) -> None:
        try:
            body = await answer(peer, message.subject.split(".")[place], message.data)
        except Exception:  # noqa: BLE001 -- the edge: told, shown, and the measurement ends
            body = _FAILED
            traceback.print_exc()
        client.send(message.reply, "", b"", body)

    def take(message: Arrived) -> None:
        if message.reply:
            task = asyncio.create_task(respond(message))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    await client.take_all(settings.subject, take, queue=_QUEUE_GROUP)
    await client.flush()
    print("ready", flush=True)
    await until_closed.wait()
    await client.close()


async def main() -> None:
    """Serve until standard input ends."""
    settings = read_settings()
    closed = asyncio.Event()

    async def wait_for_end() -> None:
        await asyncio.to_thread(sys.stdin.buffer.read)
        closed.set()

    async with open_peer(settings) as peer, asyncio.TaskGroup() as tasks:
        tasks.create_task(wait_for_end())
        await serve(peer, settings, closed)


if __name__ == "__main__":
    uvloop.run(main())
