"""The development certificates of one user: a CA to trust once, and leaves that renew themselves.

Owns their directory: what lies where, who may write when, and when a leaf is made anew. Knows
nothing about TLS, and leaves X.509 to `issue`.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tercel.certs.issue import LEAF_LIFETIME, new_authority, new_leaf, normalised_names
from tercel.certs.load import Credential, fingerprint, read_credential, spki_hash
from tercel.shared.errors import ConfigurationError
from tercel.shared.private_files import append_private

if sys.platform != "win32":
    import fcntl

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")
RENEWAL_MARGIN = LEAF_LIFETIME / 3


def default_directory() -> Path:
    """Where the user's development certificates are kept; TERCEL_DATA_DIR overrides it.

    Raises ConfigurationError for a user without a home directory.
    """
    override = os.environ.get("TERCEL_DATA_DIR")
    if override:
        return Path(override)
    data_home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG base directory specification: a relative path is invalid and to be ignored.
    if sys.platform != "darwin" and os.path.isabs(data_home):
        return Path(data_home) / "tercel"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home directory: set TERCEL_DATA_DIR to where certificates may be kept"
        ) from error
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "tercel"
    return home / ".local" / "share" / "tercel"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DevelopmentCertificates:
    """A development CA and its leaves in `directory`, safe to use from several processes at once.

    `clock` returns the present as an aware datetime.
    """

    def __init__(self, directory: Path, clock: Callable[[], datetime] = _utc_now) -> None:
        self._directory = directory
        self._clock = clock

    @property
    def ca_path(self) -> Path:
        """The PEM file to give to clients that shall trust the leaves."""
        return self._directory / "ca.pem"

    @property
    def ca_key_path(self) -> Path:
        """The CA's private key; never leaves this machine."""
        return self._directory / "ca-key.pem"

    @property
    def ca_certificate(self) -> x509.Certificate:
        """The CA as it is on disk; `ensure` makes it. Raises ConfigurationError."""
        return self._read(self.ca_path, self.ca_key_path).leaf

    def ensure(self, names: Sequence[str] = DEFAULT_NAMES) -> Credential:
        """A valid leaf for `names`, made or renewed if need be, with the CA as its chain.

        Each first name has a leaf of its own. Raises ConfigurationError.
        """
        wanted = normalised_names(names)
        path = self._leaf_path(wanted[0])
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _exclusive(self._directory / ".lock"):
                now = self._clock()
                authority = self._authority(now)
                present = self._read(path) if path.exists() else None
                if present is not None and _still_good(present, wanted, authority, now):
                    return present
                self._issue(path, wanted, authority, now)
                return self._read(path)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(
                f"cannot keep development certificates in {self._directory} ({reason}): "
                "make it writable, or set TERCEL_DATA_DIR to a directory that is"
            ) from error

    def introduce(self) -> bool:
        """Whether the CA, which `ensure` has made, is new to its user: True the first time.

        True also where that cannot be remembered. Raises ConfigurationError without a CA.
        """
        known, shown = self._directory / "introduced", spki_hash(self.ca_certificate)
        try:
            if known.exists() and known.read_text() == shown:
                return False
            known.write_text(shown)
        except OSError:
            pass
        return True

    def _leaf_path(self, name: str) -> Path:
        # ":" and "*" are not for file names everywhere.
        folder = name.replace(":", "-").replace("*", "_")
        return self._directory / "leaves" / folder / "leaf.pem"

    def _authority(self, now: datetime) -> Credential:
        if self.ca_path.exists():
            authority = self._read(self.ca_path, self.ca_key_path)
            if now + LEAF_LIFETIME < authority.not_valid_after:
                authority.require_valid(now)
                return authority
        certificate, key = new_authority(now)
        # In this order a crash leaves a key without a CA, which counts as none, never a CA with
        # another one's key.
        self.ca_path.unlink(missing_ok=True)
        _replace(self.ca_key_path, _key_pem(key), mode=0o600)
        _replace(self.ca_path, certificate.public_bytes(Encoding.PEM), mode=0o644)
        return self._read(self.ca_path, self.ca_key_path)

    def _issue(
        self, path: Path, names: tuple[str, ...], authority: Credential, now: datetime
    ) -> None:
        if not isinstance(authority.private_key, ec.EllipticCurvePrivateKey):
            raise self._damaged(self.ca_path, self.ca_key_path)
        leaf, key = new_leaf(names, now, authority.leaf, authority.private_key)
        # One file, so that one rename replaces all of it. The CA goes with it: then a client can
        # pin the CA's key, which outlives the leaf's.
        chain = (item.public_bytes(Encoding.PEM) for item in (leaf, authority.leaf))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, b"".join((_key_pem(key), *chain)), mode=0o600)

    def _read(self, path: Path, key_path: Path | None = None) -> Credential:
        try:
            return read_credential(path, key_path)
        except ConfigurationError as error:
            raise self._damaged(path, key_path) from error

    def _damaged(self, path: Path, key_path: Path | None) -> ConfigurationError:
        if key_path is None:
            return ConfigurationError(
                f"development certificate {path} is damaged or not readable: "
                "delete it, and a new one is made"
            )
        return ConfigurationError(
            f"development CA {path} or its key {key_path} is missing, damaged or not readable: "
            "delete both, and a new CA is made for clients to trust"
        )


def describe(development: DevelopmentCertificates, credential: Credential) -> list[str]:
    """What `tercel certs` prints: one line per fact. Raises ConfigurationError without a CA."""
    authority = development.ca_certificate
    facts = [
        ("CA", str(development.ca_path)),
        ("CA fingerprint", f"SHA-256 {fingerprint(authority)}"),
        ("CA SPKI hash", spki_hash(authority)),
        ("certificate", str(credential.certificate_path or "in memory")),
        ("names", ", ".join(credential.names)),
        ("expires", credential.not_valid_after.strftime("%Y-%m-%d %H:%M UTC")),
        ("fingerprint", f"SHA-256 {credential.fingerprint}"),
        ("SPKI hash", credential.spki_hash),
    ]
    width = max(len(name) for name, _ in facts) + 2
    return [f"{name:<{width}}{value}" for name, value in facts]


def _still_good(
    leaf: Credential, names: tuple[str, ...], authority: Credential, now: datetime
) -> bool:
    return (
        set(leaf.names) == set(names)
        and leaf.chain == (authority.leaf,)
        and leaf.leaf.not_valid_before_utc <= now
        and leaf.not_valid_after - now >= RENEWAL_MARGIN
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with append_private(path) as lock:
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)  # the close lets go of it
        yield


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
