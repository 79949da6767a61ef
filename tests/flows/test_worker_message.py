"""The first walk: a WebSocket frame to a consumer in a worker process, and its reply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.flows.processes import EXAMPLES, Site, fetch, free_port
from tests.flows.talker import talker


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(EXAMPLES / "talk", tmp_path / "layer")


async def test_a_frame_reaches_a_worker_and_its_reply_comes_back(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1) as [worker]:
        async with talker(port, "Ada") as ada:
            ref = await ada.say("Hello")
            heard = await ada.hear(type="message", ref=ref)
    assert heard["text"] == "Hello"
    assert heard["name"] == "Ada"
    assert heard["process"] == worker.pid


async def test_http_is_answered_by_a_worker(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1) as [worker]:
        about = json.loads(fetch(f"http://127.0.0.1:{port}/about/"))
        page = fetch(f"http://127.0.0.1:{port}/")
        script = fetch(f"http://127.0.0.1:{port}/static/chat/chat.js")
    assert about["process"] == worker.pid
    assert "/static/chat/chat.js" in page
    assert script == (EXAMPLES / "shared/static/chat/chat.js").read_text()


async def test_one_socket_keeps_its_order_and_its_session_over_two_workers(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(2) as workers:
        async with talker(port, "Ada") as ada:
            said = [await ada.say(str(number)) for number in range(200)]
            heard = [await ada.hear(type="message") for _ in said]
    assert [frame["ref"] for frame in heard] == said
    assert {frame["name"] for frame in heard} == {"Ada"}
    assert {frame["process"] for frame in heard} <= {worker.pid for worker in workers}


async def test_the_disconnect_consumer_knows_who_left(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(2):
        async with talker(port, "Ada") as ada:
            async with talker(port, "Ben"):
                joined = await ada.hear(type="join", name="Ben")
            left = await ada.hear(type="left")
    assert left == {"type": "left", "name": "Ben", "id": joined["id"]}


async def test_frames_are_routed_by_their_text_to_the_class_consumer(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1):
        async with talker(port, "Ada") as ada, talker(port, "Ben") as ben:
            await ben.send(type="typing")
            assert (await ada.hear(type="typing"))["name"] == "Ben"


async def test_a_consumer_that_raises_leaves_the_socket_open(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1) as [worker]:
        async with talker(port, "Ada") as ada:
            await ada.socket.send("this is not JSON")
            ref = await ada.say("still here")
            await ada.hear(type="message", ref=ref)
        worker.wait_for("JSONDecodeError")


async def test_sockets_outlive_every_worker(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1) as [first]:
        async with talker(port, "Ada") as ada:
            await ada.hear(type="message", ref=await ada.say("one"))
            first.kill()
            # Nobody runs consumers now; the frame waits in the layer for the next worker.
            ref = await ada.say("two")
            with site.workers(1) as [second]:
                heard = await ada.hear(type="message", ref=ref)
                assert heard["process"] == second.pid


async def test_a_page_of_another_site_is_refused(site: Site) -> None:
    port = free_port()
    with site.server(port), site.workers(1):
        address = f"ws://127.0.0.1:{port}/chat/lobby/"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, origin="http://elsewhere.example", open_timeout=15, proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
