"""The one way to PostgreSQL: a pool for everybody, dedicated connections for the group commit.

Owns the driver, every limit on it and the translation of its failures. Refuses to build queries,
to repeat anything that may have moved money, and to let one of the driver's exceptions out.

Every wait ends. The server ends a statement at its limit; when it is silent, a timer closes the
connection half a second later. A cancelled caller closes its connection too: the driver's cancel
request would be one more connection at the worst moment, and one with a half-read answer must never
serve somebody else. The server sees the closed socket within half a second and stops.

Repeated is only what never reached the server: an attempt to connect, and a transaction whose
BEGIN found its connection dead. A statement is repeated only where its caller says `repeatable`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeVar, Unpack, get_args

import asyncpg

from jitway.adapters.postgresql import failure
from jitway.adapters.postgresql.durability import check_durability
from jitway.adapters.postgresql.gate import ConnectGate, Refusal
from jitway.adapters.postgresql.link import DedicatedConnection, Link, Row, TransactionClient
from jitway.adapters.postgresql.options import PostgreSQLOptions, masked_address, read_limits
from jitway.adapters.postgresql.pool import Pool
from jitway.adapters.postgresql.statistics import Statistics
from jitway.errors import (
    LedgerUnavailable,
    PoolExhausted,
    SettingsError,
    StatementRefused,
    TransactionConflict,
)

__all__ = ["DedicatedConnection", "PostgreSQLAdapter", "Row", "TransactionClient"]

Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
Result = TypeVar("Result")

_COMMIT_TIMEOUT_MS = 10_000
_COSTLY_PLANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")


class PostgreSQLAdapter:
    """A pool of connections to one database, and dedicated connections beside it.

    Connects on first use. Give it the guide's mapping, keywords, or both; keywords win.

    Args:
        config: a mapping with `DATABASE_URL`; other keys are ignored.
        options: the keywords of `PostgreSQLOptions`: pool of 5 to 20, 30 s for a statement, 10 s
            for a free connection, 100 ms until a statement counts as slow.

    Raises:
        SettingsError: no address, or limits that contradict each other.
    """

    def __init__(
        self, config: Mapping[str, str] | None = None, **options: Unpack[PostgreSQLOptions]
    ) -> None:
        self._limits = read_limits(config, options)
        self._statistics = Statistics(slow_query_ms=self._limits.slow_query_ms)
        self.acquire_wait = self._statistics.acquire_wait
        self._gate: ConnectGate[Link] = ConnectGate()
        self._pool: Pool | None = None
        self._closed = False
        self._dedicated: set[DedicatedConnection] = set()

    @property
    def address(self) -> str:
        """The address with its password masked: fit for logs."""
        return masked_address(self._limits.database_url)

    @property
    def schema(self) -> str:
        """The first name of the search path: where the ledger lives."""
        return self._limits.schema

    async def initialize(self) -> None:
        """Open the pool now rather than on first use; also reopens a closed adapter.

        Raises:
            LedgerUnavailable: no server, or it refuses; the text says what to do.
            SettingsError: the driver cannot read the address.
        """
        self._closed = False
        await self._open_pool().fill()

    async def close(self) -> None:
        """Close everything; calls under way get five seconds. May be called twice, or first."""
        self._closed = True
        while self._dedicated:
            self._dedicated.pop().terminate()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
        # The loop closes the sockets of terminated connections on its next turn.
        await asyncio.sleep(0)

    async def execute_query(
        self, sql: str, params: Sequence[object] = (), *, repeatable: bool = False
    ) -> list[dict[str, Any]]:
        """Run one statement in a transaction of its own and read all its rows.

        Args:
            sql: one statement; parameters are $1, $2, ...
            params: their values, in order.
            repeatable: the statement may run twice without harm (it reads), so that it is sent
                once more when its connection breaks.

        Raises:
            StatementRefused: a constraint, a bad value, bad SQL.
            TransactionConflict: serialization failure or deadlock.
            LockTimeout, QueryTimeout: a limit was reached; nothing was changed.
            PoolExhausted: no connection became free in time; nothing was sent.
            LedgerUnavailable: no server, or the connection broke: a change may stand or not.
        """
        limit_ms = self._limits.query_timeout_ms
        async with self._lend() as link:
            try:
                return [dict(row) for row in await link.fetch(sql, params, limit_ms=limit_ms)]
            except LedgerUnavailable:
                if not repeatable or link.silent or not link.closed:
                    raise
        return await self.execute_query(sql, params)

    async def execute_transaction(
        self,
        callback: Callable[[TransactionClient], Awaitable[Result]],
        *,
        isolation: Isolation = "READ COMMITTED",
        read_only: bool = False,
        lock_timeout_ms: int | None = None,
        statement_timeout_ms: int | None = None,
    ) -> Result:
        """Run the callback in one transaction; its result is returned after the commit.

        Any exception of the callback, and a cancel, rolls everything back.

        Args:
            callback: gets a client with `query(sql, params)` and `execute(sql, params)`; runs once.
            isolation: of this transaction, whatever the server's default is.
            read_only: the server refuses changes.
            lock_timeout_ms: how long a statement waits for a lock; none: the statement's limit.
            statement_timeout_ms: in place of the adapter's limit.

        Raises:
            OutcomeUnknown: COMMIT was sent and not confirmed; the changes may stand or not.
            Otherwise what the callback and `execute_query` raise; then nothing stands.
        """
        assert isolation in get_args(Isolation), "it becomes part of a statement"
        limit_ms = statement_timeout_ms or self._limits.query_timeout_ms
        begin = f"BEGIN ISOLATION LEVEL {isolation} READ {'ONLY' if read_only else 'WRITE'}"
        if statement_timeout_ms is not None:
            begin += f"; SET LOCAL statement_timeout = {int(statement_timeout_ms)}"
        if lock_timeout_ms is not None:
            begin += f"; SET LOCAL lock_timeout = {int(lock_timeout_ms)}"
        async with self._lend(begin) as link:
            client = TransactionClient(link, limit_ms=limit_ms)
            try:
                result = await callback(client)
            except Exception:
                await link.rollback(limit_ms=self._limits.query_timeout_ms)
                raise
            finally:
                client.retire()
            await link.commit(limit_ms=max(limit_ms, self._limits.query_timeout_ms))
            return result

    async def dedicated(
        self,
        *,
        lock_timeout_ms: int,
        statement_timeout_ms: int,
        idle_in_transaction_timeout_ms: int,
        planner_seqscan: bool = False,
        commit_timeout_ms: int = _COMMIT_TIMEOUT_MS,
        settings: Mapping[str, str] | None = None,
    ) -> DedicatedConnection:
        """Open a connection outside the pool, also when that is exhausted; its owner ends it.

        One attempt: who needs it decides whether to try again.

        Args:
            lock_timeout_ms: how long a statement waits for one lock.
            statement_timeout_ms: the server ends a statement after this; a server that stays
                silent half a second longer loses the connection.
            idle_in_transaction_timeout_ms: the server ends a transaction that does nothing.
            planner_seqscan: leave sequential scans, hash and merge joins to the planner. Off by
                default: a key lookup prepared on an empty table would keep scanning it.
            commit_timeout_ms: how long a silent COMMIT is waited for before it is unknown.
            settings: more server settings of this connection.

        Raises:
            LedgerUnavailable: no server, or it refuses.
        """
        planner = {} if planner_seqscan else dict.fromkeys(_COSTLY_PLANS, "off")
        link = await self._connect(
            asyncio.get_running_loop().time(),
            patience_ms=0,
            server_settings={
                **self._limits.server_settings(),
                "lock_timeout": str(lock_timeout_ms),
                "statement_timeout": str(statement_timeout_ms),
                "idle_in_transaction_session_timeout": str(idle_in_transaction_timeout_ms),
                **planner,
                **(settings or {}),
            },
        )
        lent = DedicatedConnection(
            link, limit_ms=statement_timeout_ms, commit_limit_ms=commit_timeout_ms
        )
        self._dedicated = {known for known in self._dedicated if not known.closed} | {lent}
        return lent

    async def check_durability(self, *, allow_unsafe: bool = False) -> list[str]:
        """Refuse a server that could lose what it acknowledges.

        Args:
            allow_unsafe: only log and return what loses commits; for benchmarks.

        Raises:
            SettingsError: fsync, full_page_writes or synchronous_commit is off for us.
            LedgerUnavailable: no server, a standby, or a read-only database.
        """
        limit_ms = self._limits.connect_timeout_ms
        connection = await self.dedicated(
            lock_timeout_ms=limit_ms,
            statement_timeout_ms=limit_ms,
            idle_in_transaction_timeout_ms=limit_ms,
        )
        try:
            return await check_durability(
                connection, allow_unsafe=allow_unsafe, address=self.address
            )
        finally:
            connection.terminate()
            self._dedicated.discard(connection)

    async def get_pool_stats(self) -> dict[str, Any]:
        """The pool as it is now, and counters since the adapter was made; costs no statement.

        Returns:
            `total_connections`, `idle_connections` and `in_use` count the pool, at most
            `pool_size_max`; `dedicated_connections` are apart; `waiting_requests` wait for a free
            connection; `acquire_wait_ms` has count, p50, p95, p99 and max of those waits.
        """
        in_use = self._pool.lent_count if self._pool else 0
        idle = self._pool.idle_count if self._pool else 0
        return {
            "total_connections": in_use + idle,
            "idle_connections": idle,
            "in_use": in_use,
            "dedicated_connections": sum(not known.closed for known in self._dedicated),
            **self._statistics.snapshot(),
        }

    @asynccontextmanager
    async def _lend(self, begin: str | None = None) -> AsyncIterator[Link]:
        """A connection of the pool, inside a transaction if `begin` opens one."""
        pool = self._open_pool()
        link = await (self._acquire(pool) if begin is None else self._begun(pool, begin))
        try:
            yield link
        except asyncio.CancelledError:
            link.terminate()
            raise
        finally:
            await pool.release(link)

    async def _begun(self, pool: Pool, begin: str) -> Link:
        """A connection in a fresh transaction; one that had died in the pool is replaced once."""
        for may_replace in (True, False):
            link = await self._acquire(pool)
            try:
                await link.begin(begin, limit_ms=self._limits.query_timeout_ms)
            except BaseException as error:
                await pool.release(link)
                died_unseen = isinstance(error, LedgerUnavailable) and link.closed
                if not may_replace or not died_unseen or link.silent:
                    raise
            else:
                return link
        raise AssertionError("the second attempt returns or raises")

    async def _acquire(self, pool: Pool) -> Link:
        """A free connection of the pool, within the limit of waiting for one."""
        started_ns = time.perf_counter_ns()
        limit_ms = self._limits.acquire_timeout_ms
        self._statistics.waiting += 1
        try:
            async with asyncio.timeout(limit_ms / 1000):
                return await pool.acquire()
        except TimeoutError as error:
            if not pool.is_full:
                refusal = failure.no_answer(error, address=self.address, limit_ms=limit_ms)
                raise LedgerUnavailable(refusal.text) from None
            raise PoolExhausted(
                f"no PostgreSQL connection became free within {limit_ms} ms; all "
                f"{self._limits.pool_size_max} are in use"
            ) from None
        finally:
            self._statistics.waiting -= 1
            self._statistics.acquire_wait.observe(time.perf_counter_ns() - started_ns)

    def _open_pool(self) -> Pool:
        if self._closed:
            raise LedgerUnavailable("this PostgreSQLAdapter was closed")
        if self._pool is None:
            limits, settings = self._limits, self._limits.server_settings()
            self._pool = Pool(
                partial(
                    self._connect, patience_ms=limits.connect_patience_ms, server_settings=settings
                ),
                size_min=limits.pool_size_min,
                size_max=limits.pool_size_max,
                statistics=self._statistics,
            )
        return self._pool

    async def _connect(
        self, since: float, *, patience_ms: int, server_settings: dict[str, str]
    ) -> Link:
        """A fresh connection for somebody who waits since then; the gate paces the attempts."""
        now = asyncio.get_running_loop().time
        patience_ends = since + patience_ms / 1000
        while True:
            outcome = await self._gate.attempt(partial(self._knock, server_settings), since=since)
            if isinstance(outcome, Link):
                return outcome
            if not outcome.passing or now() >= patience_ends:
                raise LedgerUnavailable(outcome.text)
            since = now()

    async def _knock(self, server_settings: dict[str, str]) -> Link | Refusal:
        limits = self._limits
        try:
            connection = await asyncpg.connect(
                limits.database_url,
                timeout=limits.connect_timeout_ms / 1000,
                server_settings=server_settings,
                statement_cache_size=limits.statement_cache_size,
                # Statements are few and hot: never prepare them again, however long they are.
                max_cached_statement_lifetime=0,
                max_cacheable_statement_size=0,
            )
        except asyncpg.ClientConfigurationError as error:
            raise SettingsError(f"DATABASE_URL cannot be used: {error.args[0]}") from None
        except asyncpg.PostgresError as error:
            return failure.refusal(
                error.sqlstate or "08000", error.message or str(error), address=self.address
            )
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            return failure.no_answer(
                error, address=self.address, limit_ms=limits.connect_timeout_ms
            )
        return Link(connection, translate=self._translate, statistics=self._statistics)

    def _translate(self, error: Exception, *, closed: bool) -> Exception:
        """A failure of the driver in our words; what is not the driver's stays what it is."""
        if isinstance(error, asyncpg.ConnectionDoesNotExistError) and isinstance(
            error.__cause__, asyncpg.PostgresError
        ):
            # What the server said before it hung up tells more than that it did.
            error = error.__cause__
        if isinstance(
            error, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError
        ):
            return TransactionConflict("the schema changed under a prepared statement", "0A000")
        if isinstance(error, asyncpg.PostgresError) and error.message:
            return failure.statement_failure(
                error.sqlstate or "XX000",
                error.message,
                constraint=getattr(error, "constraint_name", None),
                address=self.address,
            )
        if isinstance(error, asyncpg.DataError):
            # The driver could not encode a value, and says which one: only its place is repeated.
            place = re.search(r"query argument \$\d+", str(error))
            return StatementRefused(
                f"invalid value for {place[0] if place else 'a query'}", "22000"
            )
        if isinstance(error, asyncpg.InterfaceError) and not closed:
            return StatementRefused(str(error).partition("\n")[0], "07000")
        if isinstance(
            error,
            OSError | asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError,
        ):
            return LedgerUnavailable(
                f"the connection to PostgreSQL at {self.address} was lost; "
                "a change that was under way may stand or not"
            )
        return error
