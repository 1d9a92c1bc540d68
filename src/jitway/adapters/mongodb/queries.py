"""Indexes, finding, aggregating, updating, deleting: what needs only the driver's collection.

Knows no driver by name; `MongoDBAdapter` gives it `collection` and `run`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from jitway.adapters.mongodb.documents import check_limit, index_parts

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

    @abstractmethod
    def finish_later(self, operation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Lets an operation run to its end by itself."""

    async def create_indexes(
        self, collection: str, indexes: Sequence[str | Sort | Mapping[str, Any]]
    ) -> list[str]:
        """Creates what is missing of a collection's indexes; may be repeated.

        Args:
            collection: its name.
            indexes: each a field, pairs of field and direction (1 or -1), or a mapping with `keys`
                (either of these) and, when wanted, `unique` and `name`.

        Returns:
            The names of the indexes.

        Raises:
            StatementRefused: an index of that name has other fields, or rows break a unique one.
            ArchiveUnavailable: MongoDB cannot be reached.
        """
        names = []
        for keys, options in [index_parts(index) for index in indexes]:
            create = partial(self.collection(collection).create_index, keys, **options)
            names.append(str(await self.run(create)))
        return names

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
    ) -> AsyncGenerator[Document, None]:
        """Every document that matches, `batch_size` in memory at a time.

        Close it when leaving early (`contextlib.aclosing`).

        Raises:
            ArchiveUnavailable: MongoDB cannot be reached, also in the middle; begin again.
            StatementRefused: the query is not one.
        """
        check_limit(batch_size)
        found = self.collection(collection).find(query, sort=sort, batch_size=batch_size)
        # Who leaves in the middle of a batch does not wait for it, but closing has to.
        one_at_a_time = asyncio.Lock()

        async def batch() -> list[Document]:
            async with one_at_a_time:
                documents: list[Document] = await found.to_list(batch_size)
                return documents

        async def close() -> None:
            async with one_at_a_time:
                await found.close()

        try:
            while documents := await self.run(batch, attempts_max=1):
                for document in documents:
                    yield document
        finally:
            self.finish_later(close)

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
