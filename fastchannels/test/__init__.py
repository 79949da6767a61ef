"""Tests of consumers: test cases with a layer of their own, and clients that stand for a socket."""

from fastchannels.test.base import ChannelTestCase, Client, TransactionChannelTestCase, apply_routes
from fastchannels.test.http import HttpClient
from fastchannels.test.liveserver import ChannelLiveServerTestCase
from fastchannels.test.websocket import WSClient

__all__ = [
    "ChannelLiveServerTestCase",
    "ChannelTestCase",
    "Client",
    "HttpClient",
    "TransactionChannelTestCase",
    "WSClient",
    "apply_routes",
]
