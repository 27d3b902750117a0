"""How many examples a property is given: its own measure, under whatever profile runs."""

from hypothesis import settings

_USUAL = 100
"""The count of the profile ``thorough``; the counts in the tests are meant beside it."""


def examples(usual: int) -> int:
    """Return ``usual`` under the profile ``thorough``, and its share under a smaller one."""
    return max(1, usual * settings().max_examples // _USUAL)
