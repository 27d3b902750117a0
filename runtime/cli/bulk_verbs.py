"""The verbs for many connections at once: a file in, and what is made of its lines."""

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop
from cyclopts import App, Parameter, validators
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from domain.result import Success
from runtime.cli.asking import (
    EXIT_ERROR,
    EXIT_TRY_AGAIN,
    EXIT_USAGE,
    Asking,
    CommandError,
    StreamOrFile,
    run_and_show,
    show_value,
    to_stderr,
)
from runtime.cli.backup_verbs import export_command, restore_command
from runtime.cli.client import CommandClient
from runtime.cli.foreseen import Foreseen, in_words
from runtime.cli.import_line import line_bytes_max
from runtime.cli.importing import GaveUpError, Importer, Tally
from runtime.cli.line_reader import LineReader
from runtime.cli.no_core import leave_no_core
from runtime.cli.rejects_file import RejectsFile
from runtime.cli.tables import show_fields

_HERE = Asking()
_STDIN = "-"
_STDIN_REJECTS = Path("import.rejects")
_REDRAW_S = 0.2
_NO_PROVIDERS = (
    "refreshd: no provider is configured here, so it is not looked whether each has a profile: "
    "give the daemon's --config"
)

InFlight = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10_000))]
Patience = Annotated[float, Parameter(validator=validators.Number(gt=0, lte=86_400))]


def add_bulk_verbs(app: App) -> None:
    """Make the verbs known to the command line."""
    app.command(import_command, name="import")
    app.command(export_command, name="export")
    app.command(restore_command, name="restore")


def import_command(
    file: StreamOrFile,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    rejects: Path | None = None,
    in_flight: InFlight = 256,
    patience_s: Patience = 60.0,
    asking: Asking = _HERE,
) -> None:
    """Connect what each line of a file holds; repeated, it makes nothing twice.

    Parameters
    ----------
    file
        NDJSON: a line is what connect takes (docs/bulk.md); - for stdin.
    dry_run
        Check the lines and send nothing. It needs no daemon.
    rejects
        Where lines that are not taken are told, by number and reason. FILE.rejects without it.
    in_flight
        How many lines are under way at once.
    patience_s
        How long a daemon that takes nothing is tried again.
    """
    leave_no_core()
    settings = asking.settings()
    limits = settings.service.limits
    path = rejects or (_STDIN_REJECTS if file == _STDIN else Path(f"{file}.rejects"))
    with _opened(file) as descriptor, RejectsFile(path, descriptor) as told:
        importer = Importer(
            credential_bytes_max=limits.credential_bytes_max,
            reject=told.add,
            in_flight_max=in_flight,
            patience_s=patience_s,
        )
        bytes_max = line_bytes_max(limits.credential_bytes_max)
        foreseen = Foreseen(settings.providers if dry_run else {}, importer.warnings)
        lines = LineReader(descriptor, line_bytes_max=bytes_max).lines()

        async def work(client: CommandClient | None) -> Success[Any]:
            async with _progress(importer.tally, _size_of(descriptor)):
                if client is None:
                    await importer.check(lines, foreseen.look)
                else:
                    await importer.run(lines, client)
            told.keep()
            if not importer.tally.lines:
                to_stderr("refreshd: warning: there was no line to import")
            more = foreseen.told() if dry_run else {}
            return Success(_summary(importer.tally, path, dry_run=dry_run) | more)

        try:
            if dry_run:
                show_value(asking, uvloop.run(work(None)).value, _show_foreseen)
            else:
                run_and_show(asking, work, show_fields)
        except GaveUpError as error:
            told.keep()
            text = f"the daemon takes nothing ({error}); {_so_far(importer.tally)}"
            raise CommandError(f"{text}: repeat the same command", EXIT_TRY_AGAIN) from None
        finally:
            for warning in importer.warnings.told():
                to_stderr(f"refreshd: warning: {warning}")
            if dry_run and not settings.providers:
                to_stderr(_NO_PROVIDERS)
    if importer.tally.rejected:
        were = (
            "1 line was"
            if importer.tally.rejected == 1
            else f"{importer.tally.rejected} lines were"
        )
        raise CommandError(f"{were} rejected: see {path}", EXIT_ERROR)


def _summary(tally: Tally, rejects: Path, *, dry_run: bool) -> dict[str, Any]:
    counts = msgspec.structs.asdict(tally)
    del counts["done_bytes"]
    if dry_run:
        counts = {name: counts[name] for name in ("lines", "repeated", "rejected")}
    return {**counts, "rejects_file": str(rejects), "dry_run": dry_run}


def _show_foreseen(value: dict[str, Any]) -> str:
    return show_fields(value | {"provider_slugs": in_words(value["provider_slugs"])})


def _so_far(tally: Tally) -> str:
    stored = tally.imported + tally.updated + tally.kept
    return f"of {tally.lines} lines {stored} are stored, {tally.rejected} rejected"


@contextlib.contextmanager
def _opened(file: str | Path) -> Generator[int]:
    """Yield the descriptor of a file, or of standard input."""
    if file == _STDIN:
        yield sys.stdin.fileno()
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", EXIT_USAGE) from None
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise CommandError(f"{file}: Is a directory", EXIT_USAGE)
        yield descriptor
    finally:
        os.close(descriptor)


def _size_of(descriptor: int) -> int | None:
    """Return how long a file is; None for a pipe or a terminal."""
    found = os.fstat(descriptor)
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextlib.asynccontextmanager
async def _progress(tally: Tally, size_bytes: int | None) -> AsyncGenerator[None]:
    """Show on a terminal how far it is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=size_bytes, told="")

        async def redraw() -> None:
            while True:
                told = f"{tally.lines:,} lines, {tally.rejected:,} rejected"
                bar.update(task, completed=tally.done_bytes, told=told, refresh=True)
                await asyncio.sleep(_REDRAW_S)

        drawing = asyncio.create_task(redraw())
        try:
            yield
        finally:
            drawing.cancel()
