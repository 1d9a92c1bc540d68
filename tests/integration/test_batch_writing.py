"""Rules 10 to 15 of the ledger: what a batch writes, for whom, and what it leaves alone.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from jitway.adapters.postgresql import DedicatedConnection
from jitway.domain.card import Account
from jitway.domain.limits import Limit, Period, SpendControls, SpendWindow
from jitway.errors import NoDecision, StatementRefused, TransactionConflict
from jitway.gateway.caller import Answer
from jitway.gateway.lane import Reserve
from jitway.ledger.account import lock_accounts
from jitway.ledger.journal import BatchOutcome, DecisionRow, write_batch
from jitway.sql import statements
from tests.integration.stepped import PATIENT, Gateway, SteppedClock, eventually, gateway_on
from tests.world import Document, World, body, fresh_key

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]


@pytest.fixture
async def gateway(world: World, database: str) -> AsyncIterator[Gateway]:
    async with gateway_on(database) as gateway:
        yield gateway


@pytest.fixture
async def connection(world: World) -> AsyncIterator[DedicatedConnection]:
    connection = await world.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=5000, idle_in_transaction_timeout_ms=30_000
    )
    await connection.begin()
    yield connection
    await connection.rollback()
    connection.terminate()


async def decisions(*asked: "asyncio.Task[Answer]") -> list[Document]:
    return [body(answer) for answer in await asyncio.gather(*asked)]


async def count(world: World, table: str) -> int:
    rows = await world.rows(f"SELECT count(*) AS n FROM {table}")
    return int(rows[0]["n"])


# Rule 10 -----------------------------------------------------------------------------------------


async def test_three_holds_of_one_account_are_one_row_of_it(world: World, gateway: Gateway) -> None:
    """With the change of one hold in place of their sum in `write_batch`, `held` was 100."""
    await world.deposit(1000)
    await gateway.know(world.card)
    decided = await decisions(*(gateway.ask(world.card, 100) for _ in range(3)))
    assert gateway.steps.sent.count("write_batch") == 1
    assert [one["account_version"] for one in decided] == [2, 3, 4]
    assert await world.balances() == (1000, 300, 700, 4)
    assert await world.window(world.card) == (300, 3)
    await world.audited()


def outcome_of(world: World, account: Account, *amounts: int) -> BatchOutcome:
    """Approvals as a batch writes them."""
    now = datetime.now(UTC)
    outcome = BatchOutcome(now, now + timedelta(days=7))
    for amount in amounts:
        outcome.changes(account)
        account.hold(amount)
        outcome.decisions.append(
            DecisionRow(
                id=world.clock.new_id("aut")[4:],
                scope="0" * 32,
                key=fresh_key().key,
                content=b"",
                program_id=world.program["id"][4:],
                cardholder_id=world.cardholder["id"][4:],
                card_id=world.card["id"][4:],
                account_id=account.id[4:],
                reason=None,
                kind="purchase",
                amount=amount,
                approved_amount=amount,
                currency="USD",
                account_version=account.version,
                body="{}",
                request="{}",
                explanation="[]",
                circumstances="{}",
            )
        )
    return outcome


async def locked_account(world: World, connection: DedicatedConnection) -> Account:
    locked = await lock_accounts(connection, [world.account["id"]])
    return locked[world.account["id"]]


async def test_an_account_at_another_version_stops_the_batch(
    world: World, connection: DedicatedConnection
) -> None:
    """Without its count in `_demand_counts`, the decision stood and the account was unchanged."""
    await world.deposit(100)
    account = await locked_account(world, connection)
    stale = replace(account, version=account.version - 1)
    with pytest.raises(TransactionConflict, match="changed meanwhile"):
        await write_batch(connection, outcome_of(world, stale, 10))


async def test_a_window_at_another_version_stops_the_batch(
    world: World, connection: DedicatedConnection
) -> None:
    """Without its count in `_demand_counts`, the spending was not counted."""
    await world.deposit(100)
    outcome = outcome_of(world, await locked_account(world, connection), 10)
    outcome.windows[world.card["id"]] = SpendWindow(world.card["id"], version=7)
    with pytest.raises(TransactionConflict, match="changed meanwhile"):
        await write_batch(connection, outcome)


async def test_an_account_that_is_not_there_stops_the_batch(
    world: World, connection: DedicatedConnection
) -> None:
    """As for another version."""
    account = Account("acc_" + "0" * 32, "USD", "active", 100, 0, 0, 0, 1)
    with pytest.raises(TransactionConflict, match="changed meanwhile"):
        await write_batch(connection, outcome_of(world, account, 10))


async def test_rows_that_were_not_merged_stop_the_batch(
    world: World, connection: DedicatedConnection
) -> None:
    """PostgreSQL applies one of three rows for an account, without any error: it must be counted.

    Seen to fail as for another version.
    """
    await world.deposit(1000)
    account = await locked_account(world, connection)
    outcome = outcome_of(world, account, 100, 100, 100)
    version_read = account.version - 3
    for place, amount in enumerate((100, 200, 300)):
        unmerged = replace(account, held=amount)
        outcome.accounts[f"{account.id} {place}"] = (unmerged, version_read, amount - 100)
    del outcome.accounts[account.id]
    with pytest.raises(TransactionConflict, match="changed meanwhile"):
        await write_batch(connection, outcome)


# Rule 11 -----------------------------------------------------------------------------------------


async def test_a_fact_below_the_floor_needs_its_shortfall_and_blocks_nothing_after_it(
    world: World, gateway: Gateway
) -> None:
    """A capture that the network forced: posted 100, held 30, and 90 are gone.

    Without `shortfall` in `available_not_below_floor`, the fact itself was refused. Without the
    constraint, a bug may spend what is not there.
    """
    await world.deposit(100)
    await gateway.decide(world.card, 30)
    forced = "UPDATE account SET posted = posted - 90, shortfall = {} WHERE id = $1"
    with pytest.raises(StatementRefused) as refused:
        await world.rows(forced.format(0), world.account)
    assert refused.value.constraint == "available_not_below_floor"
    await world.rows(forced.format(20), world.account)

    declined = await gateway.decide(world.card, 1)
    assert (declined["reason"], declined["available"]) == ("insufficient_available_balance", -20)
    await world.deposit(15)
    assert await shortfall(world) == 5
    assert (await gateway.decide(world.card, 1))["decision"] == "declined"
    await world.deposit(15)
    assert await shortfall(world) == 0
    assert (await gateway.decide(world.card, 10))["decision"] == "approved"
    assert (await gateway.decide(world.card, 1))["decision"] == "declined"


async def shortfall(world: World) -> int:
    rows = await world.rows("SELECT shortfall FROM account WHERE id = $1", world.account)
    return int(rows[0]["shortfall"])


async def test_the_database_refuses_a_hold_that_no_rule_refused(
    world: World, connection: DedicatedConnection
) -> None:
    """The second opinion: without `available_not_below_floor`, a bug was a loss."""
    await world.deposit(100)
    account = await locked_account(world, connection)
    with pytest.raises(StatementRefused) as refused:
        await write_batch(connection, outcome_of(world, account, 60, 60))
    assert refused.value.constraint == "available_not_below_floor"


# Rule 12 -----------------------------------------------------------------------------------------


async def test_of_a_write_that_is_refused_only_the_poisonous_request_fails(
    world: World, gateway: Gateway
) -> None:
    """P19. With StatementRefused answered to all members, seven neighbours failed too."""
    cards = [(await world.funded_card(100))[1] for _ in range(8)]
    await gateway.know(*cards)
    asked = [
        gateway.ask(card, 10, canonical="\x00" if place == 5 else "{}")
        for place, card in enumerate(cards)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[5], NoDecision)
    decided = [body(answer)["decision"] for answer in answers if isinstance(answer, Answer)]
    assert decided == ["approved"] * 7
    assert (await count(world, "decision"), await count(world, "hold")) == (7, 7)
    await world.audited()


async def test_of_a_batch_that_meets_a_bug_only_one_request_fails(
    world: World, gateway: Gateway
) -> None:
    """A card without its window. With the error answered to all members, as it was, four failed."""
    cards = [(await world.funded_card(100))[1] for _ in range(4)]
    await gateway.know(*cards)
    await world.rows("DELETE FROM spend_window WHERE owner_id = $1", cards[2])
    with capture_logs() as logs:
        answers = await asyncio.gather(
            *(gateway.ask(card, 10) for card in cards), return_exceptions=True
        )
    assert isinstance(answers[2], NoDecision)
    assert sum(isinstance(answer, Answer) for answer in answers) == 3
    traces = [log["exc_info"] for log in logs if log.get("exc_info")]
    assert [type(trace) for trace in traces] == [TypeError]
    # The connection was in an unknown state, and another one took its place.
    assert len(gateway.postgres.batch_connections) > 2
    assert (await gateway.decide(cards[0], 10))["decision"] == "approved"


async def test_conflicts_that_do_not_end_are_bisected_too(world: World, gateway: Gateway) -> None:
    """A window that is never at its version. Without the limit of repeats, nobody was answered."""
    cards = [(await world.funded_card(100))[1] for _ in range(4)]
    await gateway.know(*cards)
    await world.rows(
        "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    await world.rows(
        "CREATE TRIGGER never BEFORE UPDATE ON spend_window FOR EACH ROW "
        f"WHEN (old.owner_id = '{cards[1]['id'][4:]}') EXECUTE FUNCTION never()"
    )
    answers = await asyncio.gather(
        *(gateway.ask(card, 10) for card in cards), return_exceptions=True
    )
    assert isinstance(answers[1], NoDecision)
    assert sum(isinstance(answer, Answer) for answer in answers) == 3


# Rule 13 -----------------------------------------------------------------------------------------


async def test_a_late_member_is_left_out_before_the_write(world: World, database: str) -> None:
    """Without `has_time_for` in `_can_decide`, the late one was written, and then abandoned."""
    await world.deposit(100)
    clock = SteppedClock()
    async with gateway_on(database, clock=clock) as gateway:
        await gateway.know(world.card)

        async def time_passes() -> None:
            clock.forward(6)

        gateway.steps.act("after refresh", time_passes)
        in_time = gateway.ask(world.card, 10)
        late = gateway.ask(world.card, 10, deadline_ms=5_000)
        assert body(await in_time)["decision"] == "approved"
        with pytest.raises(NoDecision):
            await late
    assert await count(world, "decision") == 1
    assert (await world.balances())[1] == 10
    await world.audited()


async def test_when_all_are_late_nothing_is_committed(world: World, gateway: Gateway) -> None:
    """Without the question for members that still wait in `_attempt`, all were committed."""
    await world.deposit(100)
    await gateway.know(world.card)
    committing = gateway.steps.stop("after write_batch")
    asked = [gateway.ask(world.card, 10, deadline_ms=1_500) for _ in range(2)]
    await committing.reached()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(answer, NoDecision) for answer in answers)
    gateway.steps.forget()
    committing.open()
    assert (await gateway.decide(world.card, 1))["account_version"] == 2
    assert gateway.steps.sent[0] == "rollback"
    assert await count(world, "decision") == 1
    await world.audited()


async def test_when_one_is_late_it_alone_is_abandoned(world: World, gateway: Gateway) -> None:
    """Without `_late` in `_deliver`, the hold of a caller who was told nothing stood.

    With the batch rolled back for its late member, the other one's hold was lost.
    """
    await world.deposit(100)
    await gateway.know(world.card)
    committing = gateway.steps.stop("after write_batch")
    in_time = gateway.ask(world.card, 10)
    key = fresh_key()
    late = gateway.ask(world.card, 20, key=key, deadline_ms=1_500)
    await committing.reached()
    with pytest.raises(NoDecision):
        await late
    committing.open()
    assert body(await in_time)["decision"] == "approved"

    async def voided() -> bool:
        return (await world.balances())[1] == 10

    await eventually(voided)
    repeated = body(await gateway.ask(world.card, 20, key=key))
    assert (repeated["decision"], repeated["reason"]) == ("declined", "abandoned")
    assert await world.window(world.card) == (10, 1)
    await world.audited()


async def test_one_slow_commit_does_not_refuse_short_deadlines_for_ever(
    world: World, database: str
) -> None:
    """With the reserve capped at half of the route's budget, as it was, short ones starved:
    they were left out, so nothing was written that would have shown the end of the stall.
    """
    await world.deposit(100)
    clock = SteppedClock()
    options = replace(PATIENT, budget_ms=60_000)
    async with gateway_on(database, options=options, clock=clock) as gateway:

        async def stall() -> None:
            clock.forward(29)

        gateway.steps.act("before commit", stall)
        assert (await gateway.decide(world.card, 10))["decision"] == "approved"
        assert (await gateway.decide(world.card, 10, deadline_ms=20_000))["decision"] == "approved"


def test_the_reserve_is_the_p99_of_recent_batches() -> None:
    reserve = Reserve()
    assert reserve.p99_ns() == 0
    for span_ns in range(1000):
        reserve.observe(span_ns)
    # The last 128, without the largest of them.
    assert reserve.p99_ns() == 998


# Rule 14 -----------------------------------------------------------------------------------------


async def test_no_foreign_key_is_among_decisions_and_money(world: World) -> None:
    """Seen to fail with a reference from `hold` to `account`."""
    rows = await world.rows(
        "SELECT conrelid::regclass::text AS name, confrelid::regclass::text AS refers_to "
        "FROM pg_constraint WHERE contype = 'f'"
    )
    free = {"decision", "hold", "transfer", "spend_window", "idempotency_key", "answer", "outbox"}
    assert not [row for row in rows if row["name"].split(".")[-1] in free]
    # Reference tables keep theirs.
    assert {row["name"].split(".")[-1] for row in rows} >= {"card", "account", "cardholder"}


# Rule 15 -----------------------------------------------------------------------------------------


async def test_a_version_is_one_change_and_a_decline_is_none(
    world: World, gateway: Gateway
) -> None:
    """Seen to fail with the version advanced by a decline in `_row`, and with declines' accounts
    in the write.
    """
    await world.deposit(100)
    await gateway.know(world.card)
    decided = await decisions(*(gateway.ask(world.card, amount) for amount in (60, 70, 30, 20, 10)))
    outcome = [(one["decision"], one["account_version"], one["available"]) for one in decided]
    assert outcome == [
        ("approved", 2, 40),
        ("declined", 2, 40),
        ("approved", 3, 10),
        ("declined", 3, 10),
        ("approved", 4, 0),
    ]
    rows = await world.rows("SELECT id, place, account_version FROM decision ORDER BY place")
    assert [row["place"] for row in rows] == [0, 1, 2, 3, 4]
    assert [f"aut_{row['id'].hex}" for row in rows] == [one["id"] for one in decided]
    await world.audited()


async def test_declines_and_repeats_write_no_account(world: World, gateway: Gateway) -> None:
    """Seen to fail as the test before."""
    await world.deposit(100)
    key = fresh_key()
    await gateway.decide(world.card, 10, key=key)
    before = await row_versions(world)
    assert (await gateway.decide(world.card, 1000))["decision"] == "declined"
    assert (await gateway.ask(world.card, 10, key=key)).replayed
    assert await row_versions(world) == before


async def row_versions(world: World) -> list[Any]:
    """Which transaction last wrote the account and the card's window."""
    rows = await world.rows(
        "SELECT xmin::text, version FROM account UNION ALL "
        "SELECT xmin::text, version FROM spend_window"
    )
    return sorted((row["xmin"], row["version"]) for row in rows)


