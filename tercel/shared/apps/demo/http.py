"""The little that the demo application needs of a framework."""

import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from tercel.shared.apps.asgi_types import Receive, Scope, Send
from tercel.shared.messages import Field, Fields

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"


class ClientDisconnect(Exception):
    """The client went before its request was whole."""


class BadRequest(Exception):
    """The request makes no sense; the message says why."""


async def start(send: Send, *, content_type: bytes, fields: Fields | None = None) -> None:
    """Begin a response 200 whose content is not known yet."""
    headers: list[Field] = [(b"content-type", content_type), *(fields or ())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def respond(
    send: Send,
    body: bytes,
    *,
    content_type: bytes = TEXT,
    status: int = 200,
    fields: Fields | None = None,
) -> None:
    """Send a whole response."""
    headers: list[Field] = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *(fields or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, value: Any) -> None:
    """Send `value` as JSON."""
    await respond(send, json.dumps(value).encode(), content_type=JSON)


async def respond_status(send: Send, status: HTTPStatus, *, fields: Fields | None = None) -> None:
    """Send an error as a line of text."""
    await respond(send, f"{status.phrase}\n".encode(), status=int(status), fields=fields)


async def content(receive: Receive) -> AsyncIterator[bytes]:
    """The request's content as it arrives. Raises ClientDisconnect when it ends early."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        more = message["more_body"]
        if message["body"]:
            yield message["body"]


def query(scope: Scope, name: str) -> str | None:
    """The last query parameter `name`, None if there is none."""
    values = parse_qs(scope["query_string"].decode("latin-1")).get(name)
    return None if values is None else values[-1]


def number(scope: Scope, name: str, *, default: int, maximum: int) -> int:
    """The query parameter `name`. Raises BadRequest unless it is from 0 to `maximum`."""
    value = query(scope, name)
    return default if value is None else parsed_number(value, name, maximum)


def parsed_number(text: str, name: str, maximum: int) -> int:
    """`text` as a number from 0 to `maximum`; raises BadRequest for anything else."""
    # isdecimal alone takes the digits of all scripts; 20 digits are more than any maximum.
    if not (text.isascii() and text.isdecimal() and len(text) <= 20) or int(text) > maximum:
        raise BadRequest(f"{name} is a number from 0 to {maximum}")
    return int(text)
