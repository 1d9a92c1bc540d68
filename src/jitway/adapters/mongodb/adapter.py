"""The one way to MongoDB: a bounded pool, one limit per operation, and retries that change nothing.

Owns the driver and the translation of its failures. Every write asks for a majority and the
journal. After a connection failure, and only then, an operation is repeated with backoff:

- reads always;
- `insert_*`: ids are made here, so before another attempt what already arrived is left out;
- `replace_many`: it upserts by `_id`, so repeating it changes nothing;
- updates, deletes and pipelines that write ($out, $merge): only while nothing was sent, or a server
  that is not the primary refused. Otherwise the caller learns that the outcome is unknown.

Refuses an address that asks for unsafe writes, and documents that some server could not keep.
"""

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Unpack

from jitway.adapters.mongodb import failure
from jitway.adapters.mongodb.attempts import Failure, UnderWay, repeated
from jitway.adapters.mongodb.documents import check_document, with_integers
from jitway.adapters.mongodb.options import (
    MongoDBOptions,
    masked_address,
    read_limits,
    refused_address,
)
from jitway.adapters.mongodb.queries import Document, Queries, Result
from jitway.adapters.mongodb.statistics import Heartbeats, PoolTally, SentWrites
from jitway.adapters.reachability import root_cause
from jitway.errors import ArchiveUnavailable, InvalidRequest, PoolExhausted

try:
    import bson
    import pymongo
    from bson.codec_options import CodecOptions
    from bson.errors import BSONError
    from bson.int64 import Int64
    from bson.objectid import ObjectId
    from pymongo import errors, monitoring
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.write_concern import WriteConcern
except ImportError as missing:
    raise ImportError(
        "the MongoDB client is not installed; it comes with: pip install 'jitway[mongodb]'"
    ) from missing

BULK_MAX = 500
DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
_CLOSE_S = 2.0
_CLOSED = "this MongoDBAdapter is closed"
_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)


class _PoolWatch(PoolTally, monitoring.ConnectionPoolListener):
    """Counts the driver's pool events."""


class _SendWatch(SentWrites, monitoring.CommandListener):
    """Knows whether a write of the attempt under way left for the server."""


class _HeartbeatWatch(Heartbeats, monitoring.ServerHeartbeatListener):
    """Counts the driver's looks at servers."""


