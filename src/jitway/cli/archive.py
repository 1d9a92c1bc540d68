"""`archive.py`: `jitway archive rebuild`: runs it, shows how far it is, prints what was found."""

import sys
from dataclasses import asdict
from typing import Any

import click

from jitway.archive.rebuild import Rebuilt, rebuild
from jitway.archive.retention import keeps_from
from jitway.clock import SystemClock
from jitway.compose import archive_assembler, archive_days, archive_of, stores
from jitway.settings import Settings
from jitway.sql.migrate import check_schema


async def rebuild_archive(settings: Settings) -> dict[str, Any]:
    """Makes the archive equal to the ledger.

    Args:
        settings: which ledger and which archive.

    Returns:
        By collection, what was compared, added, replaced and removed, and its hash in the end.

    Raises:
        StoreUnavailable: either is away.
        SchemaMismatch: the schema is not one this release can read.
    """
    async with stores(settings) as manager:
        await check_schema(manager.postgres)
        done = await rebuild(
            manager.postgres,
            archive_of(manager),
            archive_assembler(),
            keeps_from=keeps_from(archive_days(settings), SystemClock().now()),
            progress=_Progress().show,
        )
    if sys.stderr.isatty():
        click.echo(err=True)
    return {one.collection: _document(one) for one in done}


def tell(document: dict[str, Any]) -> None:
    """What was done, for people."""
    for name, one in document.items():
        click.echo(
            f"{name:<16} {one['count']:>12,} documents: {one['added']:,} added, "
            f"{one['replaced']:,} replaced, {one['removed']:,} removed; "
            f"sha256 {one['content_hash'][:16]}"
        )


def _document(one: Rebuilt) -> dict[str, Any]:
    document = asdict(one)
    del document["collection"]
    return document


class _Progress:
    """One line on standard error: rewritten on a terminal, else a new one now and then."""

    def __init__(self) -> None:
        self._next = 0
        self._collection = ""

    def show(self, outcome: Rebuilt) -> None:
        """Tells how far one collection is."""
        if outcome.collection != self._collection:
            self._collection, self._next = outcome.collection, 0
        line = f"{outcome.collection}: {outcome.compared:,} compared, {outcome.added:,} added"
        if sys.stderr.isatty():
            click.echo(f"\r{line}", err=True, nl=False)
        elif outcome.compared >= self._next:
            click.echo(line, err=True)
            self._next = outcome.compared + 50_000
