"""What the connections of a server share."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from fastchannels.server.config import Config, Context


@pytest.mark.parametrize("seconds", [None, 0, -1, 0.0])
def test_no_limit(seconds):
    assert Context(Config()).deadline(seconds) == float("inf")


def test_a_limit_counts_from_now():
    context = Context(Config())
    before = context.wheel.clock()
    assert before + 5 <= context.deadline(5) <= context.wheel.clock() + 5


def test_options_go_by_keyword_only():
    assert all(field.kw_only for field in dataclasses.fields(Config))
    with pytest.raises(TypeError):
        Config("127.0.0.1")


async def test_a_task_is_kept_until_it_ends_and_wakes_a_stopping_server():
    context = Context(Config())
    context.loop = asyncio.get_running_loop()
    gate = asyncio.Event()
    task = context.spawn(gate.wait())
    assert context.tasks == {task}
    context.stopping = True
    gate.set()
    await asyncio.wait_for(context.ended.wait(), 5)
    assert not context.tasks


async def test_heads_held_in_one_turn_leave_after_it_together():
    class Held:
        flushed = 0

        def flush(self):
            self.flushed += 1

    context = Context(Config())
    context.loop = asyncio.get_running_loop()
    first, second = Held(), Held()
    context.flush_soon(first)
    context.flush_soon(second)
    assert (first.flushed, second.flushed) == (0, 0)
    await asyncio.sleep(0)
    assert (first.flushed, second.flushed) == (1, 1)
