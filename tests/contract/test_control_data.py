"""Method, scheme, authority and target: each version gives the same answer, and the same scope."""

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.apps import Receive, Scope, Send, http_only, respond
from tests.contract.conftest import BothServed
from tests.support.asynchronous import PATIENCE_SECONDS, asynctest
from tests.support.h3_client import HEADERS, H3Client, frame, section

_MESSAGE_ERROR = 0x10E


@dataclass(frozen=True)
class Case:
    """A request as every version can say it, and the status that it gets; 400 is malformed.

    `scheme` and `authority` are the target's, in absolute-form or as pseudo-header fields. Without
    them HTTP/1.1 has origin-form, and HTTP/3 the scheme alone.
    """

    status: int
    method: bytes = b"GET"
    path: bytes = b"/"
    scheme: bytes | None = None
    authority: bytes | None = None
    hosts: tuple[bytes, ...] = (b"localhost",)

    @property
    def h1(self) -> bytes:
        """As HTTP/1.1 has it."""
        target = self.path
        if self.method == b"CONNECT":
            target = self.authority or b""
        elif self.scheme is not None or self.authority is not None:
            authority = self.hosts[0] if self.authority is None else self.authority
            target = (self.scheme or b"https") + b"://" + authority + self.path
        lines = [b"%b %b HTTP/1.1" % (self.method, target)]
        lines += [b"Host: " + host for host in self.hosts]
        return b"\r\n".join([*lines, b"", b""])

    @property
    def h3(self) -> bytes:
        """As HTTP/3 has it."""
        lines = [(b":method", self.method)]
        if self.method != b"CONNECT":
            lines += [(b":scheme", self.scheme or b"https"), (b":path", self.path)]
        if self.authority is not None:
            lines.append((b":authority", self.authority))
        lines += [(b"host", host) for host in self.hosts]
        return frame(HEADERS, section(lines))


VALID_AUTHORITIES = [
    *(b"localhost", b"LOCALHOST", b"example.org:8443", b"example.org:000080", b"example.org:"),
    *(b"a_b.test", b"a%20b", b"127.0.0.1:1", b"[::1]", b"[2001:db8::1]:443", b"[::ffff:1.2.3.4]"),
    *(b"[v1.foo]", b"[vF.a:b]:1", b"a" * 300, b"xn--4ca.test", b"a!$&'()*+;=b"),
]
INVALID_AUTHORITIES = [
    *(b"[", b"]", b"[]", b":", b":80", b"%zz", b"%", b"a%2", b"a:b:c", b"localhost:99999x"),
    *(b"a:-1", b"a:123456", b"[::1", b"::1", b"[::1]x", b"[1::2::3]", b"[....]", b"[::1%eth0]"),
    *(b"[v.foo]", b"[v1.]", b"[vg.a]", b"u@a", b"u:p@a:1", b"a[b]", b"[[::1]]", b"a\\b", b'"a"'),
]
METHODS = {
    **dict.fromkeys((b"GET", b"POST", b"PURGE", b"QUERY", b"M-SEARCH", b"PROPFIND"), 200),
    # RFC 9110 9.1: methods are case-sensitive.
    **dict.fromkeys((b"get", b"Get", b"trace", b"connect", b"BREW", b"DESCRIBE", b"PRI"), 501),
    b"TRACE": 405,
}
PATHS = {
    **dict.fromkeys((b"/", b"/a%20b?c=d&e", b"//a", b"/a//b/../c", b'/"{}|\\^`<>'), 200),
    **dict.fromkeys((b"*", b"a", b"?a", b"/#a", b"/a\x7f", b"/a\x01", b"/a b", b"/\xe4"), 400),
}

