from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastchannels._core.inbox import Inbox
from fastchannels._core.msgpack import pack, unpack
from fastchannels._core.wake import Waiter

DEADLINE = 10.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def decode(payload: bytes) -> dict[str, Any] | None:
    return None if payload == b"junk" else {"p": payload.decode()}


def make(capacity: int = 3, expiry: float = 60.0, clock: Callable[[], float] | None = None, **options: Any) -> Inbox:
    options.setdefault("decode", decode)
    options.setdefault("capacity_of", lambda channel: capacity)
    return Inbox(expiry=expiry, clock=clock or Clock(), **options)


class TestQueues:
    def test_first_in_first_out(self) -> None:
        inbox = make(capacity=1000)
        for n in range(1000):
            assert inbox.put("a", b"%d" % n)
            if n % 3 == 0:
                inbox.put("b", b"%d" % n)
        assert inbox.unread("a") == 1000
        assert [inbox.get("a") for _ in range(1000)] == [b"%d" % n for n in range(1000)]
        assert inbox.get("a") is None
        assert inbox.get("b") == b"0"
        assert inbox.get("unknown") is None

    def test_take_gives_messages_and_passes_over_what_is_none(self) -> None:
        clock = Clock()
        inbox = make(capacity=10, clock=clock)
        assert inbox.take("a") is None
        for payload in (b"old", b"junk", b"1", b"2", b"junk"):
            inbox.put("a", payload, age=60.0 if payload == b"old" else 0.0)
        assert [inbox.take("a") for _ in range(3)] == [{"p": "1"}, {"p": "2"}, None]
        inbox.put("a", b"3")
        clock.now += 61
        assert inbox.take("a") is None
        assert inbox.counts() == {"received": 5, "delivered": 2, "full": 0, "expired": 2, "closed": 0, "pending": 0}

    def test_take_makes_room(self) -> None:
        inbox = make(capacity=1)
        told: list[str] = []
        inbox.on_full = lambda name: told.append("full")
        inbox.on_room = lambda name: told.append("room")
        inbox.put("a", b"1")
        assert inbox.take("a") == {"p": "1"}
        assert told == ["full", "room"]

    def test_native_payloads_are_messagepack_and_the_rest_is_asked_about(self) -> None:
        asked: list[bytes] = []
        inbox = make(capacity=100, native=True, decode=lambda payload: asked.append(payload))
        good = {"type": "x", "n": [1, {"a": None}]}
        junk = [b"", b"\xc1", pack([1]), pack({"a": 1})[:-1], pack({"a": 1}) + b"\0"]
        for payload in (*junk, pack(good), *junk):
            inbox.put("a", payload)
        assert inbox.take("a") == good
        assert inbox.take("a") is None
        assert asked == junk + junk

    @pytest.mark.parametrize("value", [7, None, "text", b"bytes", True, 1.5, [1], {"a": 1}, {"a": {"b": [2]}}])
    def test_readers_of_a_group_message_get_a_dict_each(self, value: object) -> None:
        for native in (True, False):
            inbox = make(native=native, decode=unpack)
            sent = {"type": "x", "value": value}
            names = [f"a!{number}" for number in range(5)]
            assert inbox.fan_out(names, pack(sent)) == 0
            for name in names[:4]:
                message = inbox.take(name)
                assert message == sent
                message["type"] = "changed"
                if isinstance(value, list):
                    message["value"].append(2)
                elif isinstance(value, dict):
                    message["value"]["a"] = "changed"
                message["more"] = 1
            assert inbox.get(names[4]) == pack(sent)

    def test_a_group_message_that_is_none_is_dropped_for_each_reader(self) -> None:
        inbox = make()
        inbox.fan_out(["a", "b", "c"], b"junk")
        assert [inbox.take(name) for name in "abc"] == [None] * 3

    def test_capacity_is_asked_once_for_each_name(self) -> None:
        asked = []
        inbox = make(capacity_of=lambda channel: asked.append(channel) or 2)
        assert [inbox.put("a", b"x") for _ in range(4)] == [True, True, False, False]
        assert inbox.put("b", b"x")
        assert asked == ["a", "b"]
        assert inbox.counts() == {"received": 3, "delivered": 0, "full": 2, "expired": 0, "closed": 0, "pending": 3}

    def test_offer_leaves_the_counting_to_the_sender(self) -> None:
        inbox = make(capacity=1)
        assert [inbox.offer("a", b"x") for _ in range(2)] == [True, False]
        assert inbox.counts()["full"] == 0
        inbox.close("a")
        assert inbox.offer("a", b"x")
        assert inbox.counts()["closed"] == 2

    def test_admit_overshoots_what_the_sender_was_promised(self) -> None:
        inbox = make(capacity=1)
        told: list[str] = []
        inbox.on_full = told.append
        assert inbox.put("a", b"1")
        assert inbox.admit("a", b"2", 5.0)
        assert not inbox.put("a", b"3")
        assert not inbox.admit("a", b"4", 60.0)
        assert [inbox.get("a"), inbox.get("a"), inbox.get("a")] == [b"1", b"2", None]
        assert told == ["a"]
        inbox.close("a")
        assert not inbox.admit("a", b"5")

    def test_expiry_by_age_and_clock(self) -> None:
        clock = Clock()
        inbox = make(clock=clock, expiry=10)
        assert inbox.put("a", b"1", 9.0)
        assert inbox.put("a", b"2")
        assert not inbox.put("a", b"3", 10.0)
        clock.now += 1
        assert inbox.unread("a") == 1
        assert inbox.get("a") == b"2"
        inbox.put("a", b"4")
        inbox.put("a", b"5", -5.0)  # a clock that disagrees does not make it younger
        clock.now += 10
        assert inbox.get("a") is None
        assert inbox.counts()["expired"] == 4

    def test_expired_messages_make_room(self) -> None:
        clock = Clock()
        inbox = make(capacity=2, clock=clock)
        room: list[str] = []
        inbox.on_room = room.append
        inbox.put("a", b"1")
        inbox.put("a", b"2")
        clock.now += 61
        assert inbox.put("a", b"3")
        assert room == ["a"]
        assert inbox.get("a") == b"3"

    def test_what_holds_and_how_old_it_is(self) -> None:
        clock = Clock()
        inbox = make(clock=clock, expiry=10)
        assert (inbox.held("a"), inbox.age("a!1")) == ([], 0.0)
        inbox.put("a!1", b"1", 2.5)
        inbox.put("a!2", b"2")
        inbox.put("b!1", b"3")
        clock.now += 5
        inbox.put("a!1", b"4")
        assert sorted(inbox.held("a!")) == ["a!1", "a!2"]
        assert (inbox.age("a!1"), inbox.age("a!2")) == (7.5, 5.0)
        clock.now += 3
        assert inbox.age("a!1") == 3.0
        assert inbox.counts()["expired"] == 1
        inbox.get("a!1")
        assert (inbox.held("a!"), inbox.age("a!1")) == (["a!2"], 0.0)

    def test_purge_forgets_expired_messages_and_names(self) -> None:
        clock = Clock()
        inbox = make(capacity=100, clock=clock, expiry=10)
        for n in range(20):
            inbox.put("mixed", b"%d" % n, 9.5 if n % 2 else 0.0)
        inbox.put("old", b"x", 9.5)
        clock.now += 1
        inbox.purge()
        assert len(inbox) == 1
        assert [inbox.get("mixed") for _ in range(11)] == [b"%d" % n for n in range(0, 20, 2)] + [None]
        inbox.purge()
        assert len(inbox) == 0
        assert inbox.counts()["pending"] == 0
        assert inbox.counts()["expired"] == 11

    def test_puts_purge_now_and_then(self) -> None:
        clock = Clock()
        inbox = make(clock=clock, expiry=10)
        for n in range(100):
            inbox.put(f"n{n}", b"x")
        clock.now += 11
        inbox.put("new", b"x")
        assert len(inbox) == 1

    def test_hooks_tell_full_and_room(self) -> None:
        inbox = make(capacity=2)
        told: list[str] = []
        inbox.on_full = lambda channel: told.append(f"full {channel}")
        inbox.on_room = lambda channel: told.append(f"room {channel}")
        inbox.put("a", b"1")
        assert told == []
        inbox.put("a", b"2")
        inbox.put("a", b"3")
        assert told == ["full a"]
        inbox.get("a")
        inbox.get("a")
        assert told == ["full a", "room a"]
        inbox.put("a", b"4")
        inbox.put("a", b"5")
        inbox.close("a")
        inbox.fan_out(["b"], b"x")
        inbox.fan_out(["b"], b"x")
        inbox.clear()
        assert told == ["full a", "room a"] * 2 + ["full b", "room b"]

    def test_failing_hook_stops_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        inbox = make(capacity=1)
        inbox.on_full = lambda channel: 1 / 0
        assert inbox.put("a", b"x")
        assert "capacity of channel 'a'" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    def test_clear(self) -> None:
        inbox = make()
        inbox.put("a", b"x")
        inbox.close("b")
        inbox.clear()
        assert len(inbox) == 0
        assert inbox.put("b", b"x")
        assert inbox.counts()["pending"] == 1

    def test_payloads_are_released(self) -> None:
        inbox = make(capacity=1000)
        payload = b"payload of this test" * 10
        before = sys.getrefcount(payload)
        for n in range(300):
            inbox.put("a", payload)
            inbox.fan_out(["b", "c"], payload)
            if n % 2:
                inbox.get("a")
                inbox.get("c")
        assert sys.getrefcount(payload) > before + 400
        inbox.close("c")
        inbox.clear()
        assert sys.getrefcount(payload) == before
        inbox.put("a", payload)
        del inbox
        assert sys.getrefcount(payload) == before

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["put", "old", "get", "tick", "purge", "close"]), st.sampled_from("ab"))))
    def test_matches_a_plain_model(self, steps: list[tuple[str, str]]) -> None:
        clock = Clock()
        inbox = make(capacity=3, expiry=10, clock=clock)
        model: dict[str, deque[tuple[float, bytes]]] = {"a": deque(), "b": deque()}
        closed: dict[str, float] = {}

        def purge() -> None:
            for queue in model.values():
                alive = [entry for entry in queue if entry[0] > clock.now]
                queue.clear()
                queue.extend(alive)
            for name in [name for name in closed if closed[name] <= clock.now]:
                del closed[name]

        for n, (step, name) in enumerate(steps):
            queue = model[name]
            payload = b"%d" % n
            if step in ("put", "old"):
                inbox.purge()  # as it may do by itself
                purge()
                age = 4.0 if step == "old" else 0.0
                accepted = name not in closed and len(queue) < 3
                if accepted:
                    queue.append((clock.now + 10 - age, payload))
                assert inbox.put(name, payload, age) == accepted
            elif step == "get":
                while queue and queue[0][0] <= clock.now:
                    queue.popleft()
                assert inbox.get(name) == (queue.popleft()[1] if queue else None)
            elif step == "tick":
                clock.now += 1
            elif step == "close":
                inbox.close(name)
                queue.clear()
                closed.pop(name, None)
                closed[name] = clock.now + 10
            else:
                inbox.purge()
                purge()
            assert inbox.counts()["pending"] == sum(map(len, model.values()))


