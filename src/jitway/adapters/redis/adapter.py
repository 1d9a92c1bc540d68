"""The one way to Redis: the driver, and the adapter that the rest of the house speaks to.

Owns the driver and the translation of its failures. Refuses to retry (a repeated INCRBY counts
twice), to let a slow Redis slow a caller down, and to hold anything that decides about money.

One limit covers a whole command: waiting for a connection, sending and reading. The driver's own
read and write limits stay off, since each would cost a task per command. A connection that was
cancelled or timed out in the middle is closed, never lent again: its next reply would be the
answer to another question. The protocol is RESP2: replies have few shapes, and the invalidation
feed needs nothing newer.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Unpack, cast

from jitway.adapters.reachability import root_cause
from jitway.adapters.redis import failure
from jitway.adapters.redis.caller import RedisCaller
from jitway.adapters.redis.commands import Argument, Reply
from jitway.adapters.redis.entries import CachedEntries
from jitway.adapters.redis.failure import Refusal
from jitway.adapters.redis.feed import InvalidationFeed, OnKeys
from jitway.adapters.redis.options import RedisOptions, read_limits
from jitway.adapters.redis.sessions import Counters, Sessions
from jitway.clock import Clock, SystemClock
from jitway.errors import CacheUnavailable, JitwayError

try:
    from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        BusyLoadingError,
        InvalidResponse,
        RedisError,
        ResponseError,
    )
except ImportError as missing:
    raise ImportError(
        "the Redis client is not installed; it comes with: pip install 'jitway[redis]'"
    ) from missing

_CLOSE_S = 1.0
_FEED_DATA_TYPES = ("user", "card", "limits")


class Link:
    """One connection. After anything but a whole reply it closes itself."""

    __slots__ = ("_address", "_connection")

    def __init__(self, connection: Any, *, address: str) -> None:
        self._connection = connection
        self._address = address

    @property
    def is_open(self) -> bool:
        """Whether it can be used; False after any failure."""
        return bool(self._connection.is_connected)

    async def is_in_step(self) -> bool:
        """Whether nothing unasked lies in its buffer and the peer did not hang up."""
        try:
            return self.is_open and not await self._connection.can_read()
        except RedisError:
            return False

    async def open(self) -> None:
        """Connects, authenticates and selects the database.

        Raises:
            CacheUnavailable: why not, and what to do.
        """
        try:
            await self._connection.connect()
        except BaseException as error:
            await self._fail(error)

    async def ask(self, *command: Argument) -> Reply | Refusal:
        """Sends a command and reads its reply; an error reply is a value.

        Raises:
            CacheUnavailable: the connection failed; it is closed.
        """
        try:
            await self._connection.send_command(*command)
            return cast(Reply, await self._connection.read_response(disable_decoding=True))
        except ResponseError as error:
            return _refusal(error)
        except BaseException as error:
            await self._fail(error)

    async def send(self, *command: Argument) -> None:
        """Sends a command whose reply is received later.

        Raises:
            CacheUnavailable: the connection failed; it is closed.
        """
        try:
            await self._connection.send_command(*command)
        except BaseException as error:
            await self._fail(error)

    async def receive(self, limit_s: float) -> Reply:
        """The next message, or None when none came within the limit, in seconds.

        Raises:
            CacheUnavailable: the connection failed; it is closed.
        """
        try:
            message = await self._connection.read_response(disable_decoding=True, timeout=limit_s)
        except BaseException as error:
            await self._fail(error)
        return cast(Reply, message)

    async def close(self) -> None:
        """Closes the socket without waiting for the peer; never suspends."""
        await self._connection.disconnect(nowait=True)

    async def close_gracefully(self) -> None:
        """Closes and waits until the socket is gone, a second at most."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._connection.disconnect()
        except (TimeoutError, RedisError):
            await self.close()

    async def _fail(self, error: BaseException) -> NoReturn:
        """Closes the connection and raises what the failure means to the caller."""
        await self.close()
        if isinstance(error, RedisError | OSError):
            raise self._meaning(error) from error
        raise error  # a cancellation, or a bug: not ours to rename

    def _meaning(self, error: RedisError | OSError) -> JitwayError:
        match error:
            case AuthenticationError():
                return failure.credentials_refused(address=self._address)
            case InvalidResponse():
                return failure.foreign(address=self._address)
            case ResponseError() | BusyLoadingError():
                return _refusal(error).error(self._address)
            case _:
                return failure.unreachable(root_cause(error), address=self._address)


def _refusal(error: RedisError) -> Refusal:
    """An error reply; the driver takes the word it begins with out of some sentences."""
    if error.status_code is not None:
        return Refusal(error.status_code, str(error))
    word, _, sentence = str(error).partition(" ")
    return Refusal(word, sentence)


