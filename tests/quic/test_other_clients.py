"""The same endpoint with HTTP/3 stacks that share no code with it: curl's and qh3's."""

import asyncio

import curl_cffi
import niquests
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.quic.served import echo, serving
from tests.support.asynchronous import asynctest
from tests.support.credentials import credential
from tests.support.h3_client import H3Client

CONTENT = bytes(range(256)) * 2000


async def with_curl(method, url, content, authority):
    async with curl_cffi.AsyncSession(verify=authority) as session:
        response = await session.request(
            method, url, data=content, http_version=curl_cffi.CurlHttpVersion.V3ONLY, timeout=60
        )
    assert response.http_version == curl_cffi.CurlHttpVersion.V3
    return response.status_code, response.content


async def with_niquests(method, url, content, authority):
    def run():
        with niquests.Session(disable_http1=True, disable_http2=True) as session:
            host, port = url.split("/")[2].split(":")
            session.quic_cache_layer.add_domain(host, int(port))
            response = session.request(method, url, data=content, verify=authority, timeout=60)
            return response.http_version, response.status_code, response.content

    version, status, body = await asyncio.to_thread(run)
    assert version == 30
    return status, body


@pytest.mark.parametrize("client", [with_curl, with_niquests])
@pytest.mark.parametrize(("method", "content"), [("GET", b""), ("POST", CONTENT)])
@asynctest
async def test_a_request_is_answered(client, method, content, tmp_path):
    authority = tmp_path / "authority.pem"
    authority.write_bytes(credential().chain[0].public_bytes(Encoding.PEM))
    async with serving(echo) as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert await client(method, url, content, str(authority)) == (200, content)
        (exchange,) = server.exchanges
        assert exchange.stream.head.http_version == "3"


@asynctest
async def test_a_client_that_is_refused_fails_without_waiting(tmp_path):
    async with serving(echo) as server:
        server.endpoint.stop_accepting()
        with pytest.raises(niquests.exceptions.ConnectionError) as caught:
            await with_niquests("GET", f"https://127.0.0.1:{server.port}/", b"", False)
        assert not isinstance(caught.value, niquests.exceptions.Timeout)


@asynctest
async def test_curl_that_is_refused_tries_again_until_there_is_room():
    """It does so every 200 ms, which is its own choice."""
    async with serving(echo, max_connections=1) as server:
        async with H3Client(server.port):
            url = f"https://127.0.0.1:{server.port}/"
            answer = asyncio.ensure_future(with_curl("GET", url, b"", False))
            met = server.endpoint.context.limits.met
            await server.until(lambda: met["max_connections"] >= 4)
        assert await answer == (200, b"")
