"""Every option of a channel layer and of Django's settings that fastchannels reads, with its default."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from fastchannels.exceptions import InvalidChannelLayerError

# Options that every layer takes in CONFIG.
EXPIRY: Final = 60  #: seconds that an unread message lives
GROUP_EXPIRY: Final = 86400  #: seconds that a membership lives when nothing refreshes it
CAPACITY: Final = 100  #: unread messages of one channel name
MAX_MESSAGE_SIZE: Final = 16 * 1024 * 1024  #: bytes of an encoded message; 0 means no limit
SERIALIZER_FORMAT: Final = "msgpack"
PREFIX: Final = "asgi"  #: of all keys in a shared store
INBOX_CAPACITY: Final = 100_000  #: unread messages that wait in the store for one process

MAX_NAME_LENGTH: Final = 100  #: a channel or group name is shorter than this

# Django settings, beside CHANNEL_LAYERS.
SETTING_ROUTING: Final = "FASTCHANNELS_ROUTING"
SETTING_SESSION_ENGINE: Final = "CHANNEL_SESSION_ENGINE"  #: keeps channel sessions; default: carried with the events
SETTING_SEND_ON_COMMIT: Final = "FASTCHANNELS_SEND_ON_COMMIT"  #: messages wait for the commit; default False
SETTING_TICKET_AGE: Final = "FASTCHANNELS_TICKET_AGE"
TICKET_AGE: Final = 30  #: seconds that a ticket for a socket is good
SETTING_ORIGIN_CHECK: Final = "FASTCHANNELS_ORIGIN_CHECK"  #: refuse sockets of pages of other sites; default True
SETTING_FAST_DISPATCH: Final = "FASTCHANNELS_FAST_DISPATCH"  #: Channels 4 consumers: no needless hop; default True
SETTING_STRICT_1X: Final = "FASTCHANNELS_STRICT_1X"  #: the rules of Channels 1.x where ours are kinder; default False
SETTING_SESSION_KEY_IN_QUERY: Final = "FASTCHANNELS_SESSION_KEY_IN_QUERY"  #: ?session_key= names a session too


def reject_unknown_options(backend: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``InvalidChannelLayerError`` naming the first unknown option and the nearest known one."""
    names = sorted(known)
    for option in unknown:
        near = difflib.get_close_matches(option, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}."
        raise InvalidChannelLayerError(f"{backend} has no CONFIG option {option!r}: {hint}")
