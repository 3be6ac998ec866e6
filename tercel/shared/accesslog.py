"""One line per exchange when its response has ended. Knows messages, not connections."""

import logging

from tercel.shared.messages import RequestHead

log = logging.getLogger("tercel.access")

# What a terminal would act on must not reach it: everything but printable ASCII is escaped.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x22, 0x5C, *range(0x7F, 0x100))}


def log_exchange(
    head: RequestHead, *, client: str, status: int, size: int, seconds: float, note: str = ""
) -> None:
    """Log one exchange: who asked for what, the status, content bytes sent, and the time taken.

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
        f" ({note})" if note else "",
    )


def _printable(raw: bytes) -> str:
    return raw.decode("latin-1").translate(_ESCAPES)
