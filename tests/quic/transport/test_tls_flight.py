"""The answer to a ClientHello is aioquic's, byte for byte, and so is the state behind it."""

import inspect
import random
import re
import ssl
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.tls import (
    CipherSuite,
    Context,
    Epoch,
    ExtensionType,
    Group,
    SessionTicket,
    SignatureAlgorithm,
)
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tercel.quic.transport import tls_flight
from tercel.quic.transport.client_hello import read_client_hello
from tercel.quic.transport.tls_flight import FastHandshake
from tercel.quic.transport.tls_server import ServerHandshake
from tests.support.credentials import credential

SUITES = [
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
]
TICKET = b"a ticket that names a session"
X25519_KEY, P256_KEY = X25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
# Its signatures come out the same each time.
SIGNING_KEY = ed25519.Ed25519PrivateKey.generate()


def ticket(suite):
    now = datetime.now(UTC)
    size = tls.cipher_suite_hash(suite).digest_size
    return SessionTicket(
        age_add=1,
        cipher_suite=suite,
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=1),
        resumption_secret=b"\x52" * size,
        server_name="localhost",
        ticket=TICKET,
        max_early_data_size=0xFFFFFFFF,
    )


def client_hello(
    *,
    suite=SUITES[0],
    group=Group.X25519,
    resumed=False,
    early=True,
    name="localhost",
    alpn=("h3",),
):
    """What aioquic's client would send."""
    client = Context(
        is_client=True, alpn_protocols=list(alpn), cipher_suites=[suite], server_name=name
    )
    client._supported_groups = [group]
    client.handshake_extensions = [(ExtensionType.QUIC_TRANSPORT_PARAMETERS, b"parameters")]
    if resumed:
        client.session_ticket = ticket(suite)
        if not early:
            client.session_ticket.max_early_data_size = None
    buffers = {epoch: Buffer(capacity=4096) for epoch in Epoch}
    client.handle_message(b"", buffers)
    return buffers[Epoch.INITIAL].data


class Fixed:
    """Nothing of a handshake is left to chance."""

    def __enter__(self):
        self.patches = [
            mock.patch("os.urandom", lambda size: b"\x55" * size),
            mock.patch.object(ec, "generate_private_key", return_value=P256_KEY),
            mock.patch.object(tls.x25519, "X25519PrivateKey", self),
            mock.patch.object(tls_flight, "X25519PrivateKey", self),
        ]
        for patch in self.patches:
            patch.start()

    def __exit__(self, *_):
        for patch in self.patches:
            patch.stop()

    def generate(self):
        return X25519_KEY


def answer(kind, message, *, key=SIGNING_KEY, takes_early=True, identify=None):
    """What a server of `kind` does about `message`: bytes, keys and state, or its error."""
    context = kind(
        identify,
        alpn_protocols=["h3"],
        cipher_suites=None,
        logger=None,
        max_early_data=0xFFFFFFFF,
        verify_mode=None,
    )
    context.certificate = credential().leaf
    context.certificate_chain = list(credential().chain)
    context.certificate_private_key = key
    context.handshake_extensions = [(ExtensionType.QUIC_TRANSPORT_PARAMETERS, b"parameters")]
    told = []

    def known(name):
        told.append(("ticket", name))
        return ticket(context._cipher_suites[0]) if name == TICKET else None

    def key_updated(*arguments):
        told.append(arguments)
        if arguments[1] is Epoch.ZERO_RTT and not takes_early:
            context.early_data_accepted = False

    context.alpn_cb = lambda name: told.append(("alpn", name, context.received_extensions))
    context.get_session_ticket_cb = known
    context.update_traffic_key_cb = key_updated
    suites = hello_suites(message)
    context._cipher_suites = [suite for suite in SUITES if suite in suites] or SUITES
    buffers = {epoch: Buffer(capacity=16384) for epoch in Epoch}
    try:
        with Fixed():
            context.handle_message(message, buffers)
    except Exception as error:
        return type(error), str(error), told
    return [buffer.data for buffer in buffers.values()], told, state(context)


def hello_suites(message):
    hello = read_client_hello(message)
    return hello.cipher_suites if hello is not None else SUITES


