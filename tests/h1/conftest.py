"""Asynchronous tests run on asyncio's loop and on uvloop."""

import asyncio
import datetime
import inspect
import ssl
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.asynchronous import TEST_SECONDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_factory")
        metafunc.parametrize(
            "loop_factory",
            [asyncio.new_event_loop, uvloop.new_event_loop],
            ids=["asyncio", "uvloop"],
        )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        await asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_SECONDS)

    with asyncio.Runner(loop_factory=pyfuncitem.callspec.params["loop_factory"]) as runner:
        runner.run(bounded())
    return True


class Identity:
    """A self-signed certificate in files."""

    def __init__(self, directory: Path, name: str) -> None:
        self.cert = directory / f"{name}.pem"
        self.key = directory / f"{name}.key"
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests, Inc."),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


class Tls:
    """Contexts of a server and a client that trust each other."""

    def __init__(self, directory: Path) -> None:
        self.server_identity = Identity(directory, "localhost")
        self.client_identity = Identity(directory, "client")
        self.server = self._context(ssl.PROTOCOL_TLS_SERVER, self.server_identity)
        self.client = self._context(ssl.PROTOCOL_TLS_CLIENT, self.client_identity)
        self.client.load_verify_locations(self.server_identity.cert)

    def _context(self, purpose: Any, identity: Identity) -> ssl.SSLContext:
        context = ssl.SSLContext(purpose)
        context.load_cert_chain(identity.cert, identity.key)
        return context


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)
