"""How many examples a property is given: its own measure, under whatever profile runs."""

from hypothesis import settings

_USUAL = 100
"""The count of hypothesis's default profile; the counts in the tests are meant beside it."""


def examples(usual: int) -> int:
    """Return ``usual`` under the default profile, and its share under a smaller one."""
    return max(1, usual * settings().max_examples // _USUAL)
