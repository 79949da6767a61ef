import io
import json
import threading

import pytest
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import get_script_prefix

from fastchannels import handler as handler_module
from fastchannels.exceptions import RequestAborted, RequestTimeout
from fastchannels.handler import AsgiHandler, AsgiRequest, ViewConsumer
from fastchannels.message import Message
from fastchannels.replies import Replies
from tests.talk import REPLY, inside_a_consumer, make_layer, sent

CHUNK = 512 * 1024
BODY = "http.request.body?0123456789abcdef"


@pytest.fixture
def layer():
    return make_layer()


def make_request_message(layer, path="/echo/", **content):
    content = {"reply_channel": REPLY, "http_version": "1.1", "method": "get", "path": path, **content}
    return Message({"headers": [], "query_string": b"", **content}, "http.request", layer)


def respond(layer, path="/echo/", **content):
    """The messages of the response."""
    return list(AsgiHandler()(make_request_message(layer, path, **content)))


def echoed(layer, **content):
    replies = respond(layer, **content)
    assert [reply["more_content"] for reply in replies] == [False]
    assert replies[0]["status"] == 200
    return json.loads(replies[0]["content"])


class TestRequest:
    def test_the_line_and_the_addresses(self, layer):
        echo = echoed(
            layer,
            method="post",
            query_string=b"a=%20b&c=%C3%A9",
            scheme="https",
            client=["10.0.0.1", 5000],
            server=["10.0.0.2", 443],
        )
        meta = echo["META"]
        assert echo["method"] == meta["REQUEST_METHOD"] == "POST"
        assert echo["GET"] == {"a": " b", "c": "é"}
        assert echo["scheme"] == "https"
        assert (meta["REMOTE_ADDR"], meta["REMOTE_HOST"], meta["REMOTE_PORT"]) == ("10.0.0.1", "10.0.0.1", 5000)
        assert (meta["SERVER_NAME"], meta["SERVER_PORT"]) == ("10.0.0.2", "443")
        assert meta["QUERY_STRING"] == "a=%20b&c=%C3%A9"
        assert meta["wsgi.multithread"] is meta["wsgi.multiprocess"] is True

    def test_what_is_left_out(self, layer):
        echo = echoed(layer)
        assert (echo["META"]["SERVER_NAME"], echo["META"]["SERVER_PORT"], echo["scheme"]) == ("unknown", "0", "http")
        assert "REMOTE_ADDR" not in echo["META"]

    def test_headers(self, layer):
        echo = echoed(
            layer,
            headers=[
                [b"content-type", b"text/plain; charset=latin-1"],
                [b"content-length", b"0"],
                [b"x-many", b"a"],
                [b"x-many", "é".encode("latin-1")],
                [b"x_many", b"spoofed"],
                [b"cookie", b"a=1"],
                [b"cookie", b"b=2"],
            ],
        )
        assert echo["META"]["HTTP_X_MANY"] == "a,é"
        assert echo["META"]["CONTENT_TYPE"].startswith("text/plain")
        assert echo["META"]["CONTENT_LENGTH"] == "0"
        assert echo["COOKIES"] == {"a": "1", "b": "2"}

    def test_headers_as_a_dict(self, layer):
        assert echoed(layer, headers={b"x-one": b"1"})["META"]["HTTP_X_ONE"] == "1"

    def test_the_encoding(self, layer):
        typed = [[b"content-type", b"text/plain; charset=latin-1"]]
        assert AsgiRequest(make_request_message(layer, headers=typed)).encoding == "latin-1"
        unknown = [[b"content-type", b"text/plain; charset=nonsense"]]
        assert AsgiRequest(make_request_message(layer, headers=unknown)).encoding is None

    @pytest.mark.parametrize(
        ("root_path", "path", "path_info"),
        [
            ("", "/echo/", "/echo/"),
            ("/app", "/app/echo/", "/echo/"),
            ("/app/", "/app/echo/", "/echo/"),
            ("/app", "/apple/echo/", "/apple/echo/"),
            ("/app", "/app", ""),
        ],
    )
    def test_the_root_path_ends_with_a_segment(self, layer, root_path, path, path_info):
        request = AsgiRequest(make_request_message(layer, path, root_path=root_path))
        assert (request.path, request.path_info) == (path, path_info)
        assert request.script_name == request.META["SCRIPT_NAME"] == root_path

    def test_the_script_prefix_of_urls(self, layer):
        assert echoed(layer, path="/app/echo/", root_path="/app")["path_info"] == "/echo/"
        assert get_script_prefix() == "/app/"
        with override_settings(FORCE_SCRIPT_NAME="/forced"):
            assert echoed(layer, path="/forced/echo/")["path_info"] == "/echo/"
        echoed(layer)
        assert get_script_prefix() == "/"

    def test_form_and_files(self, layer):
        form = [[b"content-type", b"application/x-www-form-urlencoded"], [b"content-length", b"3"]]
        assert echoed(layer, method="POST", headers=form, body=b"a=1")["POST"] == {"a": "1"}
        body = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nhello\r\n--x--\r\n'
        multipart = [[b"content-type", b"multipart/form-data; boundary=x"], [b"content-length", b"%d" % len(body)]]
        assert echoed(layer, method="POST", headers=multipart, body=body)["FILES"] == {"f": "hello"}

    def test_the_message_is_there(self, layer):
        message = make_request_message(layer)
        request = AsgiRequest(message)
        assert request.message is message
        assert request.reply_channel.name == REPLY
        request.close()


