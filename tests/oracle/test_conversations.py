"""Scripts, each played to aioquic's server and to tercel's: both do the same, or what a rule says.

A script is a function of a conversation; its name is what the client does.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioquic.tls import CipherSuite

from tests.oracle import frames
from tests.oracle.client import HANDSHAKE, INITIAL, ONE_RTT, ZERO_RTT, corrupted
from tests.oracle.compare import Comparison, check_credit, compare, play
from tests.oracle.conversation import HOME, Conversation
from tests.oracle.differences import DIVERGENCES, NORMALISERS
from tests.oracle.packets import VERSION_1, VERSION_2
from tests.oracle.servers import STREAM_WINDOW_BYTES

(
    FLOW_CONTROL,
    STREAM_LIMIT,
    STREAM_STATE,
    FINAL_SIZE,
    FRAME_ENCODING,
    TRANSPORT_PARAMETER,
    CONNECTION_ID_LIMIT,
    PROTOCOL_VIOLATION,
) = range(0x03, 0x0B)
APPLICATION_ERROR, CRYPTO_BUFFER_EXCEEDED, KEY_UPDATE = 0x0C, 0x0D, 0x0E
# RFC 8446 6, as RFC 9001 4.8 has it.
NO_APPLICATION_PROTOCOL, MISSING_EXTENSION, UNEXPECTED_MESSAGE = 0x178, 0x16D, 0x10A

ELSEWHERE = ("198.51.100.7", 40_000)
MEGABYTES = 1 << 20


@dataclass(frozen=True)
class Script:
    """A script and the sections of RFC 9000 that it is about."""

    sections: str
    play: Callable[[Conversation], None]
    closes: tuple[int, ...] | None
    """Code and frame type with which tercel closes; None if it does not."""
    differs: str = ""
    """The rule by which the servers part; empty if they agree to the end."""
    client: dict[str, Any] = field(default_factory=dict)


SCRIPTS: dict[str, Script] = {}


def script(
    sections: str, closes: tuple[int, ...] | None = None, *, differs: str = "", **client: Any
) -> Any:
    """Register a script."""

    def register(function: Callable[[Conversation], None]) -> Callable[[Conversation], None]:
        SCRIPTS[function.__name__] = Script(sections, function, closes, differs, client)
        return function

    return register


def limit(conversation: Conversation, name: str) -> int:
    """A transport parameter of the server's."""
    return conversation.client.server_parameters[name]


# -- 7: handshakes --------------------------------------------------------------------------------


@script("7")
def handshake(c):
    c.connect()
    c.wait(1)


@script("7", cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256])
def handshake_with_chacha20(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))


@script("7", cipher_suites=[CipherSuite.AES_128_GCM_SHA256])
def handshake_with_aes_128(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))


@script("7, RFC 9369", version=VERSION_2)
def handshake_in_version_2(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response", True)


_UPGRADE = b"".join(version.to_bytes(4, "big") for version in (VERSION_1, VERSION_2, VERSION_1))


@script("RFC 9368 2.3", parameters={"version_information": _UPGRADE})
def handshake_that_goes_on_in_version_2(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))


@script("7.5")
def client_hello_in_two_packets_in_the_wrong_order(c):
    hello = c.client.out[INITIAL]
    first, second = frames.crypto(hello[:200]), frames.crypto(hello[200:], offset=200)
    packets = c.initial(first), c.initial(second)
    c.deliver(packets[1], packets[0])
    c.deliver(c.finish())
    c.say()


@script("7.5")
def client_hello_in_pieces_of_one_packet(c):
    hello = c.client.out[INITIAL]
    pieces = [frames.crypto(hello[at : at + 50], offset=at) for at in range(0, len(hello), 50)]
    c.deliver(c.initial(*reversed(pieces)))
    c.deliver(c.finish())
    c.say()


@script("RFC 9001 4.5", resumes=True)
def resumption(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response", True)


@script("RFC 9001 4.5", resumes=True, keeps_tickets=True)
def resumption_by_a_client_that_wants_another_ticket(c):
    c.connect()


@script("RFC 9001 4.6", resumes=True)
def early_data(c):
    c.deliver(c.initial(), c.packet(frames.stream(0, b"request", fin=True), kind=ZERO_RTT))
    c.write(0, b"response", True)
    c.deliver(c.finish())
    c.say()


@script("RFC 9001 4.6, 5.7", resumes=True)
def early_data_in_the_wrong_order(c):
    early = c.packet(frames.stream(0, b"request", fin=True), kind=ZERO_RTT)
    c.deliver(early, c.initial())
    c.deliver(early)
    c.deliver(c.finish())
    c.deliver(early)


@script("RFC 9001 4.9.3", resumes=True)
def early_data_after_the_handshake_is_dropped(c):
    c.connect()
    c.deliver(c.packet(frames.stream(0, b"x"), kind=ZERO_RTT))
    c.say(frames.ping())


@script("12.4, 12.5", (PROTOCOL_VIOLATION, frames.ACK), resumes=True)
def acknowledgement_in_early_data(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.ack([(0, 0)]), kind=ZERO_RTT))


@script("12.4, 12.5", (PROTOCOL_VIOLATION, frames.CRYPTO), resumes=True)
def crypto_in_early_data(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.crypto(b"x"), kind=ZERO_RTT))


@script("12.4, 12.5", (PROTOCOL_VIOLATION, frames.RETIRE_CONNECTION_ID), resumes=True)
def retirement_in_early_data(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.encode(frames.RETIRE_CONNECTION_ID, 0), kind=ZERO_RTT))


@script(
    "12.4, 12.5",
    (PROTOCOL_VIOLATION, frames.PATH_RESPONSE),
    differs="PATH_RESPONSE in 0-RTT",
    resumes=True,
)
def path_response_in_early_data(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.encode(frames.PATH_RESPONSE, bytes(8)), kind=ZERO_RTT))


@script("13.3")
def client_hello_twice(c):
    c.deliver(c.initial())
    c.deliver(c.initial())
    c.deliver(c.finish())
    c.say()


@script("8.1, RFC 9002 6.2")
def client_that_never_answers_the_servers_flight(c):
    c.deliver(c.initial())
    c.wait(5)


@script("13.3, RFC 9002 6.2")
def servers_flight_is_lost_once(c):
    c.lose = lambda _: True
    c.deliver(c.initial(), wait=0.1)
    c.lose = lambda _: False
    c.deliver(c.initial(), wait=1)
    c.deliver(c.finish())
    c.say()


