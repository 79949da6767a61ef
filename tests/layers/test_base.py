"""What the base class does for every store, on the smallest store there is."""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import threading
import weakref
from typing import Any

import pytest

from fastchannels import conf
from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from fastchannels.layers import base
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer

from .waits import DEADLINE, HELLO, in_child, soon


class OptionLayer(InMemoryChannelLayer):
    """A store with options of its own."""

    def __init__(self, *, path: str = "x", **options: Any) -> None:
        self.path = path
        super().__init__(**options)


class TestOptions:
    def test_defaults(self) -> None:
        layer = InMemoryChannelLayer()
        assert (layer.expiry, layer.group_expiry, layer.capacity) == (60, 86400, 100)
        assert layer.codec.max_message_size == conf.MAX_MESSAGE_SIZE
        assert layer.channel_capacity == []
        assert layer.extensions == ["groups", "flush", "statistics"]
        assert layer.MAX_NAME_LENGTH == 100
        assert layer.ChannelFull is ChannelFull
        assert layer.MessageTooLarge is MessageTooLarge
        assert str(layer) == "InMemoryChannelLayer()"

    def test_unknown_option_names_the_nearest_one_of_any_class(self) -> None:
        assert OptionLayer(path="y", capacity=5).path == "y"
        for option, near in (("pth", "path"), ("expire", "expiry"), ("channel_capacities", "channel_capacity")):
            with pytest.raises(InvalidChannelLayerError, match=f"OptionLayer has no .*{option}.*did you mean '{near}'"):
                OptionLayer(**{option: 1})
        with pytest.raises(InvalidChannelLayerError, match=r"it takes capacity, channel_capacity, .*path"):
            OptionLayer(zzzzzz=1)

    @pytest.mark.parametrize(
        "options",
        [
            *({"expiry": value} for value in (0, -1, "60", None, True, float("inf"), float("nan"))),
            *({"group_expiry": value} for value in (0, "1d")),
            *({"capacity": value} for value in (0, 2.5, "3", True)),
            *({"max_message_size": value} for value in (-1, None)),
            *({"channel_capacity": value} for value in (["a"], {"a": 0}, {"a": "x"}, {re.compile("a"): None})),
        ],
        ids=str,
    )
    def test_bad_value_names_its_option(self, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidChannelLayerError, match=f"CONFIG option {next(iter(options))}"):
            InMemoryChannelLayer(**options)

    def test_no_limit_of_size(self) -> None:
        layer = InMemoryChannelLayer(max_message_size=0)
        assert len(layer.serialize({"b": b"x" * (conf.MAX_MESSAGE_SIZE + 1)})) > conf.MAX_MESSAGE_SIZE


class TestBytes:
    def test_a_message_to_bytes_and_back(self) -> None:
        layer = InMemoryChannelLayer()
        payload = layer.serialize({"type": "chat.message", "text": "hi", "n": 1})
        assert payload.hex() == "83a474797065ac636861742e6d657373616765a474657874a26869a16e01"
        assert layer.deserialize(payload) == {"type": "chat.message", "text": "hi", "n": 1}
        with pytest.raises(ValueError, match="list"):
            layer.deserialize(b"\x90")


