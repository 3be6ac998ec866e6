"""What is tried: each check takes a client, and fails by an AssertionError that says with what.

A check may return something, which has to be the same on each server and version.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import curl_cffi

from tools.frameworks.apps import contract
from tools.frameworks.clients import Client

Check = Callable[[Client], Any]
# How long to wait for what an application does after its response.
_SECONDS = 10.0

UPLOAD = b"0123456789abcdef" * 40_000


def json_both_ways(client: Client) -> None:
    """GET with a query, POST with content."""
    answer = client.get("/json?q=a%20b").json()
    assert (answer["q"], answer["version"]) == ("a b", client.version), answer
    content = {"a": [1, "größe"], "b": None}
    assert client.post("/json", json=content).json() == content


def form_with_a_file(client: Client) -> None:
    """A multipart form with a file of 640 kB."""
    form = curl_cffi.CurlMime()
    form.addpart(name="name", data="größe")
    form.addpart(name="file", filename="up.bin", data=UPLOAD)
    try:
        answer = client.post("/form", multipart=form).json()
    finally:
        form.close()
    assert answer == {"name": "größe", "filename": "up.bin", "size": len(UPLOAD)}, answer


def upload(client: Client) -> None:
    """Content that the application reads in parts."""
    assert client.post("/upload", data=UPLOAD).json() == {"size": len(UPLOAD)}


def stream(client: Client) -> None:
    """A response of unknown length."""
    assert client.get("/stream").text == "".join(contract.LINES)


def events(client: Client) -> None:
    """Server-sent events: the first is there before the second was sent."""
    token = uuid4().hex
    with client.streaming(f"/events?token={token}") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        parts = response.iter_content()
        text = next(parts)
        assert text == b"data: first\n\n", text
        client.request("GET", f"/release?token={token}")
        assert b"".join(parts) == b"data: second\n\n"


def file(client: Client) -> None:
    """The framework's response with a file, and its static files."""
    content = contract.FILE.read_bytes()
    assert client.get("/file").content == content
    response = client.get("/static/data.bin")
    assert response.content == content


def background(client: Client) -> None:
    """A task runs after its response."""
    name = uuid4().hex
    client.request("GET", f"/work?name={name}")
    _wait_for_done(client, name)


def disconnect(client: Client) -> None:
    """A stream to a client that goes ends in the application."""
    name = uuid4().hex
    with client.streaming(f"/endless?name={name}") as response:
        next(response.iter_content())
    _wait_for_done(client, name)


def cookies(client: Client) -> None:
    """Two cookies out, one in."""
    response = client.get("/cookie", headers={"cookie": "sent=1"})
    assert response.json() == {"sent": "1"}, response.json()
    names = [line.partition("=")[0] for line in response.headers.get_list("set-cookie")]
    assert sorted(names) == ["first", "second"], names


def session(client: Client) -> None:
    """The framework's sessions, in a cookie."""
    client.get("/session")
    counts = [client.get("/session").json()["count"] for _ in range(2)]
    assert counts[1] == counts[0] + 1, counts


def redirect(client: Client) -> str:
    """A redirect, and its location."""
    response = client.request("GET", "/redirect")
    assert response.status_code in (301, 302, 303, 307, 308), response.status_code
    location = re.sub(r"^https?://localhost:\d+", "", str(response.headers["location"]))
    assert location.endswith("/json?q=redirected"), location
    return location


def errors(client: Client) -> None:
    """404 and 500, after which the connection still serves."""
    assert client.request("GET", "/missing").status_code == 404
    assert client.request("GET", "/error").status_code == 500
    assert client.request("GET", "/json?q=1").status_code == 200


def lifespan(client: Client) -> None:
    """The startup has run."""
    assert client.get("/json?q=1").json()["state"] == "started"


def websocket(client: Client) -> None:
    """Messages in both directions, and the close."""
    with client.websocket("/ws") as conversation:
        for message in ("hello", "größe", "x" * 100_000):
            assert conversation.ask(message) == message


def mounted(client: Client) -> str:
    """An ASGI application that is mounted below a path: what it is told of its place."""
    return client.get("/sub/where").text


# -- applications of one framework alone ----------------------------------------------------------


def socketio_polling(client: Client) -> None:
    """Engine.IO's long polling: connect, an event there and back."""
    base = "/socket.io/?EIO=4&transport=polling"
    sid = json.loads(client.get(base).text[1:])["sid"]
    here = f"{base}&sid={sid}"
    client.post(here, data="40")
    assert client.get(here).text.startswith("40{")
    client.post(here, data='42["echo","hello"]')
    assert client.get(here).text == '42["echo","hello"]'