@script("13.3, RFC 9002 6.2")
def finished_is_lost_and_sent_again(c):
    c.deliver(c.initial())
    c.finish()
    c.wait(1)
    c.deliver(c.finish())
    c.say()


@script("13.3, 7")
def handshake_done_is_lost(c):
    c.deliver(c.initial())
    c.lose = lambda _: True
    c.deliver(c.finish())
    c.wait(1)
    c.lose = lambda _: False
    c.wait(1)
    c.say()


@script("8.1", chain=14)
def servers_flight_is_larger_than_the_anti_amplification_limit(c):
    c.deliver(c.initial())
    c.watch(1)
    c.deliver(c.initial(frames.ping()))
    c.deliver(c.initial(frames.ping()))
    c.deliver(c.finish())
    c.say()


@script("8.1, RFC 9002 6.2.2.1", chain=14)
def anti_amplification_limit_ends_with_a_handshake_packet(c):
    c.deliver(c.initial(), wait=0.1)
    c.deliver(c.initial(c.client.ack(INITIAL)), wait=0.1)
    c.deliver(c.packet(frames.ping(), kind=HANDSHAKE))
    c.watch(0.5)
    c.deliver(c.finish())
    c.say()


@script("RFC 9002 6.2")
def probe_time_outs_of_the_handshake(c):
    c.deliver(c.initial())
    c.watch(3)


@script("10.1")
def client_that_takes_its_time_for_the_handshake(c):
    c.deliver(c.initial())
    for _ in range(3):
        c.wait(15)
        c.deliver(c.initial(frames.ping()))
    c.wait(30)


@script("17.1, RFC 9000 A.3")
def large_gaps_between_the_numbers_of_initials(c):
    c.deliver(c.initial())
    for _ in range(4):
        c.client.skip_numbers(30_000, INITIAL)
        c.deliver(c.initial(frames.ping()))


@script("17.1, RFC 9000 A.3")
def large_gaps_between_packet_numbers(c):
    c.connect()
    for _ in range(4):
        c.client.skip_numbers(30_000)
        c.say(frames.ping())


@script("17.2.3, 5.2.2")
def early_data_before_the_client_hello(c):
    c.client.keys[ZERO_RTT] = c.client.keys[INITIAL]
    c.deliver(c.packet(frames.stream(0, b"x"), kind=ZERO_RTT, size=1200))
    c.deliver(c.initial())


@script("5.2.2")
def handshake_packet_before_the_client_hello(c):
    keys, c.client.keys[HANDSHAKE] = c.client.keys[HANDSHAKE], c.client.keys[INITIAL]
    c.deliver(c.packet(frames.ping(), kind=HANDSHAKE, size=1200))
    c.client.keys[HANDSHAKE] = keys
    c.deliver(c.initial())


@script("RFC 9001 5.7, 4.1", parameters={"initial_max_data": 100})
def server_sends_before_the_handshake_is_complete(c):
    c.deliver(c.initial())
    c.write(3, bytes(60))
    c.write(3, bytes(60))
    c.deliver(c.finish())
    c.write(3, bytes(60))
    c.say(frames.encode(frames.MAX_DATA, 150))
    c.say()


@script("14.1")
def initial_in_a_short_datagram_is_dropped(c):
    c.deliver(c.initial(size=1199))
    c.deliver(c.initial())
    c.deliver(c.finish())


@script("12.3, 5.2")
def corrupted_client_hello(c):
    c.deliver(corrupted(c.initial()))
    c.deliver(c.initial())


@script("17.2.2", (PROTOCOL_VIOLATION, frames.PADDING))
def first_initial_without_crypto(c):
    c.deliver(c.initial(frames.ping()))


@script("17.2", (PROTOCOL_VIOLATION, frames.PADDING))
def reserved_bits_in_an_initial(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.ping(), reserved=1))


@script("12.4", (PROTOCOL_VIOLATION, 0x0A))
def stream_in_an_initial(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.stream(0, b"x")))


@script("12.4", (PROTOCOL_VIOLATION, frames.HANDSHAKE_DONE))
def handshake_done_in_an_initial(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.encode(frames.HANDSHAKE_DONE)))


@script("12.4", (PROTOCOL_VIOLATION, frames.APPLICATION_CLOSE))
def application_close_in_an_initial(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.application_close(1)))


@script("12.4", (PROTOCOL_VIOLATION, frames.MAX_DATA))
def max_data_in_a_handshake_packet(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.encode(frames.MAX_DATA, 9), kind=HANDSHAKE))


@script("10.2.3")
def transport_close_in_an_initial(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.connection_close(0x100)))
    c.wait(3)


@script("10.2.3")
def transport_close_in_a_handshake_packet(c):
    c.deliver(c.initial())
    c.deliver(c.packet(frames.connection_close(0x12F), kind=HANDSHAKE))
    c.wait(3)


@script("10.2.3", (APPLICATION_ERROR, 0))
def server_closes_during_the_handshake(c):
    c.deliver(c.initial())
    c.close(0x100, None, "h3")
    c.wait(3)


@script("RFC 9001 8.1", (NO_APPLICATION_PROTOCOL, frames.CRYPTO), alpn=("unknown",))
def no_common_application_protocol(c):
    c.deliver(c.initial())


@script("RFC 9001 8.2", (MISSING_EXTENSION, frames.CRYPTO), transport_parameters=False)
def no_transport_parameters(c):
    c.deliver(c.initial())


@script(
    "7.3",
    (TRANSPORT_PARAMETER, frames.CRYPTO),
    parameters={"initial_source_connection_id": b"another"},
)
def source_connection_id_that_differs(c):
    c.deliver(c.initial())


@script(
    "18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"stateless_reset_token": bytes(16)}
)
def parameter_of_servers_only(c):
    c.deliver(c.initial())


