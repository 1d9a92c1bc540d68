"""Rules 1 to 6 of the ledger: locks, and what is read behind them.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jitway.adapters.postgresql import DedicatedConnection
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.errors import LockTimeout
from jitway.gateway.authorize import AuthorizeOptions
from jitway.gateway.caller import Answer
from jitway.sql import statements
from tests.integration.stepped import Gateway, eventually, gateway_on
from tests.world import Document, World, body, fresh_key

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]


@pytest.fixture
async def gateway(world: World, database: str) -> AsyncIterator[Gateway]:
    async with gateway_on(database) as gateway:
        yield gateway


async def outcomes(*asked: "asyncio.Task[Answer]") -> list[tuple[str, str | None]]:
    """Decision and reason of each answer."""
    decided = [body(answer) for answer in await asyncio.gather(*asked)]
    return [(one["decision"], one["reason"]) for one in decided]


# Rule 1 ------------------------------------------------------------------------------------------


async def test_a_freeze_between_the_lock_and_the_refresh_is_seen_at_repeatable_read(
    world: World, database: str
) -> None:
    """Without `ISOLATION LEVEL READ COMMITTED` in BEGIN, the frozen card was approved."""
    name = database.partition("?")[0].rpartition("/")[2]
    await world.rows(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    await world.deposit(100)
    async with gateway_on(database) as gateway:
        await gateway.know(world.card)

        async def freeze_without_a_lock() -> None:
            await world.rows(
                "UPDATE card SET state = 'frozen', version = version + 1 WHERE id = $1", world.card
            )

        gateway.steps.act("after lock_accounts", freeze_without_a_lock)
        assert await outcomes(gateway.ask(world.card, 10)) == [("declined", "card_frozen")]


async def test_a_freeze_between_the_view_and_the_lock_is_seen(
    world: World, gateway: Gateway
) -> None:
    """With the cached view taken for fresh in `_reload_stale`, the frozen card was approved."""
    await world.deposit(100)
    assert (await gateway.decide(world.card, 10))["decision"] == "approved"
    gateway.steps.act("before lock_accounts", world.freeze)
    assert await outcomes(gateway.ask(world.card, 10)) == [("declined", "card_frozen")]
    await world.audited()


async def test_whoever_waited_for_a_freeze_to_commit_sees_it(
    world: World, gateway: Gateway
) -> None:
    """The lock is granted only after the freeze, and everything is read again behind it.

    With the cached view taken for fresh, the frozen card was approved.
    """
    await world.deposit(100)
    await gateway.know(world.card)
    async with world.locked(world.account):
        asked = gateway.ask(world.card, 10)
        waiting = gateway.steps.stop("before lock_account_waiting")
        await waiting.reached()
        await world.rows(
            "UPDATE card SET state = 'frozen', version = version + 1 WHERE id = $1", world.card
        )
        waiting.open()
    assert await outcomes(asked) == [("declined", "card_frozen")]


# Rule 2 ------------------------------------------------------------------------------------------


async def test_an_open_insert_of_a_card_does_not_make_its_account_skipped(
    world: World, gateway: Gateway
) -> None:
    """With `FOR UPDATE` in lock_accounts the account was skipped, and waited for in vain."""
    await world.deposit(100)
    await gateway.know(world.card)
    connection = await world.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=1000, idle_in_transaction_timeout_ms=30_000
    )
    await connection.begin()
    await connection.fetch(
        "INSERT INTO card (id, program_id, cardholder_id, account_id, created_at) "
        "SELECT gen_random_uuid(), program_id, cardholder_id, account_id, now() FROM card"
    )
    gateway.steps.forget()
    assert await outcomes(gateway.ask(world.card, 10)) == [("approved", None)]
    assert "lock_account_waiting" not in gateway.steps.sent
    await connection.rollback()
    connection.terminate()


async def test_a_capture_locks_the_account_before_the_hold(world: World, gateway: Gateway) -> None:
    """A batch that recalls an approval holds its account and will lock its hold.

    With `lock_held` taking the hold first, each waited for the other.
    """
    await world.deposit(100)
    key = fresh_key()
    approval = await gateway.decide(world.card, 10, key=key)
    recalling = gateway.steps.stop("before mark_recalled")
    repeated = gateway.ask(world.card, 10, key=key)
    await recalling.reached()
    captured = asyncio.create_task(capture_patiently(world, approval))
    await eventually(lambda: waits_for_a_lock(world))
    await world.rows("SELECT id FROM hold WHERE id = $1 FOR NO KEY UPDATE NOWAIT", approval)
    recalling.open()
    assert body(await repeated) == approval
    await captured
    assert (await world.balances())[:2] == (90, 0)
    await world.audited()


async def capture_patiently(world: World, approval: Document) -> None:
    """Captures; a lock that takes longer than a verb waits is asked for again."""
    while True:
        try:
            await world.capture(approval, 10)
        except LockTimeout:
            continue
        return


async def waits_for_a_lock(world: World) -> bool:
    rows = await world.rows(
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    return bool(rows)


# Rule 3 ------------------------------------------------------------------------------------------


async def test_a_limit_over_several_accounts_is_not_spent_twice_by_two_gateways(
    world: World, database: str, gateway: Gateway
) -> None:
    """The second gateway is deferred by the owner's lock, until the first has committed.

    Without FOR NO KEY UPDATE in both `lock_owners` and without the version in the update of the
    windows, 120 of 100 were spent. Without the locks alone, the second gateway wrote on what it
    had read before, and the version undid that: one write too many.
    """
    account, card = await world.funded_card(1000)
    await world.deposit(1000)
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, amount=100),)))
    async with gateway_on(database) as other:
        await gateway.know(world.card)
        await other.know(card)
        committing = gateway.steps.stop("before commit")
        first = gateway.ask(world.card, 60)
        await committing.reached()

        deferred = other.steps.stop("before lock_owners_waiting")
        second = other.ask(card, 60)
        await deferred.reached()
        assert "write_batch" not in other.steps.sent
        deferred.open()
        committing.open()

        assert await outcomes(first) == [("approved", None)]
        assert await outcomes(second) == [("declined", "spend_limit_exceeded")]
        assert other.steps.sent.count("write_batch") == 1
    assert (await world.window(world.program)) == (60, 1)
    assert (await world.balances(account))[1] == 0
    await world.audited()


async def test_a_limit_over_a_cardholders_accounts_holds_under_load(
    world: World, database: str, gateway: Gateway
) -> None:
    """Two gateways, four accounts, 40 requests of 10 against 205: exactly 20 pass.

    Seen to fail as the test before.
    """
    cards = [(await world.funded_card(1000))[1] for _ in range(4)]
    limits = SpendControls((Limit(Period.MONTH, amount=205),))
    await world.limit("cardholder", world.cardholder, limits)
    async with gateway_on(database) as other:
        asked = [one.ask(card, 10) for _ in range(5) for card in cards for one in (gateway, other)]
        decided = await outcomes(*asked)
    assert decided.count(("approved", None)) == 20
    assert decided.count(("declined", "spend_limit_exceeded")) == 20
    await world.audited()


# Rule 4 ------------------------------------------------------------------------------------------


async def test_two_gateways_progress_on_a_hot_account(
    world: World, database: str, gateway: Gateway
) -> None:
    """Whoever finds nothing to lock waits for the lock instead of asking again and again.

    With `waiting=False` in both lanes, each gateway ran many more empty transactions than batches.
    """
    await world.deposit(10_000)
    async with gateway_on(database) as other:

        async def spend(one: Gateway) -> None:
            for _ in range(6):
                assert (await one.decide(world.card, 1))["decision"] == "approved"

        await asyncio.gather(*(spend(one) for _ in range(10) for one in (gateway, other)))
        for one in (gateway, other):
            assert one.steps.sent.count("rollback") <= 2 * one.steps.sent.count("commit")
    assert (await world.balances())[1] == 120
    await world.audited()


async def test_a_latecomer_waits_beside_the_lane(world: World, gateway: Gateway) -> None:
    """With the latecomers run on the lane itself, the free account waited for the locked one."""
    await world.deposit(100)
    _, free_card = await world.funded_card(100)
    await gateway.know(world.card, free_card)
    async with world.locked(world.account):
        waiting = gateway.steps.stop("before lock_account_waiting")
        late = gateway.ask(world.card, 10)
        await waiting.reached()
        assert (await gateway.decide(free_card, 10))["decision"] == "approved"
        assert not late.done()
        waiting.open()
    assert await outcomes(late) == [("approved", None)]


async def test_an_account_locked_for_long_keeps_no_other_latecomer_waiting(
    world: World, database: str
) -> None:
    """P9, P20: whoever was waited for in vain goes to the back, and the others are tried.

    With `return members` on every LockTimeout, as it was first written, the second account was
    parked until the first one's requests had reached their deadline.
    """
    await world.deposit(100)
    other_account, other_card = await world.funded_card(100)
    options = AuthorizeOptions(
        budget_ms=30_000, lock_timeout_ms=30, statement_timeout_ms=20_000, hang_ms=30_000
    )
    async with gateway_on(database, options=options) as gateway:
        await gateway.know(world.card, other_card)
        async with world.locked(world.account):
            async with world.locked(other_account):
                waiting = gateway.steps.stop("before lock_account_waiting")
                stuck = gateway.ask(world.card, 10)
                late = gateway.ask(other_card, 10)
                await waiting.reached()
            waiting.open()
            async with asyncio.timeout(10):
                assert await outcomes(late) == [("approved", None)]
            assert not stuck.done()
        assert await outcomes(stuck) == [("approved", None)]
    await world.audited()


# Rule 5 ------------------------------------------------------------------------------------------


async def test_a_card_that_points_to_another_account_is_decided_there(
    world: World, gateway: Gateway
) -> None:
    """With the cached view taken for fresh in `_reload_stale`, the old account paid."""
    await world.deposit(100)
    other, _ = await world.funded_card(100)
    await gateway.know(world.card)
    await world.rows(
        "UPDATE card SET account_id = $2, version = version + 1 WHERE id = $1", world.card, other
    )
    decided = await gateway.decide(world.card, 10)
    assert (decided["decision"], decided["account"]) == ("approved", other["id"])
    assert (await world.balances())[1] == 0
    assert (await world.balances(other))[1] == 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE card SET state = 'closed', version = version + 1", "card_not_active"),
        (
            "UPDATE cardholder SET state = 'suspended', version = version + 1",
            "cardholder_not_active",
        ),
        ("UPDATE program SET state = 'suspended', version = version + 1", "program_not_active"),
        ("UPDATE account SET state = 'frozen'", "account_not_active"),
        (
            "WITH made AS (INSERT INTO spend_control SELECT id, 'program', id, "
            """'{"limits": [{"period": "transaction", "amount": 1}]}', now() FROM program) """
            "UPDATE program SET version = version + 1",
            "amount_over_limit",
        ),
    ],
)
async def test_every_version_a_decision_rests_on_is_read_behind_the_lock(
    world: World, gateway: Gateway, change: str, reason: str
) -> None:
    """Without its column in `refresh`, each of the versions let an approval through."""
    await world.deposit(100)
    await gateway.know(world.card)
    gateway.steps.act("before lock_accounts", lambda: world.rows(change))
    assert await outcomes(gateway.ask(world.card, 10)) == [("declined", reason)]


async def test_a_change_above_the_card_is_answered_when_older_batches_have_ended(
    world: World, gateway: Gateway
) -> None:
    """Without `wait_for_older_batches` in set_controls, it was answered before they had."""
    await world.deposit(100)
    await gateway.know(world.card)
    committing = gateway.steps.stop("before commit")
    older = gateway.ask(world.card, 10)
    await committing.reached()
    limits = SpendControls((Limit(Period.TRANSACTION, amount=1),))
    changed = asyncio.create_task(world.limit("program", world.program, limits))

    async def stands() -> bool:
        rows = await world.rows("SELECT version FROM program WHERE id = $1", world.program)
        return bool(rows[0]["version"] == 2)

    await eventually(stands)
    # It asks every few milliseconds; as many rounds as another statement takes.
    await world.rows("SELECT pg_sleep(0.05)")
    assert not changed.done()
    committing.open()
    assert await outcomes(older) == [("approved", None)]
    await changed
    assert await outcomes(gateway.ask(world.card, 10)) == [("declined", "amount_over_limit")]


# Rule 6 ------------------------------------------------------------------------------------------

_TIMEOUTS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
_PLANNER = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")


async def test_batch_connections_have_limits_of_their_own(world: World, database: str) -> None:
    """With the pool's own settings in `dedicated()`, a statement of a batch had 30 s."""
    options = AuthorizeOptions()
    async with gateway_on(database, options=options) as gateway:
        assert len(gateway.postgres.batch_connections) == 2
        for connection in gateway.postgres.batch_connections:
            rows = await connection.fetch("SELECT name, setting FROM pg_settings")
            setting = {row["name"]: row["setting"] for row in rows}
            lock, statement, idle = (int(setting[name]) for name in _TIMEOUTS)
            assert 0 < lock < statement < options.budget_ms
            assert 0 < idle < options.budget_ms
            assert [setting[name] for name in _PLANNER] == ["off", "off", "off"]


