"""Each planted bug is found by few seeds; without one the same seeds find nothing."""

import pytest

from tests.simulation.bugs import BUGS, found

_SEEDS_MAX = 200
_FOUND_BY = {
    "outcome of a fenced owner dropped": 160,
    "memory trusted without confirmation": 185,
    "missed minutes forgotten at a take-over": 13,
    "read without proof": 37,
}
"""Where to begin with the bugs that few seeds find; `python -m tests.simulation --bugs` counts from 0."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    first = _FOUND_BY.get(bug, 0)

    assert found(bug, seeds_max=_SEEDS_MAX, first=first) is not None
