"""The contract of a channel layer as tests (reference: layer specification, decisions D-04 to D-55).

Each layer's test module subclasses :class:`ContractTests` and provides two fixtures:

``make_layer``
    ``make_layer(**options)`` gives a layer of that kind on an empty store of its own.
``view_of``
    ``view_of(layer)`` gives what another process sees: a second layer object on the same store with the same options,
    or the same object where no other process can be.

Both close what they made. A store with a clock that tests can set overrides :meth:`ContractTests.advance`.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge
from fastchannels.layers.base import ChannelLayer

from .waits import DEADLINE, HELLO, in_child, in_thread, soon, until

MakeLayer = Callable[..., ChannelLayer]
ViewOf = Callable[[ChannelLayer], ChannelLayer]

VALUES: list[Any] = [
    *(None, True, False, "", "text", "é☃𝄞", b"", b"\x00\xff", 1.5, float("inf"), -0.0),
    *(0, 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, 2**31, 2**32, -(2**31) - 1, 2**63 - 1, -(2**63), 2**64 - 1),
    *([], [1, [2, [3, []]]], {}, {"a": {"b": {"c": [{"d": None}]}}}, "x" * 70_000, b"y" * 1_000_000),
]


async def send_when_room(layer: ChannelLayer, channel: str, message: dict[str, Any]) -> None:
    """Send as soon as the channel is not full."""
    while True:
        try:
            return await layer.send(channel, message)
        except ChannelFull:
            await asyncio.sleep(0.001)


class Name(str, enum.Enum):
    ROOM = "room"
    JOBS = "jobs"


class Text(str):
    """As Django's ``SafeString``."""


