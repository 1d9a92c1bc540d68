"""What survives what: killed, frozen, cancelled; how long it takes is measured, generously limited.

`scripts/chaos kill` does the same many times over, at random, and prints the figures.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from chaos.checker import check
from chaos.gateway import Gateway
from chaos.load import Load
from chaos.nemesis import Target
from chaos.proof import prove
from chaos.rows import read_ledger
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.embedded import EmbeddedPostgreSQL, running_url
from tests.end_to_end.asking import Asking
from tests.end_to_end.conftest import House

# A quiet machine needs a tenth of it.
SILENT_MS_MAX = 30_000.0
START_S_MAX = 15.0
STOP_S_MAX = 10.0
# Longer than a batch may hang before its connection is given up.
FROZEN_S = 7.0
BUDGET_S = 1.0
NOT_READY_S_MAX = 6.0
RECOVERED_S_MAX = 30.0
LATE_S_MAX = 3.0
VOIDED_S_MAX = 60.0

OURS = """
    SELECT pid, state FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
COMMITTING = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = 'COMMIT'"
STATES = """
    SELECT hold.state FROM decision JOIN hold ON hold.id = decision.id
    WHERE decision.request::jsonb->>'network_reference' = ANY ($1::text[])
"""


@contextlib.asynccontextmanager
async def looking_at(house: House) -> AsyncIterator[PostgreSQLAdapter]:
    """One connection to the gateway's database, beside the gateway's own."""
    url = running_url(house.data_dir)
    assert url is not None
    postgres = PostgreSQLAdapter(
        database_url=url, pool_size_min=1, pool_size_max=1, slow_query_ms=60_000
    )
    try:
        yield postgres
    finally:
        await postgres.close()


@contextlib.asynccontextmanager
async def serving(house: House, **settings: str) -> AsyncIterator[tuple[Gateway, Asking]]:
    """A gateway with funded cards, which ends in order."""
    gateway = house.gateway(**settings)
    await gateway.start()
    try:
        asking = Asking(gateway.port, house.key)
        await asking.prepare()
        yield gateway, asking
        code, seconds = await gateway.terminate()
        assert code == 0
        assert seconds < STOP_S_MAX
    finally:
        await gateway.kill()


async def within(seconds: float, holds: Callable[[], Awaitable[bool]]) -> float:
    """How many seconds it took to come to hold; fails when it does not."""
    began_s = time.monotonic()
    while not await holds():
        assert time.monotonic() - began_s < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


async def verified(gateway: Gateway) -> None:
    """`jitway verify` finds nothing."""
    code, books = await gateway.command("verify")
    assert (code, books["violations"]) == (0, [])


async def test_whoever_is_killed_under_load_nothing_acknowledged_is_lost(house: House) -> None:
    gateway = house.gateway()
    nemesis = house.nemesis(gateway)
    await nemesis.begin()
    load = Load(gateway.port, house.key, seed=7)
    await load.open()
    load.start()
    for target in Target:
        await asyncio.sleep(0.3)
        assert await nemesis.hit_and_wait(target, load) < SILENT_MS_MAX
    await load.stop()
    repeated = await load.repeat(count_max=500)
    await load.approve_one_each()
    await nemesis.end()
    assert nemesis.violations == []

    server = EmbeddedPostgreSQL(house.data_dir)
    url = await server.start()
    try:
        checked = check(load.history, await read_ledger(url, load.history))
        deleted, doubled = await prove(url, load.history)
    finally:
        await server.stop()
    assert checked.violations == []
    assert checked.calls > 100
    assert repeated > 50
    assert load.history.counts()["unknown"] > 0, "nobody noticed the kills"
    # Who found nothing must be one who would have, even where the books are right.
    assert deleted.noticed, "an approval was deleted"
    assert doubled.noticed, "an approval was doubled"
    assert (deleted.books_right, doubled.books_right) == (True, True)
    await verified(gateway)


async def test_a_second_start_is_quick_and_one_after_a_kill_as_well(house: House) -> None:
    gateway = house.gateway()
    await gateway.start()
    await gateway.terminate()
    after_clean_stop = await gateway.start()
    await gateway.kill()
    after_kill = await gateway.start()
    killed = house.server.send(signal.SIGKILL)
    await gateway.kill()
    await house.server.gone(killed)
    after_killing_both = await gateway.start()
    assert len(house.server.postmasters()) == 1
    assert max(after_clean_stop, after_kill, after_killing_both) < START_S_MAX
    assert (await gateway.terminate())[0] == 0


