"""The UDP entrance: datagrams of any bytes, and sealed packets of any frames."""

import os
import random

import pytest
from aioquic.buffer import encode_uint_var

from tercel.quic import admission
from tests.fuzz.conftest import FACTOR
from tests.quic.served import echo, serving
from tests.quic.test_endpoint import RawClient, first_flight, initial, long_header, next_flight
from tests.support.asynchronous import asynctest, turns
from tests.support.h3_client import DATA, H3Client, frame, headers
from tests.support.raw_quic import initial_packet, short_packet

# A longer look is one at more seeds: a test is bounded.
SEEDS = range(3 * FACTOR)


def mutated(data, chance):
    """`data` with bits flipped, bytes cut out, doubled or appended."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at] = chance.choice((0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF))
            case 2:
                del data[at : at + chance.randint(1, 40)]
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 40)]
            case _:
                data += chance.randbytes(chance.randint(1, 60))
    return bytes(data)


async def corpus(server, raw):
    """Datagrams of every kind that a client sends."""
    quic, flight = first_flight(server.port)
    datagrams = list(flight)
    for data in flight:
        raw.send(data)
    answers = [await raw.receive()]
    datagrams += next_flight(quic, server.port, *answers)
    datagrams += [initial(), initial(token=b"\x01" + bytes(60)), initial(token=b"\x02" + bytes(60))]
    datagrams += [long_header(0), long_header(0x1A2A3A4A), b"\x41" * 100, b"", b"\xff" * 1200]
    return datagrams


@pytest.mark.parametrize("retry", ["auto", "always"])
@pytest.mark.parametrize("seed", SEEDS)
@asynctest
async def test_datagrams_of_any_bytes_raise_nothing_and_leave_nothing(
    seed, retry, caplog, monkeypatch
):
    monkeypatch.setattr(admission, "_INITIAL_RATE", 1_000_000)  # else most would be shed unseen
    chance = random.Random(seed)
    async with serving(retry=retry) as server:
        with RawClient(server.port) as raw:
            known = await corpus(server, raw)
            for number in range(600):
                if number % 100 == 0:
                    known += first_flight(server.port)[1]
                data = mutated(chance.choice(known), chance)
                if chance.random() < 0.1:
                    data = chance.randbytes(chance.randint(0, 1300))
                raw.send(data[:65_000])
                if number % 20 == 0:
                    await raw.answers()  # so that no buffer overflows
            await raw.answers()
            async with H3Client(server.port) as client:
                assert (await client.request()).status == 200
            server.expire_handshakes()
            assert not server.endpoint._half_open
            limits = server.endpoint.context.limits
            assert limits.connections == len(server.connections)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def any_frames(chance):
    """Frames that are nearly right, in an order that is not."""
    parts = []
    for _ in range(chance.randint(1, 8)):
        kind = chance.choice((*range(0x20), 0x30, 0x31, 0x40, 0xFF))
        values = [chance.choice((0, 1, 4, 7, 63, 64, 2**14, 2**30, 2**62 - 1)) for _ in range(5)]
        numbers = b"".join(map(encode_uint_var, values[: chance.randint(0, 5)]))
        parts.append(encode_uint_var(kind) + numbers + chance.randbytes(chance.randint(0, 20)))
    return b"".join(parts)


def likely_frames(chance):
    """Frames with plausible numbers, so that more of them are taken."""
    stream = 4 * chance.randrange(4)
    offset, size = chance.choice((0, 0, 3, 100, 70_000)), chance.choice((0, 1, 5, 30))
    data = (headers() + frame(DATA, chance.randbytes(40)))[:size]
    number = encode_uint_var
    choices = (
        b"\x0f" + number(stream) + number(offset) + number(len(data)) + data,
        b"\x0e" + number(stream) + number(offset) + number(len(data)) + data,
        b"\x04" + number(stream) + number(0x10C) + number(offset),
        b"\x05" + number(stream) + number(0x10C),
        b"\x11" + number(stream) + number(offset),
        b"\x10" + number(2**20 + offset),
        b"\x02" + number(chance.randrange(30)) + number(0) + number(0) + number(0),
        b"\x18" + number(8 + chance.randrange(4)) + number(0) + b"\x08" + chance.randbytes(24),
        b"\x19" + number(chance.randrange(3)),
        b"\x1a" + chance.randbytes(8),
        b"\x06" + number(offset) + number(len(data)) + data,
        b"\x01",
        bytes(chance.randint(1, 30)),
    )
    return b"".join(chance.choice(choices) for _ in range(chance.randint(1, 6)))


@pytest.mark.parametrize("seed", SEEDS)
@asynctest
async def test_sealed_packets_of_any_frames_end_in_a_code_at_most(seed, caplog):
    chance = random.Random(seed)
    async with serving(echo) as server:
        for _ in range(40):
            async with H3Client(server.port) as client:
                for _ in range(12):
                    if client.close_code is not None:
                        break
                    make = chance.choice((any_frames, likely_frames, likely_frames))
                    packet = short_packet(client.quic, make(chance))
                    client._socket.sendto(packet, client._address)
                    await turns(2)
        async with H3Client(server.port) as client:
            assert (await client.request("POST", content=b"x" * 5000)).content == b"x" * 5000
        for exchange in server.exchanges:
            exchange.calls.clear()  # a client that lies about its streams is not our business
        for connection in server.connections:
            connection.abandon()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == []


@pytest.mark.parametrize("seed", SEEDS)
@asynctest
async def test_initials_of_any_frames_end_in_a_code_at_most(seed, caplog):
    chance = random.Random(seed)
    async with serving(retry="never") as server:
        with RawClient(server.port) as raw:
            for _ in range(100):
                quic, _ = first_flight(server.port)
                for _ in range(2):
                    frames = any_frames(chance) if chance.random() < 0.7 else os.urandom(100)
                    raw.send(initial_packet(quic, frames[:1000]))
                await raw.answers()
            await raw.answers()
            server.expire_handshakes()
            assert server.connections == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
