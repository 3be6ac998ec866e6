"""TUN devices in network namespaces. Linux only, and only for root."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Sequence

_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_MOST_BYTES = 65_535


class TunDevice:
    """One end of the link: what a namespace sends is read here, what is written here it gets."""

    def __init__(self, name: str, namespace: str, addresses: Sequence[str]) -> None:
        """Makes device `name`, moves it into `namespace` and routes everything to it.

        `addresses` are those of the namespace, with prefix length.
        """
        self.descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(self.descriptor, _TUNSETIFF, request)
        _ip("link", "set", name, "netns", namespace)
        inside = ("-n", namespace)
        _ip(*inside, "link", "set", name, "addrgenmode", "none")
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "link", "set", name, "mtu", "1500", "txqueuelen", "1000", "up")
        for address in addresses:
            family = "-6" if ":" in address else "-4"
            nodad = ("nodad",) if ":" in address else ()
            _ip(*inside, family, "addr", "add", address, "dev", name, *nodad)
            _ip(*inside, family, "route", "replace", "default", "dev", name)

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self.descriptor

    def read(self) -> bytes | None:
        """One packet, None if none waits."""
        try:
            return os.read(self.descriptor, _MOST_BYTES)
        except BlockingIOError:
            return None

    def write(self, packet: bytes) -> None:
        """Give the namespace one packet; if it cannot take it, it is lost."""
        try:
            os.write(self.descriptor, packet)
        except OSError:
            pass

    def close(self) -> None:
        """Remove the device."""
        os.close(self.descriptor)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)
