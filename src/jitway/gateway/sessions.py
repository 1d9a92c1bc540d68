"""`sessions.py`: logins of the live page: begun with a key or a one-time link, found, ended.

A session is a row of PostgreSQL that names a key and may do what the key may do now; a browser has
256 random bits, the row their SHA-256. With Redis every session is kept there too and asked for
there first, for a minute at a time: so open pages ask PostgreSQL for next to nothing, and a Redis
that dies logs nobody out. Knows nothing of cookies.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock, id_digits
from jitway.domain.instant import instant_text, parse_instant
from jitway.errors import CacheUnavailable, Conflict, InvalidRequest, NotFound
from jitway.gateway.caller import Caller
from jitway.sql import statements

if TYPE_CHECKING:
    from jitway.adapters.redis import RedisAdapter

_SQL = statements("sessions")

TTL_S = 86_400.0
IDLE_S = 3_600.0
LINK_TTL_S = 600.0
SESSIONS_OF_A_KEY_MAX = 50
# How long Redis is believed without PostgreSQL, and how often a used session says so.
KEPT_S = 60

_SECRET_BYTES = 32
# So many characters of a URL-safe alphabet.
_LENGTH = 43


@dataclass(frozen=True, slots=True)
class Session:
    """One login.

    Args:
        id: hexadecimal digits; the digest of what the browser has.
        key_id: `key_...`, whose rights it has.
        expires_at: when it ends, however much it is used.
    """

    id: str
    key_id: str
    expires_at: datetime


class Sessions:
    """The logins of one ledger.

    Args:
        postgres: keeps them.
        redis: keeps them close, where it is configured.
        clock: the wall, for what Redis says.
        ttl_s: seconds until a session ends for good.
        idle_s: seconds until one ends that nobody uses.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        redis: "RedisAdapter | None",
        clock: Clock,
        *,
        ttl_s: float = TTL_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._postgres = postgres
        self._redis = redis
        self._clock = clock
        self._ttl_s = ttl_s
        self._idle_s = idle_s
        # A session is not believed longer than it may be idle.
        self._kept_s = max(1, min(KEPT_S, int(idle_s / 2)))

    async def begin(self, key_id: str) -> tuple[str, Session]:
        """A new session of a key that was found good just now.

        Returns:
            The secret for the browser, which nobody can tell again, and the session.

        Raises:
            StoreUnavailable: PostgreSQL cannot be asked.
        """
        token = secrets.token_urlsafe(_SECRET_BYTES)
        values = [_digest(token), key_id[4:], self._ttl_s, SESSIONS_OF_A_KEY_MAX - 1]
        row = (await self._postgres.execute_query(_SQL["begin_session"], values))[0]
        session = Session(_digest(token).hex(), key_id, row["expires_at"])
        await self._keep(session)
        return token, session

    async def find(self, token: str) -> Session | None:
        """The session that a browser's secret opens, or None when it ended or never was.

        Args:
            token: what the browser sent; any text at all.

        Raises:
            StoreUnavailable: neither Redis nor PostgreSQL can say.
        """
        if len(token) != _LENGTH or not token.isascii():
            return None
        digest = _digest(token)
        kept = await self._kept(digest.hex())
        if kept is not None:
            return kept if kept.expires_at > self._clock.now() else None
        values = [digest, self._idle_s, float(self._kept_s)]
        rows = await self._postgres.execute_query(_SQL["session"], values, repeatable=True)
        if not rows:
            return None
        row = rows[0]
        if row["is_due"]:
            await self._postgres.execute_query(_SQL["touch_session"], [digest])
        session = Session(digest.hex(), f"key_{row['key_id'].hex}", row["expires_at"])
        await self._keep(session)
        return session

    async def end(self, session: Session) -> None:
        """Ends a session; again changes nothing.

        Raises:
            StoreUnavailable: PostgreSQL cannot be asked; the session goes on.
        """
        digest = bytes.fromhex(session.id)
        await self._postgres.execute_query(_SQL["end_session"], [digest])
        if self._redis is not None:
            try:
                await self._redis.delete_session(session.id)
            except CacheUnavailable:
                return  # what Redis still has, it has for less than a minute

    async def _kept(self, id_: str) -> Session | None:
        if self._redis is None:
            return None
        try:
            found = await self._redis.get_session(id_)
        except CacheUnavailable:
            return None
        return _session(id_, found)

    async def _keep(self, session: Session) -> None:
        if self._redis is None:
            return
        data = {"key": session.key_id, "expires_at": instant_text(session.expires_at)}
        try:
            await self._redis.create_session(session.id, data, self._kept_s)
        except (CacheUnavailable, Conflict):
            return  # away, or another gateway was quicker


