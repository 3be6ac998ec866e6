"""Counts clients by site: an IPv4 address, or the network of an IPv6 address."""

import ipaddress
from collections import Counter

# What one household or one machine has of IPv6 (RFC 6177).
_IPV6_SITE_BITS = 64


class SiteCounts:
    """A count per site. Sites with a count of zero are not stored."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        """The number of sites with a count."""
        return len(self._counts)

    def count(self, host: str) -> int:
        """The count of the site of `host`."""
        return self._counts[site_of(host)]

    def add(self, host: str) -> None:
        """Increment the count of the site of `host`."""
        self._counts[site_of(host)] += 1

    def remove(self, host: str) -> None:
        """Decrement the count of the site of `host`."""
        site = site_of(host)
        self._counts[site] -= 1
        if not self._counts[site]:
            del self._counts[site]


def site_of(host: str) -> str:
    """The IPv4 address, or the network of an IPv6 address."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, _IPV6_SITE_BITS)))
