"""Listening sockets: opened, refused with one line, and tidied up."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from fastchannels.server.endpoints import Endpoint
from fastchannels.server.listeners import ListenError, close_listeners, open_listeners
from fastchannels.server.tls import TlsFiles


@pytest.fixture
def opened():
    listeners = []

    def open_these(*endpoints):
        found = open_listeners([Endpoint(**{"backlog": 5, **endpoint}) for endpoint in endpoints])
        listeners.extend(found)
        return found

    yield open_these
    close_listeners(listeners)


def test_tcp_and_its_url(opened):
    (plain,) = opened({"host": "127.0.0.1", "port": 0})
    assert plain.url == f"http://127.0.0.1:{plain.address[1]}"
    (secure,) = opened({"host": "::1", "port": 0, "tls": TlsFiles(certificate="c")})
    assert secure.url == f"https://[::1]:{secure.address[1]}"
    assert plain.sock.gettimeout() == 0


def test_a_name_with_an_address_of_a_family_that_is_missing(opened, monkeypatch):
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
    (found,) = opened({"host": "somewhere", "port": 0})
    assert found.address[0] == "127.0.0.1"
    del both[1]
    with pytest.raises(ListenError, match="cannot listen on somewhere:0: Cannot assign requested address"):
        opened({"host": "somewhere", "port": 0})


def test_all_or_none(opened, tmp_path):
    (taken,) = opened({"host": "127.0.0.1", "port": 0})
    port = taken.address[1]
    path = tmp_path / "socket"
    with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
        open_listeners([Endpoint(path=str(path), backlog=5), Endpoint(host="127.0.0.1", port=port, backlog=5)])
    assert not path.exists()
    with pytest.raises(ListenError, match="nothing to listen on"):
        open_listeners([])


class TestUnix:
    def test_mode_and_removal(self, opened, tmp_path):
        path = tmp_path / "socket"
        (listener,) = opened({"path": str(path), "mode": 0o620})
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert listener.url == f"unix:{path}"
        close_listeners([listener])
        assert not path.exists()

    def test_a_stale_file_is_taken_over(self, opened, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(path)
        opened({"path": path})
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    def test_a_living_server_is_not(self, opened, tmp_path):
        path = str(tmp_path / "socket")
        (first,) = opened({"path": path})
        with pytest.raises(ListenError, match="Address already in use, another server answers there"):
            opened({"path": path})
        assert os.path.exists(path)
        os.unlink(path)
        opened({"path": path})
        close_listeners([first])
        assert os.path.exists(path), "it is the second one's"

    def test_a_server_with_a_full_queue_is_not_stale(self, opened, tmp_path):
        path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen(0)
            clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(path)
            with pytest.raises(ListenError, match="another server answers there"):
                opened({"path": path})
            for client in clients:
                client.close()

    def test_what_is_no_socket(self, opened, tmp_path):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(ListenError, match="file: the file is there and is no socket"):
            opened({"path": str(tmp_path / "file")})
        with pytest.raises(ListenError, match="No such file or directory"):
            opened({"path": str(tmp_path / "no" / "socket")})
        assert (tmp_path / "file").read_text() == "precious"


class TestInherited:
    def test_a_copy_is_served(self, opened):
        with socket.socket() as given:
            given.bind(("127.0.0.1", 0))
            (listener,) = opened({"fd": given.fileno()})
            assert listener.address == given.getsockname()
            close_listeners([listener])
            assert given.getsockname(), "the descriptor stays the caller's"

    def test_what_cannot_be(self, opened, tmp_path):
        with pytest.raises(ListenError, match="cannot listen on file descriptor 999: Bad file descriptor"):
            opened({"fd": 999})
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            pytest.raises(ListenError, match="is no stream socket"),
        ):
            opened({"fd": datagrams.fileno()})
        with (tmp_path / "file").open("w") as file, pytest.raises(ListenError, match="Socket operation on non-socket"):
            opened({"fd": file.fileno()})
