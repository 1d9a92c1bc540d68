"""`jitway serve --workers 2`: two processes answer as one gateway, whatever becomes of them."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chaos.connection import Connection, Reply, request_bytes
from chaos.gateway import Gateway
from chaos.server import send
from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import SystemClock
from jitway.embedded import running_url
from jitway.gateway.caller import Caller
from jitway.gateway.keys import SCOPES, create_key, revoke_key
from tests.end_to_end.asking import Asking
from tests.end_to_end.conftest import House

US = Caller("test", None, frozenset(SCOPES))
WORKERS = 2
CALLERS = 8
TIMEOUT_S = 20.0
# What counts for nothing else than that it ends: a busy machine may take its time.
PATIENCE_S = 30.0
DRAIN_S_MAX = 15.0
# After this a revoked key is refused by every worker.
REVOKED_S = 1.0

WRITTEN = "SELECT count(*) AS decisions FROM decision"
KNOWN = """
    SELECT request::jsonb->>'network_reference' AS key FROM decision
    WHERE request::jsonb->>'network_reference' = ANY ($1::text[])
"""


@dataclass
class Crew:
    """A gateway of two workers, with a connection to each of them."""

    gateway: Gateway
    asking: Asking
    postgres: PostgreSQLAdapter
    log: str
    to: dict[int, Connection] = field(default_factory=dict)

    def pids(self) -> dict[int, int]:
        """The process of each worker that served last, by number."""
        with open(self.log) as log:
            said = [json.loads(line) for line in log if '"worker_serves"' in line]
        return {one["worker"]: one["pid"] for one in said}

    async def meet(self) -> None:
        """Connects until there is a connection to each worker."""
        self.hang_up()
        async with asyncio.timeout(PATIENCE_S):
            while len(self.to) < WORKERS:
                connection = Connection(self.gateway.port)
                health = await self.get("/health", connection)
                self.to.setdefault(health.document["worker"], connection)
                if self.to[health.document["worker"]] is not connection:
                    connection.close()

    def hang_up(self) -> None:
        for connection in self.to.values():
            connection.close()
        self.to.clear()

    async def get(self, path: str, connection: Connection) -> Reply:
        raw = request_bytes("GET", path, key=self.asking.key)
        return await connection.ask(raw, timeout_s=TIMEOUT_S)

    async def authorize(self, worker: int, *, key: str = "") -> Reply:
        """One authorization by a certain worker."""
        raw = self.asking.authorization(0).raw
        if key:
            raw = raw.replace(self.asking.key.encode(), key.encode())
        return await self.to[worker].ask(raw, timeout_s=TIMEOUT_S)

    async def metrics(self, connection: Connection) -> dict[str, float]:
        """What a worker tells about all of them."""
        reply = await self.get("/metrics", connection)
        assert reply.status == 200, reply.body
        return samples(reply.body.decode())

    async def written(self) -> int:
        """How many decisions the ledger has."""
        (row,) = await self.postgres.execute_query(WRITTEN, [])
        return int(row["decisions"])


def samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def decided(told: dict[str, float]) -> float:
    return sum(value for name, value in told.items() if name.startswith("jitway_decisions_total"))


def state(told: dict[str, float], name: str) -> float:
    return told[f'jitway_workers{{state="{name}"}}']


@contextlib.asynccontextmanager
async def serving(
    house: House, *, drain_s: float = 0.2, funded: bool = True
) -> AsyncIterator[Crew]:
    """Two workers, and cards with money to ask them about."""
    gateway = house.gateway(JITWAY_WORKERS=str(WORKERS), JITWAY_DRAIN_S=str(drain_s))
    log = house.data_dir.parent / "gateway.log"
    log.unlink(missing_ok=True)
    await gateway.start()
    url = running_url(house.data_dir)
    assert url is not None
    postgres = PostgreSQLAdapter(database_url=url, pool_size_min=0, pool_size_max=1)
    asking = Asking(gateway.port, house.key)
    crew = Crew(gateway, asking, postgres, str(log))
    try:
        if funded:
            await asking.prepare()
        await crew.meet()
        yield crew
    finally:
        crew.hang_up()
        await postgres.close()
        await gateway.kill()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_two_workers_answer_as_one_gateway(house: House) -> None:
    async with serving(house) as crew:
        before = await crew.written()
        assert set(crew.pids()) == set(crew.to) == {1, 2}

        # Each decides, and any of them tells what both decided.
        for worker, times in ((1, 5), (2, 3)):
            for _ in range(times):
                assert (await crew.authorize(worker)).document["decision"] == "approved"
        assert await crew.written() - before == 8

        async def told_equals_rows() -> bool:
            told = [await crew.metrics(connection) for connection in crew.to.values()]
            return [decided(one) for one in told] == [8, 8]

        await until(told_equals_rows)
        told = await crew.metrics(crew.to[1])
        assert state(told, "serving") == 2
        assert told["jitway_authorization_seconds_count"] == 8
        assert told['jitway_postgres_connections{state="dedicated"}'] >= 2 * 2
        assert told["jitway_ready"] == 1
        profiles = [
            (await crew.get("/v1/profile", connection)).document for connection in crew.to.values()
        ]
        for profile in profiles:
            assert profile["processes"] == profile["workers"]["serving"] == 2
            assert profile["windows"]["start"]["total"]["count"] == 8
            assert profile["decisions"]["approved"] == 8

        # A card that one of them froze is frozen for the other, which has it in its cache.
        card = list(crew.asking.openings[0].cards)[1]
        raw = request_bytes("POST", f"/v1/cards/{card}/freeze", key=crew.asking.key)
        assert (await crew.to[1].ask(raw, timeout_s=TIMEOUT_S)).status == 200
        refused = (await crew.authorize(2)).document
        assert (refused["decision"], refused["reason"]) == ("declined", "card_frozen")

        # A key that somebody revoked is refused by both, which have it in theirs.
        clock = SystemClock()
        made, key = await create_key(crew.postgres, clock, US, scopes=("authorize",))
        assert [(await crew.authorize(one, key=key)).status for one in crew.to] == [200, 200]
        await revoke_key(crew.postgres, clock, US, made["id"])
        await asyncio.sleep(REVOKED_S)
        assert [(await crew.authorize(one, key=key)).status for one in crew.to] == [401, 401]

        code, seconds = await crew.gateway.terminate()
        assert (code, seconds < DRAIN_S_MAX) == (0, True)
    assert house.server.left_behind() == []


async def test_a_worker_that_dies_is_replaced_and_one_that_hangs_is_missed(house: House) -> None:
    async with serving(house) as crew:
        before = await crew.written()
        pids = crew.pids()
        counted = [0.0]
        async with under_load(crew) as asking:
            for _ in range(2):
                counted.append(decided(await crew.metrics(crew.to[2])))
                await asyncio.sleep(0.3)
            assert send(pids[1], signal.SIGKILL)

            async def is_replaced() -> bool:
                told = await crew.metrics(crew.to[2])
                counted.append(decided(told))
                return told["jitway_worker_restarts_total"] == 1 and state(told, "serving") == 2

            await until(is_replaced)
        # No counter went back, and nothing that was acknowledged is lost.
        assert counted == sorted(counted)
        assert counted[-1] > 0
        assert crew.pids()[1] != pids[1]
        acknowledged = {end.key for end in asking.ends if end.reply and end.reply.status == 200}
        rows = await crew.postgres.execute_query(KNOWN, [sorted(acknowledged)])
        assert {row["key"] for row in rows} == acknowledged
        assert decided(await crew.metrics(crew.to[2])) <= await crew.written() - before
        assert not [failure for failure in asking.failures() if failure[:3].isdigit()]

        # One that hangs costs a moment, and is told apart from those whose figures are fresh.
        await crew.meet()
        hanging = crew.pids()[1]
        assert send(hanging, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while state(told := await crew.metrics(crew.to[2]), "missing") != 1:
                    await asyncio.sleep(0.05)
            assert state(told, "serving") == 1
            assert decided(told) >= counted[-1]
            profile = (await crew.get("/v1/profile", crew.to[2])).document
            assert profile["workers"] == {"serving": 1, "starting": 0, "missing": 1}
            assert (await crew.authorize(2)).status == 200
        finally:
            send(hanging, signal.SIGCONT)

        async def is_back() -> bool:
            return state(await crew.metrics(crew.to[2]), "serving") == 2

        await until(is_back)

        # Then both are told to go, and nobody is failed by it.
        async with under_load(crew, until_refused=True) as asking:
            code, seconds = await crew.gateway.terminate()
        assert list(asking.failures()) == []
        assert asking.refused == CALLERS
        assert (code, seconds < DRAIN_S_MAX) == (0, True)
    assert house.server.left_behind() == []


@contextlib.asynccontextmanager
async def under_load(crew: Crew, *, until_refused: bool = False) -> AsyncIterator[Asking]:
    """Callers that keep their connections, and others that do not."""
    asking = Asking(crew.gateway.port, crew.asking.key, crew.asking.openings)
    going_on = True
    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            habit: dict[str, Any] = {"keeping_alive": number % 2 == 0, "pause_s": 0.01}
            callers.create_task(asking.keep_asking(number, lambda: going_on, **habit))
        async with asyncio.timeout(PATIENCE_S):
            while len(asking.ends) < 5 * CALLERS:
                await asyncio.sleep(0.01)
        try:
            yield asking
        finally:
            going_on = until_refused


async def test_workers_end_with_their_supervisor_and_the_next_start_goes_on(house: House) -> None:
    async with serving(house, funded=False) as crew:
        workers = list(crew.pids().values())
        postmasters = [one.pid for one in house.server.postmasters()]
        await crew.gateway.kill()
        await house.server.gone(workers)
        assert [one.pid for one in house.server.postmasters()] == postmasters

    async with serving(house, drain_s=5, funded=False) as crew:
        assert [one.pid for one in house.server.postmasters()] == postmasters
        # Told to go twice, everybody goes at once; the server stays for the next start.
        crew.gateway.send(signal.SIGTERM)
        await until(lambda: is_draining(crew.asking))
        crew.gateway.send(signal.SIGTERM)
        assert await crew.gateway.ended(timeout_s=4) == 1
        await house.server.gone(list(crew.pids().values()))
        assert [one.pid for one in house.server.postmasters()] == postmasters


async def is_draining(asking: Asking) -> bool:
    return (await asking.look("/ready")).status == 503
