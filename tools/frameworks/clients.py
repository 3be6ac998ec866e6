"""Other people's clients: libcurl for requests on both versions; for WebSockets, websockets over
HTTP/1.1 and niquests over HTTP/3."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import curl_cffi
import niquests
from websockets.sync.client import connect

from tools.frameworks.servers import Served

_SECONDS = 20
# Less than the 15 s after which frameworks send a comment on a silent event stream.
_HEAD_SECONDS = 5
_VERSIONS: dict[str, tuple[Literal["v1", "v3only"], int]] = {
    "1.1": ("v1", curl_cffi.CurlHttpVersion.V1_1),
    "3": ("v3only", curl_cffi.CurlHttpVersion.V3),
}


class Conversation(Protocol):
    """An open WebSocket."""

    def ask(self, message: str) -> str:
        """Send a message; the next one that comes."""

    def next(self) -> str:
        """The next message that comes."""


class Client:
    """Sends requests over `version`, and fails when it was another."""

    def __init__(self, served: Served, version: str) -> None:
        self.served = served
        self.version = version
        self._asked, self._expected = _VERSIONS[version]
        self._session = curl_cffi.Session(
            verify=str(served.ca_path) if served.ca_path else True,
            http_version=self._asked,
            timeout=_SECONDS,
        )

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def request(self, method: Any, path: str, **options: Any) -> curl_cffi.Response:
        """A response, whatever its status; redirects are not followed."""
        response = self._session.request(
            method, self.served.url + path, allow_redirects=False, **options
        )
        assert response.http_version == self._expected, f"HTTP version {response.http_version}"
        return response

    def get(self, path: str, **options: Any) -> curl_cffi.Response:
        """A response to GET with status 200."""
        return self._successful(self.request("GET", path, **options))

    def post(self, path: str, **options: Any) -> curl_cffi.Response:
        """A response to POST with status 200, or 201."""
        return self._successful(self.request("POST", path, **options))

    @contextmanager
    def streaming(self, path: str, **options: Any) -> Iterator[Any]:
        """A response to GET whose content is still to come; given up at the end of the block."""
        with curl_cffi.Session(
            verify=str(self.served.ca_path) if self.served.ca_path else True,
            http_version=self._asked,
            timeout=_SECONDS,
        ) as session:
            response = session.request("GET", self.served.url + path, stream=True, **options)
            try:
                yield self._successful(response)
            finally:
                response.close()

    def head_alone(self, path: str, headers: dict[str, str]) -> dict[str, str]:
        """The fields of a response to GET with status 200 whose content does not come.

        By niquests: curl_cffi gives no head before there is content.
        """
        with _niquests(self.served, self.version) as session:
            response = session.get(
                self.served.url + path,
                headers=headers,
                stream=True,
                verify=str(self.served.ca_path),
                timeout=_HEAD_SECONDS,
            )
            assert response.http_version == (30 if self.version == "3" else 11)
            return dict(self._successful(response).headers)

    @contextmanager
    def websocket(self, path: str, *subprotocols: str) -> Iterator[Conversation]:
        """An open WebSocket."""
        opened = _over_http3 if self.version == "3" else _over_http1
        with opened(self.served, path, subprotocols) as conversation:
            yield conversation

    @staticmethod
    def _successful(response: Any) -> Any:
        assert response.status_code in (200, 201), f"status {response.status_code}"
        return response


class _Http1Conversation:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def ask(self, message: str) -> str:
        self._connection.send(message)
        return self.next()

    def next(self) -> str:
        message: str = self._connection.recv(timeout=_SECONDS)
        return message


class _Http3Conversation:
    def __init__(self, extension: Any) -> None:
        self._extension = extension

    def ask(self, message: str) -> str:
        self._extension.send_payload(message)
        return self.next()

    def next(self) -> str:
        message: str = self._extension.next_payload()
        return message


def _niquests(served: Served, version: str) -> niquests.Session:
    session = niquests.Session(
        disable_http1=version == "3", disable_http2=True, disable_http3=version != "3"
    )
    if version == "3":
        session.quic_cache_layer.add_domain("localhost", served.port)
    return session


@contextmanager
def _over_http1(served: Served, path: str, subprotocols: tuple[str, ...]) -> Iterator[Conversation]:
    context = ssl.create_default_context(cafile=str(served.ca_path)) if served.ca_path else None
    with connect(
        served.url.replace("http", "ws", 1) + path,
        ssl=context,
        subprotocols=list(subprotocols) or None,  # type: ignore[arg-type]
        proxy=None,
    ) as connection:
        yield _Http1Conversation(connection)


@contextmanager
def _over_http3(served: Served, path: str, subprotocols: tuple[str, ...]) -> Iterator[Conversation]:
    with _niquests(served, "3") as session:
        response = session.get(
            served.url.replace("https", "wss+rfc8441", 1) + path,
            headers={"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {},
            verify=str(served.ca_path),
            timeout=_SECONDS,
        )
        assert response.status_code == 200, f"status {response.status_code}"
        assert response.http_version == 30, f"HTTP version {response.http_version}"
        extension: Any = response.extension
        yield _Http3Conversation(extension)
        extension.close()
