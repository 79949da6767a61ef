"""Who the client is behind proxies: lists, ports, schemes, and who is believed."""

from __future__ import annotations

import pytest

from fastchannels.exceptions import UsageError
from fastchannels.server.proxy import ProxyHeaders, TrustedAddresses
from tests.server.support import connect, serving

LOOPBACK = ("127.0.0.1", 4000)


def resolve(headers, peer=LOOPBACK, trusted=("127.0.0.0/8", "::1", "unix", "10.0.0.0/8"), scheme="http", host=None):
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    proxy = ProxyHeaders(TrustedAddresses(trusted), host or "X-Forwarded-For", "X-Forwarded-Port")
    return proxy.resolve(peer, scheme, pairs)


FOR, PORT, PROTO = "X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"


class TestTrusted:
    def test_entries(self):
        trusted = TrustedAddresses(["127.0.0.1, 10.0.0.0/8", "fd00::/8", "[::1]", "unix"])
        for host in ("127.0.0.1", "10.255.0.1", "fd00::5", "::1", "::ffff:10.1.1.1", None):
            assert host in trusted
        for host in ("127.0.0.2", "11.0.0.1", "::2", "nonsense", ""):
            assert host not in trusted
            assert host not in trusted, "also when it is remembered"

    def test_all_and_none(self):
        assert None in TrustedAddresses("*")
        assert "1.2.3.4" in TrustedAddresses(["*"])
        assert None not in TrustedAddresses([])

    def test_nonsense(self):
        with pytest.raises(UsageError, match=r"'10\.0\.0\.300' is no address"):
            TrustedAddresses(["10.0.0.300"])


class TestResolve:
    @pytest.mark.parametrize(
        ("value", "client"),
        [
            ("1.2.3.4", ("1.2.3.4", 0)),
            ("1.2.3.4:99", ("1.2.3.4", 99)),
            ("2001:db8::1", ("2001:db8::1", 0)),
            ("[2001:db8::1]", ("2001:db8::1", 0)),
            ("[2001:DB8::1]:443", ("2001:db8::1", 443)),
            ("6.6.6.6, 1.2.3.4", ("1.2.3.4", 0)),
            ("6.6.6.6, 1.2.3.4, 10.0.0.1", ("1.2.3.4", 0)),
            ("10.0.0.2, 10.0.0.1", ("10.0.0.2", 0)),
            ("unknown", LOOPBACK),
            ("6.6.6.6, _hidden, 10.0.0.1", ("10.0.0.1", 0)),
            ("", LOOPBACK),
            ("<script>", LOOPBACK),
        ],
    )
    def test_addresses(self, value, client):
        assert resolve([(FOR, value)]) == (client, "http")

    def test_repeated_lines_are_one_list(self):
        assert resolve([(FOR, "6.6.6.6"), (FOR, "1.2.3.4, 10.0.0.1")])[0] == ("1.2.3.4", 0)

    @pytest.mark.parametrize(
        ("port", "result"), [("81", 81), (" 81 ", 81), ("-1", 0), ("65536", 0), ("x", 0), ("", 0), ("²", 0)]
    )
    def test_port(self, port, result):
        assert resolve([(PORT, port), (FOR, "1.2.3.4")])[0] == ("1.2.3.4", result)
        assert resolve([(PORT, port), (FOR, "1.2.3.4:5")])[0] == ("1.2.3.4", 5)

    def test_a_port_alone_changes_nothing(self):
        assert resolve([(PORT, "81")])[0] == LOOPBACK

    @pytest.mark.parametrize(
        ("value", "scheme"),
        [("https", "https"), ("WSS", "https"), ("ws", "http"), ("gopher", "http"), ("https, http", "http")],
    )
    def test_scheme(self, value, scheme):
        assert resolve([(PROTO, value)])[1] == scheme
        assert resolve([(PROTO, value), (FOR, "1.2.3.4")])[1] == scheme

    def test_a_scheme_for_each_address(self):
        headers = [(FOR, "6.6.6.6, 1.2.3.4, 10.0.0.1"), (PROTO, "http, https, http")]
        assert resolve(headers) == (("1.2.3.4", 0), "https")

    def test_tls_may_be_told_to_be_plain(self):
        assert resolve([(PROTO, "http")], scheme="https")[1] == "http"
        assert resolve([], scheme="https")[1] == "https"

    def test_strangers_are_not_believed(self):
        stranger = ("9.9.9.9", 1)
        assert resolve([(FOR, "1.2.3.4"), (PROTO, "https")], peer=stranger) == (stranger, "http")

    def test_unix_socket(self):
        assert resolve([(FOR, "1.2.3.4")], peer=None)[0] == ("1.2.3.4", 0)
        assert resolve([(FOR, "1.2.3.4")], peer=None, trusted=["127.0.0.1"])[0] is None

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("for=1.2.3.4;proto=https", (("1.2.3.4", 0), "https")),
            ('For="[2001:db8::1]:47";Proto=https;by=10.0.0.1', (("2001:db8::1", 47), "https")),
            ("for=6.6.6.6, for=1.2.3.4;proto=https , for=10.0.0.1;proto=http", (("1.2.3.4", 0), "https")),
            ('for="6.6.6.6, for=7.7.7.7"', (LOOPBACK, "http")),
            ('for="unterminated', (LOOPBACK, "http")),
            ("for=_hidden", (LOOPBACK, "http")),
        ],
    )
    def test_forwarded(self, value, expected):
        assert resolve([("Forwarded", value), (PROTO, "wss")], host="Forwarded") == expected


class TestServer:
    @pytest.mark.parametrize(
        ("options", "client", "scheme"),
        [
            ({"proxy_headers": True}, ["2001:db8::1", 77], "https"),
            ({"proxy_headers": True, "forwarded_allow_ips": ["10.0.0.1"]}, None, "http"),
            ({}, None, "http"),
        ],
    )
    async def test_scope(self, options, client, scheme):
        scopes = []

        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                raise NotImplementedError
            scopes.append(scope)
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body"})

        async with serving(application, **options) as server, connect(server) as raw:
            own = list(raw.writer.get_extra_info("sockname")[:2])
            forwarded = ("X-Forwarded-For: 6.6.6.6, 2001:db8::1", "X-Forwarded-Port: 77", "X-Forwarded-Proto: https")
            await raw.get("/", *forwarded)
            await raw.get("/")
            upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
            await raw.get("/", *forwarded, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        assert [(list(scope["client"]), scope["scheme"]) for scope in scopes] == [
            (client or own, scheme),
            (own, "http"),
            (client or own, {"https": "wss", "http": "ws"}[scheme]),
        ], "also that the next request of the connection does not inherit it"
