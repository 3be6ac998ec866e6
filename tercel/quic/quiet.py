"""What aioquic logs of a connection, for whoever wants to know it."""

import logging
from collections.abc import MutableMapping
from typing import Any


class DebugLog(logging.LoggerAdapter[logging.Logger]):
    """aioquic's log. Whatever it warns of, a peer brought about: nobody wants a line for each."""

    def isEnabledFor(self, level: int) -> bool:
        return self.logger.isEnabledFor(logging.DEBUG)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        # Asked once: in a handshake there are twelve of them.
        if self.logger.isEnabledFor(logging.DEBUG):
            super().log(logging.DEBUG, msg, *args, **kwargs)

    info = warning = debug

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self.logger.isEnabledFor(logging.DEBUG):
            super().log(logging.DEBUG, msg, *args, **kwargs)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return f"{self.extra['id']}: {msg}", kwargs  # type: ignore[index]
