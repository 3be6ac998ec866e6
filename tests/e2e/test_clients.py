"""Clients that are neither tercel's nor aioquic's, against the demo application."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tercel.shared.apps.demo.pattern import pattern_sha256
from tests.e2e.clients import Request, with_curl, with_curl_cffi, with_niquests, with_urllib
from tests.support.process import ServerProcess

CLIENTS: dict[str, tuple[str, Callable[[ServerProcess], Request]]] = {
    "curl_cffi h3": ("3", partial(with_curl_cffi, http="3")),
    "niquests h3": ("3", partial(with_niquests, http="3")),
    "curl_cffi h1": ("1.1", partial(with_curl_cffi, http="1.1")),
    "niquests h1": ("1.1", partial(with_niquests, http="1.1")),
    "urllib h1": ("1.1", with_urllib),
    "curl h1": ("1.1", with_curl),
}
# niquests does not end a request whose response has begun, and urllib knows no interim response
# but 100.
DUPLEX = [name for name in CLIENTS if "curl" in name]
UPLOAD_BYTES = 5_000_000
DOWNLOAD_BYTES = 20_000_000


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, demo: ServerProcess) -> tuple[str, Request]:
    """The version that the client is to speak, and the client."""
    version, make = CLIENTS[request.param]
    return version, make(demo)


def test_client_and_server_agree_on_the_version(client: tuple[str, Request]) -> None:
    version, request = client
    answer = request("GET", "/protocol")
    assert answer.status == 200
    assert answer.version == version
    assert answer.json()["http_version"] == version
    assert answer.json()["scheme"] == "https"


def test_an_upload_arrives_unchanged(client: tuple[str, Request]) -> None:
    version, request = client
    content = os.urandom(UPLOAD_BYTES)
    answer = request("POST", "/upload", content)
    assert answer.json() == {
        "size": UPLOAD_BYTES,
        "sha256": hashlib.sha256(content).hexdigest(),
        "http_version": version,
    }


def test_a_download_arrives_unchanged(client: tuple[str, Request]) -> None:
    version, request = client
    answer = request("GET", f"/bytes/{DOWNLOAD_BYTES}")
    assert (answer.version, answer.status) == (version, 200)
    assert hashlib.sha256(answer.content).hexdigest() == pattern_sha256(DOWNLOAD_BYTES)


@pytest.mark.parametrize("client", DUPLEX, indirect=True)
def test_content_is_echoed_while_it_is_sent(client: tuple[str, Request]) -> None:
    _, request = client
    content = os.urandom(300_000)
    assert request("POST", "/echo", content).content == content


@pytest.mark.parametrize("client", DUPLEX, indirect=True)
def test_early_hints_are_understood(client: tuple[str, Request]) -> None:
    _, request = client
    assert request("GET", "/early-hints").content == b"the hints came before\n"


def test_a_response_of_unknown_length_is_understood(client: tuple[str, Request]) -> None:
    _, request = client
    answer = request("GET", "/events?count=50&interval_ms=0")
    assert answer.content.count(b"\n\n") == 50


def test_a_response_with_trailers_is_understood(client: tuple[str, Request]) -> None:
    _, request = client
    assert request("GET", "/trailers").json() == {"size": 0, "trailers": []}


def test_twenty_clients_are_served_at_the_same_time(client: tuple[str, Request]) -> None:
    version, request = client
    contents = [os.urandom(100_000) for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda content: request("POST", "/upload", content), contents))
    for content, answer in zip(contents, answers, strict=True):
        assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert answer.version == version
