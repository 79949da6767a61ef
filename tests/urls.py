"""The views of the tests: what Django does with a message shows in their responses."""

import io
import json

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from fastchannels.exceptions import ResponseLater


def echo(request):
    return JsonResponse(
        {
            "path": request.path,
            "path_info": request.path_info,
            "method": request.method,
            "GET": request.GET.dict(),
            "POST": request.POST.dict() if request.method == "POST" else {},
            "FILES": {name: file.read().decode() for name, file in request.FILES.items()},
            "COOKIES": request.COOKIES,
            "scheme": request.scheme,
            "META": {name: value for name, value in request.META.items() if isinstance(value, (str, int, bool))},
        }
    )


def size(request):
    return HttpResponse(str(len(request.body)))


def cookies(request):
    response = HttpResponse("set", headers={"X-Mixed-Case": "1"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", httponly=True)
    return response


def stream(request):
    return StreamingHttpResponse(f"part {number};" for number in range(int(request.GET["parts"])))


def broken_stream(request):
    def parts():
        yield "first;"
        raise LookupError("the stream broke")

    return StreamingHttpResponse(parts())


def file(request):
    return FileResponse(io.BytesIO(b"x" * int(request.GET["size"])), filename="x.bin")


def fail(request):
    raise LookupError("the view broke")


def later(request):
    raise ResponseLater


async def asynchronous(request):
    return HttpResponse(json.dumps({"async": True}))


urlpatterns = [
    path("echo/", echo),
    path("size/", size),
    path("cookies/", cookies),
    path("stream/", stream),
    path("broken-stream/", broken_stream),
    path("file/", file),
    path("fail/", fail),
    path("later/", later),
    path("async/", asynchronous),
]
