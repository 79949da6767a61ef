"""What is printed: ratios, spread, shares, losses, targets, and the reason of what did not run."""

from __future__ import annotations

import pytest

from benchmarks.records import LOST, Scenario, Target, rows_of, share
from benchmarks.terminal import Progress, lines, markdown

RATE = "messages/s"


@pytest.fixture
def rows():
    scenario = Scenario(("ours", "peer", "absent"), dict, (Target(RATE, 5, "peer"), Target(RATE, 1, "absent")))
    runs = {
        "ours": [{RATE: rate, share("server"): 0.98, "p50, ms": 1.5} for rate in (100.0, 200.0, 300.0)],
        "peer": [{RATE: 50.0, LOST: 2.0, "p50, ms": 3.0}],
    }
    return rows_of("suite", "Row", scenario, runs, {"absent": "no module"})


def test_a_table(rows):
    text = [" ".join(line.split()) for line in "\n".join(lines(rows)).splitlines() if line]
    assert text == [
        "Row",
        "messages/s (higher is better)",
        "ours 200 100 to 300 CPU: server 98%",
        "4x peer 50.0 LOST 2.00",
        "absent not run: no module",
        "wanted ≥ 5x peer: 4.00, NOT met",
        "wanted ≥ 1x absent: not measured",
        "p50, ms (lower is better)",
        "ours 1.50 1.50 to 1.50",
        "2x peer 3.00",
        "absent not run: no module",
    ]


def test_markdown(rows):
    assert list(markdown(rows))[2:] == [
        "| Row | messages/s | 200 (100 to 300) | 4x peer (50.0), absent: not run | not reached: ≥ 5x peer |"
    ]


def test_a_log_gets_a_sign_of_life_and_not_a_line_a_run(capsys):
    progress = Progress(25, 250.0)
    for number in range(25):
        progress.step(10.0, "Row", f"run {number}")
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    assert told[0] == "1 of 25, about 4 min left: Row: run 0"
    assert told[2].startswith("21 of 25, about ")


def test_rounds_that_failed_stand_beside_the_others():
    runs = {"ours": [{RATE: 2.0, "p50, ms": 1.0}], "peer": [{RATE: 1.0, "p50, ms": 2.0}]}
    rows = rows_of("suite", "Row", Scenario(("ours", "peer"), dict), runs, {"peer": "1 of 2 rounds failed: it broke"})
    told = [line for line in lines(rows) if "peer" in line]
    assert [line.endswith("   1 of 2 rounds failed: it broke") for line in told] == [True, False]
    assert list(markdown(rows))[2:] == [
        "| Row | messages/s | 2.00 (2.00 to 2.00) | 2x peer (1.00; 1 of 2 rounds failed: it broke) |  |"
    ]
