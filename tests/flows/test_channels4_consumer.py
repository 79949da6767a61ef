"""The third walk: a Channels 4 consumer under our server, on our layer."""

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
    return Site(EXAMPLES / "channels4", tmp_path / "layer")


async def test_two_sockets_of_one_server_talk(site: Site) -> None:
    port = free_port()
    with site.server(port) as server:
        async with talker(port, "Ada") as ada, talker(port, "Ben") as ben:
            await ada.hear(type="join", name="Ben")
            ref = await ada.say("Hello")
            heard = await ben.hear(type="message", ref=ref)
    assert heard["text"] == "Hello"
    assert heard["process"] == server.pid


async def test_a_room_spans_server_processes(site: Site) -> None:
    one, two = free_port(), free_port()
    with site.server(one), site.server(two):
        async with talker(one, "Ada") as ada:
            async with talker(two, "Ben") as ben:
                joined = await ada.hear(type="join", name="Ben")
                said = [await ben.say(str(number)) for number in range(50)]
                assert [(await ada.hear(type="message"))["ref"] for _ in said] == said
            assert await ada.hear(type="left") == {"type": "left", "name": "Ben", "id": joined["id"]}


async def test_http_goes_to_django(site: Site) -> None:
    port = free_port()
    with site.server(port) as server:
        about = json.loads(fetch(f"http://127.0.0.1:{port}/about/"))
        assert "/static/chat/chat.js" in fetch(f"http://127.0.0.1:{port}/")
        script = fetch(f"http://127.0.0.1:{port}/static/chat/chat.js")
    assert about["process"] == server.pid
    assert script == (EXAMPLES / "shared/static/chat/chat.js").read_text()


async def test_a_consumer_that_raises_closes_its_socket_only(site: Site) -> None:
    port = free_port()
    with site.server(port) as server:
        async with talker(port, "Ada") as ada, talker(port, "Ben") as ben:
            await ben.socket.send("this is not JSON")
            assert await ben.until_closed() == 1011
            await ada.hear(type="message", ref=await ada.say("still here"))
        server.wait_for("JSONDecodeError")


async def test_a_page_of_another_site_is_refused(site: Site) -> None:
    port = free_port()
    with site.server(port):
        address = f"ws://127.0.0.1:{port}/chat/lobby/"
        with pytest.raises(InvalidStatus) as refused:
            await connect(address, origin="http://elsewhere.example", open_timeout=15, proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
