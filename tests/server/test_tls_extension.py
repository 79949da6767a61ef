"""What applications see of TLS."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import websockets

from fastchannels.server.tls_extension import distinguished_name
from tests.server.certificates import Authority
from tests.server.support import DEADLINE, answer, port_of, serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


async def scope_of(authority, client, **options):
    """The scope of one request, and what the client saw of the connection."""
    scopes = []

    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        scopes.append(scope)
        await answer(send)

    certificate, key = authority.issue("localhost")
    async with serving(application, ssl_certfile=certificate, ssl_keyfile=key, **options) as server:
        reader, writer = await asyncio.open_connection("localhost", port_of(server), ssl=client)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 OK\r\n" in await asyncio.wait_for(reader.read(), DEADLINE)
        cipher = writer.get_extra_info("cipher")
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return scopes[0], cipher, ssl.DER_cert_to_PEM_cert(shown)


@pytest.mark.parametrize(("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x0303), (ssl.TLSVersion.TLSv1_3, 0x0304)])
async def test_without_a_client_certificate(authority, version, number):
    client = authority.client()
    client.minimum_version = client.maximum_version = version
    scope, cipher, shown = await scope_of(authority, client)
    assert scope["scheme"] == "https"
    tls = scope["extensions"]["tls"]
    assert {key: tls[key] for key in ("client_cert_chain", "client_cert_name", "client_cert_error")} == {
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
    }
    assert tls["tls_version"] == number
    assert tls["server_cert"] == shown
    expected = {suite["name"]: suite["id"] & 0xFFFF for suite in client.get_ciphers()}
    assert tls["cipher_suite"] == expected[cipher[0]]


async def test_with_a_client_certificate(authority):
    certificate = authority.issue("some client")
    scope, _, _ = await scope_of(
        authority, authority.client(certificate), ssl_ca_certs=str(authority.path), ssl_cert_reqs="required"
    )
    tls = scope["extensions"]["tls"]
    assert tls["client_cert_name"] == "CN=some client"
    with open(certificate[0]) as file:  # noqa: ASYNC230 - it is small
        assert tls["client_cert_chain"][0] == file.read()


async def test_of_a_socket(authority):
    scopes = []

    async def application(scope, receive, send):
        if scope["type"] != "websocket":
            raise NotImplementedError
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.close"})

    certificate, key = authority.issue("localhost")
    async with serving(application, ssl_certfile=certificate, ssl_keyfile=key) as server:
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"wss://localhost:{port_of(server)}/", ssl=authority.client())
    assert scopes[0]["scheme"] == "wss"
    assert scopes[0]["extensions"]["tls"]["tls_version"] == 0x0304
    assert "websocket.http.response" in scopes[0]["extensions"]


async def test_absent_without_tls():
    scopes = []

    async def application(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        scopes.append(scope)
        await answer(send)

    async with serving(application) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
    assert "tls" not in scopes[0]["extensions"]


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (((("countryName", "DE"),), (("organizationName", "A, B"),), (("commonName", "c"),)), r"CN=c,O=A\, B,C=DE"),
        (((("commonName", "a"), ("userId", "b")),), "CN=a+UID=b"),
        (((("commonName", "#x "),),), r"CN=\#x\ "),
        (((("1.2.3", 'q"<>;+\\'),),), r"1.2.3=q\"\<\>\;\+\\"),
        (((("commonName", " "),),), r"CN=\ "),
    ],
)
def test_names(subject, name):
    assert distinguished_name(subject) == name