CASES = {
    **{f"method {name.decode()}": Case(status, name) for name, status in METHODS.items()},
    **{f"path {path!r}": Case(status, path=path) for path, status in PATHS.items()},
    **{f"Host {value!r}": Case(200, hosts=(value,)) for value in VALID_AUTHORITIES},
    **{f"Host {value!r}": Case(400, hosts=(value,)) for value in INVALID_AUTHORITIES},
    **{
        f"target for {value!r}": Case(200, authority=value, hosts=(value,))
        for value in VALID_AUTHORITIES
    },
    **{
        f"target for {value!r}": Case(400, authority=value, hosts=(value,))
        for value in INVALID_AUTHORITIES
    },
    "an empty Host": Case(400, hosts=(b"",)),
    "neither a Host nor an authority": Case(400, hosts=()),
    "two equal Hosts": Case(400, hosts=(b"localhost", b"localhost")),
    "two different Hosts": Case(400, hosts=(b"localhost", b"a.test")),
    "two equal Hosts beside an authority": Case(
        400, authority=b"localhost", hosts=(b"localhost", b"localhost")
    ),
    "the asterisk of OPTIONS": Case(200, b"OPTIONS", b"*"),
    "OPTIONS of a path": Case(200, b"OPTIONS"),
    "the scheme of the connection": Case(200, scheme=b"https"),
    "the scheme of the connection in upper case": Case(200, scheme=b"HTTPS"),
    "http over TLS": Case(421, scheme=b"http"),
    "http over TLS in upper case": Case(421, scheme=b"HTTP"),
    "another scheme": Case(400, scheme=b"ftp"),
    "the scheme of WebSockets": Case(400, scheme=b"wss"),
    "CONNECT to a port": Case(400, b"CONNECT", authority=b"a.test:443", hosts=(b"a.test:443",)),
    "CONNECT to no port": Case(400, b"CONNECT", authority=b"a.test", hosts=(b"a.test",)),
    "CONNECT to an invalid authority": Case(400, b"CONNECT", authority=b"[", hosts=(b"a",)),
}


class Server:
    """Both versions of one server, asked raw; what its application is called with is kept."""

    def __init__(self, both_served: BothServed) -> None:
        self._scopes: list[Scope] = []
        self._serving = both_served(http_only(self._record))

    async def __aenter__(self) -> "Server":
        server = await self._serving.__aenter__()
        self._port = int(server.addresses[0].rpartition(":")[2])
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._serving.__aexit__(*error)

    async def over_h1(self, data: bytes) -> tuple[int, dict[str, Any] | None]:
        """The status of the answer, and what the application saw."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=context)
        writer.write(data)
        line = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
        writer.transport.abort()
        return int(line.split()[1]), self._seen()

    async def over_h3(self, data: bytes) -> tuple[int, dict[str, Any] | None]:
        """The same; a malformed message's stream is reset, which stands for 400."""
        async with H3Client(self._port) as client:
            answers = []
            for _ in range(2):  # what is known of the first must not let the second pass
                stream = client.send(client.open(), data, end=True)
                await client.until(lambda stream=stream: stream.done)
                assert stream.reset_code in (None, _MESSAGE_ERROR)
                answers.append((stream.status or 400, self._seen()))
            assert answers[0] == answers[1]
            assert (await client.request()).status == 200, "the connection lives"
            assert self._seen() is not None
        return answers[0]

    async def _record(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scopes.append(scope)
        await respond(send)

    def _seen(self) -> dict[str, Any] | None:
        if not self._scopes:
            return None
        scope = self._scopes.pop()
        told = {key: scope[key] for key in ("method", "scheme", "path", "raw_path", "query_string")}
        return {**told, "hosts": [value for name, value in scope["headers"] if name == b"host"]}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@asynctest
async def test_each_version_gives_the_same_answer_and_the_same_scope(
    both_served: BothServed, case: Case
) -> None:
    async with Server(both_served) as server:
        h1, h3 = await server.over_h1(case.h1), await server.over_h3(case.h3)
        assert h1 == h3
        status, scope = h1
        assert status == case.status
        assert (scope is not None) == (status == 200)
        if scope is not None:
            assert scope["method"] == case.method.decode()
            assert scope["scheme"] == "https"
            assert scope["raw_path"] == case.path.partition(b"?")[0]
            assert scope["hosts"] == [case.authority or case.hosts[0]]
