"""Dedicated connections: what the group commit relies on, above all how a commit can end."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter
from jitway.errors import (
    LedgerUnavailable,
    LockTimeout,
    OutcomeUnknown,
    QueryTimeout,
    SettingsError,
    StatementRefused,
    TransactionConflict,
)
from tests.integration.postgresql_bench import Cut, Wire, active_count, eventually, lane, wire_to


@pytest.fixture
async def table(adapter: PostgreSQLAdapter) -> PostgreSQLAdapter:
    await adapter.execute_query("CREATE TABLE entry (id int CONSTRAINT entry_is_new PRIMARY KEY)")
    return adapter


@pytest.fixture
async def connection(table: PostgreSQLAdapter) -> DedicatedConnection:
    return await lane(table)


@pytest.fixture
async def wire(database: str) -> AsyncIterator[Wire]:
    async with wire_to(database) as wire:
        yield wire


async def entries(adapter: PostgreSQLAdapter) -> list[int]:
    return [row["id"] for row in await adapter.execute_query("SELECT id FROM entry ORDER BY id")]


async def test_a_committed_transaction_stands_and_a_rolled_back_one_does_not(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES ($1)", 1)
    await connection.commit()
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES ($1)", 2)
    await connection.rollback()
    assert await entries(table) == [1]
    assert not connection.closed


async def test_rows_by_name_by_place_and_as_tuples(connection: DedicatedConnection) -> None:
    (row,) = await connection.fetch("SELECT $1::bigint[] AS numbers, 'b' AS letter", [1, 2])
    assert (row["numbers"], row[1], tuple(row), len(row)) == ([1, 2], "b", ([1, 2], "b"), 2)


async def test_a_batch_runs_read_committed_whatever_the_database_prefers(
    database: str, server: PostgreSQLAdapter
) -> None:
    name = urlsplit(database).path.removeprefix("/")
    for setting in (
        "default_transaction_isolation = 'repeatable read'",
        "default_transaction_deferrable = on",
    ):
        await server.execute_query(f"ALTER DATABASE {name} SET {setting}")
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=0)
    connection = await lane(adapter)
    await connection.begin()
    await connection.fetch("SELECT 1")
    shown = await connection.fetch("SHOW transaction_isolation")
    assert shown[0][0] == "read committed"
    assert await adapter.check_durability() == []
    await adapter.close()


async def test_limits_and_planner_settings_of_a_lane(adapter: PostgreSQLAdapter) -> None:
    connection = await adapter.dedicated(
        lock_timeout_ms=150,
        statement_timeout_ms=900,
        idle_in_transaction_timeout_ms=1_200,
        settings={"plan_cache_mode": "force_generic_plan"},
    )
    expected = {
        "lock_timeout": "150ms",
        "statement_timeout": "900ms",
        "idle_in_transaction_session_timeout": "1200ms",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "client_connection_check_interval": "500ms",
        "client_min_messages": "warning",
        "search_path": "jitway, public",
    }
    for name, value in expected.items():
        assert (await connection.fetch(f"SHOW {name}"))[0][0] == value
    planned = await lane(adapter, planner_seqscan=True)
    assert (await planned.fetch("SHOW enable_seqscan"))[0][0] == "on"


async def test_a_lane_is_opened_while_the_pool_is_exhausted(database: str) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": database}, pool_size_min=0, pool_size_max=2)
    busy = [asyncio.create_task(adapter.execute_query("SELECT pg_sleep(0.5)")) for _ in range(3)]

    async def exhausted() -> bool:
        stats = await adapter.get_pool_stats()
        return bool(stats["in_use"] == 2 and stats["waiting_requests"] == 1)

    await eventually(exhausted)
    connection = await lane(adapter)
    assert (await connection.fetch("SELECT 1"))[0][0] == 1
    stats = await adapter.get_pool_stats()
    assert (stats["total_connections"], stats["dedicated_connections"]) == (2, 1)
    assert connection.backend_pid > 0
    await asyncio.gather(*busy)
    connection.terminate()
    assert (await adapter.get_pool_stats())["dedicated_connections"] == 0
    await adapter.close()


# Limits of a statement


async def test_a_statement_over_the_limit_leaves_the_connection(
    table: PostgreSQLAdapter,
) -> None:
    connection = await lane(table, statement_timeout_ms=100)
    await connection.begin()
    with pytest.raises(QueryTimeout):
        await connection.fetch("SELECT pg_sleep(60)")
    await connection.rollback()
    assert not connection.closed
    assert (await connection.fetch("SELECT 1"))[0][0] == 1


async def test_a_lock_held_elsewhere_ends_at_the_lock_timeout(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    waiter = await lane(table, lock_timeout_ms=50)
    await waiter.begin()
    with pytest.raises(LockTimeout):
        await waiter.fetch("INSERT INTO entry VALUES (1)")
    await waiter.rollback()


async def test_a_deadlock_is_a_conflict(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await table.execute_query("INSERT INTO entry VALUES (1), (2)")
    other = await lane(table)
    lock = "SELECT id FROM entry WHERE id = $1 FOR UPDATE"
    for mine, its_row in ((connection, 1), (other, 2)):
        await mine.begin()
        await mine.fetch(lock, its_row)
    outcomes = await asyncio.gather(
        connection.fetch(lock, 2), other.fetch(lock, 1), return_exceptions=True
    )
    (conflict,) = [outcome for outcome in outcomes if isinstance(outcome, TransactionConflict)]
    assert conflict.sqlstate == "40P01"
    await connection.rollback()
    await other.rollback()


async def test_an_idle_transaction_is_ended_by_the_server(table: PostgreSQLAdapter) -> None:
    connection = await lane(table, idle_in_transaction_timeout_ms=100)
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")

    async def ended() -> bool:
        return connection.closed

    await eventually(ended)
    with pytest.raises((LedgerUnavailable, QueryTimeout)):
        await connection.fetch("SELECT 1")
    await connection.rollback()
    assert await entries(table) == []


async def test_a_silent_server_loses_the_connection_half_a_second_past_the_limit(
    table: PostgreSQLAdapter, wire: Wire
) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": wire.url})
    connection = await lane(adapter, statement_timeout_ms=100)
    await connection.begin()
    wire.cut = Cut.ALL
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(LedgerUnavailable, match="said nothing for 600 ms"):
        await connection.fetch("SELECT 1")
    assert 0.5 <= loop.time() - started < 1.6
    assert connection.closed
    await adapter.close()


async def test_terminate_ends_a_statement_at_once_and_the_server_notices(
    table: PostgreSQLAdapter, connection: DedicatedConnection, wire: Wire
) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": wire.url})
    cut_off = await lane(adapter, statement_timeout_ms=60_000)
    await cut_off.begin()
    await cut_off.fetch("INSERT INTO entry VALUES (1)")
    sleeping = asyncio.create_task(cut_off.fetch("SELECT pg_sleep(79)"))

    async def asleep() -> bool:
        return await active_count(table, "%pg_sleep(79)%") == 1

    async def gone() -> bool:
        return await active_count(table, "%pg_sleep(79)%") == 0

    await eventually(asleep)
    made = wire.connections_made
    cut_off.terminate()
    with pytest.raises(LedgerUnavailable):
        await sleeping
    assert cut_off.closed
    await eventually(gone, within_s=3)
    assert wire.connections_made == made, "no connection was opened to ask for a cancel"
    # Its locks are free.
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    await connection.commit()
    await adapter.close()


async def test_a_cancelled_statement_closes_the_connection(
    connection: DedicatedConnection,
) -> None:
    sleeping = asyncio.create_task(connection.fetch("SELECT pg_sleep(4)"))
    await asyncio.sleep(0)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert connection.closed
    await connection.rollback()


async def test_a_closed_connection_answers_with_ledger_unavailable(
    connection: DedicatedConnection,
) -> None:
    connection.terminate()
    connection.terminate()
    with pytest.raises(LedgerUnavailable):
        await connection.begin()
    with pytest.raises(LedgerUnavailable):
        await connection.fetch("SELECT 1")
    with pytest.raises(LedgerUnavailable, match="nothing stands"):
        await connection.commit()
    await connection.rollback()


# How a commit can end


async def test_commit_cut_before_it_reached_the_server(
    table: PostgreSQLAdapter, wire: Wire
) -> None:
    await commit_over(wire, Cut.BEFORE)
    assert await entries(table) == []


@pytest.mark.parametrize("cut", [Cut.AFTER, Cut.SWALLOW])
async def test_commit_whose_answer_was_lost(table: PostgreSQLAdapter, wire: Wire, cut: Cut) -> None:
    await commit_over(wire, cut)
    assert await entries(table) == [1]


async def commit_over(wire: Wire, cut: Cut) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": wire.url})
    connection = await lane(adapter, commit_timeout_ms=200)
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    wire.cut = cut
    with pytest.raises(OutcomeUnknown):
        await connection.commit()
    assert connection.closed
    await adapter.close()


@pytest.mark.parametrize("cut", [Cut.AFTER, Cut.SWALLOW])
async def test_the_pool_says_the_same(table: PostgreSQLAdapter, wire: Wire, cut: Cut) -> None:
    adapter = PostgreSQLAdapter({"DATABASE_URL": wire.url}, query_timeout_ms=200)
    wire.cut = cut

    async def insert(client: object) -> None:
        await client.query("INSERT INTO entry VALUES (1)")  # type: ignore[attr-defined]

    with pytest.raises(OutcomeUnknown):
        await adapter.execute_transaction(insert)
    assert await entries(table) == [1]
    await adapter.close()


async def test_commit_after_the_server_process_was_ended_is_certain(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    await table.execute_query("SELECT pg_terminate_backend($1, 5000)", [connection.backend_pid])

    async def noticed() -> bool:
        return connection.closed

    await eventually(noticed)
    with pytest.raises(LedgerUnavailable, match="nothing stands"):
        await connection.commit()
    assert await entries(table) == []


async def test_commit_of_a_failed_transaction_is_refused_for_certain(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    with pytest.raises(StatementRefused) as refused:
        await connection.fetch("INSERT INTO entry VALUES (1)")
    assert refused.value.constraint == "entry_is_new"
    with pytest.raises(StatementRefused, match="rolled back"):
        await connection.commit()
    assert await entries(table) == []
    assert not connection.closed


async def test_commit_refused_by_a_deferred_constraint_is_certain(
    table: PostgreSQLAdapter, connection: DedicatedConnection
) -> None:
    await table.execute_query(
        "CREATE TABLE part (entry_id int CONSTRAINT part_has_entry REFERENCES entry "
        "DEFERRABLE INITIALLY DEFERRED)"
    )
    await connection.begin()
    await connection.fetch("INSERT INTO part VALUES (1)")
    with pytest.raises(StatementRefused) as refused:
        await connection.commit()
    assert refused.value.constraint == "part_has_entry"
    assert not connection.closed
    await connection.begin()
    await connection.rollback()


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        # What a server says that did not wait for its standby.
        ("WARNING USING ERRCODE = '01000'", OutcomeUnknown),
        # Nothing proves that nothing stands.
        ("EXCEPTION USING ERRCODE = '58030'", OutcomeUnknown),
        ("EXCEPTION USING ERRCODE = '40003'", OutcomeUnknown),
        ("EXCEPTION USING ERRCODE = '57014'", OutcomeUnknown),
        # These do.
        ("EXCEPTION USING ERRCODE = '40001'", TransactionConflict),
        ("EXCEPTION USING ERRCODE = '23514'", StatementRefused),
    ],
)
async def test_what_is_said_at_commit_decides_its_outcome(
    table: PostgreSQLAdapter,
    connection: DedicatedConnection,
    raised: str,
    outcome: type[Exception],
) -> None:
    level, _, using = raised.partition(" ")
    await table.execute_query(
        f"CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE {level} 'said' {using}; RETURN NULL; END $$"
    )
    await table.execute_query(
        "CREATE CONSTRAINT TRIGGER say AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION say()"
    )
    await connection.begin()
    await connection.fetch("INSERT INTO entry VALUES (1)")
    with pytest.raises(outcome):
        await connection.commit()
    assert connection.closed == (outcome is OutcomeUnknown)


# Whether a server may hold a ledger


async def test_a_sound_server_is_accepted(adapter: PostgreSQLAdapter) -> None:
    assert await adapter.check_durability() == []
    assert (await adapter.get_pool_stats())["dedicated_connections"] == 0


async def test_commits_that_do_not_wait_for_the_disk_are_refused(
    database: str, server: PostgreSQLAdapter
) -> None:
    name = urlsplit(database).path.removeprefix("/")
    await server.execute_query(f"ALTER DATABASE {name} SET synchronous_commit = off")
    adapter = PostgreSQLAdapter({"DATABASE_URL": database})
    with pytest.raises(SettingsError, match="synchronous_commit is off"):
        await adapter.check_durability()
    assert await adapter.check_durability(allow_unsafe=True) == ["synchronous_commit is off"]
    await adapter.close()


async def test_a_read_only_database_is_refused_even_when_unsafe_is_allowed(
    database: str, server: PostgreSQLAdapter
) -> None:
    name = urlsplit(database).path.removeprefix("/")
    await server.execute_query(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    adapter = PostgreSQLAdapter({"DATABASE_URL": database})
    with pytest.raises(LedgerUnavailable, match="read-only"):
        await adapter.check_durability(allow_unsafe=True)
    with pytest.raises(LedgerUnavailable, match="read-only"):
        await adapter.execute_query("CREATE TABLE forbidden ()")
    await adapter.close()
