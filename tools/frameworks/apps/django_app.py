"""Django, with Channels for the WebSocket."""

import asyncio
from typing import Any

import contract
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path, reverse
from django.views.static import serve

settings.configure(
    ALLOWED_HOSTS=["localhost"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=10_000_000,
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    USE_TZ=True,
)
tasks: set[asyncio.Task[None]] = set()


async def json(request: HttpRequest) -> HttpResponse:
    import json

    if request.method == "POST":
        return JsonResponse(json.loads(request.body))
    version = request.scope["http_version"]  # type: ignore[attr-defined]
    return JsonResponse({"q": request.GET["q"], "version": version, **contract.state})


def form(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return JsonResponse(
        {"name": request.POST["name"], "filename": file.name, "size": len(file.read())}
    )


async def upload(request: HttpRequest) -> HttpResponse:
    size = 0
    while part := request.read(65_536):
        size += len(part)
    return JsonResponse({"size": size})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(contract.lines(), content_type="text/plain")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    parts = contract.events(request.GET["token"])
    return StreamingHttpResponse(parts, content_type="text/event-stream")


async def release(request: HttpRequest) -> HttpResponse:
    contract.release(request.GET["token"])
    return HttpResponse()


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(contract.endless(request.GET["name"]))


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(contract.FILE.open("rb"))


async def work(request: HttpRequest) -> HttpResponse:
    task = asyncio.create_task(contract.work(request.GET["name"]))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse()


async def done(request: HttpRequest) -> HttpResponse:
    return JsonResponse(contract.done, safe=False)


async def cookie(request: HttpRequest) -> HttpResponse:
    response = JsonResponse(request.COOKIES)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", httponly=True)
    return response


def session(request: HttpRequest) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse({"count": request.session["count"]})


async def redirect(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("json") + "?q=redirected")


async def error(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("on purpose")


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


urlpatterns = [
    path("json", json, name="json"),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("events", events),
    path("release", release),
    path("endless", endless),
    path("file", file),
    path("work", work),
    path("done", done),
    path("cookie", cookie),
    path("session", session),
    path("redirect", redirect),
    path("error", error),
    re_path("^static/(?P<path>.*)$", serve, {"document_root": contract.FILE.parent}),
]

app = contract.Lifespan(
    ProtocolTypeRouter(
        {
            "http": get_asgi_application(),
            "websocket": URLRouter([path("ws", Echo.as_asgi())]),
        }
    )
)