# What a batch costs ------------------------------------------------------------------------------

BATCH = ["begin", "lock_accounts", "refresh", "write_batch", "commit"]


async def test_statements_of_a_batch_do_not_depend_on_its_size(
    world: World, gateway: Gateway
) -> None:
    """Seen to fail with a write for each decision, and with a refresh for each account."""
    cards = [(await world.funded_card(100))[1] for _ in range(16)]
    await gateway.know(*cards)
    gateway.steps.forget()
    await gateway.decide(cards[0], 1)
    assert gateway.steps.sent == BATCH
    gateway.steps.forget()
    decided = await decisions(*(gateway.ask(card, 1) for _ in range(4) for card in cards))
    assert len(decided) == 64
    assert gateway.steps.sent == BATCH
    await world.audited()


async def test_limits_over_several_accounts_cost_one_statement_more(
    world: World, gateway: Gateway
) -> None:
    """Seen to fail as the test before."""
    limits = SpendControls((Limit(Period.DAY, amount=10_000),))
    await world.limit("program", world.program, limits)
    await world.limit("cardholder", world.cardholder, limits)
    cards = [(await world.funded_card(100))[1] for _ in range(8)]
    await gateway.know(*cards)
    gateway.steps.forget()
    await decisions(*(gateway.ask(card, 1) for _ in range(2) for card in cards))
    assert gateway.steps.sent == [*BATCH[:2], "lock_owners", *BATCH[2:]]
    await world.audited()


async def test_every_hot_statement_is_known_by_its_name() -> None:
    """The counts above go by these names."""
    names = set(statements("ledger"))
    assert {*BATCH, "lock_owners"} - {"begin", "commit"} <= names
