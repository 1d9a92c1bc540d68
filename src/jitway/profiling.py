"""`profiling.py`: one authorization as a library call, with the time that each stage of it took.

`JITFundingProfiler` decides by the same verb as the gateway and has no rule of its own. Redis may
remember who holds a card and in which currency, which never changes; whatever it says or fails to
say, decisions are made from the rows under the account's lock.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.cache.l1 import L1Cache
from jitway.cache.views import CardViews
from jitway.clock import Clock, SystemClock, id_digits
from jitway.domain.card import CardView
from jitway.errors import (
    CacheUnavailable,
    InvalidRequest,
    NoDecision,
    StoreUnavailable,
)
from jitway.gateway.authorize import Asked, AuthorizeOptions, Authorizer
from jitway.gateway.caller import Caller, Idempotency
from jitway.gateway.rehearse import Rehearsal
from jitway.ledger.record import load_views
from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import STAGES, Stage, Trace
from jitway.sql import statements
from jitway.wire import native
from jitway.wire.bodies import check_idempotency_key

if TYPE_CHECKING:
    from jitway.adapters.redis import RedisAdapter

_SQL = statements("profiling")

OWNERS_MAX = 10_000
OWNER_TTL_S = 900
# Of a card that nobody knows there is no account, and so no currency: ISO 4217's own word for it.
NO_CURRENCY = "XXX"

_FIELDS = frozenset(
    {"id", "user_id", "card_id", "amount", "currency", "merchant", "kind", "deadline_ms"}
    | {"partial_approval", "entry_mode", "card_present", "network_reference", "metadata"}
)
_POINTERS = {"/card": "/card_id"}
_SCOPES = frozenset({"authorize"})


class CardOwner(msgspec.Struct, frozen=True):
    """Whose card it is, and the currency of its account."""

    cardholder: str
    external_id: str | None
    currency: str


class _Stranger(Caller):
    """A caller for whom no card exists: the user whom they name is not the card's."""

    __slots__ = ()

    def may_see(self, program_id: str | None) -> bool:
        return False


