"""Curves as inline SVG: a line for each rival over what grows, lowest to highest run as a bar at each point.

Colours are classes (``c0`` is ours), so that the page's style sheet decides them for light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from benchmarks.records import Row, short

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 12, 40
COLOURS = 10


def colour(number: int) -> int:
    """The class of a rival's colour; that of ours is nobody else's."""
    return (number - 1) % (COLOURS - 1) + 1 if number else 0


class Scale(NamedTuple):
    """From values between ``low`` and ``high``, by their logarithms or not, to pixels between ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def brief(value: float, along: str = "") -> str:
    """A number on an axis: 0.5, 20, 5k, 2M; of bytes 512, 4Ki, 1Mi."""
    if along == "bytes":
        for size, letters in ((1 << 20, "Mi"), (1 << 10, "Ki")):
            if value >= size:
                return f"{value / size:g}{letters}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def steps(low: float, high: float, at_most: int = 8) -> list[float]:
    """Round numbers between two positive ones on a logarithmic axis: 1, 2, 5, 10, ..., or fewer of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for parts in ((1, 2, 5), (1, 3), (1,)):
        found = [part * 10.0**power for power in powers for part in parts if low <= part * 10.0**power <= high]
        if len(found) <= at_most:
            return found
    return found[:: math.ceil(len(found) / at_most)]


def even(high: float, at_most: int = 5) -> list[float]:
    """Round numbers from 0 to ``high`` for a linear axis."""
    width = 10.0 ** math.floor(math.log10(high))
    while high / width < 2:
        width /= 5
    for part in (1, 2, 5, 10):
        if high / (width * part) <= at_most:
            return [width * part * number for number in range(int(high / (width * part)) + 1)]
    return [0, high]


def spread(values: Sequence[float], start: float, end: float) -> Scale:
    """Logarithmic when the values span more than a factor of twelve, from zero otherwise."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 12:
        return Scale(low * 0.8, high * 1.25, start, end, True)
    return Scale(0, high * 1.08 or 1, start, end, False)


def curve(rows: Sequence[Row], names: dict[str, int]) -> str:
    """One plot of rows that differ in their axis only; ``names``: the number of each rival's colour."""
    rows = sorted((row for row in rows if row.axis), key=lambda row: row.axis.value if row.axis else 0)
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in rows:
        for series in row.series:
            if row.axis and series.median is not None and series.low is not None and series.high is not None:
                place = (row.axis.value, series.median, series.low, series.high)
                points.setdefault(series.rival, []).append(place)
    values = [value for places in points.values() for place in places for value in place[1:]]
    along = [place[0] for places in points.values() for place in places]
    if not values or len(set(along)) < 2:
        return ""
    x = Scale(min(along), max(along), LEFT + 8, WIDTH - RIGHT, max(along) / min(along) > 4)
    y = spread(values, HEIGHT - BOTTOM, TOP)
    title = f"{rows[0].figure} by {rows[0].axis.along}" if rows[0].axis else rows[0].figure
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in steps(y.low, y.high) if y.logarithmic else even(y.high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{brief(value)}</text>')
    axis = rows[0].axis.along if rows[0].axis else ""
    for value in ticks(sorted(set(along)), x):
        parts.append(f'<path class="grid" d="M{x(value):.1f} {HEIGHT - BOTTOM}v5"/>')
        parts.append(
            f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{brief(value, axis)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="name" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(axis)}</text>')
    # Ours last, so that it lies above the others.
    for rival, places in sorted(points.items(), key=lambda item: -names[item[0]]):
        parts.append(line(rival, places, x, y, colour(names[rival]), rows[0].unit))
    return "".join([*parts, "</svg>"])


def ticks(values: Sequence[float], x: Scale) -> Iterable[float]:
    """Those of ``values`` whose labels do not touch."""
    last = -math.inf
    for value in values:
        if x(value) - last >= 34:
            last = x(value)
            yield value


def line(
    rival: str, places: Sequence[tuple[float, float, float, float]], x: Scale, y: Scale, number: int, unit: str
) -> str:
    path = "M" + "L".join(f"{x(at):.1f} {y(median):.1f}" for at, median, _, _ in places)
    parts = [f'<g class="c{number}"><path class="line" d="{path}"/>']
    for at, median, low, high in places:
        parts.append(f'<path class="range" d="M{x(at):.1f} {y(low):.1f}V{y(high):.1f}"/>')
        told = f"{rival}, {at:,g}: {short(median)} {unit} ({short(low)} to {short(high)})"
        parts.append(f'<circle cx="{x(at):.1f}" cy="{y(median):.1f}" r="3.5"><title>{escape(told)}</title></circle>')
    return "".join([*parts, "</g>"])
