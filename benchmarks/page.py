"""The page of plots, made of the records of all suites."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.storage import load


def write_page(folder: Path) -> Path:
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row.record() for _, _, rows in load(folder) for row in rows]
    path.write_text(f"<!doctype html><meta charset=utf-8><pre>{json.dumps(rows, indent=1)}</pre>")
    return path
