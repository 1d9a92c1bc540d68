"""A gateway while its PostgreSQL is frozen, killed, slow, locked or cut off.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.errors import NoDecision
from jitway.gateway.authorize import AuthorizeOptions
from jitway.gateway.caller import Idempotency
from jitway.sql.migrate import migrate
from tests.conftest import PrivateServer
from tests.integration.commit_wire import CommitWire, Fault, commit_wire_to
from tests.integration.stepped import PATIENT, Gateway, eventually, gateway_on
from tests.world import Document, World, body, fresh_key

pytestmark = pytest.mark.timeout(90)

UNKNOWN_CARD = "crd_nobody_has"

# The limits of a server, in miniature; a frozen one is noticed after `hang_ms`.
SHORT = AuthorizeOptions(
    budget_ms=600, lock_timeout_ms=100, statement_timeout_ms=400, hang_ms=1_000
)


@pytest.fixture
async def private_world(private_server: PrivateServer) -> AsyncIterator[World]:
    """A world on a server that may be broken."""
    adapter = PostgreSQLAdapter({"DATABASE_URL": private_server.url}, pool_size_min=1)
    await migrate(adapter)
    async with World(adapter) as world:
        yield world
    await adapter.close()


async def active_holds(world: World) -> set[str]:
    """The authorizations that hold money now."""
    rows = await world.rows("SELECT id FROM hold WHERE state = 'active'")
    return {f"aut_{row['id'].hex}" for row in rows}


async def at_full_number(gateway: Gateway) -> bool:
    """Both lanes have their connection, and nobody holds one of the pool."""
    stats = await gateway.postgres.get_pool_stats()
    return bool(stats["dedicated_connections"] == 2 and stats["in_use"] == 0)


# Frozen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "statement_ms", "hang_ms"),
    [
        ("before lock_accounts", 400, 30_000),
        ("before write_batch", 400, 700),
        # Slow to time out, so that the server finds the COMMIT in its socket and carries it out.
        ("before commit", 10_000, 30_000),
        ("before commit", 10_000, 700),
    ],
)
async def test_a_frozen_server_is_no_decision_in_time_and_books_nothing(
    private_world: World, private_server: PrivateServer, step: str, statement_ms: int, hang_ms: int
) -> None:
    """P5. SIGSTOP at each step; then SIGCONT, before or after the connection was given up.

    Requests end at their deadline, while the server is still frozen. A COMMIT that lands late is
    abandoned, and the gateway goes on by itself, with as many connections as before.
    Without `_late` in `_deliver` (30 s) and in `_settle_unknown` (0.7 s), holds stood. Without the
    timer in `Waiting.wait`, nobody was answered.
    """
    world = private_world
    await world.deposit(1000)
    unseen = await world.new_card()
    options = replace(SHORT, statement_timeout_ms=statement_ms, hang_ms=hang_ms)
    async with gateway_on(private_server.url, options=options) as gateway:
        await gateway.know(world.card)
        stands = await active_holds(world) | {(await recover(gateway, world.card))["id"]}

        async def freeze() -> None:
            private_server.freeze()

        gateway.steps.act(step, freeze)
        keys = [fresh_key() for _ in range(6)]
        asked = [gateway.ask(world.card, 10, key=key) for key in keys]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, NoDecision) for answer in answers)
        # Also when not even the card can be read.
        with pytest.raises(NoDecision):
            await gateway.ask(unseen, 10)
        if hang_ms < 30_000:
            lane = gateway.postgres.batch_connections[0]
            await eventually(lambda: asyncio.sleep(0, lane.closed))
        private_server.thaw()

        recovered = await recover(gateway, world.card)
        stands.add(recovered["id"])

        async def only_what_was_answered() -> bool:
            return await active_holds(world) == stands

        await eventually(only_what_was_answered)
        await eventually(lambda: at_full_number(gateway))
        for key in keys:
            repeated = await recover(gateway, world.card, amount=10, key=key)
            # Either it was never booked and is decided now, or it was and is void.
            if repeated["decision"] == "approved":
                stands.add(repeated["id"])
            else:
                assert repeated["reason"] == "abandoned"
        await eventually(only_what_was_answered)
    await world.audited()


async def recover(
    gateway: Gateway, card: Document, *, amount: int = 1, key: Idempotency | None = None
) -> Document:
    """The first decision after a fault; whoever asks again and again gets one.

    Without a key each attempt has its own, so that a late one is void and not repeated.
    """
    async with asyncio.timeout(20):
        while True:
            try:
                return await gateway.decide(card, amount, key=key)
            except NoDecision:
                continue


# Killed ------------------------------------------------------------------------------------------


async def test_a_killed_server_comes_back_and_everybody_is_answered(
    private_world: World, private_server: PrivateServer
) -> None:
    """P1, P2. Killed under a batch and started again within the callers' patience.

    Without the repeat on StoreUnavailable in `_run`, they were told that there is no decision.
    """
    world = private_world
    await world.deposit(1000)
    async with gateway_on(private_server.url) as gateway:
        await gateway.know(world.card)
        down = asyncio.Event()

        async def kill() -> None:
            await private_server.kill()
            down.set()

        gateway.steps.act("before commit", kill)
        asked = [gateway.ask(world.card, 10) for _ in range(6)]
        await down.wait()
        await private_server.start()
        answers = [body(answer) for answer in await asyncio.gather(*asked)]
        assert [answer["decision"] for answer in answers] == ["approved"] * 6
        assert await active_holds(world) >= {answer["id"] for answer in answers}
        assert (await world.balances())[1] == 60
        # The spare connection died too, and is made again when it is needed.
        async with world.locked(world.account):
            waiting = gateway.steps.stop("before lock_account_waiting")
            late = gateway.ask(world.card, 10)
            await waiting.reached()
            waiting.open()
        assert body(await late)["decision"] == "approved"
        assert await at_full_number(gateway)
    await world.audited()


@pytest.mark.parametrize("step", ["before begin", "before commit"])
async def test_a_terminated_backend_costs_one_connection(
    world: World, database: str, step: str
) -> None:
    """P3: idle, and in a transaction before its COMMIT. Seen to fail as the test before."""
    await world.deposit(1000)
    async with gateway_on(database) as gateway:
        await gateway.know(world.card)
        victim = gateway.postgres.batch_connections[0].backend_pid

        async def terminate() -> None:
            await world.rows("SELECT pg_terminate_backend($1, 5000)", victim)

        gateway.steps.act(step, terminate)
        asked = [gateway.ask(world.card, 10) for _ in range(6)]
        answers = [body(answer) for answer in await asyncio.gather(*asked)]
        assert [answer["decision"] for answer in answers] == ["approved"] * 6
        assert (await world.balances())[1] == 60
        assert len(gateway.postgres.batch_connections) == 3
        await eventually(lambda: at_full_number(gateway))
    await world.audited()


# Locked ------------------------------------------------------------------------------------------


@asynccontextmanager
async def locked_table(world: World, table: str) -> AsyncIterator[None]:
    """A table that somebody changes, and forgets to."""
    blocker = await world.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=1000, idle_in_transaction_timeout_ms=30_000
    )
    await blocker.begin()
    await blocker.fetch(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    yield
    await blocker.rollback()
    blocker.terminate()


@pytest.mark.parametrize("table", ["account", "idempotency_key"])
async def test_a_locked_table_is_no_decision_in_time(
    world: World, database: str, table: str
) -> None:
    """P10. Without the timer in `Waiting.wait`, nobody was answered while it was locked."""
    await world.deposit(1000)
    async with gateway_on(database, options=SHORT) as gateway:
        await gateway.know(world.card)
        async with locked_table(world, table):
            asked = [gateway.ask(card, 10) for card in (world.card, UNKNOWN_CARD, world.card)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(answer, NoDecision) for answer in answers)
        stands = {(await recover(gateway, world.card))["id"]}

        async def only_what_was_answered() -> bool:
            return await active_holds(world) == stands

        await eventually(only_what_was_answered)
        await eventually(lambda: at_full_number(gateway))
    await world.audited()


async def test_whoever_waited_for_a_table_is_decided_when_it_is_free(
    world: World, database: str
) -> None:
    """P10. With `assert lock is not None` in `_park`, as it was, the lane died of the request that
    has no account to wait for, and all three were lost.
    """
    await world.deposit(1000)
    async with gateway_on(database, options=replace(PATIENT, lock_timeout_ms=50)) as gateway:
        await gateway.know(world.card)
        async with locked_table(world, "account"):
            waiting = gateway.steps.stop("before lock_account_waiting")
            asked = [gateway.ask(card, 10) for card in (world.card, UNKNOWN_CARD, world.card)]
            await waiting.reached()
        waiting.open()
        answers = [body(answer)["decision"] for answer in await asyncio.gather(*asked)]
        assert answers == ["approved", "declined", "approved"]
    await world.audited()


# Cut off -----------------------------------------------------------------------------------------


async def test_any_commit_may_fail_and_the_books_agree_with_what_was_answered(
    world: World, database: str
) -> None:
    """P4 at random: two gateways, each behind a wire that fails at one COMMIT of five.

    Callers who get no decision ask again under their key, at the other gateway. What they were
    answered is what stands. Seen to fail with a commit of unknown outcome taken for a success, and
    for a failure that left nothing.
    """
    seed = int(os.environ["TEST_SEED"])
    patience = replace(PATIENT, budget_ms=1_500, lock_timeout_ms=100, hang_ms=700)
    cards = [(await world.funded_card(60))[1] for _ in range(4)]
    async with (
        commit_wire_to(database, seed=seed) as wire,
        commit_wire_to(database, seed=seed + 1) as other_wire,
        gateway_on(wire.url, options=patience) as gateway,
        gateway_on(other_wire.url, options=patience) as other,
    ):
        wires: list[CommitWire] = [wire, other_wire]
        for one in wires:
            one.by_chance(0.2, Fault.CUT_BEFORE, Fault.CUT_AFTER, Fault.DELAY)
        wire.plan(Fault.SWALLOW)
        chance = random.Random(seed)
        answers: list[Document] = []

        async def caller() -> None:
            for _ in range(8):
                asked = chance.sample((gateway, other), 2)
                amount = chance.randrange(1, 8)
                answers.append(await insist(asked, chance.choice(cards), amount=amount))

        await asyncio.gather(*(caller() for _ in range(12)))
        for one in wires:
            one.by_chance(0)
        assert wire.happened
        assert other_wire.happened
        approved = {
            one["id"]: one["approved_amount"] for one in answers if one["decision"] == "approved"
        }

        async def what_was_answered_stands() -> bool:
            return await active_holds(world) == set(approved)

        await eventually(what_was_answered_stands)
        await eventually(lambda: at_full_number(gateway))
        await eventually(lambda: at_full_number(other))
    rows = await world.rows("SELECT sum(held)::bigint AS held FROM account")
    assert rows[0]["held"] == sum(approved.values())
    assert len({one["id"] for one in answers}) == 12 * 8
    await world.audited()


async def insist(gateways: list[Gateway], card: Document, *, amount: int) -> Document:
    """Asks under one key until there is an answer, by turns; then once more, for equal bytes."""
    key = fresh_key(f"{card['id']} {amount}")
    while True:
        gateways.reverse()
        try:
            answer = await gateways[0].ask(card, amount, key=key)
            break
        except NoDecision:
            continue
    while True:
        gateways.reverse()
        try:
            repeated = await gateways[0].ask(card, amount, key=key)
        except NoDecision:
            continue
        assert repeated.body == answer.body
        assert repeated.replayed
        return body(answer)


# Slow --------------------------------------------------------------------------------------------

FLUSH_S = 0.2


@asynccontextmanager
async def slow_flushes(postmaster: int) -> AsyncIterator[None]:
    """Every flush of the server's processes that are made from now on takes 200 ms longer."""
    tracer = await asyncio.create_subprocess_exec(
        "strace",
        *("-f", "-qq", "--seccomp-bpf", "-p", str(postmaster)),
        *("-e", "trace=fdatasync", "-e", f"inject=fdatasync:delay_enter={FLUSH_S * 1e6:.0f}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await traced(tracer, postmaster)
        yield
    finally:
        if tracer.returncode is None:
            tracer.terminate()
        await tracer.communicate()


async def traced(tracer: asyncio.subprocess.Process, postmaster: int) -> None:
    """Ends when the tracer is attached; skips the test where it may not."""
    async with asyncio.timeout(10):
        while f"TracerPid:\t{tracer.pid}" not in status_of(postmaster):
            if tracer.returncode is not None:
                assert tracer.stderr is not None
                why = (await tracer.stderr.read()).decode().strip()
                pytest.skip(f"GROUP COMMIT NOT MEASURED: strace cannot attach: {why}")
            await asyncio.sleep(0.01)


def status_of(pid: int) -> str:
    with open(f"/proc/{pid}/status") as status:
        return status.read()


async def test_one_flush_serves_all_who_wait(
    private_world: World, private_server: PrivateServer
) -> None:
    """With a flush of 200 ms: a lone answer takes one, and 64 together less than five.

    Without durability (`synchronous_commit` off) the lone answer took none; with a batch for each
    request, 64 took more than twelve seconds.
    """
    if shutil.which("strace") is None:
        pytest.skip("GROUP COMMIT NOT MEASURED: strace is not installed")
    world = private_world
    cards = [(await world.funded_card(100))[1] for _ in range(64)]
    postmaster = await postmaster_of(world)
    loop = asyncio.get_running_loop()
    async with (
        slow_flushes(postmaster),
        gateway_on(private_server.url, options=replace(PATIENT, budget_ms=20_000)) as gateway,
    ):
        await gateway.know(*cards)
        await gateway.decide(cards[0], 1)
        started = loop.time()
        await gateway.decide(cards[1], 1)
        assert loop.time() - started >= FLUSH_S

        took_s = []
        for _ in range(3):
            gateway.steps.forget()
            started = loop.time()
            lone = gateway.ask(cards[0], 1)
            await asyncio.sleep(0)
            answers = await asyncio.gather(lone, *(gateway.ask(card, 1) for card in cards[1:]))
            took_s.append(loop.time() - started)
            assert all(body(answer)["decision"] == "approved" for answer in answers)
            assert gateway.steps.sent.count("commit") <= 3
            if took_s[-1] < 5 * FLUSH_S:
                break
        # The best of three: a crowded machine is not what is measured.
        assert min(took_s) < 5 * FLUSH_S
    await world.audited()


async def postmaster_of(world: World) -> int:
    """The process that every other process of the server is a child of."""
    rows = await world.rows("SELECT pg_read_file('postmaster.pid') AS text")
    return int(rows[0]["text"].split()[0])
