"""One shape of result for every suite: tables, JSON and the page's plots are made of rows, and of nothing else.

A suite measures a rival once and hands over a dict of figures. Two kinds of key are no figures: ``LOST``, what was
sent and did not arrive, and ``share(PROCESS)``, the part of a core that a process used meanwhile.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

Figures = dict[str, float]
LOST = "lost"
_SHARE = "CPU share: "
HIGHER, LOWER = "higher", "lower"

#: What a figure may be measured in, and whether more of it is better.
UNITS = {
    "messages/s": HIGHER,
    "deliveries/s": HIGHER,
    "pairs/s": HIGHER,
    "per second": HIGHER,
    "per CPU-second": HIGHER,
    "per server-CPU-second": HIGHER,
    "deliveries per second": HIGHER,
    "deliveries per CPU-second": HIGHER,
    "ns": LOWER,
    "µs": LOWER,
    "ms": LOWER,
    "µs a message": LOWER,
    "µs a delivery": LOWER,
    "µs a pair": LOWER,
    "µs a group_send": LOWER,
    "ms a second": LOWER,
    "KiB": LOWER,
    "KiB a socket": LOWER,
    "MiB": LOWER,
    "MiB more": LOWER,
    "instructions": LOWER,
    "Redis instructions a group_send": LOWER,
    "Redis commands a second": LOWER,
    "receives that ended": LOWER,
}


def share(process: str) -> str:
    """The key under which a run hands over how much of a core ``process`` used: 1 is a whole core."""
    return _SHARE + process


def unit_of(figure: str) -> str:
    """The unit: the whole name ("messages/s"), or what stands before or after its comma ("p50, µs")."""
    for unit in (figure, *reversed(figure.split(", "))):
        if unit in UNITS:
            return unit
    raise ValueError(f"{figure!r} has no unit of benchmarks.records.UNITS: add it, and whether more of it is better")


class Target(NamedTuple):
    """What is wanted of ``ours`` (the row's first rival unless named), in ``figure``.

    With ``against``: to be at least ``wanted`` times better than that rival. Without: to be no worse than ``wanted``.
    """

    figure: str
    wanted: float
    against: str = ""
    ours: str = ""


class Axis(NamedTuple):
    """Where a row stands on a curve: the curve's title, what grows along it, and how far it has grown."""

    curve: str
    along: str
    value: float


class Scenario(NamedTuple):
    """The rivals, ours first; what measures one of them once; what is wanted; the curve that it is a point of."""

    rivals: tuple[str, ...]
    measure: Callable[[str], Figures]
    targets: tuple[Target, ...] = ()
    axis: Axis | None = None


@dataclass
class Series:
    """One rival in one row. ``ratio``: how many times better ours is; below 1 the rival is ahead.

    ``failed`` tells of rounds that gave no figures, where others did; ``not_run`` why there are none at all.
    """

    rival: str
    values: list[float] = field(default_factory=list)
    median: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    cpu: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0
    not_run: str = ""
    failed: str = ""


@dataclass
class Outcome:
    """A target, how far it was reached (None: one of the two did not run), and whether that is enough."""

    text: str
    ours: str
    against: str
    wanted: float
    got: float | None
    met: bool | None


@dataclass
class Row:
    """One figure of one scenario, with all its rivals."""

    id: str
    suite: str
    group: str
    figure: str
    unit: str
    better: str
    series: list[Series]
    targets: list[Outcome]
    axis: Axis | None = None
    when: str = ""
    load: float = 0.0
    rounds: int = 0

    def of(self, rival: str) -> Series | None:
        return next((series for series in self.series if series.rival == rival), None)

    def record(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return asdict(self) | {"axis": self.axis and self.axis._asdict()}


def from_record(record: Mapping[str, Any]) -> Row:
    """The row whose ``record()`` this was."""
    parts = {
        "series": [Series(**series) for series in record["series"]],
        "targets": [Outcome(**outcome) for outcome in record["targets"]],
        "axis": Axis(**record["axis"]) if record["axis"] else None,
    }
    return Row(**{**record, **parts})


def better_by(ours: float, theirs: float, better: str) -> float | None:
    """How many times better ``ours`` is; None where that cannot be said, as beside a zero."""
    above, below = (ours, theirs) if better == HIGHER else (theirs, ours)
    return above / below if below > 0 and above > 0 else None


def series_of(rival: str, figure: str, runs: list[Figures]) -> Series:
    values = [run[figure] for run in runs]
    names = [name for name in runs[0] if name.startswith(_SHARE)]
    return Series(
        rival,
        values,
        statistics.median(values),
        min(values),
        max(values),
        cpu={name.removeprefix(_SHARE): statistics.median(run[name] for run in runs) for name in names},
        lost=sum(run.get(LOST, 0.0) for run in runs),
    )


def outcome(target: Target, series: Mapping[str, Series], unit: str, better: str) -> Outcome:
    name = target.ours or next(iter(series))
    ours, rival = series.get(name), series.get(target.against)
    value = ours.median if ours else None
    got: float | None
    if target.against:
        text = f"≥ {target.wanted:.3g}x {target.against}"
        got = better_by(value, rival.median, better) if value is not None and rival and rival.median else None
        enough = HIGHER
    else:
        text = f"{'≥' if better == HIGHER else '≤'} {target.wanted:,g} {unit}"
        got, enough = value, better
    met = None if got is None else got >= target.wanted if enough == HIGHER else got <= target.wanted
    return Outcome(f"{target.ours}: {text}" if target.ours else text, name, target.against, target.wanted, got, met)


def rows_of(
    suite: str, title: str, scenario: Scenario, runs: Mapping[str, list[Figures]], failed: Mapping[str, str]
) -> list[Row]:
    """A row for each figure that a rival handed over, in the order of the first.

    ``failed``: rival to the reason why all of its runs, or some, are not in ``runs``.

    :raises ValueError: a figure has no known unit.
    """
    figures: dict[str, None] = {}
    for done in runs.values():
        for run in done:
            figures |= {name: None for name in run if name != LOST and not name.startswith(_SHARE)}
    rows = []
    for figure in figures:
        unit = unit_of(figure)
        better = UNITS[unit]
        series: dict[str, Series] = {}
        for rival in scenario.rivals:
            reason = failed.get(rival, "")
            if figure in (done := runs.get(rival) or [{}])[0]:
                series[rival] = series_of(rival, figure, done)
                series[rival].failed = reason
            elif not done[0] and reason:
                series[rival] = Series(rival, not_run=reason)
        ours = series.get(scenario.rivals[0])
        for each in series.values():
            if ours and each is not ours and ours.median is not None and each.median is not None:
                each.ratio = better_by(ours.median, each.median, better)
        targets = [outcome(target, series, unit, better) for target in scenario.targets if target.figure == figure]
        name = f"{suite}/{title}/{figure}"
        rows.append(Row(name, suite, title, figure, unit, better, list(series.values()), targets, scenario.axis))
    return rows


def short(value: float) -> str:
    """A number for a person: three digits that count, thousands apart."""
    if value and abs(value) < 1e5:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        return f"{value:,.{digits}f}"
    return f"{value:,.0f}"
