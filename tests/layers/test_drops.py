from __future__ import annotations

import logging

import pytest

from fastchannels.layers.drops import MAX_GROUPS, DropLog


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_counts_by_reason() -> None:
    drops = DropLog()
    drops.count("expired")
    drops.count("expired", 4)
    drops.count("full", 2)
    totals = drops.totals()
    assert totals == {"expired": 5, "full": 2}
    totals["full"] = 0
    assert drops.totals()["full"] == 2


def test_one_line_for_each_group_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    drops = DropLog(clock)
    for _ in range(100):
        drops.group_full("g", 2, 7)
    drops.group_full("h", 1, 3)
    clock.now += 9.9
    drops.group_full("g", 2, 7)
    assert len(caplog.records) == 2
    clock.now += 0.2
    drops.group_full("g", 3, 8)
    first, second, third = caplog.records
    assert (first.name, first.levelno) == ("fastchannels.layer", logging.WARNING)
    assert "'g': 2 of 7 members" in first.getMessage()
    assert "'h': 1 of 3 members" in second.getMessage()
    assert "3 of 8 members" in third.getMessage()
    # 99 x 2 in the first second, 2 later, 3 now
    assert "(203 drops since the last line)" in third.getMessage()
    assert drops.totals() == {"group_full": 206}


def test_undecodable(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    drops = DropLog(clock)
    for _ in range(5):
        drops.undecodable(ValueError("bad byte"))
    clock.now += 10
    drops.undecodable(ValueError("other byte"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert "(1 since the last line): ValueError: bad byte" in caplog.records[0].getMessage()
    assert "(5 since the last line): ValueError: other byte" in caplog.records[1].getMessage()
    assert drops.totals() == {"undecodable": 6}


def test_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    drops = DropLog(Clock())
    for n in range(MAX_GROUPS + 500):
        drops.group_full("busy", 1, 1)
        drops.group_full(f"g{n}", 1, 1)
    assert len(drops._groups) == MAX_GROUPS
    assert drops._groups["busy"].count == MAX_GROUPS + 499


def test_refusals_by_channel() -> None:
    drops = DropLog(Clock())
    for n in range(MAX_GROUPS):
        drops.refused("busy")
        drops.refused(f"c{n}")
    assert (drops.refusals("busy"), drops.refusals("c0"), drops.refusals("c1")) == (MAX_GROUPS, 0, 1)
    assert drops.totals() == {"refused": 2 * MAX_GROUPS}
    assert len(drops._refused) == MAX_GROUPS


def test_one_line_for_all_other_drops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    drops = DropLog(clock)
    drops.report({"group_full": 3, "undecodable": 1, "refused": 2})
    drops.report({"closed": 2})
    drops.report({"closed": 5, "expired": 1})
    clock.now += 9.9
    drops.report({"closed": 6, "expired": 4})
    clock.now += 0.2
    for _ in range(2):
        drops.report({"closed": 6, "expired": 4, "group_full": 9})
        clock.now += 10
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert lines == [
        (logging.INFO, "dropped since the last line: 2 closed"),
        (logging.WARNING, "dropped since the last line: 4 closed, 4 expired"),
    ]
