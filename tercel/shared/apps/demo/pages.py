"""The pages of the demo application, and the policy that each is sent with."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercel.shared.messages import Fields

_FOLDER = files(__package__)
_STYLE = _FOLDER.joinpath("style.css").read_text("utf-8")


class Page:
    """A page that knows the HTTP version that it comes over."""

    def __init__(self, file: str) -> None:
        self._text = _FOLDER.joinpath(file).read_text("utf-8").replace("{{style}}", _STYLE)
        self.fields: Fields = [
            (b"cache-control", b"no-store"),
            (b"content-security-policy", _policy(self._text)),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
        ]

    def over(self, http_version: str) -> bytes:
        """The page for a request of that version."""
        return self._text.replace("{{http_version}}", http_version).encode()


def _policy(page: str) -> bytes:
    """A Content-Security-Policy that lets exactly the page's own scripts and styles run."""
    sources = {}
    for tag in ("script", "style"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = (base64.b64encode(hashlib.sha256(part.encode()).digest()) for part in inline)
        sources[tag] = " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ).encode()
