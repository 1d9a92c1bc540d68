"""Repeats an operation after connection failures, within one limit for all attempts.

Owns when another attempt is right and how long to wait for it, and what becomes of an operation
whose caller gave up. Knows no driver: it is told what a failure means.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from jitway.errors import ArchiveUnavailable, JitwayError

Result = TypeVar("Result")

PAUSE_S_FIRST = 0.1
PAUSE_S_MAX = 1.0
# The driver ends an operation at its limit; this is for a driver that does not.
GRACE_S = 0.5


@dataclass(frozen=True)
class Failure:
    """What an attempt's failure means.

    Args:
        error: what the caller is told if it is the last one.
        is_passing: the connection or the server's role failed: another attempt may succeed.
        is_undone: for certain nothing was written.
    """

    error: JitwayError
    is_passing: bool = False
    is_undone: bool = True


async def repeated(
    attempt: Callable[[float], Awaitable[Result]],
    *,
    explain: Callable[[Exception], Failure | None],
    may_go_on: Callable[[], bool],
    limit_ms: int,
    attempts_max: int,
    is_repeatable: bool,
    on_retry: Callable[[], None],
) -> Result:
    """The result of the first attempt that succeeds.

    Args:
        attempt: makes one attempt within the seconds it is given.
        explain: what a failure means; None for a bug, which is raised as it is.
        may_go_on: whether anybody still waits for a further attempt.
        limit_ms: for all attempts and pauses together.
        attempts_max: how many attempts at most.
        is_repeatable: whether repeating what was already done changes nothing.
        on_retry: called before each further attempt.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_ms / 1000
    pause_s = PAUSE_S_FIRST
    for left in range(attempts_max - 1, -1, -1):
        try:
            async with asyncio.timeout_at(deadline + GRACE_S):
                return await attempt(deadline - loop.time())
        except Exception as error:
            failed = explain(error)
            if failed is None:
                raise
            resume_at = loop.time() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            may_repeat = failed.is_passing and (is_repeatable or failed.is_undone)
            if not (may_repeat and may_go_on()) or left == 0 or resume_at >= deadline:
                raise failed.error from error
        on_retry()
        await asyncio.sleep(resume_at - loop.time())
        pause_s = min(pause_s * 2, PAUSE_S_MAX)
    raise ArchiveUnavailable("no attempt was allowed")


class UnderWay:
    """Operations in tasks of their own, which go on to their end when a caller gives up.

    The driver's pool does not survive a cancellation in the middle of a checkout or a connect: it
    loses count and leaves sockets open. So a cancelled caller leaves at once, and what it asked for
    ends by itself, within its limit and without another attempt.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def finish(self, operation: Coroutine[Any, Any, Result]) -> Result:
        """The operation's result; when cancelled, it goes on alone."""
        task = self.start(operation)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._abandoned.add(task)
            raise

    def start(self, operation: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """The operation's task; nobody needs to wait for it."""
        task = asyncio.create_task(operation)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the running task any more."""
        return asyncio.current_task() in self._abandoned

    async def settle(self, patience_s: float) -> None:
        """Waits for what is under way, and ends by force what takes too long."""
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._abandoned.discard(task)
        if not task.cancelled():
            # Somebody has to look at it, or the loop complains about an error nobody saw.
            task.exception()
