"""Card views of one process on a real ledger, with Redis or without, and what they cost it."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from jitway.adapters.redis import RedisAdapter
from jitway.cache.encoding import Sealer
from jitway.cache.shared import SharedLevel
from jitway.cache.views import CardViews
from jitway.compose.card_views import ledger_identity, view_loader
from jitway.domain.card import CardView
from tests.service_skips import require_service
from tests.world import World

KINDS = ("process", "redis")
# A crowded machine may be slow; how long anybody waits is not what this suite is about.
PATIENT_S = 5.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


class Process:
    """What one gateway process has: its views, and a count of what they asked the ledger."""

    def __init__(
        self, world: World, redis: RedisAdapter | None, sealer: Sealer, *, load_limit_s: float
    ) -> None:
        self._read = view_loader(world.postgres)
        self.asked: Counter[str] = Counter()
        self.lookups: Counter[str] = Counter()
        self.clock = Clock()
        self.shared = SharedLevel(redis, wait_s=PATIENT_S) if redis else None
        self.views = CardViews(
            self._load,
            monotonic_ns=self.clock,
            shared=(self.shared, sealer) if self.shared else None,
            count=self._count,
            load_limit_s=load_limit_s,
        )

    async def _load(self, card_ids: Iterable[str]) -> dict[str, CardView]:
        self.asked.update(card_ids)
        return await self._read(card_ids)

    def _count(self, level: str, kind: str, *, hit: bool, span_ns: int | None = None) -> None:
        self.lookups[f"{level} {kind} {'hit' if hit else 'miss'}"] += 1

    async def view(self, card_id: str) -> CardView | None:
        """As the gateway asks: first what is at hand."""
        known, view = self.views.peek(card_id)
        return view if known else await self.views.card(card_id)


class Place:
    """Where processes of one kind are made; they share a Redis, if it is that kind."""

    def __init__(self, kind: str, world: World) -> None:
        self.kind = kind
        self.world = world
        self._url = require_service("redis") if kind == "redis" else None

    @property
    def has_redis(self) -> bool:
        return self._url is not None

    @asynccontextmanager
    async def process(self, *, load_limit_s: float = PATIENT_S) -> AsyncIterator[Process]:
        redis = None
        if self._url is not None:
            redis = RedisAdapter({"REDIS_URL": self._url}, timeout_ms=int(PATIENT_S * 1000))
        sealer = Sealer(await ledger_identity(self.world.postgres))
        process = Process(self.world, redis, sealer, load_limit_s=load_limit_s)
        try:
            yield process
        finally:
            await process.views.close()
            if redis is not None:
                await redis.close()
