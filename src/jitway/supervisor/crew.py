"""`crew.py`: a worker's side: it tells what it counted, asks for the whole, and is told to end.

Owns the worker's word with its supervisor. When the supervisor is gone the worker ends: at once,
but for what is under way.
"""

import asyncio
import os
import select
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from jitway.errors import FiguresUnavailable
from jitway.profiler.profile import Profile
from jitway.supervisor.families import Family
from jitway.supervisor.line import Line
from jitway.supervisor.messages import (
    Ask,
    Collect,
    Collected,
    Failed,
    Pulse,
    Roll,
    Serving,
    Stop,
    Told,
    What,
)
from jitway.supervisor.shares import Shares

_log = structlog.get_logger("jitway.crew")

PULSE_S = 1.0
# A profile takes some milliseconds to make, in which nothing else is done.
PROFILE_EVERY_S = 10.0
# The supervisor waits 200 ms for those that hang; merging many profiles takes it a while.
ASK_S = 2.0
ASKS_MAX = 64
FLUSH_S = 1.0
# What is under way has limits below this; a worker without its supervisor never lives longer.
ORPHANED_S = 10.0


class Crew:
    """The workers of one gateway, as one of them sees them.

    Args:
        line: to the supervisor.
        number: of this worker, from 1.
        shares: how many connections each of them has open.
    """

    def __init__(self, line: Line, number: int, shares: Shares) -> None:
        self.number = number
        self.shares = shares
        self.roll = Roll()
        self.stopping = asyncio.Event()
        self.is_orphaned = False
        """Whether the supervisor is gone: then there is nobody to wait for."""
        self._line = line
        self._families: Callable[[], Awaitable[list[Family]]] | None = None
        self._profile: Callable[[], Profile] | None = None
        self._asks: dict[int, asyncio.Future[bytes | None]] = {}
        self._asked = 0
        self._listening = asyncio.create_task(self._listen(), name="crew-listen")
        self._pulsing: asyncio.Task[None] | None = None

    def serve(
        self, *, families: Callable[[], Awaitable[list[Family]]], profile: Callable[[], Profile]
    ) -> None:
        """This worker serves now.

        Args:
            families: what it counted, as metrics.
            profile: what it counted, as a profile.
        """
        self._families, self._profile = families, profile
        self._pulsing = asyncio.create_task(self._pulse(), name="crew-pulse")
        self._line.send(Serving())

    async def fail(self, sentence: str, *, may_pass: bool) -> None:
        """This worker cannot start."""
        self._line.send(Failed(sentence, may_pass))
        await self._line.flush(timeout_s=FLUSH_S)

    async def exposition(self, others: list[Family]) -> bytes:
        """The metrics of all workers, as text.

        Args:
            others: metrics that are no worker's.

        Raises:
            FiguresUnavailable: nobody told them in time.
        """
        return await self._ask(What.METRICS, others)

    async def profile(self) -> bytes:
        """The profile of all workers, as a JSON document.

        Raises:
            FiguresUnavailable: nobody told it in time.
        """
        return await self._ask(What.PROFILE, [])

    async def rest(self) -> None:
        """Tells what was counted last, while the stores are still open; may be called twice."""
        pulse, self._pulsing = self._pulsing, None
        if pulse is None:
            return
        await _end(pulse)
        await self._tell(with_profile=True)
        self._families = self._profile = None

    async def close(self) -> None:
        """Ends the line; may be called twice."""
        if self._pulsing is not None:
            await _end(self._pulsing)
        await _end(self._listening)
        if not self.is_orphaned:
            await self._line.flush(timeout_s=FLUSH_S)
        self._line.close()
        self.shares.close()

    async def _ask(self, what: What, others: list[Family]) -> bytes:
        if len(self._asks) >= ASKS_MAX:
            raise FiguresUnavailable("too many are waiting for the figures of all workers")
        self._asked += 1
        number = self._asked
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asks[number] = answer
        document: bytes | None = None
        try:
            if self._line.send(Ask(number, what, others)):
                async with asyncio.timeout(ASK_S):
                    document = await answer
        except TimeoutError:
            _log.warning("supervisor_is_silent")
        finally:
            del self._asks[number]
        if document is None:
            raise FiguresUnavailable("the figures of all workers were not there in time")
        return document

    async def _listen(self) -> None:
        try:
            while (message := await self._line.receive()) is not None:
                match message:
                    case Collect(number=number, what=what):
                        await self._collect(number, what)
                    case Told(number=number, document=document):
                        answer = self._asks.get(number)
                        if answer is not None and not answer.done():
                            answer.set_result(document)
                    case Roll():
                        self.roll = message
                    case Stop():
                        self.stopping.set()
                    case _:
                        _log.warning("supervisor_not_understood", said=type(message).__name__)
        except Exception:
            # Without its ear a worker could not be told to end.
            _log.exception("supervisor_not_understood")
        _log.warning("supervisor_is_gone", ends=True)
        self.is_orphaned = True
        self.stopping.set()

    async def _collect(self, number: int, what: What) -> None:
        if self._families is None or self._profile is None:
            return
        try:
            if what is What.METRICS:
                self._line.send(Collected(number, families=await self._families()))
            else:
                self._line.send(Collected(number, profile=self._profile()))
        except Exception:
            # Then this worker is missing in the figures; it is there for everything else.
            _log.exception("figures_failed")

    async def _pulse(self) -> None:
        profiled_at = time.monotonic()
        while True:
            await asyncio.sleep(PULSE_S)
            is_due = time.monotonic() - profiled_at >= PROFILE_EVERY_S
            if is_due:
                profiled_at = time.monotonic()
            await self._tell(with_profile=is_due)

    async def _tell(self, *, with_profile: bool) -> None:
        if self._families is None or self._profile is None:
            return
        try:
            families = await self._families()
            profile = self._profile() if with_profile else None
        except Exception:
            # A sign of life all the same: a figure that cannot be had is no reason to be replaced.
            _log.exception("figures_failed")
            families, profile = [], None
        self._line.send(Pulse(families or None, profile))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def end_with_supervisor(connected: socket.socket) -> None:
    """Sees to it that this process ends when its supervisor has, however hung its loop may be.

    Args:
        connected: the socket to the supervisor; not read from.
    """
    watched = os.dup(connected.fileno())

    def watch() -> None:
        poll = select.poll()
        poll.register(watched, select.POLLRDHUP)
        poll.poll()
        time.sleep(ORPHANED_S)
        os._exit(1)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
