"""Runs the command line as a process, and gives back what a shell would see."""

import asyncio
import subprocess
import sys
from typing import NamedTuple

from tests.fakes.daemon_process import ROOT, clean_environment


class Ended(NamedTuple):
    """How it ended, and what it said."""

    code: int | None
    stdout: str
    stderr: str


async def refreshd(*arguments: str, stdin: str = "", **environment: str) -> Ended:
    """Return the outcome of ``refreshd ARGUMENTS``."""
    process = await _started(arguments, environment)
    async with asyncio.timeout(50):
        out, err = await process.communicate(stdin.encode())
    return Ended(process.returncode, out.decode(), err.decode())


async def refreshd_head(*arguments: str, lines: int, **environment: str) -> Ended:
    """Return the outcome of ``refreshd ARGUMENTS | head -LINES``."""
    process = await _started(arguments, environment)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(50):
        read = [await process.stdout.readline() for _ in range(lines)]
        process.stdout._transport.close()  # type: ignore[attr-defined]
        err = await process.stderr.read()
        code = await process.wait()
    return Ended(code, b"".join(read).decode(), err.decode())


async def _started(
    arguments: tuple[str, ...], environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "runtime", *arguments),
        cwd=ROOT,
        env=clean_environment() | {"COLUMNS": "200"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