def socketio_websocket(client: Client) -> None:
    """Engine.IO over a WebSocket."""
    with client.websocket("/socket.io/?EIO=4&transport=websocket") as conversation:
        assert conversation.next().startswith("0{")
        assert conversation.ask("40").startswith("40{")
        assert conversation.ask('42["echo","hello"]') == '42["echo","hello"]'


def graphql_query(client: Client) -> None:
    """A query."""
    query = {"query": 'query { hello(name: "you") }'}
    assert client.post("/graphql", json=query).json() == {"data": {"hello": "hello you"}}


def graphql_subscription(client: Client) -> None:
    """A subscription over graphql-transport-ws."""
    with client.websocket("/graphql", "graphql-transport-ws") as conversation:
        assert (
            json.loads(conversation.ask('{"type":"connection_init"}'))["type"] == "connection_ack"
        )
        payload = {"query": "subscription { count(to: 3) }"}
        begin = json.dumps({"id": "1", "type": "subscribe", "payload": payload})
        kinds = [json.loads(conversation.ask(begin))["type"]]
        kinds += [json.loads(conversation.next())["type"] for _ in range(3)]
        assert kinds == ["next", "next", "next", "complete"], kinds


def mcp_call(client: Client) -> None:
    """Initialize, and call a tool over streamable HTTP."""
    fields = _mcp_session(client)
    params = {"name": "add", "arguments": {"a": 2, "b": 3}}
    answer = _mcp(client, fields, "tools/call", params)
    assert answer["result"]["content"][0]["text"] == "5", answer


def mcp_stream(client: Client) -> None:
    """The GET stream has its status before anything happens."""
    fields = _mcp_session(client)
    assert client.head_alone("/mcp", fields)["content-type"].startswith("text/event-stream")


def page_with_files(client: Client) -> None:
    """The page, and the scripts and styles that it names."""
    page = client.get("/")
    assert "<html" in page.text.lower()
    links = re.findall(r'(?:src|href)="([^"#]+\.(?:js|css))(?:\?[^"]*)?"', page.text)
    links = [link.lstrip(".") for link in links if not link.startswith(("http", "//"))]
    assert links, "no scripts"
    for link in links[:10]:
        assert client.get("/" + link.lstrip("/")).content, link


def gradio_call(client: Client) -> None:
    """A call of the function behind the page, whose result is an event."""
    begun = client.post("/gradio_api/call/greet", json={"data": ["you"]}).json()
    text = client.get(f"/gradio_api/call/greet/{begun['event_id']}").text
    assert "event: complete" in text, text
    assert "hello you" in text, text


def nicegui_polling(client: Client) -> None:
    """Its Socket.IO connection by long polling."""
    base = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert client.get(base).text.startswith("0{")


def nicegui_websocket(client: Client) -> None:
    """Its Socket.IO connection over a WebSocket."""
    with client.websocket("/_nicegui_ws/socket.io/?EIO=4&transport=websocket") as conversation:
        assert conversation.next().startswith("0{")


def reflex_ping(client: Client) -> None:
    """The backend's answer to its health check."""
    assert client.get("/ping").json() == "pong"


def reflex_websocket(client: Client) -> None:
    """Its Socket.IO connection, always over a WebSocket."""
    with client.websocket("/_event/?EIO=4&transport=websocket") as conversation:
        assert conversation.next().startswith("0{")


def wsgi_json(client: Client) -> None:
    """GET with a query, POST with content; WSGI has no lifespan."""
    assert client.get("/json?q=a%20b").json()["q"] == "a b"
    content = {"a": [1, "größe"], "b": None}
    assert client.post("/json", json=content).json() == content


def _wait_for_done(client: Client, name: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while name not in client.get("/done").json():
        assert time.monotonic() < deadline, "not done"
        time.sleep(0.05)


def _mcp_session(client: Client) -> dict[str, str]:
    """The fields of a new session."""
    fields = {"accept": "application/json, text/event-stream"}
    params = {
        "protocolVersion": "2025-03-26",
        "capabilities": {},
        "clientInfo": {"name": "frameworks", "version": "1"},
    }
    response = client.post(
        "/mcp",
        headers=fields,
        json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
    )
    fields["mcp-session-id"] = str(response.headers["mcp-session-id"])
    begun = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert client.request("POST", "/mcp", headers=fields, json=begun).status_code == 202
    return fields


def _mcp(client: Client, fields: dict[str, str], method: str, params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}
    text = client.post("/mcp", headers=fields, json=call).text
    return json.loads(re.findall(r"^data: (.+)$", text, re.MULTILINE)[-1])
