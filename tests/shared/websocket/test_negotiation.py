import base64
from typing import Any

import pytest
from websockets.protocol import State
from websockets.utils import accept_key

from tercel.shared.errors import LocalProtocolError, RemoteProtocolError, Scope
from tercel.shared.messages import Fields, RequestHead, field_value
from tercel.shared.settings import Settings
from tercel.shared.websocket.negotiation import (
    Handshake,
    HandshakeRefused,
    negotiate,
)

KEY = base64.b64encode(bytes(range(16)))
UPGRADE: Fields = [
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
]
CONNECT: Fields = [(b"sec-websocket-version", b"13")]


def upgrade(
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    protocol: bytes | None = b"websocket",
) -> RequestHead:
    """The head of an Upgrade to `protocol`, with `fields` in place of those of the same name."""
    names = {name for name, _ in fields}
    kept = [field for field in UPGRADE if field[0] not in names]
    return RequestHead(
        method=method,
        scheme=b"https",
        authority=b"example.org",
        target=b"/chat",
        fields=[*kept, *(field for field in fields if field[1])],
        http_version="1.1",
        protocol=protocol,
    )


def connect(*fields: tuple[bytes, bytes], protocol: bytes = b"websocket") -> RequestHead:
    """The head of an extended CONNECT."""
    names = {name for name, _ in fields}
    return RequestHead(
        method=b"CONNECT",
        scheme=b"https",
        authority=b"example.org",
        target=b"/chat",
        fields=[*(field for field in CONNECT if field[0] not in names), *fields],
        http_version="3",
        protocol=protocol,
    )


both = pytest.mark.parametrize("head", [upgrade, connect], ids=["h1", "h3"])


def refusal(head: RequestHead, settings: Settings | None = None) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        Handshake(head, settings or Settings())
    return caught.value


def test_an_upgrade_is_answered_with_101_and_the_key_s_answer() -> None:
    result = negotiate(upgrade(), Settings())
    assert result.status == 101
    assert result.fields == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(KEY.decode()).encode()),
    ]
    assert result.protocol.state is State.OPEN


def test_an_extended_connect_is_answered_with_200_and_needs_no_key() -> None:
    result = negotiate(connect(), Settings())
    assert (result.status, result.fields) == (200, [])
    assert result.protocol.state is State.OPEN


def test_the_largest_message_is_the_setting_s() -> None:
    result = negotiate(connect(), Settings(ws_max_message_bytes=123))
    protocol: Any = result.protocol
    assert getattr(protocol, "max_message_size", None) or protocol.max_size == 123


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"sec-websocket-version", b"8")], 426),
        ([(b"sec-websocket-version", b"")], 426),
        ([(b"sec-websocket-version", b"13"), (b"sec-websocket-version", b"13")], 426),
        ([(b"sec-websocket-key", b"")], 400),
        ([(b"sec-websocket-key", KEY), (b"sec-websocket-key", KEY)], 400),
        ([(b"sec-websocket-key", b"c2hvcnQ=")], 400),
        ([(b"sec-websocket-key", b"not base64 \xff")], 400),
    ],
)
def test_a_broken_upgrade_is_refused(fields: Fields, status: int) -> None:
    error = refusal(upgrade(*fields))
    assert isinstance(error, RemoteProtocolError)
    assert (error.status, error.scope) == (status, Scope.STREAM)


@pytest.mark.parametrize("protocol", [None, b"h2c"])
def test_a_request_for_no_websocket_is_told_to_upgrade(protocol: bytes | None) -> None:
    """`protocol` is None where Connection does not name Upgrade, or Upgrade is a list, too."""
    error = refusal(upgrade(protocol=protocol))
    assert error.status == 426
    assert field_value(error.fields, b"upgrade") == b"websocket"


def test_a_refusal_says_what_would_do() -> None:
    version = (b"sec-websocket-version", b"8")
    assert field_value(refusal(upgrade(version)).fields, b"sec-websocket-version") == b"13"
    assert field_value(refusal(upgrade(version)).fields, b"upgrade") == b"websocket"
    assert refusal(connect(version)).fields == [(b"sec-websocket-version", b"13")]
    assert refusal(upgrade(method=b"POST")).fields == [(b"allow", b"GET")]
    assert refusal(upgrade(method=b"POST")).status == 405


# -- subprotocols -------------------------------------------------------------------------------


@both
def test_the_server_s_first_subprotocol_that_is_offered_is_chosen(head: Any) -> None:
    request = head((b"sec-websocket-protocol", b"a, b"), (b"sec-websocket-protocol", b"c"))
    result = negotiate(request, Settings(), ["x", "c", "b"])
    assert field_value(result.fields, b"sec-websocket-protocol") == b"c"
    assert result.protocol.subprotocol == "c"