class TestWaiters:
    async def test_woken_by_a_put_and_message_stays(self) -> None:
        inbox = make()
        waiter = inbox.wait("a")
        assert not waiter.done()
        assert inbox.is_watched("a")
        assert inbox.watched() == ["a"]
        inbox.put("a", b"x")
        assert waiter.done()
        assert inbox.unread("a") == 1
        inbox.unwait("a", waiter)
        assert inbox.get("a") == b"x"
        assert not inbox.is_watched("a")
        assert inbox.watched() == []

    async def test_one_wake_up_for_each_message_in_order_of_arrival(self) -> None:
        inbox = make()
        waiters = [inbox.wait("a") for _ in range(3)]
        inbox.put("a", b"1")
        assert [waiter.done() for waiter in waiters] == [True, False, False]
        inbox.put("a", b"2")
        assert [waiter.done() for waiter in waiters] == [True, True, False]
        assert inbox.get("a") == b"1"
        inbox.unwait("a", waiters[0])
        # The second message has its reader already: the third waiter is left alone.
        assert not waiters[2].done()

    async def test_unused_wake_up_goes_to_the_next(self) -> None:
        inbox = make()
        first, second, third = (inbox.wait("a") for _ in range(3))
        second.cancel()
        inbox.put("a", b"1")
        assert first.done()
        inbox.unwait("a", first)
        assert third.done()
        inbox.unwait("a", second)
        inbox.unwait("a", third)
        assert inbox.get("a") == b"1"
        inbox.unwait("unknown", third)

    async def test_wait_on_a_name_that_holds_a_message(self) -> None:
        """A put from another thread may come between a get and the wait."""
        inbox = make()
        inbox.put("a", b"1")
        assert inbox.wait("a").done()
        assert not inbox.wait("a").done()

    async def test_waiting_opens_a_closed_name(self) -> None:
        inbox = make()
        inbox.close("a")
        assert inbox.is_closed("a")
        assert not inbox.put("a", b"1")
        waiter = inbox.wait("a")
        assert not inbox.is_closed("a")
        assert inbox.put("a", b"2")
        assert waiter.done()

    async def test_close_leaves_a_waiting_reader_its_name(self) -> None:
        inbox = make()
        waiter = inbox.wait("a")
        inbox.close("a")
        assert inbox.put("a", b"1")
        assert waiter.done()

    async def test_waiter_of_another_loop(self) -> None:
        inbox = make(capacity=1000)
        got: list[bytes] = []

        async def read() -> None:
            while len(got) < 500:
                if (payload := inbox.get("a")) is not None:
                    got.append(payload)
                    continue
                waiter = inbox.wait("a")
                try:
                    await asyncio.wait_for(waiter, DEADLINE)
                finally:
                    inbox.unwait("a", waiter)

        thread = threading.Thread(target=lambda: asyncio.run(read()), daemon=True)
        thread.start()
        for n in range(500):
            inbox.put("a", b"%d" % n)
            if n % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.to_thread(thread.join, DEADLINE)
        assert got == [b"%d" % n for n in range(500)]

    async def test_waiter_of_a_closed_loop_does_not_swallow_the_wake_up(self) -> None:
        inbox = make()
        loop = asyncio.new_event_loop()
        waiters: list[Waiter[None]] = []

        def elsewhere() -> None:
            async def wait() -> None:
                waiters.append(inbox.wait("a"))

            loop.run_until_complete(wait())
            loop.close()

        await asyncio.to_thread(elsewhere)
        mine = inbox.wait("a")
        inbox.put("a", b"1")
        assert mine.done()

    def test_thread_blocks_on_several_names(self) -> None:
        inbox = make()
        waiter = inbox.wait_any(["a", "b"])
        assert not waiter.block(0.01)
        assert not waiter.block(-1)
        threading.Timer(0.02, inbox.put, ("b", b"1")).start()
        assert waiter.block(DEADLINE)
        inbox.put("a", b"2")
        inbox.unwait_any(["a", "b"], waiter)
        assert (inbox.get("a"), inbox.get("b")) == (b"2", b"1")
        inbox.purge()
        assert len(inbox) == 0

    def test_thread_passes_the_name_it_left_on(self) -> None:
        inbox = make()
        first, second = inbox.wait_any(["a", "b"]), inbox.wait_any(["b"])
        inbox.put("a", b"1")
        inbox.put("b", b"2")
        assert inbox.get("a") == b"1"
        assert not second.block(0)
        inbox.unwait_any(["a", "b"], first)
        assert second.block(0)


