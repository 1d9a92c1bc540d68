"""One connection to PostgreSQL and the three ways it is lent.

Owns what happens on an open connection: the limit of each answer, BEGIN, COMMIT and its three
outcomes. Does not connect, does not pool and does not know the driver: it is handed a connection
and a translator of that driver's failures.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from jitway.adapters.postgresql.failure import commit_was_refused
from jitway.adapters.postgresql.statistics import Statistics
from jitway.errors import (
    JitwayError,
    LedgerUnavailable,
    OutcomeUnknown,
    QueryTimeout,
    StatementRefused,
)

GRACE_MS = 500
"""How long past its own limit the server may be silent before its connection is closed."""

Answer = TypeVar("Answer")


class Row(Protocol):
    """One row: `row["name"]`, `row[0]`, `tuple(row)`, `dict(row)`."""

    def __getitem__(self, key: Any, /) -> Any: ...
    def __iter__(self) -> Any: ...
    def __len__(self) -> int: ...
    def keys(self) -> Any:
        """The names of the columns, in order."""


class Translate(Protocol):
    """Says a failure of the driver in our words."""

    def __call__(self, error: Exception, *, closed: bool) -> Exception:
        """The failure to raise instead; what is not the driver's comes back as it is."""


class Link:
    """A connection on which each statement is bounded, timed, and fails in our words."""

    __slots__ = ("_connection", "_silent_ms", "_statistics", "_translate", "_warnings")

    def __init__(self, connection: Any, *, translate: Translate, statistics: Statistics) -> None:
        self._connection = connection
        self._translate = translate
        self._statistics = statistics
        self._silent_ms = 0
        self._warnings: list[str] = []

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, by us or by the server."""
        return bool(self._connection.is_closed())

    @property
    def silent(self) -> bool:
        """Whether it was closed here because the server said nothing in time."""
        return self._silent_ms > 0

    @property
    def backend_pid(self) -> int:
        """The process id of its server process."""
        return int(self._connection.get_server_pid())

    async def fetch(self, sql: str, params: Sequence[object], *, limit_ms: int) -> list[Any]:
        """Run one statement, prepared once per connection, and read all its rows."""
        started_ns = time.perf_counter_ns()
        try:
            return await self.answer(limit_ms, self._connection.fetch, sql, *params)
        finally:
            self._statistics.observe_query(sql, time.perf_counter_ns() - started_ns)

    async def execute(self, sql: str, params: Sequence[object], *, limit_ms: int) -> str:
        """Run one statement, or a script when there are no parameters; the command tag."""
        started_ns = time.perf_counter_ns()
        try:
            return await self.answer(limit_ms, self._connection.execute, sql, *params)
        finally:
            self._statistics.observe_query(sql, time.perf_counter_ns() - started_ns)

    async def begin(self, sql: str, *, limit_ms: int) -> None:
        """Open a transaction; not counted as a query.

        Raises:
            LedgerUnavailable: no transaction can be had here.
        """
        try:
            await self.answer(limit_ms, self._connection.execute, sql)
        except StatementRefused as refused:
            raise LedgerUnavailable(
                f"PostgreSQL opens no such transaction ({refused}); point DATABASE_URL at a "
                "writable primary"
            ) from None

    async def commit(self, *, limit_ms: int) -> None:
        """Commit, or say which it was: refused for certain, or unknown.

        Raises:
            OutcomeUnknown: it may stand or not; the connection is closed.
            StatementRefused, TransactionConflict, LedgerUnavailable: for certain, nothing stands.
        """
        if self.closed:
            raise LedgerUnavailable("the connection was lost before COMMIT; nothing stands")
        self._warnings.clear()
        self._connection.add_log_listener(self._note_warning)
        try:
            tag = await self._answer_to_commit(limit_ms)
        finally:
            self._connection.remove_log_listener(self._note_warning)
        if tag == "ROLLBACK":
            raise StatementRefused(
                "the transaction was rolled back: a statement in it had failed", "25P02"
            )
        if tag != "COMMIT" or self._warnings:
            # A standby did not confirm: after a failover the commit could be gone.
            self.terminate()
            raise OutcomeUnknown(f"COMMIT was answered {tag}: {'; '.join(self._warnings)}")

    async def rollback(self, *, limit_ms: int) -> None:
        """End the transaction; a connection that cannot say so is closed, which ends it too."""
        try:
            await self.answer(limit_ms, self._connection.execute, "ROLLBACK")
        except JitwayError:
            self.terminate()

    async def reset(self, *, limit_ms: int) -> None:
        """Forget the session: settings, advisory locks, cursors, LISTEN, an open transaction."""
        await self.answer(limit_ms, self._connection.reset)

    def terminate(self) -> None:
        """Close the socket at once; the server is not asked to cancel what runs."""
        self._connection.terminate()

    async def answer(
        self, limit_ms: int, ask: Callable[..., Awaitable[Answer]], *arguments: object
    ) -> Answer:
        """Await one answer of the server, in time and translated; a cancel closes the connection.

        Args:
            limit_ms: the limit the server itself keeps; here it gets `GRACE_MS` more.
            ask: the driver's method.
            arguments: what it is called with.
        """
        guard = self._close_after(limit_ms + GRACE_MS)
        try:
            return await ask(*arguments)
        except asyncio.CancelledError:
            # At once: the driver's own task for a cancel request has not begun, and never will.
            self.terminate()
            raise
        except Exception as error:
            raise self._in_our_words(error) from None
        finally:
            guard.cancel()

    async def _answer_to_commit(self, limit_ms: int) -> str:
        """The command tag that answers COMMIT."""
        guard = self._close_after(limit_ms + GRACE_MS)
        try:
            return str(await self._connection.execute("COMMIT"))
        except asyncio.CancelledError:
            self.terminate()
            raise
        except Exception as error:
            cause = self._in_our_words(error)
            state = getattr(error, "sqlstate", None) or ""
            if commit_was_refused(state, severity(error)):
                raise cause from None
            self.terminate()
            raise OutcomeUnknown(f"COMMIT was sent and not confirmed: {cause}") from None
        finally:
            guard.cancel()

    def _close_after(self, limit_ms: int) -> asyncio.TimerHandle:
        """A timer and not a cancel: it needs no second connection, and the caller is told why."""
        return asyncio.get_running_loop().call_later(limit_ms / 1000, self._give_up, limit_ms)

    def _give_up(self, limit_ms: int) -> None:
        self._silent_ms = limit_ms
        self.terminate()

    def _in_our_words(self, error: Exception) -> Exception:
        if self.silent:
            self._statistics.timeouts += 1
            return LedgerUnavailable(
                f"PostgreSQL said nothing for {self._silent_ms} ms, and the connection was closed; "
                "a change that was under way may stand or not"
            )
        translated = self._translate(error, closed=self.closed)
        if isinstance(translated, QueryTimeout):
            self._statistics.timeouts += 1
        return translated

    def _note_warning(self, _connection: object, message: Any) -> None:
        if severity(message) == "WARNING":
            self._warnings.append(f"{message.sqlstate} {message.message}")


class DedicatedConnection:
    """A connection that belongs to one owner, outside the pool and its number.

    One statement at a time. Nothing is ever repeated here. It closes by `terminate()`, by a cancel
    while a statement runs, or when the server goes away or says nothing past its limit.
    """

    __slots__ = ("_commit_limit_ms", "_limit_ms", "_link")

    def __init__(self, link: Link, *, limit_ms: int, commit_limit_ms: int) -> None:
        self._link = link
        self._limit_ms = limit_ms
        self._commit_limit_ms = commit_limit_ms

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, by us or by the server."""
        return self._link.closed

    @property
    def backend_pid(self) -> int:
        """The process id of its server process."""
        return self._link.backend_pid

    async def begin(self) -> None:
        """Open a READ COMMITTED, READ WRITE transaction, whatever the server's defaults are.

        Raises:
            LedgerUnavailable: the server is gone, silent, or a standby.
        """
        await self._link.begin(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", limit_ms=self._limit_ms
        )

    async def fetch(self, sql: str, *params: object) -> list[Row]:
        """Run one statement and read all its rows.

        Raises:
            StatementRefused: a constraint, a bad value; the transaction can only be rolled back.
            TransactionConflict: serialization failure or deadlock; the whole may be repeated.
            LockTimeout, QueryTimeout: a limit of this connection was reached.
            LedgerUnavailable: the server is gone or silent.
        """
        return await self._link.fetch(sql, params, limit_ms=self._limit_ms)

    async def commit(self) -> None:
        """Make the transaction durable.

        Raises:
            OutcomeUnknown: it may stand or not; the connection is closed.
            StatementRefused, TransactionConflict, LedgerUnavailable: for certain, nothing stands.
        """
        await self._link.commit(limit_ms=self._commit_limit_ms)

    async def rollback(self) -> None:
        """End the transaction without a trace; never fails, but may leave `closed` true."""
        await self._link.rollback(limit_ms=self._limit_ms)

    def terminate(self) -> None:
        """Close the socket at once; an open transaction is rolled back by the server."""
        self._link.terminate()


