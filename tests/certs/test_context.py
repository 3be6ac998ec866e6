"""Both TLS stacks serve what was loaded, shown by handshakes; every form of the ssl argument."""

import socket
import ssl
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tercel.certs.context import ServerContext, quic_identity, resolve_ssl, server_context
from tercel.certs.load import load_credential
from tercel.shared.errors import ConfigurationError

from .conftest import DAY, KEY_MAKERS, NOW, issue

KINDS = list(KEY_MAKERS)


def handshake(server: ssl.SSLContext, root, server_name="localhost", alpn=("http/1.1",)):
    """A TLS handshake over TCP with a client that trusts `root` alone."""
    client = ssl.create_default_context(cadata=root.pem.decode())
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    client.set_alpn_protocols(list(alpn))

    def serve_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, server.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)

    with ThreadPoolExecutor(1) as executor, socket.create_server(("127.0.0.1", 0)) as listener:
        served = executor.submit(serve_one, listener)
        with (
            socket.create_connection(listener.getsockname(), timeout=60) as connection,
            client.wrap_socket(connection, server_hostname=server_name) as secured,
        ):
            secured.send(b".")
            seen = SimpleNamespace(
                leaf=x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)),
                alpn=secured.selected_alpn_protocol(),
                version=secured.version(),
            )
        served.result(10)
    return seen