class RedisAdapter(CachedEntries, Sessions, Counters, RedisCaller):
    """Redis for what may be lost at any moment: cached entries, sessions, counters.

    Connects on first use. When Redis does not answer, each command ends within `timeout_ms` with
    `CacheUnavailable`; after five such failures in a second a breaker refuses at once, and a probe
    in the background, about every half to two seconds, finds out when Redis is back.

    Args:
        config: the guide's mapping with `REDIS_URL`.
        clock: tells the breaker the time.
        options: see `Limits` in `redis_options.py`; `redis_url` replaces the mapping.

    Raises:
        SettingsError: no address, or one that cannot be meant.
    """

    def __init__(
        self,
        config: Mapping[str, str] | None = None,
        *,
        clock: Clock | None = None,
        **options: Unpack[RedisOptions],
    ) -> None:
        super().__init__(
            read_limits(config, options), self._open_link, clock=clock or SystemClock()
        )
        self._tls: Any = None
        self._feeds: set[InvalidationFeed] = set()

    async def connect(self) -> None:
        """Opens the first connection and asks for a sign of life; again after `close` too.

        Raises:
            CacheUnavailable: it cannot be reached, with the masked address and what to do. The
                adapter stays usable: later commands connect by themselves.
        """
        await self._open()

    async def initialize(self) -> None:
        """The same as `connect`."""
        await self.connect()

    async def close(self) -> None:
        """Ends feeds, probe and connections; may be called twice, or before `connect`."""
        for feed in list(self._feeds):
            await feed.stop()
        await self._close()

    @property
    def is_feed_synchronised(self) -> bool:
        """Whether invalidations arrive now; if not, what a process keeps should be short-lived."""
        return bool(self._feeds) and all(feed.is_synchronised for feed in self._feeds)

    async def listen_for_invalidations(
        self,
        on_keys: OnKeys,
        *,
        data_types: Sequence[str] = _FEED_DATA_TYPES,
        heartbeat_s: float = 1.0,
    ) -> None:
        """Tells which keys changed, by whomever, until cancelled or `close`; run it as a task.

        Args:
            on_keys: called with the keys, such as `["card:42"]`, or with None: drop everything.
                None comes when the feed is established, each time it breaks, and for FLUSHALL.
                It must not raise: that ends the feed.
            data_types: which keys to follow.
            heartbeat_s: a broken connection is noticed after two of these at the latest.

        Raises:
            StatementRefused: the server does not permit tracking, or does not know it (Redis < 6).
        """
        feed = InvalidationFeed(
            self._open_link,
            on_keys,
            key_prefix=self._limits.key_prefix,
            data_types=data_types,
            channel=self.invalidation_channel,
            address=self.address,
            heartbeat_s=heartbeat_s,
        )
        self._feeds.add(feed)
        try:
            await feed.run()
        finally:
            self._feeds.discard(feed)

    async def get_cache_stats(self) -> dict[str, Any]:
        """Lookups by data type, failures, breaker, pool and feed, and the server's memory.

        Returns:
            `hits`, `misses`, `malformed` by data type; `hit_rate` from 0 to 1 or None; `errors`;
            `breaker`; `pool`; `feed`; `server` with product and version, `used_memory_bytes` and
            `maxmemory_bytes` (0 = no limit), or None when it cannot be asked.
        """
        hits, misses = sum(self.lookups.hits.values()), sum(self.lookups.misses.values())
        return {
            "hits": dict(self.lookups.hits),
            "misses": dict(self.lookups.misses),
            "malformed": dict(self.lookups.malformed),
            "hit_rate": hits / (hits + misses) if hits + misses else None,
            "errors": self.error_count,
            "breaker": {
                "state": self._breaker.state.value,
                "opened": self._breaker.opened_count,
                "rejected": self._breaker.rejected_count,
            },
            "pool": self._pool.stats(),
            "feed": {
                "synchronised": self.is_feed_synchronised,
                "messages": sum(feed.message_count for feed in self._feeds),
                "gaps": sum(feed.gap_count for feed in self._feeds),
            },
            "server": await self._server_facts(),
        }

    # Inside ---------------------------------------------------------------------------------

    async def _open_link(self) -> Link:
        if self._is_closed:
            raise CacheUnavailable("this RedisAdapter is closed")
        limit_ms = self._limits.connect_timeout_ms
        link = Link(self._new_connection(), address=self.address)
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await link.open()
        except TimeoutError:
            raise failure.silent(address=self.address, limit_ms=limit_ms) from None
        return link

    def _new_connection(self) -> Any:
        arguments: dict[str, Any] = self._limits.connection_arguments() | {
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": self._limits.connect_timeout_ms / 1000,
            "driver_info": None,
        }
        if "path" in arguments:
            return UnixDomainSocketConnection(**arguments)
        arguments["socket_keepalive"] = True
        if not self._limits.redis_url.startswith("rediss:"):
            return Connection(**arguments)
        connection = SSLConnection(**arguments)
        # Reading the authorities' certificates blocks the loop for milliseconds: once is enough.
        self._tls = self._tls or connection.ssl_context
        connection.ssl_context = self._tls
        return connection
