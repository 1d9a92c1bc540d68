"""Installs servers from the system's packages, where that is allowed: root on Debian or Ubuntu."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import PATH, ServerMissing

INSTALL_TIMEOUT_S = 600.0
POLICY = Path("/usr/sbin/policy-rc.d")


def can_install() -> bool:
    """Whether we may."""
    return os.geteuid() == 0 and shutil.which("apt-get", path=PATH) is not None


def install(packages: Sequence[str]) -> None:
    """Install packages; the services that come with them are not started.

    Raises:
        ServerMissing: they cannot be installed; the text has what was said.
    """
    print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
    command = ["install", "-y", "-qq", "--no-install-recommends", *packages]
    with _no_services_started():
        # A fresh machine has no list of packages yet, an old one an old list.
        if _apt_get(command) is None:
            return
        _apt_get(["update", "-qq"])
        if failure := _apt_get(command):
            raise ServerMissing(f"{' '.join(packages)} could not be installed: {failure}")


def _apt_get(arguments: Sequence[str]) -> str | None:
    """Run apt-get; what it said when it failed, or None."""
    environment = {"PATH": PATH, "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    proxies = {
        name: value for name, value in os.environ.items() if name.endswith(("_proxy", "_PROXY"))
    }
    try:
        ended = subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            env=environment | proxies,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get took more than {INSTALL_TIMEOUT_S:g} s"
    return None if ended.returncode == 0 else (ended.stdout + ended.stderr)[-2000:]


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts what it installs, unless this file says no. One that exists is left alone."""
    try:
        with POLICY.open("x") as policy:
            policy.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
