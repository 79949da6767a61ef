"""The server-side scripts: each is one round trip, and no check is apart from its act."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from fastchannels.layers.redis.outage import ProtocolBroken


@dataclass(frozen=True)
class Script:
    """Source text, the digest that ``EVALSHA`` takes, and the type of the answer; an answer of bytes is of digits."""

    source: str
    digest: str
    answer: type = object

    def check(self, reply: Any) -> None:
        """Raise ``ProtocolBroken`` for a reply that cannot be an answer of this script."""
        fits = isinstance(reply, self.answer)
        if isinstance(reply, bytes) and self.answer is bytes:
            fits = reply.isdigit()
        if not fits:
            raise ProtocolBroken(f"{reply!r:.80} is no answer of the script that was called")


def _load(name: str, answer: type = object) -> Script:
    files = resources.files(__name__)
    source = (files / "common.lua").read_text("utf-8") + "\n" + (files / f"{name}.lua").read_text("utf-8")
    return Script(source, hashlib.sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest(), answer)


QUEUE_SEND = _load("queue_send", bytes)
INBOX_SEND = _load("inbox_send", bytes)
GROUP_SEND = _load("group_send", list)
ANNOUNCE = _load("announce", bytes)
JOIN_PROCESS = _load("join_process", bytes)
JOIN_CHANNEL = _load("join_channel", int)
LEAVE_PROCESS = _load("leave_process", int)
HEARTBEAT = _load("heartbeat", int)
INSIST = _load("insist", int)
TALLY = _load("tally", int)
COMPAT_SEND = _load("compat_send")
COMPAT_JOIN = _load("compat_join")
COMPAT_MEMBERS = _load("compat_members")

ALL = (
    *(QUEUE_SEND, INBOX_SEND, GROUP_SEND, ANNOUNCE, JOIN_PROCESS, JOIN_CHANNEL, LEAVE_PROCESS, HEARTBEAT, INSIST),
    *(TALLY, COMPAT_SEND, COMPAT_JOIN, COMPAT_MEMBERS),
)
