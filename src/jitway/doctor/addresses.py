"""`addresses.py`: whether an address asks for TLS, and whom it reaches without."""

import ipaddress
from urllib.parse import parse_qsl, urlsplit

_TLS_SCHEMES = frozenset({"rediss", "amqps", "mongodb+srv"})
_TLS_MODES = frozenset({"require", "verify-ca", "verify-full"})


def unencrypted_host(address: str) -> str | None:
    """The host that the address speaks to in the clear, or None: TLS, or this machine."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None  # the adapter says what is wrong with it
    options = {name.lower(): value for name, value in parse_qsl(parts.query)}
    wants_tls = (
        parts.scheme in _TLS_SCHEMES
        or options.get("sslmode") in _TLS_MODES
        or "true" in (options.get("tls"), options.get("ssl"))
    )
    host = parts.netloc.rpartition("@")[2].partition(",")[0]
    name = host.partition("]")[0].removeprefix("[") if host[:1] == "[" else host.partition(":")[0]
    return None if wants_tls or _is_here(name) else name


def _is_here(name: str) -> bool:
    if name in ("", "localhost") or name.startswith(("/", "%2F", "%2f")):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
