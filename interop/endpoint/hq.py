"""hq-interop: HTTP/0.9 on QUIC streams, the application protocol of the interop runner.

A request is `GET /path`, CR and LF on a stream of the client's; the answer is the content alone,
and the end of the stream is its end. A path that leads to no file is answered by a reset.
"""

from pathlib import Path
from typing import BinaryIO

from aioquic.quic import events

from interop.endpoint.contract import HQ_ALPN
from tercel.quic.http3.protocol import Http3Protocol
from tercel.quic.transport.connection import QuicServerConnection

_MAX_REQUEST_BYTES = 4096
# Enough to keep a connection busy between two acknowledgements.
_CHUNK_BYTES = 65_536
_MAX_BACKLOG_BYTES = 262_144
_NOT_FOUND = 0x1


class HqProtocol(Http3Protocol):
    """A connection that speaks hq-interop if that is agreed on, else HTTP/3.

    Which of them is known only after the first flight, when the connection exists.
    """

    root: Path
    """The directory that files are served from; set on a subclass, see `serving`."""

    _files: "FileSender | None" = None

    @classmethod
    def serving(cls, root: Path) -> "type[HqProtocol]":
        """This class with the files under `root`."""
        return type(cls.__name__, (cls,), {"root": root})

    def quic_event_received(self, event: events.QuicEvent) -> None:
        """Handle one QUIC event."""
        if isinstance(event, events.ProtocolNegotiated) and event.alpn_protocol == HQ_ALPN:
            self._files = FileSender(self.quic, self.root)
        if self._files is None:
            super().quic_event_received(event)
        else:
            self._files.receive(event)

    def needs_transmit(self) -> bool:
        """Whether `transmit` may have anything to do after `process_events`."""
        return self._files is not None or super().needs_transmit()

    def transmit(self) -> None:
        """Send what waits to be sent, after some more of the files."""
        if self._files is not None:
            self._files.send()
        super().transmit()


class FileSender:
    """The files of one connection: requests in, content out."""

    def __init__(self, quic: QuicServerConnection, root: Path) -> None:
        self._quic = quic
        self._root = root.resolve()
        self._requests: dict[int, bytes] = {}
        self._open: dict[int, BinaryIO] = {}

    def receive(self, event: events.QuicEvent) -> None:
        """Take a QUIC event: part of a request, or the end of one."""
        match event:
            case events.StreamDataReceived():
                self._receive_data(event.stream_id, event.data, event.end_stream)
            case events.StreamReset() | events.StopSendingReceived():
                self._requests.pop(event.stream_id, None)
                self._close(event.stream_id)
            case events.ConnectionTerminated():
                for stream_id in list(self._open):
                    self._close(stream_id)

    def send(self) -> None:
        """Queue content, as much as the connection should hold at a time."""
        for stream_id, file in list(self._open.items()):
            while self._quic.can_send(stream_id):
                if self._quic.backlog(stream_id) >= _MAX_BACKLOG_BYTES:
                    break
                data = file.read(_CHUNK_BYTES)
                ended = len(data) < _CHUNK_BYTES
                self._quic.send_stream_data(stream_id, data, end_stream=ended)
            else:
                self._close(stream_id)

    def _receive_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        self._quic.grant(stream_id, len(data))
        if stream_id in self._open or stream_id & 2:
            return
        request = self._requests.pop(stream_id, b"") + data
        if b"\n" in request or ended:
            self._answer(stream_id, request)
        elif len(request) > _MAX_REQUEST_BYTES:
            self._quic.reset_stream(stream_id, _NOT_FOUND)
        else:
            self._requests[stream_id] = request

    def _answer(self, stream_id: int, request: bytes) -> None:
        if not self._quic.can_send(stream_id):
            return
        method, _, path = request.strip().decode("latin-1").partition(" ")
        file = (self._root / path.lstrip("/")).resolve()
        if method != "GET" or not file.is_relative_to(self._root) or not file.is_file():
            self._quic.reset_stream(stream_id, _NOT_FOUND)
            return
        self._open[stream_id] = file.open("rb")

    def _close(self, stream_id: int) -> None:
        file = self._open.pop(stream_id, None)
        if file is not None:
            file.close()
