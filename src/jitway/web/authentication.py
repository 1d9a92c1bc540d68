"""`authentication.py`: who asks, by the bearer key of the request, and what they may do.

A key that was good is remembered for less than a second, so that a revoked one is refused within
one; a key that was bad is remembered apart, so that guessing cannot push the good ones out.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable

from jitway.cache.l1 import L1Cache, TooManyLoads
from jitway.errors import LedgerUnavailable
from jitway.gateway.caller import Caller
from jitway.web.exchange import Fields
from jitway.web.problems import Refused
from jitway.web.rate_limits import FailedKeys

REMEMBERED_S = 0.85
GOOD_MAX = 10_000
BAD_MAX = 10_000
KNOWN_S = 3_600.0

_bearer = re.compile(rb"[Bb]earer +([!-~]{1,128}) *").fullmatch

CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Authenticator:
    """Finds the caller of a request.

    Args:
        load: the caller of a key, read from the ledger; None when the key is not good.
        monotonic_ns: nanoseconds of a clock that never goes back.
        failed: counts bad keys by address; None lets everybody guess.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Caller | None]],
        *,
        monotonic_ns: Callable[[], int],
        failed: FailedKeys | None = None,
    ) -> None:
        self._load = load
        self._failed = failed
        self._good: L1Cache[Caller] = L1Cache(
            GOOD_MAX, ttl_s=REMEMBERED_S, negative_ttl_s=0, monotonic_ns=monotonic_ns
        )
        self._bad: L1Cache[Caller] = L1Cache(
            BAD_MAX, ttl_s=0, negative_ttl_s=REMEMBERED_S, monotonic_ns=monotonic_ns
        )

        # Good within the last hour: never refused for what others at the same address guess.
        self._known: L1Cache[Caller] = L1Cache(
            GOOD_MAX, ttl_s=KNOWN_S, negative_ttl_s=0, monotonic_ns=monotonic_ns
        )

    def peek(self, fields: Fields) -> Caller | None:
        """The caller, when their key was good a moment ago."""
        return self._good.peek(_digest(_key(fields)))[1]

    async def caller(self, fields: Fields, address: str = "") -> Caller:
        """The caller.

        Args:
            fields: the headers.
            address: of the connection.

        Raises:
            Refused: 401, there is no key, or it is not good; 429, too many bad ones came from
                this address.
            StoreUnavailable: it is not remembered and PostgreSQL cannot be asked.
        """
        key = _key(fields)
        digest = _digest(key)
        _, caller = self._good.peek(digest)
        if caller is not None:
            return caller
        if self._failed is not None and not self._known.peek(digest)[0]:
            self._failed.check(address, fields)
        if not self._bad.peek(digest)[0]:
            caller = await self._load_once(key, digest)
        if caller is None:
            self._bad.store(digest, None)
            if self._failed is not None:
                self._failed.note(address, fields)
            raise _not_good()
        self._known.store(digest, caller)
        return caller

    async def _load_once(self, key: str, digest: str) -> Caller | None:
        try:
            return await self._good.load(digest, lambda _: self._look_up(key))
        except _NotGood:
            return None
        except TooManyLoads:
            detail = "too many new keys are being looked up"
            raise Refused(429, "too_many_requests", detail, {"Retry-After": "1"}) from None
        except TimeoutError as error:
            raise LedgerUnavailable("the key could not be looked up in time") from error

    async def _look_up(self, key: str) -> Caller:
        caller = await self._load(key)
        if caller is None:
            # Raised and not returned: an absence would be kept among the good keys.
            raise _NotGood
        return caller


class _NotGood(Exception):
    """The key is not known, expired or revoked."""


def demand(caller: Caller, scopes: frozenset[str]) -> None:
    """Refuses a caller whose key has none of the scopes.

    Raises:
        Refused: 403.
    """
    if scopes.isdisjoint(caller.scopes):
        wanted = " or ".join(sorted(scopes))
        raise Refused(403, "insufficient_scope", f"this needs a key with the scope {wanted}")


def _key(fields: Fields) -> str:
    header = fields.get(b"authorization")
    if header is None:
        raise _unauthenticated("send Authorization: Bearer and a key")
    match = _bearer(header)
    if match is None:
        raise _unauthenticated("the Authorization header is not Bearer and a key")
    return match[1].decode()


def _digest(key: str) -> str:
    # The key itself stays out of every map that lives longer than the request.
    return hashlib.sha256(key.encode()).hexdigest()


def _not_good() -> Refused:
    return _unauthenticated("the key is not known, expired or revoked")


def _unauthenticated(detail: str) -> Refused:
    return Refused(401, "unauthenticated", detail, CHALLENGE)
