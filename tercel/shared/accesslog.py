"""The access log: one line per exchange at its end, including those that the server refused.

Knows messages, not connections.
"""

from tercel.shared.logs import logger
from tercel.shared.messages import RequestHead

log = logger("tercel.access", escaped=True)

# What a terminal would act on must not reach it: everything but printable ASCII is escaped, and so
# are the two characters that quoting needs.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x22, 0x5C, *range(0x7F, 0x100))}
# Many lines may wait to be written, and targets may be long; what is left out is shown as "...".
SHOWN_BYTES = 2048


def log_exchange(
    head: RequestHead, *, client: str, status: int, size: int, seconds: float, note: str = ""
) -> None:
    """Log one exchange: client, request, status, content bytes sent, and the time taken.

    `note` says why it ended early, if it did. Status 0 means that no response was begun.
    """
    log.info(
        '%s "%s %s HTTP/%s" %s %d %.1fms%s',
        client,
        _printable(head.method),
        _printable(head.target),
        head.http_version,
        status or "-",
        size,
        seconds * 1000,
        _in_parentheses(note),
    )


def log_refusal(
    request_line: bytes | None, *, client: str, status: int, size: int, seconds: float, note: str
) -> None:
    """Log a request that was refused before its head was complete.

    `request_line` is the known part of it, None if there is none. For the rest see `log_exchange`.
    """
    log.info(
        '%s "%s" %s %d %.1fms%s',
        client,
        "-" if request_line is None else _printable(request_line),
        status or "-",
        size,
        seconds * 1000,
        _in_parentheses(note),
    )


def _printable(raw: bytes) -> str:
    if len(raw) > SHOWN_BYTES:
        raw = raw[:SHOWN_BYTES] + b"..."
    return raw.decode("latin-1").translate(_ESCAPES)


def _in_parentheses(note: str) -> str:
    # It may be the client's: the reason phrase of a CONNECTION_CLOSE (RFC 9000 19.19) is.
    return f" ({_printable(note.encode('utf-8', 'surrogatepass'))})" if note else ""
