"""Redis: what may be lost at any moment: cached entries, sessions, counters."""

from jitway.adapters.redis.adapter import RedisAdapter

__all__ = ["RedisAdapter"]
