"""The peer: a bare nats-py responder that does nothing but answer.

``python -m bench.echo_responder CONTEXT``
"""

import asyncio
import sys
from pathlib import Path

import nats
import uvloop
from nats.aio.msg import Msg

from runtime.nats.embedded import read_context


async def main() -> None:
    """Answer until killed."""
    context = read_context(Path(sys.argv[1]))
    assert context is not None
    client = await nats.connect(context.url, user=context.user, password=context.password)

    async def answer(message: Msg) -> None:
        await message.respond(b'{"ok":null}')

    await client.subscribe("echo", "echo", cb=answer)
    await client.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
