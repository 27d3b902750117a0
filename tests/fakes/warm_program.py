"""Runs ``python -m runtime`` by a fork of a process that has imported it, and else does nothing.

Of the CPU of a command, and of a daemon's start, the imports are the most, and there are hundreds in
a run of the tests. What runs in the fork is the program from its first line to the interpreter's
end, with streams, environment and arguments of its own; its parent is a *keeper* that tells its
number and its exit code. What an interpreter reads at its own start, as ``PYTHONUNBUFFERED``, is
the warm one's.
"""

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_REQUEST_BYTES_MAX = 128 * 1024
STDIN_BYTES_MAX = 64 * 1024
"""What a pipe holds."""
_LINE_BYTES_MAX = 2**22
_NUMBER = struct.Struct("i")


class WarmProcess:
    """The program, running or ended; as much of ``asyncio.subprocess.Process`` as is asked for."""

    def __init__(
        self,
        pid: int,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        ended: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self.stdout, self.stderr = stdout, stderr
        self.returncode: int | None = None
        self._ending = asyncio.create_task(self._ended(ended))

    async def _ended(self, told: asyncio.StreamReader) -> int:
        # To the end, which closes the pipe.
        (code,) = _NUMBER.unpack(await told.read())
        self.returncode = code
        return code

    async def communicate(self) -> tuple[bytes, bytes]:
        """Return all that it says until it ends."""
        stdout, stderr = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return stdout, stderr

    async def wait(self) -> int:
        """Return the exit code, or the negative number of the signal that ended it."""
        return await asyncio.shield(self._ending)

    def send_signal(self, number: int) -> None:
        """Send a signal, where it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


async def run_warm(
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    stdin: bytes = b"",
) -> WarmProcess:
    """Return the program, begun; what it says must be read to the end.

    Args:
        arguments: What follows its name.
        environment: All of it.
        stdin: What it reads.

    Raises:
        AssertionError: More is for its standard input than a pipe holds.
    """
    assert len(stdin) <= STDIN_BYTES_MAX
    request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
    assert len(request) <= _REQUEST_BYTES_MAX
    (stdin_read, stdin_write), *told = (os.pipe() for _ in range(4))
    os.write(stdin_write, stdin)
    os.close(stdin_write)
    reads, writes = ([pipe[end] for pipe in told] for end in (0, 1))
    socket.send_fds(_warm(), [request], [stdin_read, *writes])
    for one in (stdin_read, *writes):
        os.close(one)
    stdout, stderr, ended = [await pipe_reader(one) for one in reads]
    (pid,) = _NUMBER.unpack(await ended.readexactly(_NUMBER.size))
    return WarmProcess(pid, stdout, stderr, ended)


_SHIM = """\
#!{python} -IS
import json, os, signal, socket, struct, sys
told, tells = os.pipe()
number = struct.Struct("i")
pids, early = [], []
def tell(which, _):
    os.kill(pids[0], which) if pids else early.append(which)
for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(one, tell)
wanted = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}}
socket.send_fds(
    socket.socket(fileno={requests}), [json.dumps(wanted).encode()], [0, 1, 2, tells]
)
os.close(tells)
pids += number.unpack(os.read(told, number.size))
for one in early:
    tell(one, None)
(code,) = number.unpack(os.read(told, number.size))
sys.exit(code if code >= 0 else 128 - code)
"""


def warm_command(file: Path) -> int:
    """Write a command that is ``refreshd`` to who calls it, signals and all.

    Returns:
        A descriptor that whoever calls it must inherit.
    """
    requests = _warm().fileno()
    file.write_text(_SHIM.format(python=sys.executable, requests=requests))
    file.chmod(0o755)
    return requests


async def pipe_reader(read: int) -> asyncio.StreamReader:
    """Return what reads a pipe's end, to be given over."""
    reader = asyncio.StreamReader(limit=_LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", buffering=0)
    )
    return reader


@cache
def _warm() -> socket.socket:
    """Return where requests are taken, for as long as this process lives."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.fakes.warm_program"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("REFRESHD_")},
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve() -> None:
    """Fork for each request until nobody can send one; return in the fork, as the program."""
    for name in ("runtime.cli.main", "runtime.web.app"):
        importlib.import_module(name)
    gc.freeze()
    requests = socket.socket(fileno=0)
    while True:
        request, given, _, _ = socket.recv_fds(requests, _REQUEST_BYTES_MAX, 4)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            sys.exit()
        if os.fork() == 0:
            break
        for one in given:
            os.close(one)
    requests.close()
    *streams, told = given
    if pid := os.fork():
        for one in streams:
            os.close(one)
        os.write(told, _NUMBER.pack(pid))
        _, status = os.waitpid(pid, 0)
        os.write(told, _NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os._exit(0)
    os.close(told)
    for number, one in enumerate(streams):
        os.dup2(one, number)
        os.close(one)
    wanted = json.loads(request)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    os.chdir(wanted.get("folder", ROOT))
    sys.argv[1:] = wanted["arguments"]


if __name__ == "__main__":
    _serve()
    runpy.run_module("runtime", run_name="__main__", alter_sys=True)
