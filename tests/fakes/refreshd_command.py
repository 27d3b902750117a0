"""Runs the command line as a process, and gives back what a shell would see."""

import asyncio
import subprocess
import sys
from typing import NamedTuple

from tests.fakes.daemon_process import clean_environment
from tests.fakes.warm_program import ROOT, run_warm


class Ended(NamedTuple):
    """How it ended, and what it said."""

    code: int | None
    stdout: str
    stderr: str


async def refreshd(*arguments: str, stdin: str = "", **environment: str) -> Ended:
    """Return the outcome of ``refreshd ARGUMENTS``."""
    process = await run_warm(arguments, _environment(environment), stdin=stdin.encode())
    async with asyncio.timeout(50):
        out, err = await process.communicate()
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
        env=_environment(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _environment(environment: dict[str, str]) -> dict[str, str]:
    return clean_environment() | {"COLUMNS": "200"} | environment
