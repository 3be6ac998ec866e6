"""How an exchange ends when the application does not end it: errors logged once, a status sent."""

import asyncio
from http import HTTPStatus

from tercel.shared.errors import StreamAborted
from tercel.shared.logs import logger
from tercel.shared.messages import Fields, ResponseHead
from tercel.shared.stream import RequestStream
from tercel.shared.tasks import TaskSet

log = logger("tercel.asgi")

# What frameworks raise when `receive` tells them that the client has gone; no error of theirs.
_DISCONNECT_ERRORS = frozenset(
    ("ClientDisconnect", "ClientDisconnected", "RequestAborted", "WebSocketDisconnect")
)


# One request does not decide about the process: a sys.exit() in its handler, or in a library that
# the handler calls, is an error like any other. A KeyboardInterrupt comes from outside.
APPLICATION_ERRORS = (Exception, SystemExit)


def is_from_outside(error: BaseException, tasks: TaskSet) -> bool:
    """Whether `error`, which left a call that runs in `tasks`, ends it from outside.

    A CancelledError does when the server stops and its grace period is over. Else the application
    has cancelled what it waits for, or itself, and that is an error of its own.
    """
    if isinstance(error, asyncio.CancelledError):
        return tasks.cancelled
    return isinstance(error, (KeyboardInterrupt, GeneratorExit))


def is_disconnect(error: BaseException) -> bool:
    """Whether `error` left an application only because its client had gone.

    That is StreamAborted, or what a framework made of it or of a disconnect message.
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
    """Log what left the application that served `name`, with its traceback if it is a fault.

    `gone` is whether the application was told that its client has gone.
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
