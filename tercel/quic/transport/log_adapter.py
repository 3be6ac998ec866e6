"""aioquic's log of a connection, demoted to DEBUG."""

import logging
from collections.abc import MutableMapping
from typing import Any


class DebugLog(logging.LoggerAdapter[logging.Logger]):
    """Demotes aioquic's log to DEBUG: a peer can cause any of its warnings at will."""

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
