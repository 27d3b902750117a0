"""Bars over time, as SVG that is drawn by the daemon; each has its numbers beside it in words."""

from collections.abc import Sequence
from typing import NamedTuple

from runtime.web.html import Markup, element, joined

_WIDTH = 640
_HEIGHT = 150
_FOOT = 22
_LEFT = 52
_LABELS = 6


class Bar(NamedTuple):
    """What is drawn over one stretch of time: the good below, the bad on top."""

    label: str
    good: int
    bad: int = 0


def bars(bars: Sequence[Bar], *, says: str) -> Markup:
    """Return a drawing of bars; ``says`` is what it shows, in words."""
    most = max((bar.good + bar.bad for bar in bars), default=0)
    top = _rounded_up(most)
    ground = _HEIGHT - _FOOT
    step = (_WIDTH - _LEFT) / max(len(bars), 1)
    drawn: list[Markup] = []
    for share in (0, 0.5, 1):
        y = round(ground - share * (ground - 14), 1)
        drawn.append(element("line", x1=_LEFT, x2=_WIDTH, y1=y, y2=y))
        if share * top == int(share * top):
            drawn.append(
                element("text", _short(int(share * top)), x=_LEFT - 6, y=y + 4, text_anchor="end")
            )
    labelled = max(len(bars) // _LABELS, 1)
    for number, bar in enumerate(bars):
        x, width = round(_LEFT + number * step, 2), round(max(step - 1.5, 1.0), 2)
        y = float(ground)
        for kind, count in (("good", bar.good), ("bad", bar.bad)):
            height = count / top * (ground - 14)
            y -= height
            if count:
                # One of a thousand must be seen, too.
                shape = {
                    "x": x,
                    "y": round(y, 2),
                    "width": width,
                    "height": max(round(height, 2), 1),
                }
                drawn.append(element("rect", class_=kind, **shape))
        if number % labelled == 0:
            drawn.append(element("text", bar.label, x=x, y=_HEIGHT - 5))
    return element(
        "svg", joined(drawn), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=says
    )


def _short(count: int) -> str:
    """Return a round number in few characters."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return str(count)


def _rounded_up(most: int) -> int:
    """Return the next 1, 2 or 5 of a power of ten."""
    top = 1
    for factor in (2, 2.5, 2) * 9:
        if top >= most:
            break
        top = int(top * factor)
    return max(top, most, 1)