_ROWS = 200_000

# One id after the other, as ours are; the tables are never analysed.
_LOAD = f"""
    SET session_replication_role = replica;
    INSERT INTO program (id, name, currency, time_zone, created_at)
    SELECT gen_random_uuid(), 'p', 'USD', 'UTC', now();
    CREATE TEMP TABLE ids AS
    SELECT lpad(to_hex(n), 32, '0')::uuid AS id FROM generate_series(1, {_ROWS}) AS n;
    INSERT INTO cardholder (id, program_id, created_at)
    SELECT ids.id, program.id, now() FROM ids, program;
    INSERT INTO account (id, program_id, currency, posted, created_at)
    SELECT ids.id, program.id, 'USD', 100, now() FROM ids, program;
    INSERT INTO card (id, program_id, cardholder_id, account_id, created_at)
    SELECT ids.id, program.id, ids.id, ids.id, now() FROM ids, program;
    INSERT INTO spend_window (owner_id, owner_kind, program_id)
    SELECT ids.id, 'card', program.id FROM ids, program;
    INSERT INTO idempotency_key (scope, key, content, subject)
    SELECT program.id, uuid_send(ids.id), '', ids.id FROM ids, program;
    INSERT INTO decision (id, scope, outcome, reason, kind, amount, approved_amount, currency,
        place, decided_at, body, request, explanation)
    SELECT id, id, 'declined', 'r', 'k', 1, 0, 'USD', 0, now(), '', '', '' FROM ids;
    INSERT INTO hold (id, account_id, amount, expires_at) SELECT id, id, 1, now() FROM ids;
"""
_TABLES = (
    "program",
    "cardholder",
    "account",
    "card",
    "spend_control",
    "spend_window",
    "idempotency_key",
    "decision",
    "hold",
    "outbox",
)


