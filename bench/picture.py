"""The picture of a run: each row's rate with its range, as SVG and PNG.

``python -m bench.picture`` draws the recorded results again.
"""

import matplotlib as mpl
import matplotlib.pyplot as plt

from bench.results import FOLDER, Results, read_results, spread

_COLOURS = {"ceilings": "#9aa5b1", "refreshd": "#1f6feb", "peers": "#d97706"}


def draw(results: Results) -> None:
    """Write ``throughput.svg`` and ``throughput.png`` next to the results."""
    mpl.rcParams["svg.hashsalt"] = "refreshd"
    rows = [(name, row) for name, row in results.rows.items() if row.rounds]
    figure, axes = plt.subplots(figsize=(10, 0.32 * len(rows) + 1.2), layout="constrained")
    for position, (_, row) in enumerate(rows):
        rate = spread([one.rate for one in row.rounds])
        axes.barh(
            position,
            rate.median,
            xerr=[[rate.median - rate.low], [rate.high - rate.median]],
            color=_COLOURS[row.group],
            ecolor="#4b5563",
        )
        axes.text(rate.high * 1.05, position, f"{rate.median:,.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(
        f"operations per second (median and range of rounds, log scale; "
        f"{results.machine['cores']} cores)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    for colour, group in ((colour, group) for group, colour in _COLOURS.items()):
        axes.barh(0, 0, color=colour, label=group)
    axes.legend(fontsize=8, loc="lower right")
    for suffix in ("svg", "png"):
        metadata = {"Date": None} if suffix == "svg" else {"Software": None}
        figure.savefig(FOLDER / f"throughput.{suffix}", dpi=120, metadata=metadata)
    plt.close(figure)


if __name__ == "__main__":
    draw(read_results())
