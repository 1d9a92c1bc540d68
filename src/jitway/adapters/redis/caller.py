"""How a command gets its reply in bounded time: pool, one limit for all, breaker, probe.

Owns the connections' pool and what is known about the server's health. Knows no driver: it is
given a way to open a link, which closes itself after anything but a whole reply. Never retries: a
repeated INCRBY counts twice.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from jitway.adapters.breaker import BreakerState, CircuitBreaker
from jitway.adapters.redis import failure
from jitway.adapters.redis.commands import Argument, RedisCommands, Reply
from jitway.adapters.redis.failure import Refusal
from jitway.adapters.redis.options import Limits, masked_address
from jitway.adapters.redis.pool import ConnectionPool, PoolClosed, TooManyWaiting
from jitway.adapters.redis.values import ValueFormat
from jitway.clock import Clock
from jitway.errors import CacheUnavailable, StatementRefused

_QUEUE_RESERVE_MS = 100


class CallerLink(Protocol):
    """A connection as the caller uses it."""

    @property
    def is_open(self) -> bool:
        """Whether it can be used; False after any failure."""

    async def is_in_step(self) -> bool:
        """Whether nothing unasked lies in its buffer and the peer did not hang up."""

    async def ask(self, *command: Argument) -> Reply | Refusal:
        """Sends a command and reads its reply; an error reply is a value."""

    async def close(self) -> None:
        """Closes it without waiting for the peer; never suspends."""

    async def close_gracefully(self) -> None:
        """Closes it and waits, within a limit, until the socket is gone."""


class RedisCaller(RedisCommands):
    """Asks the server, or says at once that it does not answer.

    Args:
        limits: address, time limits and pool size.
        connect: opens a link within `connect_timeout_ms`, or raises `CacheUnavailable`.
        clock: tells the breaker the time.
    """

    def __init__(
        self, limits: Limits, connect: Callable[[], Awaitable[CallerLink]], *, clock: Clock
    ) -> None:
        super().__init__(ValueFormat(limits.signing_key))
        self.address = masked_address(limits.redis_url)
        self.error_count = 0
        self._limits = limits
        self._connect = connect
        self._breaker = CircuitBreaker(clock)
        self._probing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._pool = self._new_pool()

    async def ping(self) -> float:
        """Milliseconds a sign of life took, whatever the breaker says.

        Raises:
            CacheUnavailable: none came within `connect_timeout_ms`, or why not.
        """
        started_ns = time.perf_counter_ns()
        reply = await self._ask(("PING",), self._limits.connect_timeout_ms + _QUEUE_RESERVE_MS)
        if isinstance(reply, Refusal):
            raise reply.error(self.address)
        return (time.perf_counter_ns() - started_ns) / 1e6

    async def call(self, *command: Argument) -> Reply:
        """Sends one command and reads its reply, within `timeout_ms` in all.

        Args:
            command: its words; keys with their prefix, see `full_key`.

        Raises:
            CacheUnavailable: Redis is away, silent, or the breaker is open. Whether the command
                ran is unknown.
            CacheFull: a write found no room.
            StatementRefused: the server refused the command.
        """
        if not self._breaker.admits():
            self._probe_when_due()
            raise CacheUnavailable(
                f"Redis at {self.address} did not answer lately; it is left alone until it does"
            )
        try:
            reply = await self._ask(command, self._limits.timeout_ms)
        except CacheUnavailable:
            self.error_count += 1
            self._breaker.record_failure()
            raise
        if isinstance(reply, Refusal):
            raise reply.error(self.address)
        return reply

    async def run_script(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Reply:
        """Runs a script by its digest; sends the text only to a server that lost it.

        Raises: as `call`.
        """
        rest = (len(keys), *map(self.full_key, keys), *arguments)
        try:
            return await self.call("EVALSHA", _script_digest(script), *rest)
        except StatementRefused as refused:
            if refused.sqlstate != failure.NO_SCRIPT:
                raise
        return await self.call("EVAL", script, *rest)

    def full_key(self, key: str) -> str:
        """The key as the server knows it."""
        return self._limits.key_prefix + key

    @property
    def invalidation_channel(self) -> str:
        """Where evictions are announced."""
        return self._limits.key_prefix + "jitway:evicted"

    @property
    def is_available(self) -> bool:
        """Whether commands are sent at all: the breaker is closed."""
        return self._breaker.state is BreakerState.CLOSED and not self._is_closed

    # Inside ---------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._is_closed:
            self._is_closed = False
            self._pool = self._new_pool()
        await self.ping()
        self._breaker.reset()

    async def _close(self) -> None:
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        links = await self._pool.close()
        await asyncio.gather(*(link.close_gracefully() for link in links))

    async def _ask(self, command: tuple[Argument, ...], limit_ms: int) -> Reply | Refusal:
        link: CallerLink | None = None
        try:
            async with asyncio.timeout(limit_ms / 1000):
                link = await self._pool.acquire()
                return await link.ask(*command)
        except TimeoutError:
            raise failure.silent(address=self.address, limit_ms=limit_ms) from None
        except PoolClosed:
            raise CacheUnavailable("this RedisAdapter is closed") from None
        except TooManyWaiting:
            raise CacheUnavailable(
                f"more than {self._limits.waiting_max} callers wait for Redis at {self.address}"
            ) from None
        finally:
            if link is not None:
                await self._give_back(link)

    async def _give_back(self, link: CallerLink) -> None:
        if link.is_open:
            self._pool.release(link)
        else:
            await self._pool.drop(link)

    def _probe_when_due(self) -> None:
        if not self._is_closed and self._breaker.claim_probe():
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Nobody waits for it: first whether there is an answer at all, then whether in time."""
        answered = False
        try:
            await self.ping()
            reply = await self._ask(("PING",), self._limits.timeout_ms)
            answered = not isinstance(reply, Refusal)
        except CacheUnavailable:
            pass
        finally:
            if answered:
                self._breaker.reset()
            else:
                self._breaker.probe_failed()

    def _new_pool(self) -> ConnectionPool[CallerLink]:
        return ConnectionPool(
            self._connect,
            is_usable=lambda link: link.is_in_step(),
            disconnect=lambda link: link.close(),
            size_max=self._limits.pool_size_max,
            waiting_max=self._limits.waiting_max,
        )

    async def _server_facts(self) -> dict[str, Any] | None:
        facts: dict[str, str] = {}
        for section in ("server", "memory"):
            try:
                reply = await self._ask(("INFO", section), self._limits.connect_timeout_ms)
            except CacheUnavailable:
                return None
            if not isinstance(reply, bytes):
                return None
            facts |= dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
        product = "valkey" if "valkey_version" in facts else "redis"
        return {
            "version": f"{product} {facts.get(f'{product}_version', 'unknown')}",
            "used_memory_bytes": int(facts.get("used_memory", 0)),
            "maxmemory_bytes": int(facts.get("maxmemory", 0)),
        }


@functools.cache
def _script_digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
