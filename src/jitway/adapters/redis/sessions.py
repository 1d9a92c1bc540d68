"""Sessions that end by themselves, and counters with windows.

Losing them loses a login or a rate limit, never money.
"""

from jitway.adapters.redis import values as redis_values
from jitway.adapters.redis.commands import RedisCommands, Reply, check, json_bytes
from jitway.adapters.redis.failure import WRONG_TYPE
from jitway.errors import Conflict, InvalidRequest, StatementRefused

SESSION_TTL_S = 86_400
UNIQUE_KEY_TTL_S = 86_400
COUNTER_MAX = 2**63 - 1


class Sessions(RedisCommands):
    """Data under `session:{id}` that lives as long as it is touched."""

    async def create_session(
        self, session_id: str, data: object, ttl_s: int = SESSION_TTL_S
    ) -> None:
        """Begins a session under `session:{id}`.

        Args:
            session_id: secret and random; it is part of the key, so pass a digest of a token.
            data: plain JSON data.
            ttl_s: seconds until it ends, unless touched.

        Raises:
            Conflict: a session of that id exists; its data was left alone.
            CacheUnavailable: Redis cannot be reached or has no room; no session was promised.
            InvalidRequest: the data is no plain JSON, or id or TTL is out of range.
        """
        key = f"session:{session_id}"
        check(key, ttl_s=ttl_s)
        sealed = self._values.seal(key, json_bytes(data), 0)
        if await self.call("SET", self.full_key(key), sealed, "EX", ttl_s, "NX") is None:
            raise Conflict("a session of this id exists", "session_exists")

    async def get_session(self, session_id: str) -> object:
        """The session's data, or None when it ended or never was.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
        """
        return await self.get_from_cache(f"session:{session_id}")

    async def touch_session(self, session_id: str, ttl_s: int = SESSION_TTL_S) -> bool:
        """Lets a session live for `ttl_s` from now; False when it has ended.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
        """
        key = f"session:{session_id}"
        check(key, ttl_s=ttl_s)
        return await self.call("EXPIRE", self.full_key(key), ttl_s) == 1

    async def delete_session(self, session_id: str) -> bool:
        """Ends a session; False when it had ended already.

        Raises:
            CacheUnavailable: Redis cannot be reached: the session may live on.
        """
        key = f"session:{session_id}"
        check(key)
        return await self.call("DEL", self.full_key(key)) == 1


class Counters(RedisCommands):
    """Numbers under `counter:{name}`, added to in one atomic step."""

    async def increment_counter(
        self,
        name: str,
        amount: int = 1,
        window_s: int | None = None,
        *,
        unique_key: str | None = None,
    ) -> int:
        """Adds to a counter, atomically, and returns what it then stands at.

        Args:
            name: the counter; its key is `counter:{name}`.
            amount: what to add; may be negative.
            window_s: seconds from its first increment until it starts again; None = never.
            unique_key: names this increment: a repeat within the window (without one: a day)
                adds nothing. After an error the only safe way to try again.

        Raises:
            CacheUnavailable: Redis cannot be reached or full. The amount may have been added.
            StatementRefused: the counter would leave 64 bits, or the key holds something else.
            InvalidRequest: name, amount or window is out of range.
        """
        key = f"counter:{name}"
        mark = f"counted:{len(name)}:{name}:{unique_key}"
        check(key, ttl_s=window_s or 1)
        check(mark)
        if not -COUNTER_MAX <= amount <= COUNTER_MAX:
            raise InvalidRequest("the amount must fit 64 bits", code="amount_out_of_range")
        mark_ms = 0 if unique_key is None else (window_s or UNIQUE_KEY_TTL_S) * 1000
        window_ms = 0 if window_s is None else window_s * 1000
        reply = await self.run_script(
            redis_values.INCREMENT, (key, mark), amount, window_ms, mark_ms
        )
        return _integer(reply)

    async def get_counter(self, name: str) -> int:
        """What a counter stands at; 0 when it never began or its window is over.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
            StatementRefused: the key holds something else.
        """
        key = f"counter:{name}"
        check(key)
        return _integer(await self.call("GET", self.full_key(key)))

    async def reset_counter(self, name: str) -> None:
        """Sets a counter back to nothing; unique keys already counted stay counted.

        Raises:
            CacheUnavailable: Redis cannot be reached, or did not answer in time.
        """
        key = f"counter:{name}"
        check(key)
        await self.call("DEL", self.full_key(key))


def _integer(reply: Reply) -> int:
    if reply is None:
        return 0
    try:
        return int(reply)  # type: ignore[arg-type]  # a list is refused below, like any non-number
    except (TypeError, ValueError):
        raise StatementRefused("the key holds something that is no counter", WRONG_TYPE) from None
