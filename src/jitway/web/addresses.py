"""`addresses.py`: where a request comes from, and whose word about that counts.

Owns what one source is: an IPv4 address, or the /64 that a holder of IPv6 addresses is given.
`X-Forwarded-For` is anybody's text until a proxy of ours has written the end of it.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

UNKNOWN = "unknown"
_FORWARDED_MAX = 32
_REMEMBERED = 4_096


def read_networks(text: str | None) -> Networks:
    """Networks or single addresses with commas between them."""
    return tuple(ip_network(one.strip()) for one in (text or "").split(",") if one.strip())


@lru_cache(_REMEMBERED)
def source_of(address: str) -> str:
    """The source that an address belongs to, as it is counted."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ip_network((found, 64), strict=False))
    return str(found)


@lru_cache(_REMEMBERED)
def is_within(address: str, networks: Networks) -> bool:
    """Whether an address lies in one of them."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks)


def caller_source(peer: str, forwarded: Iterable[bytes], trusted: Networks) -> str:
    """The source of a request.

    Args:
        peer: the address of the connection.
        forwarded: the values of `X-Forwarded-For`, in the order in which they stand.
        trusted: networks of our own proxies. Read from the right, the first address that is none
            of theirs is the caller; what stands before it the caller may have written.
    """
    if not is_within(peer, trusted):
        return source_of(peer)
    hops = [hop.strip() for value in forwarded for hop in value.decode("latin-1").split(",")]
    for hop in reversed(hops[-_FORWARDED_MAX:]):
        if not is_within(hop, trusted):
            return source_of(hop)
    return source_of(peer)
