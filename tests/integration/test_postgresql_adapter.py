"""`PostgreSQLAdapter`: each promise to those who only use the pool, with its number."""

import asyncio
import time
from typing import Any

import pytest
import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.errors import (
    LedgerUnavailable,
    LockTimeout,
    PoolExhausted,
    QueryTimeout,
    SettingsError,
    StatementRefused,
    TransactionConflict,
)
from tests.integration.postgresql_bench import active_count, eventually, lane, wire_to


@pytest.fixture
async def users(adapter: PostgreSQLAdapter) -> PostgreSQLAdapter:
    await adapter.execute_query(
        "CREATE TABLE users (id text PRIMARY KEY, "
        "visits int CONSTRAINT visits_count_up CHECK (visits >= 0))"
    )
    await adapter.execute_query("INSERT INTO users VALUES ($1, $2)", ["user-456", 1])
    return adapter


async def visits(adapter: PostgreSQLAdapter) -> int:
    (row,) = await adapter.execute_query("SELECT visits FROM users WHERE id = 'user-456'")
    return int(row["visits"])


async def pids(adapter: PostgreSQLAdapter) -> set[int]:
    """The server processes of every connection that the pool has free."""
    stats = await adapter.get_pool_stats()
    asked = [
        adapter.execute_query("SELECT pg_backend_pid() AS pid, pg_sleep(0.05)")
        for _ in range(stats["total_connections"])
    ]
    return {rows[0]["pid"] for rows in await asyncio.gather(*asked)}


# Queries and transactions


async def test_a_query_returns_a_list_of_mappings(users: PostgreSQLAdapter) -> None:
    rows = await users.execute_query("SELECT * FROM users WHERE id = $1", ["user-456"])
    assert rows == [{"id": "user-456", "visits": 1}]
    assert await users.execute_query("SELECT * FROM users WHERE id = $1", ["nobody"]) == []


async def test_a_transaction_commits_and_returns_what_its_callback_returned(
    users: PostgreSQLAdapter,
) -> None:
    async def visit(client: TransactionClient) -> int:
        changed = await client.execute("UPDATE users SET visits = visits + $1", [2])
        (row,) = await client.query("SELECT visits FROM users WHERE id = $1", ["user-456"])
        assert changed == 1
        return int(row["visits"])

    assert await users.execute_transaction(visit) == 3
    assert await visits(users) == 3


async def test_any_error_of_the_callback_rolls_back(users: PostgreSQLAdapter) -> None:
    async def fail(client: TransactionClient) -> None:
        await client.query("UPDATE users SET visits = 9")
        raise KeyError("a mistake of the caller")

    with pytest.raises(KeyError):
        await users.execute_transaction(fail)
    assert await visits(users) == 1


async def test_a_cancel_rolls_back_and_throws_the_connection_away(
    users: PostgreSQLAdapter,
) -> None:
    reached = asyncio.Event()
    pid = 0

    async def wait_for_ever(client: TransactionClient) -> None:
        nonlocal pid
        await client.query("UPDATE users SET visits = 9")
        (row,) = await client.query("SELECT pg_backend_pid() AS pid")
        pid = row["pid"]
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(users.execute_transaction(wait_for_ever))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The row is free again: an update does not wait for the dead transaction.
    await users.execute_query("UPDATE users SET visits = visits + 1")
    assert await visits(users) == 2
    assert pid not in await pids(users)


async def test_a_swallowed_failure_is_not_reported_as_success(users: PostgreSQLAdapter) -> None:
    async def swallow(client: TransactionClient) -> str:
        await client.query("UPDATE users SET visits = 9")
        with pytest.raises(StatementRefused):
            await client.query("SELECT 1 / 0")
        return "done"

    with pytest.raises(StatementRefused, match="rolled back") as refused:
        await users.execute_transaction(swallow)
    assert refused.value.sqlstate == "25P02"
    assert await visits(users) == 1


async def test_a_deferred_constraint_is_refused_at_the_commit(users: PostgreSQLAdapter) -> None:
    await users.execute_query(
        "CREATE TABLE visit (user_id text CONSTRAINT visit_has_user REFERENCES users "
        "DEFERRABLE INITIALLY DEFERRED)"
    )

    async def orphan(client: TransactionClient) -> None:
        await client.query("INSERT INTO visit VALUES ('nobody')")

    with pytest.raises(StatementRefused) as refused:
        await users.execute_transaction(orphan)
    assert (refused.value.sqlstate, refused.value.constraint) == ("23503", "visit_has_user")
    assert await users.execute_query("SELECT * FROM visit") == []


async def test_a_client_is_useless_after_its_transaction(users: PostgreSQLAdapter) -> None:
    async def leak(client: TransactionClient) -> TransactionClient:
        return client

    client = await users.execute_transaction(leak)
    with pytest.raises(StatementRefused, match="over"):
        await client.query("SELECT 1")


