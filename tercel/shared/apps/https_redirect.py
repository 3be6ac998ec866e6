"""Redirects a cleartext request on a TLS port to the same URI with the scheme https.

Knows nothing of how such a request is distinguished from a TLS handshake.
"""

from tercel.shared.errors import ServerError
from tercel.shared.messages import RequestHead, ResponseHead
from tercel.shared.stream import Application, RequestHandler, RequestStream

_PERMANENT_REDIRECT = 308
_BAD_REQUEST = 400
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_CLOSE = (b"connection", b"close")


class HttpsRedirect(Application):
    """Redirects to the same authority and target with the scheme https (RFC 9110 15.4.9)."""

    def open(self, stream: RequestStream) -> RequestHandler:
        """Answer at once; a request without a Host cannot be redirected and gets a 400."""
        fields = [_TEXT, _CLOSE]
        location = _location(stream.head)
        if location is None:
            status, content = _BAD_REQUEST, b"This port is for https.\n"
        else:
            status, content = _PERMANENT_REDIRECT, b"This port is for https: %b\n" % location
            fields.append((b"location", location))
        stream.send_response(ResponseHead(status, fields), content)
        return _Answered()

    async def startup(self) -> None:
        """Nothing to start."""

    async def shutdown(self) -> None:
        """Nothing to stop."""


class _Answered(RequestHandler):
    """Ignores all events: the response is complete before there is a handler."""

    def content_received(self) -> None: ...

    def message_complete(self) -> None: ...

    def aborted(self, error: ServerError) -> None: ...

    def response_aborted(self, error: ServerError) -> None: ...


def _location(head: RequestHead) -> bytes | None:
    if not head.authority or not head.target.startswith(b"/"):
        return None
    return b"https://" + head.authority + head.target
