"""Runs one short command of the server's tool set to its end, bounded and cancellable.

Refuses shells and inherited environments: a stray `PGDATA` or locale must not steer the server.
"""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jitway.embedded.server_user import ServerUser
from jitway.errors import EmbeddedServerError

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
POLL_S = 0.01


async def run_command(
    command: Sequence[str | Path],
    user: ServerUser,
    *,
    timeout_s: float,
    text_in: str = "",
    lock_fd: int | None = None,
) -> tuple[int, str]:
    """Run a command as the server's user; returns its exit code and everything it said.

    Args:
        command: program and arguments; no shell reads them.
        user: whom it runs as.
        timeout_s: seconds after which it is killed.
        text_in: what it reads on standard input.
        lock_fd: a lock it holds too, so that the lock outlives us if we are killed meanwhile.

    Raises:
        EmbeddedServerError: it cannot be run, or did not end in time.
    """
    deadline = time.monotonic() + timeout_s
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as given:
        given.write(text_in.encode())
        given.seek(0)
        try:
            # Not asyncio's: uvloop's cannot change the user of a child.
            child = subprocess.Popen(  # noqa: ASYNC220 returns after the fork
                [str(part) for part in command],
                stdin=given,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                umask=0o077,
                pass_fds=() if lock_fd is None else (lock_fd,),
                **user.options(),
            )
        except OSError as error:
            raise EmbeddedServerError(
                f"{command[0]} cannot be run as user {user.name} ({error.strerror}): "
                "set DATABASE_URL, or start jitway as an ordinary user"
            ) from error
        try:
            while child.poll() is None:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"{Path(command[0]).name} did not end within {timeout_s:.0f} s: "
                        "the machine or its disk is too busy, try again"
                    )
                await asyncio.sleep(POLL_S)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        said.seek(0)
        return child.returncode, said.read().decode(errors="replace")
