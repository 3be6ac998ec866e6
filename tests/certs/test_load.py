"""What loads, what is refused with which words, and what people are told."""

import base64
import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from tercel.certs.load import load_credential, read_credential
from tercel.shared.errors import ConfigurationError

from .conftest import DAY, KEY_MAKERS, NOW, issue, key_of

KEY_TYPES = {
    "rsa": rsa.RSAPrivateKey,
    "p256": ec.EllipticCurvePrivateKey,
    "p384": ec.EllipticCurvePrivateKey,
    "ed25519": ed25519.Ed25519PrivateKey,
}


def refused(cert, key=None, password=None, now=NOW):
    """The message with which loading fails: one line, always with a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        load_credential(cert, key, password, now=now)
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message
    return message


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_each_supported_key_type_loads_with_its_certificate(kind, tmp_path):
    made = issue("x", key_of(kind), names=["a.test"])
    path = tmp_path / "both.pem"
    path.write_bytes(made.pem + made.key_pem())
    credential = load_credential(path, now=NOW)
    assert isinstance(credential.private_key, KEY_TYPES[kind])
    assert credential.leaf == made.certificate
    assert credential.key_path == credential.certificate_path == path


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_a_key_loads_in_its_older_and_its_newer_form(form, leaf):
    key_pem = leaf.key.private_bytes(Encoding.PEM, form, NoEncryption())
    assert load_credential(leaf.pem, key_pem, now=NOW).leaf == leaf.certificate


def test_files_and_bytes_load_the_same_credential(files, leaf, intermediate):
    cert, key = files
    from_files = load_credential(str(cert), key, now=NOW)
    from_bytes = load_credential(cert.read_bytes(), key.read_bytes(), now=NOW)
    assert from_files.leaf == from_bytes.leaf == leaf.certificate
    assert from_files.chain == from_bytes.chain == (intermediate.certificate,)
    assert (from_files.certificate_path, from_files.key_path) == files
    assert (from_bytes.certificate_path, from_bytes.key_path) == (None, None)


def test_names_are_dns_names_then_addresses():
    made = issue("x", key_of("p256"), names=["::1", "b.test", "*.a.test", "127.0.0.1"])
    credential = load_credential(made.pem, made.key_pem(), now=NOW)
    assert credential.names == ("b.test", "*.a.test", "::1", "127.0.0.1")


def test_hashes_are_those_of_certificate_and_public_key_info(leaf):
    credential = load_credential(leaf.pem, leaf.key_pem(), now=NOW)
    der = leaf.certificate.public_bytes(Encoding.DER)
    assert credential.fingerprint.replace(":", "") == hashlib.sha256(der).hexdigest().upper()
    assert credential.fingerprint.count(":") == 31
    digest = base64.b64decode(credential.spki_hash)
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
    start = der.index(prefix)
    assert digest == hashlib.sha256(der[start : start + 91]).digest()


def test_an_encrypted_key_opens_with_its_password_as_text_or_bytes(leaf):
    for password in ("secret", b"secret"):
        credential = load_credential(leaf.pem, leaf.key_pem(b"secret"), password, now=NOW)
        assert credential.key_password == b"secret"


def test_a_password_for_a_key_that_needs_none_is_ignored(leaf):
    assert load_credential(leaf.pem, leaf.key_pem(), "secret", now=NOW).leaf == leaf.certificate


def test_key_and_password_stay_out_of_the_repr(leaf):
    credential = load_credential(leaf.pem, leaf.key_pem(b"secret"), "secret", now=NOW)
    assert "secret" not in repr(credential)
    assert "private_key" not in repr(credential)


def test_a_missing_file_is_named(files, tmp_path):
    cert, _ = files
    gone = tmp_path / "gone.pem"
    assert refused(gone, cert) == f"certificate file {gone} does not exist: check the path"
    assert f"key file {gone} does not exist" in refused(cert, gone)


def test_a_directory_is_not_a_file(files, tmp_path):
    assert f"{tmp_path} is a directory" in refused(tmp_path)


def test_an_unreadable_file_is_named_with_the_reason(files):
    cert, _ = files
    message = refused(cert / "below-a-file")
    assert str(cert / "below-a-file") in message
    assert "cannot be read (Not a directory)" in message


def test_a_path_that_no_file_can_have_is_refused():
    assert "is not a path" in refused("a\0b\n")


def test_binary_and_text_that_is_not_pem_is_refused(leaf):
    assert "is not PEM" in refused(leaf.certificate.public_bytes(Encoding.DER), leaf.key_pem())
    assert "the key given as bytes is not PEM" in refused(leaf.pem, b"secret")


def test_certificate_and_key_files_in_each_others_place_are_refused(files):
    cert, key = files
    assert f"{key} has no certificate in it" in refused(key, cert)


def test_a_certificate_without_a_key_is_refused(files):
    cert, _ = files
    assert f"certificate file {cert} has no private key in it" in refused(cert)


def test_a_damaged_certificate_is_refused(leaf):
    damaged = leaf.pem.replace(b"MII", b"AAA", 1)
    assert "damaged certificate" in refused(damaged, leaf.key_pem())


def test_a_certificate_with_damaged_extensions_is_refused(leaf):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    malformed = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x02\x82\x7f")
    certificate = (
        x509.CertificateBuilder(subject, subject, leaf.key.public_key(), 1, NOW - DAY, NOW + DAY)
        .add_extension(malformed, critical=False)
        .sign(leaf.key, hashes.SHA256())
    )
    message = refused(certificate.public_bytes(Encoding.PEM), leaf.key_pem())
    assert "damaged extensions" in message


def test_a_damaged_key_is_refused(leaf):
    damaged = leaf.key_pem().replace(b"MI", b"AA", 1)
    assert "holds a key that is damaged" in refused(leaf.pem, damaged)


def test_an_encrypted_key_without_a_password_is_refused(leaf):
    for password in (None, "", b""):
        message = refused(leaf.pem, leaf.key_pem(b"secret"), password)
        assert "holds an encrypted key: give its password" in message


def test_an_encrypted_key_of_the_older_form_is_recognised(leaf):
    header = b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
    old = header + b"AAAA\n-----END EC PRIVATE KEY-----\n"
    assert "holds an encrypted key" in refused(leaf.pem, old)


def test_a_wrong_password_is_refused(leaf):
    assert "this password does not decrypt" in refused(leaf.pem, leaf.key_pem(b"secret"), "other")


def test_another_certificates_key_is_refused(files, tmp_path):
    cert, _ = files
    other = tmp_path / "other.pem"
    other.write_bytes(issue("other", KEY_MAKERS["p256"]()).key_pem())
    message = refused(cert, other)
    assert f"{other} holds a key that does not belong to the certificate in" in message
    assert str(cert) in message


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP521R1()),
        lambda: dsa.generate_private_key(1024),
        lambda: rsa.generate_private_key(65537, 1024),
        ed448.Ed448PrivateKey.generate,
    ],
    ids=["p521", "dsa", "rsa1024", "ed448"],
)
def test_a_key_type_that_one_of_the_stacks_lacks_is_refused(make, leaf):
    key = make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "of a type that is not supported: use ECDSA P-256" in refused(leaf.pem, key)


def test_a_key_of_an_unknown_algorithm_is_refused(leaf):
    known = KEY_MAKERS["ed25519"]().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    unknown = base64.encodebytes(known.replace(b"\x2b\x65\x70", b"\x2b\x65\x7f", 1))
    pem = b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % unknown
    # Older versions of cryptography do not tell a key that they do not know from a damaged one.
    told = refused(leaf.pem, pem)
    assert "of a type that is not supported" in told or "holds a key that is damaged" in told


def test_a_chain_certificate_with_an_unknown_key_is_no_obstacle(leaf, intermediate):
    der = issue("odd", KEY_MAKERS["ed25519"](), ca=True).certificate.public_bytes(Encoding.DER)
    at = der.rindex(b"\x30\x05\x06\x03\x2b\x65\x70\x03\x21")  # the SubjectPublicKeyInfo
    odd = base64.encodebytes(der[: at + 6] + b"\x7f" + der[at + 7 :])
    pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % odd
    credential = load_credential(pem + leaf.pem + intermediate.pem, leaf.key_pem(), now=NOW)
    assert credential.leaf == leaf.certificate
    assert credential.chain[0] == intermediate.certificate


def test_a_certificate_bound_to_rsassa_pss_is_refused():
    made = issue("x", key_of("rsa"))
    der = made.certificate.public_bytes(Encoding.DER)
    plain = bytes.fromhex("300d06092a864886f70d0101010500")  # rsaEncryption, parameters NULL
    bound = bytes.fromhex("300d06092a864886f70d01010a3000")  # id-RSASSA-PSS, default parameters
    assert der.count(plain) == 1
    der = der.replace(plain, bound)
    pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der)
    assert "RSASSA-PSS" in refused(pem, made.key_pem())


def test_validity_includes_both_of_its_ends(leaf):
    second = timedelta(seconds=1)
    start, end = leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc
    for moment in (start, end):
        assert load_credential(leaf.pem, leaf.key_pem(), now=moment).not_valid_after == end
    early = refused(leaf.pem, leaf.key_pem(), now=start - second)
    assert f"is not valid before {start:%Y-%m-%d %H:%M} UTC: check the system clock" in early
    late = refused(leaf.pem, leaf.key_pem(), now=end + second)
    assert f"expired at {end:%Y-%m-%d %H:%M} UTC: renew it" in late


def test_reading_does_not_ask_for_validity(leaf):
    old = issue("old", leaf.key, start=NOW - 2 * DAY, end=NOW - DAY)
    assert read_credential(old.pem, old.key_pem()).leaf == old.certificate


def test_a_chain_out_of_order_is_put_in_order_and_told(root, intermediate, leaf):
    source = root.pem + intermediate.pem + leaf.pem + intermediate.pem
    credential = load_credential(source, leaf.key_pem(), now=NOW)
    assert credential.leaf == leaf.certificate
    assert credential.chain == (intermediate.certificate, root.certificate)
    assert not credential.in_order
    [warning] = credential.warnings(NOW)
    assert "out of order" in warning


def test_a_certificate_that_belongs_to_no_path_stays_behind_the_chain(intermediate, leaf):
    stray = issue("stray", key_of("ed25519"), ca=True)
    source = leaf.pem + intermediate.pem + stray.pem
    credential = load_credential(source, leaf.key_pem(), now=NOW)
    assert credential.chain == (intermediate.certificate, stray.certificate)
    assert credential.in_order
    assert credential.warnings(NOW) == []


def test_an_impostor_with_the_issuers_name_is_not_taken_for_the_issuer(intermediate, leaf):
    impostor = issue("Test Intermediate", KEY_MAKERS["p256"](), ca=True)
    source = leaf.pem + impostor.pem + intermediate.pem
    credential = load_credential(source, leaf.key_pem(), now=NOW)
    assert credential.chain == (intermediate.certificate, impostor.certificate)


def test_a_missing_chain_is_told_with_the_place_to_get_it(intermediate):
    url = "http://ca.test/intermediate.crt"
    made = issue("x", key_of("p256"), issuer=intermediate, names=["a.test"], issuer_url=url)
    [warning] = load_credential(made.pem, made.key_pem(), now=NOW).warnings(NOW)
    assert "without its issuer's certificate (CN=Test Intermediate)" in warning
    assert url in warning


def test_a_missing_chain_without_a_known_place_is_told(intermediate, leaf):
    revocation = AuthorityInformationAccessOID.OCSP
    elsewhere = issue(
        "x",
        key_of("p256"),
        issuer=intermediate,
        names=["a.test"],
        issuer_url="http://ocsp.test",
        access_method=revocation,
    )
    for made in (leaf, elsewhere):
        [warning] = load_credential(made.pem, made.key_pem(), now=NOW).warnings(NOW)
        assert warning.endswith("append it, unless clients have it as a trusted root")


def test_a_chain_of_somebody_else_counts_as_missing(root, leaf):
    credential = load_credential(leaf.pem + root.pem, leaf.key_pem(), now=NOW)
    [warning] = credential.warnings(NOW)
    assert "without its issuer's certificate" in warning


def test_nothing_is_told_of_a_complete_chain_or_a_self_signed_leaf(files):
    assert load_credential(*files, now=NOW).warnings(NOW) == []
    alone = issue("alone", key_of("p256"), names=["a.test"])
    assert load_credential(alone.pem, alone.key_pem(), now=NOW).warnings(NOW) == []


def test_the_last_seven_days_are_told(files):
    credential = load_credential(*files, now=NOW)
    before = credential.not_valid_after - 7 * DAY
    assert credential.warnings(before) == []
    warnings = credential.warnings(before + timedelta(seconds=1))
    assert "expires at" in warnings[0]
    assert str(files[0]) in warnings[0]


def test_an_expired_intermediate_is_told(root):
    key = KEY_MAKERS["p256"]()
    old = issue("Old", key, issuer=root, ca=True, start=NOW - 2 * DAY, end=NOW - DAY)
    made = issue("x", key_of("p256"), issuer=old, names=["a.test"])
    [warning] = load_credential(made.pem + old.pem, made.key_pem(), now=NOW).warnings(NOW)
    assert "CN=Old expired at" in warning


def test_a_certificate_without_names_is_told():
    made = issue("line\nbreak", key_of("p256"))
    credential = load_credential(made.pem, made.key_pem(), now=NOW)
    assert credential.names == ()
    [warning] = credential.warnings(NOW)
    assert "no subject alternative name" in warning
    assert "\n" not in warning
