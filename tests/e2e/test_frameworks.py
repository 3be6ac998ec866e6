"""Starlette, FastAPI and Django as they are: the same requests on HTTP/1.1 and on HTTP/3."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import curl_cffi
import pytest

from tests.support.process import ServerProcess

APPS = Path(__file__).parent / "apps"
SIZE = 1_300_000
DATA = os.urandom(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()
VERSIONS: dict[str, tuple[Literal["v1", "v3only"], int]] = {
    "1.1": ("v1", curl_cffi.CurlHttpVersion.V1_1),
    "3": ("v3only", curl_cffi.CurlHttpVersion.V3),
}
# How many answers to wait for a task that runs after its response.
TRIES = 1000


@pytest.fixture(scope="module", params=["starlette", "fastapi", "django"])
def server(
    request: pytest.FixtureRequest, data_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    file = tmp_path_factory.mktemp("files") / "data"
    file.write_bytes(DATA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2E_FILE", str(file))
        arguments = (f"{request.param}_app:app", "--app-dir", str(APPS))
        # They log what fails on purpose.
        with ServerProcess(
            *arguments, data_directory=data_directory, may_log_tracebacks=True
        ) as running:
            yield running


class Client:
    """One connection of libcurl with the version that it has to use."""

    def __init__(self, server: ServerProcess, version: str) -> None:
        self.server = server
        self.version = version
        self._asked, self._expected = VERSIONS[version]
        self.session = curl_cffi.Session(
            verify=str(server.ca_path), http_version=self._asked, timeout=60
        )

    def request(self, method: Any, path: str, **options: Any) -> curl_cffi.Response:
        response = self.session.request(method, self.server.url + path, **options)
        assert response.http_version == self._expected
        return response


@pytest.fixture(params=VERSIONS)
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Client]:
    client = Client(server, request.param)
    with client.session:
        yield client


def test_json_with_path_query_fields_and_state(client: Client) -> None:
    response = client.request("GET", "/items/42?q=a%20b", headers={"x-agent": "test"})
    assert response.json() == {
        "id": 42,
        "q": "a b",
        "agent": "test",
        "version": client.version,
        "state": "at startup",
    }
    assert response.headers["content-type"] == "application/json"


def test_a_multipart_form_with_a_file(client: Client) -> None:
    form = curl_cffi.CurlMime()
    form.addpart(name="name", data="größe")
    form.addpart(name="file", filename="data.bin", data=DATA)
    try:
        response = client.request("POST", "/form", multipart=form)
    finally:
        form.close()
    expected = {"name": "größe", "filename": "data.bin", "size": SIZE, "sha256": SHA256}
    assert response.json() == expected


def test_a_file_as_an_attachment(client: Client) -> None:
    response = client.request("GET", "/download")
    assert response.headers["content-length"] == str(SIZE)
    assert "data.bin" in str(response.headers["content-disposition"])
    assert hashlib.sha256(response.content).hexdigest() == SHA256


def test_a_streamed_response(client: Client) -> None:
    response = client.request("GET", "/stream")
    assert "content-length" not in response.headers
    assert response.content == b"".join(b"line %d\n" % index for index in range(1000))


def test_a_streamed_upload(client: Client) -> None:
    assert client.request("POST", "/upload", data=DATA).json() == {"sha256": SHA256}


def test_a_task_runs_after_its_response(client: Client) -> None:
    name = f"task over {client.version}"
    response = client.request("POST", f"/background?name={name.replace(' ', '%20')}")
    assert (response.status_code, response.json()) == (202, {"begun": True})
    assert any(name in client.request("GET", "/background").json() for _ in range(TRIES))


def test_cookies_in_both_directions(client: Client) -> None:
    response = client.request("GET", "/cookie", headers={"cookie": "sent=1"})
    assert response.json() == {"sent": "1"}
    assert dict(response.cookies) == {"first": "1", "second": "2"}


def test_a_head_request(client: Client) -> None:
    response = client.request("HEAD", "/download")
    if response.status_code != 405:  # FastAPI's routes take no HEAD
        assert response.headers["content-length"] == str(SIZE)
    assert response.content == b""


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/error", 500)])
def test_errors_have_their_status(client: Client, path: str, status: int) -> None:
    assert client.request("GET", path).status_code == status
    assert client.request("GET", "/stream").status_code == 200