async def test_statements_prepared_on_empty_tables_find_their_rows_by_index(
    world: World, database: str
) -> None:
    """Prepared on empty tables, 200,000 rows later and never analysed: no table is scanned.

    The second half is the proof: with the planner free to choose, it does scan.
    """
    await world.rows(f"TRUNCATE {', '.join(_TABLES)}, audit, system_account CASCADE")
    for table in _TABLES[:-1]:
        await world.rows(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    ours = await prepared(world, planner_seqscan=False)
    free = await prepared(world, planner_seqscan=True)
    async with gateway_on(database) as loader:
        await loader.postgres.execute_transaction(lambda client: client.execute(_LOAD))
    assert await scanned_tables(ours) == set()
    assert await scanned_tables(free)
    ours.terminate()
    free.terminate()


_PARAMETERS = {
    "lock_accounts": "ARRAY[{id}]",
    "lock_account_waiting": "ARRAY[{id}]",
    "lock_owners": "ARRAY[{id}]",
    "lock_owners_waiting": "ARRAY[{id}]",
    "refresh": "ARRAY[{id}], ARRAY[{id}], ARRAY[''::bytea]",
    "load_views": "ARRAY[{id}]",
    "stored_decisions": "ARRAY[{id}]",
    "mark_recalled": "ARRAY[{id}], now()",
    "write_batch": ", ".join(["NULL"] * 6),
}


async def prepared(world: World, *, planner_seqscan: bool) -> DedicatedConnection:
    """A batch's connection with the hot statements prepared, and planned for good."""
    connection = await world.postgres.dedicated(
        lock_timeout_ms=1000,
        statement_timeout_ms=5000,
        idle_in_transaction_timeout_ms=5000,
        planner_seqscan=planner_seqscan,
        settings={"plan_cache_mode": "force_generic_plan"},
    )
    for name in _PARAMETERS:
        await connection.fetch(f"PREPARE {name} AS {statements('ledger')[name]}")
        await connection.fetch(f"EXECUTE {name} ({arguments(name)})")
    return connection


def arguments(name: str) -> str:
    return _PARAMETERS[name].format(id=f"'{1000:032x}'::uuid")


async def scanned_tables(connection: DedicatedConnection) -> set[str]:
    """The tables that the prepared plans read from end to end."""
    scanned: set[str] = set()

    def look(plan: dict[str, Any]) -> None:
        if plan["Node Type"] == "Seq Scan":
            scanned.add(plan["Relation Name"])
        for part in plan.get("Plans", ()):
            look(part)

    for name in _PARAMETERS:
        rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({arguments(name)})")
        look(json.loads(rows[0][0])[0]["Plan"])
    return scanned
