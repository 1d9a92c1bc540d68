"""Locks and package: reproducible, complete, and the same from any index."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
DIRECT_DEPENDENCIES_MAX = 15


def requirements(lock: Path) -> dict[str, str]:
    """Name and version, each with its hashes checked."""
    found = {}
    for block in re.split(r"\n(?=[a-zA-Z0-9])", lock.read_text()):
        match = re.match(r"([a-zA-Z0-9._-]+)==(\S+)(?: ;[^\\]*)? \\\n    --hash=sha256:", block)
        assert match, f"{lock.name}: not pinned with a hash: {block.splitlines()[0]}"
        found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_index(lock: Path) -> None:
    assert "://" not in lock.read_text()
    assert "--index" not in lock.read_text()
    assert requirements(lock)


def test_tests_run_on_what_is_shipped() -> None:
    runtime = requirements(ROOT / "requirements" / "runtime.txt")
    tested = requirements(ROOT / "requirements" / "dev.txt")
    assert runtime.items() <= tested.items()


def test_every_direct_dependency_is_locked_and_they_are_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [one for extra in project["optional-dependencies"].values() for one in extra]
    runtime = requirements(ROOT / "requirements" / "runtime.txt")
    for dependency in [*project["dependencies"], *optional]:
        bare = re.match(r"[a-zA-Z0-9._-]+", dependency)
        assert bare is not None
        assert bare[0] in runtime
    assert len(project["dependencies"]) <= DIRECT_DEPENDENCIES_MAX


def test_scripts_can_be_run_and_say_what_they_do() -> None:
    for script in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        if script.is_file():
            assert os.access(script, os.X_OK), script.name
            lines = script.read_text().splitlines()
            assert lines[0].startswith("#!"), script.name
            assert lines[1].startswith(("# ", '"""')), script.name
