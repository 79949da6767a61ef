"""The page is whole: every rival of every row, valid SVG, nothing loaded from elsewhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

import pytest

from benchmarks.machine import machine
from benchmarks.page import write_page
from benchmarks.plots import COLOURS, Scale, brief, colour, curve, even, steps, ticks
from benchmarks.records import LOST, Axis, Scenario, Target, rows_of, share
from benchmarks.storage import keep, load

WORK = "deliveries per CPU-second"
VOID = {"meta", "i", "b", "br", "link", "li", "tr", "td", "th"}  # whose ends may be left out, or hold text only


def room(members: int, ours: float, peer: float):
    scenario = Scenario(
        ("ours", "peer <&>", "absent"),
        dict,
        (Target(WORK, 2, "peer <&>"), Target(WORK, 2, "absent")),
        Axis("Room by members", "members", members),
    )
    runs = {
        "ours": [{WORK: ours * part, LOST: 3.0, share("server"): 0.98} for part in (0.9, 1, 1.2)],
        "peer <&>": [{WORK: peer * part} for part in (0.8, 1, 1.1)],
    }
    return rows_of("broadcast", f"Room of {members}", scenario, runs, {"absent": "no such program"})


@pytest.fixture(scope="module")
def here():
    return machine()


@pytest.fixture
def folder(tmp_path, here):
    for members, ours, peer in ((10, 50_000, 20_000), (1000, 90_000, 3_000), (50_000, 80_000, 100_000)):
        keep(tmp_path, "broadcast", here, room(members, ours, peer))
    return tmp_path


class Check(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_stands_by_itself(folder):
    text = write_page(folder).read_text()
    check = Check()
    check.feed(text)
    assert check.open == []
    assert all(source.startswith("#") for source in check.sources)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text


def test_every_rival_is_told_of(folder):
    text = write_page(folder).read_text()
    assert "peer &lt;&amp;&gt;" in text
    assert "not run: no such program" in text
    assert "30x" in text  # ahead at 1,000
    assert "0.8x" in text  # behind at 50,000
    assert "wanted 2x" in text
    assert "9.00 lost" in text
    assert "server&nbsp;98%" in text
    assert "2 of 3</b> targets met, 3 not measured" in text


def test_curves_are_svg_with_a_line_for_each_rival(folder):
    svgs = re.findall(r"<svg.*?</svg>", write_page(folder).read_text(), re.S)
    assert len(svgs) == 1
    tree = xml.fromstring(svgs[0])
    assert len(tree.findall(".//circle")) == 6
    assert len([path for path in tree.iter("path") if path.get("class") == "line"]) == 2


def test_one_point_is_no_curve(folder):
    rows = [row for row in load(folder)[0][2] if row.axis.value == 10]
    assert curve(rows, {"ours": 0, "peer <&>": 1}) == ""


def test_rows_are_kept_until_they_are_measured_again(folder, here):
    before = load(folder)[0][2]
    keep(folder, "broadcast", here, room(1000, 10, 20))
    after = load(folder)[0][2]
    assert [row.id for row in after] == [row.id for row in before]
    assert [row.series[0].median for row in after] == [50_000, 10, 80_000]


def test_rows_of_another_machine_go(folder, here):
    keep(folder, "broadcast", {**here, "cpu": "another"}, room(1000, 10, 20))
    assert len(load(folder)[0][2]) == 1


def test_no_rival_has_the_colour_of_ours():
    assert [colour(number) for number in range(COLOURS + 2)] == [*range(COLOURS), 1, 2]


def test_scales():
    x = Scale(1, 100, 0, 200, True)
    assert [x(1), x(10), x(100)] == [0, 100, 200]
    assert Scale(0, 10, 100, 0, False)(2.5) == 75


def test_labels_are_round_and_do_not_touch():
    assert steps(9, 600) == [10, 20, 50, 100, 200, 500]
    assert steps(9, 9000) == [10, 30, 100, 300, 1000, 3000]
    assert steps(9, 600_000) == [10, 100, 1000, 10_000, 100_000]
    assert even(9) == [0, 2, 4, 6, 8]
    assert even(70_000) == [0, 20_000, 40_000, 60_000]
    assert [brief(500), brief(50_000), brief(0.5), brief(16_384, "bytes")] == ["500", "50k", "0.5", "16Ki"]
    assert list(ticks([1, 1.1, 50, 100], Scale(1, 100, 0, 200, False))) == [1, 50, 100]
