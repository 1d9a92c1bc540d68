"""A bounded pool of connections that is safe to cancel.

Owns who holds which connection and who waits for one. Knows no protocol: how to open, check and
close a connection is given. Differs from the driver's own pool in two ways that matter here:

- Connections are opened by tasks of the pool, never inside a caller: a caller that gives up after
  its few milliseconds does not undo a connect that needs more of them, for example for TLS.
- Giving back takes no lock and never suspends, so a second cancellation cannot lose a place.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class PoolClosed(Exception):
    """The pool was closed while someone waited."""


class TooManyWaiting(Exception):
    """The line for a connection is full."""


class ConnectionPool(Generic[Connection]):
    """Lends connections, last used first; at most `size_max` exist or are being opened.

    Args:
        connect: opens one connection; its own time limit is its own business.
        is_usable: whether an idle connection may be lent; must not suspend.
        disconnect: closes one without waiting for the peer; must not suspend.
        size_max: the most connections.
        waiting_max: the most callers in line.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        is_usable: Callable[[Connection], Awaitable[bool]],
        disconnect: Callable[[Connection], Awaitable[None]],
        size_max: int,
        waiting_max: int,
    ) -> None:
        assert size_max >= 1
        self._connect = connect
        self._is_usable = is_usable
        self._disconnect = disconnect
        self._size_max = size_max
        self._waiting_max = waiting_max
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._is_closed = False
        self.opened_count = 0
        self.dropped_count = 0

    async def acquire(self) -> Connection:
        """Lends a connection; waits for one as long as the caller lets it.

        Raises:
            PoolClosed: it was closed meanwhile.
            TooManyWaiting: the line is full.
            Exception: what `connect` raised, given to one of those who wait.
        """
        if self._is_closed:
            raise PoolClosed
        while self._idle:
            connection = self._idle.pop()
            self._lent.add(connection)
            if await self._is_usable(connection):
                return connection
            await self.drop(connection)
        return await self._wait_for_one()

    def release(self, connection: Connection) -> None:
        """Takes a connection back that is in step: every reply asked for has been read."""
        if connection not in self._lent:
            return
        waiting = self._next_waiting()
        if waiting is None:
            self._lent.discard(connection)
            self._idle.append(connection)
        else:
            waiting.set_result(connection)

    async def drop(self, connection: Connection) -> None:
        """Closes a lent connection that may be out of step; never suspends."""
        self._lent.discard(connection)
        self.dropped_count += 1
        await self._disconnect(connection)
        self._open_as_needed()

    async def close(self) -> list[Connection]:
        """Ends it: nobody waits or opens any more. Returns the connections the caller must close.

        Lent ones are among them: whoever holds one will see its connection closed.
        """
        self._is_closed = True
        while (waiting := self._next_waiting()) is not None:
            waiting.set_exception(PoolClosed())
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        connections = [*self._idle, *self._lent]
        self._idle.clear()
        self._lent.clear()
        return connections

    def stats(self) -> dict[str, int]:
        """Connections in all, lent, idle and being opened, and how many callers wait."""
        return {
            "total_connections": len(self._idle) + len(self._lent),
            "in_use_connections": len(self._lent),
            "idle_connections": len(self._idle),
            "opening_connections": len(self._opening),
            "waiting_requests": sum(not waiting.done() for waiting in self._waiting),
            "connections_max": self._size_max,
            "connections_opened": self.opened_count,
            "connections_dropped": self.dropped_count,
        }

    async def _wait_for_one(self) -> Connection:
        if len(self._waiting) >= self._waiting_max:
            raise TooManyWaiting
        place: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._open_as_needed()
        try:
            return await place
        except BaseException:
            if place in self._waiting:
                self._waiting.remove(place)
            # Given a connection in the instant of giving up: pass it on.
            if place.done() and not place.cancelled() and place.exception() is None:
                self.release(place.result())
            raise

    def _next_waiting(self) -> asyncio.Future[Connection] | None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                return place
        return None

    def _open_as_needed(self) -> None:
        while not self._is_closed and len(self._opening) < len(self._waiting):
            if len(self._idle) + len(self._lent) + len(self._opening) >= self._size_max:
                return
            task = asyncio.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        try:
            connection = await self._connect()
        except Exception as error:  # whatever it is, it belongs to the one who waits
            waiting = self._next_waiting()
            if waiting is not None:
                waiting.set_exception(error)
            return
        self.opened_count += 1
        self._lent.add(connection)
        self.release(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._open_as_needed()