async def caller_of(postgres: PostgreSQLAdapter, key_id: str) -> Caller | None:
    """Who a key is now, or None when it was revoked or is over.

    Raises:
        StoreUnavailable: the ledger cannot be asked.
    """
    rows = await postgres.execute_query(_SQL["session_key"], [key_id[4:]], repeatable=True)
    return _caller(rows[0]) if rows else None


async def make_login_link(
    postgres: PostgreSQLAdapter, key_id: str | None = None, *, ttl_s: float = LINK_TTL_S
) -> tuple[str, Caller]:
    """Something to log in with once, instead of a key.

    Args:
        postgres: the ledger.
        key_id: whose rights the session will have; None for the operator's newest key.
        ttl_s: seconds until nobody can use it any more.

    Returns:
        Its text, for `/dashboard#login=...`, and whose rights it gives.

    Raises:
        InvalidRequest: it would be good for longer than a day, or not at all.
        NotFound: there is no such key, or it may not look at anything.
        StoreUnavailable: the ledger cannot be asked.
    """
    if not 0 < ttl_s <= TTL_S:
        raise InvalidRequest("a login link is good for a day at most")
    caller = await _link_caller(postgres, key_id)
    if caller is None or caller.scopes.isdisjoint({"authorize", "read", "operate"}):
        raise NotFound("there is no key that may look at the page: `jitway keys create` makes one")
    token = secrets.token_urlsafe(_SECRET_BYTES)
    values = [_digest(token), caller.key_id[4:], ttl_s]
    await postgres.execute_query(_SQL["insert_login_link"], values)
    return token, caller


def link_address(url: str, token: str) -> str:
    """Where a browser goes with a login link.

    The secret stands behind the `#`, which no browser sends and no server or proxy logs.

    Args:
        url: of the gateway: `http://127.0.0.1:3000`.
        token: of `make_login_link`.
    """
    return f"{url.rstrip('/')}/dashboard#login={token}"


async def take_login_link(postgres: PostgreSQLAdapter, token: str) -> Caller | None:
    """Whose rights a login link gives, for the first who asks; None when it is none or over.

    Raises:
        StoreUnavailable: the ledger cannot be asked.
    """
    if len(token) != _LENGTH or not token.isascii():
        return None
    rows = await postgres.execute_query(_SQL["take_login_link"], [_digest(token)])
    if not rows or not rows[0]["is_good"]:
        return None
    return await caller_of(postgres, f"key_{rows[0]['key_id'].hex}")


async def _link_caller(postgres: PostgreSQLAdapter, key_id: str | None) -> Caller | None:
    if key_id is not None:
        return None if id_digits(key_id, "key") is None else await caller_of(postgres, key_id)
    rows = await postgres.execute_query(_SQL["operator_keys"], repeatable=True)
    return _caller(rows[0]) if rows else None


def _caller(row: dict[str, Any]) -> Caller:
    program_id = row["program_id"] and f"prg_{row['program_id'].hex}"
    return Caller(f"key_{row['id'].hex}", program_id, frozenset(row["scopes"]))


def _session(id_: str, found: object) -> Session | None:
    """What Redis keeps, unless somebody else wrote it."""
    if not isinstance(found, dict):
        return None
    key_id, expires_at = found.get("key"), found.get("expires_at")
    if not isinstance(key_id, str) or not isinstance(expires_at, str):
        return None
    if id_digits(key_id, "key") is None:
        return None
    try:
        return Session(id_, key_id, parse_instant(expires_at))
    except ValueError:
        return None


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
