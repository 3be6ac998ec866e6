"""Other people's clients behind one call. Only `curl_cffi` and `niquests` speak HTTP/3."""

import http.client
import json
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import curl_cffi
import niquests

from tests.support.process import ServerProcess
from tests.support.programs import program

_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """A response; `version` is what the client says it came over."""

    version: str
    status: int
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


Request = Callable[..., Answer]
"""(method, path, content=None) -> Answer, on a connection or a process of its own."""


def with_curl_cffi(server: ServerProcess, *, http: str) -> Request:
    """libcurl with ngtcp2 and nghttp3, or its HTTP/1.1."""
    versions = {curl_cffi.CurlHttpVersion.V3: "3", curl_cffi.CurlHttpVersion.V1_1: "1.1"}

    def request(method: str, path: str, content: bytes | None = None) -> Answer:
        with curl_cffi.Session() as session:
            response = session.request(
                method,  # type: ignore[arg-type]
                server.url + path,
                data=content,
                verify=str(server.ca_path),
                http_version="v3only" if http == "3" else "v1",
                timeout=_SECONDS,
            )
            version = curl_cffi.CurlHttpVersion(response.http_version)
            return Answer(versions[version], response.status_code, response.content)

    return request


def with_niquests(server: ServerProcess, *, http: str) -> Request:
    """urllib3.future with qh3, or its HTTP/1.1."""

    def request(method: str, path: str, content: bytes | None = None) -> Answer:
        with niquests.Session(
            disable_http1=http == "3", disable_http2=True, disable_http3=http != "3"
        ) as session:
            session.quic_cache_layer.add_domain("localhost", server.port)
            response = session.request(
                method,
                server.url + path,
                data=content,
                verify=str(server.ca_path),
                timeout=_SECONDS,
            )
            versions = {30: "3", 11: "1.1"}
            assert response.raw is not None
            assert response.content is not None
            assert response.status_code is not None
            return Answer(versions[response.raw.version], response.status_code, response.content)

    return request


def with_urllib(server: ServerProcess) -> Request:
    """The standard library's."""
    context = ssl.create_default_context(cafile=str(server.ca_path))

    def request(method: str, path: str, content: bytes | None = None) -> Answer:
        asked = urllib.request.Request(server.url + path, data=content, method=method)
        with urllib.request.urlopen(asked, context=context, timeout=_SECONDS) as response:
            assert isinstance(response, http.client.HTTPResponse)
            version = {10: "1.0", 11: "1.1"}[response.version]
            return Answer(version, response.status, response.read())

    return request


def with_curl(server: ServerProcess) -> Request:
    """The system's curl, which speaks HTTP/1.1 here."""
    curl = program("curl")

    def request(method: str, path: str, content: bytes | None = None) -> Answer:
        command = [curl, "--silent", "--show-error", "--cacert", str(server.ca_path), "--http1.1"]
        command += ["--request", method, "--max-time", str(_SECONDS)]
        command += ["--write-out", r"%{stderr}%{http_version} %{http_code}", server.url + path]
        if content is not None:
            command += ["--data-binary", "@-", "--header", "content-type: application/octet-stream"]
        done = subprocess.run(command, input=content or b"", capture_output=True, check=True)
        version, status = done.stderr.decode().split()
        return Answer(version, int(status), done.stdout)

    return request
