"""`late.py`: approvals that nobody was answered; each is abandoned, again and again until it is.

Kept in memory: should this process die first, the hold ends with its expiry, and a retry of the
request still recalls the approval.
"""

import asyncio
from collections import OrderedDict

import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock
from jitway.gateway.release import abandon

_log = structlog.get_logger(__name__)

_PENDING_MAX = 100_000
# A locked account must not keep the others waiting, nor these take the pool from everybody else.
_AT_ONCE = 4
_BACKOFF_S = 1.0
_STOP_S = 2.0


class LateApprovals:
    """A bounded list of approvals to void, and the task that works it off.

    Args:
        postgres: the ledger.
        clock: instants and ids.
    """

    def __init__(self, postgres: PostgreSQLAdapter, clock: Clock) -> None:
        self._postgres = postgres
        self._clock = clock
        self._pending: OrderedDict[str, str] = OrderedDict()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, authorization_id: str, account_id: str) -> None:
        """Remembers an approval that was not answered; the oldest is dropped when too many are."""
        self._pending[authorization_id] = account_id
        if len(self._pending) > _PENDING_MAX:
            dropped, _ = self._pending.popitem(last=False)
            _log.error("late_approval_left_to_expiry", authorization=dropped)
        self._wake.set()

    def start(self) -> None:
        """Begins to work the list off; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Gives what is pending a moment more; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.timeout(_STOP_S):
                while self._pending and await self._abandon_some():
                    pass
        except TimeoutError:
            pass
        if self._pending:
            _log.warning("late_approvals_left_to_expiry", count=len(self._pending))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                if not await self._abandon_some():
                    await asyncio.sleep(_BACKOFF_S)

    async def _abandon_some(self) -> bool:
        """Whether any of the oldest could be settled; those that could not go to the back."""
        some = [self._pending.popitem(last=False) for _ in range(min(_AT_ONCE, len(self._pending)))]
        settled = await asyncio.gather(*(self._abandon_one(*approval) for approval in some))
        return any(settled)

    async def _abandon_one(self, authorization_id: str, account_id: str) -> bool:
        settled = False
        try:
            voided = await abandon(self._postgres, self._clock, [(authorization_id, account_id)])
            settled = True
        except Exception as error:
            # Whatever it is: the others must not wait for this one.
            _log.warning("late_approval_waits", authorization=authorization_id, cause=str(error))
            return False
        finally:
            if not settled:
                self._pending[authorization_id] = account_id
        if voided:
            _log.warning("late_approval_abandoned", authorization=authorization_id)
        return True
