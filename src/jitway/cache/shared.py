"""`shared.py`: what several processes remember together: card views in Redis, if there is one.

Owns the keys, how long anybody waits for Redis, and the line of what is to be written there.
Whatever Redis does, nothing here raises, nobody waits longer than a few milliseconds, and nothing
piles up: a reply that is late, foreign or damaged is a miss, and a write that finds no room in the
line is left out. The ledger can give everything again.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol

import structlog

from jitway.cache.l1 import L1Cache
from jitway.errors import JitwayError

USER_TTL_S = 3600
CARD_TTL_S = 900
LIMITS_TTL_S = 300

WAIT_S = 0.005
"""How long a lookup waits for Redis before it asks the ledger."""
ASKING_MAX = 256
WRITING_MAX = 10_000
WRITERS = 4
FOREIGN_MAX = 10_000
FOREIGN_S = 60.0
"""How long another's value under a key of ours is left alone."""

_log = structlog.get_logger("jitway.cache")


class Versioned(Protocol):
    """A value and the version it was stored under."""

    @property
    def value(self) -> bytes:
        """The bytes."""

    @property
    def version(self) -> int:
        """Which version of them."""


class SharedStore(Protocol):
    """What is asked of Redis; `RedisAdapter` fits. Everything may raise `JitwayError`."""

    async def get_versioned(self, key: str) -> Versioned | None:
        """The value and version under a key."""

    async def set_if_newer(self, key: str, value: bytes, *, version: int, ttl_s: int) -> bool:
        """Stores a value unless a newer version, or the mark of one, is there."""

    async def evict(self, key: str, *, version: int | None = None, ttl_s: int) -> None:
        """Removes a value, leaves the mark of the version, and tells every process."""

    @property
    def is_feed_synchronised(self) -> bool:
        """Whether this process hears of evictions now."""


class Kind:
    """One data type of the cache.

    Args:
        name: as lookups are counted: `card`, `user` or `limits`; also the key's first word.
        ttl_s: seconds an entry lives.
    """

    __slots__ = ("name", "prefix", "ttl_s")

    def __init__(self, name: str, ttl_s: int) -> None:
        self.name = name
        self.ttl_s = ttl_s
        self.prefix = f"{name}:"

    def key(self, id_: str) -> str:
        """Where an id's entry lies."""
        return self.prefix + id_


CARD = Kind("card", CARD_TTL_S)
USER = Kind("user", USER_TTL_S)
LIMITS = Kind("limits", LIMITS_TTL_S)


class SharedLevel:
    """The second level: asks Redis briefly, and tells it later.

    Args:
        store: Redis.
        wait_s: seconds a lookup waits.
        writing_max: writes that may wait; more are left out.
    """

    def __init__(
        self, store: SharedStore, *, wait_s: float = WAIT_S, writing_max: int = WRITING_MAX
    ) -> None:
        self._store = store
        self._wait_s = wait_s
        self._asking: set[asyncio.Task[Versioned | None]] = set()
        self._line: asyncio.Queue[Coroutine[Any, Any, object]] = asyncio.Queue(writing_max)
        self._writers: list[asyncio.Task[None]] = []
        self._foreign: L1Cache[bool] = L1Cache(
            FOREIGN_MAX,
            ttl_s=FOREIGN_S,
            negative_ttl_s=FOREIGN_S,
            monotonic_ns=time.monotonic_ns,
        )
        self.left_out = 0
        """Writes for which there was no room, or that Redis did not take."""
        self.overdue = 0
        """Lookups that gave Redis up."""
        self.foreign = 0
        """Lookups that found what is not ours: of another ledger, or of another release."""

    @property
    def is_synchronised(self) -> bool:
        """Whether this process hears of evictions now."""
        return self._store.is_feed_synchronised

    @property
    def waiting(self) -> int:
        """How many writes wait."""
        return self._line.qsize()

    async def read(self, kind: Kind, id_: str) -> Versioned | None:
        """The entry, or None when Redis has none or does not say so in time."""
        if len(self._asking) >= ASKING_MAX:
            self.overdue += 1
            return None
        # A task of its own: giving up must not break the connection in the middle of a reply.
        task = asyncio.create_task(self._read(kind.key(id_)))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        done, _ = await asyncio.wait((task,), timeout=self._wait_s)
        if not done:
            self.overdue += 1
            return None
        return task.result()

    async def _read(self, key: str) -> Versioned | None:
        try:
            return await self._store.get_versioned(key)
        except JitwayError:
            return None

    def write(self, kind: Kind, id_: str, version: int, sealed: bytes) -> None:
        """Stores an entry soon, unless a newer one is there."""
        key = kind.key(id_)
        if self._foreign.get(key) is None:
            self._enqueue(self._store.set_if_newer(key, sealed, version=version, ttl_s=kind.ttl_s))

    def leave_alone(self, kind: Kind, id_: str) -> None:
        """What lies there is another's: two who write over each other would evict all the time."""
        self.foreign += 1
        self._foreign.store(kind.key(id_), value=True)

    def evict(self, kind: Kind, id_: str, version: int | None) -> None:
        """Removes an entry soon, here and in every process; `version` is what made it stale."""
        self._enqueue(self._store.evict(kind.key(id_), version=version, ttl_s=kind.ttl_s))

    def _enqueue(self, writing: Coroutine[Any, Any, object]) -> None:
        try:
            self._line.put_nowait(writing)
        except asyncio.QueueFull:
            writing.close()
            self.left_out += 1
            return
        if not self._writers:
            self._writers = [asyncio.create_task(self._write()) for _ in range(WRITERS)]

    async def _write(self) -> None:
        while True:
            writing = await self._line.get()
            try:
                await writing
            except JitwayError:
                self.left_out += 1
            except Exception:
                # A bug in one write must not silence every later one.
                self.left_out += 1
                _log.exception("shared_write_failed")
            finally:
                self._line.task_done()

    async def settled(self) -> None:
        """Ends when everything in the line has been tried."""
        await self._line.join()

    async def close(self) -> None:
        """Ends what is under way and leaves the rest out; may be called twice."""
        tasks: list[asyncio.Task[Any]] = [*self._writers, *self._asking]
        self._writers = []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not self._line.empty():
            self._line.get_nowait().close()
            self._line.task_done()
