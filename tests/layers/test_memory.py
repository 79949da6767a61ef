from __future__ import annotations

import asyncio
import threading

import pytest

from fastchannels.exceptions import ChannelFull
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer

from .contract import ContractTests, MakeLayer, ViewOf
from .waits import DEADLINE, HELLO, soon


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class TestMemory(ContractTests):
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def make_layer(self, clock: Clock) -> MakeLayer:
        kind = type("ClockedLayer", (InMemoryChannelLayer,), {"clock": staticmethod(clock)})
        self._clock = clock
        return kind

    @pytest.fixture
    def view_of(self) -> ViewOf:
        return lambda layer: layer

    async def advance(self, layer: ChannelLayer, seconds: float) -> None:
        self._clock.now += seconds

    def test_takes_the_common_options_only(self) -> None:
        assert set(InMemoryChannelLayer.option_names()) == {
            "expiry", "group_expiry", "capacity", "channel_capacity", "max_message_size", "serializer_format",
            "symmetric_encryption_keys", "on_disconnect", "on_reconnect",
        }  # fmt: skip

    def test_keys_are_checked_and_not_used(self, make_layer: MakeLayer) -> None:
        assert make_layer(symmetric_encryption_keys=["k"]).serialize({"a": 1}) == b"\x81\xa1a\x01"

    async def test_capacity_is_exact_with_many_threads(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=50)
        accepted: list[int] = []
        start = threading.Barrier(4)

        def write() -> None:
            start.wait(DEADLINE)
            for n in range(100):
                try:
                    layer.send_sync("jobs", {"n": n})
                    accepted.append(n)
                except ChannelFull:
                    pass

        await soon(asyncio.gather(*(asyncio.to_thread(write) for _ in range(4))))
        assert len(accepted) == 50
        assert await layer.pending("jobs") == 50

    async def test_threads_share_a_channel(self, make_layer: MakeLayer) -> None:
        """Readers block in threads and on the loop; each message reaches one of them."""
        layer = make_layer(capacity=10_000)
        got: list[int] = []

        def read() -> None:
            while True:
                _, message = layer.receive_many(["a", "jobs"], True, DEADLINE)
                assert message is not None
                if message["n"] is None:
                    return
                got.append(message["n"])

        async def read_async() -> None:
            while (message := await layer.receive("jobs"))["n"] is not None:
                got.append(message["n"])

        readers = [asyncio.to_thread(read) for _ in range(3)] + [read_async(), read_async()]
        tasks = [asyncio.ensure_future(reader) for reader in readers]
        for n in range(2000):
            await layer.send("jobs", {"n": n})
            if n % 10 == 0:
                await asyncio.sleep(0)
        for _ in tasks:
            await layer.send("jobs", {"n": None})
        await soon(asyncio.gather(*tasks))
        assert sorted(got) == list(range(2000))

    async def test_stale_local_membership_ends(self, make_layer: MakeLayer, clock: Clock) -> None:
        layer = make_layer(group_expiry=100)
        unread, waited = await layer.new_channel(), await layer.new_channel()
        for name in (unread, waited):
            await layer.group_add("g", name)
        task = asyncio.create_task(layer.receive(waited))
        await asyncio.sleep(0)
        clock.now += 101
        await layer.group_send("g", HELLO)
        assert await soon(task) == HELLO
        assert layer.inbox.unread(unread) == 0
        assert layer.groups.members("g") == (waited,)

    async def test_memberships_nobody_sends_to_are_forgotten(self, make_layer: MakeLayer, clock: Clock) -> None:
        layer = make_layer(group_expiry=100)
        for n in range(10):
            await layer.group_add(f"g{n}", "jobs")
        clock.now += 200
        await layer.group_add("h", "jobs")
        assert layer.groups.groups() == ["h"]

    async def test_detached_name_cannot_join(self, layer: ChannelLayer) -> None:
        """A join that a worker sends after the socket left (D-11)."""
        name = layer.new_local_channel("websocket.send")
        layer.attach(name, print)
        await layer.group_add("g", name)
        layer.detach(name)
        await layer.group_add("g", name)
        assert layer.groups.groups() == []

    async def test_unread_names_are_forgotten(self, make_layer: MakeLayer, clock: Clock) -> None:
        layer = make_layer(expiry=60)
        for _ in range(100):
            await layer.send(await layer.new_channel(), HELLO)
        clock.now += 61
        await layer.send("jobs", HELLO)
        assert len(layer.inbox) == 1
        assert layer.statistics()["dropped"] == {"expired": 100}