class TestBody:
    def test_comes_in_chunks(self, layer):
        layer.send(BODY, {"content": b"b" * 1000, "more_content": True})
        layer.send(BODY, {"content": b"c" * 1000})
        replies = respond(layer, "/size/", method="POST", body=b"a" * 1000, body_channel=BODY)
        assert replies[0]["content"] == b"3000"

    def test_is_waited_for(self, layer):
        timer = threading.Timer(0.05, layer.send, (BODY, {"content": b"x", "more_content": False}))
        timer.start()
        request = AsgiRequest(make_request_message(layer, body_channel=BODY))
        timer.join()
        assert (request.read(), request.reply_channel.name) == (b"x", REPLY)
        request.close()

    def test_that_does_not_come(self, layer, monkeypatch, caplog):
        monkeypatch.setattr(AsgiRequest, "body_receive_timeout", 0.05)
        with pytest.raises(RequestTimeout, match=r"within 0\.05 s"):
            AsgiRequest(make_request_message(layer, body_channel=BODY))
        [reply] = respond(layer, body_channel=BODY)
        assert reply["status"] == 408

    def test_that_was_given_up(self, layer):
        layer.send(BODY, {"closed": True})
        with pytest.raises(RequestAborted):
            AsgiRequest(make_request_message(layer, body_channel=BODY))
        layer.send(BODY, {"closed": True})
        assert respond(layer, body_channel=BODY) == []

    def test_that_is_large_waits_in_a_file(self, layer):
        with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=10):
            layer.send(BODY, {"content": b"x" * 100})
            request = AsgiRequest(make_request_message(layer, body_channel=BODY))
        assert request.read() == b"x" * 100
        request.close()


class TestHandler:
    def test_bad_encoding(self, layer, caplog):
        [reply] = respond(layer, query_string=b"\xff")
        assert reply["status"] == 400

    def test_an_unknown_address(self, layer, caplog):
        assert respond(layer, "/nowhere/")[0]["status"] == 404

    def test_a_view_that_fails(self, layer, caplog):
        [reply] = respond(layer, "/fail/")
        assert reply["status"] == 500
        assert "the view broke" in caplog.text

    def test_a_handler_that_fails(self, layer, caplog, monkeypatch):
        def respond_badly(self, request):
            raise LookupError("inner")

        monkeypatch.setattr(AsgiHandler, "respond", respond_badly)
        [reply] = respond(layer)
        assert (reply["status"], b"LookupError" in reply["content"]) == (500, False)
        with override_settings(DEBUG=True):
            [reply] = respond(layer)
        assert b"LookupError: inner" in reply["content"]
        assert dict(reply["headers"])[b"content-type"] == b"text/plain; charset=utf-8"

    def test_another_answers_later(self, layer):
        assert respond(layer, "/later/") == []

    def test_middleware_may_say_so_too(self, layer, caplog):
        with override_settings(MIDDLEWARE=[f"{__name__}.later_middleware"]):
            assert respond(layer) == []

    def test_an_async_view(self, layer):
        assert respond(layer, "/async/")[0]["content"] == b'{"async": true}'

    def test_the_response_is_closed_when_it_is_given_up(self, layer, monkeypatch):
        closed = []
        monkeypatch.setattr(StreamingHttpResponse, "close", lambda self: closed.append(True))
        replies = AsgiHandler()(make_request_message(layer, "/stream/", query_string=b"parts=3"))
        next(replies)
        replies.close()
        assert closed == [True]


def later_middleware(get_response):
    def middleware(request):
        raise AsgiRequest.ResponseLater

    return middleware


