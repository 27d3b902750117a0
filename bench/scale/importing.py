"""``refreshd import`` of connections that are made while it reads."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple
from uuid import UUID

import msgspec

from bench.daemon import ROOT
from runtime.world import Uuid7Ids

_IDLE_FROM_S, _IDLE_OVER_S = 86_400, 86_400


class Wanted(NamedTuple):
    """A connection to be stored."""

    id: UUID
    slug: str
    ends_at_s: float
    """When its access token ends, since the epoch."""
    tokens: tuple[str, str | None]
    """The access token, and the refresh token if there is one."""


class Imported(NamedTuple):
    """What an import came to."""

    connections: int
    seconds: float
    cpu_s: float
    """Of the command."""


def idle(count: int) -> Iterator[Wanted]:
    """Yield connections of which none is due in a run: their tokens end within the day after."""
    begin_s = time.time() + _IDLE_FROM_S
    for number, one in zip(range(count), Uuid7Ids(), strict=False):
        ends_at_s = begin_s + _IDLE_OVER_S * number / count
        yield Wanted(one, "bench-idle", ends_at_s, (f"a{number:0120d}", f"r{number:0120d}"))


def line_of(wanted: Wanted) -> bytes:
    """Return the line of an import."""
    access_token, refresh_token = wanted.tokens
    rest = {} if refresh_token is None else {"refresh_token": refresh_token}
    return msgspec.json.encode(
        {
            "user_id": wanted.id,
            "provider_id": wanted.id,
            "provider_slug": wanted.slug,
            "connection_id": wanted.id,
            "credentials": {
                "credential_type": "oauth2",
                "expires_at": datetime.fromtimestamp(wanted.ends_at_s, UTC),
                "secret": {"access_token": access_token, "token_type": "Bearer", **rest},
            },
        }
    )


def import_all(data_dir: Path, connections: Iterable[Wanted]) -> Imported:
    """Have connections imported by the command, as they are made.

    Raises:
        SystemExit: It did not take them all.
    """
    cpu_before_s, began_s = _ended_children_s(), time.perf_counter()
    with (data_dir / "import.log").open("ab") as told_besides:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "runtime", "import", "-", "-o", "json"),
                *("--data-dir", str(data_dir), "--rejects", str(data_dir / "import.rejects")),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told_besides,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    count = _write(process.stdin, connections)
    with process.stdout:
        told = process.stdout.read()
    code = process.wait()
    took_s = time.perf_counter() - began_s
    if code or msgspec.json.decode(told)["imported"] != count:
        raise SystemExit(f"the import of {count} ended with {code}: {told!r}")
    return Imported(count, took_s, _ended_children_s() - cpu_before_s)


def _write(pipe: IO[bytes], connections: Iterable[Wanted]) -> int:
    count = 0
    with pipe:
        for count, wanted in enumerate(connections, 1):  # noqa: B007 -- how many there were
            pipe.write(line_of(wanted) + b"\n")
    return count


def _ended_children_s() -> float:
    """Return the CPU of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
