"""One qlog file per connection, written when the connection is over. Knows no sockets."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from aioquic.quic.logger import QLOG_VERSION, QuicLogger, QuicLoggerTrace

from tercel.shared.logs import logger
from tercel.shared.private_files import create_private

log = logger("tercel.quic")


class QlogDirectory(QuicLogger):
    """Writes traces to `directory`, readable by the server's user only.

    A file name consists of the time, a random part and the original connection ID, which the client
    chooses and may repeat. `clock` gives seconds since 1970.

    Replaces aioquic's QuicFileLogger, in a third of the time: that encodes piece by piece, and a
    download of 25 MiB has half a million pieces.
    """

    def __init__(self, directory: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._directory = Path(directory)
        self._clock = clock

    def start_trace(self, is_client: bool, odcid: bytes) -> QuicLoggerTrace:
        """The trace that a connection writes its events to."""
        return QuicLoggerTrace(is_client=is_client, odcid=odcid)

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        """Write the file, or log why it cannot be written."""
        content = trace.to_dict()
        text = json.dumps(
            {"qlog_format": "JSON", "qlog_version": QLOG_VERSION, "traces": [content]}
        )
        at = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock()))
        odcid = content["common_fields"]["ODCID"]
        try:
            with create_private(
                self._directory / f"{at}-{secrets.token_hex(4)}-{odcid}.qlog"
            ) as file:
                file.write(text)
        except OSError as error:
            log.warning("a qlog cannot be written: %s", error)
