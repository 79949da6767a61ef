"""``fastchannels status`` and ``flush``: what they tell of a segment, and what they leave alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fastchannels import cli
from fastchannels.layers.local import LocalChannelLayer

MIB = 1024 * 1024


def test_status_and_flush(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = LocalChannelLayer(path=tmp_path / "a", size=3 * MIB)
    for n in range(3):
        layer.send_sync("jobs", {"n": n})
    layer.group_add_sync("news", "jobs")
    assert cli.main(["status", str(tmp_path / "a")]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"version \d+, whole", out)
    assert f"{3 * MIB:,} bytes" in out
    assert "  jobs  3 waiting, the oldest for 0." in out
    assert "  news  1 processes" in out
    assert not err
    assert cli.main(["flush", str(tmp_path / "a")]) == 0
    assert "removed 3 messages and 1 memberships" in capsys.readouterr().out
    assert layer.receive_many(["jobs"]) == (None, None)
    assert layer.statistics()["segment"]["processes"] == 1
    layer._release()


def test_an_unused_segment_keeps_its_size_and_what_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = LocalChannelLayer(path=tmp_path, size=3 * MIB)
    layer.send_sync("jobs", {"n": 1})
    layer._release()
    assert cli.main(["status", str(tmp_path)]) == 0
    assert "processes: 0\n" in capsys.readouterr().out
    assert os.stat(tmp_path / "segment").st_size == 3 * MIB
    assert layer.receive_many(["jobs"]) == ("jobs", {"n": 1})
    layer._release()


def test_without_a_path(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastchannels.inspect_cli.default_path", lambda: str(tmp_path / "mine"))
    assert cli.main(["status"]) == 2
    assert f"{tmp_path}/mine: no segment" in capsys.readouterr().err
    for name in ("mine-project", "mine"):
        layer = LocalChannelLayer(path=tmp_path / name, size=3 * MIB)
        layer.send_sync("jobs", {})
        layer._release()
        if name == "mine-project":
            assert cli.main(["status"]) == 0
            assert capsys.readouterr().out.startswith(f"{tmp_path}/mine-project: segment")
    assert cli.main(["flush"]) == 2
    assert capsys.readouterr().err == f"fastchannels flush: name one of {tmp_path}/mine {tmp_path}/mine-project\n"


def test_what_is_no_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path)]) == 2
    assert f"{tmp_path}: no segment" in capsys.readouterr().err
    (tmp_path / "segment").write_bytes(b"x" * MIB)
    (tmp_path / "segment").chmod(0o600)
    assert cli.main(["flush", str(tmp_path)]) == 1
    assert "not a segment of fastchannels" in capsys.readouterr().err