class TransactionClient:
    """What the callback of `execute_transaction` speaks to; useless once that has returned."""

    __slots__ = ("_limit_ms", "_link")

    def __init__(self, link: Link, *, limit_ms: int) -> None:
        self._link: Link | None = link
        self._limit_ms = limit_ms

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Run one statement inside the transaction.

        Args:
            sql: one statement; parameters are $1, $2, ...
            params: their values, in order.

        Raises:
            StatementRefused, TransactionConflict, LockTimeout, QueryTimeout, LedgerUnavailable.
        """
        rows = await self._lent().fetch(sql, params, limit_ms=self._limit_ms)
        return [dict(row) for row in rows]

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement, or a script when there are no parameters; how many rows it touched."""
        tag = await self._lent().execute(sql, params, limit_ms=self._limit_ms)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    def retire(self) -> None:
        """Refuse every later call: the connection belongs to somebody else now."""
        self._link = None

    def _lent(self) -> Link:
        if self._link is None:
            raise StatementRefused("the transaction of this client is over", "25P01")
        return self._link


def severity(message: object) -> str:
    """ERROR, FATAL, WARNING ...: in English where the server says so, in its language elsewhere."""
    english = getattr(message, "severity_en", None)
    return str(english or getattr(message, "severity", "") or "")
