"""Counts what the driver reports about its pools and commands. Knows no driver, asks no server.

The methods bear the names of the driver's listeners; every event is only counted or noted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

WRITE_COMMANDS = frozenset({"insert", "update", "delete", "aggregate"})
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class SentWrites:
    """Whether an attempt's write left for the server: if not, repeating it is always safe."""

    @contextmanager
    def noted_in(self, sent: list[str]) -> Iterator[None]:
        """Notes the writes that this task sends meanwhile; the list is emptied first."""
        sent.clear()
        token = _notes.set(sent)
        try:
            yield
        finally:
            _notes.reset(token)

    def started(self, event: Any) -> None:
        """A command is about to be sent."""
        sent = _notes.get()
        if sent is not None and event.command_name in WRITE_COMMANDS:
            sent.append(event.command_name)

    def succeeded(self, event: object) -> None:
        """Its caller learns by itself."""

    def failed(self, event: object) -> None:
        """Its caller learns by itself."""


class PoolTally:
    """What happened to connections since the adapter was made, over all servers."""

    def __init__(self) -> None:
        self.created = 0
        self.closed = 0
        self._opening: set[tuple[object, int]] = set()
        self.checkouts_started = 0
        self.checked_out = 0
        self.checked_in = 0
        self.checkouts_failed = 0
        self.cleared = 0
        self.retries = 0

    @property
    def opening(self) -> int:
        """Connections that are being opened."""
        return len(self._opening)

    def stats(self, size_min: int, size_max: int) -> dict[str, int]:
        """The figures of `get_connection_stats`."""
        total = self.created - self.closed
        in_use = self.checked_out - self.checked_in
        return {
            "total_connections": total,
            "in_use_connections": in_use,
            "idle_connections": max(total - in_use - self.opening, 0),
            "opening_connections": self.opening,
            "waiting_requests": self.checkouts_started - self.checked_out - self.checkouts_failed,
            "connections_min": size_min,
            "connections_max": size_max,
            "connections_created": self.created,
            "connections_closed": self.closed,
            "checkouts": self.checked_out,
            "checkout_failures": self.checkouts_failed,
            "pools_cleared": self.cleared,
            "retries": self.retries,
        }

    def count_retry(self) -> None:
        """One more attempt after a connection failure."""
        self.retries += 1

    def pool_created(self, event: object) -> None:
        """A server was discovered."""

    def pool_ready(self, event: object) -> None:
        """A server answers."""

    def pool_cleared(self, event: object) -> None:
        """A server failed: its connections are given up."""
        self.cleared += 1

    def pool_closed(self, event: object) -> None:
        """A server left, or the adapter was closed."""

    def connection_created(self, event: Any) -> None:
        """A connection is being opened."""
        self.created += 1
        self._opening.add(_identity(event))

    def connection_ready(self, event: Any) -> None:
        """The handshake is done."""
        self._opening.discard(_identity(event))

    def connection_closed(self, event: Any) -> None:
        """A connection is gone."""
        self.closed += 1
        self._opening.discard(_identity(event))

    def connection_check_out_started(self, event: object) -> None:
        """An operation wants a connection."""
        self.checkouts_started += 1

    def connection_check_out_failed(self, event: object) -> None:
        """It got none."""
        self.checkouts_failed += 1

    def connection_checked_out(self, event: object) -> None:
        """It got one."""
        self.checked_out += 1

    def connection_checked_in(self, event: object) -> None:
        """It gave it back."""
        self.checked_in += 1


class Heartbeats:
    """How many servers are being asked how they are; asking may begin with a connect."""

    def __init__(self) -> None:
        self.under_way = 0

    def started(self, event: object) -> None:
        """A server is asked."""
        self.under_way += 1

    def succeeded(self, event: object) -> None:
        """It answered."""
        self.under_way -= 1

    def failed(self, event: object) -> None:
        """It did not."""
        self.under_way -= 1


def _identity(event: Any) -> tuple[object, int]:
    return event.address, event.connection_id
