"""`MongoDBAdapter` while its server is down, killed, frozen, not primary or swallows replies."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from jitway.adapters.mongodb import MongoDBAdapter
from jitway.errors import (
    ArchiveUnavailable,
    PoolExhausted,
    SettingsError,
    StatementRefused,
    StoreUnavailable,
)
from tests.integration.leaks import eventually, holdings
from tests.integration.private_mongodb import FeatureMissing, PrivateMongoDB, private_mongodb
from tests.integration.tcp_front import TcpFront
from tests.servers.process import free_port

TIMEOUT_MS = 1500
RECOVERY_S = 5.0
PASSWORD = "p4ss-w0rd-s3cret"


@pytest.fixture(scope="module")
async def _server() -> AsyncIterator[PrivateMongoDB]:
    async with private_mongodb() as server:
        yield server


@pytest.fixture
async def server(_server: PrivateMongoDB) -> AsyncIterator[PrivateMongoDB]:
    """A running server to be broken; it is mended before the next test."""
    yield _server
    if _server.processes[0].is_alive:
        _server.thaw()
    else:
        await _server.start()


@contextlib.asynccontextmanager
async def adapter_at(uri: str, **options: Any) -> AsyncIterator[MongoDBAdapter]:
    limits = {"timeout_ms": TIMEOUT_MS} | options
    adapter = MongoDBAdapter({"MONGODB_URI": uri, "MONGODB_DB": "faults"}, **limits)
    try:
        yield adapter
    finally:
        await adapter.close()


@pytest.fixture
async def adapter(server: PrivateMongoDB) -> AsyncIterator[MongoDBAdapter]:
    async with adapter_at(server.url) as adapter:
        await adapter.delete_many("c", {})
        yield adapter


async def answers(adapter: MongoDBAdapter) -> bool:
    try:
        await adapter.count("c")
    except ArchiveUnavailable:
        return False
    return True


async def fails_in_time(call: Awaitable[object]) -> ArchiveUnavailable:
    started = time.monotonic()
    with pytest.raises(ArchiveUnavailable, match=r"MongoDB at mongodb://127\.0\.0\.1") as refused:
        await call
    assert time.monotonic() - started < TIMEOUT_MS / 1000 + 1
    return refused.value


# The server ------------------------------------------------------------------------------------


async def test_stopped_every_operation_fails_in_time_and_recovers(
    server: PrivateMongoDB, adapter: MongoDBAdapter
) -> None:
    await server.stop()
    calls = (
        adapter.find("c"),
        adapter.insert_one("c", {}),
        adapter.update_one("c", {}, {"$set": {"a": 1}}),
        adapter.replace_many("c", [{"_id": 1}]),
        adapter.aggregate("c", []),
    )
    for error in await asyncio.gather(*(fails_in_time(call) for call in calls)):
        assert "refuses connections" in str(error)
    await server.start()
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)


async def test_killed_while_used_what_was_acknowledged_is_there(
    server: PrivateMongoDB, adapter: MongoDBAdapter
) -> None:
    acknowledged: list[object] = []
    errors: list[Exception] = []
    over = asyncio.Event()

    async def writer(number: int) -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            try:
                acknowledged.append(await adapter.insert_one("c", {"_id": f"{number}-{turn}"}))
            except ArchiveUnavailable as error:
                errors.append(error)

    writers = [asyncio.create_task(writer(number)) for number in range(5)]
    await eventually(lambda: len(acknowledged) >= 20)
    await server.kill()
    await eventually(lambda: len(errors) >= 1, within_s=TIMEOUT_MS / 1000 + 2)
    await server.start()
    known = len(acknowledged)
    await eventually(lambda: len(acknowledged) >= known + 20, within_s=RECOVERY_S)
    over.set()
    await asyncio.gather(*writers)
    stored = [document["_id"] async for document in adapter.stream("c")]
    assert len(stored) == len(set(stored))
    # SecantusDB and NX-27017 do not write through to the disk at each commit, and need not: a
    # killed process loses nothing that the system has.
    assert set(acknowledged) <= set(stored)


async def test_frozen_it_fails_in_time_and_recovers(
    server: PrivateMongoDB, adapter: MongoDBAdapter
) -> None:
    await adapter.insert_one("c", {"_id": 1})
    server.freeze()
    await fails_in_time(adapter.find("c"))
    error = await fails_in_time(adapter.insert_one("c", {"_id": 2}))
    server.thaw()
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
    assert await adapter.count("c", {"_id": 2}) in {0, 1}, str(error)


async def test_down_at_the_start_it_connects_by_itself_later(server: PrivateMongoDB) -> None:
    await server.kill()
    async with adapter_at(server.url) as adapter:
        await fails_in_time(adapter.connect())
        await server.start()
        await eventually(lambda: answers(adapter), within_s=RECOVERY_S)


async def test_a_short_outage_is_not_noticed(server: PrivateMongoDB) -> None:
    """Nothing had been sent, so even what cannot be repeated waits for the server."""
    async with adapter_at(server.url, timeout_ms=20_000) as adapter:
        await adapter.replace_many("c", [{"_id": "short", "n": 0}])
        await server.kill()
        find = asyncio.create_task(adapter.find("c"))
        await eventually(lambda: outage_noticed(adapter))
        increment = {"$inc": {"n": 1}}
        update = asyncio.create_task(adapter.update_one("c", {"_id": "short"}, increment))
        await server.start()
        await find
        assert (await update).modified_count == 1
        assert (await adapter.find("c", {"_id": "short"}))[0]["n"] == 1


async def outage_noticed(adapter: MongoDBAdapter) -> bool:
    return (await adapter.get_connection_stats())["pools_cleared"] >= 1


async def retried(adapter: MongoDBAdapter) -> bool:
    return (await adapter.get_connection_stats())["retries"] >= 1


@contextlib.asynccontextmanager
async def fail_point(
    server: PrivateMongoDB, times: int, data: dict[str, Any]
) -> AsyncIterator[None]:
    if server.product == "NX-27017":
        pytest.skip("NX-27017 has no fail points; SecantusDB and mongod have")
    async with AsyncMongoClient[dict[str, Any]](server.url) as client:
        await client.admin.command(
            "configureFailPoint", "failCommand", mode={"times": times}, data=data
        )
        yield
        await client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize("code", [10107, 11602])
async def test_m6_an_election_is_waited_for(
    server: PrivateMongoDB, adapter: MongoDBAdapter, code: int
) -> None:
    data = {"failCommands": ["insert", "update", "find"], "errorCode": code}
    async with fail_point(server, 2, data):
        await adapter.insert_one("c", {"_id": code})
    async with fail_point(server, 2, data):
        assert await adapter.replace_many("c", [{"_id": code, "n": 1}]) == 1
    async with fail_point(server, 2, data):
        assert await adapter.find("c", {"_id": code}) == [{"_id": code, "n": 1}]


async def test_m6_an_update_is_repeated_only_where_it_was_surely_refused(
    server: PrivateMongoDB, adapter: MongoDBAdapter
) -> None:
    await adapter.insert_one("c", {"_id": 1, "n": 0})
    increment = {"$inc": {"n": 1}}
    async with fail_point(server, 1, {"failCommands": ["update"], "errorCode": 10107}):
        await adapter.update_one("c", {"_id": 1}, increment)
    async with fail_point(server, 1, {"failCommands": ["update"], "errorCode": 11602}):
        with pytest.raises(ArchiveUnavailable):
            await adapter.update_one("c", {"_id": 1}, increment)
    assert (await adapter.find("c"))[0]["n"] == 1


# Lost replies ----------------------------------------------------------------------------------


class Swallower:
    """Lets the next writes pass and cuts the connection in place of their replies."""

    def __init__(self, front: TcpFront, *, times: int) -> None:
        self.left = times
        self._is_due = False
        front.on_request, front.on_reply = self._request, self._reply

    def _request(self, said: bytes) -> bytes:
        if self.left and any(word in said for word in (b"insert\0", b"update\0", b"delete\0")):
            self.left -= 1
            self._is_due = True
        return said

    def _reply(self, said: bytes) -> bytes | None:
        if self._is_due and b"\x10n\0" in said:
            self._is_due = False
            return None
        return said


@contextlib.asynccontextmanager
async def swallowing(
    server: PrivateMongoDB, times: int
) -> AsyncIterator[tuple[MongoDBAdapter, Callable[[], Awaitable[list[dict[str, Any]]]]]]:
    """An adapter that loses the replies of its next writes, and a way to see what was stored."""
    async with (
        TcpFront(server.port) as front,
        adapter_at(
            f"mongodb://127.0.0.1:{front.port}/?directConnection=true", timeout_ms=10_000
        ) as adapter,
        adapter_at(server.url) as direct,
    ):
        await direct.delete_many("c", {})
        await adapter.connect()
        swallower = Swallower(front, times=times)
        yield adapter, lambda: direct.find("c", sort=[("_id", 1)])
        assert swallower.left == 0, "no reply was swallowed: nothing was tested"


async def test_m2_an_insert_whose_reply_was_lost_is_stored_once(server: PrivateMongoDB) -> None:
    async with swallowing(server, 1) as (adapter, stored):
        made = await adapter.insert_one("c", {"n": 1})
        assert await stored() == [{"_id": made, "n": 1}]
        assert await retried(adapter)


async def test_m2_of_many_inserted_none_is_lost_or_doubled(server: PrivateMongoDB) -> None:
    documents = [{"_id": f"{n:02}", "n": n} for n in range(50)]
    async with swallowing(server, 2) as (adapter, stored):
        await adapter.insert_many("c", documents[:25])
        await adapter.insert_many("c", documents[25:])
        assert await stored() == documents


async def test_m2_a_replacement_whose_reply_was_lost_is_made_again(server: PrivateMongoDB) -> None:
    documents = [{"_id": n, "version": 7} for n in range(3)]
    async with swallowing(server, 2) as (adapter, stored):
        await adapter.replace_many("c", documents)
        await adapter.replace_many("c", documents, newer_by="version")
        assert await stored() == documents


async def test_an_update_whose_reply_was_lost_is_unknown_and_done_once(
    server: PrivateMongoDB,
) -> None:
    async with swallowing(server, 0) as (adapter, _):
        await adapter.insert_one("c", {"_id": 1, "n": 0})
    async with TcpFront(server.port) as front:
        uri = f"mongodb://127.0.0.1:{front.port}/?directConnection=true"
        async with adapter_at(uri) as adapter:
            await adapter.connect()
            Swallower(front, times=1)
            with pytest.raises(ArchiveUnavailable, match="whether the write was done is unknown"):
                await adapter.update_one("c", {"_id": 1}, {"$inc": {"n": 1}})
            assert await adapter.find("c") == [{"_id": 1, "n": 1}]
            Swallower(front, times=1)
            with pytest.raises(ArchiveUnavailable, match="whether the write was done is unknown"):
                await adapter.delete_one("c", {"_id": 1})
            assert not await retried(adapter)


async def test_an_insert_refused_for_another_document_is_no_success(
    server: PrivateMongoDB,
) -> None:
    """The `_id` is taken by somebody else's document; a lost reply must not hide that."""

    async with swallowing(server, 1) as (adapter, stored):
        async with adapter_at(server.url) as other:
            await other.insert_one("c", {"_id": 1, "owner": "other"})
        with pytest.raises(StatementRefused):
            await adapter.insert_one("c", {"_id": 1, "owner": "us"})
        assert await stored() == [{"_id": 1, "owner": "other"}]


