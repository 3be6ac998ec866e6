"""Ends an exchange that the application did not end: logs the error once, sends a status."""

import asyncio
from http import HTTPStatus

from tercel.shared.errors import StreamAborted
from tercel.shared.logs import logger
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.stream import RequestStream
from tercel.shared.tasks import TaskSet

log = logger("tercel.asgi")

# Exceptions of frameworks for a disconnect message; they are not errors of the application.
_DISCONNECT_ERRORS = frozenset(
    ("ClientDisconnect", "ClientDisconnected", "RequestAborted", "WebSocketDisconnect")
)


# One request must not end the process: a sys.exit() in its handler, or in a library that
# the handler calls, is an error like any other. A KeyboardInterrupt comes from outside.
APPLICATION_ERRORS = (Exception, SystemExit)


def is_from_outside(error: BaseException, tasks: TaskSet) -> bool:
    """Whether `error`, raised by an application call in `tasks`, was caused from outside it.

    A CancelledError was when the server stops and its grace period is over. Else the application
    has cancelled what it awaits, or itself, and that is an error of the application.
    """
    if isinstance(error, asyncio.CancelledError):
        return tasks.cancelled
    return isinstance(error, (KeyboardInterrupt, GeneratorExit))


def is_disconnect(error: BaseException) -> bool:
    """Whether an application raised `error` only because its client had disconnected.

    Such an error is StreamAborted, or a framework's exception for it or for a disconnect message.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(is_disconnect(part) for part in error.exceptions)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StreamAborted) or type(cause).__name__ in _DISCONNECT_ERRORS:
            return True
        cause = cause.__cause__
    return False


def log_failure(name: str, error: BaseException, *, gone: bool) -> None:
    """Log `error`, raised by the application for `name`, with its traceback if it is a fault.

    `gone` says whether the application was told that its client has disconnected.
    """
    if gone and is_disconnect(error):
        log.debug("%s ended when its client had gone: %r", name, error)
    else:
        log.error("%s failed", name, exc_info=error)


def answer_status(stream: RequestStream, status: HTTPStatus, fields: Fields | None = None) -> None:
    """Answer with `status` and its phrase as text."""
    content = status.phrase.encode()
    head = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(content)),
        *(fields or ()),
    ]
    stream.send_head(ResponseHead(int(status), head))
    stream.send_content(content, end_stream=True)
