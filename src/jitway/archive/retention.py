"""`retention.py`: what is older than a collection keeps is removed, a little at a time."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog

from jitway.archive.store import COLLECTIONS, Archive
from jitway.clock import Clock
from jitway.errors import JitwayError

_log = structlog.get_logger("jitway.archive")

_STOP_S: Final = 2.0


def keeps_from(days: Mapping[str, int], now: datetime) -> dict[str, datetime | None]:
    """By collection, the instant before which nothing is kept; None: all is.

    Args:
        days: by collection, how long; 0 = for ever.
        now: in UTC.
    """
    return {name: now - timedelta(days=days[name]) if days[name] else None for name in COLLECTIONS}


class Retention:
    """Removes what is too old, now and then, until it is stopped.

    Several at once do no harm.

    Args:
        archive: the archive.
        clock: for the age.
        days: by collection, how long it is kept; 0 = for ever.
        interval_s: seconds between two looks.
    """

    def __init__(
        self, archive: Archive, clock: Clock, days: Mapping[str, int], *, interval_s: float = 600.0
    ) -> None:
        self._archive = archive
        self._clock = clock
        self._days = days
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look; a second call changes nothing."""
        if self._task is None and any(self._days.values()):
            self._task = asyncio.create_task(self._run(), name="archive-retention")

    async def stop(self) -> None:
        """Ends at once; may be called twice, or before `start`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_S)

    async def round(self) -> int:
        """Removes everything that is too old by now; how many documents.

        Raises:
            StoreUnavailable: the archive is away.
        """
        removed = 0
        for name, oldest in keeps_from(self._days, self._clock.now()).items():
            while oldest is not None and (
                some := await self._archive.purge(COLLECTIONS[name], oldest)
            ):
                removed += some
        return removed

    async def _run(self) -> None:
        while True:
            try:
                if removed := await self.round():
                    _log.info("archive_purged", documents=removed)
            except JitwayError as error:
                _log.warning("archive_not_purged", cause=str(error))
            except Exception:
                # A bug in one round must not let the archive grow for ever in silence.
                _log.exception("archive_purge_failed")
            await asyncio.sleep(self._interval_s)
