"""What became of the refreshes that came due: in time, after the stop, once each."""

from typing import NamedTuple

from bench.scale.lateness import Begun, begun, calm_at_s, passed_over, quantiles
from bench.scale.provider import MAX_CONCURRENCY
from bench.scale.sheet import Notebook
from bench.scale.stored import Planned, Seen
from runtime.fake_provider.stats import Stats

_LATE_S = 1.0


class Times(NamedTuple):
    """Seconds since the epoch."""

    even_s: float
    """From when on refreshes came due evenly, with all of them stored."""
    stop_s: float
    """When the daemon was told to stop."""
    start_s: float
    """When it was started again."""
    ready_s: float


def tell(
    notebook: Notebook, due: dict[str, Planned], seen: Seen, stats: Stats, times: Times
) -> None:
    """Note how late refreshes were begun, and hold what must hold."""
    refreshes = begun(due, seen.begun_s)
    _tell_even(notebook, refreshes, times)
    _tell_stop(notebook, refreshes, times)
    hold_once(notebook, "evenly", [*due], seen, stats)


def _tell_even(notebook: Notebook, refreshes: list[Begun], times: Times) -> None:
    # What is due just before the stop may be begun after it.
    even = [one for one in refreshes if times.even_s <= one.due_s < times.stop_s - _LATE_S]
    notebook.note("refreshes that came due evenly", len(even))
    if not even:
        return
    late = quantiles([one.late_s for one in even])
    notebook.note("  how late they were begun: p50", late.p50 * 1e3, "ms")
    notebook.note("  p99", late.p99 * 1e3, "ms")
    notebook.note("  the latest", late.most * 1e3, "ms")


def _tell_stop(notebook: Notebook, refreshes: list[Begun], times: Times) -> None:
    missed = [one for one in refreshes if times.stop_s <= one.due_s < times.ready_s]
    after = [one for one in refreshes if one.begun_s >= times.ready_s]
    notebook.note("the daemon was away for", times.ready_s - times.stop_s, "s")
    notebook.note("  due meanwhile", len(missed))
    early_s = sum(one.begun_s < times.ready_s for one in missed)
    notebook.note("  of these begun before it was stopped or said that it is ready", early_s)
    calm_s = calm_at_s(refreshes, times.ready_s, late_s_max=_LATE_S)
    notebook.note("  from ready until none is a second late", calm_s - times.ready_s, "s")
    if not missed:
        return
    late = quantiles([one.late_s for one in missed])
    notebook.note("  how late those missed were begun: p50", late.p50, "s")
    notebook.note("  the latest of those missed", late.most, "s")
    ended = sum(one.begun_s > one.urgent_s for one in missed)
    notebook.note("  whose access token had ended before", ended)
    jumps = quantiles(passed_over(refreshes, times.ready_s))
    count = len(passed_over(refreshes, times.ready_s))
    notebook.note("  begun before a more urgent one that waited for over a second", count)
    if count:
        notebook.note("    by how much that was the more urgent, the most", jumps.most, "s")
    notebook.note("  refreshes after the stop", len(after))


def hold_once(notebook: Notebook, how: str, due: list[str], seen: Seen, stats: Stats) -> None:
    """Hold that each was refreshed once, by one call, within the provider's bounds.

    Args:
        notebook: Where it is noted.
        how: They came due.
        due: The connections that were to be refreshed.
        seen: What events tell.
        stats: The provider's own book.
    """
    notebook.note(f"  provider calls, due {how}", stats.calls)
    notebook.note(f"  rotations by the provider's book, due {how}", stats.successes)
    notebook.note(f"  most calls at once, due {how}", stats.concurrency_max)
    once = all(len(seen.ended_s.get(one, ())) == 1 for one in due)
    calls = sum(map(len, seen.begun_s.values())) - seen.failed.total()
    notebook.hold("each is refreshed once by its events", is_kept=once and calls == len(due))
    for reason, count in seen.failed.items():
        notebook.note(f"  failed, due {how}: {reason}", count)
    calls = stats.calls == stats.successes == len(due)
    notebook.hold("provider calls are rotations, one for each that was due", is_kept=calls)
    twice = stats.double_presentations + stats.concurrent_presentations + stats.families_revoked
    notebook.hold("no refresh token is presented twice", is_kept=not twice)
    is_within = stats.concurrency_max <= MAX_CONCURRENCY
    notebook.hold("the provider is never above its limit", is_kept=is_within)
