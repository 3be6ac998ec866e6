"""The demo application, through the ASGI adapter."""

import asyncio
import base64
import hashlib
import json
import re
from typing import Any

import pytest

from tercel.shared.apps import demo
from tercel.shared.apps.demo.pattern import BLOCK, pattern, pattern_sha256
from tercel.shared.apps.lifespan import Lifespan
from tercel.shared.connection_info import ConnectionInfo
from tercel.shared.errors import ConnectionClosed
from tercel.shared.messages import Fields, field_value
from tercel.shared.settings import Settings
from tests.support.asynchronous import asynctest, turns
from tests.support.memory_stream import Exchange, MemoryStream, answer, request_head


async def request(
    target: str,
    *parts: bytes,
    method: bytes = b"GET",
    fields: Fields | None = None,
    trailers: Fields | None = None,
    http_version: str = "3",
) -> MemoryStream:
    head = request_head(
        method=method, target=target.encode(), fields=fields, http_version=http_version
    )
    stream = await answer(demo.app, head, *parts, trailers=trailers)
    assert stream.ended
    return stream


def header(stream: MemoryStream, name: bytes) -> bytes | None:
    assert stream.response is not None
    return field_value(stream.response.fields, name)


# -- the page --------------------------------------------------------------------------------------


PAGES = pytest.mark.parametrize("path", ["/", "/chat"])


@asynctest
async def test_the_chat_is_a_page_with_a_way_back() -> None:
    stream = await request("/chat")
    assert stream.status == 200
    assert header(stream, b"content-type") == b"text/html; charset=utf-8"
    assert 'href="/"' in stream.body.decode()
    assert 'href="/chat"' in (await request("/")).body.decode()


@pytest.mark.parametrize("version", ["3", "1.1"])
@asynctest
async def test_page_names_the_version_of_its_own_request(version: str) -> None:
    stream = await request("/", http_version=version)
    page = stream.body.decode()
    assert header(stream, b"content-type") == b"text/html; charset=utf-8"
    assert header(stream, b"cache-control") == b"no-store"
    assert f'id="version">HTTP/{version}<' in page
    assert f'data-http-version="{version}"' in page
    assert "{{" not in page
    assert "nextHopProtocol" in page


@PAGES
@asynctest
async def test_page_loads_nothing_from_elsewhere(path: str) -> None:
    page = (await request(path)).body.decode()
    sources = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert sources
    for source in sources:
        assert source.startswith(("/", "data:"))
        assert not source.startswith("//")
    assert "@import" not in page


@PAGES
@asynctest
async def test_policy_allows_exactly_the_pages_own_script_and_style(path: str) -> None:
    stream = await request(path)
    policy = (header(stream, b"content-security-policy") or b"").decode()
    for tag in ("script", "style"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", stream.body.decode(), re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(part.encode()).digest()) for part in inline]
        allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
        assert f"{tag}-src {allowed};" in policy
    assert " style=" not in stream.body.decode()
    assert " onclick=" not in stream.body.decode()


@PAGES
@asynctest
async def test_every_control_of_the_page_has_a_label(path: str) -> None:
    page = (await request(path)).body.decode()
    for control in re.findall(r"<(?:input|select|progress)[^>]*>", page):
        name = re.search(r'id="([^"]*)"', control)
        assert name
        in_label = re.search(rf"<label><input[^>]*{name[1]}", page)
        assert "aria-label" in control or f'for="{name[1]}"' in page or in_label, control


@PAGES
@asynctest
async def test_ids_of_the_page_are_unique_and_those_its_script_asks_for_exist(path: str) -> None:
    page = (await request(path)).body.decode()
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'byId\("([^"]*)"\)', page)) <= set(ids)


# -- plain endpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "content_type", "body"),
    [
        ("/health", b"application/json", b'{"status": "ok"}'),
        ("/json", b"application/json", b'{"message": "Hello, World!"}'),
        ("/plaintext", b"text/plain; charset=utf-8", b"Hello, World!"),
        ("/slow?ms=0", b"text/plain; charset=utf-8", b"waited 0 ms\n"),
        ("/early-hints", b"text/plain; charset=utf-8", b"the hints came before\n"),
    ],
)
@asynctest
async def test_endpoint_answers(target: str, content_type: bytes, body: bytes) -> None:
    stream = await request(target)
    assert (stream.status, stream.body) == (200, body)
    assert header(stream, b"content-type") == content_type
    assert header(stream, b"content-length") == str(len(body)).encode()


