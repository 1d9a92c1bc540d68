"""`broadcast.py`: one piece a second for all open pages, made once however many there are.

A page that does not read in time misses pieces and gets the next one: nothing is queued for it.
While nobody looks, nothing is made.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from jitway.web.problems import Refused

WATCHERS_MAX = 64
INTERVAL_S = 1.0
HEARTBEAT_S = 15.0
ENDED = b"event: ended\ndata: {}\n\n"
_HEARTBEAT = b": still here\n\n"

_log = structlog.get_logger("jitway.dashboard")


class Watcher:
    """One open page: a body of server-sent events without an end.

    Args:
        stays: asked before each piece whether the page may have it.
        left: called once when it closes.
    """

    def __init__(
        self, stays: Callable[[], Awaitable[bool]], left: Callable[["Watcher"], None]
    ) -> None:
        self._stays = stays
        self._left = left
        self._piece: bytes | None = None
        self._arrived = asyncio.Event()
        self._has_ended = False

    def offer(self, piece: bytes) -> None:
        """The latest piece; one that was not taken is forgotten."""
        self._piece = piece
        self._arrived.set()

    async def __anext__(self) -> bytes:
        """The latest piece, when there is one that was not taken yet."""
        if self._has_ended:
            raise StopAsyncIteration
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                await self._arrived.wait()
        if not await self._stays():
            self._has_ended = True
            return ENDED
        self._arrived.clear()
        piece, self._piece = self._piece, None
        return piece or _HEARTBEAT

    def close(self) -> None:
        """The page is gone."""
        self._left(self)


class Broadcast:
    """Makes the pieces and hands them out.

    Args:
        make: the next piece; called once a second, but never twice at a time.
        rest: called when nobody looks any more.
        beat: called once a second in any case.
        watchers_max: open pages at most.
        interval_s: seconds between two pieces.
    """

    def __init__(
        self,
        make: Callable[[], bytes],
        *,
        rest: Callable[[], None],
        beat: Callable[[], None],
        watchers_max: int = WATCHERS_MAX,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._make = make
        self._rest = rest
        self._beat = beat
        self._watchers_max = watchers_max
        self._interval_s = interval_s
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def watched(self) -> int:
        """How many pages are open."""
        return len(self._watchers)

    def start(self) -> None:
        """Begins; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="dashboard")

    async def stop(self) -> None:
        """Ends it; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def watch(self, stays: Callable[[], Awaitable[bool]]) -> Watcher:
        """A new open page.

        Raises:
            Refused: 503, there are too many.
        """
        if len(self._watchers) >= self._watchers_max:
            raise Refused(
                503, "too_many_connections", "too many pages are open", {"Retry-After": "5"}
            )
        watcher = Watcher(stays, self._leave)
        self._watchers.add(watcher)
        return watcher

    def _leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        if not self._watchers:
            self._rest()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                self._beat()
                if self._watchers:
                    piece = self._make()
                    for watcher in self._watchers:
                        watcher.offer(piece)
            except Exception:
                # A figure that cannot be made must not take the page from its operators.
                _log.exception("snapshot_failed")
            # What was slept through is not made up for.
            due = max(due + self._interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
