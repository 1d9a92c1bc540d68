"""Copies of the embedded server's data: taken while it serves, put back into an empty place.

A backup is a directory in PostgreSQL's own form (`base.tar`, `pg_wal.tar`, `backup_manifest`), made
by `pg_basebackup` and checked by `pg_verifybackup`, so that PostgreSQL's own tools can read it too.
It has a name only when it is whole. Refuses to overwrite anything, and to know what the data means.
"""

import asyncio
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from jitway.embedded.binaries import Binaries, find_binaries
from jitway.embedded.cluster import cluster_major, server_failure
from jitway.embedded.command import run_command
from jitway.embedded.locks import start_lock
from jitway.embedded.places import (
    SYSTEM_STATE_DIR,
    explained,
    find_cluster,
    make_data_dir,
    place_cluster,
)
from jitway.embedded.postgresql import EmbeddedPostgreSQL
from jitway.embedded.postmaster import find_postmaster
from jitway.embedded.server_user import ServerUser, choose_server_user, user_name
from jitway.errors import EmbeddedServerError

BASE, WAL, MANIFEST = "base.tar", "pg_wal.tar", "backup_manifest"
PARTS = (BASE, WAL, MANIFEST)
# A backup or its check reads everything once; nothing waits for it.
COPY_TIMEOUT_S = 12 * 3600.0
LOOK_S = 0.5

Progress = Callable[[int], None]

# Releases of Python before 3.11.4 have no filter; what it refuses is refused by us as well.
_FILTERED: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


async def write_backup(data_dir: Path, target: Path, *, on_progress: Progress | None = None) -> int:
    """Copies the data as it is at one instant, while others go on using it.

    Args:
        data_dir: of the embedded server, which is started if it does not run.
        target: the directory to make; must not exist.
        on_progress: told how many bytes are there, now and then.

    Returns:
        The bytes of the backup.

    Raises:
        EmbeddedServerError: there is no data, something is in the way, or the copy failed; nothing
            of it is left then.
    """
    if find_cluster(data_dir) is None:
        raise EmbeddedServerError(f"there is no ledger in {data_dir}: `jitway init` makes one")
    fresh = _make_beside(target)
    try:
        async with EmbeddedPostgreSQL(data_dir):
            await _copy(data_dir, fresh, on_progress)
        await asyncio.to_thread(_sync_all, fresh)
        fresh.rename(target)
    except OSError as error:
        raise explained(error, target) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return _size(target)


async def put_back(backup: Path, data_dir: Path, *, state_dir: Path = SYSTEM_STATE_DIR) -> None:
    """Makes the data of a backup the data of an empty directory; no server is started.

    Args:
        backup: what `write_backup` made.
        data_dir: has no ledger yet.
        state_dir: where root keeps what the server's user must reach.

    Raises:
        EmbeddedServerError: it is no backup, it is damaged, or a ledger is there already; nothing
            was changed then.
    """
    missing = [part for part in PARTS if not (backup / part).is_file()]
    if missing:
        raise EmbeddedServerError(f"{backup} is no backup of jitway: it lacks {', '.join(missing)}")
    make_data_dir(data_dir)
    async with start_lock(data_dir) as lock:
        if find_cluster(data_dir) is not None:
            raise EmbeddedServerError(
                f"there is a ledger in {data_dir} already: move it away, or choose another "
                "JITWAY_DATA_DIR"
            )
        user = choose_server_user(None)
        cluster = place_cluster(data_dir, user, state_dir)
        fresh = cluster.with_name(f"{cluster.name}.new-{secrets.token_hex(4)}")
        try:
            await asyncio.to_thread(_extract, backup, fresh, user)
            binaries = find_binaries(cluster_major(fresh))
            binaries = await asyncio.to_thread(binaries.reachable_by, user, state_dir)
            await _check(fresh, binaries, user, lock)
            fresh.rename(cluster)
        except OSError as error:
            raise explained(error, cluster) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


async def _copy(data_dir: Path, fresh: Path, on_progress: Progress | None) -> None:
    cluster = find_cluster(data_dir)
    postmaster = find_postmaster(cluster) if cluster is not None else None
    assert cluster is not None
    if postmaster is None:
        raise EmbeddedServerError(f"PostgreSQL on {data_dir} ended: start again")
    binaries = find_binaries(cluster_major(cluster))
    # A client of the server, so it runs as whoever will own the copy.
    ourselves = ServerUser(os.geteuid(), os.getegid(), user_name(os.geteuid()))
    looking = asyncio.create_task(_look(fresh, on_progress)) if on_progress is not None else None
    try:
        code, said = await run_command(
            (
                binaries.bin_dir / "pg_basebackup",
                f"--host={postmaster.socket_dir}",
                f"--port={postmaster.port}",
                "--username=jitway",
                "--no-password",
                f"--pgdata={fresh}",
                "--format=tar",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--manifest-checksums=SHA256",
            ),
            ourselves,
            timeout_s=COPY_TIMEOUT_S,
        )
    finally:
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
    if code != 0:
        raise server_failure("PostgreSQL could not be copied", said, fresh.parent)


async def _look(fresh: Path, on_progress: Progress) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        on_progress(_size(fresh))


def _size(directory: Path) -> int:
    return sum(part.stat().st_size for part in directory.iterdir())


def _make_beside(target: Path) -> Path:
    """A new directory that becomes the target when everything is in it."""
    target = target.absolute()
    if target.exists():
        raise EmbeddedServerError(f"{target} is there already: name a directory that is not")
    fresh = target.with_name(f".{target.name}.new-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(mode=0o700)
    except OSError as error:
        raise explained(error, target) from error
    return fresh


def _extract(backup: Path, fresh: Path, user: ServerUser) -> None:
    fresh.mkdir(mode=0o700)
    for part, place in ((BASE, fresh), (WAL, fresh / "pg_wal")):
        try:
            with tarfile.open(backup / part) as archive:
                _refuse_strange(archive)
                archive.extractall(place, **_FILTERED)  # noqa: S202 members were looked at
        except (tarfile.TarError, EOFError) as error:
            raise EmbeddedServerError(f"{backup / part} is damaged ({error})") from error
    shutil.copyfile(backup / MANIFEST, fresh / MANIFEST)
    for directory, _, names in os.walk(fresh):
        _give(Path(directory), user, 0o700)
        for name in names:
            _give(Path(directory) / name, user, 0o600)


def _refuse_strange(archive: tarfile.TarFile) -> None:
    """Whoever made the file decides on contents, never on places."""
    for member in archive:
        parts = PurePosixPath(member.name).parts
        if member.name.startswith("/") or ".." in parts or not (member.isfile() or member.isdir()):
            raise tarfile.TarError(f"{member.name[:100]!r} has no place in a backup")


def _give(path: Path, user: ServerUser, mode: int) -> None:
    path.chmod(mode)
    if user.is_another:
        os.chown(path, user.uid, user.gid)


async def _check(fresh: Path, binaries: Binaries, user: ServerUser, lock: int) -> None:
    """Every file against the manifest, and the log of changes for completeness."""
    code, said = await run_command(
        (binaries.bin_dir / "pg_verifybackup", "--exit-on-error", fresh),
        user,
        timeout_s=COPY_TIMEOUT_S,
        lock_fd=lock,
    )
    if code != 0:
        cause = said.strip().splitlines()[0] if said.strip() else "it said nothing"
        raise EmbeddedServerError(f"the backup is damaged ({cause}): use another one")


def _sync_all(directory: Path) -> None:
    for path in (*directory.iterdir(), directory, directory.parent):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