class JITFundingProfiler:
    """Authorizes, and says how long each stage took. Connects on first use.

    Args:
        redis: a level of cache between this process and PostgreSQL; None = there is none.
        postgres: the ledger, migrated.
        clock: instants and ids; the machine's when None.
        options: limits of the decision path.
    """

    def __init__(
        self,
        redis: "RedisAdapter | None",
        postgres: PostgreSQLAdapter,
        *,
        clock: Clock | None = None,
        options: AuthorizeOptions | None = None,
    ) -> None:
        self._redis = redis
        self._postgres = postgres
        self._clock = clock or SystemClock()
        self._options = options or AuthorizeOptions()
        self._profiler = Profiler(self._clock)
        self._owners: L1Cache[CardOwner] = L1Cache(
            OWNERS_MAX,
            ttl_s=OWNER_TTL_S,
            negative_ttl_s=1.0,
            monotonic_ns=self._clock.monotonic_ns,
        )
        self._views = CardViews(self._load_views, monotonic_ns=self._clock.monotonic_ns)
        self._authorizer = Authorizer(
            postgres, self._views, self._clock, self._options, profiler=self._profiler
        )
        self._rehearsal = Rehearsal(postgres, self._views, self._clock, self._options)
        self._starting = asyncio.Lock()
        self._started = self._closed = False

    async def initialize(self) -> None:
        """Opens the connections that decide; a second call changes nothing.

        Raises:
            StoreUnavailable: PostgreSQL cannot be reached.
        """
        async with self._starting:
            if self._closed:
                raise StoreUnavailable("this JITFundingProfiler was closed")
            if not self._started:
                await self._authorizer.start()
                self._profiler.watch()
                self._started = True

    async def close(self) -> None:
        """Answers what is under way and ends its connections, not the adapters; may come twice."""
        async with self._starting:
            self._closed = True
            self._profiler.close()
            await self._authorizer.close()
            self._rehearsal.close()

    async def profile_authorization(
        self, transaction: Mapping[str, Any], *, dry_run: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Approves or declines one transaction, once for each id, and times it.

        Args:
            transaction: `id`, `user_id` (`chd_...` or the cardholder's external id), `card_id` and
                `amount` in minor units; also what `POST /v1/authorizations` knows: `currency`
                (the account's when absent), `merchant`, `kind`, `deadline_ms`, `metadata` ...
                A card that is not this user's is `card_not_found`.
            dry_run: decide only: the same decision under the same locks, then all of it undone.

        Returns:
            The decision as HTTP answers it; for a dry run its `id` is None. And the metrics:
            `total_ms`, `stages_ms` by stage, `replayed` (the id was decided before), `dry_run`.

        Raises:
            InvalidRequest: a field is wrong or not known; with its pointer.
            IdempotencyConflict: the id was used with other content.
            NoDecision: there was none in time, or the ledger is away.
        """
        key = _key(transaction)
        content = _canonical(transaction)
        await self._initialized()
        trace = self._profiler.start(key)
        try:
            asked = await self._asked(transaction, key, content, trace)
            verb = self._rehearsal.rehearse if dry_run else self._authorizer.authorize
            answer = await verb(asked)
        except NoDecision:
            self._profiler.finish(trace, "no_decision")
            raise
        decision: dict[str, Any] = json.loads(answer.body)
        if dry_run and not answer.replayed:
            decision["id"] = None
        trace.mark(Stage.ENCODE)
        total_ns = self._finish(trace, decision, replayed=answer.replayed)
        return decision, {
            "total_ms": total_ns / 1e6,
            "stages_ms": {
                stage.label: span_ns / 1e6
                for stage, span_ns in zip(STAGES, trace.spans_ns, strict=True)
            },
            "replayed": answer.replayed,
            "dry_run": dry_run,
        }

    def get_metrics_stats(self) -> dict[str, float]:
        """Of all calls so far, dry runs included.

        Returns:
            `count`; `average`, `min`, `max`, `p50`, `p95`, `p99` in milliseconds; `approval_rate`
            in per cent of approved and declined.
        """
        return self._profiler.get_metrics_stats()

    def statistics(self) -> dict[str, Any]:
        """The whole profile: stages, windows, cache hits, slow calls."""
        return self._profiler.statistics()

    async def _initialized(self) -> None:
        if self._started and not self._closed:
            return
        try:
            await self.initialize()
        except StoreUnavailable as error:
            raise NoDecision(f"the ledger is away: {error}") from error

    def _finish(self, trace: Trace, decision: Mapping[str, Any], *, replayed: bool) -> int:
        if replayed:
            return self._profiler.finish(trace, "replayed")
        return self._profiler.finish(trace, decision["decision"], reason=decision["reason"])

    async def _asked(
        self, transaction: Mapping[str, Any], key: str, content: bytes, trace: Trace
    ) -> Asked:
        """The transaction as the verb understands it."""
        user_id = transaction.get("user_id")
        if not isinstance(user_id, str) or not user_id:
            raise InvalidRequest("user_id is a text", "/user_id")
        currency = transaction.get("currency")
        # Checked before anybody is asked: of the currency itself any will do for that.
        decoded = _decoded(transaction, currency or "USD")
        trace.mark(Stage.DECODE)
        owner = await self._owner(decoded.request.card, trace, decoded.deadline_ms)
        if currency is None:
            decoded.request.currency = owner.currency if owner else NO_CURRENCY
        is_theirs = owner is not None and user_id in (owner.cardholder, owner.external_id)
        caller = (Caller if is_theirs else _Stranger)("library", None, _SCOPES)
        trace.mark(Stage.USER_LOOKUP)
        idempotency = Idempotency.of(key, "CALL", "profile_authorization", content)
        return Asked(
            decoded.request, caller, idempotency, content.decode(), decoded.deadline_ms, trace
        )

    async def _owner(self, card_id: str, trace: Trace, deadline_ms: int | None) -> CardOwner | None:
        """Whose card it is: from this process, Redis or PostgreSQL, whoever knows first."""
        digits = id_digits(card_id, "crd")
        if digits is None:
            return None
        known, owner = self._owners.peek(digits)
        self._profiler.count_lookup("l1", "user", hit=known)
        if known:
            return owner
        budget_ms = min(deadline_ms or self._options.budget_ms, self._options.budget_ms)
        spent_ns = self._clock.monotonic_ns() - trace.started_ns
        try:
            async with asyncio.timeout(max(0.0, budget_ms / 1e3 - spent_ns / 1e9)):
                return await self._owners.load(digits, self._load_owner)
        except TimeoutError:
            raise NoDecision("the card's user could not be read before the deadline") from None
        except StoreUnavailable as error:
            raise NoDecision(f"the ledger is away: {error}") from error

    async def _load_owner(self, digits: str) -> CardOwner | None:
        if (owner := await self._cached_owner(digits)) is not None:
            return owner
        rows = await self._postgres.execute_query(_SQL["card_owner"], [digits], repeatable=True)
        self._profiler.count_lookup("l3", "user", hit=bool(rows))
        if not rows:
            return None
        row = rows[0]
        owner = CardOwner(f"chd_{row['cardholder_id'].hex}", row["external_id"], row["currency"])
        await self._cache_owner(digits, owner)
        return owner

    async def _cached_owner(self, digits: str) -> CardOwner | None:
        if self._redis is None:
            return None
        owner = None
        try:
            found = await self._redis.get_from_cache(_owner_key(digits))
            # What is no owner is a miss: Redis may be lost, flushed, or somebody else's.
            owner = msgspec.convert(found, CardOwner | None)
        except (CacheUnavailable, msgspec.ValidationError):
            owner = None
        self._profiler.count_lookup("l2", "user", hit=owner is not None)
        return owner

    async def _cache_owner(self, digits: str, owner: CardOwner) -> None:
        if self._redis is None:
            return
        try:
            data = msgspec.to_builtins(owner)
            await self._redis.cache_user(_owner_key(digits).partition(":")[2], data, OWNER_TTL_S)
        except CacheUnavailable:
            return

    async def _load_views(self, card_ids: Iterable[str]) -> dict[str, CardView]:
        return await load_views(_PoolReader(self._postgres), card_ids)


class _PoolReader:
    """Reads through the pool with the words of a dedicated connection."""

    def __init__(self, postgres: PostgreSQLAdapter) -> None:
        self._postgres = postgres

    async def fetch(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return await self._postgres.execute_query(sql, parameters, repeatable=True)


def _owner_key(digits: str) -> str:
    return f"user:of-card:{digits}"


def _key(transaction: Mapping[str, Any]) -> str:
    unknown = sorted(str(name) for name in transaction if name not in _FIELDS)
    if unknown:
        raise InvalidRequest(
            f"{unknown[0]!r} is no field of a transaction", f"/{unknown[0]}", "unknown_field"
        )
    key = transaction.get("id")
    try:
        return check_idempotency_key(key if isinstance(key, str) else "")
    except InvalidRequest:
        raise InvalidRequest("id has 1 to 255 visible ASCII characters", "/id") from None


def _canonical(transaction: Mapping[str, Any]) -> bytes:
    """What a repeat must say again: everything but how long it may take."""
    said = {name: value for name, value in transaction.items() if name != "deadline_ms"}
    try:
        return msgspec.json.encode(said, order="sorted")
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("a transaction is made of texts, numbers and mappings") from None


def _decoded(transaction: Mapping[str, Any], currency: Any) -> native.Decoded:
    """The body that HTTP would have got, read as strictly."""
    body = {name: value for name, value in transaction.items() if name not in ("id", "user_id")}
    if "card_id" in body:
        body["card"] = body.pop("card_id")
    body["currency"] = currency
    try:
        return native.decode(msgspec.json.encode(body))
    except InvalidRequest as error:
        pointer = _POINTERS.get(error.pointer or "", error.pointer)
        raise InvalidRequest(str(error), pointer, error.code) from None
