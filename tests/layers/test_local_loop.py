"""How event loops sleep on the shared segment; what readers see of it is in test_local.py and the contract."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.local_loop import LocalLoop

from .waits import HELLO, in_thread, soon


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
