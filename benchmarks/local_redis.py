"""fastchannels.layers.local beside fastchannels.layers.redis, in the scenarios of ``layers.py`` with the same drivers.

The local layer's processes share a directory of their own, Redis' a server of their own, for each run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import layers
from benchmarks.layers import ATTACHED, Setting
from benchmarks.parts import next_record, redis_server, shared_folder
from benchmarks.records import Figures, Scenario

LOCAL, REDIS = "local", "Redis"
PLAIN = layers.LAYERS[0]

Measure = Callable[[Setting], Figures]


@contextlib.contextmanager
def store(rival: str) -> Iterator[str]:
    """The address of a store that nobody else uses."""
    if rival.startswith(REDIS):
        with redis_server() as url:
            yield url
        return
    with shared_folder() as path:
        yield f"local:{path}"


def group(setting: Setting, how: str, processes: int, members: int, ahead: int, figure: str) -> Figures:
    figures = layers.group(how, setting, processes, members, ahead, cost=lambda url: 0.0)
    return {name: figures[name] for name in (figure, "client CPU, µs a delivery", "lost")}


def idle(setting: Setting) -> Figures:
    with layers.driver(PLAIN, "idle", setting._replace(seconds=5.0), members=1000) as process:
        next_record(process)
        got = next_record(process)
        layers.tell(process, {})
        process.wait(30)
    return {"client CPU, ms a second": got["cpu"] / 5.0 * 1e3, "receives that ended": got["ended"]}


def run(rival: str, measure: Measure, seconds: float) -> Figures:
    with store(rival) as url:
        return measure(Setting(url, seconds))


SCENARIOS: dict[str, Measure] = {
    "64 sends in flight, one receive loop": partial(layers.one_way, PLAIN),
    "sequential round trip": partial(layers.round_trip, PLAIN),
    "1,000 channels with a pending receive each, random sends": partial(layers.many_channels, PLAIN),
    "group of 1,000 in two processes": partial(
        group, how=PLAIN, processes=2, members=500, ahead=4, figure="deliveries/s"
    ),
    "group of 1,000 in two processes, attached": partial(
        group, how=ATTACHED, processes=2, members=500, ahead=4, figure="deliveries/s"
    ),
    "group of 5,000 in one process": partial(group, how=PLAIN, processes=1, members=5000, ahead=1, figure="p50, ms"),
    "group of 5,000 in one process, attached": partial(
        group, how=ATTACHED, processes=1, members=5000, ahead=1, figure="p50, ms"
    ),
    "group_add and group_discard, 64 in flight, a group each": partial(layers.join_and_leave, PLAIN, apart=True),
    "group_add and group_discard, 64 in flight, one group": partial(layers.join_and_leave, PLAIN),
    "1,000 idle receivers": idle,
}  # fmt: skip


def scenarios(seconds: float) -> dict[str, Scenario]:
    """By title."""
    return {
        f"local and Redis: {title}": Scenario((LOCAL, REDIS), partial(run, measure=measure, seconds=seconds))
        for title, measure in SCENARIOS.items()
    }
