"""How event loops sleep on the shared segment; what readers see of it is in test_local.py and the contract."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.local_loop import TICK, LocalLoop

from .waits import HELLO, in_thread, needs_pidfd, soon, until


def start_peer(path: Path, task: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("local_peer.py")
    peer = subprocess.Popen(
        [sys.executable, str(script), str(path), task],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert peer.stdout is not None
    assert peer.stdout.readline().strip() == "ready"
    return peer


def end_peer(peer: subprocess.Popen[str]) -> None:
    peer.kill()
    peer.communicate()


def switches(pid: int) -> int:
    """How often the process went to sleep by its own will."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


async def sleeping(pid: int) -> None:
    """Until the process does nothing for longer than it would without resting."""
    ends = time.monotonic() + 20
    while True:
        before = switches(pid)
        await asyncio.sleep(1.5 * TICK)
        if switches(pid) == before:
            return
        assert time.monotonic() < ends, "it does not rest"


def resting(layer: LocalChannelLayer) -> bool:
    return all(context.resting for context in layer._loops.values())


async def listening(path: Path) -> LocalChannelLayer:
    """A layer with a member of "here", whose loop rests."""
    layer = LocalChannelLayer(path=path)
    name = layer.new_local_channel("specific")
    layer.attach(name, lambda message: None)
    await layer.group_add("here", name)
    await until(lambda: resting(layer))
    return layer


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts another process on the segment, by its task in local_peer.py."""
    peers: list[subprocess.Popen[str]] = []

    def start(task: str) -> subprocess.Popen[str]:
        peers.append(start_peer(tmp_path / "segment", task))
        return peers[-1]

    yield start
    for one in peers:
        end_peer(one)


Start = Callable[[str], "subprocess.Popen[str]"]


@needs_pidfd
@pytest.mark.parametrize("task", ["member", "read-async", "block"])
async def test_an_idle_process_sleeps(tmp_path: Path, peer: Start, task: str) -> None:
    """On an event loop or in a thread, for a channel of its own or one that others read too; and is woken."""
    layer = await listening(tmp_path / "segment")
    other = peer(task)
    await sleeping(other.pid)
    await until(lambda: resting(layer) and len(layer._deaths.watched) == 1)
    assert other.stdout is not None
    if task == "member":
        await layer.group_send("g", {"n": 1})
    else:
        await layer.send("jobs" if task == "read-async" else "quiet", {"n": 1})
    assert "1" in await asyncio.to_thread(other.stdout.readline)
    await layer.close()


@needs_pidfd
@pytest.mark.parametrize(("then", "thread"), [(signal.SIGCONT, False), (signal.SIGKILL, True)])
async def test_what_a_stopped_reader_was_woken_for_goes_to_one_that_rests(
    tmp_path: Path, peer: Start, then: signal.Signals, thread: bool
) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    other = peer("read-async")
    await sleeping(other.pid)

    async def take() -> Any:
        if not thread:
            return await soon(layer.receive("jobs"))
        return (await asyncio.to_thread(layer.receive_many, ["jobs"], True, 10))[1]

    waiting = asyncio.ensure_future(take())
    await until(lambda: layer._open().counts()["waiters"] == 2)
    await asyncio.sleep(4 * TICK)
    os.kill(other.pid, signal.SIGSTOP)
    sent = time.monotonic()
    # One of them wakes the other process, and one this one.
    for n in (1, 2):
        layer.send_sync("jobs", {"n": n})
    if then is signal.SIGKILL:
        os.kill(other.pid, then)
    got = [(await waiting)["n"], (await take())["n"]]
    assert got == [1, 2]
    assert time.monotonic() - sent < 3.0
    os.kill(other.pid, then)
    await layer.close()


@needs_pidfd
async def test_the_death_of_one_that_came_while_all_rested_is_noticed(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    for _ in range(2):
        other = start_peer(tmp_path / "segment", "member")
        try:
            await until(lambda: resting(layer) and len(layer._deaths.watched) == 1)
            assert layer._open().counts()["groups"] == 2
        finally:
            other.kill()
        # To ask for the statistics keeps house too. The look that comes anyway is far away, and it is a zombie yet.
        await asyncio.sleep(2)
        assert layer._open().counts()["groups"] == 1
        other.communicate()
    await layer.close()


@needs_pidfd
async def test_a_thread_alone_notices_a_death(tmp_path: Path, peer: Start) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    other, third = peer("member"), peer("block")
    await sleeping(other.pid)
    await sleeping(third.pid)
    other.kill()
    await asyncio.sleep(2)
    assert layer._open().counts()["groups"] == 0
    await layer.close()


@needs_pidfd
async def test_one_that_dies_at_once_is_noticed(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    for _ in range(2):
        await until(lambda: resting(layer))
        end_peer(start_peer(tmp_path / "segment", "member"))
        await asyncio.sleep(2)
        assert layer.statistics()["segment"]["processes"] == 1
    await layer.close()


async def test_where_deaths_are_not_told_it_looks_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    layer = LocalChannelLayer(path=tmp_path / "segment")
    name = layer.new_local_channel("specific")
    layer.attach(name, lambda message: None)
    await layer.group_add("here", name)
    other = start_peer(tmp_path / "segment", "member")
    assert layer._open().counts()["groups"] == 2
    end_peer(other)
    await until(lambda: layer._open().counts()["groups"] == 1)
    assert not resting(layer)
    await layer.close()


@needs_pidfd
async def test_a_removed_segment_is_noticed_by_a_thread_that_rests(tmp_path: Path, peer: Start) -> None:
    other = peer("block")
    await sleeping(other.pid)
    os.unlink(tmp_path / "segment" / "segment")
    layer = LocalChannelLayer(path=tmp_path / "segment")
    layer.send_sync("quiet", HELLO)
    assert other.stdout is not None
    assert str(HELLO) in await soon(asyncio.to_thread(other.stdout.readline))
    await layer.close()


@needs_pidfd
async def test_a_thread_that_rests_outlives_the_place_of_its_process(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    waiting = asyncio.create_task(asyncio.to_thread(layer.receive_many, ["jobs"], True, 10))
    await asyncio.sleep(4 * TICK)
    await layer.close()
    other = LocalChannelLayer(path=tmp_path / "segment")
    await until(lambda: other._open().counts()["waiters"] == 1)
    other.send_sync("jobs", HELLO)
    assert await waiting == ("jobs", HELLO)
    other._release()
    layer._release()


@needs_pidfd
async def test_a_group_that_a_thread_emptied_is_left_while_the_loop_rests(tmp_path: Path) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    name = layer.new_local_channel("specific")
    layer.attach(name, lambda message: None)
    await layer.group_add("here", name)
    await until(lambda: resting(layer))
    began = time.monotonic()
    await asyncio.to_thread(layer.detach, name)
    await until(lambda: layer._open().counts()["groups"] == 0)
    assert time.monotonic() - began < 3.0
    await layer.close()


@needs_pidfd
@pytest.mark.parametrize("closes", [True, False])
async def test_another_loop_reads_on_when_the_one_that_read_ends(tmp_path: Path, closes: bool) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    name = layer.new_local_channel("specific")
    other = LocalChannelLayer(path=tmp_path / "segment")
    told = threading.Event()
    loop = asyncio.new_event_loop()

    async def read() -> None:
        layer.attach(layer.new_local_channel("specific"), lambda message: None)
        await asyncio.to_thread(told.wait, 20)
        if closes:
            await layer.close()

    first = threading.Thread(target=lambda: loop.run_until_complete(read()))
    first.start()
    await until(lambda: layer._reader is not None)
    waiting = asyncio.create_task(layer.receive(name))
    await until(lambda: len(layer._loops) == 2 and resting(layer))
    told.set()
    await asyncio.to_thread(first.join)
    began = time.monotonic()
    other.send_sync(name, HELLO)
    assert await soon(waiting) == HELLO
    assert time.monotonic() - began < 3.0
    await layer.close()
    loop.close()
    other._release()
    layer._release()


async def test_the_reader_that_slept_longest_is_woken_and_one_that_was_cancelled_passed_over(tmp_path: Path) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    waiting = [asyncio.ensure_future(layer.receive("jobs")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    for n in (1, 2):
        await layer.send("jobs", {"n": n})
    assert [await soon(task) for task in waiting[1:]] == [{"n": 1}, {"n": 2}]
    await layer.close()


async def test_each_loop_has_one_place_and_gives_it_back(tmp_path: Path) -> None:
    layer = LocalChannelLayer(path=tmp_path / "segment")
    name = await layer.new_channel()
    waiting = asyncio.ensure_future(layer.receive(name))
    await asyncio.sleep(0)

    def in_a_loop_of_its_own() -> None:
        async def run() -> None:
            await layer.send("jobs", HELLO)
            assert await soon(layer.receive("jobs")) == HELLO
            await layer.send(name, HELLO)

        asyncio.run(run())

    await asyncio.to_thread(in_thread, in_a_loop_of_its_own)
    assert await soon(waiting) == HELLO
    assert [type(context) for context in layer._loops.values()] == [LocalLoop] * len(layer._loops)
    counts = layer.statistics()["segment"]
    await layer.close()
    assert counts["waiters"] <= 2
