"""Runs the shell of a paper as a reader types it, and holds what comes to what the paper shows.

A block ``sh`` is run; all blocks of a paper are run by one bash that ends with the first command
that fails. A block ``text`` right behind shows what a block prints, on stdout and stderr; there
``...`` stands for anything, and ids, times, ports and rates are those of the day. A block that
cannot be run here has a comment before it that says why: ``<!-- not run: ... -->``; one that is
to be saved has one that says as what: ``<!-- file: NAME -->``.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import NamedTuple

import anyio

from tests.fakes.papers import ROOT, blocks
from tests.fakes.warm_program import pipe_reader, warm_command

_END = "end-of-the-block"
_BLOCK_S = 30.0
_END_S = 20.0
_PORT_DIGITS = 4
_LOOSE = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
    (r"\b([dk])-[0-9a-f]{8}\b", r"\1-ID"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"(?m)^ *\d+ +TIME", "SEQUENCE TIME"),
    (r"TIME +\d+", "TIME GENERATION"),
    (r"[\d.]+ ([MG]iB) (are )?free", r"MUCH \1 \2free"),
    (r"\d+ groups behind", "FEW groups behind"),
    (r"[\d.]+ (ms|s|min|h|d)\b( [\d.]+ (s|min|h)\b)?", "SOME TIME"),
    (r"\((in SOME TIME|SOME TIME ago|now)\)", "(WHEN)"),
    (r"[\d.]+/s", "SO MANY A SECOND"),
    (r"(?<![\d.])\d+\.\d(?![\d.])", "FIGURE"),
    (r"\n +", " "),
    (r"(?m)[ \t]+", " "),
    (r"(?m) $", ""),
)
"""The last but two: what is too wide goes on in an indented line, and where is up to the figures."""


class Step(NamedTuple):
    """One block: what is typed, and what is to be seen; None where the paper does not say."""

    script: str
    shown: str | None


def steps(paper: str) -> list[Step]:
    """Return the blocks of a paper that are run."""
    found: list[Step] = []
    for one in blocks(paper):
        if one.file is not None:
            found.append(Step(f"cat > {one.file} <<'{_END}'\n{one.text}{_END}\n", None))
        elif one.language == "sh" and one.not_run is None:
            found.append(Step(one.text, one.shown))
    return found


def is_as_shown(said: str, shown: str) -> bool:
    """Whether what was said is what the paper shows."""
    pattern = re.escape(_loosened(shown)).replace(r"\.\.\.", ".*")
    return re.fullmatch(pattern, _loosened(said), re.DOTALL) is not None


def _loosened(text: str) -> str:
    for pattern, name in _LOOSE:
        text = re.sub(pattern, name, text)
    return text.strip()


class PaperShell:
    """A bash in a folder of its own."""

    def __init__(self, process: asyncio.subprocess.Process, ports: dict[str, str]) -> None:
        """Know the process, and which ports stand for those of the paper."""
        self._process, self._ports = process, ports

    async def run(self, script: str) -> str:
        """Return what a block prints.

        Raises:
            AssertionError: The shell has ended, for a command of it has failed; or it goes on and on.
        """
        if self._ports:
            script = re.sub("|".join(self._ports), lambda one: self._ports[one[0]], script)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # In braces, so that the shell has read the block when a command reads its standard input.
        self._process.stdin.write(f"{{ {script}\n}}\necho {_END}\n".encode())
        said: list[str] = []
        with anyio.move_on_after(_BLOCK_S):
            while line := (await self._process.stdout.readline()).decode():
                if line == f"{_END}\n":
                    return "".join(said)
                said.append(line)
        raise AssertionError(f"ended in\n{script}\nafter\n{''.join(said)}")


@contextlib.asynccontextmanager
async def paper_shell(
    folder: Path, *ports: str, variables: Mapping[str, str] | None = None
) -> AsyncGenerator[PaperShell]:
    """Yield a shell at 80 columns; whatever it has started is ended afterwards.

    Args:
        folder: Its home, where it begins in a folder of its own.
        *ports: Those of the paper, or what three of them begin with; free ones take their place.
        variables: What is in its environment besides.
    """
    ours = _free_ports(ports)
    (programs := folder / "programs").mkdir()
    (begin := folder / "begin").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("REFRESHD_", "XDG_"))}
    environment |= {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "COLUMNS": "80",
        "REFRESHD_HTTP_LISTEN": f"127.0.0.1:{ours.get('9377', '0')}",
        # As if the client had been installed.
        "PYTHONPATH": str(ROOT / "clients/python"),
        **(variables or {}),
    }
    requests = warm_command(programs / "refreshd")
    ended, alive = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "--noprofile", "-e"),
        cwd=begin,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(requests, alive),
    )
    os.close(alive)
    try:
        yield PaperShell(process, ours)
    finally:
        # Each command tells its refreshd, and ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        async with asyncio.timeout(_END_S):
            await (await pipe_reader(ended)).read()
            await process.communicate()


def _free_ports(ports: tuple[str, ...]) -> dict[str, str]:
    """Return a free port for each; for a beginning such as ``422`` one whose 1, 2, 3 are free."""
    found: dict[str, str] = {}
    for port in ports:
        ends = [""] if len(port) == _PORT_DIGITS else ["1", "2", "3"]
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                name = str(probe.getsockname()[1])
            begin = name if ends == [""] else name[:-1]
            if begin not in found.values() and all(_is_free(int(begin + end)) for end in ends):
                found[port] = begin
                break
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
