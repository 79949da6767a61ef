"""Instructions that parsing takes, counted by valgrind: a figure that no load of the machine touches.

    python -m benchmarks.servers_counts [TITLE ...]

Each piece of work is run a few times and some times more; the difference is the work without its set-up. The rows in C
are the units of ``src_c`` alone; those in Python include the objects that are made. valgrind knows AVX2, not AVX-512.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.parts import HERE, OURS, ROOT, wanted

UNITS = ("fc_ws", "fc_mask", "fc_utf8", "fc_http")
C_WORK = {
    "1,000 masked frames of 32 B, in C": "frames",
    "unmasking 64 KiB, in C": "unmask",
    "request head of 3 lines, in C": "bare-head",
    "request head of 14 lines, in C": "browser-head",
}

FRAMES = """
from benchmarks.servers_load import BINARY, frame
data = frame(BINARY, b"x" * 32) * 1000
"""
HEAD = """
from benchmarks.servers_load import REQUEST as data
"""
#: title: rival: (set-up, what is counted)
PYTHON_WORK = {
    "1,000 masked frames of 32 B, as Python events": {
        "fastchannels": (
            FRAMES + "from fastchannels._core.ws import FrameParser",
            "assert len(FrameParser(1 << 20).feed(data)) == 1000",
        ),
        "websockets": (
            FRAMES + "from websockets.server import ServerProtocol\nfrom websockets.protocol import OPEN",
            "peer = ServerProtocol(state=OPEN); peer.receive_data(data); assert len(peer.events_received()) == 1000",
        ),
    },
    "request head of 3 lines, as Python events": {
        "fastchannels": (
            HEAD + "from fastchannels.server.http import HttpParser\nparser = HttpParser()",
            "parser.feed(data); assert parser.events.popleft().complete",
        ),
        "httptools": (
            HEAD + "from httptools import HttpRequestParser\n"
            "class Peer:\n"
            "    def on_url(self, url): self.url = url\n"
            "    def on_message_begin(self): self.headers = []\n"
            "    def on_header(self, name, value): self.headers.append((name.lower(), value))\n"
            "    def on_message_complete(self): self.complete = True\n"
            "peer = Peer(); parser = HttpRequestParser(peer)",
            "parser.feed_data(data); assert peer.complete",
        ),
        "h11": (
            HEAD + "import h11",
            "parser = h11.Connection(h11.SERVER); parser.receive_data(data); parser.next_event(); parser.next_event()",
        ),
    },
}


def counted(command: list[str]) -> int:
    """Instructions of ``command``, its set-up included."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([*valgrind, *command], capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def difference(command: list[str], few: int, many: int) -> float:
    """Instructions of one piece of work; ``command`` ends with how often it is done."""
    return (counted([*command, str(many)]) - counted([*command, str(few)])) / (many - few)


def compiled() -> str:
    program = ROOT / "build" / "counts"
    program.parent.mkdir(exist_ok=True)
    sources = [HERE / "c" / "counts.c", *(ROOT / "src_c" / f"{unit}.c" for unit in UNITS)]
    command = ["cc", "-std=c11", "-O2", f"-I{ROOT / 'src_c'}", "-o", str(program), *map(str, sources)]
    subprocess.run(command, check=True)
    return str(program)


def rows(words: list[str]) -> Iterator[tuple[str, str, float]]:
    """Title, rival, instructions; of all titles, or those that hold one of ``words``."""
    program = compiled()
    for title, work in C_WORK.items():
        if wanted(title, words):
            yield title, "fastchannels", difference([program, work], 1, 11)
    for title, rivals in PYTHON_WORK.items():
        for rival, (setup, work) in rivals.items():
            if wanted(title, words):
                code = f"{setup}\nimport sys\nfor _ in range(int(sys.argv[1])):\n    {work}"
                yield title, rival, difference([OURS, "-c", code], 20, 40)


def main() -> None:
    ours: dict[str, float] = {}
    for title, rival, count in rows(sys.argv[1:]):
        ours.setdefault(title, count)
        ratio = "" if rival == "fastchannels" else f"{ours[title] / count:8.3f}x"
        print(f"{title:<48}{rival:<14}{count:>14,.0f} {ratio}", flush=True)


if __name__ == "__main__":
    main()
