"""Does a refresh cost the daemon more than it did?

``python -m bench.guard`` sets the daemon's CPU per refresh, relative to an echo's in the same
round, against the ratio that is recorded in ``bench/results/guard.json``, and fails when the
median of the rounds is a quarter above it three times in a row: whatever else a machine does only
adds to it. A machine's speed is in both figures and so in neither; ``--record`` writes today's
ratio.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop

from bench.ceilings import EchoRow, running_echo
from bench.results import DISTINCT, ECHO, FOLDER
from bench.rows import CALLERS, DrivenRow, refreshes
from bench.system import new_ids, opened_system

FILE = FOLDER / "guard.json"
ROUNDS = 7
ALLOWED = 1.25
_ATTEMPTS = 3
_ECHOES, _REFRESHES = 20_000, 6_000


class Recorded(msgspec.Struct, frozen=True):
    """What a refresh cost when it was last looked at."""

    ratio: float
    """The daemon's CPU per refresh to an echo's per request."""


async def measured_ratios() -> list[float]:
    """Return the daemon's CPU per refresh to an echo's, round by round."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        system = await stack.enter_async_context(opened_system(folder))
        await system.connect(new_ids(500))
        echo = EchoRow(ECHO, system, stack.enter_context(running_echo(folder)), requests=_ECHOES)
        load = refreshes(system, connections=500, callers=CALLERS, requests=_REFRESHES)
        refresh = DrivenRow(DISTINCT, system, load)
        ratios: list[float] = []
        for _ in range(ROUNDS + 1):
            one, other = await refresh.measure(_REFRESHES), await echo.measure(_ECHOES)
            assert one.daemon_us is not None
            assert other.daemon_us is not None
            ratios.append(one.daemon_us / other.daemon_us)
        await refresh.check()
    # The first one warms up.
    return ratios[1:]


def main() -> None:
    """Measure, and compare or record."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--record", action="store_true")
    is_recording = parser.parse_args().record
    if is_recording:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_bytes(msgspec.json.encode(Recorded(round(_measured(), 2))) + b"\n")
        return
    recorded = msgspec.json.decode(FILE.read_bytes(), type=Recorded).ratio
    print(f"recorded {recorded:.2f}; up to {recorded * ALLOWED:.2f} passes")
    if not any(_measured() <= recorded * ALLOWED for _ in range(_ATTEMPTS)):
        sys.exit("a refresh costs the daemon more than it did: see bench/guard.py")


def _measured() -> float:
    ratios = uvloop.run(measured_ratios())
    ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
    print(
        f"a refresh costs the daemon {ratio:.2f} echoes of CPU ({low:.2f}-{high:.2f})", flush=True
    )
    return ratio


if __name__ == "__main__":
    main()
