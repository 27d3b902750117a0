"""A peer in a process of its own, with its callers in the same process: no transport at all.

``python -m bench.peers.in_process`` reads ``Settings`` and then a ``Stretch`` a line, and answers
each with a line of JSON, its ``Result``. A caller makes each body as the daemon's load does.
"""

import asyncio
import random
import sys
import time

import msgspec
import uvloop

from bench.bodies import refresh_body
from bench.peers.handling import Peer, answer
from bench.peers.opening import open_peer, read_settings

_DONE = b'{"ok":null}'


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """How much load, and on which connections."""

    callers: int
    requests: int
    ids: list[str]
    """Each request picks one."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    took_s: float
    latencies_s: list[float]


class RefusedError(Exception):
    """A peer has refused a refresh that is in order; the text is its answer."""


async def run(peer: Peer, stretch: Stretch) -> Result:
    """Refresh from so many callers at once.

    Raises:
        RefusedError: A refresh was not done.
    """
    numbers = iter(range(stretch.requests))
    latencies_s: list[float] = []

    async def call() -> None:
        for number in numbers:
            began_s = time.perf_counter()
            answered = await answer(peer, random.choice(stretch.ids), refresh_body(number))
            if answered != _DONE:
                raise RefusedError(answered.decode())
            latencies_s.append(time.perf_counter() - began_s)

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(stretch.callers):
            callers.create_task(call())
    return Result(took_s=time.perf_counter() - began_s, latencies_s=latencies_s)


async def main() -> None:
    """Serve until standard input ends."""
    async with open_peer(read_settings()) as peer:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            result = await run(peer, msgspec.json.decode(line, type=Stretch))
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
