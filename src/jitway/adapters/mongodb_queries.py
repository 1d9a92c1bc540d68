"""Finding, aggregating, updating and deleting: what needs no more of the driver than a collection.

Knows no driver by name; `MongoDBAdapter` gives it `collection` and `run`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from jitway.adapters.mongodb_documents import check_limit

Document = dict[str, Any]
Sort = Sequence[tuple[str, int]]
Result = TypeVar("Result")

FIND_LIMIT = 1000
STREAM_BATCH = 500


class Updated(NamedTuple):
    """What an update found and did."""

    matched_count: int
    modified_count: int
    upserted_id: object


class Queries(ABC):
    """The operations of `MongoDBAdapter` that read, update and delete."""

    @abstractmethod
    def collection(self, name: str) -> Any:
        """The driver's collection, with majority writes."""

    @abstractmethod
    async def run(
        self,
        operation: Callable[[], Awaitable[Result]],
        *,
        is_repeatable: bool = True,
        attempts_max: int | None = None,
    ) -> Result:
        """The operation's result within the limit, repeated where that is safe."""

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any] | None = None,
        *,
        projection: Mapping[str, Any] | Sequence[str] | None = None,
        sort: Sort | None = None,
        limit: int = FIND_LIMIT,
    ) -> list[Document]:
        """The documents that match, at most `limit`; for more, use `stream`.

        Args:
            collection: its name.
            query: a MongoDB filter; None = all.
            projection: the fields wanted; None = all.
            sort: pairs of field and direction.
            limit: 1 to 100,000.

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached, or did not answer in time.
            StatementRefused: the query is not one.
        """
        check_limit(limit)

        async def attempt() -> list[Document]:
            found = self.collection(collection).find(
                query, projection, sort=sort, limit=limit, batch_size=min(limit, STREAM_BATCH)
            )
            async with found:
                documents: list[Document] = await found.to_list(limit)
                return documents

        return await self.run(attempt)

    async def stream(
        self,
        collection: str,
        query: Mapping[str, Any] | None = None,
        *,
        sort: Sort | None = None,
        batch_size: int = STREAM_BATCH,
    ) -> AsyncIterator[Document]:
        """Every document that matches, `batch_size` in memory at a time.

        Close it when leaving early (`contextlib.aclosing`).

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached, also in the middle; begin again.
            StatementRefused: the query is not one.
        """
        check_limit(batch_size)
        found = self.collection(collection).find(query, sort=sort, batch_size=batch_size)
        try:
            while batch := await self.run(lambda: found.to_list(batch_size), attempts_max=1):
                for document in batch:
                    yield document
        finally:
            await self.run(found.close, attempts_max=1)

    async def aggregate(
        self, collection: str, pipeline: Sequence[Mapping[str, Any]], *, limit: int = FIND_LIMIT
    ) -> list[Document]:
        """What a pipeline yields, at most `limit` documents.

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached; with $out or $merge the outcome may be
                unknown.
            StatementRefused: the pipeline is not one.
        """
        check_limit(limit)

        async def attempt() -> list[Document]:
            found = await self.collection(collection).aggregate(pipeline)
            async with found:
                documents: list[Document] = await found.to_list(limit)
                return documents

        is_write = bool(pipeline) and not {"$out", "$merge"}.isdisjoint(pipeline[-1])
        return await self.run(attempt, is_repeatable=not is_write)

    async def count(self, collection: str, query: Mapping[str, Any] | None = None) -> int:
        """How many documents match.

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached, or did not answer in time.
        """
        return await self.run(lambda: self.collection(collection).count_documents(query or {}))

    async def update_one(
        self,
        collection: str,
        query: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
    ) -> Updated:
        """Updates one document that matches.

        Raises:
            StatementRefused: the update is not one, or breaks a unique index.
            ArchiveUnavailable: MongoDB cannot be reached; whether it was done may be unknown.
        """
        done = await self.run(
            lambda: self.collection(collection).update_one(query, update, upsert=upsert),
            is_repeatable=False,
        )
        return Updated(done.matched_count, done.modified_count, done.upserted_id)

    async def update_many(
        self,
        collection: str,
        query: Mapping[str, Any],
        update: Mapping[str, Any],
        *,
        upsert: bool = False,
    ) -> Updated:
        """Updates every document that matches; as `update_one`."""
        done = await self.run(
            lambda: self.collection(collection).update_many(query, update, upsert=upsert),
            is_repeatable=False,
        )
        return Updated(done.matched_count, done.modified_count, done.upserted_id)

    async def delete_one(self, collection: str, query: Mapping[str, Any]) -> int:
        """Deletes one document that matches; how many it was.

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached; whether it was done may be unknown.
        """
        done = await self.run(
            lambda: self.collection(collection).delete_one(query), is_repeatable=False
        )
        return int(done.deleted_count)

    async def delete_many(self, collection: str, query: Mapping[str, Any]) -> int:
        """Deletes every document that matches; how many there were. As `delete_one`."""
        done = await self.run(
            lambda: self.collection(collection).delete_many(query), is_repeatable=False
        )
        return int(done.deleted_count)
