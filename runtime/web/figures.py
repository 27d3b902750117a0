"""What is measured, as plain values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Histogram(NamedTuple):
    """A histogram's present state."""

    bounds: Sequence[float]
    counts: Sequence[int]
    """By the least bound that holds an observation; the last: no bound does."""
    total: float


Figures = Mapping[str, Mapping[tuple[str, ...], float | Histogram]]
"""By metric and by the values of its labels; what is not known is not there."""