class MongoDBAdapter(Queries):
    """MongoDB for what is kept beside the ledger: found, inserted, updated, aggregated.

    Connects on first use. Instants come back with a time zone and to the millisecond.

    Args:
        config: the guide's mapping with `MONGODB_URI` and `MONGODB_DB`.
        options: see `Limits` in `mongodb_options.py`; `mongodb_uri` replaces the mapping.

    Raises:
        SettingsError: no address, one that cannot be meant, or one that asks for unsafe writes.
    """

    def __init__(
        self, config: Mapping[str, str] | None = None, **options: Unpack[MongoDBOptions]
    ) -> None:
        self._limits = read_limits(config, options)
        self.address = masked_address(self._limits.mongodb_uri)
        self._tally = _PoolWatch()
        self._sent = _SendWatch()
        self._heartbeats = _HeartbeatWatch()
        self._under_way = UnderWay()
        self._is_closed = False
        self._client = self._new_client()

    async def connect(self) -> None:
        """Makes sure of a server that takes writes; again after `close` too.

        Raises:
            ArchiveUnavailable: there is none, with the masked address and what to do. The adapter
                stays usable: later operations connect by themselves.
        """
        if self._is_closed:
            self._client = self._new_client()
            self._is_closed = False
        await self.ping()

    async def initialize(self) -> None:
        """The same as `connect`."""
        await self.connect()

    async def close(self) -> None:
        """Closes every connection; may be called twice, or before `connect`.

        Operations under way have two seconds to end.
        """
        if self._is_closed:
            return
        self._is_closed = True
        await self._under_way.settle(_CLOSE_S)
        await self._connects_ended()
        with pymongo.timeout(_CLOSE_S):
            await self._client.close()

    async def ping(self) -> float:
        """Milliseconds a sign of life took; no retries.

        Raises:
            ArchiveUnavailable: none came in time, or why not.
        """
        started_ns = time.perf_counter_ns()
        await self.run(lambda: self._client.admin.command("ping"), attempts_max=1)
        return (time.perf_counter_ns() - started_ns) / 1e6

    async def insert_one(self, collection: str, document: Mapping[str, Any]) -> object:
        """Inserts a document and returns its `_id`, made here when it has none.

        Raises:
            InvalidRequest: the document cannot be stored faithfully, or is above 16 MB.
            StatementRefused: `_id` or another unique value exists (sqlstate 23505).
            ArchiveUnavailable: MongoDB cannot be reached; whether it was stored may be unknown.
        """
        return (await self.insert_many(collection, [document]))[0]

    async def insert_many(
        self, collection: str, documents: Sequence[Mapping[str, Any]]
    ) -> list[object]:
        """Inserts documents in order, up to the first that is refused; returns their `_id`s.

        Raises: as `insert_one`.
        """
        wanted: list[Document] = [{"_id": ObjectId(), **document} for document in documents]
        for document in wanted:
            _check_storable(document)
        has_tried = False

        async def attempt() -> None:
            nonlocal has_tried
            is_first, has_tried = not has_tried, True
            missing = wanted if is_first else await self._missing(collection, wanted)
            if not missing:
                return
            try:
                await self.collection(collection).insert_many(missing)
            except errors.BulkWriteError:
                # What an earlier attempt sent may have arrived after it was looked for.
                if is_first or await self._missing(collection, wanted):
                    raise

        if wanted:
            await self.run(attempt)
        return [document["_id"] for document in wanted]

    async def replace_many(
        self,
        collection: str,
        documents: Sequence[Mapping[str, Any]],
        *,
        newer_by: str | None = None,
    ) -> int:
        """Stores each document under its `_id`, in place of what is there; safe to repeat.

        Args:
            collection: its name.
            documents: each with an `_id`, each `_id` once; all their integers get 64 bits.
            newer_by: a field that grows with every change of a document: one that is stored with
                an equal or greater value stays, so late and repeated deliveries change nothing.

        Returns:
            How many were stored; the others had a newer one in place.

        Raises:
            InvalidRequest: a document has no `_id` or no `newer_by`, cannot be stored faithfully,
                or is above 16 MB.
            StatementRefused: a document breaks another unique index.
            ArchiveUnavailable: MongoDB cannot be reached; some may have been stored.
        """
        for document in documents:
            _check_storable(document)
            for name in ("_id", newer_by or "_id"):
                if name not in document:
                    raise InvalidRequest(f"a document has no {name}", f"/{name}", "bad_document")
        stored = 0
        for start in range(0, len(documents), BULK_MAX):
            part = documents[start : start + BULK_MAX]
            stored += await self.run(partial(self._replace, collection, part, newer_by))
        return stored

    async def get_connection_stats(self) -> dict[str, int]:
        """Connections in all, in use and idle, operations that wait, checkouts and retries.

        Counted from the driver's events, over all servers; asks no server.
        """
        return self._tally.stats(self._limits.pool_size_min, self._limits.pool_size_max)

    def collection(self, name: str) -> AsyncCollection[Document]:
        """The driver's collection: majority writes, journaled."""
        database = self._client.get_database(
            self._limits.database, write_concern=WriteConcern("majority", j=True)
        )
        return database.get_collection(name)

    async def run(
        self,
        operation: Callable[[], Awaitable[Result]],
        *,
        is_repeatable: bool = True,
        attempts_max: int | None = None,
    ) -> Result:
        """The operation's result within `timeout_ms`, repeated where that is safe.

        Args:
            operation: makes one attempt.
            is_repeatable: whether repeating what was already done changes nothing.
            attempts_max: fewer attempts than the adapter's.
        """
        sent: list[str] = []

        async def attempt(seconds: float) -> Result:
            self._renew_if_lost()
            with self._sent.noted_in(sent), pymongo.timeout(max(seconds, 0.001)):
                return await operation()

        if self._is_closed:
            raise ArchiveUnavailable(_CLOSED)
        return await self._under_way.finish(
            repeated(
                attempt,
                explain=lambda error: self._explain(error, was_sent=bool(sent)),
                may_go_on=lambda: not (self._is_closed or self._under_way.is_abandoned()),
                limit_ms=self._limits.timeout_ms,
                attempts_max=attempts_max or self._limits.attempts_max,
                is_repeatable=is_repeatable,
                on_retry=self._tally.count_retry,
            )
        )

    def finish_later(self, operation: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Lets an operation run to its end by itself; its failure concerns nobody."""
        if not self._is_closed:
            self._under_way.start(operation())

    # Inside ---------------------------------------------------------------------------------

    async def _replace(
        self, collection: str, documents: Sequence[Mapping[str, Any]], newer_by: str | None
    ) -> int:
        """A document that is older than the stored one matches nothing, so its upsert collides.

        A collision may also be a race with another writer who inserted first; tried once more,
        the document is there, and only one that is older still collides.
        """
        pending = list(documents)
        stored = 0
        for _ in range(2):
            operations = [_replacement(document, newer_by) for document in pending]
            try:
                done = await self.collection(collection).bulk_write(operations, ordered=False)
                return stored + done.matched_count + done.upserted_count
            except errors.BulkWriteError as error:
                if not failure.is_only_collisions(error.details):
                    raise
                stored += error.details["nMatched"] + error.details["nUpserted"]
                pending = [pending[failed["index"]] for failed in error.details["writeErrors"]]
        if newer_by is None:
            raise ArchiveUnavailable(f"other writers insert the same documents at {self.address}")
        return stored

    async def _missing(self, collection: str, wanted: list[Document]) -> list[Document]:
        """Those of the documents that are not stored as they are."""
        query = {"_id": {"$in": [document["_id"] for document in wanted]}}
        found = self.collection(collection).find(query)
        stored = {_key(document["_id"]): document async for document in found}
        return [
            document
            for document in wanted
            if stored.get(_key(document["_id"])) != bson.decode(bson.encode(document), _CODEC)
        ]

    def _explain(self, error: Exception, *, was_sent: bool) -> Failure | None:
        """What a failure means; None for what only a bug can raise."""
        match error:
            case errors.ConnectionFailure() | TimeoutError():
                return self._disconnected(error, was_sent=was_sent)
            case errors.BulkWriteError():
                return self._refused(*failure.first_refusal(error.details))
            case errors.OperationFailure():
                return self._refused(error.code, str((error.details or {}).get("errmsg", "")))
            case errors.ConfigurationError() | errors.InvalidOperation():
                say = f"MongoDB at {self.address} cannot be used: {error}"
                return Failure(ArchiveUnavailable(say))
            case BSONError() | errors.InvalidName() | OverflowError() | TypeError() | ValueError():
                say = f"MongoDB cannot take this: {error}"
                return Failure(InvalidRequest(say, code="bad_document"))
        return None

    def _disconnected(
        self, error: errors.ConnectionFailure | TimeoutError, *, was_sent: bool
    ) -> Failure:
        match error:
            case errors.WaitQueueTimeoutError():
                limit_ms = self._limits.timeout_ms
                say = f"no connection to MongoDB became free within {limit_ms} ms"
                return Failure(PoolExhausted(say))
            case errors.NotPrimaryError(details=dict() as details):
                return self._refused(details.get("code"), "")
            case errors.ServerSelectionTimeoutError():
                cause = self._last_cause() or TimeoutError()
            case _ if was_sent:
                lost = failure.broken_off(address=self.address)
                return Failure(lost, is_passing=True, is_undone=False)
            case _:
                cause = root_cause(error) or failure.cause_in(str(error))
        return Failure(failure.unreachable(cause, address=self.address), is_passing=True)

    def _refused(self, code: int | None, message: str) -> Failure:
        return Failure(
            failure.refused(code, message, address=self.address),
            is_passing=code in failure.PASSING,
            is_undone=code in failure.NOT_PRIMARY,
        )

    async def _connects_ended(self) -> None:
        """The driver leaves the socket of a connect that it cancels to the garbage collector."""
        deadline = time.monotonic() + _CLOSE_S
        while (self._tally.opening or self._heartbeats.under_way) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)

    def _renew_if_lost(self) -> None:
        """Begins again from the address when the driver has struck off every server.

        It does so when a server says, even once, that the set consists of others, and then looks
        at none any more.
        """
        if not (self._is_closed or self._client.topology_description.server_descriptions()):
            lost, self._client = self._client, self._new_client()
            self.finish_later(lost.close)

    def _last_cause(self) -> BaseException | None:
        """Why the driver could not reach any server, as far as it says."""
        servers = self._client.topology_description.server_descriptions().values()
        said = next((str(server.error) for server in servers if server.error), None)
        return None if said is None else failure.cause_in(said)

    def _new_client(self) -> pymongo.AsyncMongoClient[Document]:
        """Made at once, so that an address that cannot be meant is refused at the start."""
        watches = [self._tally, self._sent, self._heartbeats]
        options: dict[str, Any] = self._limits.client_options()
        try:
            with warnings.catch_warnings():
                # An unknown option is a mistyped limit or a lost TLS setting, not a remark.
                warnings.simplefilter("error")
                return pymongo.AsyncMongoClient(
                    self._limits.mongodb_uri, event_listeners=watches, **options
                )
        except (errors.PyMongoError, UserWarning, ValueError, TypeError, OSError) as error:
            raise refused_address(self._limits.mongodb_uri, str(error)) from None


def _replacement(document: Mapping[str, Any], newer_by: str | None) -> pymongo.ReplaceOne[Document]:
    query: Document = {"_id": document["_id"]}
    if newer_by is not None:
        query[newer_by] = {"$lt": document[newer_by]}
    return pymongo.ReplaceOne(query, with_integers(Int64, document), upsert=True)


def _check_storable(document: Mapping[str, Any]) -> None:
    """Before anything is sent: what is refused in the middle would leave a part of it stored."""
    check_document(document)
    try:
        size_bytes = len(bson.encode(document))
    except (BSONError, ValueError, TypeError) as error:
        raise InvalidRequest(f"MongoDB cannot take this: {error}", code="bad_document") from None
    if size_bytes > DOCUMENT_BYTES_MAX:
        raise InvalidRequest("a document has more than 16 MB", code="bad_document")


def _key(document_id: object) -> bytes:
    """An `_id` as a key of a dictionary, whatever its type."""
    return bson.encode({"_id": document_id})
