"""Several certificates behind one port, with clients that verify the name they asked for."""

import curl_cffi
import pytest

import tercel
from tests.support.asynchronous import asynctest

_VERSIONS = {
    "h1": curl_cffi.CurlHttpVersion.V1_1,
    "h3": curl_cffi.CurlHttpVersion.V3ONLY,
}


async def hello(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["http_version"].encode()})


async def ask(version, name, port, authority):
    """The content of a response from `name`; CurlError when its certificate does not fit."""
    options = {curl_cffi.CurlOpt.RESOLVE: [f"{name}:{port}:127.0.0.1"]}
    async with curl_cffi.AsyncSession(verify=authority, curl_options=options) as session:
        url = f"https://{name}:{port}/"
        response = await session.get(url, http_version=_VERSIONS[version], timeout=60)
        return response.text


@pytest.mark.parametrize("version", _VERSIONS)
@asynctest
async def test_the_certificate_is_that_of_the_name_that_was_asked_for(
    version, credential_for, root, tmp_path
):
    authority = tmp_path / "root.pem"
    authority.write_bytes(root.pem)
    server = await tercel.serve(
        "127.0.0.1",
        0,
        hello,
        ssl=[
            credential_for("localhost"),
            credential_for("other.test", kind="rsa"),
            credential_for("*.wild.test", kind="p384"),
        ],
        version=3,
        run_async=True,
    )
    port = int(server.addresses[0].rpartition(":")[2])
    try:
        for name in ("localhost", "other.test", "OTHER.test", "a.wild.test"):
            answer = await ask(version, name, port, str(authority))
            assert answer == {"h1": "1.1", "h3": "3"}[version]
        with pytest.raises(curl_cffi.CurlError):
            await ask(version, "unknown.test", port, str(authority))
    finally:
        await server.close()
