"""A server certificate for tests that need one and do not care which."""

import functools
from datetime import UTC, datetime

from tercel.certs.issue import new_authority, new_leaf
from tercel.certs.load import Credential


@functools.cache
def credential() -> Credential:
    """A leaf for localhost, signed by an authority that is made for it; once per test run."""
    now = datetime.now(UTC)
    authority, authority_key = new_authority(now)
    leaf, key = new_leaf(("localhost", "127.0.0.1", "::1"), now, authority, authority_key)
    return Credential(leaf=leaf, chain=(authority,), private_key=key)
