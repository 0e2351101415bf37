"""Geometry of the report's plots, in per cent of the width and pixels of the height; the templates draw it as SVG."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

ROW_HEIGHT = 40
LINE_HEIGHT = 200
TICKS = 4
SLACK = 0.05
_STEPS = (1, 2, 2.5, 4, 5, 8, 10)


class Bar(NamedTuple):
    """One bar.

    Attributes:
        name: What stands over it.
        kind: Its colour: `model`, `floor`, `condition` or `ceiling`.
        value: Its length.
        low: Lower end of its interval, or None.
        high: Upper end, or None.
        label: Its value in words.
    """

    name: str
    kind: str
    value: float
    low: float | None
    high: float | None
    label: str


def bar_chart(bars: Sequence[Bar]) -> dict[str, Any]:
    """Horizontal bars from zero with whiskers, one under the other.

    Args:
        bars: At least one.

    Returns:
        `height`, `zero` (place of the axis), `ticks` and `bars` with their places.
    """
    values = [value for bar in bars for value in (bar.value, bar.low, bar.high) if value is not None]
    bottom, top, marks = _axis(values)

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - bottom) / (top - bottom), 2)

    drawn = []
    for index, bar in enumerate(bars):
        start, end = sorted((place(0.0) or 0.0, place(bar.value) or 0.0))
        drawn.append(
            {
                "name": bar.name,
                "kind": bar.kind,
                "label": bar.label,
                "y": 18 + ROW_HEIGHT * index,
                "x": start,
                "width": round(end - start, 2),
                "low": place(bar.low),
                "high": place(bar.high),
            }
        )
    return {"height": 36 + ROW_HEIGHT * len(bars), "zero": place(0.0), "bars": drawn, "ticks": marks}


def line_chart(points: Sequence[tuple[str, float, float | None, float | None]]) -> dict[str, Any]:
    """Points over categories, joined by a line, with whiskers.

    Args:
        points: Name of the category, value, lower and upper end of its interval.

    Returns:
        `height`, `zero`, `ticks` (of the vertical axis) and `points` with their places.
    """
    values = [value for _, *rest in points for value in rest if value is not None]
    bottom, top, marks = _axis(values)

    def place(value: float | None) -> float | None:
        return None if value is None else round(8 + LINE_HEIGHT * (top - value) / (top - bottom), 1)

    drawn = [
        {
            "x": round(100 * (index + 0.5) / len(points), 2),
            "y": place(value),
            "low": place(low),
            "high": place(high),
            "label": label,
        }
        for index, (label, value, low, high) in enumerate(points)
    ]
    joined = [{"x1": a["x"], "y1": a["y"], "x2": b["x"], "y2": b["y"]} for a, b in pairwise(drawn)]
    ticks = [{"y": place(tick["value"]), "label": tick["label"]} for tick in marks]
    return {"height": LINE_HEIGHT + 34, "zero": place(0.0), "points": drawn, "lines": joined, "ticks": ticks}


def scatter(points: Sequence[Sequence[float]], groups: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """Points in a square, the longer side filling it.

    Args:
        points: `(points, 2)`.
        groups: Group of each point.
        names: What each point is.

    Returns:
        Their places in per cent, with group and name.
    """
    lows = [min(point[axis] for point in points) for axis in (0, 1)]
    span = max(max(point[axis] for point in points) - lows[axis] for axis in (0, 1)) or 1.0
    return [
        {
            "x": round(2 + 96 * (point[0] - lows[0]) / span, 2),
            "y": round(98 - 96 * (point[1] - lows[1]) / span, 2),
            "group": group,
            "name": name,
        }
        for point, group, name in zip(points, groups, names, strict=True)
    ]


def _axis(values: Sequence[float]) -> tuple[float, float, list[dict[str, Any]]]:
    """Ends of an axis around zero and all values, and its ticks, which read well and hold zero."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = _round_up(max(high - low, 1e-9) / TICKS)
    # What is hardly below zero gets no tick of its own.
    first, last = math.floor(low / step + SLACK), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = []
    for number in range(first, last + 1):
        anchor = "start" if number == first else "end" if number == last else "middle"
        label = f"{number * step:.6g}".replace("-", "\N{MINUS SIGN}")
        place = round(100 * (number - first) / (last - first), 2)
        ticks.append({"x": place, "value": number * step, "label": label, "anchor": anchor})
    return first * step, last * step, ticks


def _round_up(step: float) -> float:
    """The next number that reads well."""
    scale = 10 ** math.floor(math.log10(step))
    return next(scale * nice for nice in _STEPS if scale * nice >= step * (1 - 1e-9))