def state(context):
    known = {
        name: value
        for name, value in vars(context).items()
        if not callable(value)
        and name not in ("key_schedule", "_x25519_private_key", "_ec_private_keys", "_identify")
    }
    schedule = context.key_schedule
    if schedule is not None:
        known["schedule"] = (
            schedule.secret,
            schedule.generation,
            schedule.cipher_suite,
            schedule.hash.copy().finalize(),
            schedule.derive_secret(b"res master"),
        )
    return known


def refused(*_):
    raise AssertionError("left to aioquic")


@pytest.fixture
def without_aioquic(monkeypatch):
    """Lets the test fail if aioquic's code answers in the place of this package's."""

    def both(message, **options):
        theirs = answer(ServerHandshake, message, **options)
        with monkeypatch.context() as patched:
            patched.setattr(ServerHandshake, "_server_handle_hello", refused)
            return theirs, answer(FastHandshake, message, **options)

    return both


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("group", [Group.X25519, Group.SECP256R1], ids=lambda group: group.name)
@pytest.mark.parametrize(
    "session",
    [{}, {"resumed": True}, {"resumed": True, "early": False}],
    ids=["new", "early", "resumed"],
)
def test_the_answer_is_that_of_aioquic(without_aioquic, suite, group, session):
    theirs, mine = without_aioquic(client_hello(suite=suite, group=group, **session))
    assert mine == theirs
    assert theirs[0][0]  # there is a ServerHello


def test_early_data_that_is_not_taken_is_refused_as_by_aioquic(without_aioquic):
    theirs, mine = without_aioquic(client_hello(resumed=True), takes_early=False)
    assert mine == theirs


def test_a_session_that_nobody_knows_is_begun_anew(without_aioquic):
    with mock.patch(f"{__name__}.TICKET", b"another"):
        message = client_hello(resumed=True)
    theirs, mine = without_aioquic(message)
    assert mine == theirs
    assert ("ticket", b"another") in mine[1]
    assert not mine[2]["_session_resumed"]


@pytest.mark.parametrize("name", [None, "localhost", "example.com"])
def test_what_is_shown_is_for_the_name_that_is_asked_for(without_aioquic, name):
    asked = []

    def identify(name):
        asked.append(name)
        identity = mock.Mock(certificate_chain=[], private_key=SIGNING_KEY)
        identity.certificate = credential().chain[0]
        return identity

    theirs, mine = without_aioquic(client_hello(name=name), identify=identify)
    assert mine == theirs
    assert asked == [name, name]
    assert mine[2]["server_name"] == (name or "")


@pytest.mark.parametrize(
    "message",
    [
        client_hello(group=Group.SECP384R1),
        client_hello(alpn=("h2",)),
        client_hello() + b"\0",
        b"\x01\0\0\0",
        b"\x02" + client_hello()[1:],
    ],
    ids=["P-384", "no common ALPN", "two messages", "empty", "another message"],
)
def test_what_is_uncommon_is_left_to_aioquic(message):
    assert answer(FastHandshake, message) == answer(ServerHandshake, message)


def test_several_alpn_names_and_ones_that_are_not_ascii_are_read_as_by_aioquic():
    message = client_hello(alpn=("h2", "x", "h3"))
    for name in (b"x", b"\xf0"):
        changed = message.replace(b"\x02h2\x01x\x02h3", b"\x02h2\x01" + name + b"\x02h3")
        assert answer(FastHandshake, changed) == answer(ServerHandshake, changed)


@pytest.mark.parametrize("resumed", [False, True], ids=["new", "resumed"])
def test_whatever_is_wrong_with_a_client_hello_is_told_as_by_aioquic(resumed):
    source = random.Random(f"hello {resumed}")
    message = client_hello(resumed=resumed)
    for position in range(len(message)):
        changed = bytearray(message)
        changed[position] = source.choice(
            (0, 0xFF, changed[position] ^ 1, changed[position] + 1 & 0xFF)
        )
        changed = bytes(changed)
        assert answer(FastHandshake, changed) == answer(ServerHandshake, changed), position


