"""Small pieces of work by themselves: the instructions they run, which no load of the machine touches, and their time.

    python -m benchmarks --only kernels
    python -m benchmarks.check             # the instructions beside those that were written down before

Each piece is done a few times and some times more; the difference is the work without its set-up. The rows in C are the
units of ``src_c`` alone; those in Python include the objects that are made. valgrind, which counts, knows AVX2 but not
AVX-512.
"""

from __future__ import annotations

import functools
import os
import re
import resource
import shutil
import subprocess
from functools import partial
from typing import NamedTuple

from benchmarks.parts import OURS, ROOT, compiled, lacks
from benchmarks.records import Figures, Scenario, Target

UNITS = ("fc_ws", "fc_mask", "fc_utf8", "fc_http", "fc_name")
INSTRUCTIONS = "instructions"
ENOUGH = 4e9  # instructions of a run that is timed: about a second, beside which the start of Python is little
OURSELVES = "fastchannels"

CODEC = "from fastchannels.layers.codec import Codec\n"
C_WORK = {
    "1,000 masked frames of 32 B, in C": "frames",
    "unmasking 64 KiB, in C": "unmask",
    "request head of 3 lines, in C": "bare-head",
    "request head of 14 lines, in C": "browser-head",
    "1,000 channel names hashed, in C": "names",
}


class Work(NamedTuple):
    """Set-up, what is counted, and the modules that this needs beyond ours."""

    setup: str
    code: str
    needs: str = "fastchannels"


FRAMES = """
from benchmarks.servers_load import BINARY, frame
data = frame(BINARY, b"x" * 32) * 1000
"""
HEAD = """
from benchmarks.servers_load import REQUEST as data
"""
CHAT = """
message = {"type": "chat.message", "text": "x" * 200, "n": 7, "room": "lobby", "t": 1.5}
"""
INBOX = """
from fastchannels._core.inbox import Inbox
from fastchannels.layers.codec import Codec
codec = Codec()
inbox = Inbox(capacity_of=lambda name: 10_000, expiry=60.0, decode=codec.decode)
names = [f"specific.{'0' * 32}!{number:032x}" for number in range(1000)]
payload = codec.encode({"type": "chat.message", "text": "x" * 200, "n": 7})
"""
PYTHON_WORK = {
    "1,000 masked frames of 32 B, as Python events": {
        OURSELVES: Work(
            FRAMES + "from fastchannels._core.ws import FrameParser",
            "assert len(FrameParser(1 << 20).feed(data)) == 1000",
        ),
        "websockets": Work(
            FRAMES + "from websockets.server import ServerProtocol\nfrom websockets.protocol import OPEN",
            "peer = ServerProtocol(state=OPEN); peer.receive_data(data); assert len(peer.events_received()) == 1000",
            "websockets",
        ),
    },
    "request head of 3 lines, as Python events": {
        OURSELVES: Work(
            HEAD + "from fastchannels.server.http import HttpParser\nparser = HttpParser()",
            "parser.feed(data); assert parser.events.popleft().complete",
        ),
        "httptools": Work(
            HEAD + "from httptools import HttpRequestParser\n"
            "class Peer:\n"
            "    def on_url(self, url): self.url = url\n"
            "    def on_message_begin(self): self.headers = []\n"
            "    def on_header(self, name, value): self.headers.append((name.lower(), value))\n"
            "    def on_message_complete(self): self.complete = True\n"
            "peer = Peer(); parser = HttpRequestParser(peer)",
            "parser.feed_data(data); assert peer.complete",
            "httptools",
        ),
        "h11": Work(
            HEAD + "import h11",
            "parser = h11.Connection(h11.SERVER); parser.receive_data(data); parser.next_event(); parser.next_event()",
            "h11",
        ),
    },
    "a chat message encoded": {
        OURSELVES: Work(CHAT + CODEC + "encode = Codec().encode", "encode(message)"),
        "msgspec": Work(
            CHAT + "import msgspec\nencode = msgspec.msgpack.Encoder().encode", "encode(message)", "msgspec"
        ),
        "msgpack": Work(CHAT + "from msgpack import packb", "packb(message)", "msgpack"),
    },
    "a chat message decoded": {
        OURSELVES: Work(
            CHAT + CODEC + "data = Codec().encode(message)\ndecode = Codec().decode",
            "decode(data)",
        ),
        "msgspec": Work(
            CHAT + "import msgspec\ndata = msgspec.msgpack.encode(message)\ndecode = msgspec.msgpack.Decoder().decode",
            "decode(data)",
            "msgspec",
        ),
        "msgpack": Work(
            CHAT + "from msgpack import packb, unpackb\ndata = packb(message)", "unpackb(data)", "msgpack"
        ),
    },
    "1,000 messages put into an inbox and taken": {
        OURSELVES: Work(
            INBOX,
            "for name in names: inbox.put(name, payload)\n    for name in names: assert inbox.take(name)",
        ),
    },
    "a message handed to 1,000 receivers": {
        OURSELVES: Work(
            "import asyncio\n" + INBOX + "seen = []\nasync def attach():\n"
            "    for name in names: inbox.attach(name, seen.append)\n"
            "    while True:\n        inbox.fan_out(names, payload); seen.clear(); yield\n"
            "loop = asyncio.new_event_loop(); steps = attach()",
            "loop.run_until_complete(steps.__anext__())",
        ),
    },
}  # fmt: skip


