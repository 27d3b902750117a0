"""The table of a run, which fills while it runs."""

from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.measured import Measured
from bench.results import TARGETS, Results, figures_of, is_met, spread

_WIDTH = 130
_COLUMNS = ("per second", "(range)", "p50 ms", "p99 ms", "load", "daemon", "server", "db", "MiB")


class Board:
    """Shows a run on a terminal; without one, each row as it comes and the table at the end."""

    def __init__(self, results: Results) -> None:
        """Show ``results``, which grows."""
        self._console = Console()
        if not self._console.is_terminal:
            self._console.width = _WIDTH
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._results = results

    def __enter__(self) -> Self:
        """Begin."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the whole table and the targets on the screen."""
        self._live.stop()
        self._console.print(table_of(self._results))
        self._console.print(targets_of(self._results))

    def show(self, doing: str) -> None:
        """Say what is being done, above what is there already."""
        if not self._console.is_terminal:
            self._console.print(doing, soft_wrap=True, highlight=False)
            return
        table = table_of(self._results)
        table.caption = doing
        self._live.update(table, refresh=True)


def table_of(results: Results) -> Table:
    """Return what is measured so far: medians, rates with their range, CPU per operation in us."""
    table = Table(title="operations, medians of the rounds; CPU in us an operation")
    table.add_column("row", min_width=20)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    group = ""
    for name, row in results.rows.items():
        if row.group != group:
            table.add_section()
            group = row.group
        if row.skipped:
            table.add_row(name, f"skipped: {row.skipped}")
        elif row.rounds:
            table.add_row(name, *_cells(row.rounds))
    return table


def targets_of(results: Results) -> Table:
    """Return each target with what was measured: medians of what was taken within a round."""
    table = Table(title="targets")
    for column in ("target", "limit", "median", "(range)", ""):
        table.add_column(column, justify="left" if column == "target" else "right")
    for target in TARGETS:
        figures = figures_of(target, results)
        if not figures:
            continue
        found = spread(figures)
        table.add_row(
            target.words,
            target.limit,
            f"{found.median:.2f}",
            f"{found.low:.2f}-{found.high:.2f}",
            "met" if is_met(target, figures) else "missed",
        )
    return table


def _cells(rounds: list[Measured]) -> list[str]:
    rate = spread([one.rate for one in rounds])
    cells = [f"{rate.median:,.0f}", f"{rate.low:,.0f}-{rate.high:,.0f}"]
    cells += [f"{spread([one.p50_ms for one in rounds]).median:.2f}"]
    cells += [f"{spread([one.p99_ms for one in rounds]).median:.2f}"]
    for name in ("load_us", "daemon_us", "server_us", "database_us", "peak_mib"):
        figures = [getattr(one, name) for one in rounds if getattr(one, name) is not None]
        cells.append(f"{spread(figures).median:.0f}" if figures else "")
    return cells
