"""The server-side scripts: each is one round trip, and no check is apart from its act."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Script:
    """Source text and the digest that ``EVALSHA`` takes."""

    source: str
    digest: str


def _load(name: str) -> Script:
    files = resources.files(__name__)
    source = (files / "common.lua").read_text("utf-8") + "\n" + (files / f"{name}.lua").read_text("utf-8")
    return Script(source, hashlib.sha1(source.encode("utf-8"), usedforsecurity=False).hexdigest())


QUEUE_SEND = _load("queue_send")
INBOX_SEND = _load("inbox_send")
GROUP_SEND = _load("group_send")
JOIN_PROCESS = _load("join_process")
JOIN_CHANNEL = _load("join_channel")
LEAVE_PROCESS = _load("leave_process")
HEARTBEAT = _load("heartbeat")
COMPAT_SEND = _load("compat_send")
COMPAT_JOIN = _load("compat_join")
COMPAT_MEMBERS = _load("compat_members")

ALL = (
    *(QUEUE_SEND, INBOX_SEND, GROUP_SEND, JOIN_PROCESS, JOIN_CHANNEL, LEAVE_PROCESS, HEARTBEAT),
    *(COMPAT_SEND, COMPAT_JOIN, COMPAT_MEMBERS),
)
