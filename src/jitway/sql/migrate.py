"""Brings a database to the schema of this release, and says whether it may be served from.

Owns `schema_migrations` in the ledger's schema (the first name of the search path), which it
makes. Files are `NNNN_pre_name.sql` or `NNNN_post_name.sql`: a `pre` file leaves the schema usable
for the release before, so it is applied first and the gateways follow; a `post` file removes what
only older gateways need, and may wait until the last of them is gone.

Each file is one transaction, under an advisory lock that ends with it: of several processes one
applies it, the others wait and find it done. A file whose first line is `-- no-transaction` holds
one statement that cannot be in one (`CREATE INDEX CONCURRENTLY`); it must be harmless to repeat.
What such a build left when it failed is an invalid index, which is dropped before the next attempt.

Refuses to go back, to skip, and to touch a database whose applied files read differently.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jitway.adapters.postgresql import DedicatedConnection, PostgreSQLAdapter, TransactionClient
from jitway.errors import SchemaMismatch

MIGRATIONS = Path(__file__).parent / "migrations"

_FILE_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+")
_NO_TRANSACTION = "-- no-transaction"
_BUILDS_INDEX = re.compile(
    r"^CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?([a-z_][a-z0-9_]*) ON ",
    re.MULTILINE,
)
# Another process may be applying a long file; a lock of a table, though, is not worth waiting for,
# because everybody who comes later would wait behind us.
_STATEMENT_TIMEOUT_MS = 600_000
_LOCK_TIMEOUT_MS = 5_000
_LOCK_CLASS = 0x6A74_7779  # "jtwy"


@dataclass(frozen=True)
class Migration:
    """One file: its version, its name without `.sql`, and what it says."""

    version: int
    name: str
    sql: str

    @property
    def is_pre(self) -> bool:
        """Whether the release before can serve from the schema that this leaves."""
        return self.name[5:].startswith("pre_")

    @property
    def in_transaction(self) -> bool:
        """Whether it is applied and recorded in one transaction."""
        return self.sql.partition("\n")[0].strip() != _NO_TRANSACTION

    @property
    def index(self) -> str | None:
        """The index that it builds beside running transactions, if that is what it does."""
        built = _BUILDS_INDEX.search(self.sql)
        return built[1] if built else None

    @property
    def sha256(self) -> str:
        """The checksum that tells whether an applied file was changed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    """One row of `schema_migrations`."""

    version: int
    name: str
    sha256: str

    @property
    def is_pre(self) -> bool:
        """Whether the release before can serve from the schema that this left."""
        return self.name[5:].startswith("pre_")


async def migrate(
    adapter: PostgreSQLAdapter, *, to: int | None = None, directory: Path | None = None
) -> list[str]:
    """Apply what is missing, in order.

    Args:
        adapter: of a role that may create tables.
        to: the last version to apply; all when None.
        directory: where the files are; those of this release when None.

    Returns:
        The names of the files that this call applied.

    Raises:
        SchemaMismatch: an applied file reads differently now, or one before it was left out.
        LockTimeout: a table stayed in use for five seconds; what was applied before stands.
        StatementRefused: a file is wrong; nothing of it stands.
    """
    known = read_migrations(directory or MIGRATIONS)
    wanted = [migration for migration in known if to is None or migration.version <= to]
    names = []
    while (name := await _apply_next(adapter, known, wanted)) is not None:
        names.append(name)
    return names


async def check_schema(
    adapter: PostgreSQLAdapter, *, directory: Path | None = None
) -> tuple[str, ...]:
    """Whether this release may serve from the database as it is.

    It may when everything is applied; when only `post` files at the end are missing; or when more
    is applied than it knows, all of it `pre` files, because the next release is being rolled out.

    Returns:
        The names of `post` files that are still to be applied.

    Raises:
        SchemaMismatch: any other schema; the text names the command.
    """
    known = read_migrations(directory or MIGRATIONS)
    applied = await _read_applied(adapter)
    _refuse_history(known, applied)
    pending = _pending(known, applied)
    if any(migration.is_pre for migration in pending):
        raise SchemaMismatch(
            f"the database lacks {_list(pending)} in schema {adapter.schema}: run `jitway migrate`"
        )
    newer = _newer(known, applied)
    if not all(row.is_pre for row in newer):
        raise SchemaMismatch(
            f"the database has {_list(newer)}, which this release does not know: start the "
            "release whose `jitway migrate` applied it"
        )
    return tuple(migration.name for migration in pending)


def read_migrations(directory: Path) -> list[Migration]:
    """The files of a directory in order of their versions, which are 1, 2, 3, ...

    Raises:
        ValueError: a file of another name, a version twice or left out.
    """
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        if not (named := _FILE_NAME.fullmatch(path.stem)):
            raise ValueError(f"{path.name} is not NNNN_pre_name.sql or NNNN_post_name.sql")
        migrations.append(Migration(int(named[1]), path.stem, path.read_text(encoding="utf-8")))
    versions = [migration.version for migration in migrations]
    if versions != list(range(1, len(versions) + 1)):
        raise ValueError(f"versions in {directory} are {versions}, not 1, 2, 3, ...")
    return migrations