async def test_a_script_runs_inside_a_transaction(users: PostgreSQLAdapter) -> None:
    async def script(client: TransactionClient) -> None:
        await client.execute("UPDATE users SET visits = 5; INSERT INTO users VALUES ('b', 0)")

    await users.execute_transaction(script)
    assert await visits(users) == 5


async def test_limits_and_isolation_of_one_transaction(users: PostgreSQLAdapter) -> None:
    names = ["lock_timeout", "statement_timeout", "transaction_isolation", "transaction_read_only"]

    async def ask(client: TransactionClient) -> list[str]:
        return [(await client.query(f"SHOW {name}"))[0][name] for name in names]

    shown = await users.execute_transaction(
        ask,
        lock_timeout_ms=300,
        statement_timeout_ms=700,
        isolation="REPEATABLE READ",
        read_only=True,
    )
    assert shown == ["300ms", "700ms", "repeatable read", "on"]
    # And nothing of it is left for the next one.
    assert await users.execute_transaction(ask) == ["0", "30s", "read committed", "off"]


async def test_serialization_failures_are_conflicts(users: PostgreSQLAdapter) -> None:
    async def overtaken(client: TransactionClient) -> None:
        await client.query("SELECT * FROM users")
        await users.execute_query("UPDATE users SET visits = 7")
        await client.query("UPDATE users SET visits = 8")

    with pytest.raises(TransactionConflict) as conflict:
        await users.execute_transaction(overtaken, isolation="REPEATABLE READ")
    assert conflict.value.sqlstate == "40001"
    assert await visits(users) == 7


async def test_a_plan_that_the_schema_outran_is_a_conflict(users: PostgreSQLAdapter) -> None:
    read = "SELECT * FROM users"

    async def outrun(client: TransactionClient) -> None:
        await client.query(read)
        await client.execute("ALTER TABLE users ADD COLUMN name text")
        await client.query(read)

    with pytest.raises(TransactionConflict, match="schema changed"):
        await users.execute_transaction(outrun)


# Limits


async def test_every_connection_carries_the_documented_settings(
    adapter: PostgreSQLAdapter,
) -> None:
    expected = {
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "1min",
        "jit": "off",
        "application_name": "jitway",
        "search_path": "jitway, public",
        "client_connection_check_interval": "500ms",
    }
    for name, value in expected.items():
        assert await adapter.execute_query(f"SHOW {name}") == [{name: value}]


async def test_a_statement_over_the_limit_fails_and_is_gone_on_the_server(
    database: str, adapter: PostgreSQLAdapter
) -> None:
    hasty = PostgreSQLAdapter(
        {"DATABASE_URL": database}, query_timeout_ms=300, pool_size_min=1, pool_size_max=1
    )
    await hasty.initialize()
    before = await pids(hasty)
    with pytest.raises(QueryTimeout):
        await hasty.execute_query("SELECT pg_sleep(60)")
    assert await active_count(adapter, "%pg_sleep(60)%") == 0
    # The server ended only the statement.
    assert await pids(hasty) == before
    assert (await hasty.get_pool_stats())["timeouts"] == 1
    await hasty.close()


async def test_a_minute_of_sleep_fails_at_the_guides_thirty_seconds(
    database: str, adapter: PostgreSQLAdapter
) -> None:
    patient = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1)
    began = time.monotonic()
    with pytest.raises(QueryTimeout):
        await patient.execute_query("SELECT pg_sleep(60)")
    # Not before, and at most when a silent server would be given up.
    assert 29.5 < time.monotonic() - began < 45
    assert await active_count(adapter, "%pg_sleep(60)%") == 0
    await patient.close()


async def test_twenty_five_sleepers_on_a_pool_of_twenty(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database})
    await adapter.initialize()
    assert (await adapter.get_pool_stats())["total_connections"] == 5
    sleepers = [asyncio.create_task(adapter.execute_query("SELECT pg_sleep(1)")) for _ in range(25)]

    async def all_at_work() -> bool:
        stats = await adapter.get_pool_stats()
        counts = ("total_connections", "idle_connections", "in_use", "waiting_requests")
        return [stats[name] for name in counts] == [20, 0, 20, 5]

    await eventually(all_at_work)
    await asyncio.gather(*sleepers)
    stats = await adapter.get_pool_stats()
    assert (stats["waiting_requests"], stats["idle_connections"]) == (0, 20)
    assert stats["acquire_wait_ms"]["count"] == 25
    assert stats["acquire_wait_ms"]["max"] >= 500
    assert stats["acquire_wait_ms"]["p50"] < stats["acquire_wait_ms"]["p99"]
    await adapter.close()


