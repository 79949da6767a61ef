"""How event loops sleep on the shared segment; what readers see of it is in test_local.py and the contract."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.local_loop import LocalLoop

from .waits import HELLO, in_thread, soon, until


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


async def listening(path: Path) -> LocalChannelLayer:
    """A layer with a member of "here", whose loop rests."""
    layer = LocalChannelLayer(path=path)
    name = layer.new_local_channel("specific")
    layer.attach(name, lambda message: None)
    await layer.group_add("here", name)
    await until(lambda: all(context.resting for context in layer._loops.values()))
    return layer


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot tell of a death")


@needs_pidfd
async def test_an_idle_process_sleeps(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    peer = start_peer(tmp_path / "segment", "member")
    try:
        await until(lambda: all(len(context.deaths.watched) == 1 for context in layer._loops.values()))
        # Both have looked, and their next look is seconds away: one of some spans holds none.
        fewest = 100
        ends = time.monotonic() + 20
        while fewest > 1 and time.monotonic() < ends:
            before = switches(peer.pid)
            await asyncio.sleep(3)
            fewest = min(fewest, switches(peer.pid) - before)
        assert fewest <= 1
    finally:
        end_peer(peer)
    await layer.close()


@needs_pidfd
async def test_the_death_of_one_that_came_while_all_rested_is_noticed(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    for _ in range(2):
        peer = start_peer(tmp_path / "segment", "member")
        try:
            await until(lambda: all(context.resting and context.deaths.watched for context in layer._loops.values()))
            assert layer.statistics()["segment"]["groups"] == 2
        finally:
            peer.kill()
        # To ask for the statistics keeps house too. The look that comes anyway is seconds away, and it is a zombie yet.
        await asyncio.sleep(2)
        assert layer.statistics()["segment"]["groups"] == 1
        peer.communicate()
    await layer.close()


@needs_pidfd
async def test_one_that_dies_at_once_is_noticed(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    for _ in range(2):
        await until(lambda: all(context.resting for context in layer._loops.values()))
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
    peer = start_peer(tmp_path / "segment", "member")
    assert layer.statistics()["segment"]["groups"] == 2
    end_peer(peer)
    await until(lambda: layer.statistics()["segment"]["groups"] == 1)
    assert not any(context.resting for context in layer._loops.values())
    await layer.close()


async def test_an_ordinary_channel_keeps_its_reader_from_resting(tmp_path: Path) -> None:
    layer = await listening(tmp_path / "segment")
    waiting = asyncio.ensure_future(layer.receive("jobs"))
    await until(lambda: not any(context.resting for context in layer._loops.values()))
    await layer.send("jobs", HELLO)
    assert await soon(waiting) == HELLO
    await until(lambda: all(context.resting for context in layer._loops.values()))
    await layer.close()


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
