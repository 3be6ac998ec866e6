"""ngtcp2's client against both servers, over loopback and in real time: each hears the same.

A real client is not repeatable to the packet. So the comparison is of what the application sees,
and of the frames that the server sends, by type, after decryption with the keys it has logged.
"""

import io
import select
import socket
import subprocess
import threading
import time
from collections import defaultdict
from typing import Any

import pytest
from aioquic import tls
from aioquic.quic import events
from aioquic.quic.crypto import CryptoContext, CryptoError

from interop.tools import find_tool
from tests.oracle import frames
from tests.oracle.packets import VERSION_1, PacketType, initial_keys, read_header, updated
from tests.oracle.servers import SERVERS
from tests.support.ports import free_port

LIMIT_SECONDS = 20.0
SIZES = {"short": 100, "long": 300_000}

# HTTP/3 as far as it is needed: an empty SETTINGS frame on a control stream; a response that is
# 200, which is the 25th entry of QPACK's static table.
_SETTINGS = b"\x00\x04\x00"
_HEAD = b"\x01\x03\x00\x00\xd9"
_TIMING = {"PADDING", "PING", "ACK", "MAX_DATA", "MAX_STREAM_DATA", "CRYPTO"}
_SUITES = {48: tls.CipherSuite.AES_256_GCM_SHA384, 32: tls.CipherSuite.AES_128_GCM_SHA256}


class Served:
    """One connection, served in a thread until it has ended."""

    def __init__(self, kind: str, port: int, size: int) -> None:
        self.events: dict[str, Any] = defaultdict(list)
        self.datagrams: list[bytes] = []
        self.original_destination = b""
        self.client_id = b""
        self.secrets = io.StringIO()
        self._kind, self._size = kind, size
        self._server: Any = None
        self._received: dict[int, bytes] = defaultdict(bytes)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the connection has ended."""
        self._thread.join()
        self._socket.close()
        self.events["data"] = dict(self._received)

    def _run(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self.events["terminated"] and time.monotonic() < deadline:
            timer = deadline if self._server is None else self._server.get_timer()
            rest = max(0.0, min(timer or deadline, deadline) - time.monotonic())
            if select.select([self._socket], [], [], rest)[0]:
                self._take(*self._socket.recvfrom(65_536))
            elif self._server is not None:
                self._server.handle_timer(time.monotonic())
            if self._server is not None:
                self._hear()
                self._send()

    def _take(self, data: bytes, address: Any) -> None:
        if self._server is None:
            header = read_header(data, 0)
            self.original_destination, self.client_id = header.destination, header.source
            self._server = SERVERS[self._kind](header.destination, secrets_log_file=self.secrets)
        self._server.receive_datagram(data, address, time.monotonic())

    def _send(self) -> None:
        for data, address in self._server.datagrams_to_send(time.monotonic()):
            self.datagrams.append(data)
            self._socket.sendto(data, address)

    def _hear(self) -> None:
        while (event := self._server.next_event()) is not None:
            match event:
                case events.HandshakeCompleted(alpn, _, _):
                    self.events["alpn"].append(alpn)
                    self._server.send_stream_data(3, _SETTINGS, False)
                case events.StreamDataReceived(data, fin, stream_id):
                    self._received[stream_id] += data
                    self._server.grant(stream_id, len(data))
                    if fin and not stream_id & 3:
                        body = b"\x00" + frames.sized(bytes(self._size))
                        self._server.send_stream_data(stream_id, _HEAD + body, True)
                case events.StreamReset(code, stream_id):
                    self.events["reset"].append((stream_id, code))
                case events.StopSendingReceived(code, stream_id):
                    self.events["stop"].append((stream_id, code))
                case events.ConnectionTerminated(code, frame_type, _):
                    self.events["terminated"].append((code, frame_type))

    def frames(self) -> dict[str, set[str]]:
        """The names of the frames that were sent, by packet type; without those of timing."""
        keys = self._keys()
        expected: dict[PacketType, int] = defaultdict(int)
        found: dict[str, set[str]] = defaultdict(set)
        for datagram in self.datagrams:
            rest = datagram
            while rest.strip(b"\0"):
                header = read_header(rest, len(self.client_id))
                packet, rest = rest[: header.size], rest[header.size :]
                kind = header.type
                payload, number, is_next = _open(
                    keys[kind], packet, header.number_at, expected[kind]
                )
                if is_next:
                    keys[kind] = updated(keys[kind])
                expected[kind] = max(expected[kind], number + 1)
                found[kind.value].update(frame.name for frame in frames.read(payload))
        return {kind: names - _TIMING for kind, names in found.items()}

    def _keys(self) -> dict[PacketType, CryptoContext]:
        keys = {PacketType.INITIAL: initial_keys(self.original_destination, VERSION_1).recv}
        labels = {
            "SERVER_HANDSHAKE_TRAFFIC_SECRET": PacketType.HANDSHAKE,
            "SERVER_TRAFFIC_SECRET_0": PacketType.ONE_RTT,
        }
        for line in self.secrets.getvalue().splitlines():
            label, _, secret = line.split()
            if label in labels:
                secret_bytes = bytes.fromhex(secret)
                suite = _SUITES[len(secret_bytes)]
                context = keys[labels[label]] = CryptoContext()
                context.setup(cipher_suite=suite, secret=secret_bytes, version=VERSION_1)
        return keys


def _open(
    keys: CryptoContext, packet: bytes, number_at: int, expected: int
) -> tuple[bytes, int, bool]:
    try:
        _, payload, number, is_next = keys.decrypt_packet(packet, number_at, expected)
    except CryptoError as error:
        raise AssertionError("a packet that cannot be decrypted") from error
    return payload, number, is_next


@pytest.mark.skipif(find_tool("osslclient") is None, reason="ngtcp2's client is not installed")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--ciphers=TLS_AES_256_GCM_SHA384",),
        ("--key-update=1ms",),
        ("--max-stream-data-bidi-local=20K", "--max-data=30K"),
        ("--rx-loss=0.1",),
    ],
    ids=["plain", "aes-256", "key-update", "little-credit", "losses"],
)
def test_ngtcp2_is_served_alike_by_both_servers(options, size):
    port = free_port()
    served = []
    for kind in SERVERS:
        server = Served(kind, port, SIZES[size])
        result = subprocess.run(
            (
                *find_tool("osslclient"),
                *("--quiet", "--exit-on-all-streams-close", "--timeout=5s", "--nstreams=3"),
                *options,
                *("127.0.0.1", str(port), f"https://127.0.0.1:{port}/"),
            ),
            capture_output=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        server.finish()
        assert result.returncode == 0, result.stderr
        served.append(server)
    stock, tercel = served
    assert stock.events == tercel.events
    assert stock.frames() == tercel.frames()