async def test_waiting_for_a_connection_ends(database: str) -> None:
    adapter = PostgreSQLAdapter(
        {"DATABASE_URL": database}, pool_size_min=0, pool_size_max=1, acquire_timeout_ms=100
    )

    async def nested(client: TransactionClient) -> None:
        await client.query("SELECT 1")
        with pytest.raises(PoolExhausted, match="within 100 ms; all 1 are in use"):
            await adapter.execute_query("SELECT 2")

    await adapter.execute_transaction(nested)
    assert await adapter.execute_query("SELECT 3 AS n") == [{"n": 3}]
    await adapter.close()


async def test_lock_timeout(users: PostgreSQLAdapter) -> None:
    async def hold(client: TransactionClient) -> None:
        await client.query("SELECT * FROM users FOR UPDATE")
        with pytest.raises(LockTimeout):
            await users.execute_transaction(wait, lock_timeout_ms=50)

    async def wait(client: TransactionClient) -> None:
        await client.query("UPDATE users SET visits = 9")

    await users.execute_transaction(hold)


async def test_limits_must_make_sense() -> None:
    url = "postgresql://host/database"
    with pytest.raises(SettingsError, match="min <= max"):
        PostgreSQLAdapter({"DATABASE_URL": url}, pool_size_min=3, pool_size_max=2)
    with pytest.raises(SettingsError, match="query_timeout_ms"):
        PostgreSQLAdapter(database_url=url, query_timeout_ms=0)
    with pytest.raises(SettingsError, match="search_path"):
        PostgreSQLAdapter(database_url=url, search_path="jitway; DROP")


# Slow statements


async def test_slow_statements_are_counted_and_logged_without_values(
    users: PostgreSQLAdapter,
) -> None:
    with structlog.testing.capture_logs() as lines:
        await users.execute_query(
            "SELECT pg_sleep(0.15), id -- of whom\n FROM users WHERE id <> 'secret-7' AND id <> $1",
            ["secret-8"],
        )
        await users.execute_query("SELECT pg_sleep(0)")
    assert (await users.get_pool_stats())["slow_queries"] == 1
    (line,) = [line for line in lines if line["event"] == "slow_query"]
    assert line["statement"] == "SELECT pg_sleep(?), id FROM users WHERE id <> ? AND id <> $1"
    assert line["duration_ms"] >= 150
    assert "secret" not in repr(lines)


async def test_a_flood_of_slow_statements_is_counted_but_not_all_logged(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, slow_query_ms=0)
    with structlog.testing.capture_logs() as lines:
        for _ in range(60):
            await adapter.execute_query("SELECT 1")
    assert (await adapter.get_pool_stats())["slow_queries"] == 60
    assert len(lines) < 60
    await adapter.close()


# Cancels


async def test_after_cancels_the_pool_is_whole_and_fresh(
    database: str, adapter: PostgreSQLAdapter
) -> None:
    pool = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=3, pool_size_max=3)
    await pool.initialize()
    before = await pids(pool)
    assert len(before) == 3
    sleepers = [asyncio.create_task(pool.execute_query("SELECT pg_sleep(77)")) for _ in range(3)]

    async def all_asleep() -> bool:
        return await active_count(adapter, "%pg_sleep(77)%") == 3

    async def all_gone() -> bool:
        return await active_count(adapter, "%pg_sleep(77)%") == 0

    async def whole() -> bool:
        return bool((await pool.get_pool_stats())["idle_connections"] == 3)

    await eventually(all_asleep)
    for sleeper in sleepers:
        sleeper.cancel()
    assert all(
        isinstance(outcome, asyncio.CancelledError)
        for outcome in await asyncio.gather(*sleepers, return_exceptions=True)
    )
    await eventually(whole)
    # Nobody asked the server to stop: it noticed that nobody listens any more.
    await eventually(all_gone)
    assert before.isdisjoint(await pids(pool))
    assert (await pool.get_pool_stats())["connections_lost"] == 3
    await pool.close()


async def test_a_cancel_opens_no_connection(database: str, adapter: PostgreSQLAdapter) -> None:
    async with wire_to(database) as wire:
        pool = PostgreSQLAdapter({"DATABASE_URL": wire.url}, pool_size_min=0)
        sleeper = asyncio.create_task(pool.execute_query("SELECT pg_sleep(78)"))

        async def asleep() -> bool:
            return await active_count(adapter, "%pg_sleep(78)%") == 1

        async def gone() -> bool:
            return await active_count(adapter, "%pg_sleep(78)%") == 0

        await eventually(asleep)
        made = wire.connections_made
        sleeper.cancel()
        await asyncio.gather(sleeper, return_exceptions=True)
        await eventually(gone)
        assert wire.connections_made == made
        await pool.close()


