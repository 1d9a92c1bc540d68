"""`key_expiry.py`: idempotency keys, and the answers beside them, end by age; decisions never do.

A key that was used long ago is nobody's retry any more. It goes together with its answer, in one
statement, so that neither is ever there without the other. The table is walked by its pages, a few
at a time: no index is spent on it, and no statement takes long. One gateway at a time; two would do
no harm.
"""

import asyncio
from datetime import datetime, timedelta

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.errors import JitwayError
from jitway.gateway.read import CLOCKS_APART, ID_FIRST, id_at
from jitway.sql import statements

_SQL = statements("postings")
_log = structlog.get_logger(__name__)

_LEASE = "key_expiry"
_LEASE_TTL = timedelta(minutes=2)
_PAGES_AT_ONCE = 64
_STOP_S = 2.0


class KeyExpiry:
    """Ends old keys again and again until it is stopped.

    Args:
        postgres: the ledger.
        clock: for the lease's holder.
        kept: how long a key lives at least.
        first_s: seconds until the first look.
        interval_s: seconds between two looks.
        pause_s: seconds between two statements, so that the disk is not taken from decisions.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        clock: Clock,
        kept: timedelta,
        *,
        first_s: float = 600.0,
        interval_s: float = 3_600.0,
        pause_s: float = 0.05,
    ) -> None:
        self._postgres = postgres
        self._kept = kept
        self._first_s = first_s
        self._interval_s = interval_s
        self._pause_s = pause_s
        self._holder = clock.new_id("exp")
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look; a second call changes nothing."""
        if self._task is None:
            self._stopping.clear()
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Gives the statement under way a moment; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await asyncio.wait([task], timeout=_STOP_S)
        # A statement under way is rolled back whole.
        task.cancel()
        await asyncio.wait([task], timeout=_STOP_S)

    async def round(self) -> int:
        """Walks the table once, if no other gateway is at it.

        Returns:
            How many keys ended.

        Raises:
            StoreUnavailable: the ledger is away.
        """
        ended, page = 0, 0
        while not self._stopping.is_set() and await self._has_lease():
            rows = await self._postgres.execute_query(_SQL["key_pages"], repeatable=True)
            if page >= rows[0]["pages"]:
                break
            ended += await self._forget(page, before=rows[0]["now"] - self._kept)
            page += _PAGES_AT_ONCE
            await self._pause(self._pause_s)
        await self._postgres.execute_query(_SQL["leave_lease"], [_LEASE, self._holder])
        return ended

    async def _forget(self, page: int, *, before: datetime) -> int:
        # The instant in an id is of the clock of a gateway, which may be behind the database's.
        below = id_at(before, -CLOCKS_APART, otherwise=ID_FIRST)
        values = [f"({page},0)", f"({page + _PAGES_AT_ONCE},0)", below]
        rows = await self._postgres.execute_query(_SQL["forget_keys"], values)
        ended: int = rows[0]["ended"]
        return ended

    async def _run(self) -> None:
        await self._pause(self._first_s)
        while not self._stopping.is_set():
            try:
                if ended := await self.round():
                    _log.info("keys_expired", keys=ended)
            except JitwayError as error:
                _log.warning("key_expiry_waits", cause=str(error))
            except Exception:
                # A bug in one round must not keep the table growing for ever.
                _log.exception("key_expiry_failed")
            await self._pause(self._interval_s)

    async def _has_lease(self) -> bool:
        values = [_LEASE, self._holder, _LEASE_TTL]
        return bool(await self._postgres.execute_query(_SQL["take_lease"], values))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
