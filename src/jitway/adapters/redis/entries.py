"""Cached entries by data type with their TTLs, and versioned values under them.

Owns key names and TTLs. Never lists keys (no KEYS, no SCAN); nothing here decides about money.
"""

from jitway.adapters.redis import values as redis_values
from jitway.adapters.redis.commands import Argument, RedisCommands, check, json_bytes
from jitway.adapters.redis.values import Versioned
from jitway.errors import CacheFull

USER_TTL_S = 3600
CARD_TTL_S = 900
LIMITS_TTL_S = 300
TRANSACTION_TTL_S = 300


class CachedEntries(RedisCommands):
    """Users, cards, spending limits and transactions that PostgreSQL can give again."""

    async def cache_user(
        self, user_id: str, data: object, ttl_s: int = USER_TTL_S, *, version: int | None = None
    ) -> bool:
        """Keeps a user's data under `user:{id}`.

        Args:
            user_id: the id in the key.
            data: plain JSON data; `get_from_cache` returns the same.
            ttl_s: seconds to live.
            version: when given, a newer version that is already there stays.

        Returns:
            Whether it was stored: False when a newer one is there or Redis has no room.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
            InvalidRequest: the data is no plain JSON, or the id, TTL or version is out of range.
        """
        return await self._store(f"user:{user_id}", data, ttl_s, version)

    async def cache_card(
        self, card_id: str, data: object, ttl_s: int = CARD_TTL_S, *, version: int | None = None
    ) -> bool:
        """Keeps a card's data under `card:{id}`; as `cache_user`."""
        return await self._store(f"card:{card_id}", data, ttl_s, version)

    async def cache_spending_limits(
        self, owner_id: str, data: object, ttl_s: int = LIMITS_TTL_S, *, version: int | None = None
    ) -> bool:
        """Keeps spending limits under `limits:{id}`; as `cache_user`."""
        return await self._store(f"limits:{owner_id}", data, ttl_s, version)

    async def cache_transaction(
        self,
        transaction_id: str,
        data: object,
        ttl_s: int = TRANSACTION_TTL_S,
        *,
        version: int | None = None,
    ) -> bool:
        """Keeps a transaction's data under `transaction:{id}`; as `cache_user`."""
        return await self._store(f"transaction:{transaction_id}", data, ttl_s, version)

    async def invalidate_user_cache(self, user_id: str, *, version: int | None = None) -> None:
        """Forgets a user's data at every level of every process; see `evict`."""
        await self.evict(f"user:{user_id}", version=version, ttl_s=USER_TTL_S)

    async def invalidate_card_cache(self, card_id: str, *, version: int | None = None) -> None:
        """Forgets a card's data at every level of every process; see `evict`."""
        await self.evict(f"card:{card_id}", version=version, ttl_s=CARD_TTL_S)

    async def invalidate_limits_cache(self, owner_id: str, *, version: int | None = None) -> None:
        """Forgets spending limits at every level of every process; see `evict`."""
        await self.evict(f"limits:{owner_id}", version=version, ttl_s=LIMITS_TTL_S)

    async def invalidate_transaction_cache(
        self, transaction_id: str, *, version: int | None = None
    ) -> None:
        """Forgets a transaction's data at every level of every process; see `evict`."""
        await self.evict(f"transaction:{transaction_id}", version=version, ttl_s=TRANSACTION_TTL_S)

    async def set_if_newer(self, key: str, value: bytes, *, version: int, ttl_s: int) -> bool:
        """Stores a value unless a newer version, or the mark of a newer eviction, is there.

        An equal version is stored again: a damaged value must not outlive its reload.

        Args:
            key: such as `card:42`.
            value: any bytes.
            version: 0 to 2^63 - 1.
            ttl_s: seconds to live.

        Returns:
            Whether it was stored: False when a newer one is there or Redis has no room.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
            InvalidRequest: key, version or TTL is out of range.
        """
        check(key, ttl_s=ttl_s, version=version)
        sealed = self._values.seal(key, value, version)
        number = redis_values.version_text(version)
        try:
            stored = await self.run_script(redis_values.SET_IF_NEWER, (key,), number, sealed, ttl_s)
        except CacheFull:
            return False
        return stored == 1

    async def get_versioned(self, key: str) -> Versioned | None:
        """The value and version under a key, or None; foreign or damaged ones are misses.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
        """
        found = await self._read(key)
        self.lookups.count(key, found=found is not None)
        return found

    async def evict(self, key: str, *, version: int | None = None, ttl_s: int = USER_TTL_S) -> None:
        """Removes a value and tells every process that listens for invalidations.

        Args:
            key: such as `card:42`.
            version: what made the value stale. A mark then stays for `ttl_s`, so that a slow
                reader cannot write an older value back; a value at least as new stays.
            ttl_s: seconds the mark lives; no shorter than the TTL of what it guards.

        Raises:
            CacheUnavailable: Redis cannot be reached: nobody was told.
        """
        check(key, ttl_s=ttl_s, version=version or 0)
        mark: tuple[Argument, ...] = ()
        if version is not None:
            sealed = self._values.seal(key, b"", version, kind=redis_values.EVICTED)
            mark = (redis_values.version_text(version), sealed, ttl_s)
        await self.run_script(redis_values.EVICT, (key,), self.invalidation_channel, *mark)

    async def _store(self, key: str, data: object, ttl_s: int, version: int | None) -> bool:
        payload = json_bytes(data)
        if version is not None:
            return await self.set_if_newer(key, payload, version=version, ttl_s=ttl_s)
        check(key, ttl_s=ttl_s)
        sealed = self._values.seal(key, payload, 0)
        try:
            await self.call("SET", self.full_key(key), sealed, "EX", ttl_s)
        except CacheFull:
            return False
        return True