async def _apply_next(
    adapter: PostgreSQLAdapter, known: Sequence[Migration], wanted: Sequence[Migration]
) -> str | None:
    """Apply the first file that is missing; None when nothing is."""

    async def apply(client: TransactionClient) -> str | None:
        await _lock(client, adapter.schema)
        await _make_table(client, adapter.schema)
        applied = [_applied(row) for row in await client.query(_select(adapter.schema))]
        _refuse_history(known, applied)
        if not (pending := _pending(wanted, applied)):
            return None
        migration = pending[0]
        if migration.in_transaction:
            await client.execute(migration.sql)
        else:
            # While the file runs outside, this transaction only holds the lock. A script also ends
            # the portal of the last query, whose snapshot a concurrent index would wait for.
            await client.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await _apply_alone(adapter, migration)
        await client.query(
            f"INSERT INTO {adapter.schema}.schema_migrations (version, name, sha256)"  # noqa: S608 - a checked identifier
            " VALUES ($1, $2, $3)",
            [migration.version, migration.name, migration.sha256],
        )
        return migration.name

    return await adapter.execute_transaction(apply, statement_timeout_ms=_STATEMENT_TIMEOUT_MS)


async def _lock(client: TransactionClient, schema: str) -> None:
    """One migration at a time in this schema; then no lock of a table is waited for long."""
    await client.query("SELECT pg_advisory_xact_lock($1, hashtext($2))", [_LOCK_CLASS, schema])
    await client.execute(f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}")


async def _make_table(client: TransactionClient, schema: str) -> None:
    # Asked first: IF NOT EXISTS needs the right to create schemas even where one exists.
    (there,) = await client.query("SELECT to_regnamespace($1) IS NOT NULL AS is", [schema])
    if not there["is"]:
        await client.execute(f"CREATE SCHEMA {schema}")
    await client.execute(
        f"""
        CREATE TABLE IF NOT EXISTS {schema}.schema_migrations (
            version    integer     PRIMARY KEY,
            name       text        NOT NULL,
            sha256     text        NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )


async def _apply_alone(adapter: PostgreSQLAdapter, migration: Migration) -> None:
    """Run a statement that refuses to be in a transaction, on a connection of its own."""
    connection = await adapter.dedicated(
        lock_timeout_ms=_LOCK_TIMEOUT_MS,
        statement_timeout_ms=_STATEMENT_TIMEOUT_MS,
        idle_in_transaction_timeout_ms=_STATEMENT_TIMEOUT_MS,
        planner_seqscan=True,
    )
    try:
        if migration.index is not None:
            await _drop_invalid(connection, adapter.schema, migration.index)
        await connection.fetch(migration.sql)
    finally:
        connection.terminate()


async def _drop_invalid(connection: DedicatedConnection, schema: str, index: str) -> None:
    """Remove what a build that failed left: IF NOT EXISTS would take it for the index."""
    left = await connection.fetch(
        "SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid",
        f"{schema}.{index}",
    )
    if left:
        await connection.fetch(f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{index}")


async def _read_applied(adapter: PostgreSQLAdapter) -> list[Applied]:
    """The rows of `schema_migrations`; none when the table is not there."""
    (there,) = await adapter.execute_query(
        "SELECT to_regclass($1) IS NOT NULL AS is",
        [f"{adapter.schema}.schema_migrations"],
        repeatable=True,
    )
    if not there["is"]:
        return []
    rows = await adapter.execute_query(_select(adapter.schema), repeatable=True)
    return [_applied(row) for row in rows]


def _select(schema: str) -> str:
    return f"SELECT version, name, sha256 FROM {schema}.schema_migrations ORDER BY version"  # noqa: S608 - a checked identifier


def _applied(row: dict[str, Any]) -> Applied:
    return Applied(row["version"], row["name"], row["sha256"])


def _pending(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    versions = {row.version for row in applied}
    return [migration for migration in known if migration.version not in versions]


def _newer(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Applied]:
    return [row for row in applied if row.version > len(known)]


def _refuse_history(known: Sequence[Migration], applied: Sequence[Applied]) -> None:
    """What was applied is the beginning of what is known, to the letter, or nobody can say more.

    Raises:
        SchemaMismatch: with the names, and what to do.
    """
    if [row.version for row in applied] != list(range(1, len(applied) + 1)):
        raise SchemaMismatch(
            f"schema_migrations lists {_list(applied)}, which leaves one out: restore the database "
            "from a backup, then run `jitway migrate`"
        )
    checksums = {migration.version: migration.sha256 for migration in known}
    changed = [row for row in applied if checksums.get(row.version, row.sha256) != row.sha256]
    if changed:
        raise SchemaMismatch(
            f"{_list(changed)} changed after it was applied: restore the file of the release that "
            "applied it, and put the change into a new file for `jitway migrate`"
        )


def _list(files: Sequence[Migration | Applied]) -> str:
    return ", ".join(file.name for file in files)