@pytest.mark.parametrize(
    "target",
    ["/", "/chat", "/health", "/json", "/plaintext", "/bytes/100000", "/events", "/protocol"],
)
@asynctest
async def test_head_has_no_content(target: str) -> None:
    stream = await request(target, method=b"HEAD")
    assert (stream.status, stream.body) == (200, b"")


@pytest.mark.parametrize("target", ["/absent", "/health/", "/bytes", "//", "*"])
@asynctest
async def test_unknown_path_is_404(target: str) -> None:
    assert (await request(target)).status == 404


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        (b"POST", "/", b"GET, HEAD"),
        (b"DELETE", "/bytes/1", b"GET, HEAD"),
        (b"GET", "/echo", b"POST, PUT"),
        (b"GET", "/upload", b"POST, PUT"),
        (b"PUT", "/trailers", b"GET, POST"),
    ],
)
@asynctest
async def test_unknown_method_is_405_and_says_what_is_allowed(
    method: bytes, target: str, allow: bytes
) -> None:
    stream = await request(target, method=method)
    assert stream.status == 405
    assert header(stream, b"allow") == allow


@pytest.mark.parametrize(
    "target",
    [
        "/bytes/",
        "/bytes/-1",
        "/bytes/+1",
        "/bytes/1_0",
        "/bytes/%D9%A1",
        "/bytes/10737418241",
        "/bytes/" + "9" * 5000,
        "/slow?ms=60001",
        "/slow?ms=x",
        "/events?count=1000001",
        "/events?interval_ms=-1",
    ],
)
@asynctest
async def test_number_out_of_range_is_400(target: str) -> None:
    stream = await request(target)
    assert stream.status == 400
    assert b"is a number from 0 to" in stream.body


@asynctest
async def test_slow_waits_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert (await request("/slow?ms=250")).body == b"waited 250 ms\n"
    await request("/slow")
    assert waited == [0.25, 1]


@asynctest
async def test_protocol_tells_the_connection() -> None:
    connection = ConnectionInfo(client=("192.0.2.1", 5), server=("192.0.2.2", 4433))
    stream = await answer(
        demo.app,
        request_head(target=b"/protocol", fields=[(b"accept", b"*/*")]),
        connection=connection,
    )
    assert json.loads(stream.body) == {
        "http_version": "3",
        "scheme": "https",
        "client": ["192.0.2.1", 5],
        "server": ["192.0.2.2", 4433],
        "headers": 1,
    }


# -- content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
@asynctest
async def test_upload_answers_size_and_digest(method: bytes) -> None:
    parts = [b"a" * 70_000, b"b" * 70_000]
    stream = await request("/upload", *parts, method=method, http_version="1.1")
    assert json.loads(stream.body) == {
        "size": 140_000,
        "sha256": hashlib.sha256(b"".join(parts)).hexdigest(),
        "http_version": "1.1",
    }


@asynctest
async def test_echo_sends_content_type_and_length_back() -> None:
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    stream = await request("/echo", b"he", b"llo", method=b"POST", fields=fields)
    assert stream.body == b"hello"
    assert header(stream, b"content-type") == b"text/plain"
    assert header(stream, b"content-length") == b"5"


@asynctest
async def test_echo_of_unknown_length_has_none() -> None:
    stream = await request("/echo", method=b"POST")
    assert (stream.body, header(stream, b"content-length")) == (b"", None)
    assert header(stream, b"content-type") == b"application/octet-stream"


