"""`entrance.py`: who is at the page: login, the cookie, and whether a request is the page's own.

A session's secret is in a cookie that scripts cannot read and other sites cannot send; what changes
something also needs the page's own origin and a token that only the page was told. Session and key
are looked at again within a second, so that who was logged out or revoked is out. Anybody may send
a cookie: one that opens nothing is a bad key of its address, and is not looked up again at once.
"""

import hashlib
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import NamedTuple, TypeVar

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.l1 import L1Cache, TooManyLoads
from jitway.errors import LedgerUnavailable
from jitway.gateway.caller import Caller
from jitway.gateway.keys import authenticate
from jitway.gateway.sessions import Session, Sessions, caller_of, take_login_link
from jitway.web.authentication import KNOWN_S, demand
from jitway.web.call import READ
from jitway.web.exchange import Fields, Header
from jitway.web.problems import Refused
from jitway.web.rate_limits import FailedKeys

Known = TypeVar("Known")

COOKIE = "jitway_session"
PATH = "/dashboard"
REMEMBERED_S = 0.85
REMEMBERED_MAX = 1_000
# Few: they take connections that decisions need, and nobody has shown a key yet.
LOADING_MAX = 64


class Visitor(NamedTuple):
    """Somebody who is logged in.

    Args:
        token: the secret of their browser.
        session: theirs.
        caller: what their key may do now.
    """

    token: str
    session: Session
    caller: Caller

    @property
    def page_token(self) -> str:
        """What their page must send with whatever changes something."""
        return hashlib.sha256(f"page {self.token}".encode()).hexdigest()


class Entrance:
    """Lets browsers in and out.

    Args:
        postgres: knows the keys.
        sessions: knows the logins.
        monotonic_ns: nanoseconds of a clock that never goes back.
        failed: counts cookies that open nothing, by address.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        sessions: Sessions,
        *,
        monotonic_ns: Callable[[], int],
        failed: FailedKeys,
    ) -> None:
        self._postgres = postgres
        self._sessions = sessions
        self._failed = failed
        # What opens nothing is remembered in a map of its own: it pushes no session out.
        self._found: L1Cache[Session] = _remembering(monotonic_ns, bad_s=REMEMBERED_S)
        self._callers: L1Cache[Caller] = _remembering(monotonic_ns, bad_s=0)
        # Good within the last hour: never refused for what others at the same address guess.
        self._known: L1Cache[Session] = L1Cache(
            REMEMBERED_MAX, ttl_s=KNOWN_S, negative_ttl_s=0, monotonic_ns=monotonic_ns
        )

    async def visitor(self, fields: Fields, address: str) -> Visitor:
        """Who sent this request.

        Args:
            fields: the headers.
            address: of the connection.

        Raises:
            Refused: 401, nobody is logged in, or not any more; 429, too many cookies that open
                nothing came from this address, or are being looked up.
            StoreUnavailable: nobody can say.
        """
        token = _cookie(fields)
        if token is None:
            raise _logged_out()
        digest = _digest(token)
        if self._found.get(digest) is None and self._known.get(digest) is None:
            self._failed.check(address, fields)
        session = await _remembered(self._found, digest, lambda: self._sessions.find(token))
        if session is None:
            self._failed.note(address, fields)
            raise _logged_out()
        self._known.store(digest, session)
        key_id = session.key_id
        caller = await _remembered(self._callers, key_id, lambda: caller_of(self._postgres, key_id))
        if caller is None:
            raise _logged_out()
        return Visitor(token, session, caller)

    async def let_in(self, *, key: str | None, link: str | None) -> Visitor | None:
        """Begins a session for a key or a one-time link; None when neither is good.

        Raises:
            Refused: 403, the key may not look at anything.
            StoreUnavailable: PostgreSQL cannot say.
        """
        if key is not None:
            caller = await authenticate(self._postgres, key)
        else:
            caller = await take_login_link(self._postgres, link or "")
        if caller is None:
            return None
        demand(caller, READ)
        token, session = await self._sessions.begin(caller.key_id)
        self._known.store(_digest(token), session)
        return Visitor(token, session, caller)

    async def let_out(self, visitor: Visitor) -> None:
        """Ends a session, here at once and elsewhere within a second.

        Raises:
            StoreUnavailable: PostgreSQL cannot be asked; the session goes on.
        """
        await self._sessions.end(visitor.session)
        self._found.evict(_digest(visitor.token))
        self._known.evict(_digest(visitor.token))


def check_own(fields: Fields) -> None:
    """Refuses what another site's page made this browser send.

    Raises:
        Refused: 403.
    """
    site = fields.get(b"sec-fetch-site", b"same-origin")
    host = fields.get(b"host", b"").lower()
    # Compared as bytes: an origin that is no URL must not get as far as a parser.
    own = {b"http://" + host, b"https://" + host} if host else set()
    if site != b"same-origin" or fields.get(b"origin", b"").lower() not in own:
        raise Refused(403, "cross_site", "only the page itself may send this")


def check_page_token(fields: Fields, visitor: Visitor) -> None:
    """Refuses what does not carry the token that only the page was told.

    Raises:
        Refused: 403.
    """
    given = fields.get(b"x-jitway-page", b"")
    if not compare_digest(given, visitor.page_token.encode()):
        raise Refused(403, "cross_site", "only the page itself may send this: load it again")


def cookie_header(fields: Fields, token: str, *, seconds: int) -> Header:
    """The cookie of a session; of no seconds: its end.

    Args:
        fields: of the request: behind TLS the cookie never goes without it.
        token: the secret.
        seconds: how long the browser keeps it.
    """
    value = f"{COOKIE}={token}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    if fields.get(b"x-forwarded-proto", b"").strip().lower() == b"https" or _is_secure(fields):
        value += "; Secure"
    return (b"set-cookie", value.encode())


def _is_secure(fields: Fields) -> bool:
    return fields.get(b"origin", b"").startswith(b"https://")


def _cookie(fields: Fields) -> str | None:
    for part in fields.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def _remembering(monotonic_ns: Callable[[], int], *, bad_s: float) -> L1Cache[Known]:
    return L1Cache(
        REMEMBERED_MAX,
        ttl_s=REMEMBERED_S,
        negative_ttl_s=bad_s,
        monotonic_ns=monotonic_ns,
        loading_max=LOADING_MAX,
    )


async def _remembered(
    cache: L1Cache[Known], key: str, load: Callable[[], Awaitable[Known | None]]
) -> Known | None:
    is_known, value = cache.peek(key)
    if is_known:
        return value
    try:
        return await cache.load(key, lambda _: load())
    except TooManyLoads:
        detail = "too many sessions are being looked up"
        raise Refused(429, "too_many_requests", detail, {"Retry-After": "1"}) from None
    except TimeoutError as error:
        raise LedgerUnavailable("the session could not be looked up in time") from error


def _digest(token: str) -> str:
    # The secret itself stays out of every map that lives longer than the request.
    return hashlib.sha256(token.encode()).hexdigest()


def _logged_out() -> Refused:
    return Refused(401, "unauthenticated", "log in: there is no session, or it has ended")
