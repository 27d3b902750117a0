"""Each planted bug is found by few seeds; without one the same seeds find nothing."""

import pytest

from tests.simulation.bugs import BUGS, found

_SEEDS_MAX = 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    assert found(bug, seeds_max=_SEEDS_MAX) is not None
