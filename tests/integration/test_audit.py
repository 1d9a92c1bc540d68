"""Every invariant of the books is broken by hand, and the audit names it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.errors import LedgerUnavailable
from jitway.gateway import administer
from jitway.ledger.audit import verify
from tests.world import OPERATOR, World, fresh_key


@dataclass(frozen=True)
class Break:
    """One way to damage the books; the constraints that would refuse it are gone first."""

    invariant: str
    statements: Sequence[str]
    also: frozenset[str] = frozenset()


def broken(invariant: str, *statements: str, also: str = "") -> Break:
    return Break(invariant, statements, frozenset(also.split()))


# Of the world below: one account with a deposit, a captured, a reversed, an open approval and a
# decline. `also` are invariants that the same damage cannot but break as well.
BREAKS = [
    broken(
        "posted_equals_transfers",
        "UPDATE account SET posted = posted + 1",
    ),
    broken(
        "posted_equals_transfers",
        "DELETE FROM transfer WHERE kind = 'deposit'",
        also="versions_gapless keys_point_to_subjects events_have_causes",
    ),
    broken(
        "held_equals_holds",
        "UPDATE account SET held = held + 1",
    ),
    broken(
        "held_equals_holds",
        "UPDATE account SET held = 0",
    ),
    broken(
        "available_not_below_floor",
        "UPDATE account SET floor = 0, posted = held - 1",
        also="posted_equals_transfers",
    ),
    broken(
        "versions_gapless",
        "UPDATE account SET version = version + 1",
    ),
    broken(
        "versions_gapless",
        "UPDATE transfer SET account_version = 2 WHERE kind = 'deposit'",
    ),
    broken(
        "versions_gapless",
        "UPDATE decision SET account_version = 1 WHERE outcome = 'approved'",
    ),
    broken(
        "currency_matches",
        "UPDATE decision SET currency = 'EUR' WHERE outcome = 'approved'",
    ),
    broken(
        "currency_matches",
        "UPDATE transfer SET currency = 'EUR' WHERE kind = 'capture'",
        also="transfers_balance",
    ),
    broken(
        "windows_equal_decisions",
        "UPDATE spend_window SET day_amount = day_amount + 1 WHERE owner_kind = 'card'",
        also="wide_windows_equal_cards",
    ),
    broken(
        "windows_equal_decisions",
        "UPDATE spend_window SET lifetime_count = 0",
    ),
    broken(
        "windows_equal_decisions",
        "UPDATE spend_window SET month_start = month_start - 40",
    ),
    broken(
        "windows_equal_decisions",
        "DELETE FROM spend_window WHERE owner_kind = 'card'",
        also="wide_windows_equal_cards",
    ),
    broken(
        "wide_windows_equal_cards",
        "UPDATE spend_window SET year_amount = year_amount - 1 WHERE owner_kind = 'program'",
    ),
    broken(
        "one_hold_per_approval",
        "DELETE FROM hold WHERE state = 'active'",
        also="held_equals_holds windows_equal_decisions",
    ),
    broken(
        "one_hold_per_approval",
        "UPDATE hold SET account_id = gen_random_uuid() WHERE state = 'active'",
    ),
    broken(
        "one_hold_per_approval",
        "UPDATE hold SET amount = amount + 1 WHERE state = 'active'",
        "UPDATE account SET held = held + 1",
    ),
    broken(
        "decline_has_no_hold",
        "INSERT INTO hold (id, account_id, amount, expires_at) "
        "SELECT id, account_id, 5, now() + interval '1 day' FROM decision "
        "WHERE outcome = 'declined'",
        also="hold_has_its_approval",
    ),
    broken(
        "hold_has_its_approval",
        "INSERT INTO hold (id, account_id, amount, expires_at) "
        "SELECT gen_random_uuid(), id, 5, now() + interval '1 day' FROM account",
    ),
    broken(
        "hold_is_accounted_for",
        "UPDATE hold SET captured = captured - 1, released = released + 1 WHERE captured > 0",
        also="windows_equal_decisions",
    ),
    broken(
        "hold_is_accounted_for",
        "UPDATE hold SET state = 'expired' WHERE captured > 0",
    ),
    broken(
        "hold_is_accounted_for",
        "UPDATE transfer SET held_change = held_change - 1 WHERE kind = 'capture'",
    ),
    broken(
        "no_open_hold_past_expiry",
        "UPDATE hold SET expires_at = now() - interval '61 seconds' WHERE state = 'active'",
    ),
    broken(
        "decision_knows_its_owners",
        "UPDATE decision SET card_id = gen_random_uuid() WHERE outcome = 'declined'",
    ),
    broken(
        "decision_knows_its_owners",
        "UPDATE decision SET program_id = gen_random_uuid() WHERE outcome = 'declined'",
    ),
    broken(
        "decision_knows_its_owners",
        "UPDATE decision SET account_version = 99 WHERE outcome = 'declined'",
    ),
    broken(
        "explanation_agrees",
        "UPDATE decision SET explanation = replace(explanation, ',true]', ',false]') "
        "WHERE outcome = 'approved'",
    ),
    broken(
        "explanation_agrees",
        "UPDATE decision SET explanation = '[]' WHERE outcome = 'declined'",
    ),
    broken(
        "approves_what_was_asked",
        "UPDATE decision SET amount = amount + 1 WHERE outcome = 'approved'",
    ),
    broken(
        "approves_what_was_asked",
        "UPDATE decision SET kind = 'balance_inquiry' WHERE outcome = 'approved'",
    ),
    broken(
        "one_event_per_decision",
        "DELETE FROM outbox WHERE type = 'jit-funding.declined'",
    ),
    broken(
        "one_event_per_decision",
        "INSERT INTO outbox (slot, id, type, occurred_at) "
        "SELECT (slot + 1) % 4, id, type, occurred_at FROM outbox "
        "WHERE type = 'jit-funding.approved'",
        also="events_have_causes",
    ),
    broken(
        "one_event_per_transfer",
        "DELETE FROM outbox WHERE type = 'transaction.captured'",
    ),
    broken(
        "events_have_causes",
        "INSERT INTO outbox (slot, id, type, occurred_at) "
        "VALUES (0, gen_random_uuid(), 'jit-funding.approved', now())",
    ),
    broken(
        "transfers_balance",
        "UPDATE transfer SET debit_account_id = gen_random_uuid() WHERE kind = 'deposit'",
    ),
    broken(
        "transfers_balance",
        "UPDATE transfer SET debit_account_id = credit_account_id, "
        "credit_account_id = debit_account_id WHERE kind = 'capture'",
        also="posted_equals_transfers",
    ),
    broken(
        "transfers_balance",
        "UPDATE transfer SET layer = 'posted' WHERE kind = 'reversal'",
        also="posted_equals_transfers",
    ),
    broken(
        "transfers_balance",
        "UPDATE transfer SET credit_account_id = (SELECT id FROM system_account "
        "WHERE code = 'fees') WHERE kind = 'capture'",
    ),
    broken(
        "transfer_has_its_approval",
        "UPDATE transfer SET authorization_id = NULL WHERE kind = 'reversal'",
        also="hold_is_accounted_for",
    ),
    broken(
        "transfer_has_its_approval",
        "UPDATE transfer SET authorization_id = (SELECT id FROM decision "
        "WHERE outcome = 'declined') WHERE kind = 'deposit'",
        also="decline_has_no_hold",
    ),
    broken(
        "keys_point_to_subjects",
        "UPDATE idempotency_key SET subject = gen_random_uuid()",
    ),
    broken(
        "keys_point_to_subjects",
        "DELETE FROM answer",
    ),
    broken(
        "answers_have_keys",
        "DELETE FROM idempotency_key",
    ),
]


async def live_a_little(world: World) -> None:
    await world.deposit(1000)
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, 900),)))
    await world.capture(await world.approve(100), 60)
    await world.reverse(await world.approve(50), 50)
    await world.approve(30)
    await world.authorize(5000)


async def drop_guards(world: World) -> None:
    """Damage that the schema would refuse must still be seen: a restore can bring it in."""
    rows = await world.rows(
        "SELECT conrelid::regclass::text AS relation, conname AS name FROM pg_constraint "
        "WHERE contype IN ('c', 'f') AND connamespace = current_schema()::regnamespace "
        "AND conparentid = 0"
    )
    for row in rows:
        await world.rows(f"ALTER TABLE {row['relation']} DROP CONSTRAINT {row['name']}")
    await world.rows("DROP INDEX transfer_by_account")
    await world.rows("CREATE INDEX transfer_by_account ON transfer (account_id, account_version)")


TABLES = (
    "account",
    "decision",
    "hold",
    "transfer",
    "spend_window",
    "outbox",
    "idempotency_key",
    "answer",
)


async def restore(world: World) -> None:
    """Undoes the damage."""

    async def act(client: TransactionClient) -> None:
        for table in TABLES:
            await client.execute(f"DELETE FROM {table}")
            await client.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")

    await world.postgres.execute_transaction(act)


async def test_every_invariant_is_seen_to_be_broken(world: World) -> None:
    await live_a_little(world)
    clean = await world.audited()
    await drop_guards(world)
    for table in TABLES:
        await world.rows(f"CREATE TABLE kept_{table} AS TABLE {table}")
    for damage in BREAKS:
        for statement in damage.statements:
            await world.rows(statement)
        report = await verify(world.postgres)
        named = {violation.invariant for violation in report.violations}
        assert not report.ok
        assert named - damage.also == {damage.invariant}, damage
        await restore(world)
    await world.audited()
    assert {damage.invariant for damage in BREAKS} == set(clean.checked)


async def test_a_violation_says_whose_and_what(world: World) -> None:
    await live_a_little(world)
    await drop_guards(world)
    await world.rows("UPDATE account SET posted = posted + 1")

    report = await verify(world.postgres)

    assert report.document() == {
        "ok": False,
        "checked": dict(report.checked),
        "violations": [
            {
                "invariant": "posted_equals_transfers",
                "subject": world.account["id"],
                "detail": "posted is 941, its transfers make 940",
            }
        ],
    }


async def test_what_was_checked_is_counted(world: World) -> None:
    await live_a_little(world)
    checked = (await world.audited()).checked
    assert checked["posted_equals_transfers"] == 1
    assert checked["one_hold_per_approval"] == 4
    assert checked["hold_is_accounted_for"] == 3
    assert checked["transfers_balance"] == 3
    assert checked["wide_windows_equal_cards"] == 1
    assert all(checked.values())


async def test_an_empty_ledger_is_clean(adapter: PostgreSQLAdapter) -> None:
    report = await verify(adapter)
    assert report.ok
    assert set(report.checked.values()) == {0}


async def test_many_pages(world: World) -> None:
    for _ in range(450):
        await world.rows(
            "INSERT INTO account (id, program_id, currency, created_at) "
            "SELECT gen_random_uuid(), $1, 'USD', now()",
            world.program,
        )
    assert (await world.audited()).checked["posted_equals_transfers"] == 451


async def test_violations_without_end_are_counted(world: World) -> None:
    await world.rows(
        "INSERT INTO account (id, program_id, currency, created_at, posted) "
        "SELECT gen_random_uuid(), $1, 'USD', now(), 1 FROM generate_series(1, 250)",
        world.program,
    )
    report = await verify(world.postgres)
    assert len(report.violations) == 100
    assert report.document()["omitted"] == {"posted_equals_transfers": 150}


async def test_events_of_an_emptied_slot_are_not_missed(world: World) -> None:
    """A drained slot is emptied once its hour is over: what it held was told."""
    await live_a_little(world)
    await world.rows("UPDATE decision SET decided_at = decided_at - interval '2 hours'")
    await world.rows("UPDATE transfer SET recorded_at = recorded_at - interval '2 hours'")
    await world.rows("DELETE FROM outbox WHERE type NOT LIKE 'card.%'")
    missing = {"one_event_per_decision", "one_event_per_transfer"}
    report = await verify(world.postgres)
    assert not missing & {violation.invariant for violation in report.violations}

    # One event of that hour is still there, so its slot was not emptied: the others are missing.
    await world.rows(
        "INSERT INTO outbox (slot, id, type, occurred_at) "
        "SELECT floor(extract(epoch FROM decided_at) / 3600)::bigint % 4, id, "
        "'jit-funding.declined', decided_at FROM decision WHERE outcome = 'declined'"
    )
    report = await verify(world.postgres)
    assert missing <= {violation.invariant for violation in report.violations}


async def test_the_books_are_clean_while_they_are_written(world: World) -> None:
    await world.limit("program", world.program, SpendControls((Limit(Period.DAY, None, 10**6),)))
    cards = [(await world.funded_card(100_000))[1] for _ in range(4)]
    done = asyncio.Event()

    async def live(card: dict[str, str]) -> None:
        while not done.is_set():
            approval = await world.approve(10, card=card)
            await world.capture(approval, 4, final=False)
            await world.reverse(approval, 3)

    async def look() -> None:
        for _ in range(8):
            await world.audited()
        done.set()

    await asyncio.gather(*(live(card) for card in cards), look())
    await world.audited()


async def test_changes_of_state_are_part_of_the_version(world: World) -> None:
    """What changes an account without money leaves its version in the audit."""
    await world.deposit(10)
    await world.rows("UPDATE account SET version = version + 1 WHERE id = $1", world.account)
    await world.rows(
        "INSERT INTO audit (id, actor, action, subject, account_id, account_version, recorded_at) "
        "VALUES (gen_random_uuid(), 'test', 'account.frozen', 'x', $1, 2, now())",
        world.account,
    )
    await world.audited()


async def test_the_audit_changes_nothing(world: World, database: str) -> None:
    await administer.freeze_card(
        world.postgres, world.clock, OPERATOR, world.card["id"], idempotency=fresh_key()
    )
    (row,) = await world.rows("SELECT current_database() AS name")
    # Connections that are made from now on cannot write, whatever they are asked.
    await world.postgres.execute_query(
        f"ALTER DATABASE {row['name']} SET default_transaction_read_only = on"
    )
    reader = PostgreSQLAdapter(database_url=database, pool_size_min=1, pool_size_max=4)
    try:
        with pytest.raises(LedgerUnavailable, match="read-only"):
            await reader.execute_query("DELETE FROM hold")
        assert (await verify(reader)).ok
    finally:
        await reader.close()
