"""The requests that the loads send: what browsers, API clients and RPC clients send, made up.

Each load process is one client. On a connection a client repeats its fields, its cookies and its
token, and its targets change; so does this. All of it comes from seeded generators: every run and
every server gets the same requests in the same order.
"""

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

# More than a cache of recent requests would hold, and a second's worth of a fast server.
TARGETS = 8000
# Of these each has a body of 64 KiB in its file of requests.
_UPLOAD_TARGETS = 64
PAGE_REQUESTS = 20
_PAGES = 50
HOST = "www.shop.example"
_UPLOAD_BYTES = 65_536
_MESSAGES = 512

Field = tuple[str, str]


@dataclass(frozen=True)
class Client:
    """One kind of client.

    `fields` are spelled and ordered as over HTTP/1.1, without Host, Connection and Cookie. A
    Referer there is the one of HTTP/3; over HTTP/1.1 it is an earlier target, and changes after
    `requests_of_page` requests. `only_http3` are fields that the client sends over HTTP/2 and 3
    alone. `targets` are the kinds of what it asks for, each named as often as it weighs.
    """

    name: str
    fields: tuple[Field, ...]
    cookies: tuple[str, ...]
    only_http3: tuple[Field, ...]
    targets: str
    requests_of_page: int = PAGE_REQUESTS


@dataclass(frozen=True)
class Requests:
    """What one load process sends, in this order and then again from the start.

    `body` is the content of every request; None for GET, which has none.
    """

    client: Client
    fields: tuple[Field, ...]
    targets: list[str]
    body: bytes | None = None

    def http3_fields(self) -> list[Field]:
        """The fields over HTTP/3: lower case, each cookie a line (RFC 9114 4.2.1)."""
        lines = [(name.lower(), value) for name, value in self.fields]
        lines += [("cookie", cookie) for cookie in self.client.cookies]
        return lines + [(name, value) for name, value in self.client.only_http3]

    def http1_requests(self) -> Iterator[bytes]:
        """The whole requests over HTTP/1.1, one for each target."""
        origin = f"https://{HOST}"
        method = "GET" if self.body is None else "POST"
        page = self.targets[-1]
        for number, target in enumerate(self.targets):
            lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", "Connection: keep-alive"]
            for name, value in self.fields:
                lines.append(f"{name}: {origin + page if name == 'Referer' else value}")
            if self.client.cookies:
                lines.append(f"Cookie: {'; '.join(self.client.cookies)}")
            if self.body is not None:
                lines.append(f"Content-Length: {len(self.body)}")
            if number % self.client.requests_of_page == 0:
                page = target
            yield "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


def _token(seed: str, length: int) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(random.Random(seed).choices(alphabet, k=length))


def _cookies(client: str) -> tuple[str, str]:
    number = random.Random(client)
    visitor = f"_ga=GA1.1.{number.randrange(10**9)}.{number.randrange(10**9, 2 * 10**9)}"
    return f"session={_token(client, 64)}", visitor


def _trace(seed: str) -> str:
    number = random.Random(seed)
    return f"00-{number.getrandbits(128):032x}-{number.getrandbits(64):016x}-01"


_REFERER = f"https://{HOST}/shop/items/48213?page=3&sort=price"
_CHROMIUM = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/141.0.0.0 Safari/537.36"
)
_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0"
_SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.6 Safari/605.1.15"
)
_HTML = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    "*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)

