"""Two locks in the data directory, which fall open by themselves when their holder is killed.

`start.lock` is for the one who starts or stops the server, `users.lock` is shared by everybody who
uses it. Whether others use it is only asked under the start lock.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from jitway.embedded.command import POLL_S
from jitway.embedded.places import open_private
from jitway.errors import EmbeddedServerError

START_LOCK = "start.lock"
USERS_LOCK = "users.lock"
LOCK_TIMEOUT_S = 200.0


@contextlib.asynccontextmanager
async def start_lock(data_dir: Path) -> AsyncIterator[int]:
    """Hold the start lock; yields its number, for a child that must hold it too.

    Raises:
        EmbeddedServerError: another process holds it for too long.
    """
    lock = open_private(data_dir / START_LOCK, os.O_RDWR)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    try:
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"another jitway has been starting or stopping PostgreSQL on {data_dir} for "
                    f"{LOCK_TIMEOUT_S:.0f} s: end that process, then start again"
                )
            await asyncio.sleep(POLL_S)
        yield lock
    finally:
        os.close(lock)


class UsersLock:
    """Our share in the use of the server; others see it until it is closed or we are killed.

    Raises:
        EmbeddedServerError: its file cannot be opened.
    """

    def __init__(self, data_dir: Path) -> None:
        self._number = open_private(data_dir / USERS_LOCK, os.O_RDWR)

    def is_ours_alone(self) -> bool:
        """Whether nobody else uses the server; then we hold the lock exclusively."""
        return _locked(self._number)

    def share(self) -> None:
        """Say that we use the server; nobody holds it exclusively outside the start lock."""
        fcntl.flock(self._number, fcntl.LOCK_SH)

    def close(self) -> None:
        """Use it no longer."""
        os.close(self._number)


def _locked(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
