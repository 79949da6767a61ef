"""The page of plots: one file of HTML with its style and its SVG inside, made of the records of all suites."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.parts import HERE
from benchmarks.plots import colour, curve
from benchmarks.records import HIGHER, Row, Series, short
from benchmarks.storage import load

#: The suites in the order of the page: heading, and what is compared.
SUITES = {
    "broadcast": ("A room", "What one socket says reaches all of a room; work by second of CPU of all processes."),
    "layers": ("The Redis layer", "Messages of 256 bytes, sender and receivers in processes of their own."),
    "local": ("The local layer", "Two processes of one machine, beside the kernel's own ways."),
    "local_redis": ("The local layer beside our Redis layer", "The same scenarios, without a server between."),
    "servers": ("The server", "Raw ASGI applications, server and client pinned to a core each."),
    "curves": ("The server, by payload and connections", "An echo, one message in flight for each connection."),
    "http2": ("HTTP/2", "Eight connections of eight streams each."),
    "memory": ("Memory of the server", "Idle sockets, and clients or applications that do not read."),
    "talk": ("Server, layer and worker", "Django views and an echo through a worker, all processes counted."),
    "kernels": ("Small pieces of work", "Instructions counted by valgrind, and time."),
}
MANY = 1000.0  # ratios beyond do not make the others' bars shorter


def order(name: str) -> int:
    return list(SUITES).index(name) if name in SUITES else len(SUITES)


class Track:
    """Places on a logarithmic track, in per cent, that is the same for all of ``rows``: it holds their ratios and 1."""

    def __init__(self, rows: Sequence[Row]) -> None:
        ratios = [series.ratio for row in rows for series in row.series if series.ratio]
        ratios += [target.wanted for row in rows for target in row.targets if target.against]
        inside = [min(max(ratio, 1 / MANY), MANY) for ratio in ratios]
        self.low, self.high = min([0.8, *inside]) * 0.9, max([1.25, *inside]) * 1.1

    def __call__(self, ratio: float) -> float:
        inside = min(max(ratio, self.low), self.high)
        return 100 * math.log(inside / self.low) / math.log(self.high / self.low)

    def tens(self) -> list[float]:
        """The powers of ten on it, but 1."""
        return [10.0**power for power in range(-3, 4) if power and self.low < 10.0**power < self.high]


def span(row: Row, ours: Series, theirs: Series) -> tuple[float, float]:
    """The ratio if the rival had always done its worst, and its best."""
    assert ours.median is not None and theirs.low is not None and theirs.high is not None  # noqa: PT018
    ends = [value for value in (theirs.low, theirs.high) if value > 0]
    found = sorted(ours.median / value if row.better == HIGHER else value / ours.median for value in ends)
    return (found[0], found[-1]) if found else (1.0, 1.0)


def bars(row: Row, place: Track) -> Iterator[str]:
    """How many times better ours is than each rival: to the right of the line at 1 we are ahead."""
    ours = row.series[0]
    wanted = {target.against: target for target in row.targets if target.against and target.ours == ours.rival}
    one = place(1)
    tens = "".join(f'<i class="ten" style="left:{place(ten):.1f}%"></i>' for ten in place.tens())
    yield '<div class="bars">'
    for series in row.series:
        name = f'<span class="who">{escape(series.rival)}</span>'
        if series.not_run or series.median is None:
            yield f'<div class="bar none">{name}<span class="why">not run: {escape(series.not_run)}</span></div>'
            continue
        lost = f' <b class="bad">{short(series.lost)} lost</b>' if series.lost else ""
        failed = f' <b class="bad">{escape(series.failed)}</b>' if series.failed else ""
        value = f"{short(series.median)}{lost}{failed}"
        if series is ours or series.ratio is None:
            kind = "ours" if series is ours else "none"
            told = f"{value} <small>{escape(row.unit)}</small>" if series is ours else value
            yield f'<div class="bar {kind}">{name}<span class="value">{told}</span></div>'
            continue
        end = place(series.ratio)
        start, width = min(one, end), abs(end - one)
        low, high = (place(value) for value in span(row, ours, series))
        behind = " behind" if series.ratio < 1 else ""
        marks = f'{tens}<i class="fill{behind}" style="left:{start:.1f}%;width:{width:.1f}%"></i>'
        if len(series.values) > 1:
            marks += f'<i class="span" style="left:{low:.1f}%;width:{max(high - low, 0.3):.1f}%"></i>'
        aim = ""
        if target := wanted.get(series.rival):
            kind = "met" if target.met else "unmet"
            marks += f'<i class="aim {kind}" style="left:{place(target.wanted):.1f}%"></i>'
            aim = f'<small class="{kind}">{"✓" if target.met else "✗"} wanted {target.wanted:.3g}x</small>'
        yield (
            f'<div class="bar">{name}<span class="track">{marks}<i class="one" style="left:{one:.1f}%"></i></span>'
            f'<span class="value"><b>{series.ratio:.3g}x</b> {value} {aim}</span></div>'
        )
    yield "</div>"


def shares(series: Series) -> str:
    return " · ".join(f"{escape(name)}&nbsp;{part:.0%}" for name, part in series.cpu.items())


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Every figure of a scenario, with spread, CPU shares, losses and targets."""
    first = rows[0]
    noted = f"{first.when}, {first.rounds} interleaved rounds, load {first.load:.1f} on the machine"
    yield f"<details><summary>all figures</summary><p>{escape(noted)}</p><div class=wide><table>"
    yield "<tr><th>figure<th>rival<th>median<th>lowest to highest<th>ours is better by<th>CPU, share of a core<th>lost"
    for row in rows:
        for number, series in enumerate(row.series):
            figure = f"{escape(row.figure)} <small>({row.better} is better)</small>" if not number else ""
            if series.not_run or series.median is None or series.low is None or series.high is None:
                told = f"<td colspan=5>not run: {escape(series.not_run)}"
            else:
                ratio = f"{series.ratio:.3g}x" if series.ratio is not None else ""
                told = f"<td>{short(series.median)}<td>{short(series.low)} to {short(series.high)}<td>{ratio}"
                told += f"<td>{shares(series)}<td>{short(series.lost) if series.lost else 0}"
            yield f"<tr><td>{figure}<td>{escape(series.rival)}{told}"
        for target in row.targets:
            got = "not measured" if target.got is None else short(target.got)
            kind = "" if target.met is None else "met" if target.met else "unmet"
            yield f'<tr class="{kind}"><td><td colspan=6>wanted {escape(target.text)}: {got}'
    yield "</table></div></details>"