@asynctest
async def test_echo_reads_no_more_while_its_reader_is_slow() -> None:
    exchange = Exchange(demo.app, request_head(method=b"POST", target=b"/echo"))
    exchange.open()
    stream = exchange.stream
    stream.gate.pause()
    stream.receive_content(b"a" * 65_536)
    stream.receive_content(b"b" * 65_536)
    await turns()
    assert stream.consumed == 65_536
    stream.gate.resume()
    exchange.receive()
    await exchange.finish()
    assert stream.body == b"a" * 65_536 + b"b" * 65_536


@pytest.mark.parametrize("target", [b"/echo", b"/upload", b"/trailers"])
@asynctest
async def test_upload_that_is_given_up_is_no_error(
    target: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(demo.app, request_head(method=b"POST", target=target))
    exchange.open()
    await turns()
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()
    assert [r for r in caplog.records if r.levelname != "DEBUG"] == []


@pytest.mark.parametrize("size", [0, 1, len(BLOCK), 3 * len(BLOCK) + 1])
@asynctest
async def test_bytes_are_the_pattern(size: int) -> None:
    stream = await request(f"/bytes/{size}")
    assert header(stream, b"content-length") == str(size).encode()
    assert stream.body == (BLOCK * 4)[:size]
    assert hashlib.sha256(stream.body).hexdigest() == pattern_sha256(size)
    assert b"".join(pattern(size)) == stream.body


def test_pattern_is_the_same_for_ever() -> None:
    expected = "1826f6fb15d0b5e6ac2a49ae1e218b61fca25f97558121f5f68e8b16f1892580"
    assert pattern_sha256(1_000_000) == expected


@asynctest
async def test_bytes_wait_for_a_slow_reader() -> None:
    exchange = Exchange(demo.app, request_head(target=b"/bytes/10737418240"))
    exchange.open()
    exchange.receive()
    exchange.stream.gate.pause()
    await turns()
    assert len(exchange.stream.body) == len(BLOCK)
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()


# -- trailers, hints, events -----------------------------------------------------------------------


@asynctest
async def test_trailers_go_both_ways() -> None:
    stream = await request(
        "/trailers",
        b"abc",
        method=b"POST",
        fields=[(b"te", b"trailers")],
        trailers=[(b"x-sum", b"7")],
    )
    assert json.loads(stream.body) == {"size": 3, "trailers": [["x-sum", "7"]]}
    digest = hashlib.sha256(stream.body).hexdigest().encode()
    assert stream.written[-1] == ("trailers", [(b"x-content-sha256", digest)], True)


@asynctest
async def test_early_hints_come_first() -> None:
    stream = await request("/early-hints")
    assert stream.parts[0] == "informational"


@asynctest
async def test_early_hints_are_left_out_where_the_server_has_none() -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/early-hints", "extensions": {}}
    await demo.app(scope, None, send)
    assert sent == ["http.response.start", "http.response.body"]


@asynctest
async def test_events_are_counted_and_end() -> None:
    stream = await request("/events?count=2&interval_ms=0")
    assert header(stream, b"content-type") == b"text/event-stream"
    events = [json.dumps({"event": index, "of": 2, "http_version": "3"}) for index in (1, 2)]
    assert stream.body.decode() == f"id: 1\ndata: {events[0]}\n\nid: 2\ndata: {events[1]}\n\n"


@asynctest
async def test_events_keep_their_interval() -> None:
    stream = await request("/events?count=3&interval_ms=1")
    assert stream.body.count(b"data:") == 3


@asynctest
async def test_events_end_when_the_client_has_gone() -> None:
    exchange = Exchange(demo.app, request_head(target=b"/events?interval_ms=60000"))
    exchange.open()
    exchange.receive()
    await turns()
    assert exchange.stream.body.count(b"data:") == 1
    exchange.stream.receive_abort(ConnectionClosed("gone"))
    await exchange.finish()


# -- other scopes ----------------------------------------------------------------------------------


@asynctest
async def test_demo_has_a_lifespan() -> None:
    run = Lifespan(demo.app, settings=Settings(lifespan="on"))
    await run.startup()
    assert run.supported
    await run.shutdown()


@asynctest
async def test_demo_refuses_other_scopes() -> None:
    with pytest.raises(NotImplementedError, match="webtransport"):
        await demo.app({"type": "webtransport"}, None, None)