CLIENTS = (
    # Goes from page to page.
    Client(
        "chromium",
        (
            ("Cache-Control", "max-age=0"),
            ("sec-ch-ua", '"Chromium";v="141", "Not?A_Brand";v="8"'),
            ("sec-ch-ua-mobile", "?0"),
            ("sec-ch-ua-platform", '"Linux"'),
            ("DNT", "1"),
            ("Upgrade-Insecure-Requests", "1"),
            ("User-Agent", _CHROMIUM),
            ("Accept", _HTML),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-User", "?1"),
            ("Sec-Fetch-Dest", "document"),
            ("Referer", _REFERER),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
        ),
        _cookies("chromium"),
        (("priority", "u=0, i"),),
        "PPPPSA",
        requests_of_page=1,
    ),
    # Loads what pages consist of.
    Client(
        "firefox",
        (
            ("User-Agent", _FIREFOX),
            ("Accept", "*/*"),
            ("Accept-Language", "de,en-US;q=0.7,en;q=0.3"),
            ("Accept-Encoding", "gzip, deflate, br, zstd"),
            ("DNT", "1"),
            ("Sec-GPC", "1"),
            ("Referer", _REFERER),
            ("Sec-Fetch-Dest", "script"),
            ("Sec-Fetch-Mode", "no-cors"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Priority", "u=2"),
            ("Pragma", "no-cache"),
            ("Cache-Control", "no-cache"),
        ),
        _cookies("firefox"),
        (("te", "trailers"),),
        "FFFFPA",
    ),
    # A page's script, with the fields of a framework and of tracing.
    Client(
        "safari",
        (
            ("Accept", "application/json, text/plain, */*"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Dest", "empty"),
            ("Sec-Fetch-Mode", "cors"),
            ("Accept-Language", "fr-FR,fr;q=0.9"),
            ("Accept-Encoding", "gzip, deflate, br"),
            ("User-Agent", _SAFARI),
            ("Referer", _REFERER),
            ("Priority", "u=3, i"),
            ("X-Requested-With", "XMLHttpRequest"),
            ("X-CSRF-Token", _token("csrf", 40)),
            ("sentry-trace", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
            ("baggage", "sentry-environment=production,sentry-release=web%40412.7"),
        ),
        _cookies("safari"),
        (),
        "AAASP",
    ),
    # An app on a telephone.
    Client(
        "okhttp",
        (
            ("Authorization", f"Bearer {_token('a', 36)}.{_token('b', 310)}.{_token('c', 43)}"),
            ("Accept", "application/json"),
            ("Accept-Language", "sv-SE"),
            ("X-Client-Version", "8.21.0 (android 15)"),
            ("X-Device-Id", "6f1d3c0a-2b9e-4a57-9d6e-0c41f3f0a7b2"),
            ("X-Api-Version", "2026-03-01"),
            ("X-Session-Id", _token("app", 32)),
            ("traceparent", _trace("okhttp")),
            ("Cache-Control", "no-cache"),
            ("Accept-Encoding", "gzip"),
            ("User-Agent", "okhttp/4.12.0"),
        ),
        (),
        (),
        "A",
    ),
)  # fmt: skip


def _caller(name: str, agent: str, encodings: str, *more: Field) -> Client:
    fields = (
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", agent),
        ("grpc-accept-encoding", encodings),
        ("grpc-timeout", "900m"),
        ("authorization", f"Bearer {_token(name, 120)}"),
        ("traceparent", _trace(name)),
    )
    return Client(name, (*fields, *more), (), (), "C")


# gRPC's fields are lower case, as it knows nothing older than HTTP/2.
CALLERS = (
    _caller("grpc-go", "grpc-go/1.76.0", "gzip"),
    _caller("grpc-java", "grpc-java-netty/1.76.0", "gzip", ("x-tenant", "north")),
    _caller("grpc-python", "grpc-python/1.76.0 grpc-c/50.0.0", "identity, deflate, gzip"),
    _caller("grpc-dotnet", "grpc-dotnet/2.71.0 (.NET 9.0.9)", "identity,gzip", ("x-lane", "b")),
)


def pages() -> list[Requests]:
    """GETs of pages, of what belongs to them, and of an API."""
    return [Requests(client, client.fields, targets(client)) for client in CLIENTS]


def single_pages() -> list[list[Requests]]:
    """For each client the loads of single pages: `PAGE_REQUESTS` of its targets each."""
    starts = range(0, _PAGES * PAGE_REQUESTS, PAGE_REQUESTS)
    return [
        [
            Requests(whole.client, whole.fields, whole.targets[at : at + PAGE_REQUESTS])
            for at in starts
        ]
        for whole in pages()
    ]


def json_posts() -> list[Requests]:
    """POSTs of JSON, from 300 bytes to 4 KiB."""
    sizes = (300, 900, 2000, 4096)
    return [
        Requests(client, _posting(client), targets(client, "W"), _document(client.name, size))
        for client, size in zip(CLIENTS, sizes, strict=True)
    ]


def calls() -> list[Requests]:
    """Small RPC calls as gRPC makes them: 20 to 62 bytes of protobuf behind a prefix of five."""
    return [
        Requests(client, client.fields, targets(client), struct.pack(">BI", 0, size) + bytes(size))
        for client, size in zip(CALLERS, (20, 34, 48, 62), strict=True)
    ]


def large_documents() -> list[Requests]:
    """GETs of the 16 KiB of JSON, which pay no heed to the query."""
    return [
        Requests(
            client, client.fields, [f"/json?page={n}&of={client.name}" for n in range(TARGETS)]
        )
        for client in CLIENTS
    ]


def uploads() -> list[Requests]:
    """POSTs of 64 KiB."""
    body = bytes(range(256)) * (_UPLOAD_BYTES // 256)
    return [
        Requests(
            client,
            tuple((n, "application/octet-stream" if n == "Content-Type" else v) for n, v in fields),
            [f"/upload?part={number}&of={client.name}" for number in range(_UPLOAD_TARGETS)],
            body,
        )
        for client, fields in ((client, _posting(client)) for client in CLIENTS)
    ]


def _posting(client: Client) -> tuple[Field, ...]:
    """The fields of a client that posts from a script."""
    changed = {
        "Accept": "application/json",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Dest": "empty",
    }
    of_a_page = ("Upgrade-Insecure-Requests", "Sec-Fetch-User", "Cache-Control", "Pragma")
    fields = [(n, changed.get(n, v)) for n, v in client.fields if n not in of_a_page]
    if client.cookies:
        fields.append(("Origin", f"https://{HOST}"))
    return (*fields, ("Content-Type", "application/json"))


def _document(seed: str, size: int) -> bytes:
    rng = random.Random(f"document of {seed}")
    lines: list[dict[str, object]] = []
    while len(json.dumps(lines)) < size - 130:
        lines.append(
            {"item": rng.randrange(10**6), "count": rng.randrange(1, 9), "note": rng.choice(_WORDS)}
        )
    text = json.dumps({"cart": _token(seed, 16), "lines": lines, "pad": ""})
    return text.replace('"pad": ""', f'"pad": "{"x" * max(0, size - len(text))}"').encode()


@lru_cache
def targets(client: Client, kinds: str = "") -> list[str]:
    """`TARGETS` distinct targets of the client's kinds, always the same."""
    rng = random.Random(f"targets of {client.name} {kinds}")
    found: dict[str, None] = {}
    while len(found) < TARGETS:
        found[_KINDS[rng.choice(kinds or client.targets)](rng)] = None
    return list(found)


_WORDS = ("café crème", "größe 42", "東京", "naïve", "100 % wool", "boots & laces", "plain", "red")
_SHELVES = ("shoes", "garden", "lamps", "kitchen", "books", "t-shirts", "Größen")
_CAMPAIGNS = ("newsletter", "spring_sale", "partner-17", "social")


def _page(rng: random.Random) -> str:
    item, page = rng.randrange(10_000, 99_999), rng.randrange(1, 40)
    sort = rng.choice(("price", "rating", "new"))
    if rng.random() < 0.3:
        return f"/{quote(rng.choice(_SHELVES))}/{quote(rng.choice(_WORDS))}-{item}"
    path = f"/shop/items/{item}?page={page}&sort={sort}"
    if rng.random() < 0.4:
        campaign = rng.choice(_CAMPAIGNS)
        path += f"&utm_source={campaign}&utm_medium=email&utm_campaign=w{rng.randrange(52)}"
    return path


def _search(rng: random.Random) -> str:
    words = quote(" ".join(rng.sample(_WORDS, 2)), safe="")
    return f"/search?q={words}&in={quote(rng.choice(_SHELVES))}&from={rng.randrange(0, 1000, 20)}"


def _api(rng: random.Random) -> str:
    number = rng.getrandbits(128)
    who = f"{number >> 96:08x}-{number >> 80 & 0xFFFF:04x}-4{number >> 64 & 0xFFF:03x}"
    if rng.random() < 0.5:
        status = rng.choice(("open", "shipped", "returned"))
        cursor = quote(_token(str(number), 22) + "==", safe="")
        return f"/api/v1/users/{who}/orders?status={status}&limit=20&cursor={cursor}"
    return f"/api/v1/items/{number % 10**6}?fields=id%2Cname%2Cprice&currency=EUR"


def _file(rng: random.Random) -> str:
    version, number = f"{rng.getrandbits(24):06x}", rng.randrange(1000)
    return rng.choice(
        (
            f"/static/app.{version}.js",
            f"/static/chunks/{number}.{version}.js",
            f"/static/css/main.{version}.css",
            f"/static/img/{number}-{version}.webp?w={rng.choice((320, 640, 1280))}",
        )
    )


def _write(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"/api/v1/carts/{rng.getrandbits(64):016x}/lines"
    return f"/api/v1/items/{rng.randrange(10**6)}/reviews?notify={rng.choice(('yes', 'no'))}"


def _method(rng: random.Random) -> str:
    # More methods than an API has: they change in the place of grpc-timeout and traceparent, which
    # a client sets anew for each call and a load generator cannot.
    return f"/shop.v1.{rng.choice(_SERVICES)}/Get{rng.randrange(10**5)}"


_SERVICES = ("Catalog", "Prices", "Stock", "Carts", "Orders")
_KINDS: dict[str, Callable[[random.Random], str]] = {
    "P": _page,
    "S": _search,
    "A": _api,
    "F": _file,
    "W": _write,
    "C": _method,
}


@lru_cache
def messages() -> list[str | bytes]:
    """WebSocket messages, text and binary, of 10 bytes to 4 KiB, most of them below 200."""
    rng = random.Random("messages")
    made: list[str | bytes] = []
    for _ in range(_MESSAGES):
        size = min(4096, max(10, round(rng.lognormvariate(4.2, 1.1))))
        text = ("".join(rng.choices("abcdefghij klmnopq {}:,", k=64)) * (size // 64 + 1))[:size]
        made.append(text if rng.random() < 0.6 else text.encode())
    return made
