"""Shapes in which consumers wait for each other, for themselves and for room: each ends, and each can be stopped.

A shape is run by workers in threads, and is over when its own condition holds and a message that is sent afterwards has
been handled: so nothing hangs behind it.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from fastchannels.asgi import ChannelLayerWrapper, channel_layers
from fastchannels.channel import Channel, Group
from fastchannels.exceptions import ChannelFull, ConsumeLater
from fastchannels.handler import ViewConsumer
from fastchannels.layers.local import LocalChannelLayer
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.message import Message
from fastchannels.routing import route
from fastchannels.signals import consumer_finished, consumer_started
from fastchannels.test import Client
from fastchannels.test.base import layer_in_place
from fastchannels.worker import WorkerGroup
from tests.layers import redis_server
from tests.talk import REPLY, event_content, eventually, sent

CAPACITY = 4
SLEEP = 1.0
SLEEPERS = 20


class Stage:
    """Where a shape is played: a layer whose channels hold ``CAPACITY``, and what its consumers noted."""

    def __init__(self, layer: ChannelLayerWrapper) -> None:
        self.layer = layer
        self.consumers: dict[str, Callable[..., Any]] = {}
        #: Set it before the shape begins.
        self.threads = 2
        self.notes: list[Any] = []
        self.begun = threading.Event()
        self.on_exit = contextlib.ExitStack()

    def on(self, channel: str) -> Callable[[Callable[..., Any]], None]:
        """Make a function the consumer of ``channel``."""

        def add(consumer: Callable[..., Any]) -> None:
            if inspect.iscoroutinefunction(consumer):

                async def begun_async(message: Message) -> None:
                    self.begun.set()
                    await consumer(message)

                self.consumers[channel] = begun_async
            else:

                def begun(message: Message) -> None:
                    self.begun.set()
                    consumer(message)

                self.consumers[channel] = begun

        return add

    def send(self, channel: str, *contents: dict[str, Any]) -> None:
        for content in contents or ({},):
            self.layer.send(channel, content)

    def noted(self, *notes: Any) -> bool:
        return self.notes == list(notes)


Shape = Callable[[Stage], Callable[[], Any]]
#: Name: what sets up the consumers and returns what begins; and when the shape is over.
SHAPES: dict[str, tuple[Shape, Callable[[Stage], bool]]] = {}


def shape(over: Callable[[Stage], bool]) -> Callable[[Shape], Shape]:
    def add(function: Shape) -> Shape:
        SHAPES[function.__name__] = function, over
        return function

    return add


def sends_to_itself(stage: Stage, immediately: bool) -> Callable[[], Any]:
    @stage.on("own")
    def consumer(message: Message) -> None:
        stage.notes.append(message["n"])
        if message["n"] < 50:
            Channel("own").send({"n": message["n"] + 1}, immediately=immediately)

    return lambda: stage.send("own", {"n": 0})


@shape(lambda stage: stage.noted(*range(51)))
def sends_to_its_own_channel(stage: Stage) -> Callable[[], Any]:
    return sends_to_itself(stage, immediately=False)


@shape(lambda stage: stage.noted(*range(51)))
def sends_to_its_own_channel_at_once(stage: Stage) -> Callable[[], Any]:
    return sends_to_itself(stage, immediately=True)


@shape(lambda stage: stage.notes.count("child") >= CAPACITY)
def fills_its_own_channel(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("own")
    def consumer(message: Message) -> None:
        stage.notes.append(message["kind"])
        if message["kind"] == "parent":
            for _ in range(3 * CAPACITY):
                Channel("own").send({"kind": "child"})

    return lambda: stage.send("own", {"kind": "parent"})


@shape(lambda stage: stage.notes.count("full") == 1 and stage.notes.count("child") == CAPACITY)
def fills_its_own_channel_at_once(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("own")
    def consumer(message: Message) -> None:
        if message["kind"] == "child":
            stage.notes.append("child")
            return
        try:
            while True:
                Channel("own").send({"kind": "child"}, immediately=True)
        except ChannelFull:
            stage.notes.append("full")

    return lambda: stage.send("own", {"kind": "parent"})


@shape(lambda stage: {"ping", "pong"} <= set(stage.notes) and stage.notes.count("seed") == 2 * CAPACITY)
def two_channels_full_both_ways(stage: Stage) -> Callable[[], Any]:
    def add(name: str, other: str) -> None:
        @stage.on(name)
        def consumer(message: Message) -> None:
            if message.get("seed"):
                stage.notes.append("seed")
                for _ in range(CAPACITY):
                    Channel(other).send({})
            else:
                stage.notes.append(name)

    add("ping", "pong")
    add("pong", "ping")

    def begin() -> None:
        for name in ("ping", "pong"):
            for _ in range(CAPACITY):
                eventually(lambda name=name: has_sent(stage, name, seed=True), "a message finds room")

    return begin


@shape(lambda stage: stage.noted("inner", "sent"))
def sync_in_async_in_sync(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("outer")
    def consumer(message: Message) -> None:
        async def middle() -> None:
            await sync_to_async(Channel("inner.channel").send)({"text": "held"})
            await sync_to_async(Channel("inner.channel").send, thread_sensitive=False)({"text": "from elsewhere"})

        async_to_sync(middle)()
        stage.notes.append("inner")

    @stage.on("inner.channel")
    def inner(message: Message) -> None:
        if message["text"] == "held":
            stage.notes.append("sent")

    return lambda: stage.send("outer")


@shape(lambda stage: sorted(stage.notes) == ["inner", "sent"])
def async_in_sync_in_async(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("outer")
    async def consumer(message: Message) -> None:
        async def deepest() -> None:
            await sync_to_async(Channel("inner.channel").send)({})

        await sync_to_async(async_to_sync(deepest))()
        stage.notes.append("inner")

    @stage.on("inner.channel")
    def inner(message: Message) -> None:
        stage.notes.append("sent")

    return lambda: stage.send("outer")


def waiting_view(request: HttpRequest) -> HttpResponse:
    """Has another consumer do its work, and waits for what it says."""
    layer: ChannelLayerWrapper = request.message.channel_layer  # type: ignore[attr-defined]
    Channel("work", channel_layer=layer).send({}, immediately=True)
    _, answer = layer.receive_many(["answers"], block=True, timeout=float(request.GET["patience"]))
    return HttpResponse("nothing" if answer is None else answer["text"])


urlpatterns = [path("", waiting_view)]


def view_waits(stage: Stage, threads: int, patience: float) -> Callable[[], Any]:
    stage.threads = threads
    stage.on_exit.enter_context(override_settings(ROOT_URLCONF=__name__))
    stage.on("http.request")(ViewConsumer())

    @stage.on("work")
    def work(message: Message) -> None:
        Channel("answers").send({"text": "done"})

    request = {"path": "/", "method": "GET", "reply_channel": REPLY, "query_string": f"patience={patience}"}
    return lambda: stage.send("http.request", request)


def responded(content: bytes) -> Callable[[Stage], bool]:
    def over(stage: Stage) -> bool:
        stage.notes += [reply["content"] for reply in sent(stage.layer)]
        return stage.noted(content)

    return over


@shape(responded(b"done"))
def a_view_sends_and_waits(stage: Stage) -> Callable[[], Any]:
    # Less than the workers get to end in: the one that would answer may be stopped before it took the question.
    return view_waits(stage, 2, 5.0)


@shape(responded(b"nothing"))
def a_view_waits_for_its_own_thread(stage: Stage) -> Callable[[], Any]:
    return view_waits(stage, 1, 0.5)


@shape(lambda stage: stage.noted("sent") and len(sent(stage.layer, "member.0")) == CAPACITY)
def sends_to_a_group_whose_members_are_full(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("talks")
    def consumer(message: Message) -> None:
        if "n" in message:
            return  # it is a member too
        for number in range(5):
            Group("all").send({"n": number}, immediately=number % 2 == 0)
        stage.notes.append("sent")

    def begin() -> None:
        for number in range(3):
            stage.layer.group_add("all", f"member.{number}")
            stage.send(f"member.{number}", *[{}] * CAPACITY)
        stage.layer.group_add("all", "talks")
        stage.send("talks")

    return begin


@shape(lambda stage: len(stage.notes) == SLEEPERS and max(stage.notes) - min(stage.notes) < SLEEP)
def sleeps_in_every_thread(stage: Stage) -> Callable[[], Any]:
    stage.threads = SLEEPERS

    @stage.on("sleeper")
    def consumer(message: Message) -> None:
        time.sleep(SLEEP)
        stage.notes.append(time.monotonic())

    def begin() -> None:
        for _ in range(SLEEPERS):
            eventually(lambda: has_sent(stage, "sleeper"), "a message finds room")

    return begin


@shape(lambda stage: stage.noted("event", "plain") and len(sent(stage.layer)) >= CAPACITY)
def fills_its_own_reply_channel(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("websocket.receive")
    def consumer(message: Message) -> None:
        for number in range(3 * CAPACITY):
            # The last other send comes before the last replies: all the others leave one by one.
            message.reply_channel.send({"text": str(number)})
        Channel("elsewhere").send({})
        stage.notes.append("event" if message.event is not None else "plain")

    def begin() -> None:
        stage.send("websocket.receive", event_content(1, text="x"), {"reply_channel": REPLY, "path": "/"})

    return begin


@shape(lambda stage: "again" in stage.notes and stage.notes.count("other") >= CAPACITY)
def comes_later_to_a_full_channel(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("later")
    def consumer(message: Message) -> None:
        if "first" not in message:
            stage.notes.append("other")
            return
        stage.notes.append("again" if message.get("__retries__") else "first")
        if message.get("__retries__", 0) < 2:
            with contextlib.suppress(ChannelFull):
                # At first there is one place for it; then, there is none.
                for _ in range(CAPACITY - 1 if not message.get("__retries__") else CAPACITY):
                    Channel("later").send({}, immediately=True)
            raise ConsumeLater

    return lambda: stage.send("later", {"first": True})


@shape(lambda stage: stage.noted("first", "taken by hand", "nothing"))
def waits_for_messages_of_its_own(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("own")
    def consumer(message: Message) -> None:
        layer = message.channel_layer
        stage.notes.append(message["text"])
        Channel("own").send({"text": "taken by hand"}, immediately=True)
        _, taken = layer.receive_many(["own"], block=True, timeout=10)
        assert taken is not None
        stage.notes.append(taken["text"])
        # Held until this consumer ends: it cannot come before.
        Channel("held").send({})
        _, taken = layer.receive_many(["held"], block=True, timeout=0.3)
        stage.notes.append("nothing" if taken is None else taken)

    return lambda: stage.send("own", {"text": "first"})


@shape(lambda stage: sorted(stage.notes) == ["consumer", "finished", "started"])
def sends_from_receivers_of_signals(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1
    once = {"started", "finished"}

    def receiver(name: str) -> Callable[..., None]:
        def receive(**kwargs: Any) -> None:
            if name in once:
                once.discard(name)
                Channel("told").send({"by": name})

        return receive

    for name, signal in (("started", consumer_started), ("finished", consumer_finished)):
        function = receiver(name)
        signal.connect(function)
        stage.on_exit.callback(signal.disconnect, function)
        stage.on_exit.callback(lambda function=function: function)  # signals hold their receivers weakly

    @stage.on("told")
    def told(message: Message) -> None:
        stage.notes.append(message["by"])

    @stage.on("begins")
    def consumer(message: Message) -> None:
        stage.notes.append("consumer")

    return lambda: stage.send("begins")


@shape(lambda stage: stage.noted("inner", "reply", "outer", "later"))
def runs_another_consumer_inside(stage: Stage) -> Callable[[], Any]:
    stage.threads = 1

    @stage.on("outer")
    def outer(message: Message) -> None:
        Channel("later").send({})
        client = Client()
        client.send("nested", {})
        client.consume("nested")
        reply = client.receive()
        stage.notes.append(reply["text"])
        stage.notes.append("outer")

    def nested(message: Message) -> None:
        stage.notes.append("inner")
        message.reply_channel.send({"text": "reply"})

    stage.consumers["nested"] = nested

    @stage.on("later")
    def later(message: Message) -> None:
        stage.notes.append("later")

    return lambda: stage.send("outer")


def has_sent(stage: Stage, channel: str, **content: Any) -> bool:
    try:
        stage.layer.send(channel, content)
        return True
    except ChannelFull:
        return False


@contextlib.contextmanager
def make_stage(kind: str, folder: Path) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        layer: Any
        if kind == "memory":
            layer = InMemoryChannelLayer(capacity=CAPACITY)
        elif kind == "local":
            layer = LocalChannelLayer(capacity=CAPACITY, path=folder / "layer", size=4 * 1024 * 1024)
        else:
            server = stack.enter_context(redis_server.running(folder))
            layer = RedisChannelLayer(capacity=CAPACITY, hosts=[server.url])
        wrapper = ChannelLayerWrapper(layer, "default", [])
        stack.enter_context(layer_in_place("default", wrapper))
        assert channel_layers["default"] is wrapper
        stack.callback(wrapper.close)
        stage = Stage(wrapper)
        with stage.on_exit:
            yield stage


@contextlib.contextmanager
def working(stage: Stage) -> Iterator[WorkerGroup]:
    """Workers in threads; they must end within ten seconds of being told."""
    stage.on("end")(lambda message: ended.append(True))
    ended: list[bool] = []
    # Of "nested" no worker shall take the messages: the consumer that sends them does.
    stage.layer.routing = [route(channel, consumer) for channel, consumer in stage.consumers.items()]
    group = WorkerGroup(
        stage.layer, n_threads=stage.threads, signal_handlers=False, shutdown_timeout=8, exclude_channels=["nested"]
    )
    failed: list[BaseException] = []

    def run() -> None:
        try:
            group.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="group", daemon=True)
    thread.start()
    group.ended = ended  # type: ignore[attr-defined]
    try:
        yield group
    finally:
        group.stop()
        thread.join(10)
    assert not thread.is_alive(), "the workers do not stop"
    assert not failed


ON_REDIS = ("two_channels_full_both_ways", "sleeps_in_every_thread")
CASES = [(name, kind) for name in SHAPES for kind in ("memory", "local")] + [(name, "redis") for name in ON_REDIS]
each_shape = pytest.mark.parametrize(("name", "kind"), CASES)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the shapes that wait for it do not take minutes together."""
    monkeypatch.setattr("fastchannels.channel.FLUSH_PATIENCE", 0.4)
    monkeypatch.setattr("fastchannels.worker.RECEIVE_TIMEOUT", 0.1)


@each_shape
def test_it_ends_and_nothing_hangs_behind_it(name: str, kind: str, tmp_path: Path) -> None:
    function, over = SHAPES[name]
    with make_stage(kind, tmp_path) as stage:
        begin = function(stage)
        with working(stage) as group:
            begun = time.monotonic()
            begin()
            eventually(lambda: over(stage), f"{name} ends: {stage.notes}", 15)
            if name == "sleeps_in_every_thread":
                assert time.monotonic() - begun < 2 * SLEEP
            eventually(lambda: has_sent(stage, "end"), "a message finds room", 10)
            eventually(lambda: group.ended, "the next message is handled", 10)  # type: ignore[attr-defined]


@each_shape
def test_workers_stop_in_the_middle_of_it(name: str, kind: str, tmp_path: Path) -> None:
    function, _ = SHAPES[name]
    with make_stage(kind, tmp_path) as stage:
        begin = function(stage)
        with working(stage):
            begin()
            assert stage.begun.wait(10)
        assert not any(thread.name.startswith("fastchannels-worker") for thread in threading.enumerate())