async def test_a_caller_cancelled_in_the_queue_leaves_its_place(database: str) -> None:
    pool = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1, pool_size_max=1)
    holder = asyncio.create_task(pool.execute_query("SELECT pg_sleep(0.3)"))
    waiting = [asyncio.create_task(pool.execute_query("SELECT 1 AS n")) for _ in range(10)]

    async def queued() -> bool:
        return bool((await pool.get_pool_stats())["waiting_requests"] == 10)

    await eventually(queued)
    for task in waiting[:9]:
        task.cancel()
    assert await waiting[9] == [{"n": 1}]
    await holder
    assert (await pool.get_pool_stats())["waiting_requests"] == 0
    await pool.close()


# Sessions


async def test_nothing_of_a_session_reaches_the_next_caller(database: str) -> None:
    pool = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1, pool_size_max=1)
    await pool.execute_query("SET work_mem = '9MB'")
    await pool.execute_query("SELECT pg_advisory_lock(1)")
    assert await pool.execute_query("SHOW work_mem") != [{"work_mem": "9MB"}]
    locks = (
        "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    )
    assert await pool.execute_query(locks) == [{"n": 0}]
    await pool.close()


async def test_an_idle_connection_that_died_is_replaced_unseen(
    adapter: PostgreSQLAdapter, server: PostgreSQLAdapter
) -> None:
    await adapter.initialize()
    (pid,) = await pids(adapter)
    await server.execute_query("SELECT pg_terminate_backend($1, 5000)", [pid])
    assert await adapter.execute_query("SELECT 1 AS n") == [{"n": 1}]


async def test_only_a_repeatable_statement_is_sent_again(
    database: str, server: PostgreSQLAdapter
) -> None:
    pool = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=0)
    sleep = "SELECT pg_sleep(0.5)"

    async def cut_off() -> None:
        async def killed() -> bool:
            rows = await server.execute_query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query = $1 AND state = 'active'",
                [sleep],
            )
            return bool(rows)

        await eventually(killed)

    cutting = asyncio.create_task(cut_off())
    with pytest.raises(LedgerUnavailable):
        await pool.execute_query(sleep)
    await cutting
    cutting = asyncio.create_task(cut_off())
    assert len(await pool.execute_query(sleep, repeatable=True)) == 1
    await cutting
    await pool.close()


# Refusals


@pytest.mark.parametrize(
    ("sql", "params", "sqlstate", "constraint"),
    [
        ("INSERT INTO users VALUES ('user-456', 0)", [], "23505", "users_pkey"),
        ("UPDATE users SET visits = -1", [], "23514", "visits_count_up"),
        ("SELECT 1 / $1::int", [0], "22012", None),
        ("SELECT $1::text::int", ["secret"], "22P02", None),
        ("SELECT $1::int", ["secret"], "22000", None),
        ("SELECT $1::text", ["secret\0"], "22021", None),
        ("SELECT $1::int", [], "07000", None),
        ("SELECT $1::int", [2**40], "22000", None),
        ("SELEKT 1", [], "42601", None),
        ("SELECT * FROM nowhere", [], "42P01", None),
    ],
)
async def test_a_refused_statement_names_its_state_and_no_value(
    users: PostgreSQLAdapter, sql: str, params: list[Any], sqlstate: str, constraint: str | None
) -> None:
    with pytest.raises(StatementRefused) as refused:
        await users.execute_query(sql, params)
    assert (refused.value.sqlstate, refused.value.constraint) == (sqlstate, constraint)
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__, "the driver's text quotes values"
    assert await visits(users) == 1


# Opening and closing


async def test_close_may_come_first_and_twice(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database})
    await adapter.close()
    await adapter.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        await adapter.execute_query("SELECT 1")
    await adapter.initialize()
    assert await adapter.execute_query("SELECT 1 AS n") == [{"n": 1}]
    await adapter.close()
    await adapter.close()


async def test_close_lets_calls_under_way_finish(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=1)
    await adapter.initialize()
    call = asyncio.create_task(adapter.execute_query("SELECT pg_sleep(0.3), 5 AS n"))

    async def lent() -> bool:
        return bool((await adapter.get_pool_stats())["in_use"] == 1)

    await eventually(lent)
    await adapter.close()
    assert (await call)[0]["n"] == 5


async def test_many_first_callers_at_once(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=2, pool_size_max=4)
    answers = await asyncio.gather(*(adapter.execute_query("SELECT 1 AS n") for _ in range(40)))
    assert answers == [[{"n": 1}]] * 40
    assert (await adapter.get_pool_stats())["total_connections"] <= 4
    await adapter.close()


async def test_a_closed_adapter_ends_its_dedicated_connections(
    adapter: PostgreSQLAdapter,
) -> None:
    connection = await lane(adapter)
    await adapter.close()
    assert connection.closed
