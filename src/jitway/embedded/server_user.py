"""Whom the server runs as, and what that user can reach.

PostgreSQL refuses to run as root, so root hands it to `postgres` or `nobody`. Nobody's permissions
are ever widened: what that user cannot reach is copied or placed elsewhere.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from jitway.errors import EmbeddedServerError

REACH_TIMEOUT_S = 10


class UserOptions(TypedDict, total=False):
    """The arguments of `subprocess` that change the user of a child."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class ServerUser:
    """The user who owns the cluster and runs the server."""

    uid: int
    gid: int
    name: str

    @property
    def is_another(self) -> bool:
        """Whether the server runs as somebody else than we do."""
        return self.uid != os.geteuid()

    def options(self) -> UserOptions:
        """What to pass to `subprocess` so that a child runs as this user and nothing more."""
        if not self.is_another:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_run(self, *command: str | Path) -> bool:
        """Whether this user can run the command and it ends well; the only test that counts."""
        try:
            ended = subprocess.run(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                timeout=REACH_TIMEOUT_S,
                check=False,
                **self.options(),
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return ended.returncode == 0

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can enter the directory, which must exist."""
        if not self.is_another:
            return os.access(directory, os.X_OK)
        return self.can_run("/bin/sh", "-c", 'cd -- "$1"', "sh", directory)


def choose_server_user(cluster: Path | None) -> ServerUser:
    """The owner of an existing cluster; for a new one us, or when we are root an ordinary user.

    Args:
        cluster: the server's data directory, or None when it is still to be made.

    Raises:
        EmbeddedServerError: the cluster is another user's, or root finds no ordinary user.
    """
    us = os.geteuid()
    if cluster is not None:
        return _owner(cluster, us)
    if us != 0:
        return ServerUser(us, os.getegid(), user_name(us))
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return ServerUser(entry.pw_uid, entry.pw_gid, name)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor "
        "`nobody`: start jitway as an ordinary user, or set DATABASE_URL"
    )


def require_named_user(user: ServerUser) -> None:
    """Refuse a user id without a name, such as a container platform's random one.

    Raises:
        EmbeddedServerError: initdb would fail; the text says what to do.
    """
    try:
        pwd.getpwuid(user.uid)
    except KeyError:
        raise EmbeddedServerError(
            f"the user id {user.uid} has no entry in /etc/passwd, which PostgreSQL needs to make "
            "a new data directory: add an entry, run jitway as a named user, or set DATABASE_URL"
        ) from None


def user_name(uid: int) -> str:
    """The name of a user id, or its digits when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner(cluster: Path, us: int) -> ServerUser:
    found = cluster.stat()
    if us not in (0, found.st_uid):
        raise EmbeddedServerError(
            f"{cluster} belongs to user {user_name(found.st_uid)}: start jitway as that user, or "
            "choose another JITWAY_DATA_DIR"
        )
    if found.st_uid == 0:
        raise EmbeddedServerError(
            f"{cluster} belongs to root, as whom PostgreSQL does not run: give it back to the user "
            "who made it (chown -R), or choose another JITWAY_DATA_DIR"
        )
    return ServerUser(found.st_uid, found.st_gid, user_name(found.st_uid))
