"""Live through a day and print how it went."""

import argparse
import gc
import math
import resource
import time
from collections.abc import Iterator

from bench.day.figures import HOUR_S, Figures
from bench.day.grants import LIFETIME_S
from bench.day.simulation import HOURS_MIN, Day, lived

_EVEN = 1.25
"""How much more than the mean a half hour's greatest minute may have where all come evenly."""


def report(day: Day, figures: Figures) -> Iterator[str]:
    """Yield the lines that tell of a day."""
    outage, day_s = day.outage, figures.seconds
    yield (
        f"{day.connections:,} connections, tokens of {LIFETIME_S:,.0f} s, {day.daemons} daemons, "
        f"{day_s / HOUR_S:g} h with the provider down from {outage.start / HOUR_S:g} to "
        f"{outage.stop / HOUR_S:g} h; it takes {day.rate_per_s:,.1f} calls/s, {day.rate:g} times "
        f"{day.even_per_s:,.1f}"
    )
    yield (
        f"{'':<28}{'refreshes':>12}{'late s: p50':>13}{'p99':>8}{'max':>9}"
        f"{'left s: p50':>13}{'p1':>9}{'min':>10}{'ran out':>11}"
    )
    for span in figures.spans:
        late, left = span.late, span.left
        yield (
            f"{span.name:<28}{late.count:>12,}{late.share(0.5):>13,.1f}{late.share(0.99):>8,.1f}"
            f"{late.share(1):>9,.1f}{left.share(0.5):>13,.1f}{left.share(0.01):>9,.1f}"
            f"{left.share(0):>10,.1f}{left.below(0):>11,}"
        )
    yield "calls/s in a minute: p50, p99, greatest; greatest second; greatest minute over the mean"
    parts = {
        "the whole day": (0, day_s),
        "the hour before the outage": (outage.start - HOUR_S, outage.start),
        "the hour after it": (outage.stop, outage.stop + HOUR_S),
        "the half hour after that": (outage.stop + HOUR_S, outage.stop + HOUR_S + LIFETIME_S),
        "the last half hour": (day_s - LIFETIME_S, day_s),
    }
    for name, (begin_s, end_s) in parts.items():
        calls = figures.calls(begin_s, end_s)
        yield (
            f"{name:<28}{calls.minutes(0.5):>12,.1f}{calls.minutes(0.99):>10,.1f}"
            f"{calls.minutes(1):>10,.1f}{calls.peak_per_s:>8,}{calls.unevenness:>8.2f}"
        )
    for name, begin_s, end_s in (
        ("import", 0, outage.start),
        ("outage", outage.stop, day_s),
    ):
        even_s = figures.even_s(begin_s, end_s, span_s=LIFETIME_S, unevenness=_EVEN) - begin_s
        after = "not yet" if math.isinf(even_s) else f"{even_s / HOUR_S:g} h after it"
        yield f"evenly again ({_EVEN:g} over the mean) after the {name}: {after}"
    down = figures.calls(outage.start, outage.stop)
    yield (
        f"calls in the outage: {sum(down.per_s):,} ({sum(down.per_s[60:]):,} after its first "
        f"minute); grants lost: {figures.lost:,}; left behind at the end: {figures.behind:,}"
    )


def main() -> None:
    """See the package."""
    parser = argparse.ArgumentParser(prog="python -m bench.day")
    for name, default in Day()._asdict().items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default: {default}")
    day = Day(**vars(parser.parse_args()))
    if day.hours < HOURS_MIN:
        parser.error(f"--hours: at least {HOURS_MIN:g}")
    began_s = time.process_time()
    # A million connections that live all day are looked through for cycles in vain.
    gc.disable()
    figures = lived(day)
    print("\n".join(report(day, figures)))
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"took {time.process_time() - began_s:,.0f} s of one core and {rss_mib:,.0f} MiB")


if __name__ == "__main__":
    main()