def quic_handshake(credential, root, server_name="localhost"):
    """A QUIC handshake in memory with a client that verifies; returns the client's last event."""
    identity = quic_identity(credential)
    server_side = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    server_side.certificate = identity.certificate
    server_side.certificate_chain = identity.certificate_chain
    server_side.private_key = identity.private_key
    client = QuicConnection(
        configuration=QuicConfiguration(
            alpn_protocols=["h3"], cadata=root.pem, server_name=server_name
        )
    )
    server = QuicConnection(
        configuration=server_side,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    client.connect(("127.0.0.1", 4433), now=0.0)
    for step in range(6):
        now = step / 100
        for sender, receiver in ((client, server), (server, client)):
            for data, _ in sender.datagrams_to_send(now):
                receiver.receive_datagram(data, ("127.0.0.1", 4433), now)
    events = iter(client.next_event, None)
    return [event for event in events if isinstance(event, HandshakeCompleted)]


@pytest.mark.parametrize("kind", KINDS)
def test_tcp_client_verifies_each_key_type_from_memory(kind, credential_for, root):
    credential = credential_for("localhost", kind=kind)
    seen = handshake(server_context([credential]), root)
    assert seen.leaf == credential.leaf
    assert (seen.alpn, seen.version) == ("http/1.1", "TLSv1.3")


@pytest.mark.parametrize("kind", KINDS)
def test_quic_client_verifies_each_key_type(kind, credential_for, root):
    [completed] = quic_handshake(credential_for("localhost", kind=kind), root)
    assert completed.alpn_protocol == "h3"


def test_quic_client_rejects_a_name_that_the_certificate_lacks(credential_for, root):
    assert quic_handshake(credential_for("localhost"), root, "other.test") == []


def test_both_stacks_serve_from_files(files, root):
    credential = load_credential(*files)
    assert handshake(server_context([credential]), root).leaf == credential.leaf
    assert len(quic_handshake(credential, root)) == 1


def test_a_chain_out_of_order_verifies_on_both_stacks(tmp_path, root, intermediate, leaf):
    path = tmp_path / "shuffled.pem"
    path.write_bytes(root.pem + leaf.key_pem() + intermediate.pem + leaf.pem)
    credential = load_credential(path)
    assert handshake(server_context([credential]), root).leaf == leaf.certificate
    assert len(quic_handshake(credential, root)) == 1


def test_an_encrypted_key_file_is_opened_with_its_password(files, root, leaf):
    cert, key = files
    key.write_bytes(leaf.key_pem(b"secret"))
    assert handshake(server_context([load_credential(cert, key, "secret")]), root)


def test_sni_picks_the_certificate_and_the_first_is_the_default(credential_for, root):
    default, other, wildcard = (
        credential_for("localhost"),
        credential_for("other.test", kind="rsa"),
        credential_for("*.wild.test", kind="ed25519"),
    )
    context = server_context([default, other, wildcard])
    for name, expected in [
        ("localhost", default),
        ("other.test", other),
        ("OTHER.test", other),
        ("a.wild.test", wildcard),
        ("unknown.test", default),
        (None, default),
    ]:
        seen = handshake(context, root, name)
        assert seen.leaf == expected.leaf
        assert seen.alpn == "http/1.1"


def test_tls_below_1_2_is_not_spoken(credential_for):
    context = server_context([credential_for("localhost")])
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_alpn_protocols_are_those_asked_for(credential_for, root):
    context = server_context([credential_for("localhost")], alpn=("acme", "http/1.1"))
    assert handshake(context, root, alpn=("http/1.1", "acme")).alpn == "acme"


def test_key_log_has_the_secrets_of_every_certificate(credential_for, root, tmp_path):
    log = tmp_path / "keys.log"
    pair = [credential_for("localhost"), credential_for("other.test")]
    context = server_context(pair, keylog_file=str(log))
    for name in ("localhost", "other.test"):
        handshake(context, root, name)
    secrets = [line for line in log.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC")]
    assert len(secrets) == 2
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_key_log_that_cannot_be_written_is_an_error(credential_for, tmp_path):
    with pytest.raises(ConfigurationError, match="name a file in a writable directory"):
        server_context([credential_for("localhost")], keylog_file=str(tmp_path / "no" / "log"))


def test_no_certificate_is_an_error():
    with pytest.raises(ConfigurationError, match="give at least one"):
        server_context([])


def test_a_key_from_memory_is_on_disk_only_encrypted_and_only_briefly(
    credential_for, tmp_path, monkeypatch
):
    seen = []

    def watch(context, path, keyfile=None, password=None):
        seen.append((stat.S_IMODE(Path(path).stat().st_mode), Path(path).read_bytes()))
        raise ssl.SSLError("stopped here")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ServerContext, "load_cert_chain", watch)
    with pytest.raises(ConfigurationError):
        server_context([credential_for("localhost")])
    [(mode, content)] = seen
    assert mode == 0o600
    assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changed_since_it_was_loaded_is_an_error(files):
    cert, key = files
    credential = load_credential(cert, key)
    key.write_bytes(issue("other", KEY_MAKERS["p256"]()).key_pem())
    with pytest.raises(ConfigurationError, match=f"{cert} .*MISMATCH"):
        server_context([credential])
    key.unlink()
    with pytest.raises(ConfigurationError, match="No such file"):
        server_context([credential])


def test_openssl_never_asks_for_a_password_on_the_terminal(files, monkeypatch):
    passwords = []

    def watch(context, certfile, keyfile=None, password=None):
        passwords.append(password)

    monkeypatch.setattr(ServerContext, "load_cert_chain", watch)
    server_context([load_credential(*files)])
    assert passwords == [b""]  # None would make it ask if the key became encrypted meanwhile


# resolve_ssl


def directory_with(path: Path, leaf, intermediate, cert_name: str, key_name: str) -> Path:
    path.mkdir()
    (path / cert_name).write_bytes(leaf.pem + intermediate.pem)
    (path / key_name).write_bytes(leaf.key_pem())
    return path


@pytest.mark.parametrize(
    ("cert_name", "key_name"),
    [("fullchain.pem", "privkey.pem"), ("cert.pem", "privkey.pem"), ("cert.pem", "key.pem")],
)
def test_a_directory_is_found_by_its_usual_names(cert_name, key_name, tmp_path, leaf, intermediate):
    directory = directory_with(tmp_path / "d", leaf, intermediate, cert_name, key_name)
    for value in (directory, str(directory)):
        [credential] = resolve_ssl(value)
        assert credential.certificate_path == directory / cert_name
        assert credential.key_path == directory / key_name


def test_the_full_chain_is_preferred_to_the_bare_leaf_beside_it(tmp_path, leaf, intermediate):
    directory = directory_with(tmp_path / "d", leaf, intermediate, "fullchain.pem", "privkey.pem")
    (directory / "cert.pem").write_bytes(leaf.pem)
    [credential] = resolve_ssl(directory)
    assert credential.chain == (intermediate.certificate,)


def test_a_dict_gives_cert_key_and_password(files, leaf):
    cert, key = files
    key.write_bytes(leaf.key_pem(b"secret"))
    value = {"cert": str(cert), "key": key, "password": "secret", "names": ["ignored.test"]}
    [credential] = resolve_ssl(value)
    assert credential.names == ("localhost", "127.0.0.1")


def test_a_dict_without_key_takes_it_from_the_certificate_file(tmp_path, leaf):
    path = tmp_path / "both.pem"
    path.write_bytes(leaf.pem + leaf.key_pem())
    [credential] = resolve_ssl({"cert": path})
    assert credential.key_path == path


def test_a_list_keeps_its_order_and_may_mix_every_form(tmp_path, files, leaf, intermediate):
    directory = directory_with(tmp_path / "d", leaf, intermediate, "cert.pem", "key.pem")
    credential = load_credential(*files)
    value = ({"cert": files[0], "key": files[1]}, str(directory), credential)
    first, second, third = resolve_ssl(value)
    assert first.certificate_path == files[0]
    assert second.certificate_path == directory / "cert.pem"
    assert third is credential


def test_a_context_made_here_remembers_its_credentials(credential_for):
    pair = [credential_for("localhost"), credential_for("other.test")]
    assert resolve_ssl(server_context(pair)) == pair


def test_a_foreign_context_that_says_its_files_is_traced(files):
    context = SanicLikeContext(ssl.PROTOCOL_TLS_SERVER)
    context.sanic = {"cert": str(files[0]), "key": str(files[1]), "commonName": "x"}
    [credential] = resolve_ssl(context)
    assert credential.certificate_path == files[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sanics_own_contexts_are_traced(tmp_path, files, leaf, intermediate):
    tls = pytest.importorskip("sanic.http.tls.context")
    directory = directory_with(tmp_path / "d", leaf, intermediate, "fullchain.pem", "privkey.pem")
    value = [{"cert": str(files[0]), "key": str(files[1])}, str(directory)]
    first, second = resolve_ssl(tls.process_to_context(value))
    assert first.certificate_path == files[0]
    assert second.certificate_path == directory / "fullchain.pem"


class SanicLikeContext(ssl.SSLContext):
    sanic: dict[str, object]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), "pass ssl a dict with cert and key"),
        ([], "empty list"),
        (None, "cannot be of type NoneType"),
        (3, "cannot be of type int"),
        ([None], "cannot be of type NoneType"),
        ({}, "needs cert"),
        ({"cert": ""}, "needs cert"),
        ({"cert": 3}, "needs cert"),
        ({"cert": b"x", "key": 3}, "key of an ssl dict is not a path"),
        ({"cert": b"x", "password": 3}, "password of an ssl dict is not text"),
        ("/nonexistent/directory", "does not exist"),
        (__file__, "is a file: give the directory"),
        (Path(__file__).parent, "has no fullchain.pem or cert.pem in it"),
    ],
    ids=str,
)
def test_an_ssl_argument_that_leads_to_no_certificate_says_what_to_pass(value, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_ssl(value)
    assert "\n" not in str(caught.value)


def test_an_expired_certificate_is_refused_in_every_form(files):
    with pytest.raises(ConfigurationError, match="expired at"):
        resolve_ssl([{"cert": files[0], "key": files[1]}], now=NOW + 91 * DAY)


def test_the_quic_identity_is_what_was_loaded(files, leaf, intermediate):
    identity = quic_identity(load_credential(*files))
    assert identity.certificate == leaf.certificate
    assert identity.certificate_chain == [intermediate.certificate]
    public = identity.private_key.public_key()
    assert (
        public
        == x509.load_der_x509_certificate(leaf.certificate.public_bytes(Encoding.DER)).public_key()
    )