@pytest.mark.parametrize(
    ("group", "share"),
    [(Group.X25519, bytes(32)), (Group.SECP256R1, b"\x04" + bytes(64))],
    ids=["of small order", "not on the curve"],
)
def test_a_key_share_that_is_no_public_key_is_an_illegal_parameter(group, share):
    message = client_hello(group=group)
    ((_, valid),) = read_client_hello(message).key_shares
    message = message.replace(valid, share)
    told = answer(FastHandshake, message)
    assert told[0] is tls.AlertIllegalParameter  # RFC 8446 4.2.8.2, RFC 7748 6.1
    assert told == answer(ServerHandshake, message)


@pytest.mark.parametrize("resumed", [False, True], ids=["new", "resumed"])
def test_a_client_hello_that_is_cut_is_told_as_by_aioquic(resumed):
    message = client_hello(resumed=resumed)
    for size in range(1, len(message) - 4):
        cut = message[:1] + size.to_bytes(3, "big") + message[4 : 4 + size]
        assert answer(FastHandshake, cut) == answer(ServerHandshake, cut), size


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (rsa.generate_private_key(65537, 2048), SignatureAlgorithm.RSA_PSS_RSAE_SHA256),
        (ec.generate_private_key(ec.SECP256R1()), SignatureAlgorithm.ECDSA_SECP256R1_SHA256),
        (ec.generate_private_key(ec.SECP384R1()), SignatureAlgorithm.ECDSA_SECP384R1_SHA384),
        (SIGNING_KEY, SignatureAlgorithm.ED25519),
        (ed448.Ed448PrivateKey.generate(), SignatureAlgorithm.ED448),
    ],
    ids=lambda it: getattr(it, "name", ""),
)
def test_every_kind_of_key_signs(key, algorithm):
    messages, _, _ = answer(FastHandshake, client_hello(), key=key)
    flight_bytes = messages[Epoch.HANDSHAKE.value]
    position, found = 0, {}
    while position < len(flight_bytes):
        size = int.from_bytes(flight_bytes[position + 1 : position + 4], "big")
        found[flight_bytes[position]] = flight_bytes[position + 4 : position + 4 + size]
        position += 4 + size
    assert list(found) == [8, 11, 15, 20]
    assert int.from_bytes(found[15][:2], "big") == algorithm


@pytest.mark.parametrize(
    "options", [{}, {"cipher_suites": SUITES[:1], "alpn_protocols": None, "verify_mode": None}]
)
def test_it_begins_as_aioquic_s(options):
    options = {
        "alpn_protocols": ["h3"],
        "cipher_suites": None,
        "logger": object(),
        "max_early_data": 5,
        "verify_mode": ssl.CERT_NONE,
    } | options
    theirs = vars(Context(is_client=False, **options))
    mine, other = (vars(FastHandshake(None, **options)) for _ in range(2))
    assert set(mine) - set(theirs) == {"_identify", "server_name"}
    for name, known in theirs.items():
        if name != "update_traffic_key_cb":
            assert mine[name] == known, name
        if isinstance(known, list) and known is not options.get(name.removeprefix("_")):
            assert mine[name] is not other[name], name
    for context in (theirs, mine):
        context["update_traffic_key_cb"](1, 2, 3, 4)  # as long as nobody listens


def test_canary_aioquic_takes_the_steps_that_are_taken_here():
    steps = re.findall(
        r"self\.(\w+) = |(push_\w+)\(|\.(extract|derive_secret|finished_verify_data)\(",
        inspect.getsource(Context._server_handle_hello),
    )
    assert ["".join(step) for step in steps] == [
        "alpn_negotiated",
        "client_random",
        "server_random",
        "legacy_session_id",
        "received_extensions",
        "key_schedule",
        "extract",
        "derive_secret",
        "finished_verify_data",
        "_session_resumed",
        "derive_secret",
        "early_data_accepted",
        "key_schedule",
        "extract",
        "_x25519_private_key",
        "_x448_private_key",
        "push_message",
        "push_server_hello",
        "extract",
        "push_message",
        "push_encrypted_extensions",
        "push_message",
        "push_certificate_request",
        "push_message",
        "push_certificate",
        "push_message",
        "push_certificate_verify",
        "push_message",
        "push_finished",
        "finished_verify_data",
        "extract",
        "_next_dec_key",
        "derive_secret",
        "_psk_key_exchange_mode",
    ]
