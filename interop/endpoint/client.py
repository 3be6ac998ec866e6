"""The client role: downloads the URLs it is given into /downloads. On aioquic's client side.

tercel itself has no client; this one is here because the runner takes an image that has both.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlsplit

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.logger import QuicFileLogger
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import CipherSuite, SessionTicket

from interop.endpoint.contract import HQ_ALPN, Contract, read_contract
from interop.endpoint.driver import ClientConnection, Driver
from tercel.shared.loop import run
from tercel.shared.tasks import TaskSet

_H3_ALPN = "h3"
_WINDOW_BYTES = 16_777_216
# A server that allows a hundred streams at a time is usual.
_IN_FLIGHT = 100
_IDLE_SECONDS = 60.0
_TICKET_SECONDS = 20.0
_RESERVED_VERSION = 0x1A2A3A4A
# A NAT that forgot its mapping lets the server's packets through again only after one of ours, and
# who only receives has none to send.
_PING_SECONDS = 1.0
# The files of 1 KiB come within seconds when nothing is lost; with 30 % loss, most of them do.
_ATTEMPTS = 3


class Failed(Exception):
    """A download did not complete."""


class FileClient(Driver):
    """Downloads files over one connection, by hq-interop or HTTP/3."""

    def __init__(
        self, quic: ClientConnection, host: str, port: int, *, wait: bool, downloads: Path
    ) -> None:
        super().__init__(quic, host, port, wait=wait)
        self._downloads = downloads
        self._files: dict[int, BinaryIO] = {}
        self._done: dict[int, asyncio.Future[None]] = {}
        self._http: H3Connection | None = None
        self._ended: str | None = None
        if self.quic.configuration.alpn_protocols == [_H3_ALPN]:
            self._http = H3Connection(self.quic)

    async def download(self, url: str) -> None:
        """Save what `url` has under its last path segment. Raises Failed."""
        parts = urlsplit(url)
        if self._ended is not None:
            raise Failed(self._ended)
        file = self._downloads / parts.path.rpartition("/")[2]
        stream_id = self.quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        self._done[stream_id] = done
        self._files[stream_id] = file.open("wb")
        if self._http is not None:
            self._http.send_headers(stream_id, _head(parts.netloc, parts.path), end_stream=True)
        else:
            self.quic.send_stream_data(stream_id, f"GET {parts.path}\r\n".encode(), True)
        self.transmit()
        await done

    def update_keys(self) -> None:
        """Begin the next key phase (RFC 9001 6)."""
        self.quic.request_key_update()
        self.transmit()

    def ping_once(self) -> None:
        """Send a PING, whose answer nobody waits for."""
        self.quic.send_ping(id(self))
        self.transmit()

    def event_received(self, event: events.QuicEvent) -> None:
        """Handle one QUIC event."""
        if isinstance(event, events.ConnectionTerminated):
            self._ended = f"closed: 0x{event.error_code:x} {event.reason_phrase}"
            for stream_id in list(self._done):
                self._finish(stream_id, Failed(self._ended))
        elif isinstance(event, events.StreamReset):
            self._finish(event.stream_id, Failed(f"reset: 0x{event.error_code:x}"))
        elif self._http is not None:
            for item in self._http.handle_event(event):
                self._http_event_received(item)
        elif isinstance(event, events.StreamDataReceived):
            self._receive(event.stream_id, event.data, event.end_stream)

    def _http_event_received(self, event: Any) -> None:
        if isinstance(event, HeadersReceived):
            status = dict(event.headers).get(b":status")
            if status not in (b"200", None):
                self._finish(event.stream_id, Failed(f"status {status!r}"))
            elif event.stream_ended:
                self._finish(event.stream_id, None)
        elif isinstance(event, DataReceived):
            self._receive(event.stream_id, event.data, event.stream_ended)

    def _receive(self, stream_id: int, data: bytes, ended: bool) -> None:
        file = self._files.get(stream_id)
        if file is None:
            return
        file.write(data)
        if ended:
            self._finish(stream_id, None)

    def _finish(self, stream_id: int, error: Failed | None) -> None:
        file = self._files.pop(stream_id, None)
        done = self._done.pop(stream_id, None)
        if file is not None:
            file.close()
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


class Downloads:
    """One test case: which connections there are, and what each of them downloads."""

    def __init__(self, contract: Contract, keylog: TextIO | None) -> None:
        self._contract = contract
        self._tickets: list[SessionTicket] = []
        self._ticket_came = asyncio.Event()
        self._keylog = keylog
        self._options = _parser().parse_args(contract.arguments)

    async def run(self) -> None:
        """Do what the test case says. Raises Failed, OSError.

        SIGTERM cancels it: the connection is closed first, so that its qlog is whole.
        """
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        urls = self._contract.requests
        match self._contract.testcase:
            case "resumption":
                await self._fetch_and_resume(urls, early=False)
            case "zerortt":
                await self._fetch_and_resume(urls, early=True)
            case "multiconnect" | "handshakeloss" | "handshakecorruption":
                for url in urls:
                    await self._fetch_persistently(url)
            case "keyupdate":
                await self._fetch(urls, prepare=FileClient.update_keys)
            case _:
                await self._fetch(urls)

    async def _fetch_and_resume(self, urls: Sequence[str], *, early: bool) -> None:
        await self._fetch(urls[:1], want_ticket=True)
        await self._fetch(urls[1:], early=early)

    async def _fetch_persistently(self, url: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await self._fetch([url])
            except (Failed, ConnectionError):
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    async def _fetch(
        self,
        urls: Sequence[str],
        *,
        want_ticket: bool = False,
        early: bool = False,
        prepare: Callable[[FileClient], None] | None = None,
    ) -> None:
        async with self._client(urls[0], wait=not early) as client:
            if prepare is not None:
                # RFC 9001 6.1: not before the handshake is confirmed, which a round trip shows.
                await client.ping()
                prepare(client)
            async with _pinging(client):
                await _all(client.download, urls, in_flight=self._options.in_flight)
            if want_ticket:
                async with asyncio.timeout(_TICKET_SECONDS):
                    await self._ticket_came.wait()

    def _client(self, url: str, *, wait: bool) -> FileClient:
        parts = urlsplit(url)
        host = parts.hostname or ""
        quic = ClientConnection(
            configuration=self._configuration(host), session_ticket_handler=self._ticket_received
        )
        downloads = self._contract.downloads
        return FileClient(quic, host, parts.port or 443, wait=wait, downloads=downloads)

    def _ticket_received(self, ticket: SessionTicket) -> None:
        self._tickets.append(ticket)
        self._ticket_came.set()

    def _configuration(self, host: str) -> QuicConfiguration:
        testcase = self._contract.testcase
        resumes = testcase in ("resumption", "zerortt")
        configuration = QuicConfiguration(
            is_client=True,
            server_name=host,
            alpn_protocols=[_H3_ALPN if testcase == "http3" else HQ_ALPN],
            max_data=_WINDOW_BYTES,
            max_stream_data=_WINDOW_BYTES,
            idle_timeout=self._options.idle_timeout,
            secrets_log_file=self._keylog,
            # Elsewhere, each connection is to show a handshake of its own.
            session_ticket=self._tickets[-1] if self._tickets and resumes else None,
        )
        configuration.load_verify_locations(str(self._contract.certificates / "ca.pem"))
        if testcase == "chacha20":
            configuration.cipher_suites = [CipherSuite.CHACHA20_POLY1305_SHA256]
        if testcase == "v2":
            # RFC 9368: the first flight in version 1, with version 2 as what is liked better.
            configuration.original_version = QuicProtocolVersion.VERSION_1
            configuration.supported_versions = [
                QuicProtocolVersion.VERSION_2,
                QuicProtocolVersion.VERSION_1,
            ]
        else:
            configuration.supported_versions = [QuicProtocolVersion.VERSION_1]
        if testcase == "versionnegotiation":
            # RFC 9000 15: reserved, so no server has it; aioquic needs to know it all the same.
            configuration.original_version = _RESERVED_VERSION
            configuration.supported_versions.append(_RESERVED_VERSION)
        if self._contract.qlog_dir is not None:
            configuration.quic_logger = QuicFileLogger(self._contract.qlog_dir)
        return configuration


@asynccontextmanager
async def _pinging(client: FileClient) -> AsyncIterator[None]:
    """Send a PING now and then."""
    tasks = TaskSet(asyncio.get_running_loop())

    async def ping() -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            client.ping_once()

    tasks.spawn(ping(), name="pings")
    try:
        yield
    finally:
        await tasks.cancel_all()


async def _all(
    download: Callable[[str], Awaitable[None]], urls: Sequence[str], *, in_flight: int
) -> None:
    """Download all, some at a time. Raises what the first failure raises."""
    room = asyncio.Semaphore(in_flight)

    async def one(url: str) -> None:
        async with room:
            await download(url)

    await asyncio.gather(*(one(url) for url in urls))


def _head(authority: str, path: str) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", authority.encode()),
        (b":path", path.encode()),
        (b"user-agent", b"tercel-interop"),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="CLIENT_PARAMS", add_help=False)
    parser.add_argument("--in-flight", type=int, default=_IN_FLIGHT, help="requests at a time")
    parser.add_argument("--idle-timeout", type=float, default=_IDLE_SECONDS, help="seconds")
    return parser


def main() -> None:
    """Do what the environment asks for; status 1 if a download failed."""
    contract = read_contract(os.environ)
    if contract.qlog_dir is not None:
        Path(contract.qlog_dir).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            keylog = None
            if contract.keylog_file is not None:
                keylog = stack.enter_context(Path(contract.keylog_file).open("a"))
            run(Downloads(contract, keylog).run(), "auto")
    except (Failed, OSError, TimeoutError) as error:
        sys.exit(f"failed: {error or type(error).__name__}")
    except asyncio.CancelledError:
        sys.exit("stopped")
    print(f"{len(contract.requests)} files in {time.monotonic() - began:.3f} s")


if __name__ == "__main__":
    main()
