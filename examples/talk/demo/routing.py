from chat.consumers import Typing, ws_connect, ws_disconnect, ws_receive

from fastchannels import route, route_class

ROOM = r"^/chat/(?P<room>[A-Za-z0-9_-]{1,40})/$"

# The first match wins. A filter looks at any key of a message, and a message without that key does not match:
# Typing sees only frames whose text says so. Messages of http.request go to Django's urls and views by themselves.
channel_routing = [
    route_class(Typing, path=ROOM, text=r'^\s*{\s*"type":\s*"typing"'),
    route("websocket.connect", ws_connect, path=ROOM),
    route("websocket.receive", ws_receive, path=ROOM),
    route("websocket.disconnect", ws_disconnect, path=ROOM),
]