class TestProcess:
    def test_layers_are_collected(self) -> None:
        alive = weakref.ref(InMemoryChannelLayer())
        gc.collect()
        assert alive() is None
        assert all(isinstance(layer, ChannelLayer) for layer in base._layers)

    def test_fork_gives_every_layer_a_fresh_start(self) -> None:
        layers = [InMemoryChannelLayer() for _ in range(3)]
        for layer in layers:
            layer.send_sync("jobs", HELLO)
            layer.group_add_sync("g", "jobs")
        identities = [layer.client_id for layer in layers]
        # The parent may fork while another thread is inside: the child must not wait for that thread's locks.
        held, forked = threading.Event(), threading.Event()

        def hold() -> None:
            with layers[0].drops._lock:
                held.set()
                forked.wait(DEADLINE)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(DEADLINE)

        def use() -> dict[str, Any]:
            for layer in layers:
                layer.group_add_sync("h", "jobs")
            return {
                "identities": [layer.client_id for layer in layers],
                "unread": sum(layer.inbox.unread("jobs") for layer in layers),
                "groups": [layer.groups.groups() for layer in layers],
                "sent": layers[0].statistics(),
            }

        try:
            child = in_child(use)
        finally:
            forked.set()
            holder.join(DEADLINE)
        assert len({*identities, *child["identities"]}) == 6
        assert (child["unread"], child["groups"]) == (0, [["h"]] * 3)
        assert child["sent"]["messages_count"] == 0

    async def test_detach_ends_memberships(self) -> None:
        layer = InMemoryChannelLayer()
        emptied: list[str] = []
        layer._group_emptied = emptied.append  # type: ignore[method-assign]
        one, two = layer.new_local_channel("x"), layer.new_local_channel("x")
        for group, name in (("g", one), ("h", one), ("h", two)):
            await layer.group_add(group, name)
        layer.detach(one)
        assert emptied == ["g"]
        assert layer.groups.groups() == ["h"]

    async def test_expired_local_memberships_are_told_to_the_store(self) -> None:
        now = 0.0
        kind = type("Clocked", (InMemoryChannelLayer,), {"clock": staticmethod(lambda: now)})
        layer = kind(group_expiry=100)
        emptied: list[str] = []
        layer._group_emptied = emptied.append
        await layer.group_add("g", layer.new_local_channel("x"))
        now = 101.0
        layer._housekeep()
        assert emptied == ["g"]

    async def test_statistics_by_reason(self) -> None:
        now = 0.0
        kind = type("Clocked", (InMemoryChannelLayer,), {"clock": staticmethod(lambda: now)})
        layer = kind(capacity=1)
        gone, stale = layer.new_local_channel("x"), layer.new_local_channel("x")
        layer.detach(gone)
        await layer.send(gone, HELLO)
        await layer.group_add("g", stale)
        await layer.group_send("g", HELLO)
        await layer.group_send("g", HELLO)
        await layer._push("jobs", b"\xc1")
        task = asyncio.create_task(layer.receive("jobs"))
        await asyncio.sleep(0)
        now = 60.0
        await layer.send("jobs", HELLO)
        assert await soon(task) == HELLO
        assert layer.inbox.get(stale) is None
        statistics = layer.statistics()
        assert statistics["dropped"] == {"closed": 1, "group_full": 1, "undecodable": 1, "expired": 1}
        assert statistics["messages_received"] == 1


async def test_housekeeping_tells_of_drops(caplog: pytest.LogCaptureFixture) -> None:
    layer = InMemoryChannelLayer()
    gone = layer.new_local_channel("x")
    layer.detach(gone)
    await layer.send(gone, HELLO)
    with caplog.at_level("INFO", "fastchannels.layer"):
        layer._housekeep()
        layer._housekeep()
    assert [record.getMessage() for record in caplog.records] == ["dropped since the last line: 1 closed"]


def test_every_awaited_method_has_a_synchronous_twin() -> None:
    twins = {"send", "group_add", "group_discard", "group_send", "flush", "close"}
    for name in twins:
        awaited = inspect.signature(getattr(ChannelLayer, name))
        plain = inspect.signature(getattr(ChannelLayer, f"{name}_sync"))
        wanted = [parameter for parameter in awaited.parameters if parameter != "single_reader"]
        assert list(plain.parameters) == wanted, name
    # A store with one inbox for all needs no _pop.
    stores = {name for name in ChannelLayer.__abstractmethods__ if name.startswith("_")} | {"_pop"}
    assert {f"{name}_sync" for name in stores if not name.endswith("_sync")} == {
        n for n in stores if n.endswith("_sync")
    }
