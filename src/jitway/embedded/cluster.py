"""Makes the server's data directory, whole or not at all, and says which major made it.

A cluster is initialised under another name and renamed when it is complete, its database inside:
an interrupted initdb leaves nothing that looks like a cluster.
"""

import os
import secrets
import shutil
from pathlib import Path

from jitway.embedded.binaries import Binaries
from jitway.embedded.command import run_command
from jitway.embedded.places import explained
from jitway.embedded.server_user import ServerUser, require_named_user
from jitway.errors import EmbeddedServerError

DATABASE = "jitway"
SUPERUSER = "jitway"
INITDB_TIMEOUT_S = 180.0
# PostgreSQL 17 brought a C.UTF-8 of its own, which no update of the system's libc can change.
BUILTIN_LOCALE_MAJOR = 17
DISK_FREE_BYTES_MIN = 32 * 1024 * 1024
KNOWN_CAUSES = {
    "Permission denied": "{} must be writable by the user PostgreSQL runs as",
    "Read-only file system": "{} must be on a file system that can be written to",
    "Disk quota exceeded": "free at least 300 MB where {} lies",
    "No space left on device": "free at least 300 MB where {} lies",
}


async def make_cluster(
    cluster: Path, binaries: Binaries, user: ServerUser, *, durable: bool, lock_fd: int
) -> None:
    """Initialise a cluster with the database `jitway` in it.

    Args:
        cluster: where it will lie; must not exist, its parent must.
        binaries: reachable by the user.
        user: who will own it.
        durable: False skips the syncs of initdb; for tests.
        lock_fd: the start lock, which initdb holds too should we be killed.

    Raises:
        EmbeddedServerError: it cannot be made; nothing of it is left.
    """
    require_named_user(user)
    _sweep(cluster)
    fresh = cluster.with_name(f"{cluster.name}.new-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(mode=0o700)
        if user.is_another:
            os.chown(fresh, user.uid, user.gid)
        await _initialise(fresh, binaries, user, durable=durable, lock_fd=lock_fd)
        fresh.rename(cluster)
        _sync_directory(cluster.parent)
    except OSError as error:
        raise explained(error, cluster) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def cluster_major(cluster: Path) -> int:
    """The major version of PostgreSQL that made the cluster.

    Raises:
        EmbeddedServerError: the directory is no cluster.
    """
    try:
        return int((cluster / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise EmbeddedServerError(
            f"{cluster} holds no PostgreSQL data that can be read: restore it from a backup, or "
            "move it away and `jitway init`"
        ) from error


async def _initialise(
    fresh: Path, binaries: Binaries, user: ServerUser, *, durable: bool, lock_fd: int
) -> None:
    if binaries.major >= BUILTIN_LOCALE_MAJOR:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        # Bytes in order, whatever the system's libc thinks; UTF-8 by the encoding below.
        locale = ["--locale=C"]
    code, said = await run_command(
        (
            binaries.bin_dir / "initdb",
            f"--pgdata={fresh}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            *locale,
            "--auth-local=trust",
            "--auth-host=reject",
            "--data-checksums",
            "--no-instructions",
            *(() if durable else ("--no-sync",)),
        ),
        user,
        timeout_s=INITDB_TIMEOUT_S,
        lock_fd=lock_fd,
    )
    if code != 0:
        raise server_failure("PostgreSQL could not make its data directory", said, fresh.parent)
    code, said = await run_command(
        (binaries.bin_dir / "postgres", "--single", "-D", fresh, "-c", "exit_on_error=on")
        + (() if durable else ("-F",))
        + ("postgres",),
        user,
        timeout_s=INITDB_TIMEOUT_S,
        text_in=f"CREATE DATABASE {DATABASE}\n",
        lock_fd=lock_fd,
    )
    if code != 0:
        raise server_failure("PostgreSQL could not make its database", said, fresh.parent)


def server_failure(what: str, said: str, place: Path) -> EmbeddedServerError:
    """What failed, PostgreSQL's own words for it, and what to do.

    Args:
        what: the failure in jitway's words.
        said: everything the server said; its last complaint is quoted.
        place: the directory it worked in.
    """
    complaints = [
        line.strip()
        for line in said.splitlines()
        if any(mark in line for mark in ("FATAL:", "PANIC:", "ERROR:", "error:"))
    ]
    quoted = complaints[-1] if complaints else said.strip().rpartition("\n")[2].strip()
    advice = "mend what it names and start again, or set DATABASE_URL"
    for cause, known_advice in KNOWN_CAUSES.items():
        # The cause comes first, what it brought down comes last.
        if named := [line for line in complaints if cause in line]:
            quoted, advice = named[0], known_advice
    if _is_full(place):
        # On a full disk the server cannot even write down what it complains about.
        advice = KNOWN_CAUSES["No space left on device"]
    return EmbeddedServerError(f"{what} ({quoted or 'it said nothing'}): {advice.format(place)}")


def _is_full(place: Path) -> bool:
    try:
        return shutil.disk_usage(place).free < DISK_FREE_BYTES_MIN
    except OSError:
        return False


def _sweep(cluster: Path) -> None:
    """Remove what an interrupted initdb left; the start lock is held, so nobody is at it."""
    for left in cluster.parent.glob(f"{cluster.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)


def _sync_directory(directory: Path) -> None:
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