@both
def test_without_subprotocols_of_the_server_none_is_chosen(head: Any) -> None:
    result = negotiate(head((b"sec-websocket-protocol", b"a")), Settings())
    assert field_value(result.fields, b"sec-websocket-protocol") is None
    assert result.protocol.subprotocol is None


@both
@pytest.mark.parametrize("offered", [[], [(b"sec-websocket-protocol", b"a")]])
def test_without_a_common_subprotocol_it_is_refused(head: Any, offered: Fields) -> None:
    with pytest.raises(HandshakeRefused) as caught:
        negotiate(head(*offered), Settings(), ["b"])
    assert caught.value.status == 400


@both
@pytest.mark.parametrize("value", [b"a,,(", b"\xe9", b"a b", b"\xff\xfe"])
def test_a_subprotocol_that_is_no_token_is_refused(head: Any, value: bytes) -> None:
    assert refusal(head((b"sec-websocket-protocol", value))).status == 400


@both
def test_an_application_chooses_among_what_is_offered(head: Any) -> None:
    handshake = Handshake(head((b"sec-websocket-protocol", b"a, b")), Settings())
    assert handshake.subprotocols == ["a", "b"]
    with pytest.raises(LocalProtocolError, match="not offered"):
        handshake.accept("c")
    result = handshake.accept("b", [(b"X-Extra", b"1"), (b"set-cookie", b"a=b")])
    assert result.fields[-3:] == [
        (b"sec-websocket-protocol", b"b"),
        (b"x-extra", b"1"),
        (b"set-cookie", b"a=b"),
    ]


@pytest.mark.parametrize(
    "field",
    [
        (b"Sec-WebSocket-Accept", b"x"),
        (b"sec-websocket-extensions", b"x"),
        (b"sec-websocket-protocol", b"x"),
        (b"upgrade", b"x"),
        (b"connection", b"close"),
        (b"x", b"split\r\nx: y"),
    ],
)
def test_fields_that_would_break_the_handshake_are_an_error(field: tuple[bytes, bytes]) -> None:
    handshake = Handshake(upgrade(), Settings())
    with pytest.raises(LocalProtocolError):
        handshake.accept(fields=[field])
    assert len(handshake.accept().fields) == 3


# -- origins ------------------------------------------------------------------------------------


@both
def test_every_origin_is_taken_unless_some_are_named(head: Any) -> None:
    assert negotiate(head((b"origin", b"https://evil.example")), Settings()).protocol.origin


@both
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b"origin", b"https://good.example")], None),
        ([(b"origin", b"https://evil.example")], 403),
        ([(b"origin", b"https://good.example.evil.example")], 403),
        ([], 403),
        ([(b"origin", b"https://good.example"), (b"origin", b"https://evil.example")], 400),
    ],
)
def test_only_named_origins_are_taken(head: Any, fields: Fields, status: int | None) -> None:
    settings = Settings(ws_origins=("https://good.example", "https://other.example"))
    if status is None:
        assert negotiate(head(*fields), settings).protocol.origin == "https://good.example"
    else:
        assert refusal(head(*fields), settings).status == status


# -- extensions ---------------------------------------------------------------------------------

DEFLATE = (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")


@both
def test_compression_is_agreed_on_when_it_is_offered(head: Any) -> None:
    result = negotiate(head(DEFLATE), Settings())
    value = field_value(result.fields, b"sec-websocket-extensions")
    assert value is not None
    assert value.startswith(b"permessage-deflate")
    assert len(result.protocol.extensions) == 1


@both
def test_compression_can_be_switched_off(head: Any) -> None:
    result = negotiate(head(DEFLATE), Settings(ws_compression=False))
    assert field_value(result.fields, b"sec-websocket-extensions") is None
    assert result.protocol.extensions == []


@both
@pytest.mark.parametrize("value", [b"x-unknown", b"permessage-deflate; server_max_window_bits=99"])
def test_what_is_not_understood_is_declined(head: Any, value: bytes) -> None:
    result = negotiate(head((b"sec-websocket-extensions", value)), Settings())
    assert field_value(result.fields, b"sec-websocket-extensions") is None


@both
def test_an_extension_field_that_is_broken_is_refused(head: Any) -> None:
    assert refusal(head((b"sec-websocket-extensions", b"a;;\xff"))).status == 400


@both
def test_an_extension_that_is_offered_again_and_again_is_taken_once(head: Any) -> None:
    value = b", ".join([b"permessage-deflate"] * 1000)
    result = negotiate(head((b"sec-websocket-extensions", value)), Settings())
    assert len(result.protocol.extensions) == 1
