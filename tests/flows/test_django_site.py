"""A Django site, its admin included, served through channels: protocol server, layer and workers as processes."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.cookiejar
import json
import os
import re
import signal
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.flows.browser import chromium
from tests.flows.processes import Process, free_port
from tests.flows.site import ASGI, channel_site
from tests.management.commands.project import Project

#: Megabytes of the large upload; ``UPLOAD_MB=1024 make test-flows`` sends a gigabyte.
UPLOAD_MB = int(os.environ.get("UPLOAD_MB", "96"))

SETTINGS = """
    ALLOWED_HOSTS = ["127.0.0.1"]
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db"}}
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS += [
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.messages",
        "django.contrib.sessions",
    ]
    MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    TEMPLATES = [{
        "BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }]
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    CHANNEL_LAYERS["default"]["CONFIG"] = {"path": os.environ["LAYER"], "size": 64 * 1024 * 1024}
"""
URLS = """
    import hashlib, os, time
    from django.contrib import admin
    from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.middleware.csrf import get_token
    from django.shortcuts import redirect
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt

    def form(request):
        if request.method == "POST":
            return JsonResponse({"name": request.POST["name"], "tags": request.POST.getlist("tag")})
        return HttpResponse(get_token(request))

    def cookies(request):
        response = HttpResponse(request.COOKIES.get("seen", "new"))
        response.set_cookie("seen", "before", httponly=True)
        response.set_cookie("other", "x")
        return response

    @csrf_exempt
    def upload(request):
        digest, size = hashlib.sha256(), 0
        for chunk in request.FILES["file"].chunks():
            digest.update(chunk)
            size += len(chunk)
        return JsonResponse({"size": size, "sha256": digest.hexdigest(), "pid": os.getpid()})

    def parts(request):
        return StreamingHttpResponse(f"part {n}\\n" for n in range(1000))

    def breaks(request):
        def content():
            yield b"x" * 1000
            raise ValueError("in the middle")
        return StreamingHttpResponse(content())

    def download(request):
        return FileResponse(open(__file__, "rb"), as_attachment=True, filename="urls.py")

    def slow(request):
        time.sleep(float(request.GET["s"]))
        return HttpResponse("slept")

    def fails(request):
        raise ValueError("the view failed")

    urlpatterns = [
        path("admin/", admin.site.urls), path("form/", form), path("cookies/", cookies), path("upload/", upload),
        path("parts/", parts), path("breaks/", breaks), path("download/", download), path("slow/", slow),
        path("fails/", fails), path("old/", lambda request: redirect("/form/")),
        path("pid/", lambda request: HttpResponse(str(os.getpid()))),
    ]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("site"))
    project.settings(SETTINGS)
    project.write("shop/urls.py", URLS)
    project.write("shop/asgi.py", ASGI)
    project.write("shop/setup.py", """
        from django.core.management import call_command
        from django.contrib.auth.models import User
        call_command("migrate", verbosity=0)
        User.objects.create_superuser("root", "root@example.org", "secret")
    """)  # fmt: skip
    with Process("-c", "import shop.asgi, shop.setup", cwd=project.root, env={"LAYER": "unused"}) as process:
        assert process.wait(60) == 0, process.output
    return project


@contextmanager
def served(project: Project, *options: str) -> Iterator[tuple[int, Process, Process]]:
    """The port, the server and the worker of the site, which answers."""
    with channel_site(project, LAYER=f"{project.root}/layer-{free_port()}") as site:
        port = site.server(*options)
        worker = site.worker("--threads", "2")
        # The request waits for the worker.
        assert get(f"http://127.0.0.1:{port}", "/pid/").status == 200
        yield port, site.servers[-1], worker


@pytest.fixture(scope="module")
def site(project: Project) -> Iterator[str]:
    with served(project) as (port, _, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def browser_like() -> urllib.request.OpenerDirector:
    """Keeps cookies and follows redirects."""
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def read(opener: urllib.request.OpenerDirector, url: str, **form: object) -> str:
    data = urllib.parse.urlencode(form, doseq=True).encode() if form else None
    with opener.open(url, data, timeout=20) as response:
        body: bytes = response.read()
    return body.decode()


def get(site: str, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    address = urllib.parse.urlsplit(site)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        with connection.getresponse() as response:
            response.body = response.read()  # type: ignore[attr-defined]
        return response


class TestPages:
    def test_a_form_with_its_token(self, site: str, browser_like: urllib.request.OpenerDirector) -> None:
        token = read(browser_like, f"{site}/form/")
        answer = read(browser_like, f"{site}/form/", csrfmiddlewaretoken=token, name="Ädä", tag=["a", "b"])
        assert json.loads(answer) == {"name": "Ädä", "tags": ["a", "b"]}

    def test_a_form_without_its_token(self, site: str) -> None:
        assert get(site, "/form/", "POST").status == 403

    def test_cookies(self, site: str, browser_like: urllib.request.OpenerDirector) -> None:
        assert [read(browser_like, f"{site}/cookies/") for _ in range(2)] == ["new", "before"]
        assert len(get(site, "/cookies/").headers.get_all("Set-Cookie")) == 2

    def test_a_redirect(self, site: str) -> None:
        response = get(site, "/old/")
        assert (response.status, response.headers["Location"]) == (302, "/form/")
        assert get(site, "/old").headers["Location"] == "/old/"

    def test_errors(self, site: str) -> None:
        assert get(site, "/nowhere/").status == 404
        failed = get(site, "/fails/")
        assert failed.status == 500
        assert b"the view failed" in failed.body  # type: ignore[attr-defined]

    def test_head(self, site: str) -> None:
        response = get(site, "/download/", "HEAD")
        assert response.status == 200
        assert response.body == b""  # type: ignore[attr-defined]

    def test_a_download(self, site: str, project: Project) -> None:
        response = get(site, "/download/")
        assert response.headers["Content-Disposition"] == 'attachment; filename="urls.py"'
        assert response.body == (project.root / "shop" / "urls.py").read_bytes()  # type: ignore[attr-defined]

    def test_a_streamed_response(self, site: str) -> None:
        assert get(site, "/parts/").body == b"".join(b"part %d\n" % n for n in range(1000))  # type: ignore[attr-defined]

    def test_a_streamed_response_that_breaks_is_seen_to_be_cut(self, site: str) -> None:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(site, "/breaks/")
        assert get(site, "/pid/").status == 200

    def test_static_files(self, site: str) -> None:
        assert get(site, "/static/shop.css").body == b"body {}"  # type: ignore[attr-defined]


def memory(process: Process) -> int:
    """Its resident memory and that of its children, in megabytes."""
    pids = [process.pid]
    for pid in pids:
        pids += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    text = "".join(Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(map(int, re.findall(r"VmRSS:\s+(\d+)", text))) // 1024


@pytest.mark.timeout(600)
def test_a_large_upload_costs_no_memory(project: Project) -> None:
    piece = os.urandom(1024 * 1024)
    digest = hashlib.sha256()
    head = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = b"\r\n--edge--\r\n"

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(UPLOAD_MB):
            digest.update(piece)
            yield piece
        yield tail

    with served(project, "--http-timeout", "500") as (port, server, worker):
        before = memory(server), memory(worker)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=500)
        size = len(head) + UPLOAD_MB * len(piece) + len(tail)
        headers = {"Content-Type": "multipart/form-data; boundary=edge", "Content-Length": str(size)}
        connection.request("POST", "/upload/", body(), headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        grown = memory(server) - before[0], memory(worker) - before[1]
    assert answer["size"] == UPLOAD_MB * len(piece)
    assert answer["sha256"] == digest.hexdigest()
    # The segment of the layer, 64 MB, is mapped by both.
    assert max(grown) < 90, f"server and worker grew by {grown} MB"


def test_a_client_that_leaves_in_the_middle_of_its_upload(project: Project) -> None:
    with served(project) as (port, _, worker):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            head = b"POST /upload/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
            client.sendall(head + b"Content-Type: multipart/form-data; boundary=edge\r\n\r\n" + b"x" * 1_000_000)
        # The thread that read the body is free again, and nothing was logged as a failure.
        for _ in range(8):
            assert get(f"http://127.0.0.1:{port}", "/pid/").status == 200
    assert "Traceback" not in worker.output


def test_a_worker_that_is_stopped_finishes_its_request(project: Project) -> None:
    with served(project) as (port, _, worker):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET /slow/?s=1.5 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            with socket.create_connection(("127.0.0.1", port), 10) as other:
                # Answered by the second thread: the first has begun with the slow one.
                other.sendall(b"GET /pid/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                assert other.makefile("rb").read().endswith(b"%d" % worker.pid)
            worker.popen.send_signal(signal.SIGTERM)
            assert client.makefile("rb").read().endswith(b"slept")
        assert worker.wait() == 0


def test_the_admin_in_a_browser(site: str, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        wait = WebDriverWait(driver, 20)
        driver.get(f"{site}/admin/")
        driver.find_element(By.NAME, "username").send_keys("root")
        driver.find_element(By.NAME, "password").send_keys("secret")
        driver.find_element(By.CSS_SELECTOR, "[type=submit]").click()
        wait.until(lambda found: "Site administration" in found.title)
        # The style sheet of the admin, a static file, was applied.
        assert driver.find_element(By.ID, "header").value_of_css_property("background-color") != "rgba(0, 0, 0, 0)"
        driver.get(f"{site}/admin/auth/group/add/")
        driver.find_element(By.NAME, "name").send_keys("Editors")
        driver.find_element(By.NAME, "_save").click()
        wait.until(lambda found: "was added successfully" in found.page_source)
        assert "Editors" in driver.find_element(By.ID, "result_list").text
        driver.find_element(By.LINK_TEXT, "Editors").click()
        driver.find_element(By.LINK_TEXT, "Delete").click()
        driver.find_element(By.CSS_SELECTOR, "#content form [type=submit]").click()
        wait.until(lambda found: "was deleted successfully" in found.page_source)
        driver.find_element(By.CSS_SELECTOR, "#logout-form button").click()
        wait.until(lambda found: "Logged out" in found.page_source)
