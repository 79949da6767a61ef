"""``fastchannels status`` and ``fastchannels flush``: what the shared segment of the local layer holds.

Both register as one more process while they look, and give that place back. Exit status: 0, 1 when the segment cannot
be used (another version, damaged, not ours), 2 when there is none, or several and none is named.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable

from fastchannels.exceptions import CorruptSegmentError, LayerUnavailable
from fastchannels.layers.local import LocalChannelLayer, default_path

__all__ = ["run"]

#: Channels and groups that are shown, the fullest first.
_MOST = 100


def run(command: str, path: str | None) -> int:
    """``status`` or ``flush`` of the segment in ``path``, to standard output; without it, of this user's only one."""
    program = f"fastchannels {command}"
    if path is None:
        # A project without CHANNEL_LAYERS has one of its own beside the common one.
        common = default_path()
        found = sorted(path for path in (common, *glob.glob(f"{common}-*")) if os.path.lexists(f"{path}/segment"))
        if len(found) > 1:
            print(f"{program}: name one of {' '.join(found)}", file=sys.stderr)
            return 2
        path = found[0] if found else common
    path = os.path.abspath(path)
    try:
        # Its own size: an unused segment would be replaced for another one.
        size = os.lstat(os.path.join(path, "segment")).st_size
    except OSError as error:
        print(f"{program}: {path}: no segment: {error.strerror}", file=sys.stderr)
        return 2
    layer = LocalChannelLayer(path=path, size=size)
    try:
        if command == "flush":
            before = layer._open().counts()
            layer.flush_sync()
            print(f"{path}: removed {before['messages']} messages and {before['members']} memberships")
        else:
            print("\n".join(_status(layer)))
    except (CorruptSegmentError, LayerUnavailable) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    finally:
        layer._release()
    return 0


def _status(layer: LocalChannelLayer) -> Iterable[str]:
    segment = layer._open()
    segment.keep()
    counts = segment.counts()
    queues = segment.listing(False)
    processes = [queue for queue in queues if queue[0].startswith("!") and queue[3] != os.getpid()]
    channels = [queue for queue in queues if not queue[0].startswith("!") and queue[1]]
    groups = segment.listing(True)
    wrong = segment.check()
    yield f"{layer.path}: segment of version {segment.version}, {wrong or 'whole'}"
    used = counts["room_used"] / counts["room"]
    yield f"size {counts['size']:,} bytes, {used:.1%} of the room for messages in use"
    yield (
        f"since it was made: {counts['pushed']:,} messages pushed, {counts['taken']:,} taken, {counts['expired']:,} "
        f"expired; {counts['reaped']:,} dead processes cleaned up, {counts['recovered']:,} repairs"
    )
    yield f"processes: {len(processes)}"
    for name, count, age, pid in processes:
        yield f"  pid {pid}  {name[1:]}  {count} waiting{_since(count, age)}"
    yield f"channels with messages: {len(channels)}"
    for name, count, age, _ in sorted(channels, key=lambda queue: -queue[1])[:_MOST]:
        yield f"  {name}  {count} waiting{_since(count, age)}"
    yield f"groups: {len(groups)}"
    for name, count, _, _ in sorted(groups, key=lambda group: -group[1])[:_MOST]:
        yield f"  {name}  {count} processes and ordinary channels"


def _since(count: int, age: float) -> str:
    return f", the oldest for {age:.1f} s" if count else ""