class Kernel(NamedTuple):
    """The command, to which the number of times is added, and two such numbers."""

    command: tuple[str, ...]
    few: int
    many: int


def kernel(title: str, rival: str = OURSELVES) -> Kernel:
    if title in C_WORK:
        return Kernel((compiled("counts", UNITS), C_WORK[title]), 1, 11)
    work = PYTHON_WORK[title][rival]
    code = f"{work.setup}\nimport sys\nfor _ in range(int(sys.argv[1])):\n    {work.code}"
    return Kernel((OURS, "-c", code), 20, 40)


def counted(command: list[str]) -> int:
    """Instructions of ``command``, its set-up included.

    :raises RuntimeError: it failed, or valgrind did.
    """
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run([*valgrind, *command], capture_output=True, text=True, cwd=ROOT, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{command[0]}: {done.stderr[-500:]}")
    return int(found[1])


@functools.cache
def instructions(title: str, rival: str = OURSELVES) -> float:
    """Of one piece of work."""
    command, few, many = kernel(title, rival)
    return (counted([*command, str(many)]) - counted([*command, str(few)])) / (many - few)


def used(command: list[str]) -> float:
    """Seconds of CPU in user mode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True, cwd=ROOT)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def measure(rival: str, title: str) -> Figures:
    count = instructions(title, rival)
    command, few, _ = kernel(title, rival)
    times = max(2 * few, round(ENOUGH / count))
    seconds = used([*command, str(times)]) - used([*command, str(few)])
    return {INSTRUCTIONS: count, "time, ns": seconds / (times - few) * 1e9}


def missing(rival: str) -> str:
    """Why ``rival`` cannot run; empty when it can."""
    needs = {work.needs for rivals in PYTHON_WORK.values() for name, work in rivals.items() if name == rival}
    return "no valgrind" if not shutil.which("valgrind") else lacks(OURS, ", ".join(sorted(needs)))


def scenarios() -> dict[str, Scenario]:
    """By title."""
    wanted = {f"a chat message {way}": (Target("time, ns", 1, "msgspec"),) for way in ("encoded", "decoded")}
    titles: dict[str, tuple[str, ...]] = dict.fromkeys(C_WORK, (OURSELVES,))
    titles |= {title: tuple(rivals) for title, rivals in PYTHON_WORK.items()}
    return {
        title: Scenario(rivals, partial(measure, title=title), wanted.get(title, ()))
        for title, rivals in titles.items()
    }
