"""Migrations: applied once and in order, by one of many, and proven before anybody serves."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.errors import LockTimeout, SchemaMismatch, StatementRefused
from jitway.sql import migrate as runner
from jitway.sql.migrate import MIGRATIONS, check_schema, migrate, read_migrations
from tests.integration.postgresql_bench import eventually, lane

FIRST = "CREATE TABLE thing (id int PRIMARY KEY);\nINSERT INTO thing VALUES (1);\n"
SECOND = "ALTER TABLE thing ADD COLUMN name text;\n"
THIRD = "ALTER TABLE thing DROP COLUMN name;\n"
INDEX = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS thing_by_id ON thing (id)\n"
NAMES = ["0001_pre_thing", "0002_pre_name", "0003_post_name"]


@pytest.fixture
async def empty(empty_database: str) -> AsyncIterator[PostgreSQLAdapter]:
    adapter = PostgreSQLAdapter({"DATABASE_URL": empty_database}, pool_size_min=0)
    yield adapter
    await adapter.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, sql in zip(NAMES, (FIRST, SECOND, THIRD), strict=True):
        (tmp_path / f"{name}.sql").write_text(sql)
    return tmp_path


def release(directory: Path, *names: str) -> Path:
    """The files of a release that has only these."""
    part = directory / "-".join(names)
    part.mkdir()
    for name in names:
        (part / f"{name}.sql").write_text((directory / f"{name}.sql").read_text())
    return part


async def test_the_files_of_this_release_make_a_schema_it_serves_from(
    empty: PostgreSQLAdapter,
) -> None:
    applied = await migrate(empty)
    assert applied == [path.stem for path in sorted(MIGRATIONS.glob("*.sql"))]
    assert await migrate(empty) == []
    assert await check_schema(empty) == ()


async def test_each_file_is_applied_once_and_recorded(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    assert await migrate(empty, to=2, directory=directory) == NAMES[:2]
    assert await migrate(empty, directory=directory) == NAMES[2:]
    assert await migrate(empty, directory=directory) == []
    rows = await empty.execute_query(
        "SELECT version, name, sha256, applied_at <= now() AS past "
        "FROM jitway.schema_migrations ORDER BY version"
    )
    assert [(row["version"], row["name"], row["past"]) for row in rows] == [
        (1, NAMES[0], True),
        (2, NAMES[1], True),
        (3, NAMES[2], True),
    ]
    assert rows[0]["sha256"] == hashlib.sha256(FIRST.encode()).hexdigest()


async def test_the_schema_is_the_first_of_the_search_path(
    empty_database: str, directory: Path
) -> None:
    adapters = [
        PostgreSQLAdapter({"DATABASE_URL": empty_database}, search_path=path, pool_size_min=0)
        for path in ("ledger_a, public", "ledger_b, public")
    ]
    for adapter in adapters:
        assert await migrate(adapter, directory=directory) == NAMES
        assert await check_schema(adapter, directory=directory) == ()
    rows = await adapters[0].execute_query(
        "SELECT schemaname FROM pg_tables WHERE tablename = 'thing' ORDER BY 1"
    )
    assert [row["schemaname"] for row in rows] == ["ledger_a", "ledger_b"]
    for adapter in adapters:
        await adapter.close()


async def test_another_program_s_table_of_the_same_name_is_not_ours(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    await empty.execute_query("CREATE TABLE public.schema_migrations (version text)")
    with pytest.raises(SchemaMismatch, match="jitway migrate"):
        await check_schema(empty, directory=directory)
    assert await migrate(empty, directory=directory) == NAMES
    assert await empty.execute_query("SELECT * FROM public.schema_migrations") == []


async def test_two_processes_at_once(empty_database: str, directory: Path) -> None:
    slow = directory / "0001_pre_thing.sql"
    slow.write_text(FIRST + "SELECT pg_sleep(0.5);\n")
    adapters = [
        PostgreSQLAdapter({"DATABASE_URL": empty_database}, pool_size_min=0) for _ in range(3)
    ]
    applied = await asyncio.gather(*(migrate(one, directory=directory) for one in adapters))
    # Whoever waits may find the next file still missing: each is applied by exactly one.
    assert sorted(name for names in applied for name in names) == NAMES
    for adapter in adapters:
        await adapter.close()


async def test_a_wrong_file_leaves_nothing_and_can_be_mended(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    wrong = directory / "0002_pre_name.sql"
    wrong.write_text("CREATE TABLE half (); SELECT 1 / 0;")
    with pytest.raises(StatementRefused):
        await migrate(empty, directory=directory)
    rows = await empty.execute_query("SELECT to_regclass('half') AS half")
    assert rows == [{"half": None}]
    wrong.write_text(SECOND)
    assert await migrate(empty, directory=directory) == NAMES[1:]


async def test_a_killed_migration_is_run_again(
    empty: PostgreSQLAdapter, server: PostgreSQLAdapter, directory: Path
) -> None:
    (directory / "0002_pre_name.sql").write_text(SECOND + "SELECT pg_sleep(60);")
    # Other tests sleep on the same server.
    name = (await empty.execute_query("SELECT current_database() AS name"))[0]["name"]
    running = asyncio.create_task(migrate(empty, directory=directory))

    async def at_work() -> bool:
        return bool(
            await server.execute_query(
                "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' "
                "AND state = 'active' AND datname = $1",
                [name],
            )
        )

    await eventually(at_work)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (directory / "0002_pre_name.sql").write_text(SECOND)
    assert await migrate(empty, directory=directory) == NAMES[1:]


async def test_a_table_in_use_is_not_waited_for_long(
    empty: PostgreSQLAdapter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty, to=1, directory=directory)
    monkeypatch.setattr(runner, "_LOCK_TIMEOUT_MS", 100)
    reader = await lane(empty)
    await reader.begin()
    await reader.fetch("SELECT * FROM thing")
    with pytest.raises(LockTimeout):
        await migrate(empty, directory=directory)
    await reader.rollback()
    assert await migrate(empty, directory=directory) == NAMES[1:]


async def test_a_statement_that_refuses_a_transaction(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    (directory / "0004_pre_index.sql").write_text(INDEX)
    assert await migrate(empty, directory=directory) == [*NAMES, "0004_pre_index"]
    rows = await empty.execute_query(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'thing_by_id'::regclass"
    )
    assert rows == [{"indisvalid": True}]
    assert (await empty.get_pool_stats())["dedicated_connections"] == 0


async def test_an_index_whose_build_failed_is_built_again(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    unique = INDEX.replace("CREATE INDEX", "CREATE UNIQUE INDEX").replace("(id)", "(name)")
    (directory / "0003_pre_index.sql").write_text(unique)
    (directory / "0003_post_name.sql").unlink()
    await migrate(empty, to=2, directory=directory)
    await empty.execute_query("INSERT INTO thing VALUES (2, 'same'), (3, 'same')")
    for _ in range(2):
        with pytest.raises(StatementRefused):
            await migrate(empty, directory=directory)
        assert await validity(empty, "thing_by_id") == [False]
    await empty.execute_query("UPDATE thing SET name = 'other' WHERE id = 3")
    assert await migrate(empty, directory=directory) == ["0003_pre_index"]
    assert await validity(empty, "thing_by_id") == [True]


async def test_a_build_that_gave_up_beside_a_long_reader_is_built_again(
    empty: PostgreSQLAdapter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty, directory=directory)
    (directory / "0004_pre_index.sql").write_text(INDEX)
    reader = await lane(empty, idle_in_transaction_timeout_ms=60_000)
    await reader.begin()
    await reader.fetch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await reader.fetch("SELECT * FROM thing")
    with monkeypatch.context() as patience:
        patience.setattr(runner, "_LOCK_TIMEOUT_MS", 200)
        with pytest.raises(LockTimeout):
            await migrate(empty, directory=directory)
    await reader.rollback()
    assert await validity(empty, "thing_by_id") == [False]
    assert await migrate(empty, directory=directory) == ["0004_pre_index"]
    assert await validity(empty, "thing_by_id") == [True]


async def test_a_valid_index_and_those_of_other_schemas_are_left_alone(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    await migrate(empty, directory=directory)
    (directory / "0004_pre_index.sql").write_text(INDEX)
    await empty.execute_query("CREATE TABLE public.thing (id int)")
    await empty.execute_query("INSERT INTO public.thing VALUES (1), (1)")
    other = await lane(empty)
    with pytest.raises(StatementRefused):
        await other.fetch("CREATE UNIQUE INDEX CONCURRENTLY thing_by_id ON public.thing (id)")
    await other.fetch("CREATE INDEX thing_by_id ON thing (id)")
    before = await empty.execute_query("SELECT 'thing_by_id'::regclass::oid AS oid")
    assert await migrate(empty, directory=directory) == ["0004_pre_index"]
    assert await empty.execute_query("SELECT 'thing_by_id'::regclass::oid AS oid") == before
    assert await validity(empty, "public.thing_by_id") == [False]


def test_every_file_without_a_transaction_tells_its_index() -> None:
    alone = [one for one in read_migrations(MIGRATIONS) if not one.in_transaction]
    assert alone
    assert [one.name for one in alone if one.index is None] == []
    assert [one.name for one in alone if "IF NOT EXISTS" not in one.sql] == []


async def validity(adapter: PostgreSQLAdapter, index: str) -> list[bool]:
    """Whether the index may be used; empty when there is none."""
    rows = await adapter.execute_query(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", [index]
    )
    return [row["indisvalid"] for row in rows]


# What may be served from


async def test_an_empty_database_is_refused_with_the_command(empty: PostgreSQLAdapter) -> None:
    with pytest.raises(SchemaMismatch, match=r"lacks .* in schema jitway: run `jitway migrate`"):
        await check_schema(empty)


async def test_a_release_serves_before_its_post_files(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    await migrate(empty, to=2, directory=directory)
    assert await check_schema(empty, directory=directory) == ("0003_post_name",)


async def test_a_release_does_not_serve_before_its_pre_files(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    await migrate(empty, to=1, directory=directory)
    with pytest.raises(SchemaMismatch, match=r"lacks 0002_pre_name.*`jitway migrate`"):
        await check_schema(empty, directory=directory)


async def test_the_pre_files_of_the_next_release_may_be_there_already(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    (directory / "0003_post_name.sql").rename(directory / "0003_pre_name.sql")
    old = release(directory, NAMES[0])
    for to in (2, 3):
        await migrate(empty, to=to, directory=directory)
        assert await check_schema(empty, directory=old) == ()
    # And the older release has nothing to apply, and takes nothing away.
    assert await migrate(empty, directory=old) == []


@pytest.mark.parametrize("known", [1, 2])
async def test_a_post_file_of_the_next_release_is_too_new(
    empty: PostgreSQLAdapter, directory: Path, known: int
) -> None:
    await migrate(empty, directory=directory)
    with pytest.raises(SchemaMismatch, match=r"0003_post_name, which this release does not know"):
        await check_schema(empty, directory=release(directory, *NAMES[:known]))


async def test_a_post_file_among_newer_ones_is_too_new(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    (directory / "0004_pre_index.sql").write_text(INDEX)
    await migrate(empty, directory=directory)
    with pytest.raises(SchemaMismatch, match="jitway migrate"):
        await check_schema(empty, directory=release(directory, NAMES[0]))


async def test_a_file_that_changed_after_it_was_applied(
    empty: PostgreSQLAdapter, directory: Path
) -> None:
    await migrate(empty, to=1, directory=directory)
    (directory / "0001_pre_thing.sql").write_text(FIRST + "-- only a comment\n")
    for refused in (
        check_schema(empty, directory=directory),
        migrate(empty, directory=directory),
    ):
        with pytest.raises(SchemaMismatch, match="0001_pre_thing changed after it was applied"):
            await refused


async def test_a_history_with_a_gap(empty: PostgreSQLAdapter, directory: Path) -> None:
    await migrate(empty, directory=directory)
    await empty.execute_query("DELETE FROM jitway.schema_migrations WHERE version = 2")
    for refused in (
        check_schema(empty, directory=directory),
        migrate(empty, directory=directory),
    ):
        with pytest.raises(SchemaMismatch, match="leaves one out"):
            await refused


@pytest.mark.parametrize("name", ["0001_thing", "1_pre_thing", "0002_pre_thing", "0001_Pre_x"])
def test_a_file_of_another_name_or_number_is_a_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match=r"NNNN_pre_name|not 1, 2, 3"):
        read_migrations(tmp_path)
