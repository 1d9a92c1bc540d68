"""The server's settings: what a ledger demands, and what suits one machine.

They go on the command line, which no file and no ALTER SYSTEM outranks.
"""

import os
import re
from collections.abc import Mapping

# Nothing that was acknowledged may be lost.
DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
# Checkpoints are rare because each one makes the next write of every page a full page; the price,
# a longer recovery, is bounded by max_wal_size. Logs are bounded by the seven names of a week.
SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "track_commit_timestamp": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_checkpoints": "off",
    "unix_socket_permissions": "0700",
}
# Before this kernel `syncfs` could swallow a write that had failed.
SYNCFS_REPORTS_SINCE = (5, 8)


def server_settings(changes: Mapping[str, str] | None, *, durable: bool) -> dict[str, str]:
    """The settings of one server.

    Args:
        changes: what replaces or joins the built-in ones; durability is not theirs to change.
        durable: False turns every sync off, for tests.
    """
    durability = DURABLE if durable else NOT_DURABLE
    return {**SETTINGS, **crash_settings(os.uname().release), **(changes or {}), **durability}


def crash_settings(kernel: str) -> dict[str, str]:
    """How everything on disk is synced once before recovery: at once, where that tells of errors.

    File by file, as is the default, takes seconds on a busy disk, in which nothing is decided.

    Args:
        kernel: the release of Linux, such as `6.1.0-18-amd64`.
    """
    numbers = re.match(r"(\d+)\.(\d+)", kernel)
    recent = numbers is not None and (int(numbers[1]), int(numbers[2])) >= SYNCFS_REPORTS_SINCE
    return {"recovery_init_sync_method": "syncfs" if recent else "fsync"}
