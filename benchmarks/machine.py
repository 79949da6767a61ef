"""What the figures were measured on: the machine, the system, and the versions of everything that took part."""

from __future__ import annotations

import json
import platform
import re
import resource
import shutil
import subprocess
from pathlib import Path

from benchmarks.parts import NODE_MODULES, ORACLE, OURS, PEERS

PACKAGES = {
    OURS: ["fastchannels", "channels", "django", "hiredis", "redis", "uvloop"],
    PEERS: [
        "channels", "channels_redis", "daphne", "django", "granian", "gunicorn", "hiredis", "hypercorn", "picows",
        "redis", "uvicorn", "uvloop",
    ],
    ORACLE: ["asgi_redis", "channels", "daphne", "django"],
}  # fmt: skip
PROGRAMS = {"node": ["node", "--version"], "redis-server": ["redis-server", "--version"], "cc": ["cc", "--version"]}


def packages(python: str) -> dict[str, str]:
    """Versions of the packages that ``python`` finds; without those that it does not have."""
    code = (
        "import json, importlib.metadata as m\n"
        "found = {}\n"
        f"for name in {PACKAGES[python]!r}:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    if not Path(python).exists():
        return {}
    found: dict[str, str] = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True).stdout)
    return found


def programs() -> dict[str, str]:
    found = {}
    for name, command in PROGRAMS.items():
        if shutil.which(command[0]):
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            version = re.search(r"\d+(\.\d+)+", re.sub(r"\(.*?\)", "", told))
            found[name] = version[0] if version else told.splitlines()[0]
    package = NODE_MODULES / "ws" / "package.json"
    if package.is_file():
        found["node's ws"] = json.loads(package.read_text())["version"]
    return found


def compiler() -> dict[str, str]:
    """The C compiler by its first line, and what it compiles for."""
    told = subprocess.run(["cc", "--version"], check=True, capture_output=True, text=True).stdout
    return {"compiler": told.splitlines()[0], "architecture": platform.machine()}


def processor_features() -> set[str]:
    """What the processor can do, by the kernel's names for it; empty where there is no /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def processor() -> tuple[str, int]:
    """Its name, and how many cores the system shows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names[0], len(names)) if names else (platform.processor() or platform.machine(), 0)


def machine() -> dict[str, object]:
    name, cores = processor()
    return {
        "cpu": name,
        "cores": cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "open files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "ours": packages(OURS),
        "peers": packages(PEERS),
        "oracle": packages(ORACLE),
        "programs": programs(),
    }
