"""The records of each suite in a JSON file of its own: ``machine``, and ``rows``, one record a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.records import Row, from_record


def keep(folder: Path, suite: str, machine: dict[str, Any], rows: list[Row]) -> None:
    """Write ``rows`` into the suite's file. Rows that were measured before on the same machine and not now stay."""
    path = folder / f"{suite}.json"
    old = json.loads(path.read_text()) if path.is_file() else {}
    kept = {row["id"]: row for row in old.get("rows", []) if old["machine"] == machine}
    kept |= {row.id: row.record() for row in rows}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": list(kept.values())}, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path) -> list[tuple[str, dict[str, Any], list[Row]]]:
    """Name, machine and rows of each suite that has been measured."""
    found = []
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        found.append((path.stem, data["machine"], [from_record(record) for record in data["rows"]]))
    return found