@script("18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"ack_delay_exponent": 21})
def ack_delay_exponent_over_20(c):
    c.deliver(c.initial())


@script("18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"max_udp_payload_size": 1199})
def max_udp_payload_size_under_1200(c):
    c.deliver(c.initial())


@script("18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"active_connection_id_limit": 1})
def active_connection_id_limit_of_1(c):
    c.deliver(c.initial())


@script("18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"max_ack_delay": 1 << 14})
def max_ack_delay_over_its_range(c):
    c.deliver(c.initial())


@script(
    "18.2", (TRANSPORT_PARAMETER, frames.CRYPTO), parameters={"initial_max_streams_bidi": 1 << 61}
)
def more_streams_than_there_are(c):
    c.deliver(c.initial())


@script(
    "7.4",
    (TRANSPORT_PARAMETER, frames.CRYPTO),
    more_parameters=b"\x04\x01\x00",
    differs="transport parameter twice",
)
def transport_parameter_twice(c):
    c.deliver(c.initial())


@script("18", (TRANSPORT_PARAMETER, frames.CRYPTO), more_parameters=b"\x3f\x09x")
def transport_parameter_cut_short(c):
    c.deliver(c.initial())


@script("18.1", more_parameters=frames.integer(31 * 900 + 27) + b"\x03abc")
def reserved_transport_parameter(c):
    c.connect()


@script("RFC 9001 6", (UNEXPECTED_MESSAGE, frames.CRYPTO))
def tls_key_update_in_crypto(c):
    c.connect()
    c.say(frames.crypto(b"\x18\x00\x00\x01\x00"))


@script("7.5", (CRYPTO_BUFFER_EXCEEDED, frames.CRYPTO))
def crypto_far_beyond_what_is_buffered(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.crypto(b"x", offset=MEGABYTES)))


@script("7.5", (CRYPTO_BUFFER_EXCEEDED, frames.CRYPTO), differs="size of the CRYPTO buffer")
def crypto_beyond_what_tercel_buffers(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.crypto(b"x", offset=100_000)))


@script("12.2, 10.2", (FRAME_ENCODING, 0x21), differs="datagrams behind an error")
def datagrams_behind_an_error(c):
    c.connect()
    packets = c.packet(frames.encode(0x21)), c.packet(frames.stream(0, b"x"))
    c.deliver(*packets)
    c.say(frames.ping())


@script("19.6", (CRYPTO_BUFFER_EXCEEDED, frames.CRYPTO), differs="largest offset of CRYPTO")
def crypto_beyond_the_largest_offset(c):
    c.connect()
    c.say(frames.encode(frames.CRYPTO, (1 << 62) - 1, frames.sized(b"xx")))


@script("RFC 9001 4.9.1")
def initial_after_the_handshake_is_dropped(c):
    c.connect()
    c.deliver(c.initial(frames.ping()))
    c.say(frames.ping())


@script("RFC 9001 4.9.2")
def handshake_packet_after_the_handshake_is_dropped(c):
    c.connect()
    c.deliver(c.packet(frames.stream(0, b"x"), kind=HANDSHAKE))
    c.say(frames.ping())


@script("RFC 9001 5.7")
def request_before_finished(c):
    c.deliver(c.initial())
    early = c.packet(frames.stream(0, b"early", fin=True))
    c.deliver(early)
    c.deliver(c.finish())
    c.deliver(early)


@script("5.2")
def early_data_without_keys_is_dropped(c):
    c.deliver(c.initial())
    c.client.keys[ZERO_RTT] = c.client.keys[HANDSHAKE]
    c.deliver(c.packet(frames.stream(0, b"x"), kind=ZERO_RTT))
    c.deliver(c.finish())


# -- 2, 3: streams --------------------------------------------------------------------------------


@script("2, 3")
def request_and_response(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response", True)
    c.say()
    c.say(frames.stream(4, b"another", fin=True))
    c.write(4, b"response", True)
    c.say()


@script("2.2")
def data_of_a_stream_in_the_wrong_order(c):
    c.connect()
    c.say(frames.stream(0, b"cc", offset=4, fin=True))
    c.say(frames.stream(0, b"bb", offset=2))
    c.say(frames.stream(0, b"aa"))


@script("2.2")
def data_of_a_stream_that_overlaps(c):
    c.connect()
    c.say(frames.stream(0, b"abcdef"))
    c.say(frames.stream(0, b"defghi", offset=3))
    c.say(frames.stream(0, b"abc"))
    c.say(frames.stream(0, b"ijkl", offset=8, fin=True))
    c.say(frames.stream(0, b"kl", offset=10, fin=True))


@script("2.2, 19.8")
def stream_frames_with_and_without_length_and_offset(c):
    c.connect()
    c.say(frames.stream(0, b"ab"), frames.stream(4, b"cd", length=False))
    c.say(frames.encode(0x0C, 0, 2, b"ef"))
    c.say(frames.encode(0x0E, 4, 0, frames.sized(b"cdgh")), frames.encode(0x09, 8))


@script("2.1")
def streams_that_are_opened_with_a_higher_one(c):
    c.connect()
    c.say(frames.stream(12, b"fourth", fin=True))
    c.write(4, b"response to nothing", True)
    c.say(frames.stream(4, b"late", fin=True))


@script("3.1")
def unidirectional_streams_of_both_sides(c):
    c.connect()
    c.say(frames.stream(2, b"control"), frames.stream(6, b"encoder"))
    c.write(3, b"settings")
    c.write(7, b"decoder")
    c.say(frames.stream(2, b"more", offset=7))
    c.write(3, b"goaway")
    c.say()


@script("19.8")
def empty_stream_frames(c):
    c.connect()
    c.say(frames.stream(0))
    c.say(frames.stream(0, b"x"))
    c.say(frames.stream(0, offset=1, fin=True))
    c.say(frames.stream(0, offset=1, fin=True))


@script("3.2, 19.4")
def request_is_reset(c):
    c.connect()
    c.say(frames.stream(0, b"partial"))
    c.say(frames.reset_stream(0, 0x10C, 20))
    c.say(frames.reset_stream(0, 0x10C, 20))
    c.say(frames.stream(0, b"late", offset=10))
    c.write(0, b"response", True)
    c.say()


@script("3.2")
def reset_of_a_stream_that_was_not_opened(c):
    c.connect()
    c.say(frames.reset_stream(8, 1, 0))
    c.say(frames.stream(0, b"x", fin=True))


@script("3.2")
def reset_after_all_data(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.say(frames.reset_stream(0, 1, 7))


@script("3.2")
def reset_with_a_gap(c):
    c.connect()
    c.say(frames.stream(0, b"tail", offset=10, fin=True))
    c.say(frames.reset_stream(0, 1, 14))


@script("3.5, 19.5")
def response_is_stopped(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, bytes(5000))
    c.say(frames.stop_sending(0, 0x10C))
    c.say(frames.stop_sending(0, 0x10C))
    c.say()


@script("3.5")
def stop_before_the_request(c):
    c.connect()
    c.say(frames.stop_sending(0, 7))
    c.say(frames.stream(0, b"request", fin=True))


@script("3.5")
def stop_after_the_response(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response", True)
    c.say()
    c.say(frames.stop_sending(0, 7))


@script("3.5")
def server_stops_a_request(c):
    c.connect()
    c.say(frames.stream(0, b"request"))
    c.stop(0, 0x10E)
    c.say(frames.reset_stream(0, 0x10E, 7))
    c.write(0, b"response", True)
    c.say()


@script("3.1")
def server_resets_a_response(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, bytes(3000))
    c.reset(0, 0x102)
    c.say()
    c.say(frames.stop_sending(0, 1))


@script("19.4", (STREAM_STATE, frames.RESET_STREAM))
def reset_of_the_servers_unidirectional_stream(c):
    c.connect()
    c.write(3, b"x")
    c.say(frames.reset_stream(3))


@script("19.5", (STREAM_STATE, frames.STOP_SENDING))
def stop_of_the_clients_unidirectional_stream(c):
    c.connect()
    c.say(frames.stream(2, b"x"))
    c.say(frames.stop_sending(2))


@script("19.8", (STREAM_STATE, 0x0A))
def data_on_the_servers_unidirectional_stream(c):
    c.connect()
    c.say(frames.stream(3, b"x"))


@script("19.8", (STREAM_STATE, 0x0A))
def data_on_a_server_stream_that_was_not_opened(c):
    c.connect()
    c.say(frames.stream(1, b"x"))


@script("19.5", (STREAM_STATE, frames.STOP_SENDING))
def stop_of_a_server_stream_that_was_not_opened(c):
    c.connect()
    c.say(frames.stop_sending(3, 1))


@script("19.10", (STREAM_STATE, frames.MAX_STREAM_DATA))
def max_stream_data_of_a_server_stream_that_was_not_opened(c):
    c.connect()
    c.say(frames.encode(frames.MAX_STREAM_DATA, 3, 100))


@script("19.10", (STREAM_STATE, frames.MAX_STREAM_DATA))
def max_stream_data_of_the_clients_unidirectional_stream(c):
    c.connect()
    c.say(frames.encode(frames.MAX_STREAM_DATA, 2, 100))


@script("19.13", (STREAM_STATE, frames.STREAM_DATA_BLOCKED))
def stream_data_blocked_of_the_servers_unidirectional_stream(c):
    c.connect()
    c.write(3, b"x")
    c.say(frames.encode(frames.STREAM_DATA_BLOCKED, 3, 100))


# -- 4: flow control ------------------------------------------------------------------------------


@script("4.1", (FLOW_CONTROL, 0x0E))
def data_beyond_the_limit_of_its_stream(c):
    c.connect()
    most = limit(c, "initial_max_stream_data_bidi_remote")
    c.say(frames.stream(0, b"x", offset=most - 1))
    c.say(frames.stream(4, b"xx", offset=most - 1))


@script("4.1", (FLOW_CONTROL, 0x0E), differs="credit for what was not consumed")
def data_beyond_the_limit_of_the_connection(c):
    c.connect()
    most = limit(c, "initial_max_stream_data_bidi_remote")
    for number in range(limit(c, "initial_max_data") // most):
        c.say(frames.stream(4 * number, b"x", offset=most - 1), ack=False, wait=0)
    c.say(frames.stream(1000 // 4 * 2 & ~3, b"x", offset=1), ack=False)


@script("4.1", (FLOW_CONTROL, 0x0A), differs="credit for what was not consumed")
def beginnings_of_requests_count_for_the_connection(c):
    c.reads = False
    c.connect()
    for number in range(4):
        c.say(frames.stream(4 * number, bytes(1000)))
        c.say(frames.stream(4 * number, b"x", offset=STREAM_WINDOW_BYTES - 1))
    c.say(frames.stream(16, b"x"))


@script("4.5, 4.1", (FLOW_CONTROL, frames.RESET_STREAM))
def final_size_beyond_the_limit_of_its_stream(c):
    c.connect()
    c.say(frames.reset_stream(0, 0, limit(c, "initial_max_stream_data_bidi_remote") + 1))


@script("4.1")
def upload_of_twice_the_window(c):
    c.connect()
    for number in range(128):
        c.say(frames.stream(0, bytes(1024), offset=1024 * number), wait=0.005)
    c.say(frames.stream(0, offset=1024 * 128, fin=True))


@script("4.1", (FLOW_CONTROL, 0x0E))
def no_credit_for_a_gap(c):
    c.connect()
    c.say(frames.stream(0, b"x", offset=limit(c, "initial_max_stream_data_bidi_remote") - 1))
    c.say(frames.stream(0, b"x", offset=2 * MEGABYTES))


@script("4.1", parameters={"initial_max_stream_data_bidi_local": 1000})
def response_waits_for_the_limit_of_its_stream(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, bytes(2500), True)
    c.say(frames.encode(frames.MAX_STREAM_DATA, 0, 900))
    c.say(frames.encode(frames.MAX_STREAM_DATA, 0, 1800))
    c.say(frames.encode(frames.MAX_STREAM_DATA, 0, 1 << 40))
    c.say()


@script("4.1", parameters={"initial_max_data": 1500})
def responses_wait_for_the_limit_of_the_connection(c):
    c.connect()
    c.say(frames.stream(0, b"a", fin=True), frames.stream(4, b"b", fin=True))
    c.write(0, bytes(1000), True)
    c.write(4, bytes(1000), True)
    c.say()
    c.say(frames.encode(frames.MAX_DATA, 1200))
    c.say(frames.encode(frames.MAX_DATA, 1800))
    c.say(frames.encode(frames.MAX_DATA, 2000))
    c.say()


@script("4.1", parameters={"initial_max_data": 10})
def response_in_single_bytes_waits_for_the_limit_of_the_connection(c):
    c.connect()
    c.say(frames.stream(0, b"a", fin=True))
    for _ in range(15):
        c.write(0, b"x")
    c.say(frames.encode(frames.MAX_DATA, 12))
    c.say(frames.encode(frames.MAX_DATA, 1000))


@script("4.1, RFC 9002 6.2")
def gap_after_which_nothing_is_acknowledged(c):
    c.connect()
    c.say(frames.stream(0, b"x", offset=40_000))
    c.wait(1)


@script("4.1, 4.2")
def upload_that_is_not_read(c):
    c.reads = False
    c.connect()
    for number in range(40):
        c.say(frames.stream(0, bytes(1024), offset=1024 * number), wait=0.005)
    c.consume(0, 1024 * 40)
    c.say(frames.stream(0, b"x", offset=STREAM_WINDOW_BYTES + 1024))


@script("4.1, 4.2")
def uploads_of_twice_the_window_of_the_connection(c):
    c.connect()
    for number in range(128):
        for stream_id in (0, 4, 8, 12):
            data = frames.stream(stream_id, bytes(1024), offset=1024 * number)
            c.say(data, wait=0.005)


@script("4.1", parameters={"initial_max_data": 0})
def client_that_gives_no_credit_at_first(c):
    c.connect()
    c.say(frames.stream(0, b"a", fin=True))
    c.write(0, b"response", True)
    c.say()
    c.say(frames.encode(frames.MAX_DATA, 100))


@script("4.6", (STREAM_LIMIT, 0x0A))
def request_beyond_the_limit_of_streams(c):
    c.connect()
    most = limit(c, "initial_max_streams_bidi")
    c.say(frames.stream(4 * (most - 1), b"x"))
    c.say(frames.stream(4 * most, b"x"))


@script("4.6", (STREAM_LIMIT, 0x0A))
def unidirectional_stream_beyond_the_limit(c):
    c.connect()
    c.say(frames.stream(4 * limit(c, "initial_max_streams_uni") + 2, b"x"))


@script("4.6", (STREAM_LIMIT, frames.RESET_STREAM))
def reset_beyond_the_limit_of_streams(c):
    c.connect()
    c.say(frames.reset_stream(4 * limit(c, "initial_max_streams_bidi")))


@script("4.6", (STREAM_LIMIT, frames.STOP_SENDING))
def stop_beyond_the_limit_of_streams(c):
    c.connect()
    c.say(frames.stop_sending(4 * limit(c, "initial_max_streams_bidi")))


@script("4.6")
def requests_beyond_the_first_limit_as_others_end(c):
    c.connect()
    for number in range(200):
        c.say(frames.stream(4 * number, b"x", fin=True), wait=0.002)
        c.write(4 * number, b"y", True, wait=0.002)
    c.say()


@script("4.6", parameters={"initial_max_streams_uni": 1})
def server_waits_until_it_may_open_a_stream(c):
    c.connect()
    c.write(3, b"first")
    c.write(7, b"second")
    c.say(frames.encode(frames.MAX_STREAMS_UNI, 2))
    c.say()


@script("4.6", (FRAME_ENCODING, frames.MAX_STREAMS_BIDI))
def max_streams_beyond_its_range(c):
    c.connect()
    c.say(frames.encode(frames.MAX_STREAMS_BIDI, 1 << 60))
    c.say(frames.encode(frames.MAX_STREAMS_BIDI, (1 << 60) + 1))


@script("19.14", (FRAME_ENCODING, frames.STREAMS_BLOCKED_UNI))
def streams_blocked_beyond_its_range(c):
    c.connect()
    c.say(frames.encode(frames.STREAMS_BLOCKED_UNI, (1 << 60) + 1))


@script("19.12, 19.13, 19.14")
def blocked_frames(c):
    c.connect()
    c.say(frames.stream(0, b"x"))
    c.say(frames.encode(frames.DATA_BLOCKED, 1), frames.encode(frames.STREAM_DATA_BLOCKED, 0, 1))
    c.say(frames.encode(frames.STREAMS_BLOCKED_BIDI, 1))
    c.say(frames.encode(frames.STREAMS_BLOCKED_UNI, 1))
    c.say(frames.encode(frames.STREAM_DATA_BLOCKED, 8, 1))


@script("4.5", (FINAL_SIZE, 0x0B))
def fin_below_what_was_sent(c):
    c.connect()
    c.say(frames.stream(0, b"abcd"))
    c.say(frames.stream(0, b"ab", fin=True))


@script("4.5", (FINAL_SIZE, 0x0E))
def data_beyond_the_fin(c):
    c.connect()
    c.say(frames.stream(0, b"abcd", fin=True))
    c.say(frames.stream(0, b"e", offset=4))


@script("4.5", (FINAL_SIZE, 0x0E))
def data_beyond_a_fin_that_came_later(c):
    c.connect()
    c.say(frames.stream(0, b"ab"))
    c.say(frames.stream(0, b"cd", offset=2, fin=True))
    c.say(frames.stream(0, b"e", offset=4))


@script("4.5", (FINAL_SIZE, frames.RESET_STREAM))
def reset_beyond_a_fin_that_came_later(c):
    c.connect()
    c.say(frames.stream(0, b"ab"))
    c.say(frames.stream(0, b"cd", offset=2, fin=True))
    c.say(frames.reset_stream(0, 0, 5))


@script("4.5", (FINAL_SIZE, 0x0F))
def fin_below_data_behind_a_gap(c):
    c.connect()
    c.say(frames.stream(0, b"ab"))
    c.say(frames.stream(0, b"cdef", offset=5))
    c.say(frames.stream(0, b"x", offset=3, fin=True))


@script("4.5", (FINAL_SIZE, 0x0B))
def another_fin(c):
    c.connect()
    c.say(frames.stream(0, b"d", offset=3, fin=True))
    c.say(frames.stream(0, b"ab", fin=True))


@script("4.5", (FINAL_SIZE, frames.RESET_STREAM))
def reset_below_what_was_sent(c):
    c.connect()
    c.say(frames.stream(0, b"abcd"))
    c.say(frames.reset_stream(0, 0, 3))


@script("4.5", (FINAL_SIZE, frames.RESET_STREAM))
def two_resets_that_differ(c):
    c.connect()
    c.say(frames.reset_stream(0, 0, 3))
    c.say(frames.reset_stream(0, 0, 4))


@script("4.5", (FINAL_SIZE, 0x0E))
def data_beyond_a_reset(c):
    c.connect()
    c.say(frames.reset_stream(0, 0, 3))
    c.say(frames.stream(0, b"x", offset=3))


@script("19.8", (FRAME_ENCODING, 0x0E))
def data_beyond_the_largest_offset(c):
    c.connect()
    c.say(frames.encode(0x0E, 0, (1 << 62) - 1, frames.sized(b"xx")))


@script("11, 19.8", (STREAM_LIMIT, 0x0E), differs="two errors in one STREAM frame")
def data_beyond_the_largest_offset_on_a_stream_beyond_the_limit(c):
    c.connect()
    stream_id = 4 * limit(c, "initial_max_streams_bidi")
    c.say(frames.encode(0x0E, stream_id, (1 << 62) - 1, frames.sized(b"xx")))


# -- 12, 19: frames -------------------------------------------------------------------------------


@script("12.4", (FRAME_ENCODING, 0x21))
def unknown_frame_type(c):
    c.connect()
    c.say(frames.encode(0x21))


@script("12.4", (FRAME_ENCODING, 0x4242))
def unknown_frame_type_of_two_bytes(c):
    c.connect()
    c.say(frames.ping(), frames.encode(0x4242), frames.stream(0, b"x"))


@script("12.4")
def frame_type_in_more_bytes_than_needed(c):
    c.connect()
    c.say(frames.integer(frames.PING, 2))


@script("16")
def integers_in_more_bytes_than_needed(c):
    c.connect()
    long = [frames.integer(value, 8) for value in (0, 0, 3)]
    c.say(b"\x0e" + b"".join(long) + b"abc")
    c.say(b"\x10" + frames.integer(5_000_000, 8), b"\x19" + frames.integer(1, 4))


@script("12.4", (PROTOCOL_VIOLATION, frames.PADDING))
def packet_without_frames(c):
    c.connect()
    c.deliver(c.packet(number_bytes=4))


@script("12.4", (FRAME_ENCODING, 0x0E))
def stream_frame_cut_short(c):
    c.connect()
    c.say(frames.encode(0x0E, 0, 0, frames.integer(10), b"12345"))


@script("19", (FRAME_ENCODING, frames.MAX_STREAM_DATA))
def max_stream_data_cut_short(c):
    c.connect()
    c.say(frames.ping(), frames.ping(), frames.encode(frames.MAX_STREAM_DATA, 0))


@script("19.17", (FRAME_ENCODING, frames.PATH_CHALLENGE))
def path_challenge_cut_short(c):
    c.connect()
    c.say(frames.encode(frames.PATH_CHALLENGE, b"1234567"))


@script("19.7", (PROTOCOL_VIOLATION, frames.NEW_TOKEN))
def new_token_of_a_client(c):
    c.connect()
    c.say(frames.encode(frames.NEW_TOKEN, frames.sized(b"token")))


@script("19.20", (PROTOCOL_VIOLATION, frames.HANDSHAKE_DONE))
def handshake_done_of_a_client(c):
    c.connect()
    c.say(frames.encode(frames.HANDSHAKE_DONE))


@script("RFC 9221 3", (PROTOCOL_VIOLATION, frames.DATAGRAM_WITH_LENGTH))
def datagram_frame_that_was_not_negotiated(c):
    c.connect()
    c.say(frames.encode(frames.DATAGRAM_WITH_LENGTH, frames.sized(b"x")))


@script("19.2")
def pings(c):
    c.connect()
    for _ in range(5):
        c.say(frames.ping())
    c.say(*[frames.ping()] * 20)


@script("19.1")
def packets_of_padding(c):
    c.connect()
    c.say(frames.padding(500), ack=False)
    c.say(frames.padding(1100), ack=False)
    c.say(frames.ping())


@script("17.3.1", (PROTOCOL_VIOLATION, frames.PADDING))
def reserved_bits_in_a_short_header(c):
    c.connect()
    c.say(frames.ping(), reserved=2)


# -- 13: acknowledgements, loss -------------------------------------------------------------------


@script("12.3, 13.1")
def packet_twice(c):
    c.connect()
    packet = c.packet(frames.stream(0, b"x"))
    c.deliver(packet, packet)
    c.deliver(packet)


@script("13.2")
def packets_in_the_wrong_order(c):
    c.connect()
    packets = [c.packet(frames.stream(0, b"%d" % number, offset=number)) for number in range(6)]
    c.deliver(*reversed(packets))
    c.say()


@script("13.2.3")
def packets_that_are_lost(c):
    c.connect()
    for _ in range(5):
        c.client.skip_numbers(2)
        c.say(frames.ping())


@script("5.2")
def corrupted_packet(c):
    c.connect()
    c.deliver(corrupted(c.packet(frames.stream(0, b"x"))))
    c.say(frames.ping())


@script("5.2")
def packet_to_an_unknown_connection_id(c):
    c.connect()
    c.deliver(c.packet(frames.stream(0, b"x"), destination=b"whoever!"))
    c.say(frames.ping())


@script("12.2")
def packets_of_all_types_in_one_datagram(c):
    c.deliver(c.initial())
    c.deliver(c.finish() + b"", label="Initial, Handshake and 1-RTT")
    c.say()


@script("13.1", (PROTOCOL_VIOLATION, frames.ACK), differs="acknowledgement of what was not sent")
def acknowledgement_of_a_packet_that_was_not_sent(c):
    c.connect()
    c.say(frames.ack([(0, max(c.client.observed[ONE_RTT]) + 10)]), ack=False)


@script("13.1", (PROTOCOL_VIOLATION, frames.ACK), differs="acknowledgement of what was not sent")
def acknowledgement_of_an_initial_that_was_not_sent(c):
    c.deliver(c.initial())
    c.deliver(c.initial(frames.ack([(0, 60)])))


@script("13.1")
def acknowledgement_of_a_number_that_another_space_has_used(c):
    c.connect()
    c.say(frames.ack([(0, 0)]), ack=False)


@script("17.1")
def packet_numbers_of_one_to_four_bytes(c):
    c.connect()
    for size in (1, 2, 3, 4):
        c.say(frames.stream(0, b"%d" % size, offset=size - 1), number_bytes=size)


@script("19.3.1", (FRAME_ENCODING, frames.ACK))
def acknowledgement_of_negative_numbers(c):
    c.connect()
    c.say(frames.encode(frames.ACK, 1, 0, 0, 2), ack=False)


@script("19.3.1", (FRAME_ENCODING, frames.ACK))
def acknowledgement_cut_short(c):
    c.connect()
    c.say(frames.encode(frames.ACK, 3, 0, 5, 0), ack=False)


@script("19.3.2")
def acknowledgement_with_ecn_counts_of_nothing_marked(c):
    c.connect()
    c.say(frames.ack(frames.ranges_of(c.client.received[ONE_RTT]), ecn=(0, 0, 0)), ack=False)
    c.say(frames.stream(0, b"x", fin=True))


@script("13.4.1")
def packets_with_ecn_marks(c):
    c.connect()
    c.mark = 2  # ECT(0)
    c.say(frames.ping())
    c.say(frames.ping())
    c.mark = 3  # CE
    c.say(frames.stream(0, b"x"))


@script("13.3, RFC 9002 6.1")
def one_packet_of_a_response_is_lost(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.lose = lambda number: number == 1
    c.write(0, bytes(range(250)) * 24, True)
    c.lose = lambda _: False
    c.say()
    c.wait(0.5)
    c.say()
    c.wait(1)


@script("RFC 9002 6.1.2")
def loss_by_time(c):
    c.connect()
    for number in range(3):
        c.say(frames.stream(4 * number, b"request", fin=True))
        c.write(4 * number, b"response", True)
        c.say()
    c.say(frames.stream(12, b"request", fin=True))
    c.lose = lambda number: number == 0
    c.write(12, bytes(2000), True, wait=0.01)
    c.lose = lambda _: False
    c.say(wait=0.002)
    c.watch(0.2, 0.005)


@script("RFC 9002 6.2")
def probe_time_outs_start_again_after_an_acknowledgement(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.lose = lambda _: True
    c.write(0, b"first")
    c.watch(1)
    c.lose = lambda _: False
    c.wait(1)
    c.say()
    c.lose = lambda _: True
    c.write(0, b"second", True)
    c.watch(1)


@script("13.3")
def fin_is_lost_before_the_data_is_acknowledged(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response", wait=0.003)
    c.lose = lambda _: True
    c.write(0, b"", True, wait=0.003)
    c.lose = lambda _: False
    c.say()
    c.wait(1)
    c.say()
    c.wait(1)


@script("13.3, RFC 9002 6.2")
def whole_response_is_lost(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.lose = lambda _: True
    c.write(0, b"response", True)
    c.wait(1)
    c.lose = lambda _: False
    c.wait(2)
    c.say()
    c.wait(1)


@script("13.3")
def lost_reset_and_stop_are_sent_again(c):
    c.connect()
    c.say(frames.stream(0, b"request"))
    c.lose = lambda _: True
    c.reset(0, 5)
    c.stop(0, 6)
    c.lose = lambda _: False
    c.wait(1)
    c.say()
    c.wait(1)


@script("13.3")
def fin_of_a_response_is_lost(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.write(0, b"response")
    c.lose = lambda _: True
    c.write(0, b"", True)
    c.lose = lambda _: False
    c.wait(1)
    c.say()
    c.wait(1)


@script("RFC 9002 7")
def large_response_is_acknowledged_as_it_comes(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.act(
        lambda server: server.send_stream_data(0, bytes(range(256)) * 400, True), label="", wait=0
    )
    c.acknowledge(1)
    c.wait(0.5)


@script("RFC 9002 6.2")
def client_that_acknowledges_nothing(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.lose = lambda _: True
    c.write(0, bytes(3000), True)
    c.wait(15)


# -- RFC 9001 6: keys -----------------------------------------------------------------------------


@script("RFC 9001 6")
def key_update(c):
    c.connect()
    c.say(frames.stream(0, b"old"))
    c.client.update_keys()
    c.say(frames.stream(0, b"new", offset=3))
    c.write(0, b"response")
    c.say()


@script("RFC 9001 6")
def key_updates_each_confirmed(c):
    c.connect()
    for number in range(4):
        c.client.update_keys()
        c.say(frames.stream(0, b"x", offset=number))
        c.say(wait=0.5)


@script("RFC 9001 6.5")
def packet_with_old_keys_after_an_update(c):
    c.connect()
    late = c.packet(frames.stream(0, b"old"))
    c.client.update_keys()
    c.say(frames.stream(0, b"new", offset=3))
    c.deliver(late)
    c.say(frames.ping())


@script("RFC 9001 6.2", (KEY_UPDATE, 0), differs="two key updates in a row")
def two_key_updates_in_a_row(c):
    c.connect()
    c.client.update_keys()
    first = c.packet(frames.ping())
    c.client.update_keys()
    c.deliver(first, c.packet(frames.ping()))


@script("RFC 9001 6.3")
def wrong_key_phase_is_dropped(c):
    c.connect()
    c.deliver(c.packet(frames.stream(0, b"x"), key_phase=1))
    c.say(frames.ping())


# -- 5.1: connection IDs --------------------------------------------------------------------------


@script("5.1.1")
def client_issues_connection_ids(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.say(c.client.new_connection_id(2), c.client.new_connection_id(1))
    c.say()


@script("5.1.2")
def client_retires_the_id_that_is_in_use(c):
    c.connect()
    c.say(c.client.new_connection_id(1, retire_prior_to=1))
    c.say(frames.ping())
    c.say(c.client.new_connection_id(3, retire_prior_to=3))
    c.say(c.client.new_connection_id(2))
    c.say(frames.ping())


@script("5.1.2")
def client_retires_connection_ids_of_the_server(c):
    c.connect()
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 1))
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 2))
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 2))


@script("5.1.2")
def client_goes_on_with_another_id(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.client.destination = c.client.server_ids[1]
    c.say(frames.ping())
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 0))
    c.say(frames.stream(0, b"x"))


@script("19.16", (PROTOCOL_VIOLATION, frames.RETIRE_CONNECTION_ID))
def retirement_of_an_id_that_was_not_issued(c):
    c.connect()
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 50))


@script("19.16", (PROTOCOL_VIOLATION, frames.RETIRE_CONNECTION_ID))
def retirement_of_the_id_it_is_sent_to(c):
    c.connect()
    c.say(frames.encode(frames.RETIRE_CONNECTION_ID, 0))


@script(
    "5.1.1", (CONNECTION_ID_LIMIT, frames.NEW_CONNECTION_ID), differs="number of connection IDs"
)
def more_connection_ids_than_allowed(c):
    c.connect()
    for sequence in range(1, 1 + limit(c, "active_connection_id_limit")):
        c.say(c.client.new_connection_id(sequence))


@script("19.15", (FRAME_ENCODING, frames.NEW_CONNECTION_ID))
def empty_connection_id(c):
    c.connect()
    c.say(frames.new_connection_id(1, b""))


@script("19.15", (FRAME_ENCODING, frames.NEW_CONNECTION_ID))
def connection_id_of_21_bytes(c):
    c.connect()
    c.say(frames.new_connection_id(1, bytes(21)))


@script(
    "19.15",
    (FRAME_ENCODING, frames.NEW_CONNECTION_ID),
    differs="Retire Prior To beyond its own sequence number",
)
def retire_prior_to_beyond_its_own_sequence(c):
    c.connect()
    c.say(c.client.new_connection_id(1, retire_prior_to=2))


@script("19.15")
def one_sequence_number_for_two_ids(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.say(frames.new_connection_id(1, b"another1"))


@script("19.15")
def one_id_for_two_sequence_numbers(c):
    c.connect()
    c.say(frames.new_connection_id(1, b"client-1"))
    c.say(frames.new_connection_id(2, b"client-1"))


# -- 8.2, 9: paths --------------------------------------------------------------------------------


@script("8.2")
def path_challenges(c):
    c.connect()
    c.say(frames.encode(frames.PATH_CHALLENGE, b"12345678"))
    c.say(*[frames.encode(frames.PATH_CHALLENGE, bytes([number] * 8)) for number in range(5)])


@script("19.18")
def path_response_to_nothing(c):
    c.connect()
    c.say(frames.encode(frames.PATH_RESPONSE, b"12345678"))
    c.say(frames.ping())


def _answer(c: Conversation) -> None:
    c.say(*[frames.encode(frames.PATH_RESPONSE, data) for data in c.client.challenges])


@script("9.3")
def migration(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.client.destination = c.client.server_ids[1]
    c.address = ELSEWHERE
    c.say(frames.stream(0, b"from elsewhere"), size=1200)
    _answer(c)
    c.write(0, b"response")
    c.say()


@script("9.3.1")
def nat_rebinding(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.address = (HOME[0], HOME[1] + 1)
    c.say(frames.stream(0, b"from another port"), size=1200)
    _answer(c)
    c.write(0, b"response")
    c.say()


@script("9.1")
def path_is_probed_first(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.client.destination = c.client.server_ids[1]
    probe = c.packet(frames.encode(frames.PATH_CHALLENGE, b"probe..1"), size=1200)
    c.deliver(probe, address=ELSEWHERE)
    c.client.destination = c.client.server_ids[0]
    c.say(frames.ping())


@script("9.3")
def late_packet_of_the_old_path(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    late = c.packet(frames.stream(0, b"late"))
    c.say(frames.stream(0, b"first", offset=4), address=ELSEWHERE, size=1200)
    c.deliver(late)
    c.say(address=ELSEWHERE)


@script("9.3.2")
def new_path_is_never_validated(c):
    c.connect()
    c.say(c.client.new_connection_id(1))
    c.say(frames.stream(0, b"from elsewhere"), address=ELSEWHERE, size=1200)
    c.wait(5)
    c.say(frames.ping())


@script("9", differs="another address during the handshake")
def address_changes_during_the_handshake(c):
    c.deliver(c.initial())
    c.deliver(c.finish(), address=ELSEWHERE)
    c.say(address=ELSEWHERE)


# -- 10: the end ----------------------------------------------------------------------------------


@script("10.2.2")
def client_closes(c):
    c.connect()
    c.say(frames.stream(0, b"x"))
    c.say(frames.application_close(0x100, b"bye"))
    c.say(frames.ping())
    c.wait(3)


@script("10.2.2")
def client_closes_with_a_transport_error(c):
    c.connect()
    c.say(frames.connection_close(0x0A, 0x06, b"\xff not text"))
    c.wait(3)


@script("10.2", (0x102,))
def server_closes(c):
    c.connect()
    c.say(frames.stream(0, b"x"))
    c.close(0x102, None, "internal error")
    c.wait(3)


@script("10.2", (0x01, 0x08))
def server_closes_with_a_transport_error(c):
    c.connect()
    c.close(0x01, 0x08, "because")
    c.wait(3)


@script("10.2.1", (0x102,))
def client_goes_on_after_the_close(c):
    c.connect()
    c.close(0x102, None, "")
    c.say(frames.ping())
    c.say(frames.stream(0, b"x"))


@script("10.1")
def idle_connection(c):
    c.connect()
    c.wait(60)


@script("10.1")
def idle_time_begins_again_with_what_the_server_sends(c):
    c.connect()
    c.say(frames.stream(0, b"request", fin=True))
    c.wait(15)
    c.write(0, b"response", True)
    c.watch(25, 1.0)


@script("10.1", parameters={"max_idle_timeout": 3000})
def idle_time_out_of_the_client(c):
    c.connect()
    c.wait(2)
    c.say(frames.ping())
    c.wait(2)
    c.say(frames.ping())
    c.wait(4)


@script("10.1, 18.2", parameters={"max_idle_timeout": 0}, differs="idle time-out of 0")
def idle_time_out_of_0_is_none_of_the_clients(c):
    c.connect()
    c.wait(5)
    c.say(frames.ping())
    c.wait(30)


# -- the tests ------------------------------------------------------------------------------------


@functools.cache
def played(name: str) -> tuple[Comparison, Conversation]:
    """How the conversations of a script differ, and tercel's."""
    stock, tercel = play(SCRIPTS[name].play, **SCRIPTS[name].client)
    return compare(stock, tercel), tercel


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_servers_answer_alike_or_as_a_rule_says(name):
    known = SCRIPTS[name]
    result, tercel = played(name)
    assert not result.found, "\n".join(result.found)
    assert result.diverged == known.differs
    codes = [
        tuple(value for field, value in frame.fields if field != "reason")
        for frame in tercel.sent("CONNECTION_CLOSE") + tercel.sent("APPLICATION_CLOSE")
    ]
    assert codes[:1] == ([known.closes] if known.closes else [])
    check_credit(tercel)


def test_every_rule_is_needed_by_a_script():
    needed = set().union(*(played(name)[0].rules for name in SCRIPTS))
    assert needed == {rule.name for rule in (*NORMALISERS, *DIVERGENCES)}


def test_marked_packets_are_counted():
    _, tercel = played("packets_with_ecn_marks")
    assert tercel.sent("ACK")[-1]["ecn"] == (2, 0, 1)


def test_servers_announce_the_same_except_for_two_limits():
    stock, tercel = play(lambda conversation: conversation.connect())
    one, other = (conversation.client.server_parameters for conversation in (stock, tercel))
    assert one.keys() == other.keys()
    differences = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
    for random in ("initial_source_connection_id", "stateless_reset_token"):
        theirs, mine = differences.pop(random)
        assert len(theirs) == len(mine)
    # RFC 9000 4.6: HTTP/3 needs three. 5.1.1: two are enough, and each takes memory.
    assert differences == {
        "initial_max_streams_uni": (128, 16),
        "active_connection_id_limit": (8, 4),
    }
