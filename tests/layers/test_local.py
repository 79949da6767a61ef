from __future__ import annotations

import asyncio
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastchannels.exceptions import ChannelFull, CorruptSegmentError, InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.local import LocalChannelLayer, default_path, default_size

from .contract import ContractTests, MakeLayer, ViewOf
from .waits import DEADLINE, HELLO, soon, until

MIB = 1024 * 1024


@pytest.fixture
def made() -> Iterator[list[LocalChannelLayer]]:
    """Layers to release at the end; each leaves its segment in order."""
    layers: list[LocalChannelLayer] = []
    yield layers
    for layer in layers:
        assert layer._open().check() is None
    for layer in layers:
        layer._release()


class TestLocal(ContractTests):
    @pytest.fixture
    def make_layer(self, tmp_path: Path, made: list[LocalChannelLayer]) -> MakeLayer:
        def make(**options: Any) -> ChannelLayer:
            layer = LocalChannelLayer(path=tmp_path / f"segment{len(made)}", size=64 * MIB, **options)
            made.append(layer)
            layer.options = options  # type: ignore[attr-defined]
            return layer

        return make

    @pytest.fixture
    def view_of(self, made: list[LocalChannelLayer]) -> ViewOf:
        def view(layer: ChannelLayer) -> ChannelLayer:
            assert isinstance(layer, LocalChannelLayer)
            other = LocalChannelLayer(path=layer.path, size=layer.size, **layer.options)  # type: ignore[attr-defined]
            made.append(other)
            return other

        return view

    async def test_group_add_from_a_thread(self, layer: ChannelLayer) -> None:
        """It goes through the inbox, as the add of another process does: before what is sent after it."""
        name = await layer.new_channel()

        def run() -> None:
            layer.group_add_sync("g", name)
            layer.group_send_sync("g", {"n": 1})
            layer.group_discard_sync("g", name)
            layer.group_send_sync("g", {"n": 2})
            layer.send_sync(name, {"n": 3})

        await soon(asyncio.to_thread(run))
        assert [(await soon(layer.receive(name)))["n"] for _ in range(2)] == [1, 3]

    async def test_add_for_a_closed_channel_is_refused(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        assert isinstance(layer, LocalChannelLayer)
        name = layer.new_local_channel("websocket.send")
        layer.attach(name, print)
        layer.detach(name)
        await other.group_add("g", name)
        await until(lambda: layer.statistics()["segment"]["members"] == 0)
        assert layer.groups.groups() == []

    async def test_membership_that_comes_back_before_the_group_was_left(
        self, layer: ChannelLayer, other: ChannelLayer
    ) -> None:
        """The last member gone, the process leaves its group a little later, and at once when it is asked to."""
        name = await layer.new_channel()
        for n in range(3):
            await layer.group_add("g", name)
            await other.group_send("g", {"n": n})
            assert await soon(layer.receive(name)) == {"n": n}
            await layer.group_discard("g", name)
        await other.group_send("g", {"n": 3})
        await until(lambda: layer.statistics()["segment"]["members"] == 0)
        await layer.group_add("g", name)
        await other.group_send("g", {"n": 4})
        assert await soon(layer.receive(name)) == {"n": 4}

    async def test_flush_of_another_process_between_two_memberships(
        self, layer: ChannelLayer, other: ChannelLayer
    ) -> None:
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await layer.group_discard("g", name)
        await other.flush()
        await layer.group_add("g", name)
        await other.group_send("g", HELLO)
        assert await soon(layer.receive(name)) == HELLO

    async def test_join_is_behind_what_was_sent_before(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        first, second = [await layer.new_channel() for _ in range(2)]
        await layer.group_add("g", first)
        for n in range(3):
            await other.group_send("g", {"n": n})
            await layer.group_add("g", second)
            await layer.group_discard("g", second if n == 2 else first)
            await layer.group_add("g", first)
        assert [(await soon(layer.receive(first)))["n"] for _ in range(3)] == [0, 1, 2]
        assert [(await soon(layer.receive(second)))["n"] for _ in range(2)] == [1, 2]
        assert layer.inbox.unread(first) == layer.inbox.unread(second) == 0

    async def test_overshoot_is_kept_in_order(self, make_layer: MakeLayer, view_of: ViewOf) -> None:
        """What a sender was told is taken is not dropped when the name turns out to be full."""
        layer = make_layer(capacity=3)
        other = view_of(layer)
        name = await layer.new_channel()
        sent = 0
        for _ in range(10):  # before the owner looks even once
            await other.send(name, {"n": sent})
            sent += 1
        got = [(await soon(layer.receive(name)))["n"]]
        with pytest.raises(ChannelFull):
            await other.send(name, HELLO)
        while len(got) < sent:
            got.append((await soon(layer.receive(name)))["n"])
        assert got == list(range(10))
        await other.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        assert layer.statistics()["dropped"] == {}

    async def test_receiver_that_sends_to_its_own_process(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        first, second = (layer.new_local_channel("specific") for _ in range(2))
        got: list[str] = []

        def receiver(message: dict[str, Any]) -> None:
            got.append(message["text"])
            layer.send_sync(second, {"text": f"after {message['text']}"})

        layer.attach(first, receiver)
        layer.attach(second, lambda message: got.append(message["text"]))
        for text in ("a", "b"):
            other.send_sync(first, {"text": text})
        await until(lambda: len(got) == 4)
        assert got == ["a", "b", "after a", "after b"]

    async def test_close_keeps_memberships_and_what_waits(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await other.send(name, {"n": 1})
        await layer.close()
        assert other.statistics()["segment"]["processes"] == 1
        assert await soon(layer.receive(name)) == {"n": 1}
        reader = asyncio.create_task(layer.receive(name))
        await until(lambda: layer.groups.groups() == ["g"] and other.statistics()["segment"]["members"] == 1)
        await other.group_send("g", {"n": 2})
        assert await soon(reader) == {"n": 2}

    async def test_removed_segment_is_made_again(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        assert isinstance(layer, LocalChannelLayer)
        name = await layer.new_channel()
        await layer.group_add("g", name)
        reader = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0)
        os.unlink(os.path.join(layer.path, "segment"))
        ends = time.monotonic() + DEADLINE
        while not reader.done():
            assert time.monotonic() < ends
            fresh = LocalChannelLayer(path=layer.path)
            await fresh.group_send("g", HELLO)
            fresh._release()
            await asyncio.sleep(0.1)
        assert reader.result() == HELLO

    def test_full_segment(self, tmp_path: Path) -> None:
        layer = LocalChannelLayer(path=tmp_path / "small", size=2 * MIB, capacity=1000)
        for _ in range(50):
            layer.send_sync("jobs", {"bytes": b"x" * 20_000})
        with pytest.raises(ChannelFull, match=r"'size' \(2097152 bytes\)"):
            layer.send_sync("jobs", {"bytes": b"x" * 2_000_000})
        layer.group_add_sync("g", "other")
        layer.group_send_sync("g", {"bytes": b"x" * 2_000_000})
        assert layer.statistics()["dropped"] == {"group_full": 1}
        assert layer.receive_many(["jobs"]) != (None, None)
        layer.send_sync("jobs", {"bytes": b"x" * 10_000})
        layer.flush_sync()
        assert layer.statistics()["segment"]["room_used"] == 0
        layer._release()

    def test_segments_that_are_refused(self, tmp_path: Path) -> None:
        layer = LocalChannelLayer(path=tmp_path / "a", size=MIB)
        layer.send_sync("jobs", HELLO)
        layer._release()
        segment = tmp_path / "a" / "segment"
        good = segment.read_bytes()
        segment.write_bytes(good[:8] + b"\x63" + good[9:])
        with pytest.raises(CorruptSegmentError, match=rf"{tmp_path}/a: .*another version.*remove {segment}"):
            LocalChannelLayer(path=tmp_path / "a", size=MIB).send_sync("jobs", HELLO)
        segment.write_bytes(good[: MIB // 2])
        with pytest.raises(CorruptSegmentError, match="damaged"):
            LocalChannelLayer(path=tmp_path / "a", size=MIB).send_sync("jobs", HELLO)
        (tmp_path / "link").symlink_to(tmp_path / "a")
        with pytest.raises(CorruptSegmentError, match=r"symbolic link.*'path'"):
            LocalChannelLayer(path=tmp_path / "link", size=MIB).send_sync("jobs", HELLO)
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        with pytest.raises(CorruptSegmentError, match="others may write"):
            LocalChannelLayer(path=tmp_path / "open", size=MIB).send_sync("jobs", HELLO)
        with pytest.raises(InvalidChannelLayerError, match="size=1000"):
            LocalChannelLayer(path=tmp_path / "b", size=1000).send_sync("jobs", HELLO)
        for size in (0, "64", True):
            with pytest.raises(InvalidChannelLayerError, match="size"):
                LocalChannelLayer(size=size)  # type: ignore[arg-type]
        with pytest.raises(InvalidChannelLayerError, match="did you mean 'path'"):
            LocalChannelLayer(pth="x")
        with pytest.raises(LayerUnavailable, match="'path'"):
            LocalChannelLayer(path=tmp_path / "no" / "parent").send_sync("jobs", HELLO)

    @pytest.mark.parametrize(
        ("room", "size"),
        [(1 << 40, 64 * MIB), (0, 64 * MIB), (64 * MIB, 32 * MIB), (10 * MIB, 5 * MIB), (4096, MIB)],
    )
    def test_default_size_leaves_room_for_others(
        self, room: int, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a container, whose ``/dev/shm`` has 64 MiB for all programs."""
        asked = []

        def statvfs(path: str) -> SimpleNamespace:
            asked.append(path)
            return SimpleNamespace(f_frsize=4096, f_blocks=room // 4096)

        monkeypatch.setattr(os, "statvfs", statvfs)
        assert LocalChannelLayer(path=tmp_path / "not" / "made").size == size == default_size(str(tmp_path))
        assert asked == [str(tmp_path)] * 2

    def test_default_path_is_of_this_user(self) -> None:
        assert default_path().endswith(f"/fastchannels-{os.geteuid()}")
        assert LocalChannelLayer().path == default_path()

    def test_windows_is_told_of_the_other_layers(self) -> None:
        program = """
import asyncio, os, sys, tempfile
sys.platform = "win32"
del os.geteuid
for missing in "post", "shm":
    sys.modules[f"fastchannels._core.{missing}"] = None
from fastchannels.layers.local import LocalChannelLayer, default_path
LocalChannelLayer(path=default_path())
"""
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE)
        said = ran.stderr.splitlines()[-1]
        assert ran.returncode == 1
        assert all(word in said for word in ("InvalidChannelLayerError", "Windows", "memory.", "redis."))


class Peer:
    """A process that runs local_peer.py, and the lines that it says."""

    def __init__(self, path: Path, task: str) -> None:
        script = Path(__file__).with_name("local_peer.py")
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(path), task],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        assert ready, "the other process says nothing"
        return self.process.stdout.readline().strip()

    def end(self) -> list[str]:
        """What is left to read, after its orderly end."""
        out, _ = self.process.communicate(timeout=DEADLINE)
        return out.split()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[[str], Peer]]:
    peers: list[Peer] = []

    def start(task: str) -> Peer:
        peers.append(Peer(tmp_path / "shared", task))
        return peers[-1]

    yield start
    for one in peers:
        one.kill()


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[LocalChannelLayer]:
    layer = LocalChannelLayer(path=tmp_path / "shared", capacity=10_000)
    yield layer
    assert layer._open().check() is None
    layer._release()


class TestProcesses:
    def test_four_readers_take_each_message_once(self, shared: LocalChannelLayer, peer: Callable[[str], Peer]) -> None:
        readers = [peer(task) for task in ("read", "read", "read-async", "read-async")]
        for n in range(2000):
            shared.send_sync("jobs", {"n": n})
        for _ in readers:
            shared.send_sync("jobs", {"n": None})
        shares = [[int(line) for line in reader.end()] for reader in readers]
        assert sorted(n for share in shares for n in share) == list(range(2000))
        assert all(share == sorted(share) for share in shares)
        assert sum(1 for share in shares if share) > 1

    def test_blocked_reader_wakes(self, shared: LocalChannelLayer, peer: Callable[[str], Peer]) -> None:
        reader = peer("block")
        segment = shared._open()
        ends = time.monotonic() + DEADLINE
        while not segment.counts()["waiters"]:
            assert time.monotonic() < ends
            time.sleep(0.005)
        shared.send_sync("quiet", HELLO)
        assert reader.line() == str(("quiet", HELLO))

    def test_blocked_reader_handles_signals(self, shared: LocalChannelLayer, peer: Callable[[str], Peer]) -> None:
        reader = peer("block")
        segment = shared._open()
        ends = time.monotonic() + DEADLINE
        while not segment.counts()["waiters"]:
            assert time.monotonic() < ends
            time.sleep(0.005)
        reader.process.send_signal(signal.SIGINT)
        assert reader.line() == "interrupted"

    async def test_memberships_of_a_killed_process_end(
        self, shared: LocalChannelLayer, peer: Callable[[str], Peer]
    ) -> None:
        mine = shared.new_local_channel("specific")
        got: list[int] = []
        shared.attach(mine, lambda message: got.append(message["n"]))
        await shared.group_add("g", mine)
        other = await asyncio.to_thread(peer, "member")
        await shared.group_send("g", {"n": 1})
        assert await asyncio.to_thread(other.line) == "1"
        counts = shared.statistics()["segment"]
        assert (counts["members"], counts["processes"]) == (2, 2)
        other.process.kill()
        killed = time.monotonic()
        await until(lambda: shared.statistics()["segment"]["members"] == 1)
        assert time.monotonic() - killed < 1.0
        await shared.group_send("g", {"n": 2})
        assert got == [1, 2]
        counts = shared.statistics()["segment"]
        assert (counts["processes"], counts["reaped"], counts["messages"]) == (1, 1, 0)

    def test_forked_child_is_a_process_of_its_own(self, shared: LocalChannelLayer) -> None:
        name = shared.new_local_channel("specific")
        shared.send_sync("jobs", HELLO)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            try:
                took = shared.receive_many(["jobs"]) == ("jobs", HELLO)
                apart = f".{shared.client_id}!" not in name and shared._open().counts()["processes"] == 2
                shared.send_sync(name, HELLO)
                shared._release()
                os._exit(0 if took and apart else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert shared._open().counts()["processes"] == 1
        taken = shared._open().take([f"!{shared.client_id}"])
        assert taken is not None  # the message that the child sent to its parent

    def test_orderly_exit_gives_its_place_back_at_once(
        self, shared: LocalChannelLayer, peer: Callable[[str], Peer]
    ) -> None:
        other = peer("stay")
        segment = shared._open()
        assert segment.counts()["processes"] == 2
        other.end()
        assert segment.counts()["processes"] == 1
        assert segment.counts()["reaped"] == 0

    def test_last_one_out_leaves_nothing(self, tmp_path: Path, peer: Callable[[str], Peer]) -> None:
        other = peer("stay")
        assert (tmp_path / "shared" / "segment").exists()
        other.end()
        assert sorted(os.listdir(tmp_path / "shared")) == ["lock"]

    def test_processes_killed_at_random(self, shared: LocalChannelLayer, tmp_path: Path) -> None:
        """Writers and readers die under load; nothing is delivered twice, and lost is what the dead held."""
        chance = random.Random(3)
        children: dict[int, tuple[str, Path]] = {}
        files: list[tuple[str, Path]] = []
        killed = {"w": 0, "r": 0}

        def spawn(kind: str) -> None:
            file = tmp_path / f"{kind}{len(files)}"
            file.touch()
            files.append((kind, file))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if not child:
                try:
                    (write_forever if kind == "w" else read_forever)(shared, len(files), file)
                finally:
                    os._exit(1)
            children[child] = (kind, file)

        shared._open()
        for kind in "wwrr":
            spawn(kind)
        ends = time.monotonic() + 12
        try:
            while sum(killed.values()) < 100 and time.monotonic() < ends:
                time.sleep(chance.uniform(0.01, 0.06))
                victim = chance.choice(list(children))
                kind, _ = children.pop(victim)
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                killed[kind] += 1
                assert shared._open().check() is None
                spawn(kind)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        assert sum(killed.values()) >= 20
        left = []
        while (taken := shared.receive_many(["jobs"]))[1] is not None:
            left.append(f"{taken[1]['writer']}.{taken[1]['n']}")
        read = [line for kind, file in files if kind == "r" for line in noted(file)]
        sent = [line for kind, file in files if kind == "w" for line in noted(file)]
        assert len(sent) > 500
        delivered = read + left
        assert len(set(delivered)) == len(delivered)
        # A reader that was killed between taking and noting took one with it; so did the two that ended last.
        assert len(set(sent) - set(delivered)) <= killed["r"] + 2
        # A writer that was killed between sending and noting had sent one more.
        assert len(set(delivered) - set(sent)) <= killed["w"] + 2
        segment = shared._open()
        deadline = time.monotonic() + DEADLINE
        while segment.counts()["processes"] > 1:
            assert time.monotonic() < deadline
            segment.keep()
            time.sleep(0.05)


def noted(file: Path) -> list[str]:
    """Its whole lines: a kill cuts a write that crosses a page."""
    return file.read_text().split("\n")[:-1]


def write_forever(layer: LocalChannelLayer, writer: int, file: Path) -> None:
    notes = os.open(file, os.O_WRONLY | os.O_APPEND)
    padding = "x" * 700
    for n in itertools.count():
        while True:
            try:
                layer.send_sync("jobs", {"writer": writer, "n": n, "padding": padding[: n % 700]})
                break
            except ChannelFull:
                time.sleep(0.001)
        os.write(notes, b"%d.%d\n" % (writer, n))


def read_forever(layer: LocalChannelLayer, _: int, file: Path) -> None:
    notes = os.open(file, os.O_WRONLY | os.O_APPEND)
    while True:
        _, message = layer.receive_many(["jobs"], block=True)
        assert message is not None
        os.write(notes, b"%d.%d\n" % (message["writer"], message["n"]))
