"""The protocol server: it holds the sockets, and hands what they say to an ASGI application or to a channel layer."""