def curves(rows: Sequence[Row]) -> Iterator[str]:
    """A plot for each curve and figure."""
    plots: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.axis:
            plots.setdefault((row.axis.curve, row.figure), []).append(row)
    names: dict[str, int] = {}
    for row in rows:
        for series in row.series:
            names.setdefault(series.rival, len(names))
    drawn: dict[str, list[str]] = {}
    for (title, figure), points in plots.items():
        if svg := curve(points, names):
            caption = f"{escape(figure)} <small>({points[0].better} is better)</small>"
            drawn.setdefault(title, []).append(f"<figure><figcaption>{caption}</figcaption>{svg}</figure>")
    for title, figures in drawn.items():
        shown = {
            series.rival: None
            for (name, _), points in plots.items()
            if name == title
            for row in points
            for series in row.series
            if series.median is not None
        }
        keys = "".join(f'<li class="c{colour(names[rival])}">{escape(rival)}' for rival in shown)
        yield f'<h3>{escape(title)}</h3><ul class="keys">{keys}</ul><div class="plots">{"".join(figures)}</div>'


def scenarios(rows: Sequence[Row]) -> Iterator[str]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    place = Track([found[0] for found in groups.values()])
    yield '<div class="cards">'
    for title, found in groups.items():
        first = found[0]
        yield f'<article><h4>{escape(title)}</h4><p class="what">{escape(first.figure)}, {first.better} is better</p>'
        yield from bars(first, place)
        yield from table(found)
        yield "</article>"
    yield "</div>"


def summary(suites: Sequence[tuple[str, dict[str, Any], list[Row]]]) -> Iterator[str]:
    """How many targets are met, and every row where a rival is ahead of ours."""
    rows = [row for _, _, found in suites for row in found]
    wanted = [target for row in rows for target in row.targets]
    targets = [target for target in wanted if target.met is not None]
    unmeasured = f", {len(wanted) - len(targets)} not measured" if len(wanted) > len(targets) else ""
    compared = [(row, series) for row in rows for series in row.series[1:] if series.ratio is not None]
    behind = [(row, series) for row, series in compared if series.ratio is not None and series.ratio < 1]
    lost = sum(row.series[0].lost for row in rows if row.figure == first_figure(rows, row))
    yield '<ul class="tiles">'
    for number, words in (
        (f"{sum(bool(target.met) for target in targets)} of {len(targets)}", f"targets met{unmeasured}"),
        (f"{len(compared) - len(behind)} of {len(compared)}", "comparisons in which ours is ahead"),
        (short(lost), "messages that ours lost"),
    ):
        yield f"<li><b>{number}</b> {words}"
    yield "</ul>"
    if behind:
        yield f"<details><summary>The {len(behind)} comparisons in which a rival is ahead</summary><ul>"
        for row, series in sorted(behind, key=lambda pair: pair[1].ratio or 0):
            told = f"{row.group}: {row.figure}: {series.rival}"
            yield f"<li><b>{series.ratio:.3g}x</b> {escape(told)}"
        yield "</ul></details>"


def first_figure(rows: Sequence[Row], row: Row) -> str:
    return next(each.figure for each in rows if each.suite == row.suite and each.group == row.group)


def about(machine: dict[str, Any]) -> str:
    kinds = [("", machine.get("programs", {})), ("ours: ", machine["ours"]), ("peers: ", machine["peers"])]
    kinds.append(("Channels 1: ", machine.get("oracle", {})))
    told = [
        words + ", ".join(f"{name} {version}" for name, version in found.items()) for words, found in kinds if found
    ]
    first = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}"
    return "<br>".join(escape(line) for line in (first, *told))


def write_page(folder: Path) -> Path:
    """Write ``index.html`` beside the records; returns its path."""
    suites = sorted(load(folder), key=lambda suite: order(suite[0]))
    style = (HERE / "page.css").read_text()
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>fastchannels: benchmarks</title>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        '<meta name=color-scheme content="light dark">',
        f"<style>{style}</style><header><h1>fastchannels beside its peers</h1>",
        "<p>Bars: how many times better ours is, on a logarithmic scale. Right of the line at 1x ours is ahead, left of"
        " it the rival. The thin line is the range of the rival's runs, the dashed mark what is wanted.</p>",
        *summary(suites),
        "<nav>",
        *(f'<a href="#{name}">{escape(SUITES.get(name, (name, ""))[0])}</a>' for name, _, _ in suites),
        "</nav></header><main>",
    ]
    for name, machine, rows in suites:
        heading, words = SUITES.get(name, (name, ""))
        parts += [f'<section id="{name}"><h2>{escape(heading)}</h2><p>{escape(words)}</p>']
        parts += [*curves(rows), *scenarios(rows), f"<p class=machine>{about(machine)}</p></section>"]
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</main></html>\n"]))
    return path
