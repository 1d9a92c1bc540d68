"""`cache.py`: Redis: latency, memory and its cap, hits and evictions of the whole server."""

from contextlib import AsyncExitStack

from jitway.adapters.redis import RedisAdapter
from jitway.adapters.redis.commands import Reply
from jitway.doctor.findings import REACHABLE, Seen
from jitway.errors import StatementRefused

TIMEOUT_MS = 1_500
CONNECT_TIMEOUT_MS = 1_000
# The others are being looked at meanwhile; the fastest tells what the store needs.
PINGS = 3
HIT_RATE_MIN = 0.8
# Fewer lookups since the server started say nothing.
LOOKUPS_MIN = 1_000
MEMORY_SHARE_MAX = 0.95


class RedisLook:
    """One look at the cache."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    async def __call__(self, seen: Seen, stack: AsyncExitStack) -> None:
        """Fills what was seen.

        Raises:
            JitwayError: it cannot be asked.
        """
        redis = RedisAdapter(
            redis_url=self._redis_url,
            timeout_ms=TIMEOUT_MS,
            connect_timeout_ms=CONNECT_TIMEOUT_MS,
            pool_size_max=1,
            client_name="jitway_doctor",
        )
        stack.push_async_callback(redis.close)
        seen.address = redis.address
        await redis.connect()
        seen.status = REACHABLE
        seen.latency_ms = round(min([await redis.ping() for _ in range(PINGS)]), 3)
        facts = await _facts(redis)
        if facts is None:
            seen.figures["memory"] = "not shown to this user"
            return
        valkey = facts.get("valkey_version")
        seen.product = f"Valkey {valkey}" if valkey else f"Redis {facts.get('redis_version')}"
        _look_at_memory(seen, facts)
        _look_at_hits(seen, facts)


def _look_at_memory(seen: Seen, facts: dict[str, str]) -> None:
    used, cap = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    seen.figures |= {
        "memory_bytes": used,
        "memory_max_bytes": cap or None,
        "memory_policy": facts.get("maxmemory_policy"),
        "evicted": int(facts.get("evicted_keys", 0)),
    }
    if not cap:
        seen.find("cache_uncapped", f"{used / 1e6:,.0f} MB are used, and it has no maxmemory")
    elif used > MEMORY_SHARE_MAX * cap and facts.get("maxmemory_policy") == "noeviction":
        seen.find("cache_full", f"{used / 1e6:,.0f} of {cap / 1e6:,.0f} MB are used, none evicted")


def _look_at_hits(seen: Seen, facts: dict[str, str]) -> None:
    hits, misses = int(facts.get("keyspace_hits", 0)), int(facts.get("keyspace_misses", 0))
    rate = hits / (hits + misses) if hits + misses else None
    seen.figures["hit_rate"] = None if rate is None else round(rate, 4)
    if rate is not None and hits + misses >= LOOKUPS_MIN and rate < HIT_RATE_MIN:
        seen.find("cache_misses", f"{100 * (1 - rate):.0f} % of {hits + misses:,} lookups missed")


async def _facts(redis: RedisAdapter) -> dict[str, str] | None:
    """What INFO says, or None when this user may not ask."""
    try:
        replies = [await redis.call("INFO", section) for section in ("server", "memory", "stats")]
    except StatementRefused:
        return None
    return {name: value for reply in replies for name, value in _lines(reply).items()}


def _lines(reply: Reply) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
