"""Django: its ASGI handler, forms, file and streaming responses; a task stands in for a queue."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

FILE = os.environ["E2E_FILE"]
done: list[str] = []
tasks: set[asyncio.Task[None]] = set()

settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=10_000_000,
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    USE_TZ=True,
)


async def item(request: HttpRequest, id: int) -> HttpResponse:
    """A path parameter, the query and a field."""
    scope: Any = request.scope  # type: ignore[attr-defined]
    return JsonResponse(
        {
            "id": id,
            "q": request.GET["q"],
            "agent": request.headers["x-agent"],
            "version": scope["http_version"],
            "state": "at startup",
        }
    )


def form(request: HttpRequest) -> HttpResponse:
    """A multipart form with a file; in a thread, since it is not async."""
    upload = request.FILES["file"]
    data = upload.read()
    return JsonResponse(
        {
            "name": request.POST["name"],
            "filename": upload.name,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    )


def download(request: HttpRequest) -> FileResponse:
    """A file as an attachment."""
    return FileResponse(open(FILE, "rb"), as_attachment=True, filename="data.bin")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """A response of unknown length."""

    async def parts() -> AsyncIterator[bytes]:
        for index in range(1000):
            yield f"line {index}\n".encode()

    return StreamingHttpResponse(parts(), content_type="text/plain")


async def upload(request: HttpRequest) -> HttpResponse:
    """Content read by chunks; Django itself keeps it in a file meanwhile."""
    digest = hashlib.sha256()
    while part := request.read(65_536):
        digest.update(part)
    return JsonResponse({"sha256": digest.hexdigest()})


async def background(request: HttpRequest) -> HttpResponse:
    """POST begins a task that runs after the response, GET tells which have run."""
    if request.method == "GET":
        return JsonResponse(done, safe=False)

    async def work(name: str) -> None:
        done.append(name)

    task = asyncio.create_task(work(request.GET["name"]))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return JsonResponse({"begun": True}, status=202)


async def cookie(request: HttpRequest) -> HttpResponse:
    """Two cookies, and those that came."""
    response = JsonResponse(request.COOKIES)
    response.set_cookie("first", "1", secure=True)
    response.set_cookie("second", "2", httponly=True)
    return response


async def error(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise ZeroDivisionError("on purpose")


urlpatterns = [
    path("items/<int:id>", item),
    path("form", form),
    path("download", download),
    path("stream", stream),
    path("upload", upload),
    path("background", background),
    path("cookie", cookie),
    path("error", error),
]

app = get_asgi_application()
