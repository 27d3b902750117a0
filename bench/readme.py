"""Writes the figures of the recorded run into the README: ``python -m bench.readme``.

A test fails where the README says something else.
"""

from pathlib import Path

from bench.daemon import ROOT
from bench.results import TARGETS, Results, Row, figures_of, is_met, read_results, spread

README = ROOT / "README.md"
_BEGIN, _END = "<!-- figures: python -m bench.readme -->\n", "<!-- end of figures -->\n"


def with_figures(text: str, results: Results) -> str:
    """Return the README with a run's figures in their place."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{figures(results)}{_END}{after}"


def figures(results: Results) -> str:
    """Return the tables of a run in Markdown."""
    machine = results.machine
    lines = [
        f"{machine['cores']} cores ({machine['cpu']}), Python {machine['python']}, nats-server",
        f"{machine['nats-server']}. CPU in us an operation; a ratio is taken within a round.",
        "",
        "| | per second | p50 ms | p99 ms | daemon or peer | nats-server | database |",
        "|---|---|---|---|---|---|---|",
        *(_line(name, row) for name, row in results.rows.items() if row.rounds),
        "",
        *(f"- {name}: {figure:,.2f}".removesuffix(".00") for name, figure in results.facts.items()),
        "",
        "| target | | median (range) | |",
        "|---|---|---|---|",
    ]
    for target in TARGETS:
        if found := figures_of(target, results):
            median, low, high = spread(found)
            verdict = "met" if is_met(target, found) else "**missed**"
            lines.append(
                f"| {target.words} | {target.limit} | {median:.2f} ({low:.2f}-{high:.2f}) "
                f"| {verdict} |"
            )
    return "\n".join(lines) + "\n"


def _line(name: str, row: Row) -> str:
    rate, low, high = spread([one.rate for one in row.rounds])
    cells = [name, f"{rate:,.0f} ({low:,.0f}-{high:,.0f})"]
    cells += [f"{spread([one.p50_ms for one in row.rounds]).median:.2f}"]
    cells += [f"{spread([one.p99_ms for one in row.rounds]).median:.2f}"]
    for figure in ("daemon_us", "server_us", "database_us"):
        known = [getattr(one, figure) for one in row.rounds if getattr(one, figure) is not None]
        cells.append(f"{spread(known).median:.0f}" if known else "")
    return f"| {' | '.join(cells)} |"


def main(readme: Path = README) -> None:
    """Write them."""
    readme.write_text(with_figures(readme.read_text(), read_results()))


if __name__ == "__main__":
    main()
