"""`sweep.py`: the clock of holds: one gateway at a time ends those whose time is over.

The lease only saves work. Two sweeps at once would do no harm: each hold ends under its locks.
"""

import asyncio
from datetime import timedelta

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.errors import JitwayError
from jitway.gateway.controls import finish_filling
from jitway.gateway.release import expire
from jitway.sql import statements

_SQL = statements("postings")
_log = structlog.get_logger(__name__)

_LEASE = "expiry_sweep"
_LEASE_TTL = timedelta(seconds=20)
_AT_ONCE_MAX = 500
_STOP_S = 2.0


class ExpirySweep:
    """Ends due holds again and again until it is stopped.

    Args:
        postgres: the ledger.
        clock: for ids.
        interval_s: seconds between two looks.
    """

    def __init__(
        self, postgres: PostgreSQLAdapter, clock: Clock, *, interval_s: float = 5.0
    ) -> None:
        self._postgres = postgres
        self._clock = clock
        self._interval_s = interval_s
        self._holder = clock.new_id("swp")
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to sweep; a second call changes nothing."""
        if self._task is None:
            self._stopping.clear()
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Gives the round under way a moment; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await asyncio.wait([task], timeout=_STOP_S)
        # A hold under way is left as it was: its transaction is rolled back.
        task.cancel()
        await asyncio.wait([task], timeout=_STOP_S)

    async def _run(self) -> None:
        unfinished = True
        while not self._stopping.is_set():
            try:
                if unfinished:
                    await finish_filling(self._postgres)
                    unfinished = False
                await self.round()
            except JitwayError as error:
                _log.warning("expiry_sweep_waits", cause=str(error))
            except Exception:
                # A bug in one round must not keep every later hold from ending.
                _log.exception("expiry_sweep_failed")
            await self._pause()
        await self._leave_lease()

    async def round(self) -> int:
        """Ends what is due now, if no other gateway is at it.

        Returns:
            How many holds ended.

        Raises:
            StoreUnavailable: the ledger is away.
        """
        ended = 0
        while not self._stopping.is_set() and await self._has_lease():
            some = await expire(self._postgres, self._clock, limit=_AT_ONCE_MAX)
            ended += some
            if some < _AT_ONCE_MAX:
                break
        return ended

    async def _has_lease(self) -> bool:
        values = [_LEASE, self._holder, _LEASE_TTL]
        return bool(await self._postgres.execute_query(_SQL["take_lease"], values))

    async def _leave_lease(self) -> None:
        """Lets another gateway begin at once."""
        try:
            await self._postgres.execute_query(_SQL["leave_lease"], [_LEASE, self._holder])
        except JitwayError as error:
            _log.warning("expiry_sweep_lease_left_to_run_out", cause=str(error))

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s):
                await self._stopping.wait()
        except TimeoutError:
            return