async def test_a_caller_does_not_wait_for_a_connection_for_ever(server: PrivateMongoDB) -> None:
    async with TcpFront(server.port) as front:
        uri = f"mongodb://127.0.0.1:{front.port}/?directConnection=true"
        async with adapter_at(uri, pool_size_min=0, pool_size_max=1, timeout_ms=600) as adapter:
            await adapter.connect()
            front.reply_delay_s = 2.0
            calls = [adapter.find("c") for _ in range(4)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {PoolExhausted, ArchiveUnavailable}
            assert sum(isinstance(outcome, PoolExhausted) for outcome in outcomes) >= 2
            front.reply_delay_s = 0.0


async def test_a_cancelled_caller_leaves_at_once_and_nothing_is_left_behind(
    server: PrivateMongoDB,
) -> None:
    async with TcpFront(server.port) as front:
        uri = f"mongodb://127.0.0.1:{front.port}/?directConnection=true"
        async with adapter_at(uri, timeout_ms=5000) as adapter:
            await adapter.connect()
            await eventually(lambda: two_idle(adapter))
            front.reply_delay_s = 0.5
            call = asyncio.create_task(adapter.insert_one("c", {"_id": "cancelled"}))
            stream = asyncio.create_task(anext(adapter.stream("c")))
            await eventually(lambda: two_in_use(adapter))
            started = time.monotonic()
            for task in (call, stream):
                task.cancel()
            await asyncio.gather(call, stream, return_exceptions=True)
            assert call.cancelled()
            assert stream.cancelled()
            assert time.monotonic() - started < 0.4
            front.reply_delay_s = 0.0
            await eventually(lambda: none_in_use(adapter))


async def two_idle(adapter: MongoDBAdapter) -> bool:
    return (await adapter.get_connection_stats())["idle_connections"] >= 2


async def two_in_use(adapter: MongoDBAdapter) -> bool:
    return (await adapter.get_connection_stats())["in_use_connections"] == 2


async def none_in_use(adapter: MongoDBAdapter) -> bool:
    stats = await adapter.get_connection_stats()
    return stats["in_use_connections"] == stats["waiting_requests"] == 0


# What an error says -----------------------------------------------------------------------------


async def test_an_unreachable_server_is_told_with_what_to_do() -> None:
    uri = f"mongodb://someone:{PASSWORD}@localhost:{free_port()}/db?authSource=admin"
    async with adapter_at(uri) as adapter:
        with pytest.raises(ArchiveUnavailable, match="refuses connections; is it running") as told:
            await adapter.connect()
    assert "mongodb://someone:***@localhost:" in str(told.value)
    assert PASSWORD not in str(told.value)


async def test_an_unknown_host_is_told() -> None:
    async with adapter_at("mongodb://no-such-host.invalid/") as adapter:
        with pytest.raises(ArchiveUnavailable, match=r"cannot be found|did not answer"):
            await adapter.connect()


async def test_a_port_of_another_service_is_told() -> None:
    async with TcpFront(0) as silent:
        uri = f"mongodb://127.0.0.1:{silent.port}/"
        async with adapter_at(uri, connect_timeout_ms=200) as adapter:
            assert "did not answer in time" in str(await fails_in_time(adapter.connect()))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "MONGODB_URI is missing"),
        (f"http://user:{PASSWORD}@host", "begins with http"),
        (PASSWORD, "must begin like"),
        ("mongodb:///db", "names no host"),
        (f"mongodb://user:{PASSWORD}@host:port/", "percent-encoded"),
        (f"mongodb://user:{PASSWORD}/x@host/", "percent-encoded"),
        (f"mongodb://user:{PASSWORD}@x@host/", "percent-encoded"),
        ("mongodb://host/?maxPoolSizes=5", "option maxpoolsizes is not valid"),
        ("mongodb://host/?tls=perhaps", "option tls is not valid"),
        ("mongodb://host/?tls=true&tlsCAFile=/nowhere.pem", "is refused"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_at_once(uri: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        MongoDBAdapter({"MONGODB_URI": uri})
    assert PASSWORD not in str(refused.value)
    assert "p4ss" not in str(refused.value)


async def test_a_wrong_password_is_told_without_repeating_it() -> None:
    async with private_mongodb() as server:
        async with AsyncMongoClient[dict[str, Any]](server.url) as client:
            with contextlib.suppress(OperationFailure):
                roles = [{"role": "root", "db": "admin"}]
                await client.admin.command("createUser", "ada", pwd="right", roles=roles)
        try:
            await server.restart_with_authentication()
        except FeatureMissing as missing:
            pytest.skip(f"{missing}; SecantusDB and mongod have")
        right = server.url.replace("//", "//ada:right@")
        async with adapter_at(right) as adapter:
            await adapter.connect()
        wrong = server.url.replace("//", f"//ada:{PASSWORD}@")
        async with adapter_at(wrong) as adapter:
            with pytest.raises(ArchiveUnavailable, match="refused the user name or password") as no:
                await adapter.connect()
            assert "MONGODB_URI" in str(no.value)
            assert PASSWORD not in str(no.value)


# Leaks ------------------------------------------------------------------------------------------


async def test_two_hundred_failures_leave_nothing(server: PrivateMongoDB) -> None:
    async with TcpFront(0) as silent, TcpFront(server.port) as cutting:
        cutting.on_reply = lambda said: None
        uris = [
            server.url,
            f"mongodb://127.0.0.1:{free_port()}/",
            f"mongodb://127.0.0.1:{cutting.port}/?directConnection=true",
            f"mongodb://127.0.0.1:{silent.port}/",
        ]

        async def cycle(number: int) -> None:
            adapter = MongoDBAdapter(
                {"MONGODB_URI": uris[number % 4], "MONGODB_DB": "faults"},
                timeout_ms=50,
                connect_timeout_ms=25,
            )
            call = asyncio.create_task(adapter.insert_one("c", {"_id": f"leak-{number}"}))
            if number % 3 == 0:
                await asyncio.sleep(0.002)
                call.cancel()
            (outcome,) = await asyncio.gather(call, return_exceptions=True)
            assert isinstance(outcome, str | StoreUnavailable | asyncio.CancelledError)
            await adapter.close()

        before = holdings()
        for start in range(0, 200, 20):
            await asyncio.gather(*(cycle(number) for number in range(start, start + 20)))

        def is_as_before() -> bool:
            now = holdings()
            relayed = len(silent.open_connections) + len(cutting.open_connections)
            return now.files <= before.files + relayed and now.tasks <= before.tasks

        await eventually(is_as_before)

    if server.product == "NX-27017":
        return  # it does not count its connections

    async def connections() -> bool:
        async with AsyncMongoClient[dict[str, Any]](server.url) as client:
            status = await client.admin.command("serverStatus")
        return int(status["connections"]["current"]) <= 5

    await eventually(connections)
