"""Where things lie: the data directory, the cluster in it, the socket, the locks.

The data directory is the caller's and keeps its permissions. Only when the server's user cannot
enter it does the cluster lie elsewhere, and then a link in the data directory says where: who
removes the data directory has removed the ledger.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

from jitway.embedded.server_user import ServerUser, choose_server_user
from jitway.errors import EmbeddedServerError

SYSTEM_STATE_DIR = Path("/var/lib/jitway")
CLUSTER_NAME = "postgresql"
# sun_path holds 107 bytes and a terminator; the server appends its file name to the directory.
SOCKET_DIR_BYTES_MAX = 107 - len("/.s.PGSQL.5432")


def default_data_dir(home: Path, xdg_data_home: str | None = None) -> Path:
    """Where the data lies when nobody says: `$XDG_DATA_HOME/jitway` or `~/.local/share/jitway`.

    Args:
        home: the user's home directory.
        xdg_data_home: the variable of that name; a relative path is ignored, as its standard asks.
    """
    if xdg_data_home and Path(xdg_data_home).is_absolute():
        return Path(xdg_data_home) / "jitway"
    return home / ".local" / "share" / "jitway"


def reachable_data_dir(
    wanted: Path, fallback_name: str, *, state_dir: Path = SYSTEM_STATE_DIR
) -> Path:
    """The wanted directory, or one under the state directory if the server's user cannot enter it.

    Args:
        wanted: where the caller would like its data; it need not exist.
        fallback_name: what the other directory's name begins with; a digest of `wanted` follows,
            so that two checkouts never share one.
        state_dir: where root keeps what the server's user must reach.

    Raises:
        EmbeddedServerError: root finds no ordinary user to run the server as.
    """
    user = choose_server_user(None)
    if not user.is_another:
        return wanted
    parent = wanted.absolute()
    while not parent.exists():
        parent = parent.parent
    if user.can_enter(parent):
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted.absolute())).hexdigest()[:8]
    return state_dir / f"{fallback_name}-{digest}"


def make_data_dir(data_dir: Path) -> None:
    """Make the directory if it is missing; one that exists keeps its permissions.

    Raises:
        EmbeddedServerError: it cannot be made or written to.
    """
    try:
        _make_dirs(data_dir)
        if not os.access(data_dir, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise explained(error, data_dir) from error


def find_cluster(data_dir: Path) -> Path | None:
    """The server's own directory, links followed, or None when none was made yet.

    Raises:
        EmbeddedServerError: what is there cannot be looked at.
    """
    try:
        cluster = (data_dir / CLUSTER_NAME).resolve()
        # Only a finished cluster has the name, so its presence is enough.
        return cluster if stat.S_ISDIR(cluster.stat().st_mode) else None
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        raise EmbeddedServerError(
            f"{data_dir / CLUSTER_NAME} cannot be looked at ({error}): start jitway as the user "
            "who made it, or choose another JITWAY_DATA_DIR"
        ) from error


def place_cluster(data_dir: Path, user: ServerUser, state_dir: Path) -> Path:
    """Where a new cluster will lie: in the data directory, or beyond a link left there.

    Raises:
        EmbeddedServerError: the place cannot be made.
    """
    entry = data_dir / CLUSTER_NAME
    try:
        if entry.is_symlink():
            target = entry.resolve()
            _make_dirs(target.parent)
            return target
        if user.can_enter(data_dir):
            return entry.resolve()
        target = state_dir / f"{data_dir.name}-{secrets.token_hex(4)}" / CLUSTER_NAME
        _make_dirs(target.parent)
        entry.symlink_to(target)
    except OSError as error:
        raise explained(error, entry) from error
    if not user.can_enter(target.parent):
        raise EmbeddedServerError(
            f"user {user.name}, as whom PostgreSQL runs, can enter neither {data_dir} nor "
            f"{target.parent}: choose another JITWAY_DATA_DIR, or set DATABASE_URL"
        )
    return target


def make_socket_dir(cluster: Path, user: ServerUser) -> Path:
    """Where the server listens: its own directory, or a short private one if that is too long.

    Both are the server user's alone (0700), which is the lock on the door: the server trusts who
    can open its socket. A password would add nothing, since that user owns the files anyway.

    Raises:
        EmbeddedServerError: somebody else's directory is in the way.
    """
    path = os.fsencode(cluster)
    if len(path) <= SOCKET_DIR_BYTES_MAX and b"\n" not in path:
        return cluster
    short = Path("/tmp") / f"jitway-{hashlib.sha256(path).hexdigest()[:16]}"  # noqa: S108 verified
    try:
        short.mkdir(mode=0o700)
        os.chown(short, user.uid, user.gid, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError as error:
        raise explained(error, short) from error
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user.uid or found.st_mode & 0o077:
        raise EmbeddedServerError(
            f"{short} is in the way of the server's socket and not a private directory of user "
            f"{user.name}: remove it, or choose a shorter JITWAY_DATA_DIR than {cluster.parent}"
        )
    return short


def remove_socket_dir(cluster: Path, socket_dir: Path) -> None:
    """Remove the short directory of a server that has ended; one with anything in it stays."""
    if socket_dir != cluster:
        with contextlib.suppress(OSError):
            socket_dir.rmdir()


def open_private(path: Path, flags: int) -> int:
    """Open or create a file 0600 that belongs to the owner of its directory; returns its number.

    Raises:
        EmbeddedServerError: it cannot be opened.
    """
    try:
        number = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:
            # Root may look after another user's data directory, who must still be able to start.
            owner = path.parent.stat()
            os.fchown(number, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise explained(error, path) from error
    return number


def explained(error: OSError, path: Path) -> EmbeddedServerError:
    """The failure with one sentence that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free at least 300 MB there, or choose another JITWAY_DATA_DIR"
    elif error.errno == errno.EROFS:
        advice = "it is on a read-only file system, choose another JITWAY_DATA_DIR"
    else:
        advice = "choose a JITWAY_DATA_DIR that this user may write to, or set DATABASE_URL"
    return EmbeddedServerError(f"{path} cannot be used ({error.strerror}): {advice}")


def _make_dirs(directory: Path) -> None:
    missing = []
    at = directory
    while not at.exists():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        # What root makes, the server's user must be able to pass through, whatever the umask.
        path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
