"""What a Redis connection is asked for: address, limits, names.

Owns the reading of the address and its masked form. Opens nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from jitway.errors import SettingsError

SCHEMES = ("redis", "rediss", "unix")
MASK = "***"
EXAMPLE = "redis://user:password@host:6379/0 (rediss:// with TLS, unix:///path/to.sock)"
DATABASE_MAX = 1_000_000
SIGNING_KEY_BYTES_MAX = 64
# Limits and retries are ours to set; an address may only say where, which and how trusted.
_TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_cert_reqs",
    "ssl_check_hostname",
)
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_QUERY_OPTIONS = ("db", *_TLS_OPTIONS)


class RedisOptions(TypedDict, total=False):
    """The keywords of `RedisAdapter`; `Limits` has their meaning and defaults."""

    redis_url: str
    key_prefix: str
    signing_key: bytes
    timeout_ms: int
    connect_timeout_ms: int
    pool_size_max: int
    waiting_max: int
    client_name: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Address and limits of one adapter, checked against each other.

    Args:
        redis_url: `redis://user:password@host:port/db`; `rediss://` with TLS, certificate and
            host name checked, `?ssl_ca_certs=/path/ca.pem` for a private authority; `unix://`.
        key_prefix: before every key, so that several deployments can share one Redis.
        signing_key: secret of up to 64 bytes; values not sealed with it are misses.
        timeout_ms: how long one command may take in all, waiting for a connection included.
        connect_timeout_ms: how long opening a connection may take; no command waits that long.
        pool_size_max: connections the pool may open; the invalidation feed has its own.
        waiting_max: callers that may wait for a connection at once.
        client_name: how the connections appear in `CLIENT LIST`.
    """

    redis_url: str = field(repr=False)
    key_prefix: str = ""
    signing_key: bytes = field(default=b"", repr=False)
    timeout_ms: int = 50
    connect_timeout_ms: int = 1000
    pool_size_max: int = 20
    waiting_max: int = 1000
    client_name: str = "jitway"

    def __post_init__(self) -> None:
        check_address(self.redis_url)
        for name in ("timeout_ms", "connect_timeout_ms", "pool_size_max", "waiting_max"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1: a wait without a limit hangs")
        if len(self.signing_key) > SIGNING_KEY_BYTES_MAX:
            raise SettingsError(f"signing_key has more than {SIGNING_KEY_BYTES_MAX} bytes")
        if not self.client_name.isidentifier():
            raise SettingsError("client_name must be letters, digits and _ only")
        if not self.key_prefix.isprintable():
            raise SettingsError("key_prefix must be printable characters")

    def connection_arguments(self) -> dict[str, object]:
        """Where to connect and as whom, in the words of the driver's connection classes."""
        parts = urlsplit(self.redis_url)
        query = dict(parse_qsl(parts.query))
        path = unquote(parts.path)
        arguments: dict[str, object] = {
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
            "db": _database(parts, query),
            "client_name": self.client_name,
        }
        if parts.scheme == "unix":
            return arguments | {"path": path}
        arguments |= {"host": unquote(parts.hostname or "localhost"), "port": parts.port or 6379}
        if parts.scheme == "rediss":
            arguments |= {name: query[name] for name in _TLS_OPTIONS if name in query}
            arguments["ssl_check_hostname"] = query.get("ssl_check_hostname", "true") == "true"
        return arguments


def read_limits(config: Mapping[str, str] | None, options: RedisOptions) -> Limits:
    """The limits from the guide's mapping and the keywords, which win.

    Raises:
        SettingsError: no address, or one that cannot be meant.
    """
    if config is not None and not isinstance(config, Mapping):
        raise SettingsError('the configuration is a mapping such as {"REDIS_URL": "..."}')
    given: RedisOptions = {**options}
    if "redis_url" not in given:
        address = (config or {}).get("REDIS_URL")
        if not address:
            raise SettingsError(f"REDIS_URL is missing: {EXAMPLE}")
        given["redis_url"] = address
    return Limits(**given)


def check_address(url: str) -> None:
    """Refuse an address that could only be misread.

    Raises:
        SettingsError: another scheme, port or database that is no number, or an option that is
            not the address's to set; never with the password.
    """
    scheme, divider, _ = url.partition("://")
    if scheme not in SCHEMES or not divider:
        shown = scheme if divider and scheme.isalnum() else "something else"
        raise SettingsError(f"REDIS_URL must begin like {EXAMPLE}; it begins with {shown}")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SettingsError(
            "REDIS_URL has a part that is no host and port; a password with one of "
            ":/?#[]@ must be percent-encoded"
        ) from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    _check_query(scheme, query)
    if scheme == "unix" and not parts.path:
        raise SettingsError("REDIS_URL names no socket: unix:///path/to.sock")
    _database(parts, query)


def masked_address(url: str) -> str:
    """The address fit for logs and errors: the password shows as ***, options are left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"redis://{MASK}"
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{MASK}" if colon else credentials
    return f"{parts.scheme}://{shown}{at}{host}{parts.path}"


def _check_query(scheme: str, query: dict[str, str]) -> None:
    for name, value in query.items():
        if name not in _QUERY_OPTIONS:
            known = ", ".join(_QUERY_OPTIONS)
            raise SettingsError(f"REDIS_URL has the unknown option {name!r}; known are {known}")
        if name in _FILES and not os.path.isfile(value):
            raise SettingsError(f"{name} in REDIS_URL names no file: {value}")
        if name in _TLS_OPTIONS and scheme != "rediss":
            raise SettingsError(f"REDIS_URL sets {name} but no TLS: begin it with rediss://")
    if query.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise SettingsError("ssl_cert_reqs in REDIS_URL must be required or none")
    if query.get("ssl_check_hostname", "true") not in ("true", "false"):
        raise SettingsError("ssl_check_hostname in REDIS_URL must be true or false")


def _database(parts: SplitResult, query: dict[str, str]) -> int:
    text = query.get("db", "" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
    if not text.isdecimal() or int(text) > DATABASE_MAX:
        raise SettingsError("the database of REDIS_URL is no number: redis://host:6379/0")
    return int(text)
