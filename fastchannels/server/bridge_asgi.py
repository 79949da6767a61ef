"""Runs an ASGI 3 application for each request and each socket (ASGI HTTP & WebSocket 2.5)."""

from __future__ import annotations

from fastchannels._core.exchange import Served
from fastchannels._core.fanout import Fanout
from fastchannels.server.asgi_http import AsgiHttp
from fastchannels.server.asgi_scope import Application, single_callable
from fastchannels.server.asgi_websocket import AsgiWebSocket
from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier, HttpStream
from fastchannels.server.websocket_stream import WebSocketStream


class AsgiBridge(Served):
    """Makes the streams that run ``application``. ``state`` is set when its lifespan has started."""

    def __init__(self, context: Context, application: Application) -> None:
        self.context = context
        self.application = single_callable(application)
        self.state = None
        #: What a group's ready message to the sockets here is made into.
        self.fanout = Fanout(typed=True)

    def http(self, connection: Carrier, request: Request) -> HttpStream:
        return AsgiHttp(connection, request, self)

    def websocket(self, connection: Carrier, request: Request) -> WebSocketStream:
        return AsgiWebSocket(connection, request, self)
