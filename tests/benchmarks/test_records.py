"""Rows are made of what suites hand over: medians, spread, ratios, losses, shares, targets, and who did not run."""

from __future__ import annotations

import json

import pytest

from benchmarks.records import (
    HIGHER,
    LOST,
    LOWER,
    Axis,
    Scenario,
    Target,
    better_by,
    from_record,
    rows_of,
    share,
    short,
    unit_of,
)

RATE, TIME = "messages/s", "p50, ms"


def run(rate: float, time: float, lost: float = 0.0, busy: float = 0.5) -> dict[str, float]:
    return {RATE: rate, TIME: time, LOST: lost, share("server"): busy}


RUNS = {
    "ours": [run(300, 2.0), run(100, 4.0), run(200, 3.0, busy=0.9)],
    "peer": [run(50, 3.0, lost=1), run(40, 6.0), run(60, 9.0, lost=2)],
}
TARGETS = (
    Target(RATE, 5, "peer"),
    Target(TIME, 1, "peer"),
    Target(TIME, 2.5),
    Target(RATE, 2, "absent"),
    Target(RATE, 1, "ours", ours="peer"),
)
SCENARIO = Scenario(("ours", "peer", "absent"), lambda rival: {}, TARGETS, Axis("curve", "members", 10))


def rows():
    return rows_of("suite", "row", SCENARIO, RUNS, {"absent": "not installed"})


def test_a_row_for_each_figure():
    rate, time = rows()
    assert (rate.id, rate.unit, rate.better) == ("suite/row/messages/s", "messages/s", HIGHER)
    assert (time.id, time.unit, time.better) == ("suite/row/p50, ms", "ms", LOWER)
    assert [series.rival for series in rate.series] == ["ours", "peer", "absent"]


def test_median_spread_loss_and_shares():
    ours, peer, absent = rows()[0].series
    assert (ours.median, ours.low, ours.high, ours.values) == (200, 100, 300, [300, 100, 200])
    assert ours.cpu == {"server": 0.5}
    assert (ours.lost, peer.lost) == (0, 3)
    assert (absent.not_run, absent.values, absent.median, absent.ratio) == ("not installed", [], None, None)


def test_the_ratio_is_how_many_times_better_ours_is():
    rate, time = rows()
    assert rate.of("ours").ratio is None
    assert rate.of("peer").ratio == 4
    assert time.of("peer").ratio == 2


def test_targets():
    rate, time = rows()
    assert [(target.text, target.got, target.met) for target in rate.targets] == [
        ("≥ 5x peer", 4, False),
        ("≥ 2x absent", None, None),
        ("peer: ≥ 1x ours", 0.25, False),
    ]
    assert [(target.text, target.got, target.met) for target in time.targets] == [
        ("≥ 1x peer", 2, True),
        ("≤ 2.5 ms", 3, False),
    ]


def test_a_figure_that_only_a_peer_has_gets_a_row_without_ours():
    found = rows_of("suite", "row", Scenario(("ours", "peer"), dict), {"ours": [], "peer": [{TIME: 1.0}]}, {})
    assert [series.rival for series in found[0].series] == ["peer"]
    assert found[0].series[0].ratio is None


def test_rows_survive_json():
    assert [from_record(json.loads(json.dumps(row.record()))) for row in rows()] == rows()


@pytest.mark.parametrize(
    ("figure", "expected"),
    [("messages/s, one thread", "messages/s"), ("client CPU, µs a message", "µs a message"), ("KiB a socket", None)],
)
def test_units(figure, expected):
    assert unit_of(figure) == (expected or figure)


def test_an_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="furlongs"):
        unit_of("distance, furlongs")


def test_nothing_is_better_than_zero():
    assert better_by(1, 0, LOWER) is None
    assert better_by(0, 1, LOWER) is None
    assert better_by(3, 2, HIGHER) == 1.5


def test_numbers_for_people():
    assert [short(value) for value in (0, 0.012345, 7.894, 123.4, 12345.6, 1234567)] == [
        "0", "0.0123", "7.89", "123", "12,346", "1,234,567",
    ]  # fmt: skip


def test_rounds_that_failed_leave_the_others():
    failed = {"peer": "1 of 4 rounds failed: it broke", "absent": "4 of 4 rounds failed: no port"}
    ours, peer, absent = rows_of("suite", "row", SCENARIO, RUNS, failed)[0].series
    assert (ours.failed, ours.not_run) == ("", "")
    assert (peer.median, peer.failed, peer.not_run) == (50, failed["peer"], "")
    assert (absent.median, absent.failed, absent.not_run) == (None, "", failed["absent"])
