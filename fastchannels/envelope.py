"""The reserved keys by which a protocol server and its workers speak of one socket's event (design section 6).

The server adds ``EVENT``, and ``SESSION`` when the socket has one, to each message of a socket. The worker answers on
the reply channel with one message that holds ``ACK`` (the number it got under ``EVENT``), ``REPLIES`` (the messages
that the consumer left for this socket after its last other send) and ``SESSION`` when the session changed. While a
consumer runs for long the worker sends ``BUSY`` with the same number, so that the server can tell a slow worker from a
dead one. ``ABORT`` ends a response that its consumer will not complete, and a socket whose consumer failed.

When a worker died with an event, the server sends the event again with ``REDELIVERED``; a worker whose route does not
ask for that acknowledges it with ``LOST``, without running the consumer a second time.

An application message may not use these keys: they start with two underscores, as ``__asgi_channel__`` does.
"""

from typing import Final

EVENT: Final = "__event__"
SESSION: Final = "__session__"
ACK: Final = "__ack__"
REPLIES: Final = "__replies__"
BUSY: Final = "__busy__"
ABORT: Final = "__abort__"
REDELIVERED: Final = "__redelivered__"
LOST: Final = "__lost__"
ASGI_CHANNEL: Final = "__asgi_channel__"
#: All of them.
KEYS: Final = (EVENT, SESSION, ACK, REPLIES, BUSY, ABORT, REDELIVERED, LOST, ASGI_CHANNEL)

#: The ASGI extension, and the event of an application, by which the server takes over ready messages to a socket:
#: ``channel``, a process-local name that the application reads, of ``channel_layer``.
NATIVE: Final = "fastchannels.native"

#: Channels on which a protocol server puts what its clients did: one event at a time of each socket, so between two
#: messages on them there is no order to keep.
EVENT_CHANNELS: Final = frozenset({"http.request", "websocket.connect", "websocket.receive", "websocket.disconnect"})

#: Seconds between two ``BUSY`` notes of a running consumer.
BUSY_INTERVAL: Final = 1.0
