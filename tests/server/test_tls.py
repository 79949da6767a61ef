"""TLS: what is spoken, client certificates, and one line for each file that cannot be used."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from fastchannels.server.tls import TlsError, TlsFiles, tls_context
from tests.server.certificates import PASSWORD, Authority
from tests.server.support import DEADLINE, port_of, serving


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("localhost")


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


async def get(server, context):
    """The response to a request over TLS, until the server closes, and the transport's word about TLS."""
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port_of(server), ssl=context), DEADLINE
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        return answer, writer.get_extra_info("ssl_object")
    finally:
        writer.close()


async def refused(server, context):
    """The server ends it without an answer; with TLS 1.3 a client may learn of that after its own handshake only."""
    try:
        return (await get(server, context))[0] == b""
    except (ssl.SSLError, ConnectionError):
        return True


async def test_a_request(authority, pair):
    async with serving(application, ssl_certfile=pair[0], ssl_keyfile=pair[1]) as server:
        assert server.urls == [f"https://127.0.0.1:{port_of(server)}"]
        answer, tls = await get(server, authority.client())
        assert b"\r\nhttps\r\n" in answer
        assert tls.version() == "TLSv1.3"


async def test_tls_1_2_has_forward_secrecy_and_1_1_is_refused(authority, pair):
    async with serving(application, ssl_certfile=pair[0], ssl_keyfile=pair[1]) as server:
        context = authority.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        _, tls = await get(server, context)
        assert tls.version() == "TLSv1.2"
        assert tls.cipher()[0].startswith("ECDHE")
        context.set_ciphers("AES128-GCM-SHA256")
        assert await refused(server, context)
    assert tls_context(TlsFiles(certificate=pair[0], key=pair[1])).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_alpn(authority, pair):
    async with serving(application, ssl_certfile=pair[0], ssl_keyfile=pair[1]) as server:
        context = authority.client()
        context.set_alpn_protocols(["http/1.1"])
        _, tls = await get(server, context)
        assert tls.selected_alpn_protocol() == "http/1.1"


async def test_a_client_without_tls_is_cut_and_the_next_is_served(authority, pair):
    async with serving(application, ssl_certfile=pair[0], ssl_keyfile=pair[1]) as server:
        assert await refused(server, None)
        assert b"https" in (await get(server, authority.client()))[0]


class TestClientCertificates:
    @pytest.fixture
    def options(self, authority, pair):
        return {"ssl_certfile": pair[0], "ssl_keyfile": pair[1], "ssl_ca_certs": str(authority.path)}

    async def test_required(self, authority, options):
        async with serving(application, ssl_cert_reqs="required", **options) as server:
            answer, _ = await get(server, authority.client(authority.issue("client")))
            assert b"https" in answer
            assert await refused(server, authority.client())

    async def test_optional(self, authority, options):
        async with serving(application, ssl_cert_reqs="optional", **options) as server:
            assert b"https" in (await get(server, authority.client()))[0]

    async def test_of_somebody_else(self, authority, options, tmp_path):
        stranger = Authority(tmp_path, "stranger").issue("client")
        async with serving(application, ssl_cert_reqs="optional", **options) as server:
            assert await refused(server, authority.client(stranger))


def test_password_chain_and_ciphers(authority, tmp_path):
    certificate, key = authority.issue("locked", PASSWORD)
    tls_context(TlsFiles(certificate=certificate, key=key, password=PASSWORD))
    chained = TlsFiles(certificate=certificate, key=key, password=PASSWORD, chain=str(authority.path))
    assert tls_context(chained).get_ca_certs() == [], "a chain is sent, not believed"
    context = tls_context(
        TlsFiles(certificate=certificate, key=key, password=PASSWORD, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    )
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" not in {cipher["name"] for cipher in context.get_ciphers()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certificate": "missing"}, "TLS: {missing}: No such file or directory"),
        ({"key": "missing"}, "TLS: {missing}: No such file or directory"),
        ({"key": "other"}, "TLS: the key in {other} is not that of the certificate in {certificate}"),
        ({"key": "locked"}, "TLS: the key in {locked} is encrypted: give its password (--ssl-keyfile-password)"),
        ({"key": "locked", "password": "wrong"}, "TLS: the password does not open the key in {locked}"),
        ({"certificate": "rubbish"}, "TLS: {rubbish} and {key} hold no certificate and its key in PEM"),
        ({"key": "rubbish"}, "TLS: {certificate} and {rubbish} hold no certificate and its key in PEM"),
        ({"chain": "rubbish"}, None),
        ({"chain": "missing"}, "TLS: {missing}: No such file or directory"),
        ({"dh_parameters": "rubbish"}, "TLS: {rubbish} holds no Diffie-Hellman parameters"),
        ({"client_authorities": "rubbish"}, "TLS: {rubbish} holds no certificate in PEM"),
        ({"ciphers": "NONSENSE"}, "TLS: 'NONSENSE' names no cipher (--ssl-ciphers, as `openssl ciphers` takes it)"),
    ],
)
def test_one_line_for_what_cannot_be_used(authority, pair, tmp_path, change, message):
    (tmp_path / "rubbish").write_text("rubbish\n")
    paths = {
        "certificate": pair[0],
        "key": pair[1],
        "missing": str(tmp_path / "missing"),
        "rubbish": str(tmp_path / "rubbish"),
        "other": authority.issue("other")[1],
        "locked": authority.issue("locked", PASSWORD)[1],
    }
    values = {"certificate": pair[0], "key": pair[1]}
    values |= {name: paths.get(value, value) for name, value in change.items()}
    if message is None:  # OpenSSL takes what it understands of the joined file
        assert tls_context(TlsFiles(**values))
        return
    with pytest.raises(TlsError) as error:
        tls_context(TlsFiles(**values))
    assert str(error.value).startswith(message.format(**paths))
    assert "\n" not in str(error.value)