async def test_a_frozen_postgresql_gets_nobody_a_late_approval(house: House) -> None:
    budget = {"JITWAY_DECISION_BUDGET_MS": str(int(BUDGET_S * 1000))}
    async with serving(house, **budget) as (gateway, asking), looking_at(house) as postgres:
        stopping = asyncio.Event()

        def is_going_on() -> bool:
            return not stopping.is_set()

        async with asyncio.TaskGroup() as callers, slow_commits(postgres):
            for number in range(8):
                callers.create_task(asking.keep_asking(number, is_going_on, pause_s=0.01))
            # Shorter and longer than a batch may hang before its connection is given up.
            await frozen_in_commit(house, postgres, asking, BUDGET_S + 0.5)
            await within(RECOVERED_S_MAX, lambda: is_approved(asking))
            began_s, ended_s = await frozen_in_commit(house, postgres, asking, FROZEN_S)
            await within(RECOVERED_S_MAX, lambda: is_approved(asking))
            stopping.set()
        await within(10, lambda: is_ready(asking, 200))

        during = [end for end in asking.ends if began_s < end.began_s < ended_s - BUDGET_S]
        assert len(during) >= 8
        for end in during:
            assert end.took_s < BUDGET_S + LATE_S_MAX
            assert end.reply is not None, end.failure
            assert (end.reply.status, end.reply.document["code"]) == (503, "no_decision")
            assert int(end.reply.headers["retry-after"]) >= 1
        unanswered = [end.key for end in asking.ends if not end.reply or end.reply.status != 200]

        async def none_is_held() -> bool:
            rows = await postgres.execute_query(STATES, [unanswered])
            return all(row["state"] == "abandoned" for row in rows)

        await within(VOIDED_S_MAX, none_is_held)
        assert await postgres.execute_query(STATES, [unanswered]), "no commit was late"
    await verified(gateway)


@contextlib.asynccontextmanager
async def slow_commits(postgres: PostgreSQLAdapter) -> AsyncIterator[None]:
    """Every commit takes a tenth of a second, so that one can be met in the act."""
    for setting in ("commit_delay = 100000", "commit_siblings = 0"):
        await postgres.execute_query(f"ALTER SYSTEM SET {setting}")
    await postgres.execute_query("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await postgres.execute_query("ALTER SYSTEM RESET ALL")
        await postgres.execute_query("SELECT pg_reload_conf()")


async def frozen_in_commit(
    house: House, postgres: PostgreSQLAdapter, asking: Asking, seconds: float
) -> tuple[float, float]:
    """Freezes every process of PostgreSQL while a batch commits; when it began and ended."""
    async with asyncio.timeout(10):
        while not await postgres.execute_query(COMMITTING):
            pass
    house.server.send(signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        if seconds > NOT_READY_S_MAX:
            await within(NOT_READY_S_MAX, lambda: is_ready(asking, 503))
        await asyncio.sleep(seconds - (time.monotonic() - began_s))
    finally:
        house.server.send(signal.SIGCONT)
    return began_s, time.monotonic()


async def test_connections_return_to_their_number_after_any_cancel(house: House) -> None:
    async with serving(house) as (gateway, asking), looking_at(house) as postgres:

        async def pids() -> Sequence[dict[str, Any]]:
            return await postgres.execute_query(OURS)

        stopping = asyncio.Event()
        requests = (asking.authorization, asking.deposit)
        async with asyncio.TaskGroup() as callers:
            for number in range(8):
                callers.create_task(
                    asking.keep_asking(
                        number,
                        lambda: not stopping.is_set(),
                        request=requests[number % 2],
                        pause_s=0.005,
                    )
                )
            await asyncio.sleep(0.5)
            settled = len(await pids())
            for _ in range(5):
                for verb in ("cancel", "terminate"):
                    await postgres.execute_query(
                        f"SELECT pg_{verb}_backend(pid) FROM ({OURS}) AS ours"
                    )
                    await asyncio.sleep(0.2)
            stopping.set()

        async def as_before() -> bool:
            found = await pids()
            return len(found) >= min(settled, 7) and all(one["state"] == "idle" for one in found)

        await within(20, as_before)
        assert len(await pids()) <= settled + 1
        assert (await asking.authorize()).status == 200
    await verified(gateway)


async def is_ready(asking: Asking, status: int) -> bool:
    return (await asking.look("/ready")).status == status


async def is_approved(asking: Asking) -> bool:
    reply = await asking.authorize()
    return reply.status == 200 and reply.document["decision"] == "approved"
