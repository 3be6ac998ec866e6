"""HTTP/3 clients from PyPI: python -m interop.clients.libraries NAME URL...

Each URL is saved in /downloads under its last path segment; status 1 if one was not had by HTTP/3.
"""

import io
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_DOWNLOADS = Path("/downloads")
_AUTHORITY = "/certs/ca.pem"

# Takes a URL; the body, and the HTTP version in the library's own words.
Fetch = Callable[[str], tuple[bytes, str]]


def _pycurl() -> Fetch:
    pycurl: Any = import_module("pycurl")
    # CURL_HTTP_VERSION_3ONLY, which older releases of pycurl have no name for.
    http_version_3_only = 31
    curl = pycurl.Curl()

    def fetch(url: str) -> tuple[bytes, str]:
        body = io.BytesIO()
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.HTTP_VERSION, http_version_3_only)
        curl.setopt(pycurl.CAINFO, _AUTHORITY)
        curl.setopt(pycurl.FAILONERROR, True)
        curl.setopt(pycurl.WRITEDATA, body)
        curl.perform()
        return body.getvalue(), f"3 ({curl.getinfo(pycurl.INFO_HTTP_VERSION)})"

    return fetch


def _curl_cffi() -> Fetch:
    requests: Any = import_module("curl_cffi.requests")
    session = requests.Session(http_version="v3only", verify=_AUTHORITY)

    def fetch(url: str) -> tuple[bytes, str]:
        response = session.get(url)
        response.raise_for_status()
        return response.content, f"3 ({response.http_version})"

    return fetch


def _niquests() -> Fetch:
    niquests: Any = import_module("niquests")
    session = niquests.Session(disable_http1=True, disable_http2=True)

    def fetch(url: str) -> tuple[bytes, str]:
        # Without it, the first request would look for HTTP/3 by way of TCP.
        parts = urlsplit(url)
        session.quic_cache_layer.add_domain(parts.hostname or "", parts.port, parts.port)
        # Given here, it stands above REQUESTS_CA_BUNDLE.
        response = session.get(url, verify=_AUTHORITY)
        response.raise_for_status()
        return response.content, f"{(response.http_version or 0) / 10:g}"

    return fetch


def _impit() -> Fetch:
    impit: Any = import_module("impit")
    # It has no way to name an authority.
    client = impit.Client(http3=True, verify=False)

    def fetch(url: str) -> tuple[bytes, str]:
        response = client.get(url, force_http3=True)
        response.raise_for_status()
        return response.content, response.http_version

    return fetch


_LIBRARIES: dict[str, Callable[[], Fetch]] = {
    "pycurl": _pycurl,
    "curl_cffi": _curl_cffi,
    "niquests": _niquests,
    "impit": _impit,
}


def main() -> None:
    """Download."""
    name, *urls = sys.argv[1:]
    fetch = _LIBRARIES[name]()
    for url in urls:
        body, version = fetch(url)
        print(f"{url}: {len(body)} bytes, HTTP version {version}")
        if "3" not in version:
            sys.exit("this was not HTTP/3")
        (_DOWNLOADS / urlsplit(url).path.rpartition("/")[2]).write_bytes(body)


if __name__ == "__main__":
    main()
