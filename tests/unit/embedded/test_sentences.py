"""Paths by default, and failures of the embedded PostgreSQL as one sentence."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from jitway.embedded import default_data_dir
from jitway.embedded.cluster import server_failure
from jitway.embedded.places import explained
from jitway.embedded.server_settings import crash_settings, server_settings
from jitway.embedded.server_user import ServerUser, require_named_user
from jitway.errors import EmbeddedServerError

HOME = Path("/home/ada")


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [
        (None, "/home/ada/.local/share/jitway"),
        ("", "/home/ada/.local/share/jitway"),
        ("relative/path", "/home/ada/.local/share/jitway"),
        ("/data/ada", "/data/ada/jitway"),
    ],
)
def test_data_lies_in_the_users_data_directory(xdg: str | None, expected: str) -> None:
    assert default_data_dir(HOME, xdg) == Path(expected)


def test_a_user_without_a_name_is_told_what_to_add() -> None:
    with pytest.raises(EmbeddedServerError, match=r"1000650000.*/etc/passwd.*DATABASE_URL"):
        require_named_user(ServerUser(1000650000, 0, "1000650000"))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free at least"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may write"),
    ],
)
def test_a_file_system_that_refuses_is_explained(number: int, advice: str) -> None:
    said = str(explained(OSError(number, os.strerror(number)), Path("/data/ada")))
    assert said.startswith("/data/ada cannot be used")
    assert advice in said


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('FATAL:  could not write file "x": No space left on device', "free at least"),
        ("initdb: error: could not create directory: Read-only file system", "can be written to"),
        ("FATAL:  x: No space left on device\nPANIC:  cannot abort", "(FATAL:  x: No space"),
        ("LOG: a\nFATAL:  could not map shared memory\nHINT: less", "(FATAL:  could not map"),
        ("", "it said nothing"),
    ],
)
def test_what_the_server_said_last_is_quoted_with_advice(said: str, advice: str) -> None:
    assert advice in str(server_failure("PostgreSQL did not start", said, Path("/no/such/place")))


def test_a_full_disk_is_named_even_when_the_server_could_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr("jitway.embedded.cluster.shutil.disk_usage", lambda _: full)
    said = str(server_failure("PostgreSQL did not start", "LOG:  shut down", tmp_path))
    assert f"free at least 300 MB where {tmp_path} lies" in said


def test_durability_is_not_a_setting_to_change() -> None:
    settings = server_settings({"fsync": "off", "shared_buffers": "1GB"}, durable=True)
    assert (settings["fsync"], settings["shared_buffers"]) == ("on", "1GB")
    assert server_settings(None, durable=False)["fsync"] == "off"


@pytest.mark.parametrize(
    ("kernel", "method"),
    [
        ("6.1.0-18-amd64", "syncfs"),
        ("5.8.0", "syncfs"),
        ("10.0", "syncfs"),
        ("5.4.0-150-generic", "fsync"),
        ("4.19", "fsync"),
        ("something else", "fsync"),
    ],
)
def test_disks_are_synced_at_once_only_where_the_kernel_tells_of_errors(
    kernel: str, method: str
) -> None:
    assert crash_settings(kernel) == {"recovery_init_sync_method": method}