class ContractTests:
    """See the module."""

    #: an expiry, and a group_expiry, short enough to wait for
    short_expiry: float = 0.3
    short_group_expiry: float = 0.3

    def group_beside(self, layer: ChannelLayer) -> str:
        """A group whose messages keep their order with direct ones to the channels of ``layer``."""
        return "g"

    async def advance(self, layer: ChannelLayer, seconds: float) -> None:
        """Let ``seconds`` pass on the clock of the store. Nothing else is waited for: time itself is."""
        await asyncio.sleep(seconds)

    @pytest.fixture
    def layer(self, make_layer: MakeLayer) -> ChannelLayer:
        return make_layer()

    @pytest.fixture
    def other(self, layer: ChannelLayer, view_of: ViewOf) -> ChannelLayer:
        return view_of(layer)

    @pytest.fixture(params=["ordinary", "local"])
    async def name(self, request: pytest.FixtureRequest, layer: ChannelLayer) -> str:
        """A channel of either kind that ``layer`` may receive on."""
        return "jobs" if request.param == "ordinary" else await layer.new_channel()

    # ------------------------------------------------------------------ names and messages

    async def test_names(self, layer: ChannelLayer) -> None:
        await layer.send("x" * 99, HELLO)
        for bad in ("", "x" * 100, "a\n", "a b", "a!é", "é", "a!b!", "a?b", "a!b?", None, b"a"):
            for call in (
                layer.send(bad, HELLO),  # type: ignore[arg-type]
                layer.receive(bad),  # type: ignore[arg-type]
                layer.group_add("g", bad),  # type: ignore[arg-type]
                layer.group_discard("g", bad),  # type: ignore[arg-type]
            ):
                with pytest.raises(TypeError, match=r"channel name"):
                    await call
        for bad in ("", "x" * 100, "g!", "g?x", "g\n", None, b"g"):
            for call in (layer.group_send(bad, HELLO), layer.group_add(bad, "a"), layer.group_discard(bad, "a")):  # type: ignore[arg-type]
                with pytest.raises(TypeError, match=r"group name"):
                    await call

    async def test_name_of_a_subclass_of_str(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        """A member of a ``str`` enumeration, whose ``str()`` is another one, is the name that it equals."""
        room, jobs = Name.ROOM, Name.JOBS
        own = Text(await layer.new_channel())
        await layer.group_add(room, own)
        other.group_add_sync(room, jobs)
        await other.group_send(room, {"n": 1})
        assert [await soon(layer.receive(channel)) for channel in (own, jobs)] == [{"n": 1}, {"n": 1}]
        await other.group_send([room], {"n": 2}, exclude=jobs)
        other.group_send_sync("room", {"n": 3}, exclude=[own])
        assert [await soon(layer.receive(channel)) for channel in (own, "jobs")] == [{"n": 2}, {"n": 3}]
        await layer.group_discard(room, jobs)
        layer.group_discard_sync(room, own)
        other.group_send_sync("room", {"n": 4})
        await other.send(jobs, {"n": 5})
        await other.send(own, {"n": 6})
        other.send_sync(jobs, {"n": 7})
        assert [await soon(layer.receive(channel)) for channel in (jobs, own)] == [{"n": 5}, {"n": 6}]
        assert await soon(asyncio.to_thread(layer.receive_many, [jobs], True, DEADLINE)) == ("jobs", {"n": 7})

    async def test_new_channel(self, layer: ChannelLayer) -> None:
        names = {await layer.new_channel() for _ in range(100)}
        assert len(names) == 100
        assert all(re.fullmatch(r"specific\.[0-9a-f]{32}![0-9a-f]{32}", name) for name in names)
        assert (await layer.new_channel("websocket.send")).startswith("websocket.send.")
        with pytest.raises(TypeError):
            await layer.new_channel("x" * 40)

    async def test_single_reader_name(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        name = "http.request.body?0123456789abcdef0123456789abcdef"
        await layer.send(name, {"n": 1}, single_reader=True)
        other.send_sync(name, {"n": 2})
        taken = [await soon(asyncio.to_thread(other.receive_many, [name], True, DEADLINE)) for _ in range(2)]
        assert taken == [(name, {"n": 1}), (name, {"n": 2})]

    async def test_every_value_arrives(self, layer: ChannelLayer, other: ChannelLayer, name: str) -> None:
        for value in VALUES:
            await other.send(name, {"value": value, "": 1})
            message = await soon(layer.receive(name))
            assert message == {"value": value, "": 1}
            assert type(message["value"]) is type(value)
        await other.send(name, {"t": (1, (2,)), "nan": float("nan")})
        message = await soon(layer.receive(name))
        assert message["t"] == [1, [2]]
        assert message["nan"] != message["nan"]

    async def test_message_is_a_copy(self, layer: ChannelLayer, name: str) -> None:
        message: dict[str, Any] = {"inner": [1]}
        await layer.send(name, message)
        message["inner"].append(2)
        assert await soon(layer.receive(name)) == {"inner": [1]}

    async def test_bad_messages_are_the_senders_fault(self, make_layer: MakeLayer) -> None:
        layer = make_layer(max_message_size=100)
        await layer.group_add("g", "jobs")
        for send in (layer.send, layer.group_send):
            target = "jobs" if send == layer.send else "g"
            for bad in ([], "text", None, {1: 2}, {"a": {2: 3}}, {"a": object()}, {"__asgi_channel__": "x"}):
                with pytest.raises(AssertionError):
                    await send(target, bad)  # type: ignore[arg-type]
            with pytest.raises(OverflowError):
                await send(target, {"n": 2**64})
            with pytest.raises(MessageTooLarge, match="max_message_size"):
                await send(target, {"text": "x" * 101})
        assert await layer.pending("jobs") == 0
        await layer.send("jobs", HELLO)
        assert await soon(layer.receive("jobs")) == HELLO

    async def test_undecodable_bytes_are_dropped(
        self, layer: ChannelLayer, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        for junk in (b"\xc1", b"", b"\x93\x01"):
            await layer._push(name, junk)
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.name == "fastchannels.layer"]
        assert len(errors) == 1
        assert layer.statistics()["dropped"]["undecodable"] == 3

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    async def test_encrypted_with_rotated_keys(
        self, make_layer: MakeLayer, view_of: ViewOf, format: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        layer = make_layer(symmetric_encryption_keys=["new", b"old"], serializer_format=format)
        other = view_of(layer)
        # What a process sends that has not got the new key yet.
        old = make_layer(symmetric_encryption_keys=["old"], serializer_format=format)
        name = await layer.new_channel()
        for channel in ("jobs", name):
            await other.send(channel, {"secret": "sesame"})
            assert await soon(layer.receive(channel)) == {"secret": "sesame"}
            await layer._push(channel, old.serialize({"n": "old"}))
            assert await soon(layer.receive(channel)) == {"n": "old"}
        await layer.group_add("g", name)
        await other.group_send("g", {"n": "group"})
        assert await soon(layer.receive(name)) == {"n": "group"}
        if not layer.leaves_process:
            return
        assert b"sesame" not in layer.serialize({"secret": "sesame"})
        clear = make_layer(serializer_format=format).serialize(HELLO)
        token = layer.serialize(HELLO)
        foreign = make_layer(symmetric_encryption_keys=["stranger"], serializer_format=format).serialize(HELLO)
        for junk in (clear, foreign, token[:-8] + b"AAAAAAA=", token[: len(token) // 2], b""):
            await layer._push("jobs", junk)
        await layer.send("jobs", {"n": "after"})
        assert await soon(layer.receive("jobs")) == {"n": "after"}
        assert layer.statistics()["dropped"] == {"undecodable": 5}
        errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.name == "fastchannels.layer"]
        assert len(errors) == 1
        assert "sesame" not in caplog.text

    # ------------------------------------------------------------------ order and delivery

    async def test_order_of_ten_thousand(self, make_layer: MakeLayer, view_of: ViewOf) -> None:
        layer = make_layer(capacity=20_000)
        writer = view_of(layer)
        name = await layer.new_channel()

        async def write() -> None:
            for n in range(10_000):
                await writer.send(name, {"n": n})

        async def read() -> list[int]:
            return [(await layer.receive(name))["n"] for _ in range(10_000)]

        _, got = await asyncio.wait_for(asyncio.gather(write(), read()), 30)
        assert got == list(range(10_000))

    async def test_each_message_reaches_one_reader(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        got: list[int] = []

        async def read(reader: ChannelLayer) -> None:
            while True:
                got.append((await reader.receive("jobs"))["n"])

        readers = [asyncio.create_task(read(reader)) for reader in (layer, other, layer, other)]
        for n in range(300):
            await send_when_room((layer, other)[n % 2], "jobs", {"n": n})
        await until(lambda: len(got) >= 300)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert sorted(got) == list(range(300))
        assert await layer.pending("jobs") == 0

    async def test_waiting_reader_is_woken(self, layer: ChannelLayer, other: ChannelLayer, name: str) -> None:
        task = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0)
        await other.send(name, HELLO)
        assert await soon(task) == HELLO

    async def test_local_name_of_another_process(self, layer: ChannelLayer) -> None:
        for name in ("specific." + "0" * 32 + "!x", "specific!x"):
            with pytest.raises(RuntimeError, match="belongs to process"):
                await layer.receive(name)
            with pytest.raises(RuntimeError, match="belongs to process"):
                layer.attach(name, print)

    # ------------------------------------------------------------------ capacity

    async def test_full_channel(self, make_layer: MakeLayer) -> None:
        import channels.exceptions

        layer = make_layer(capacity=3)
        assert layer.ChannelFull is ChannelFull is channels.exceptions.ChannelFull
        for n in range(3):
            await layer.send("jobs", {"n": n})
        with pytest.raises(ChannelFull, match=r"'jobs'.* 3 .*'capacity'"):
            await layer.send("jobs", {"n": 3})
        with pytest.raises(ChannelFull):
            layer.send_sync("jobs", {"n": 3})
        assert await layer.pending("jobs") == 3
        assert await soon(layer.receive("jobs")) == {"n": 0}
        await layer.send("jobs", {"n": 4})
        assert [(await soon(layer.receive("jobs")))["n"] for _ in range(3)] == [1, 2, 4]

    async def test_capacity_of_a_local_name_is_its_own(self, make_layer: MakeLayer, view_of: ViewOf) -> None:
        layer = make_layer(capacity=3)
        other = view_of(layer)
        slow, quick = await layer.new_channel(), await layer.new_channel()
        got: list[dict[str, Any]] = []
        layer.attach(slow, got.append)
        layer.attach(quick, got.append)
        layer.pause(slow)

        async def overflow() -> None:
            # What was under way when the name became full may overshoot (D-39).
            for _ in range(500):
                await other.send(slow, {"to": "slow"})
                await asyncio.sleep(0.005)

        with pytest.raises(ChannelFull, match=re.escape(slow)):
            await overflow()
        await other.send(quick, {"to": "quick"})
        await until(lambda: got == [{"to": "quick"}])
        layer.resume(slow)
        await until(lambda: len(got) >= 4)

        await soon(send_when_room(other, slow, {"to": "slow again"}))
        await until(lambda: got[-1] == {"to": "slow again"})

    async def test_channel_capacity(self, make_layer: MakeLayer) -> None:
        layer = make_layer(
            capacity=5,
            channel_capacity={"http.*": 1, re.compile(r"^http\.request$"): 4, re.compile(r"^jobs\."): 2},
        )
        wanted = {"http.request": 1, "jobs.x": 2, "other": 5, "xhttp.request": 5}
        for channel, capacity in wanted.items():
            assert layer.get_capacity(channel) == capacity
            for _ in range(capacity):
                await layer.send(channel, HELLO)
            with pytest.raises(ChannelFull, match=f" {capacity} "):
                await layer.send(channel, HELLO)

    def test_options_are_checked(self, make_layer: MakeLayer) -> None:
        bad: list[dict[str, Any]] = [
            *({"expiry": 0}, {"expiry": "60"}, {"group_expiry": -1}, {"capacity": 0}, {"capacity": 1.5}),
            *({"channel_capacity": {"a": 0}}, {"channel_capacity": ["a"]}, {"max_message_size": -1}),
        ]
        for options in bad:
            with pytest.raises(InvalidChannelLayerError, match=next(iter(options))):
                make_layer(**options)
        with pytest.raises(InvalidChannelLayerError, match=r"'capacty': did you mean 'capacity'\?"):
            make_layer(capacty=3)

    # ------------------------------------------------------------------ groups

    async def test_group_of_both_kinds(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        local, foreign = await layer.new_channel(), await other.new_channel()
        await layer.group_add("g", "jobs")
        await layer.group_add("g", local)
        await layer.group_add("g", local)
        await layer.group_add("g", foreign)
        for sender in (layer, other):
            await sender.group_send("g", {"n": 1})
            await sender.group_send("nobody", HELLO)
            assert await soon(layer.receive("jobs")) == {"n": 1}
            assert await soon(layer.receive(local)) == {"n": 1}
            assert await soon(other.receive(foreign)) == {"n": 1}
        await layer.group_discard("g", foreign)
        await layer.group_discard("g", foreign)
        await other.group_discard("g", local)
        await other.group_discard("g", "jobs")
        await layer.group_send("g", {"n": 2})
        for reader, name in ((layer, "jobs"), (layer, local), (other, foreign)):
            await layer.send(name, {"after": name})
            assert await soon(reader.receive(name)) == {"after": name}

    async def test_group_send_passes_full_members_over(
        self, make_layer: MakeLayer, caplog: pytest.LogCaptureFixture
    ) -> None:
        layer = make_layer(capacity=1)
        names = [f"jobs.{n}" for n in range(5)]
        for name in names:
            await layer.group_add("g", name)
        await layer.send("jobs.2", {"first": True})
        for round in range(2):
            await layer.group_send("g", {"round": round})
            for name in names:
                if name != "jobs.2":
                    assert await soon(layer.receive(name)) == {"round": round}
        assert await soon(layer.receive("jobs.2")) == {"first": True}
        lines = [r for r in caplog.records if r.levelno == logging.WARNING and r.name == "fastchannels.layer"]
        assert len(lines) == 1
        assert "'g'" in lines[0].getMessage()
        assert layer.statistics()["dropped"]["group_full"] == 2

    async def test_excluded_channels_get_nothing(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        readers = [(view, await view.new_channel()) for view in (layer, other) for _ in range(3)]
        readers += [(layer, "jobs.1"), (layer, "jobs.2")]
        names = [name for _, name in readers]
        for name in names:
            await layer.group_add("g", name)
        for n, excluded in enumerate(([names[0]], [names[4], "jobs.1"], names[:6], [*names, "nobody", "x!nobody"], [])):
            for sender in (layer, other):
                await sender.group_send("g", {"n": n}, exclude=excluded)
                for reader, name in readers:
                    if name not in excluded:
                        assert await soon(reader.receive(name)) == {"n": n}
        await layer.group_send("g", {"n": "one name"}, exclude=names[1])
        for reader, name in readers:
            if name != names[1]:
                assert await soon(reader.receive(name)) == {"n": "one name"}
            await layer.send(name, {"after": name})
            assert await soon(reader.receive(name)) == {"after": name}

    async def test_several_groups_reach_each_member_once(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        groups = ["a", "b", "c", "nobody"]
        readers = [(view, await view.new_channel()) for view in (layer, other) for _ in range(2)]
        readers += [(layer, "jobs.1"), (layer, "jobs.2")]
        for n, (_, name) in enumerate(readers):
            await layer.group_add(groups[n % 3], name)
            await layer.group_add(groups[(n + 1) % 3], name)
        for sender in (layer, other):
            for n, wanted in enumerate((groups, tuple(groups), ["c", "a"], ["b", "c", "b"], iter(groups), ["b"], [])):
                wanted = list(wanted)
                await sender.group_send(wanted, {"n": n})
                for index, (reader, name) in enumerate(readers):
                    if {groups[index % 3], groups[(index + 1) % 3]} & {*wanted}:
                        assert await soon(reader.receive(name)) == {"n": n}
            await sender.group_send(["a", "b", "c"], {"n": "but"}, exclude=[readers[0][1], readers[3][1], "jobs.2"])
            for index in (1, 2, 4):
                reader, name = readers[index]
                assert await soon(reader.receive(name)) == {"n": "but"}
        for reader, name in readers:
            await layer.send(name, {"after": name})
            assert await soon(reader.receive(name)) == {"after": name}, "once, and nothing else"

    async def test_names_of_groups_and_of_excluded_channels_are_checked(self, layer: ChannelLayer) -> None:
        for bad in (["a", "b c"], ["x!"], [None], b"a", [b"a"], None, 7):
            with pytest.raises(TypeError, match=r"group name"):
                await layer.group_send(bad, HELLO)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"group name"):
                layer.group_send_sync(bad, HELLO)  # type: ignore[arg-type]
        for bad in ("a b", ["a", "b!c!"], [None], [b"a"]):
            with pytest.raises(TypeError, match=r"channel name"):
                await layer.group_send("g", HELLO, exclude=bad)  # type: ignore[arg-type]

    async def test_aimed_messages_keep_their_order_with_others(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        name, group = await layer.new_channel(), self.group_beside(layer)
        await other.group_add(group, name)
        for n in range(0, 40, 4):
            await other.group_send(group, {"n": n})
            await other.group_send([group], {"n": n + 1})
            await other.group_send(group, {"n": n + 2}, exclude="nobody")
            await other.send(name, {"n": n + 3})
        assert [(await soon(layer.receive(name)))["n"] for _ in range(40)] == list(range(40))

    async def test_aimed_messages_from_a_thread(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        names = [await layer.new_channel(), await other.new_channel(), "jobs"]
        for name in names:
            await layer.group_add("g", name)
            await layer.group_add("h", name)

        def run() -> None:
            for n, excluded in enumerate(names):
                other.group_send_sync(["g", "h"], {"n": n}, exclude=[excluded])
                layer.send_group("g", {"n": -n}, exclude=excluded)
            layer.close_sync()
            other.close_sync()

        await asyncio.to_thread(run)
        for index, (reader, name) in enumerate(zip((layer, other, layer), names, strict=True)):
            # The two groups need not be in one place.
            wanted = sorted(sign * n for n in range(3) for sign in (1, -1) if n != index)
            assert sorted([(await soon(reader.receive(name)))["n"] for _ in wanted]) == wanted

    async def test_group_message_and_direct_message_keep_their_order(
        self, layer: ChannelLayer, other: ChannelLayer
    ) -> None:
        name, group = await layer.new_channel(), self.group_beside(layer)
        await other.group_add(group, name)
        for n in range(0, 20, 2):
            await other.group_send(group, {"n": n})
            await other.send(name, {"n": n + 1})
        assert [(await soon(layer.receive(name)))["n"] for _ in range(20)] == list(range(20))

    # ------------------------------------------------------------------ time

    async def test_expired_message(self, make_layer: MakeLayer) -> None:
        layer = make_layer(expiry=self.short_expiry, capacity=2)
        local = await layer.new_channel()
        for name in ("jobs", local):
            await layer.send(name, {"n": "old"})
        await self.advance(layer, self.short_expiry * 1.5)
        for name in ("jobs", local):
            # The old ones do not count against the capacity either.
            await layer.send(name, {"n": "new"})
            assert await soon(layer.receive(name)) == {"n": "new"}

    async def test_membership_expires_and_is_refreshed(self, make_layer: MakeLayer) -> None:
        life = self.short_group_expiry
        layer = make_layer(group_expiry=life)
        await layer.group_add("g", "stale")
        await layer.group_add("g", "fresh")
        read = await layer.new_channel()
        got: list[dict[str, Any]] = []
        layer.attach(read, got.append)
        await layer.group_add("g", read)
        await self.advance(layer, life * 0.7)
        await layer.group_add("g", "fresh")
        await self.advance(layer, life * 0.6)
        await layer.group_send("g", {"n": 1})
        await layer.send("stale", {"n": 2})
        assert await soon(layer.receive("stale")) == {"n": 2}
        assert await soon(layer.receive("fresh")) == {"n": 1}
        # A name that somebody reads is not forgotten (D-49).
        await until(lambda: got == [{"n": 1}])
        layer.detach(read)

    # ------------------------------------------------------------------ loops, cancelling, threads, processes

    async def test_cancelled_receive_loses_nothing(self, layer: ChannelLayer, other: ChannelLayer, name: str) -> None:
        chance = random.Random(1)
        got: list[int] = []
        writing = True

        async def write() -> None:
            nonlocal writing
            for n in range(500):
                await send_when_room(other, name, {"n": n})
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            writing = False

        writer = asyncio.create_task(write())
        cancelled = 0
        ends = time.monotonic() + 30
        while (writing or cancelled < 1000) and time.monotonic() < ends:
            task = asyncio.create_task(layer.receive(name))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            if chance.random() < 0.1:
                await asyncio.sleep(0.0005)
            task.cancel()
            try:
                got.append((await task)["n"])
            except asyncio.CancelledError:
                cancelled += 1
        await soon(writer)
        while len(got) < 500:
            got.append((await soon(layer.receive(name)))["n"])
        assert cancelled >= 500
        assert got == list(range(500))

    async def test_cancelled_reader_passes_the_wake_up_on(self, layer: ChannelLayer, name: str) -> None:
        first = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0.01)
        await layer.send(name, HELLO)
        first.cancel()
        [result] = await soon(asyncio.gather(first, return_exceptions=True))
        if result == HELLO:  # it had been taken before the cancel
            await layer.send(name, HELLO)
        assert await soon(second) == HELLO

    def test_fifty_event_loops(self, layer: ChannelLayer) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

        async def use(n: int) -> None:
            name = await layer.new_channel()
            await layer.group_add("g", name)
            await layer.group_send("g", {"n": n})
            assert await soon(layer.receive(name)) == {"n": n}
            await layer.send("jobs", {"n": n})
            assert await soon(layer.receive("jobs")) == {"n": n}
            waiting = asyncio.create_task(layer.receive(name))
            await asyncio.sleep(0)
            assert not waiting.done()  # asyncio.run cancels it
            await layer.group_discard("g", name)

        in_thread(lambda: [asyncio.run(use(n)) for n in range(5)])
        before = descriptors()
        in_thread(lambda: [asyncio.run(use(n)) for n in range(45)])
        assert descriptors() <= before + 2

    async def test_two_loops_at_once(self, layer: ChannelLayer) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            there = asyncio.run_coroutine_threadsafe(self._echo(layer, "ping", "pong"), loop)
            for n in range(50):
                await layer.send("ping", {"n": n})
                assert await soon(layer.receive("pong")) == {"n": n}
            await layer.send("ping", {"n": None})
            await soon(asyncio.wrap_future(there))
            await soon(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(layer.close(), loop)))
        finally:
            loop.call_soon_threadsafe(loop.stop)
            await asyncio.to_thread(thread.join, DEADLINE)
            loop.close()

    @staticmethod
    async def _echo(layer: ChannelLayer, source: str, target: str) -> None:
        while (message := await soon(layer.receive(source)))["n"] is not None:
            await layer.send(target, message)

    async def test_thread_waits_for_local_names_of_a_beginning(self, layer: ChannelLayer) -> None:
        local = await layer.new_channel("answers")
        beginning = layer.non_local_name(local)
        layer._listen()
        for wanted in ([beginning], ["jobs", beginning]):
            waiting = asyncio.create_task(asyncio.to_thread(layer.receive_many, wanted, True, DEADLINE))
            await asyncio.sleep(0)
            await layer.send(local, {"n": 1})
            assert await soon(waiting) == (local, {"n": 1})
            assert await asyncio.to_thread(layer.receive_many, wanted, True, 0.06) == (None, None)
        await layer.send("jobs", {"n": 2})
        assert await asyncio.to_thread(layer.receive_many, ["jobs", beginning], True, DEADLINE) == ("jobs", {"n": 2})
        await asyncio.to_thread(layer.close_sync)

    async def test_synchronous_twins(self, layer: ChannelLayer) -> None:
        local = await layer.new_channel()

        def run() -> None:
            layer.send_sync("jobs", {"n": 1})
            layer.group_add_sync("g", "jobs")
            layer.group_add_sync("g", local)
            layer.group_send_sync("g", {"n": 2})
            layer.group_discard_sync("g", "jobs")
            layer.send_group("g", {"n": 3})
            assert layer.receive_many(["none", "jobs"], True, DEADLINE) == ("jobs", {"n": 1})
            assert layer.receive_many(["jobs", "none"], True, DEADLINE) == ("jobs", {"n": 2})
            assert layer.receive_many(["jobs"]) == (None, None)
            assert layer.receive_many([], True) == (None, None)
            with pytest.raises(RuntimeError, match="ordinary channels"):
                layer.receive_many([local])
            layer.close_sync()

        await soon(asyncio.to_thread(run))
        assert [(await soon(layer.receive(local)))["n"] for _ in range(2)] == [2, 3]
        with pytest.raises(RuntimeError, match="event loop"):
            layer.receive_many(["jobs"], block=True)

    async def test_receive_many_of_process_local_names(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        def receive(*names: str) -> tuple[str, dict[str, Any]] | tuple[None, None]:
            try:
                return layer.receive_many(list(names))
            finally:
                layer.close_sync()

        local = await layer.new_channel("reply")
        beginning = layer.non_local_name(local)
        assert await asyncio.to_thread(receive, "jobs", beginning, "foreign!") == (None, None)
        # A reader that comes back later: what waits for it meanwhile is anybody's of this process.
        layer._listen()
        await other.send(local, {"n": 1})
        await until(lambda: layer.inbox.unread(local) == 1)
        assert await asyncio.to_thread(receive, beginning) == (local, {"n": 1})
        for n in range(20):
            await other.send("jobs", {"n": n})
        await other.send(local, {"n": 2})
        await until(lambda: layer.inbox.unread(local) == 1)
        taken = [await asyncio.to_thread(receive, "jobs", beginning) for _ in range(21)]
        assert taken.index((local, {"n": 2})) < 20  # one in a million comes last
        assert [message for name, message in taken if name == "jobs"] == [{"n": n} for n in range(20)]
        layer.attach(local, print)
        layer.pause(local)
        await other.send(local, {"n": 3})
        await until(lambda: layer.inbox.unread(local) == 1)
        assert await asyncio.to_thread(receive, beginning) == (None, None)
        layer.detach(local)
        with pytest.raises(RuntimeError, match="ordinary channels"):
            await asyncio.to_thread(layer.receive_many, ["jobs", local], True)

    async def test_receive_many_blocks_until_a_message_comes(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        def run() -> tuple[str | None, dict[str, Any] | None, float]:
            begun = time.monotonic()
            assert layer.receive_many(["a", "b"], True, 0.1) == (None, None)
            elapsed = time.monotonic() - begun
            started.set()
            try:
                return *layer.receive_many(["a", "b"], True, DEADLINE), elapsed
            finally:
                layer.close_sync()

        started = threading.Event()
        task = asyncio.create_task(asyncio.to_thread(run))
        await asyncio.to_thread(started.wait, DEADLINE)
        await other.send("b", HELLO)
        channel, message, elapsed = await soon(task)
        assert (channel, message) == ("b", HELLO)
        assert 0.09 <= elapsed < 5

    async def test_flooded_channel_starves_no_other(self, layer: ChannelLayer) -> None:
        def run() -> int:
            for _ in range(50):
                layer.send_sync("flood", HELLO)
            layer.send_sync("quiet", HELLO)
            reads = 1
            while layer.receive_many(["flood", "quiet"], True, DEADLINE)[0] == "flood":
                layer.send_sync("flood", HELLO)
                reads += 1
            layer.close_sync()
            return reads

        assert await soon(asyncio.to_thread(run)) <= 40

    def test_fork(self, layer: ChannelLayer) -> None:
        parent_id, name = layer.client_id, layer.new_local_channel("specific")
        layer.send_sync("jobs", {"n": 1})
        layer.receive_many(["jobs"])
        layer.close_sync()
        result = in_child(lambda: self._in_child(layer, name))
        assert result["client_id"] != parent_id
        assert result["own"] == HELLO
        assert result["jobs"] == ["jobs", HELLO]
        assert "belongs to process" in result["foreign"]
        assert layer.client_id == parent_id
        layer.send_sync("jobs", {"n": 2})
        assert in_thread(lambda: layer.receive_many(["jobs"], True, DEADLINE)) == ("jobs", {"n": 2})

    @staticmethod
    def _in_child(layer: ChannelLayer, foreign: str) -> dict[str, Any]:
        async def use() -> dict[str, Any]:
            name = await layer.new_channel()
            await layer.group_add("g", name)
            await layer.group_send("g", HELLO)
            own = await soon(layer.receive(name))
            try:
                await layer.receive(foreign)
            except RuntimeError as error:
                return {"own": own, "foreign": str(error), "client_id": layer.client_id}
            raise AssertionError("received on a name of the parent")

        result = asyncio.run(use())
        layer.send_sync("jobs", HELLO)
        return {**result, "jobs": layer.receive_many(["jobs"], True, DEADLINE)}

    # ------------------------------------------------------------------ receivers, flush, statistics

    async def test_attached_receiver(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        name, group = layer.new_local_channel("websocket.send"), self.group_beside(layer)
        got: list[int] = []
        loop = asyncio.get_running_loop()

        def receiver(message: dict[str, Any]) -> None:
            assert asyncio.get_running_loop() is loop
            got.append(message["n"])
            if message["n"] == 3:
                raise ValueError("receivers may fail")

        layer.attach(name, receiver)
        await other.group_add(group, name)
        await other.send(name, {"n": 1})
        await other.group_send(group, {"n": 2})
        await asyncio.to_thread(other.send_sync, name, {"n": 3})
        await until(lambda: got == [1, 2, 3])
        layer.pause(name)
        await other.send(name, {"n": 4})
        await asyncio.to_thread(other.group_send_sync, group, {"n": 5})
        await until(lambda: layer.inbox.unread(name) == 2)
        assert got == [1, 2, 3]
        layer.resume(name)
        await other.send(name, {"n": 6})
        await until(lambda: got == [1, 2, 3, 4, 5, 6])
        layer.detach(name)
        await other.send(name, {"n": 7})
        await other.group_send(group, {"n": 8})
        await until(lambda: layer.statistics()["dropped"].get("closed", 0) >= 1)
        assert got == [1, 2, 3, 4, 5, 6]

    async def test_flush(self, layer: ChannelLayer, other: ChannelLayer) -> None:
        local = await layer.new_channel()
        for name in ("jobs", local):
            await layer.send(name, {"n": 1})
            await layer.group_add("g", name)
        await other.flush()
        await layer.flush()
        assert await layer.pending("jobs") == 0
        await other.group_send("g", {"n": 2})
        for name in ("jobs", local):
            await other.send(name, {"n": 3})
            assert await soon(layer.receive(name)) == {"n": 3}
        await asyncio.to_thread(layer.flush_sync)

    async def test_statistics(self, make_layer: MakeLayer) -> None:
        layer = make_layer(capacity=1)
        assert layer.statistics()["messages_count"] == 0
        await layer.send("jobs", HELLO)
        with pytest.raises(ChannelFull):
            await layer.send("jobs", HELLO)
        await layer.group_send("g", HELLO)
        await soon(layer.receive("jobs"))
        statistics = layer.statistics()
        assert statistics["messages_count"] == 2
        assert statistics["messages_received"] == 1
        assert statistics["messages_pending"] == 0
        assert statistics["channel_full_count"] == 1
        assert statistics["dropped"] == {}
        assert layer.global_statistics() == {"messages_count": 2, "messages_pending": 0, "channel_full_count": 1}

    async def test_statistics_of_a_channel(self, make_layer: MakeLayer, view_of: ViewOf) -> None:
        layer = make_layer(capacity=2)
        other = view_of(layer)
        local = await layer.new_channel()
        layer.attach(local, print)
        layer.pause(local)
        nothing = await asyncio.to_thread(layer.channel_statistics, "jobs")
        assert (nothing.pop("messages_max_age", 0), nothing.pop("messages_pending", 0)) == (0, 0)
        assert nothing == {"channel_full_count": 0}
        for name in ("jobs", local):
            await other.send(name, HELLO)
            await other.send(name, HELLO)
        with pytest.raises(ChannelFull):
            await layer.send("jobs", HELLO)
        with pytest.raises(ChannelFull):
            layer.send_sync("jobs", HELLO)
        await until(lambda: layer.inbox.unread(local) == 2)
        await self.advance(layer, 0.05)
        for name, refused in (("jobs", 2), (local, 0)):
            statistics = await asyncio.to_thread(layer.channel_statistics, name)
            assert statistics["channel_full_count"] == refused
            # A wire without a count, or without ages, leaves them out.
            assert statistics.get("messages_pending", 2) == 2
            assert 0.04 <= statistics.get("messages_max_age", 0.05) < DEADLINE
        await asyncio.to_thread(layer.close_sync)
        layer.detach(local)
        with pytest.raises(TypeError, match="channel name"):
            layer.channel_statistics("a b")

    async def test_close_and_use_again(self, layer: ChannelLayer) -> None:
        await layer.send("jobs", HELLO)
        await layer.close()
        await layer.close_pools()
        assert await soon(layer.receive("jobs")) == HELLO
