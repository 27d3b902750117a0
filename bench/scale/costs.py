"""What a refresh by a caller costs with many stored, next to a daemon with a thousand stored."""

from pathlib import Path

from bench.measured import Measured
from bench.results import spread
from bench.rows import CALLERS, CONNECTIONS, DrivenRow, refreshes
from bench.scale.sheet import Notebook
from bench.scale.sizes import Sizes
from bench.system import System, new_ids, opened_system

_FEW = 1_000


async def measure_costs(notebook: Notebook, system: System, folder: Path, sizes: Sizes) -> None:
    """Measure in turn, round after round, and note the ratio within a round.

    Raises:
        WrongOutcomeError: A view does not say what was answered.
    """
    requests = sizes.requests
    async with opened_system(folder) as small:
        await system.connect(new_ids(CONNECTIONS))
        await small.connect(new_ids(_FEW))
        rows = [
            DrivenRow(
                name, one, refreshes(one, connections=CONNECTIONS, callers=CALLERS, requests=n)
            )
            for name, one, n in (("many", system, requests), ("few", small, requests))
        ]
        for row in rows:
            await row.system.settle()
            await row.measure(requests // 5)
        rounds: list[dict[str, Measured]] = []
        for number in range(sizes.rounds):
            notebook.say(f"round {number + 1} of {sizes.rounds}")
            turn = rows if number % 2 else rows[::-1]
            rounds.append({row.name: await row.measure(requests) for row in turn})
        for row in rows:
            await row.check()
    for whose, figure in (("daemon", _daemon_us), ("server", _server_us)):
        many, few = ([figure(one[name]) for one in rounds] for name in ("many", "few"))
        name = f"CPU of a refresh by a caller, {whose}"
        notebook.note(name, spread(many).median, "us", beside=spread(few).median)
    many, few = ([_work_us(one[name]) for one in rounds] for name in ("many", "few"))
    notebook.note(
        "CPU of a refresh, daemon and server", spread(many).median, "us", beside=spread(few).median
    )
    ratio = spread([one / other for one, other in zip(many, few, strict=True)])
    notebook.note("that with many stored to 1,000 stored, within a round", ratio.median)
    notebook.note("  the least of the rounds", ratio.low)
    notebook.note("  the greatest", ratio.high)
    notebook.note(
        "refreshes by callers",
        spread([one["many"].rate for one in rounds]).median,
        "/s",
        beside=spread([one["few"].rate for one in rounds]).median,
    )


def _daemon_us(measured: Measured) -> float:
    return measured.daemon_us or 0.0


def _server_us(measured: Measured) -> float:
    return measured.server_us or 0.0


def _work_us(measured: Measured) -> float:
    return _daemon_us(measured) + _server_us(measured)
