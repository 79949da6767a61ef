"""The house rules that a program can check: who imports whom, a test file for each module, clean sources."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fastchannels"

PYTHON = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted([*PYTHON, *PACKAGE.rglob("*.pyx")])

#: fastchannels.<room>: what else of fastchannels it may import (its own room is always open to it)
BASE = {"exceptions", "conf", "envelope"}
ROOMS: dict[str, set[str]] = {
    "exceptions": set(),
    "envelope": set(),
    "conf": {"exceptions"},
    "_core": BASE,
    "layers": {*BASE, "_core"},
    "server": {*BASE, "_core"},
}
#: what joins the rooms, and so may import all of them
JOINTS = {"cli", "__main__", "management", "test"}
#: where Django, and where Redis clients, may be imported
DJANGO_FREE = {"exceptions", "conf", "envelope", "_core", "layers", "server"}
REDIS_CLIENTS = {"redis", "hiredis", "fakeredis"}

# Without code of their own to test; envelope.py holds constants only.
UNTESTED = {"__init__.py", "__main__.py", "envelope.py"}


def room_of(path: Path) -> str:
    """``layers`` for fastchannels/layers/redis/keys.py, ``conf`` for fastchannels/conf.py, ``""`` for the package."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that the file imports or cimports, at any depth."""
    text = path.read_text()
    if path.suffix != ".py":
        for found in re.finditer(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w., ]+))", text, re.M):
            yield from (name.strip() for name in (found[1] or found[2]).split(","))
        return
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (parent, node.module)))
            yield from (f"{name}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """Rooms of fastchannels that the file imports from."""
    parts = (name.split(".") for name in imports(path))
    return {part[1] for part in parts if part[0] == "fastchannels" and len(part) > 1 and is_room(part[1])}


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def tops_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports(path: Path) -> None:
    room = room_of(path)
    used = rooms_imported(path) - {room}
    if room in ROOMS:
        assert used <= ROOMS[room], f"{room} may import {sorted(ROOMS[room])} only"
    elif room not in JOINTS:
        assert not used & {"_core", "server", "cli", "management"}, "the talk's modules import neither _core nor server"
    tops = tops_imported(path)
    if room in DJANGO_FREE:
        assert "django" not in tops
    if path.parent != PACKAGE / "layers" / "redis":
        assert not tops & REDIS_CLIENTS


def test_the_rules_are_about_what_exists() -> None:
    """A renamed room must not make its rule empty."""
    assert all(is_room(room) for room in ROOMS)
    assert rooms_imported(PACKAGE / "layers" / "memory.py") == {"_core", "layers"}
    assert rooms_imported(PACKAGE / "layers" / "base.py") >= {"_core", "conf", "exceptions", "layers"}
    assert rooms_imported(PACKAGE / "_core" / "names.pyx") == {"_core", "exceptions"}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name not in UNTESTED and path.parent.name != "migrations"], ids=relative
)
def test_every_module_has_its_test_file(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    # tests/core for _core: a test directory is not private.
    folder = Path(*(part.lstrip("_") for part in inside.parent.parts))
    assert (ROOT / "tests" / folder / f"test_{inside.stem}.py").is_file()


@pytest.mark.parametrize("path", sorted((PACKAGE / "_core").glob("*.pyx")), ids=relative)
def test_every_compiled_module_has_its_stub(path: Path) -> None:
    assert path.with_suffix(".pyi").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "src_c").iterdir()), ids=relative)
def test_c_units(path: Path) -> None:
    text = path.read_text()
    assert "Python.h" not in re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    if path.suffix == ".c":
        # A part of a larger unit, such as fc_heap of fc_shm, is tested through it: the Makefile says so.
        makefile = (ROOT / "tests" / "c" / "Makefile").read_text()
        wholes = [
            whole for whole, parts in re.findall(r"^UNITS_(\w+) := (.*)$", makefile, re.M) if path.stem in parts.split()
        ]
        assert any((ROOT / "tests" / "c" / f"test_{name}.c").is_file() for name in [path.stem, *wholes])


def test_every_c_unit_links_into_one_extension() -> None:
    setup = (ROOT / "setup.py").read_text()
    for path in (ROOT / "src_c").glob("*.c"):
        assert setup.count(f'"{path.stem}"') == 1, path.stem


def tracked_files() -> list[Path]:
    """What git tracks or would track; every file when this is no checkout."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
        ).stdout.split("\n")  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".pyx", ".pyi"}]
    return [ROOT / name for name in listing if name and (ROOT / name).is_file()]


def test_no_paths_of_one_machine() -> None:
    """A path that exists where it was written only. The words are put together so that this file passes."""
    machine = re.compile("|".join(rf"(?<![\w.~-])/{name}/" for name in ("root", "work", "home/[a-z]")))
    found = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{relative(path)}:{text.count(chr(10), 0, hit.start()) + 1}" for hit in machine.finditer(text)]
    assert not found


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_file_grows_out_of_hand(path: Path) -> None:
    assert path.read_text().count("\n") <= 650
