"""What both browsers do: fetch files from a page, and save what came."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CERTIFICATE = Path("/certs/cert.pem")
AUTHORITY = Path("/certs/ca.pem")
_DOWNLOADS = Path("/downloads")

# Whether a file came over HTTP/3 is in its resource timing.
_FETCH = """\
(async () => {
    const response = await fetch(%s, {cache: "no-store"});
    if (!response.ok) throw new Error(`status ${response.status}`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192)
        text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    const timing = performance.getEntriesByName(response.url).pop();
    return {body: btoa(text), protocol: timing ? timing.nextHopProtocol : "unknown"};
})()"""


def page_of(url: str) -> str:
    """A page of the same origin that shows as text, though it is but an error."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def fetch_script(url: str) -> str:
    """JavaScript whose value is a promise of the content, in base64, and the protocol."""
    return _FETCH % json.dumps(url)


def save_all(urls: list[str], evaluate: Callable[[str], dict[str, Any]]) -> None:
    """Fetch `urls` by `evaluate` and save them. Ends the program if one was not had by HTTP/3."""
    for url in urls:
        answer = evaluate(fetch_script(url))
        print(f"{url}: {len(answer['body'])} characters, protocol {answer['protocol']}", flush=True)
        if answer["protocol"] != "h3":
            raise SystemExit("this was not HTTP/3")
        path = _DOWNLOADS / urlsplit(url).path.rpartition("/")[2]
        path.write_bytes(base64.b64decode(answer["body"]))


def public_key_hash() -> str:
    """What Chromium knows the server's key by: SHA-256 of the SubjectPublicKeyInfo, in base64."""
    certificate = x509.load_pem_x509_certificate(CERTIFICATE.read_bytes())
    digest = Hash(SHA256())
    digest.update(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    return base64.b64encode(digest.finalize()).decode()
