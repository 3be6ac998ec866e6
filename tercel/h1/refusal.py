"""The server's own error responses: a status and its phrase; the connection closes after it."""

from typing import assert_never

from tercel.h1.writer import ResponseWriter, reason_phrase
from tercel.shared.errors import ResetReason
from tercel.shared.messages import RequestHead, ResponseHead
from tercel.shared.response_fields import ResponseFields

# RFC 9110 10.2.1: a 405 has to list the allowed methods; TRACE is never one of them.
_ALLOW = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

# A placeholder for a request whose head could not be parsed.
_UNREADABLE = RequestHead(
    method=b"GET", scheme=b"http", authority=b"", target=b"/", fields=[], http_version="1.1"
)


def refusal_of(reason: ResetReason) -> int | None:
    """The status for an exchange aborted before its response; None to close without one."""
    match reason:
        case ResetReason.INTERNAL_ERROR:
            return 500
        case ResetReason.REQUEST_REJECTED | ResetReason.EXCESSIVE_LOAD:
            return 503
        case ResetReason.REQUEST_INCOMPLETE | ResetReason.MESSAGE_ERROR:
            return 400
        case ResetReason.NO_ERROR | ResetReason.REQUEST_CANCELLED:
            return None
        case _:
            assert_never(reason)


def refusal_response(
    status: int,
    *,
    request: RequestHead | None,
    response_fields: ResponseFields,
    advertise: bool,
) -> tuple[list[bytes], int]:
    """A complete response that ends the connection, and the size of its content.

    `request` is None when it could not be parsed.
    """
    request = request or _UNREADABLE
    content = b"%d %b\n" % (status, reason_phrase(status).encode())
    head = ResponseHead(status, [(b"content-type", b"text/plain; charset=utf-8")])
    if status == 405:
        head.fields.append((b"allow", _ALLOW))
    writer = ResponseWriter(
        request, keep_alive=False, defaults=response_fields, advertise=advertise
    )
    return writer.whole(head, content), 0 if request.method == b"HEAD" else len(content)
