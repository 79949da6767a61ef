"""The check of instruction counts notices a regression, and compares nothing that was counted elsewhere."""

from __future__ import annotations

import json

import pytest

from benchmarks import check, kernels

TITLE = "unmasking 64 KiB, in C"


@pytest.fixture
def baseline(tmp_path):
    return tmp_path / "check.json"


def written(baseline, factor: float, **conditions: str) -> int:
    """What the check says when the kernel was written down with ``factor`` times the instructions that it has."""
    counts = {TITLE: kernels.instructions(TITLE) * factor}
    baseline.write_text(json.dumps({"conditions": {**check.conditions(), **conditions}, "instructions": counts}))
    return check.main([TITLE], baseline)


def test_a_regression_fails(baseline, capsys):
    assert written(baseline, 0.95) == 1
    assert "+5.3%: MORE than 3%" in capsys.readouterr().out


def test_what_is_as_it_was_passes(baseline):
    assert written(baseline, 1.0) == 0


def test_fewer_pass_and_are_told_of(baseline, capsys):
    assert written(baseline, 1.1) == 0
    assert "-9.1%: fewer" in capsys.readouterr().out


def test_slower_code_runs_more_instructions(tmp_path, monkeypatch):
    """A loop in place of the vectors is seen, by a count of its own."""
    before = kernels.instructions(TITLE)
    source = tmp_path / "counts.c"
    source.write_text(
        "#include <stdlib.h>\nstatic volatile unsigned char data[65536];\n"
        "int main(int count, char **arguments) {\n(void)count;\n"
        "for (int times = atoi(arguments[2]); times > 0; times--)\n"
        "for (int index = 0; index < 65536; index++)\ndata[index] ^= 1;\nreturn 0;\n}\n"
    )
    program = tmp_path / "counts"
    kernels.subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True)
    monkeypatch.setattr(kernels, "compiled", lambda name, units=(): str(program))
    after = kernels.instructions.__wrapped__(TITLE)
    right, words = check.verdict(before, after)
    assert not right, words


def test_another_compiler_is_told_of_and_nothing_compared(baseline, capsys):
    assert written(baseline, 0.1, compiler="cc (Other) 1.0") == 0
    told = capsys.readouterr().out
    assert "compiler: cc (Other) 1.0 then" in told
    assert TITLE not in told


def test_update_writes_down_and_keeps_the_others(baseline):
    baseline.write_text(json.dumps({"conditions": check.conditions(), "instructions": {TITLE: 1, check.TITLES[0]: 7}}))
    assert check.main(["--update", TITLE], baseline) == 0
    data = json.loads(baseline.read_text())
    assert data["instructions"] == {TITLE: round(kernels.instructions(TITLE)), check.TITLES[0]: 7}
    assert check.main([TITLE], baseline) == 0


def test_the_committed_baseline_names_kernels_that_exist():
    data = json.loads(check.BASELINE.read_text())
    assert set(data["instructions"]) == set(check.TITLES)
    assert set(data["conditions"]) == set(check.conditions())