class TestReceivers:
    async def test_called_at_once_and_in_order(self) -> None:
        inbox = make()
        got: list[Any] = []
        inbox.put("a", b"1")
        inbox.put("a", b"2")
        inbox.attach("a", got.append)
        assert got == [{"p": "1"}, {"p": "2"}]
        assert inbox.put("a", b"3")
        assert got[2:] == [{"p": "3"}]
        assert inbox.counts()["delivered"] == 3

    def test_attach_needs_a_running_loop(self) -> None:
        with pytest.raises(RuntimeError, match="no running event loop"):
            make().attach("a", print)

    async def test_pause_resume(self) -> None:
        inbox = make(capacity=2)
        got: list[Any] = []

        def receiver(message: dict[str, Any]) -> None:
            got.append(message["p"])
            if message["p"] == "3":
                inbox.pause("a")

        inbox.attach("a", receiver)
        inbox.pause("a")
        inbox.pause("unknown")
        inbox.resume("unknown")
        assert [inbox.put("a", p) for p in (b"1", b"2", b"x")] == [True, True, False]
        inbox.resume("a")
        inbox.put("a", b"3")
        inbox.put("a", b"4")
        assert got == ["1", "2", "3"]
        inbox.resume("a")
        assert got == ["1", "2", "3", "4"]

    async def test_put_from_inside_the_receiver_comes_after(self) -> None:
        inbox = make()
        got: list[str] = []

        def receiver(message: dict[str, Any]) -> None:
            if len(message["p"]) < 3:
                inbox.put("a", (message["p"] + "x").encode())
                inbox.fan_out(["a"], (message["p"] + "y").encode())
            got.append(message["p"])

        inbox.attach("a", receiver)
        inbox.put("a", b"1")
        assert got == ["1", "1x", "1y", "1xx", "1xy", "1yx"]  # the last one found the name full
        assert inbox.counts()["pending"] == 0

    async def test_failing_receiver(self, caplog: pytest.LogCaptureFixture) -> None:
        inbox = make()
        got: list[Any] = []
        inbox.attach("bad", lambda message: 1 / 0)
        inbox.attach("good", got.append)
        assert inbox.fan_out(["bad", "good"], b"1") == 0
        assert got == [{"p": "1"}]
        [record] = caplog.records
        assert (record.name, record.levelno) == ("fastchannels.layer", logging.ERROR)
        assert "'bad'" in record.getMessage()
        assert record.exc_info is not None

    async def test_undecodable_is_dropped(self) -> None:
        inbox = make()
        got: list[Any] = []
        inbox.attach("a", got.append)
        inbox.attach("b", got.append)
        inbox.put("a", b"junk")
        inbox.fan_out(["a", "b"], b"junk")
        inbox.pause("a")
        inbox.put("a", b"junk")
        inbox.put("a", b"1")
        inbox.resume("a")
        assert got == [{"p": "1"}]

    async def test_fan_out_decodes_once(self) -> None:
        calls: list[bytes] = []

        def counting(payload: bytes) -> dict[str, Any]:
            calls.append(payload)
            return {"p": payload}

        inbox = make(decode=counting, capacity=1)
        got: list[dict[str, Any]] = []
        names = [f"n{n}" for n in range(10)]
        for name in names:
            inbox.attach(name, got.append)
        inbox.pause("n3")
        inbox.put("queue", b"before")
        assert inbox.fan_out([*names, "queue", "empty"], b"x") == 1
        assert len(got) == 9
        inbox.resume("n3")
        assert len(got) == 10
        assert all(message is got[0] for message in got)
        assert calls == [b"x"]
        assert inbox.get("empty") == b"x"
        inbox.pause("n3")
        inbox.fan_out(["n3"], b"y")
        assert inbox.get("n3") == b"y"
        assert inbox.fan_out(names, b"z", 60.0) == 0
        assert inbox.counts()["expired"] == 10

    async def test_from_a_thread_runs_on_the_loop_that_attached(self) -> None:
        inbox = make(capacity=10_000)
        got: list[tuple[str, Any]] = []
        done = asyncio.Event()
        home = threading.get_ident()

        def receiver(name: str) -> Callable[[dict[str, Any]], None]:
            def receive(message: dict[str, Any]) -> None:
                assert threading.get_ident() == home
                got.append((name, message["p"]))
                if message["p"] == "end":
                    done.set()

            return receive

        for name in "ab":
            inbox.attach(name, receiver(name))

        def run() -> None:
            for n in range(1000):
                inbox.put("a", b"%d" % n)
                inbox.fan_out(["a", "b"], b"g%d" % n)
            inbox.put("a", b"end")

        task = asyncio.create_task(asyncio.to_thread(run))
        await asyncio.wait_for(done.wait(), DEADLINE)
        await task
        to_a = [p for name, p in got if name == "a"]
        assert to_a == [p for n in range(1000) for p in (str(n), f"g{n}")] + ["end"]
        assert [p for name, p in got if name == "b"] == [f"g{n}" for n in range(1000)]

    async def test_receiver_of_a_closed_loop(self) -> None:
        inbox = make()

        async def attach() -> None:
            inbox.attach("a", print)

        await asyncio.to_thread(lambda: asyncio.run(attach()))
        assert inbox.put("a", b"1")
        assert not inbox.is_watched("a")
        assert inbox.get("a") == b"1"

    async def test_close(self) -> None:
        clock = Clock()
        inbox = make(clock=clock, expiry=10)
        got: list[Any] = []
        inbox.attach("a", got.append)
        inbox.pause("a")
        inbox.put("a", b"1")
        inbox.close("a")
        assert not inbox.put("a", b"2")
        assert inbox.fan_out(["a"], b"3") == 0
        assert inbox.counts()["closed"] == 3
        assert len(inbox) == 0
        clock.now += 11
        inbox.purge()
        assert not inbox.is_closed("a")
        inbox.attach("a", got.append)
        inbox.put("a", b"4")
        assert got == [{"p": "4"}]

    async def test_closing_again_counts_from_the_last_time(self) -> None:
        clock = Clock()
        inbox = make(clock=clock, expiry=10)
        inbox.close("a")
        inbox.close("b")
        clock.now += 5
        inbox.close("a")
        clock.now += 6
        inbox.purge()
        assert (inbox.is_closed("a"), inbox.is_closed("b")) == (True, False)

    async def test_closed_names_are_bounded(self) -> None:
        inbox = make()
        for n in range(66_000):
            inbox.close(str(n))
        assert not inbox.is_closed("0")
        assert inbox.is_closed("65999")
        assert inbox.is_closed(str(66_000 - 65_536))

    async def test_close_inside_the_receiver(self) -> None:
        inbox = make()
        got: list[Any] = []

        def receiver(message: dict[str, Any]) -> None:
            got.append(message["p"])
            inbox.close("a")

        inbox.put("a", b"1")
        inbox.put("a", b"2")
        inbox.attach("a", receiver)
        inbox.put("a", b"3")
        assert got == ["1"]
        assert inbox.counts()["closed"] == 2

    async def test_interrupted_receiver_loses_nothing(self) -> None:
        inbox = make()
        got: list[Any] = []

        def receiver(message: dict[str, Any]) -> None:
            got.append(message["p"])
            if message["p"] == "1":
                raise SystemExit

        inbox.put("a", b"1")
        inbox.put("a", b"2")
        with pytest.raises(SystemExit):
            inbox.attach("a", receiver)
        await asyncio.sleep(0)
        assert got == ["1", "2"]

    async def test_garbage_is_collected(self) -> None:
        class Socket:
            def __init__(self, inbox: Inbox) -> None:
                self.inbox = inbox
                inbox.attach("a", self.receive)

            def receive(self, message: dict[str, Any]) -> None: ...

        alive = weakref.ref(Socket(make()))
        gc.collect()
        assert alive() is None


def test_options_are_required() -> None:
    with pytest.raises(TypeError):
        Inbox()  # type: ignore[call-arg]
    inbox = Inbox(capacity_of=lambda channel: 1, expiry=5, decode=json.loads)
    assert inbox.expiry == 5
    with pytest.raises(TypeError):
        inbox.put("a", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        inbox.put("a", None)  # type: ignore[arg-type]
