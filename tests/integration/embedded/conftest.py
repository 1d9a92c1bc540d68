"""A place for servers of the embedded PostgreSQL's own tests."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jitway.embedded import EmbeddedPostgreSQL, stop_left_behind
from tests.integration.embedded.users import another

# Collected only where they can say something, so that nothing is skipped.
collect_ignore = ["test_as_user.py" if os.geteuid() == 0 else "test_as_root.py"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that any user may pass through, unlike pytest's own ones."""
    path = Path(tempfile.mkdtemp(prefix="jitway-test-"))
    path.chmod(0o711)
    yield path
    # Whatever a failed test left running must not outlive it.
    asyncio.run(stop_left_behind(path / "data"))
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(place: Path) -> EmbeddedPostgreSQL:
    """A server that is not started; syncs off, since nothing here pulls the plug."""
    return another(place)
