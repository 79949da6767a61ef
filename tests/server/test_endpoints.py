"""Endpoint strings: what they mean, and which part is wrong."""

from __future__ import annotations

import os

import pytest

from fastchannels.server.config import Config
from fastchannels.server.endpoints import Endpoint, EndpointError, endpoints_of, parse_endpoint
from fastchannels.server.tls import TlsFiles


def place(**values):
    return Endpoint(**{"backlog": 2048, **values})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:port=8000:interface=127.0.0.1", place(host="127.0.0.1", port=8000)),
        ("tcp:8000", place(port=8000)),
        ("tcp:8000:127.0.0.1", place(host="127.0.0.1", port=8000)),
        ("tcp:0:backlog=5", place(port=0, backlog=5)),
        (r"tcp:port=8000:interface=\:\:1", place(host="::1", port=8000)),
        (r"tcp:port=8000:interface=[\:\:1]", place(host="::1", port=8000)),
        ("unix:/run/s", place(path="/run/s")),
        ("unix:address=/run/s:mode=660", place(path="/run/s", mode=0o660)),
        (r"unix:/a\:b\=c\\d:lockfile=0", place(path="/a:b=c\\d")),
        ("fd:fileno=5", place(fd=5)),
        ("fd:5", place(fd=5)),
        (
            "ssl:443:privateKey=k.pem:certKey=c.pem",
            place(port=443, tls=TlsFiles(certificate="c.pem", key="k.pem")),
        ),
        (
            "ssl:443:privateKey=both.pem:interface=10.0.0.1",
            place(host="10.0.0.1", port=443, tls=TlsFiles(certificate="both.pem", key="both.pem")),
        ),
        (
            "ssl:port=443:privateKey=k:certKey=c:extraCertChain=x:dhParameters=d",
            place(port=443, tls=TlsFiles(certificate="c", key="k", chain="x", dh_parameters="d")),
        ),
    ],
)
def test_meaning(text, expected):
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpc:80", "'tpc' is none of tcp, ssl, unix, fd, systemd"),
        ("", "'' is none of tcp"),
        ("tcp=80", "is none of"),
        ("tcp", "port= is missing"),
        ("tcp:x", "'port=x': a whole number from 0 to 65535 is needed"),
        ("tcp:70000", "'port=70000': a whole number from 0 to 65535 is needed"),
        ("tcp:-1", "'port=-1'"),
        ("tcp:80:prt=1", "'prt': tcp has no such key; did you mean port?"),
        ("tcp:80:zzz=1", "'zzz': tcp has no such key; did you mean port, interface, backlog?"),
        ("tcp:80:a:b", "'b': there are 2 values at most without a key"),
        ("tcp:80:port=81", "'port': it is there twice"),
        ("tcp:80:backlog=0", "'backlog=0': a whole number from 1"),
        ("tcp:port=80:interface=::1", "there are 2 values at most"),
        ("unix:", "address= is missing"),
        ("unix:/s:mode=9", "'mode=9': permissions in octal"),
        ("fd:fileno=x", "'fileno=x'"),
        ("ssl:443", "privateKey= is missing"),
        ("ssl:443:privateKey=k:sslmethod=SSLv23_METHOD", "'sslmethod': TLS 1.2 and newer"),
        ("systemd:domain=INET:index=0", "'index=0': systemd gave no sockets: LISTEN_FDS and LISTEN_PID"),
        ("systemd:domain=INET", "index= is missing"),
        ("tcp:80\\", "the backslash at its end"),
    ],
)
def test_which_part_is_wrong(text, message):
    with pytest.raises(EndpointError) as error:
        parse_endpoint(text)
    assert message in str(error.value)
    assert repr(text) in str(error.value)


def test_sockets_of_systemd(monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "web:admin")
    assert parse_endpoint("systemd:domain=INET:index=1") == place(fd=4)
    assert parse_endpoint("systemd:INET:name=web") == place(fd=3)
    with pytest.raises(EndpointError, match="'index=2': systemd gave 2: web, admin"):
        parse_endpoint("systemd:INET:2")
    with pytest.raises(EndpointError, match="'name=x': systemd gave 2: web, admin"):
        parse_endpoint("systemd:INET:name=x")


def test_everything_that_a_configuration_names():
    config = Config(host="[::1]", port=1, uds="/s", uds_mode=0o600, fd=7, endpoints=["tcp:2"], backlog=9)
    assert [str(endpoint) for endpoint in endpoints_of(config)] == ["file descriptor 7", "/s", "[::1]:1", "*:2"]
    assert all(endpoint.backlog == 9 for endpoint in endpoints_of(config))
    assert endpoints_of(config)[1].mode == 0o600
    assert endpoints_of(Config(port=None)) == []


def test_tls_of_a_configuration_is_not_for_its_endpoint_strings():
    config = Config(
        ssl_certfile="c",
        ssl_keyfile="k",
        ssl_keyfile_password="p",
        ssl_ca_certs="a",
        ssl_cert_reqs="required",
        ssl_ciphers="x",
        endpoints=["tcp:2"],
    )
    first, second = endpoints_of(config)
    assert first.tls == TlsFiles(
        certificate="c", key="k", password="p", client_authorities="a", client_certificate="required", ciphers="x"
    )
    assert second.tls is None
