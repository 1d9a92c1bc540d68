"""The PostgreSQL that needs nothing else: found, made, started, re-attached and stopped.

Owns the life of one server process and its data directory. Refuses to speak SQL: callers get an
address and connect to it like to any other server.
"""

from jitway.embedded.binaries import Binaries, all_binaries, find_binaries
from jitway.embedded.places import default_data_dir, reachable_data_dir
from jitway.embedded.postgresql import EmbeddedPostgreSQL, LeftBehind, running_url, stop_left_behind

__all__ = [
    "Binaries",
    "EmbeddedPostgreSQL",
    "LeftBehind",
    "all_binaries",
    "default_data_dir",
    "find_binaries",
    "reachable_data_dir",
    "running_url",
    "stop_left_behind",
]
