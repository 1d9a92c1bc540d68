"""The pool: at most so many connections, at least so many kept open, one borrower each.

Owns who waits, in order of arrival, and what happens to a connection between two borrowers: it is
reset, or closed when anything about it is in doubt. Does not know the driver and sets no limit to
waiting: the adapter does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from jitway.adapters.postgresql.link import Link
from jitway.adapters.postgresql.statistics import Statistics
from jitway.errors import JitwayError, LedgerUnavailable

_TEND_EVERY_S = 1.0
_IDLE_S_MAX = 300.0
_RESET_LIMIT_MS = 1_500
_CLOSE_TIMEOUT_S = 5.0


@dataclass
class _Idle:
    """A connection nobody uses, and since when, in seconds of the loop's clock."""

    link: Link
    since: float


class Pool:
    """Connections of one adapter to one database.

    Args:
        connect: opens one connection for somebody who waits since an instant of the loop's clock;
            bounded, and raises `LedgerUnavailable`.
        size_min: kept open while the server can be reached; restored within a second.
        size_max: the most there ever are.
        statistics: counts the connections that were lost or thrown away.
    """

    def __init__(
        self,
        connect: Callable[[float], Awaitable[Link]],
        *,
        size_min: int,
        size_max: int,
        statistics: Statistics,
    ) -> None:
        self._connect = connect
        self._size_min = size_min
        self._size_max = size_max
        self._statistics = statistics
        self._places = asyncio.Semaphore(size_max)
        # Last in, first out: the most recent connection has the warmest caches on the server.
        self._idle: list[_Idle] = []
        self._lent: set[Link] = set()
        self._all_back = asyncio.Event()
        self._all_back.set()
        self._tending: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def lent_count(self) -> int:
        """Connections in use."""
        return len(self._lent)

    @property
    def idle_count(self) -> int:
        """Connections open and free."""
        return sum(not idle.link.closed for idle in self._idle)

    @property
    def is_full(self) -> bool:
        """Whether every connection there may be is in use."""
        return self._places.locked()

    async def fill(self) -> None:
        """Open the connections that are kept open, one at least, to learn that they can be.

        Raises:
            LedgerUnavailable: the first one that could not.
        """
        while len(self._lent) + self.idle_count < max(1, self._size_min):
            await self._open_another()
        self._tend()

    async def acquire(self) -> Link:
        """Lend a connection; waits until one is free, for as long as the caller lets it.

        Raises:
            LedgerUnavailable: none could be opened, or the pool is closed.
        """
        self._tend()
        since = asyncio.get_running_loop().time()
        await self._places.acquire()
        try:
            link = self._take_idle() or await self._connect(since)
            self._lend(link)
        except BaseException:
            self._places.release()
            raise
        return link

    async def release(self, link: Link) -> None:
        """Take a connection back and forget its session; one that cannot is closed."""
        try:
            if not link.closed:
                await link.reset(limit_ms=_RESET_LIMIT_MS)
        except JitwayError:
            link.terminate()
        finally:
            self._take_back(link)

    async def close(self) -> None:
        """Close every connection; those in use get five seconds."""
        self._closed = True
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        for idle in self._idle:
            idle.link.terminate()
        self._idle.clear()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._all_back.wait()
        except TimeoutError:
            pass
        finally:
            for link in list(self._lent):
                link.terminate()

    def _take_idle(self) -> Link | None:
        while self._idle and not self._closed:
            link = self._idle.pop().link
            if not link.closed:
                return link
            self._statistics.connections_lost += 1
        return None

    def _lend(self, link: Link) -> None:
        if self._closed:
            link.terminate()
            raise LedgerUnavailable("this PostgreSQLAdapter was closed")
        self._lent.add(link)
        self._all_back.clear()

    def _take_back(self, link: Link) -> None:
        """The part of a return that cannot wait, fail or be cancelled."""
        assert link in self._lent, "a connection is given back once"
        self._lent.discard(link)
        if link.closed:
            self._statistics.connections_lost += 1
        if link.closed or self._closed:
            link.terminate()
        else:
            self._idle.append(_Idle(link, asyncio.get_running_loop().time()))
        if not self._lent:
            self._all_back.set()
        self._places.release()

    def _tend(self) -> None:
        if self._tending is None and not self._closed:
            self._tending = asyncio.create_task(self._tend_forever(), name="postgresql-pool")

    async def _tend_forever(self) -> None:
        """Once a second: forget what died, close what nobody needs, open what is missing."""
        while True:
            await asyncio.sleep(_TEND_EVERY_S)
            self._forget_dead()
            self._close_spare()
            try:
                while not self.is_full and len(self._lent) + len(self._idle) < self._size_min:
                    await self._open_another()
            except JitwayError:
                continue

    async def _open_another(self) -> None:
        since = asyncio.get_running_loop().time()
        await self._places.acquire()
        try:
            link = await self._connect(since)
            self._lend(link)
        except BaseException:
            self._places.release()
            raise
        self._take_back(link)

    def _forget_dead(self) -> None:
        alive = [idle for idle in self._idle if not idle.link.closed]
        self._statistics.connections_lost += len(self._idle) - len(alive)
        self._idle = alive

    def _close_spare(self) -> None:
        """Close those idle for five minutes, the longest idle first, down to the floor."""
        spare = len(self._lent) + len(self._idle) - self._size_min
        oldest_allowed = asyncio.get_running_loop().time() - _IDLE_S_MAX
        while spare > 0 and self._idle and self._idle[0].since < oldest_allowed:
            self._idle.pop(0).link.terminate()
            spare -= 1
