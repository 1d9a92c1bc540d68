"""What MongoDB is asked for: address, database, limits, and writes that are not lost.

Owns the reading of the address and its masked form. Opens nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict
from urllib.parse import parse_qsl, unquote, urlsplit

from jitway.errors import SettingsError

SCHEMES = ("mongodb", "mongodb+srv")
MASK = "***"
EXAMPLE = "mongodb://user:password@host:27017/?tls=true&tlsCAFile=/path/ca.pem"
DATABASE_DEFAULT = "jitway"
_DATABASE_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")


class MongoDBOptions(TypedDict, total=False):
    """The keywords of `MongoDBAdapter`; `Limits` has their meaning and defaults."""

    mongodb_uri: str
    mongodb_db: str
    pool_size_min: int
    pool_size_max: int
    timeout_ms: int
    connect_timeout_ms: int
    attempts_max: int
    app_name: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Address and limits of one adapter, checked against each other.

    Args:
        mongodb_uri: `mongodb://user:password@host:port/`, with `?tls=true&tlsCAFile=...` for TLS.
            Its driver options count, but for the limits below and the write concern.
        mongodb_db: the database; without one, that of the address, else `jitway`.
        pool_size_min: connections kept open to each server.
        pool_size_max: connections the pool may open to each server.
        timeout_ms: how long one operation may take in all, waiting and retries included.
        connect_timeout_ms: how long opening a connection may take.
        attempts_max: attempts of one operation after connection failures.
        app_name: how the connections appear in the server's log.
    """

    mongodb_uri: str = field(repr=False)
    mongodb_db: str = ""
    pool_size_min: int = 2
    pool_size_max: int = 10
    timeout_ms: int = 5_000
    connect_timeout_ms: int = 2_000
    attempts_max: int = 4
    app_name: str = "jitway"

    def __post_init__(self) -> None:
        check_address(self.mongodb_uri)
        check_write_concern(self.mongodb_uri)
        if not 0 <= self.pool_size_min <= self.pool_size_max or self.pool_size_max < 1:
            raise SettingsError(
                f"pool_size_min ({self.pool_size_min}) and pool_size_max ({self.pool_size_max}) "
                "must be 0 <= min <= max, and max at least 1"
            )
        for name in (
            "timeout_ms",
            "connect_timeout_ms",
            "attempts_max",
        ):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1: a wait without a limit hangs")
        if not _DATABASE_NAME.fullmatch(self.database):
            raise SettingsError("MONGODB_DB must be 1 to 63 letters, digits, _ or -")

    @property
    def database(self) -> str:
        """The name of the database."""
        path = unquote(urlsplit(self.mongodb_uri).path).strip("/")
        return self.mongodb_db or path or DATABASE_DEFAULT

    def client_options(self) -> dict[str, object]:
        """What the driver's client is told besides the address; these win over its options."""
        given = uri_options(self.mongodb_uri)
        options: dict[str, object] = {
            "minPoolSize": self.pool_size_min,
            "maxPoolSize": self.pool_size_max,
            "serverSelectionTimeoutMS": self.timeout_ms,
            "connectTimeoutMS": self.connect_timeout_ms,
            "timeoutMS": self.timeout_ms,
            "appname": self.app_name,
            "tz_aware": True,
        }
        # A monitor that waits for the server to speak does not look after an election for seconds;
        # one that asks looks at once, when an operation needs it.
        if "servermonitoringmode" not in given:
            options["serverMonitoringMode"] = "poll"
        # The adapter repeats what is safe to repeat; two layers of retries would multiply.
        options |= {
            name: False for name in ("retryWrites", "retryReads") if name.lower() not in given
        }
        return options


def read_limits(config: Mapping[str, str] | None, options: MongoDBOptions) -> Limits:
    """The limits from the guide's mapping and the keywords, which win.

    Raises:
        SettingsError: no address, or one that cannot be meant.
    """
    if config is not None and not isinstance(config, Mapping):
        raise SettingsError('the configuration is a mapping such as {"MONGODB_URI": "..."}')
    given: MongoDBOptions = {**options}
    if "mongodb_uri" not in given:
        address = (config or {}).get("MONGODB_URI")
        if not address:
            raise SettingsError(f"MONGODB_URI is missing: {EXAMPLE}")
        given["mongodb_uri"] = address
    given.setdefault("mongodb_db", (config or {}).get("MONGODB_DB") or "")
    return Limits(**given)


def uri_options(uri: str) -> dict[str, str]:
    """The options in the address, by lower-case name."""
    query = parse_qsl(urlsplit(uri).query, keep_blank_values=True)
    return {name.lower(): value for name, value in query}


def check_address(uri: str) -> None:
    """Refuse an address of another kind.

    Raises:
        SettingsError: another scheme, or no host; never with the password.
    """
    scheme, divider, _ = uri.partition("://")
    if scheme not in SCHEMES or not divider:
        shown = scheme if divider and scheme.isalnum() else "something else"
        raise SettingsError(f"MONGODB_URI must begin like {EXAMPLE}; it begins with {shown}")
    try:
        parts = urlsplit(uri)
        hosts, database = parts.netloc.rpartition("@")[2], unquote(parts.path).strip("/")
    except ValueError:
        hosts = database = ""
    # A password with a slash ends the host early: the rest looks like a database.
    if not hosts or "@" in database:
        raise SettingsError(
            "MONGODB_URI names no host; a password with one of :/?#[]@ must be percent-encoded"
        )


def check_write_concern(uri: str) -> None:
    """Refuse an address that asks for writes which a crash may take back.

    Raises:
        SettingsError: `w` is anything but majority, or the journal is off.
    """
    given = uri_options(uri)
    if given.get("w", "majority") != "majority":
        raise SettingsError(
            f"MONGODB_URI asks for w={given['w']}: an election would lose what was archived; "
            "leave it out, majority is used"
        )
    for name in ("journal", "j"):
        if given.get(name, "true").lower() != "true":
            raise SettingsError(
                f"MONGODB_URI asks for {name}={given[name]}: a crash would lose what was archived; "
                "leave it out, writes are journaled"
            )


def masked_address(uri: str) -> str:
    """The address fit for logs and errors: the password shows as ***, options are left out."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"mongodb://{MASK}"
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{MASK}" if colon else credentials
    return f"{parts.scheme}://{shown}{at}{hosts}{parts.path}"


def refused_address(uri: str, said: str) -> SettingsError:
    """What to say of an address that the driver refused; its own words may repeat the password.

    Args:
        uri: the address.
        said: the driver's words, of which only the name of an option is taken.
    """
    named = [name for name in uri_options(uri) if name in said.lower()]
    about = f"its option {named[0]} is not valid" if named else "it cannot be read"
    return SettingsError(
        f"MONGODB_URI is refused: {about}; user name and password must be percent-encoded"
    )
