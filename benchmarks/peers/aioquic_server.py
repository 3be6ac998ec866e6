"""A server as aioquic's users write it: aioquic.asyncio's `serve`, its HTTP/3 layer, and no more.

The least that Python over aioquic costs as it comes, to compare handshakes and datagrams with. It
answers requests as `app.py` does; uploads are counted, and nothing else is read.

    python aioquic_server.py CERT KEY PORT
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent
from aioquic.tls import SessionTicket

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import content  # beside the other servers' applications

_IDLE_SECONDS = 300.0


class Tickets:
    """Sessions that may be resumed, remembered as aioquic would have it."""

    def __init__(self) -> None:
        self._known: dict[bytes, SessionTicket] = {}

    def add(self, ticket: SessionTicket) -> None:
        """Remember a ticket."""
        self._known[ticket.ticket] = ticket

    def fetch(self, name: bytes) -> SessionTicket | None:
        """The ticket of that name, if it was given out here."""
        return self._known.get(name)


class Http3Server(QuicConnectionProtocol):
    """Answers each request when all of it has come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http: H3Connection | None = None
        self._paths: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        if self._http is None:
            return
        for item in self._http.handle_event(event):
            if isinstance(item, HeadersReceived):
                self._paths[item.stream_id] = dict(item.headers)[b":path"]
                self._sizes[item.stream_id] = 0
            elif isinstance(item, DataReceived):
                self._sizes[item.stream_id] += len(item.data)
            if isinstance(item, (HeadersReceived, DataReceived)) and item.stream_ended:
                self._answer(self._http, item.stream_id)

    def _answer(self, http: H3Connection, stream_id: int) -> None:
        path, size = self._paths.pop(stream_id), self._sizes.pop(stream_id)
        if path == b"/wait":
            http.send_headers(stream_id, [(b":status", b"200")])
            http.send_data(stream_id, b"waiting", end_stream=False)
        else:
            body, kind = _body(path, size)
            fields = [(b":status", b"200"), (b"content-type", kind)]
            fields.append((b"content-length", b"%d" % len(body)))
            http.send_headers(stream_id, fields)
            http.send_data(stream_id, body, end_stream=True)
        self.transmit()


def _body(path: bytes, received: int) -> tuple[bytes, bytes]:
    if path == b"/json":
        return content.JSON, b"application/json"
    if path.startswith(b"/bytes/"):
        return b"".join(content.chunks(int(path[len(b"/bytes/") :]))), b"application/octet-stream"
    if path == b"/upload":
        return b"%d" % received, b"text/plain"
    return content.PLAINTEXT, b"text/plain"


async def _main(certificate: str, key: str, port: int) -> None:
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], is_client=False, idle_timeout=_IDLE_SECONDS
    )
    configuration.load_cert_chain(certificate, key)
    tickets = Tickets()
    await serve(
        "127.0.0.1",
        port,
        configuration=configuration,
        create_protocol=Http3Server,
        session_ticket_fetcher=tickets.fetch,
        session_ticket_handler=tickets.add,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
