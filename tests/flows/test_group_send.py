"""The second walk: a group message from one worker to sockets of several server processes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.flows.processes import EXAMPLES, Site, free_port
from tests.flows.talker import talker


async def test_a_room_spans_server_processes(tmp_path: Path) -> None:
    site = Site(EXAMPLES / "talk", tmp_path / "layer")
    one, two = free_port(), free_port()
    with site.server(one), site.server(two), site.workers(2):
        async with talker(one, "Ada") as ada, talker(two, "Ben") as ben:
            await ada.hear(type="join", name="Ben")
            ref = await ada.say("Hello over there")
            assert (await ben.hear(type="message", ref=ref))["text"] == "Hello over there"
            ref = await ben.say("Hello to you")
            assert (await ada.hear(type="message", ref=ref))["name"] == "Ben"


async def test_every_member_hears_each_message_once_and_in_order(tmp_path: Path) -> None:
    site = Site(EXAMPLES / "talk", tmp_path / "layer")
    one, two = free_port(), free_port()
    with site.server(one), site.server(two), site.workers(2):
        async with contextlib.AsyncExitStack() as room:
            people = [await room.enter_async_context(talker((one, two)[n % 2], f"p{n}")) for n in range(20)]
            said = [await people[0].say(str(number)) for number in range(20)]
            for person in people:
                heard = [(await person.hear(type="message"))["ref"] for _ in said]
                assert heard == said
            last = await people[1].say("the last")
            # The next message that anyone hears is this one: nothing came twice.
            for person in people:
                assert (await person.hear(type="message"))["ref"] == last


async def test_rooms_do_not_hear_each_other(tmp_path: Path) -> None:
    site = Site(EXAMPLES / "talk", tmp_path / "layer")
    port = free_port()
    with site.server(port), site.workers(1):
        async with talker(port, "Ada", "tea") as ada, talker(port, "Ben", "coffee") as ben:
            await ben.hear(type="message", ref=await ben.say("not for tea"))
            ref = await ada.say("for tea")
            assert (await ada.next())["ref"] == ref
