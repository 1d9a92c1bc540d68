"""`rebuild.py`: the archive made again from the ledger, while both are in use.

Compares a stretch of ids at a time: what is missing is added, what differs is replaced, what the
ledger does not have is removed. Where both agree, nothing is written. Every statement has a
snapshot of its own, so no vacuum waits for a rebuild.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.archive.assemble import Assembler
from jitway.archive.store import (
    COLLECTIONS,
    ID_FIRST,
    READ_MAX,
    Archive,
    Collection,
    Document,
    content_hash,
    id_at,
)
from jitway.sql import statements

_SQL = statements("archive")


@dataclass(slots=True)
class Rebuilt:
    """What was found in one collection, and made right.

    Args:
        collection: its name.
        compared: documents that the ledger has.
        added: were missing.
        replaced: were different.
        removed: are nothing that the ledger has.
        count: documents in the end, older ones that are still kept included.
        content_hash: over all of them.
    """

    collection: str
    compared: int = 0
    added: int = 0
    replaced: int = 0
    removed: int = 0
    count: int = 0
    content_hash: str = ""


Progress = Callable[[Rebuilt], None]


async def rebuild(
    postgres: PostgreSQLAdapter,
    archive: Archive,
    assembler: Assembler,
    *,
    keeps_from: dict[str, datetime | None],
    progress: Progress,
) -> list[Rebuilt]:
    """Makes the archive equal to the ledger.

    Args:
        postgres: the ledger.
        archive: the archive.
        assembler: makes documents.
        keeps_from: by collection, the instant before which nothing is kept; None: all is.
        progress: is told after every stretch.

    Raises:
        StoreUnavailable: either is away; what was done stays done, and it may be run again.
    """
    await archive.ensure_indexes()
    outcomes = []
    for collection in COLLECTIONS.values():
        oldest = keeps_from[collection.name]
        outcome = Rebuilt(collection.name)
        last = f"{collection.prefix}_{ID_FIRST}" if oldest is None else id_at(collection, oldest)
        one = _Rebuilding(postgres, archive, assembler, collection, outcome)
        while (last_or_none := await one.stretch(last)) is not None:
            last = last_or_none
            progress(outcome)
        outcome.count, outcome.content_hash = await content_hash(archive, collection)
        outcomes.append(outcome)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Rebuilding:
    """The rebuilding of one collection."""

    postgres: PostgreSQLAdapter
    archive: Archive
    assembler: Assembler
    collection: Collection
    outcome: Rebuilt

    async def stretch(self, last: str) -> str | None:
        """Compares what comes after an id; where it ended, or None when nothing comes.

        The archive is read first: whatever is in it was committed before, so the ledger, read
        afterwards, has it too, or it does not belong there.
        """
        kept = await self.archive.after(self.collection, last, READ_MAX)
        ahead = await self._ids("after", last[4:], READ_MAX)
        ends = [
            some[-1]
            for some in ([document["_id"][4:] for document in kept], ahead)
            if len(some) == READ_MAX
        ]
        if not kept and not ahead:
            return None
        end = min(ends) if ends else "f" * 32
        await self._compare(
            [document for document in kept if document["_id"][4:] <= end],
            await self._ids("between", last[4:], end),
        )
        return f"{self.collection.prefix}_{end}" if ends else None

    async def _compare(self, kept: Sequence[Document], digits: Sequence[str]) -> None:
        wanted = {one["_id"]: one for one in await self._wanted(digits)}
        found = {one["_id"]: one for one in kept}
        extra = [one for id_, one in found.items() if id_ not in wanted]
        missing = [one for id_, one in wanted.items() if id_ not in found]
        different = [one for id_, one in found.items() if wanted.get(id_, one) != one]
        self.outcome.compared += len(wanted)
        self.outcome.added += len(missing)
        self.outcome.replaced += len(different)
        self.outcome.removed += await self.archive.remove(self.collection, extra) if extra else 0
        if different:
            await self.archive.remove(self.collection, different)
        again = [one["_id"][4:] for one in (*missing, *different)]
        if again:
            await self.archive.put_many(self.collection, await self._wanted(again))

    async def _wanted(self, digits: Sequence[str]) -> list[Document]:
        async def query(sql: str, values: Sequence[object]) -> list[dict[str, object]]:
            return await self.postgres.execute_query(sql, values, repeatable=True)

        return await self.assembler.documents(query, self.collection, digits)

    async def _ids(self, name: str, *values: object) -> list[str]:
        sql = _SQL[f"{self.collection.name}_{name}"]
        rows = await self.postgres.execute_query(sql, values, repeatable=True)
        return [row["id"].hex for row in rows]
