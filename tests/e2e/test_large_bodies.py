"""Large bodies in both directions, streamed at both ends, their SHA-256 compared.

64 MiB each; a whole GiB with TERCEL_TEST_FULL=1.
"""

import hashlib
import http.client
import io
import os
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import curl_cffi
import pytest

from tercel.shared.apps.demo.pattern import BLOCK, pattern, pattern_sha256
from tests.support.process import ServerProcess

SIZE = 1 << (30 if os.environ.get("TERCEL_TEST_FULL") == "1" else 26)
SECONDS = 600
# What the server may grow by meanwhile: bodies are streamed, never stored.
MOST_GROWTH_BYTES = 16 * 1_048_576


class Pattern(io.RawIOBase):
    """A file with the demo application's pattern, of which only a part is in memory at a time."""

    def __init__(self, size: int) -> None:
        self._parts: Iterator[bytes] = pattern(size)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._rest:
            self._rest = next(self._parts, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def transfer_with_curl(server: ServerProcess, *, version: int, upload: bool) -> bytes:
    """POST the pattern, or GET it; the content of the response, or its SHA-256 for a GET."""
    curl = curl_cffi.Curl()
    digest, answer = hashlib.sha256(), bytearray()

    def written(data: bytes) -> int:
        digest.update(data)
        if upload:
            answer.extend(data)
        return len(data)

    option = curl_cffi.CurlOpt
    curl.setopt(option.CAINFO, str(server.ca_path).encode())
    curl.setopt(option.HTTP_VERSION, version)
    curl.setopt(option.TIMEOUT, SECONDS)
    curl.setopt(option.WRITEFUNCTION, written)
    path = f"/bytes/{SIZE}"
    if upload:
        path = "/upload"
        curl.setopt(option.POST, 1)
        curl.setopt(option.POSTFIELDSIZE_LARGE, SIZE)
        curl.setopt(option.READFUNCTION, Pattern(SIZE).read)
    curl.setopt(option.URL, (server.url + path).encode())
    try:
        curl.perform()
    finally:
        curl.close()
    return bytes(answer) if upload else digest.hexdigest().encode()


def transfer_with_http_client(server: ServerProcess, *, upload: bool) -> bytes:
    """The same with the standard library, on HTTP/1.1."""
    context = ssl.create_default_context(cafile=str(server.ca_path))
    connection = http.client.HTTPSConnection(
        "localhost", server.port, context=context, timeout=SECONDS
    )
    try:
        if upload:
            fields = {"content-length": str(SIZE)}
            connection.request("POST", "/upload", Pattern(SIZE), fields)
            return connection.getresponse().read()
        connection.request("GET", f"/bytes/{SIZE}")
        digest = hashlib.sha256()
        response = connection.getresponse()
        while data := response.read(len(BLOCK)):
            digest.update(data)
        return digest.hexdigest().encode()
    finally:
        connection.close()


Transfer = Callable[..., bytes]
TRANSFERS: dict[str, Transfer] = {
    "curl_cffi h3": partial(transfer_with_curl, version=curl_cffi.CurlHttpVersion.V3ONLY),
    "curl_cffi h1": partial(transfer_with_curl, version=curl_cffi.CurlHttpVersion.V1_1),
    "http.client h1": transfer_with_http_client,
}


@pytest.fixture(scope="module")
def sha256() -> bytes:
    return pattern_sha256(SIZE).encode()


@pytest.fixture(params=TRANSFERS)
def transfer(request: pytest.FixtureRequest) -> Transfer:
    return TRANSFERS[request.param]


@pytest.fixture(scope="module")
def server(data_directory: Path) -> Iterator[ServerProcess]:
    """One of its own, so that nothing else makes it grow."""
    with ServerProcess(data_directory=data_directory) as running:
        yield running


@pytest.fixture
def bounded_growth(server: ServerProcess) -> Iterator[None]:
    """Fail if the server takes more memory than streaming needs."""
    before = server.resident_bytes
    yield
    assert server.peak_resident_bytes - before <= MOST_GROWTH_BYTES


@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("bounded_growth")
def test_an_upload_has_the_same_hash_at_both_ends(
    server: ServerProcess, transfer: Transfer, sha256: bytes
) -> None:
    answer = transfer(server, upload=True)
    assert b'"sha256": "%b"' % sha256 in answer
    assert b'"size": %d' % SIZE in answer


@pytest.mark.timeout(SECONDS)
@pytest.mark.usefixtures("bounded_growth")
def test_a_download_has_the_same_hash_at_both_ends(
    server: ServerProcess, transfer: Transfer, sha256: bytes
) -> None:
    assert transfer(server, upload=False) == sha256
