"""HTTP/3 operations in any order, on a running endpoint, by a client that knows no rules of HTTP/3.

Those of QUIC it keeps: packets that do not are test_udp_fuzz's. Whatever it does, the server ends
it with a code that blames it or goes on, serves the others, and keeps nothing of what is over.
"""

import random

import pytest
from aioquic.buffer import encode_uint_var

from tercel.quic.http3.errors import ErrorCode
from tercel.shared.errors import ResetReason
from tercel.shared.messages import ResponseHead
from tests.fuzz.conftest import FACTOR
from tests.quic.served import serving
from tests.support.asynchronous import asynctest, turns
from tests.support.h3_client import (
    CONTROL,
    DATA,
    DECODER,
    ENCODER,
    GOAWAY,
    HEADERS,
    SETTINGS,
    H3Client,
    frame,
    headers,
    section,
)

SEEDS = range(4 * FACTOR)
CLIENTS, OPERATIONS = 12, 80
GREASE = 0x21 + 0x1F * 5
MAX_PUSH_ID, CANCEL_PUSH, PRIORITY_UPDATE = 0x0D, 0x03, 0xF0700
BLAMES_THE_SERVER = (0x1, ErrorCode.INTERNAL_ERROR)
PSEUDO = section(
    [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
)[2:]

CAPACITY, NO_CAPACITY = b"\x3f\xe1\x1f", b"\x20"
LONG = b"\x7f\x80\x01" + b"v" * 255
# The first entry stays in the table; the last two of those that are bad drop it.
INSTRUCTIONS = [
    *(CAPACITY + b"\x41a\x01b", CAPACITY + b"\x41a\x01b\x00", b"\xc1\x04/abc", b"\xd1\x00"),
    *(b"\x40\x01v", b"\x41a\x00", b"\x61\x1f\x01b"),
]
BAD_INSTRUCTIONS = [
    *(b"\x1e", b"\x3f\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x61\x18\x01"),
    *(NO_CAPACITY + CAPACITY + b"\x41a\x01b", (CAPACITY + b"\x44name" + LONG) * 20),
]
# Lines that need no table; with faults of the message; and two that need the first entry.
LINES = [b"\xd1", b"\x21x\x01y", b"\x21x\x00", b"\x31x\x01y", b"\x21x" + LONG, b"\x51\x01/"]
MALFORMED_LINES = [b"\x20\x01y", b"\x38\x80", b"\x51\x80", b"\x21X\x01y", b"\x21x\x01\n"]
TABLE_LINES = [b"\x80", b"\x40\x01z"]
BROKEN_LINES = [b"\xff\x24", b"\x51\x81\x18", b"\x10", b"\x00\x01z", b"\x9f", b"\x21x\x05y"]


class Maker:
    """Bytes of streams. The ruder it is, the more of them end a connection."""

    def __init__(self, chance, rude):
        self._chance = chance
        self._rude = rude

    def is_rude(self):
        return self._chance.random() < self._rude

    def section(self):
        """An encoded field section: of a request, or of lines that may need the table."""
        chance = self._chance
        lines = LINES + (MALFORMED_LINES if chance.random() < 0.3 else [])
        parts = [PSEUDO if chance.random() < 0.8 else b"", *chance.choices(lines, k=2)]
        if self.is_rude():
            parts.append(chance.choice(BROKEN_LINES))
        if chance.random() < 0.4:
            return b"\x02\0" + b"".join((*parts, chance.choice(TABLE_LINES)))
        return b"\0\0" + b"".join(parts if chance.random() < 0.9 else [])

    def frame(self):
        """A frame that may follow a header section."""
        chance = self._chance
        if self.is_rude():
            kind = chance.choice((HEADERS, SETTINGS, GOAWAY, MAX_PUSH_ID, CANCEL_PUSH, 0x02, 0x05))
            return frame(kind, chance.randbytes(chance.randrange(4)))
        match chance.randrange(8):
            case 0 | 1 | 2 | 3:
                return frame(DATA, chance.randbytes(chance.choice((0, 1, 5, 300, 3000))))
            case 4 | 5:
                return frame(GREASE, chance.randbytes(chance.choice((0, 3, 500))))
            case _:
                return b""

    def request(self):
        """The frames of a message, in order and whole, or not."""
        chance = self._chance
        length = (b"content-length", b"%d" % chance.choice((0, 5, 300)))
        first = chance.choice(
            (headers(b"POST"), headers(b"POST", b"/", length), frame(HEADERS, self.section()))
        )
        parts = [first, *(self.frame() for _ in range(chance.randrange(4)))]
        if chance.random() < 0.2:
            parts.append(frame(HEADERS, self.section()))
        if self.is_rude():
            chance.shuffle(parts)
        return b"".join(parts)

    def instruction(self):
        """For a decoder, by an encoder."""
        return self._chance.choice(BAD_INSTRUCTIONS if self.is_rude() else INSTRUCTIONS)

    def control_frame(self):
        """A frame of the control stream that is not its first."""
        chance = self._chance
        if self.is_rude():
            number = encode_uint_var(chance.choice((0, 1, 4, 1 << 40)))
            kinds = (CANCEL_PUSH, SETTINGS, DATA, GOAWAY, MAX_PUSH_ID, PRIORITY_UPDATE)
            return frame(chance.choice(kinds), number)
        number = encode_uint_var(chance.choice((0, 4, 100)))
        kind = chance.choice((GOAWAY, PRIORITY_UPDATE, PRIORITY_UPDATE, GREASE))
        return frame(kind, b"\0" if kind == GOAWAY else number + b"u=1")


def any_answer(chance):
    """An application that answers now, later, half, or not."""

    async def app(exchange):
        match chance.randrange(6):
            case 0:
                exchange.respond(200, b"at once")
            case 1:
                exchange.stream.send_head(ResponseHead(200, []))
                exchange.stream.send_content(b"x" * 5000)
                await exchange.whole()
                exchange.stream.send_trailers([(b"x-sum", b"1")])
            case 2:
                exchange.stream.want_content()
                await exchange.change()
                exchange.respond(413)
            case 3:
                exchange.stream.reset(ResetReason.INTERNAL_ERROR)
            case _:
                await exchange.whole()
                exchange.respond(200, bytes(exchange.body))

    return app


class Anarchist:
    """One connection, and what may still be done with its streams."""

    def __init__(self, client, chance):
        self._client = client
        self._chance = chance
        self._make = Maker(chance, chance.choice((0.0, 0.0, 0.01, 0.1)))
        self._open = []
        """Streams whose sending part has not ended."""
        self._half = []
        """The same, in the middle of a frame."""
        self._unstopped = []
        self._critical = {}
        self._late = []
        self._is_over = False
        client.departing = self._depart

    def _depart(self, datagrams):
        """Hold some back, and let them go later, in another order, some of them twice."""
        chance = self._chance
        out = []
        for datagram in datagrams:
            (self._late if chance.random() < 0.2 else out).append(datagram)
        if self._is_over or len(self._late) > 4 or chance.random() < 0.3:
            chance.shuffle(self._late)
            out += self._late
            out += self._late[:1]
            self._late = []
        return out

    def act(self):
        """Do anything."""
        chance = self._chance
        act = chance.choice(
            (
                *(self._begin, self._begin, self._begin, self._go_on, self._go_on, self._end),
                *(self._reset, self._stop, self._instruct, self._instruct, self._control),
                *(self._open_other,),
            )
        )
        act()

    def _send(self, stream, data, *, end=False):
        """In one piece or in several, which leave now or with what comes next."""
        if stream.stop_code is not None:
            return  # QUIC has reset it
        chance = self._chance
        while data and chance.random() < 0.4:
            cut = chance.randrange(len(data) + 1)
            self._client.send(stream, data[:cut], flush=chance.random() < 0.7)
            data = data[cut:]
        self._client.send(stream, data, end=end, flush=chance.random() < 0.8)

    def _begin(self):
        stream = self._client.open()
        data = self._make.request()
        half = self._chance.random() < 0.3
        end = not half and self._chance.random() < 0.5
        self._send(stream, data[: self._chance.randrange(len(data))] if half else data, end=end)
        self._unstopped.append(stream)
        if half:
            self._half.append(stream)
        elif not end:
            self._open.append(stream)

    def _take(self, streams):
        return streams.pop(self._chance.randrange(len(streams))) if streams else None

    def _go_on(self):
        if self._open:
            self._send(self._chance.choice(self._open), self._make.frame())

    def _end(self):
        streams = self._half if self._make.is_rude() else self._open
        if (stream := self._take(streams)) is not None:
            self._send(stream, self._make.frame(), end=True)

    def _reset(self):
        stream = self._take(self._chance.choice((self._open, self._half)))
        if stream is not None and stream.stop_code is None:
            self._client.reset(stream)

    def _stop(self):
        stream = self._take(self._unstopped)
        if stream is not None and not stream.done:
            self._client.stop(stream)

    def _on_critical(self, kind, data):
        if kind not in self._critical:
            self._critical[kind] = self._client.open_uni(kind, data)
        else:
            self._send(self._critical[kind], data)

    def _instruct(self):
        if self._chance.random() < 0.1:
            # Of a request that may be there; what acknowledges nothing ends the connection.
            self._on_critical(DECODER, b"\x80" if self._make.is_rude() else b"\x40")
        else:
            begins = ENCODER not in self._critical and not self._make.is_rude()
            # RFC 9204 3.2.2: until it is set the table has no capacity.
            self._on_critical(ENCODER, (CAPACITY if begins else b"") + self._make.instruction())

    def _control(self):
        if CONTROL in self._critical or self._make.is_rude():
            self._on_critical(CONTROL, self._make.control_frame())
        else:
            self._on_critical(CONTROL, frame(SETTINGS, b"\x06\x50\x00\x21\x00"))

    def _open_other(self):
        kind = self._chance.choice((0x01, CONTROL, ENCODER)) if self._make.is_rude() else GREASE
        end = self._chance.random() < 0.5
        self._client.open_uni(kind, self._chance.randbytes(9), end=end)

    def give_up(self):
        """End every request, so that nothing has to be left of any."""
        self._is_over = True
        for stream in self._open + self._half:
            if stream.stop_code is None:
                self._client.reset(stream)
        for stream in self._unstopped:
            if not stream.done:
                self._client.stop(stream)


async def run_wild(server, chance):
    """One client; whether its connection has lasted."""
    async with H3Client(server.port, setup=False) as client:
        wild = Anarchist(client, chance)
        for _ in range(OPERATIONS):
            if client.close_code is not None:
                break
            wild.act()
            await turns(chance.randrange(4))
        if client.close_code is None:
            wild.give_up()
            await client.settled()
        if client.close_code is not None:
            assert client.close_code not in BLAMES_THE_SERVER
            return False
        (connection,) = [
            each for each in server.connections if each.info.client == client.local_address
        ]
        await server.until(
            lambda: not (connection.streams or connection.quic.requests()) or client.close_code
        )
        server.check()
    return True


@pytest.mark.parametrize("timing", ["patient", "hasty"])
@pytest.mark.parametrize("seed", SEEDS)
@asynctest
async def test_any_operations_end_in_a_code_or_leave_nothing(seed, timing, caplog):
    chance = random.Random(seed)
    times = {"header_timeout": 0.02, "content_timeout": 0.02} if timing == "hasty" else {}
    async with (
        serving(any_answer(chance), **times) as server,
        H3Client(server.port) as bystander,
    ):
        lasted = [await run_wild(server, chance) for _ in range(CLIENTS)]
        # Some requests are not answered, and with short time-outs some come too late.
        answer = b""
        while answer != b"still there":
            answer = bytes((await bystander.request("POST", content=b"still there")).content)
        assert bystander.close_code is None
    assert any(lasted)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