class TestEncoding:
    @pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (2 * CHUNK, 2)])
    def test_content_is_cut(self, size, count):
        replies = list(AsgiHandler.encode_response(HttpResponse(b"x" * size)))
        assert b"".join(reply["content"] for reply in replies) == b"x" * size
        assert [reply["more_content"] for reply in replies] == [True] * (count - 1) + [False]
        assert ["status" in reply for reply in replies] == [True] + [False] * (count - 1)

    def test_chunk_bytes(self):
        assert list(AsgiHandler.chunk_bytes(b"")) == [(b"", True)]
        assert [(len(chunk), last) for chunk, last in AsgiHandler.chunk_bytes(b"x" * (CHUNK + 1))] == [
            (CHUNK, False),
            (1, True),
        ]

    def test_headers_are_lowercase_pairs_of_bytes(self, layer):
        [reply] = respond(layer, "/cookies/")
        headers = reply["headers"]
        assert (b"x-mixed-case", b"1") in headers
        assert [value for name, value in headers if name == b"set-cookie"] == [
            b"a=1; Path=/",
            b"b=2; HttpOnly; Path=/",
        ]

    def test_a_stream(self, layer):
        replies = respond(layer, "/stream/", query_string=b"parts=3")
        assert [reply.get("content") for reply in replies] == [b"part 0;", b"part 1;", b"part 2;", None]
        assert [reply["more_content"] for reply in replies] == [True, True, True, False]
        assert ["status" in reply for reply in replies] == [True, False, False, False]

    def test_a_stream_without_parts(self, layer):
        [reply] = respond(layer, "/stream/", query_string=b"parts=0")
        assert (reply["status"], reply["more_content"], "headers" in reply) == (200, False, True)

    def test_a_part_that_is_large_is_cut(self):
        replies = list(AsgiHandler.encode_response(StreamingHttpResponse([b"x" * (CHUNK + 1)])))
        assert [len(reply.get("content", b"")) for reply in replies] == [CHUNK, 1, 0]

    def test_a_file(self, layer):
        replies = respond(layer, "/file/", query_string=b"size=%d" % (CHUNK + 1))
        assert [len(reply.get("content", b"")) for reply in replies] == [CHUNK, 1, 0]
        assert dict(replies[0]["headers"])[b"content-length"] == b"%d" % (CHUNK + 1)
        assert FileResponse(io.BytesIO()).block_size != CHUNK


class TestViewConsumer:
    def test_answers_at_once(self, layer):
        ViewConsumer()(make_request_message(layer))
        [reply] = sent(layer)
        assert reply["status"] == 200

    def test_waits_for_room(self, monkeypatch):
        layer, got = make_layer(capacity=1), []
        # Each wait reads what is there.
        monkeypatch.setattr(handler_module.time, "sleep", lambda seconds: got.extend(sent(layer)))
        ViewConsumer()(make_request_message(layer, "/stream/", query_string=b"parts=3"))
        got += sent(layer)
        assert [reply.get("content") for reply in got] == [b"part 0;", b"part 1;", b"part 2;", None]

    def test_gives_up_a_response_that_nobody_takes(self, monkeypatch, caplog):
        monkeypatch.setattr(handler_module, "RESPONSE_PAUSE", 0.01)
        layer = make_layer(capacity=1, expiry=0.2)
        blocker = threading.Event()

        def refuse(channel, message):
            blocker.set()
            raise layer.ChannelFull("full")

        monkeypatch.setattr(layer, "send", refuse)
        ViewConsumer()(make_request_message(layer, "/stream/", query_string=b"parts=3"))
        assert blocker.is_set()
        assert "was given up" in caplog.text

    @pytest.mark.parametrize(("path", "query", "waits"), [("/echo/", b"", True), ("/stream/", b"parts=2", False)])
    def test_in_a_worker_a_whole_response_leaves_with_its_next_turn(self, layer, path, query, waits):
        with inside_a_consumer() as frame:
            frame.replies = Replies(layer)
            ViewConsumer()(make_request_message(layer, path, query_string=query))
            assert (len(frame.replies), frame.answered) == (int(waits), waits)
            assert len(sent(layer)) == (0 if waits else 3)
            frame.replies.send()
            assert [reply["status"] for reply in sent(layer)] == [200] * waits

    def test_without_a_reply_channel(self, layer, caplog):
        ViewConsumer()(Message({"method": "GET", "path": "/echo/"}, "http.request", layer))
        assert "no reply channel" in caplog.text
