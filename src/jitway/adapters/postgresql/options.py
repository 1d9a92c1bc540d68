"""What a PostgreSQL connection is asked for: address, limits, server settings.

Owns the reading of the address and its masked form. Opens nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from jitway.errors import SettingsError

SCHEMES = ("postgresql", "postgres")
MASK = "***"
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")


class PostgreSQLOptions(TypedDict, total=False):
    """The keywords of `PostgreSQLAdapter`; `Limits` has their meaning and defaults."""

    database_url: str
    pool_size_min: int
    pool_size_max: int
    query_timeout_ms: int
    acquire_timeout_ms: int
    connect_timeout_ms: int
    connect_patience_ms: int
    idle_in_transaction_timeout_ms: int
    slow_query_ms: int
    search_path: str
    application_name: str
    statement_cache_size: int
    send_settings: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Address and limits of one adapter, checked against each other.

    Args:
        database_url: `postgresql://user:password@host:port/database`, or with `?host=/directory`
            for a unix socket.
        pool_size_min: connections the pool keeps open.
        pool_size_max: connections the pool may open; dedicated connections are apart.
        query_timeout_ms: after this the server ends a statement.
        acquire_timeout_ms: how long a caller waits for a free connection.
        connect_timeout_ms: how long one attempt to connect may take.
        connect_patience_ms: how long a caller tries again while the server refuses or starts.
        idle_in_transaction_timeout_ms: the server ends a transaction that does nothing.
        slow_query_ms: a statement above this is counted and logged.
        search_path: where unqualified names are looked up; the first name is the ledger's schema.
        application_name: how the connections appear in `pg_stat_activity`.
        statement_cache_size: prepared statements kept per connection.
        send_settings: false for a pooler that refuses startup parameters. Then nothing but the
            name is sent, and the role must carry the rest (`ALTER ROLE ... SET
            statement_timeout`, `jit`, `search_path`). pgbouncer in transaction mode needs 1.21
            and `max_prepared_statements` > 0; dedicated connections need a direct address.
    """

    database_url: str
    pool_size_min: int = 5
    pool_size_max: int = 20
    query_timeout_ms: int = 30_000
    acquire_timeout_ms: int = 10_000
    connect_timeout_ms: int = 5_000
    connect_patience_ms: int = 600
    idle_in_transaction_timeout_ms: int = 60_000
    slow_query_ms: int = 100
    search_path: str = "jitway, public"
    application_name: str = "jitway"
    statement_cache_size: int = 200
    send_settings: bool = True

    def __post_init__(self) -> None:
        check_address(self.database_url)
        if not 0 <= self.pool_size_min <= self.pool_size_max or self.pool_size_max < 1:
            raise SettingsError(
                f"pool_size_min ({self.pool_size_min}) and pool_size_max ({self.pool_size_max}) "
                "must be 0 <= min <= max, and max at least 1"
            )
        for name in ("query_timeout_ms", "acquire_timeout_ms", "connect_timeout_ms"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} must be above zero: a wait without a limit hangs")
        for schema in self.search_path.split(","):
            if not _IDENTIFIER.fullmatch(schema.strip()):
                raise SettingsError(
                    f"search_path names {schema.strip()!r}: lower-case letters, digits and _ only"
                )

    @property
    def schema(self) -> str:
        """The first name of the search path: the schema of the ledger."""
        return self.search_path.split(",")[0].strip()

    def server_settings(self) -> dict[str, str]:
        """What each pooled connection asks of the server when it opens."""
        if not self.send_settings:
            return {"application_name": self.application_name}
        return {
            "application_name": self.application_name,
            "search_path": self.search_path,
            "statement_timeout": str(self.query_timeout_ms),
            "idle_in_transaction_session_timeout": str(self.idle_in_transaction_timeout_ms),
            # On by default, and worth tens of milliseconds to a statement that runs for one.
            "jit": "off",
            # A commit that was not replicated says so in a warning; it must not be silenced.
            "client_min_messages": "warning",
            # A connection thrown away after a cancel must not leave its statement running.
            "client_connection_check_interval": "500",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "15000",
        }


def read_limits(config: Mapping[str, str] | None, options: PostgreSQLOptions) -> Limits:
    """The limits from the guide's mapping and the keywords, which win.

    Raises:
        SettingsError: no address, or one that cannot be meant.
    """
    if config is not None and not isinstance(config, Mapping):
        raise SettingsError('the configuration is a mapping such as {"DATABASE_URL": "..."}')
    given: PostgreSQLOptions = {**options}
    if "database_url" not in given:
        address = (config or {}).get("DATABASE_URL")
        if not address:
            raise SettingsError("DATABASE_URL is missing: postgresql://user:password@host/database")
        given["database_url"] = address
    return Limits(**given)


def check_address(url: str) -> None:
    """Refuse an address that PostgreSQL's driver could only misread.

    Raises:
        SettingsError: another scheme, or a port that is no number; never with the password.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES or "://" not in url:
        shown = scheme if "://" in url and re.fullmatch(r"[a-z0-9+.-]{1,30}", scheme) else "nothing"
        raise SettingsError(
            f"DATABASE_URL must begin with postgresql:// (it begins with {shown}): "
            "postgresql://user:password@host/database"
        )
    try:
        # A list of hosts is one to the driver and no port to the standard library.
        if "," not in (parts := urlsplit(url)).netloc:
            _ = parts.port
    except ValueError:
        raise SettingsError(
            "DATABASE_URL has a part that is no host and port; a password with one of "
            ":/?#[]@ must be percent-encoded"
        ) from None


def masked_address(url: str) -> str:
    """The address fit for logs and errors: the password shows as ***."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"postgresql://{MASK}"
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    credentials = f"{user}:{MASK}" if colon else credentials
    query = urlencode(
        [
            (key, MASK if "password" in key.lower() else value)
            for key, value in parse_qsl(parts.query, keep_blank_values=True)
        ],
        safe="/*,",
        quote_via=quote,
    )
    return f"{parts.scheme}://{credentials}{at}{hosts}{parts.path}{'?' if query else ''}{query}"
