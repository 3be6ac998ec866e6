"""What is used of the websockets library beyond its documentation. A change there shows here."""

import inspect

from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri


def client_and_server() -> tuple[ClientProtocol, ServerProtocol]:
    client = ClientProtocol(parse_uri("ws://example.org/"), state=State.OPEN)
    return client, ServerProtocol(state=State.OPEN, max_size=1000)


def test_canary_the_limit_of_a_message_has_a_known_name() -> None:
    _, server = client_and_server()
    names = ("max_size", "max_message_size")
    assert [getattr(server, name) for name in names if hasattr(server, name)] == [1000]


def test_canary_the_size_of_a_message_in_fragments_has_a_known_name() -> None:
    client, server = client_and_server()
    names = ("current_size", "cur_size")
    (name,) = [name for name in names if hasattr(server, name)]
    assert getattr(server, name) is None
    client.send_binary(b"abc", fin=False)
    server.receive_data(b"".join(client.data_to_send()))
    assert getattr(server, name) == 3


def test_canary_a_protocol_knows_that_it_sends_fragments() -> None:
    _, server = client_and_server()
    assert server.expect_continuation_frame is False
    server.send_binary(b"abc", fin=False)
    assert server.expect_continuation_frame is True
    server.send_continuation(b"", fin=True)
    assert server.expect_continuation_frame is False


def test_canary_the_parser_is_a_generator_and_what_it_met_is_kept() -> None:
    _, server = client_and_server()
    assert inspect.isgenerator(server.parser)
    assert server.parser_exc is None
    server.receive_data(b"\x81\x00")  # without a mask
    assert isinstance(server.parser_exc, ProtocolError)


def test_canary_a_protocol_without_a_log_says_so() -> None:
    _, server = client_and_server()
    assert server.debug is False
