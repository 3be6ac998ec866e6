import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from tercel.shared.websocket.wire import frame_size, message_frame, payload_of, whole_message

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


def client_frame(payload: bytes, opcode: Opcode = Opcode.BINARY, *, fin: bool = True) -> bytes:
    client = ClientProtocol(parse_uri("ws://example.org/"), state=State.OPEN)
    if opcode is Opcode.TEXT:
        client.send_text(payload, fin)
    else:
        client.send_binary(payload, fin)
    return b"".join(client.data_to_send())


def server_frame(payload: bytes) -> bytes:
    server = ServerProtocol(state=State.OPEN)
    server.send_binary(payload)
    return b"".join(server.data_to_send())


@pytest.mark.parametrize("size", SIZES)
def test_the_size_of_a_frame_is_known_from_its_header(size: int) -> None:
    for frame in (client_frame(b"x" * size), server_frame(b"x" * size)):
        assert frame_size(b"??" + frame + b"more", 2) == len(frame)


@pytest.mark.parametrize(("size", "needed"), [(5, 2), (300, 4), (70_000, 10)])
def test_the_size_is_unknown_while_the_length_is_incomplete(size: int, needed: int) -> None:
    frame = client_frame(b"x" * size)
    assert [frame_size(frame[:n], 0) for n in range(needed)] == [0] * needed
    assert frame_size(frame[:needed], 0) == len(frame)


@pytest.mark.parametrize("size", SIZES[:-2])
def test_a_whole_message_is_read_like_the_library_reads_it(size: int) -> None:
    frame = client_frame(b"x" * size)
    assert whole_message(b"?" + frame + b"more", 1, 65_535) == (b"x" * size, 1 + len(frame))


def test_text_is_decoded() -> None:
    frame = client_frame("h\u00e9".encode(), Opcode.TEXT)
    assert whole_message(frame, 0, 100) == ("h\u00e9", len(frame))


@pytest.mark.parametrize(
    "frame",
    [
        client_frame(b"x" * 10)[:-1],
        client_frame(b"x" * 300)[:3],
        client_frame(b"x" * 300)[:-1],
        client_frame(b"x" * 101),
        client_frame(b"x" * 70_000),
        client_frame(b"x", fin=False),
        server_frame(b"unmasked"),
        client_frame(b"\xff", Opcode.TEXT),
        bytes([0xC1]) + client_frame(b"compressed", Opcode.TEXT)[1:],
        b"\x89\x80abcd",
        b"\x81",
        b"",
    ],
    ids=[
        "cut short", "no length", "longer cut short", "over the limit", "64-bit length",
        "fragment", "no mask", "not UTF-8", "RSV1", "ping", "one byte", "nothing",
    ],
)  # fmt: skip
def test_everything_else_is_left_to_the_library(frame: bytes) -> None:
    assert whole_message(frame, 0, 100) is None


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_written_like_the_library_writes_it(size: int) -> None:
    assert message_frame(Opcode.BINARY, b"x" * size) == server_frame(b"x" * size)


def test_a_payload_is_the_bytes_of_what_is_sent() -> None:
    assert payload_of("h\u00e9") == (Opcode.TEXT, "h\u00e9".encode())
    numbers = memoryview(bytes(range(8))).cast("I")
    for data in (b"ab", bytearray(b"ab"), memoryview(b"abc")[:2]):
        assert payload_of(data) == (Opcode.BINARY, b"ab")
    assert payload_of(numbers) == (Opcode.BINARY, bytes(range(8)))
    with pytest.raises(TypeError, match="not int"):
        payload_of(1)
