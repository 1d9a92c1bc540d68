"""`RedisAdapter` while its server is down, killed, frozen, lying or the wrong one (R1 to R3)."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jitway.adapters.breaker import BreakerState
from jitway.adapters.redis import RedisAdapter
from jitway.clock import SystemClock
from jitway.errors import CacheUnavailable, SettingsError
from tests.integration.leaks import eventually, holdings
from tests.integration.private_redis import PrivateRedis, private_redis
from tests.integration.tcp_front import TcpFront
from tests.servers.process import free_port

TIMEOUT_S = 0.05
RECOVERY_S = 5.0
PASSWORD = "p4ss-w0rd-s3cret"


@pytest.fixture
async def server() -> AsyncIterator[PrivateRedis]:
    async with private_redis() as server:
        yield server


@pytest.fixture
async def adapter(server: PrivateRedis) -> AsyncIterator[RedisAdapter]:
    """With the limits of the product: 50 ms a command."""
    adapter = RedisAdapter({"REDIS_URL": server.url})
    await adapter.connect()
    yield adapter
    await adapter.close()


async def answers(adapter: RedisAdapter) -> bool:
    try:
        await adapter.get_counter("anything")
    except CacheUnavailable:
        return False
    return True


async def seconds_to_fail(call: Awaitable[object]) -> float:
    started = time.monotonic()
    with pytest.raises(CacheUnavailable, match="Redis at redis://"):
        await call
    return time.monotonic() - started


async def in_use(
    adapter: RedisAdapter, meanwhile: Callable[[], Awaitable[None]]
) -> tuple[list[object], float]:
    """What eight callers got while something happened to the server, and the longest wait."""
    got: list[object] = []
    longest_s = 0.0
    over = asyncio.Event()

    async def caller() -> None:
        nonlocal longest_s
        while not over.is_set():
            started = time.monotonic()
            try:
                got.append(await adapter.get_from_cache("user:1"))
            except CacheUnavailable as error:
                got.append(error)
            longest_s = max(longest_s, time.monotonic() - started)
            await asyncio.sleep(0)

    callers = [asyncio.create_task(caller()) for _ in range(8)]
    await meanwhile()
    over.set()
    await asyncio.gather(*callers)
    return got, longest_s


async def failures_seen(adapter: RedisAdapter) -> None:
    await eventually(lambda: not adapter.is_available)


async def test_r1_killed_while_used_it_fails_fast_and_comes_back(
    server: PrivateRedis, adapter: RedisAdapter
) -> None:
    await adapter.cache_user("1", "Ada")

    async def kill() -> None:
        await asyncio.sleep(0.05)
        await server.kill()
        await failures_seen(adapter)

    got, longest_s = await in_use(adapter, kill)
    assert all(one == "Ada" or isinstance(one, CacheUnavailable) for one in got)
    assert "Ada" in got
    assert longest_s < TIMEOUT_S + 1
    await server.start()
    assert await eventually(lambda: answers(adapter), within_s=RECOVERY_S) < RECOVERY_S


async def test_r1_stopped_and_restarted_while_used(
    server: PrivateRedis, adapter: RedisAdapter
) -> None:
    async def restart() -> None:
        await server.stop()
        await failures_seen(adapter)
        await server.start()
        await eventually(lambda: answers(adapter), within_s=RECOVERY_S)

    got, longest_s = await in_use(adapter, restart)
    assert all(one is None or isinstance(one, CacheUnavailable) for one in got)
    assert longest_s < TIMEOUT_S + 1


async def test_r1_down_at_the_start_it_connects_by_itself_later(server: PrivateRedis) -> None:
    await server.stop()
    adapter = RedisAdapter({"REDIS_URL": server.url})
    assert await seconds_to_fail(adapter.connect()) < 2
    assert await seconds_to_fail(adapter.get_counter("c")) < TIMEOUT_S + 1
    await server.start()
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
    await adapter.close()


async def test_r2_frozen_each_call_ends_in_time_and_five_open_the_breaker(
    server: PrivateRedis, adapter: RedisAdapter
) -> None:
    await adapter.cache_user("1", "Ada")
    server.freeze()
    try:
        for _ in range(5):
            waited_s = await seconds_to_fail(adapter.get_from_cache("user:1"))
            assert TIMEOUT_S * 0.9 < waited_s < TIMEOUT_S + 1
        assert not adapter.is_available
        stats = adapter._pool.stats()
        assert stats["in_use_connections"] == 0
    finally:
        server.thaw()
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
    assert await adapter.get_from_cache("user:1") == "Ada"


async def test_r1_with_the_breaker_open_a_call_costs_nothing(
    server: PrivateRedis, adapter: RedisAdapter
) -> None:
    server.freeze()
    try:
        for _ in range(5):
            await seconds_to_fail(adapter.get_counter("c"))
        started = time.monotonic()
        for _ in range(200):
            with pytest.raises(CacheUnavailable):
                await adapter.get_counter("c")
        # 200 waits of 50 ms would take ten seconds; of 5 ms, one.
        assert time.monotonic() - started < 1
        assert (adapter._breaker.opened_count, adapter._breaker.rejected_count) == (1, 200)
    finally:
        server.thaw()


class HandClock(SystemClock):
    """Moves only when told to."""

    moved_ns = 0

    def monotonic_ns(self) -> int:
        return self.moved_ns


async def test_r2_nobody_waits_for_a_probe(server: PrivateRedis) -> None:
    clock = HandClock()
    adapter = RedisAdapter({"REDIS_URL": server.url}, clock=clock)
    await adapter.connect()
    server.freeze()
    try:
        for _ in range(5):
            await seconds_to_fail(adapter.get_counter("c"))
        clock.moved_ns += 1_000_000_000
        for turn in range(3):
            await seconds_to_fail(adapter.get_counter("c"))
            assert adapter._breaker.state is BreakerState.HALF_OPEN
            assert adapter._breaker.rejected_count == turn + 1, "no caller was sent to the server"
    finally:
        server.thaw()
    await eventually(lambda: adapter.is_available, within_s=RECOVERY_S)
    assert await answers(adapter)
    await adapter.close()


async def test_an_increment_in_a_stall_is_never_counted_twice(
    server: PrivateRedis, adapter: RedisAdapter
) -> None:
    server.freeze()
    try:
        await seconds_to_fail(adapter.increment_counter("stalled", unique_key="one"))
        await seconds_to_fail(adapter.increment_counter("plain"))
    finally:
        server.thaw()
    await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
    assert await adapter.get_counter("plain") <= 1
    assert await adapter.increment_counter("stalled", unique_key="one") == 1


async def test_r3_a_reply_too_many_is_never_taken_for_another_answer(
    server: PrivateRedis,
) -> None:
    """The relay puts the value of another key before every twentieth reply."""
    count = 0

    def one_too_many(reply: bytes) -> bytes:
        nonlocal count
        count += 1
        return b"$5\r\nwrong\r\n" + reply if count % 20 == 0 else reply

    async with TcpFront(server.port) as front:
        url = f"redis://127.0.0.1:{front.port}/0"
        adapter = RedisAdapter({"REDIS_URL": url}, timeout_ms=1000)
        for number in range(10):
            await adapter.cache_user(str(number), number)
        front.on_reply = one_too_many
        for turn in range(300):
            try:
                found = await adapter.get_from_cache(f"user:{turn % 10}")
            except CacheUnavailable:
                continue
            assert found in {None, turn % 10}
        assert adapter.lookups.malformed["user"] >= 1
        assert adapter.lookups.hits["user"] >= 200
        await adapter.close()


async def test_r3_another_protocol_is_recognised(server: PrivateRedis) -> None:
    async with TcpFront(server.port) as front:
        front.on_reply = lambda reply: b"HTTP/1.1 400 Bad Request\r\n\r\n"
        adapter = RedisAdapter({"REDIS_URL": f"redis://127.0.0.1:{front.port}/0"})
        with pytest.raises(CacheUnavailable, match="another protocol"):
            await adapter.connect()
        await adapter.close()


async def test_a_connect_that_is_slower_than_a_command_still_gets_there(
    server: PrivateRedis,
) -> None:
    """A caller gives up after 20 ms; the connection it asked for is there for the next one."""
    async with TcpFront(server.port) as front:
        front.reply_delay_s = 0.2
        url = f"redis://127.0.0.1:{front.port}/0"
        adapter = RedisAdapter({"REDIS_URL": url}, timeout_ms=20, connect_timeout_ms=5000)
        await seconds_to_fail(adapter.get_counter("c"))
        await eventually(lambda: adapter._pool.stats()["idle_connections"] == 1)
        front.reply_delay_s = 0.0
        await eventually(lambda: answers(adapter), within_s=RECOVERY_S)
        assert adapter._pool.stats()["connections_opened"] == 1
        assert front.accepted == 1
        await adapter.close()


# What an error says ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[PrivateRedis]:
    """A server that wants a password."""
    async with private_redis("--requirepass", "another") as server:
        yield server


@pytest.mark.parametrize("credentials", [f":{PASSWORD}@", f"someone:{PASSWORD}@", ""])
async def test_a_wrong_password_is_told_without_repeating_it(
    guarded: PrivateRedis, credentials: str
) -> None:
    adapter = RedisAdapter({"REDIS_URL": guarded.url.replace("//", f"//{credentials}")})
    with pytest.raises(CacheUnavailable, match="refused the user name or password") as refused:
        await adapter.connect()
    assert "REDIS_URL" in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert PASSWORD not in repr(adapter._limits)
    await adapter.close()


async def test_the_right_password_is_accepted(guarded: PrivateRedis) -> None:
    adapter = RedisAdapter({"REDIS_URL": guarded.url.replace("//", "//:another@")})
    await adapter.connect()
    await adapter.close()


async def test_an_unreachable_server_is_told_with_what_to_do() -> None:
    url = f"redis://someone:{PASSWORD}@localhost:{free_port()}/0"
    adapter = RedisAdapter({"REDIS_URL": url})
    with pytest.raises(CacheUnavailable, match="refuses connections; is it running") as refused:
        await adapter.connect()
    assert "redis://someone:***@localhost:" in str(refused.value)
    assert PASSWORD not in str(refused.value)
    await adapter.close()


async def test_an_unknown_host_is_told() -> None:
    adapter = RedisAdapter({"REDIS_URL": "redis://no-such-host.invalid:6379/0"})
    with pytest.raises(CacheUnavailable, match=r"cannot be found|did not answer"):
        await adapter.connect()
    await adapter.close()


async def test_a_missing_socket_is_told() -> None:
    adapter = RedisAdapter({"REDIS_URL": "unix:///nowhere/redis.sock"})
    with pytest.raises(CacheUnavailable, match="refuses connections"):
        await adapter.connect()
    await adapter.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "REDIS_URL is missing"),
        (f"http://user:{PASSWORD}@host", "begins with http"),
        (f"{PASSWORD}", "must begin like"),
        (f"redis://user:{PASSWORD}@host:port/0", "percent-encoded"),
        (f"redis://user:{PASSWORD}/x@host:6379/0", "percent-encoded"),
        ("redis://host:6379/first", "no number"),
        ("redis://host:6379/0?socket_timeout=5", "unknown option 'socket_timeout'"),
        ("redis://host:6379/0?ssl_ca_certs=/etc/hostname", "rediss://"),
        ("rediss://host:6379/0?ssl_ca_certs=/nowhere.pem", "names no file"),
        ("rediss://host:6379/0?ssl_cert_reqs=maybe", "required or none"),
        ("unix://", "names no socket"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_at_once(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        RedisAdapter({"REDIS_URL": url})
    assert PASSWORD not in str(refused.value)


# Leaks ------------------------------------------------------------------------------------------


async def test_two_hundred_failures_leave_nothing(guarded: PrivateRedis) -> None:
    silent = await TcpFront(0).start()
    good = guarded.url.replace("//", "//:another@")
    urls = [
        good,
        guarded.url,
        f"redis://127.0.0.1:{free_port()}/0",
        f"redis://127.0.0.1:{silent.port}/0",
        good,
    ]
    watcher = RedisAdapter({"REDIS_URL": good}, timeout_ms=2000)

    async def connections_at_the_server() -> int:
        said = await watcher.call("CLIENT", "LIST")
        assert isinstance(said, bytes)
        return len(said.splitlines())

    await watcher.connect()
    baseline = await connections_at_the_server()
    before = holdings()
    for cycle in range(200):
        adapter = RedisAdapter(
            {"REDIS_URL": urls[cycle % len(urls)]}, connect_timeout_ms=20, timeout_ms=20
        )
        call = asyncio.create_task(adapter.call("BLPOP", "nothing", 0))
        if cycle % 2:
            await asyncio.sleep(0.002)
            call.cancel()
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        assert isinstance(outcome, CacheUnavailable | asyncio.CancelledError)
        await adapter.close()

    async def is_as_before() -> bool:
        if await connections_at_the_server() != baseline:
            return False
        return holdings().tasks <= before.tasks

    await silent.stop()
    await eventually(is_as_before)
    # The relay's own listening socket is gone by now; nothing may have come in its place.
    assert holdings().files < before.files
    await watcher.close()


async def test_a_port_that_never_accepts_costs_a_command_its_limit_only() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        adapter = RedisAdapter({"REDIS_URL": f"redis://127.0.0.1:{port}/0"})
        assert await seconds_to_fail(adapter.get_counter("c")) < TIMEOUT_S + 1
        await adapter.close()
        for filler in fillers:
            filler.close()
