"""Rules 7 to 9 of the ledger: one key, one decision, whatever becomes of the commit.

Each docstring says which piece of code was taken out to see its test fail.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.errors import IdempotencyConflict, LockTimeout, NoDecision
from jitway.gateway.authorize import AuthorizeOptions
from jitway.gateway.caller import Answer
from jitway.gateway.late import LateApprovals
from jitway.gateway.release import abandon
from tests.integration.commit_wire import Fault, commit_wire_to
from tests.integration.stepped import Gateway, eventually, gateway_on
from tests.world import Document, World, body, fresh_key, same_key

pytestmark = [pytest.mark.timeout(60), pytest.mark.relaxed_durability]

UNKNOWN_CARD = "crd_nobody_has"


@pytest.fixture
async def gateway(world: World, database: str) -> AsyncIterator[Gateway]:
    async with gateway_on(database) as gateway:
        yield gateway


async def decision_count(world: World) -> int:
    rows = await world.rows("SELECT count(*) AS n FROM decision")
    return int(rows[0]["n"])


async def held(world: World, account: Document | None = None) -> int:
    return (await world.balances(account))[1]


# Rule 7 ------------------------------------------------------------------------------------------


async def test_one_key_raced_through_two_gateways_is_one_decision(
    world: World, database: str, gateway: Gateway
) -> None:
    """Forty equal requests: one decision, forty equal answers, thirty-nine of them repeats.

    With `known` left out of `refresh`, the race ended in refusals.
    """
    await world.deposit(1000)
    key = fresh_key()
    async with gateway_on(database) as other:
        asked = [one.ask(world.card, 10, key=key) for _ in range(20) for one in (gateway, other)]
        answers = await asyncio.gather(*asked)
    assert len({answer.body for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert await held(world) == 10
    await world.audited()


async def test_one_key_raced_with_other_contents_and_accounts(
    world: World, database: str, gateway: Gateway
) -> None:
    """One content wins, whoever asked otherwise is told of a conflict, and one hold stands.

    Without the comparison of `content` in `_recall_one`, all were given the first answer.
    """
    await world.deposit(1000)
    account, card = await world.funded_card(1000)
    async with gateway_on(database) as other:
        asked = [
            one.ask(card if place % 2 else world.card, 10, key=same_key("raced", str(place % 2)))
            for place in range(20)
            for one in (gateway, other)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    decided = [answer for answer in answers if isinstance(answer, Answer)]
    assert len(decided) == 20
    assert len({answer.body for answer in decided}) == 1
    assert sum(isinstance(answer, IdempotencyConflict) for answer in answers) == 20
    assert await held(world) + await held(world, account) == 10
    await world.audited()


@pytest.mark.parametrize("known", [True, False], ids=["known card", "unknown card"])
async def test_one_key_twice_in_one_batch(world: World, gateway: Gateway, known: bool) -> None:
    """The second waits for the first one's commit, and is a repeat of it.

    Without `keys` in `_can_decide` the batch failed on the key until it was bisected. Of two equal
    requests for an unknown card the second was once left unanswered (`_park` asserted a lock).
    """
    await world.deposit(100)
    await gateway.know(world.card)
    card = world.card if known else UNKNOWN_CARD
    key = fresh_key()
    first, second = await asyncio.gather(
        gateway.ask(card, 10, key=key), gateway.ask(card, 10, key=key)
    )
    assert first.body == second.body
    assert (first.replayed, second.replayed) == (False, True)
    assert gateway.steps.sent.count("write_batch") == 1
    assert await decision_count(world) == 1
    await world.audited()


async def test_a_key_that_was_taken_rolls_the_batch_back(
    world: World, database: str, gateway: Gateway
) -> None:
    """Two accounts, so no lock excludes the two gateways: the key alone does.

    With the count of keys ignored in `_demand_counts` and in `write_batch`, one key had two holds.
    """
    await world.deposit(100)
    account, card = await world.funded_card(100)
    neighbour_account, neighbour_card = await world.funded_card(100)
    async with gateway_on(database) as other:
        await gateway.know(world.card)
        await other.know(card, neighbour_card)
        late = other.steps.stop("before write_batch")
        loser = other.ask(card, 10, key=same_key("one", "other"))
        neighbour = other.ask(neighbour_card, 10)
        await late.reached()
        winner = await gateway.decide(world.card, 10, key=same_key("one", "this"))
        late.open()
        assert body(await neighbour)["decision"] == "approved"
        with pytest.raises(IdempotencyConflict):
            await loser
        assert other.steps.sent.count("write_batch") == 2
    assert winner["decision"] == "approved"
    held_amounts = [await held(world, one) for one in (world.account, account, neighbour_account)]
    assert held_amounts == [10, 0, 10]
    assert await decision_count(world) == 2
    await world.audited()


async def test_a_key_waits_for_the_transaction_that_wrote_it_first(
    world: World, database: str, gateway: Gateway
) -> None:
    """An unknown card has no account to lock; the key's own row makes the second wait.

    Seen to fail as the test before.
    """
    key = fresh_key()
    async with gateway_on(database) as other:
        committing = gateway.steps.stop("before commit")
        first = gateway.ask(UNKNOWN_CARD, 10, key=key)
        await committing.reached()
        second = other.ask(UNKNOWN_CARD, 10, key=key)

        await eventually(lambda: waits_for_a_lock(world))
        committing.open()
        assert (await first).body == (await second).body
    assert await decision_count(world) == 1
    await world.audited()


async def test_a_known_key_is_recalled_though_its_card_spends_from_another_account_now(
    world: World, gateway: Gateway
) -> None:
    """The old hold is guarded by the old account's lock, so that one is asked for.

    Without the deferral in `_recall_one`, the repeat was answered without that lock: an abandon of
    the same hold was not excluded, and `mark_recalled` ran beside it.
    """
    await world.deposit(100)
    other, _ = await world.funded_card(100)
    key = fresh_key()
    first = await gateway.ask(world.card, 10, key=key)
    await world.rows(
        "UPDATE card SET account_id = $2, version = version + 1 WHERE id = $1", world.card, other
    )
    await world.freeze()
    gateway.views.evict(world.card["id"])
    await gateway.know(world.card)
    async with world.locked(world.account):
        waiting = gateway.steps.stop("before lock_account_waiting")
        repeated = gateway.ask(world.card, 10, key=key)
        await waiting.reached()
        waiting.open()
    assert (await repeated).body == first.body
    assert (await repeated).replayed
    assert (await held(world), await held(world, other)) == (10, 0)


# Rule 8 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["known card", "unknown card"])
@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.CUT_AFTER])
async def test_a_commit_that_was_cut_is_settled(
    world: World, database: str, fault: Fault, known: bool
) -> None:
    """P4: the caller gets the one true answer, and there is one decision.

    With OutcomeUnknown taken for a failure that left nothing, and decided under other ids, there
    were two; taken for a success, there was none.
    """
    await world.deposit(100)
    async with commit_wire_to(database) as wire, gateway_on(wire.url) as gateway:
        await gateway.know(world.card)
        wire.plan(fault)
        answer = await gateway.ask(world.card if known else UNKNOWN_CARD, 10)
        assert wire.happened == [fault]
    assert body(answer)["decision"] == ("approved" if known else "declined")
    assert not answer.replayed
    assert await decision_count(world) == 1
    assert await held(world) == (10 if known else 0)
    await world.audited()


async def test_all_members_of_a_commit_that_was_cut_are_answered(
    world: World, database: str
) -> None:
    """Sixteen members: approvals, a decline, an unknown card and a repeat; as above."""
    await world.deposit(100)
    key = fresh_key()
    async with commit_wire_to(database) as wire, gateway_on(wire.url) as gateway:
        repeated = await gateway.ask(world.card, 1, key=key)
        for fault in (Fault.CUT_AFTER, Fault.CUT_BEFORE):
            wire.plan(fault)
            approved = [gateway.ask(world.card, 1) for _ in range(13)]
            declined = gateway.ask(world.card, 1000)
            unknown = gateway.ask(UNKNOWN_CARD, 1)
            again = gateway.ask(world.card, 1, key=key)
            decided = [body(one)["decision"] for one in await asyncio.gather(*approved)]
            assert decided == ["approved"] * 13
            assert body(await declined)["reason"] == "insufficient_available_balance"
            assert body(await unknown)["reason"] == "card_not_found"
            assert (await again).body == repeated.body
    assert await held(world) == 27
    assert await decision_count(world) == 31
    await world.audited()


async def test_a_swallowed_answer_is_no_decision_in_time_and_nothing_stays_booked(
    world: World, database: str
) -> None:
    """P4: the deadline answers; then the hang limit cuts the connection, and the hold is voided.

    Without `_late` for members that were answered already in `_settle_unknown`, the hold stood.
    """
    await world.deposit(100)
    options = AuthorizeOptions(
        budget_ms=400, statement_timeout_ms=10_000, lock_timeout_ms=100, hang_ms=800
    )
    async with commit_wire_to(database) as wire, gateway_on(wire.url, options=options) as gateway:
        await gateway.know(world.card)
        wire.plan(Fault.SWALLOW)
        key = fresh_key()
        with pytest.raises(NoDecision, match="deadline"):
            await gateway.ask(world.card, 10, key=key)
        await eventually(lambda: nothing_held(world))

        async def abandoned() -> bool:
            try:
                repeated = await gateway.decide(world.card, 10, key=key)
            except NoDecision:
                return False
            return (repeated["decision"], repeated["reason"]) == ("declined", "abandoned")

        await eventually(abandoned)
    await world.audited()


async def nothing_held(world: World, account: Document | None = None) -> bool:
    return await decision_count(world) > 0 and await held(world, account) == 0


@pytest.mark.parametrize("known", [True, False], ids=["known card", "unknown card"])
async def test_a_commit_that_is_still_under_way_is_waited_for(
    world: World, database: str, known: bool
) -> None:
    """The gateway lost its connection, and PostgreSQL carries the COMMIT out much later.

    With the account read without its lock, the repeat found no key and wrote a second decision,
    which only the key stopped. Without the count of keys in `write_batch`, the repeat for an
    unknown card failed on the primary key of `decision`, and its caller was refused.
    """
    await world.deposit(100)
    async with commit_wire_to(database) as wire, gateway_on(wire.url) as gateway:
        await gateway.know(world.card)
        wire.plan(Fault.HOLD)
        asked = gateway.ask(world.card if known else UNKNOWN_CARD, 10)
        await eventually(lambda: waits_for_a_lock(world))
        assert not asked.done()
        wire.release()
        answer = await asked
    assert body(answer)["decision"] == ("approved" if known else "declined")
    assert await decision_count(world) == 1
    assert gateway.steps.sent.count("write_batch") == (1 if known else 2)
    await world.audited()


async def waits_for_a_lock(world: World) -> bool:
    rows = await world.rows(
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    return bool(rows)


async def test_a_caller_who_leaves_after_an_unknown_commit_leaves_no_hold(
    world: World, database: str
) -> None:
    """K18 and rule 8 at once. Without the CancelledError in `Waiting.wait`, the hold stood."""
    await world.deposit(100)
    async with commit_wire_to(database) as wire, gateway_on(wire.url) as gateway:
        await gateway.know(world.card)
        wire.plan(Fault.HOLD)
        waiting = gateway.steps.stop("before lock_account_waiting")
        asked = gateway.ask(world.card, 10)
        await waiting.reached()
        asked.cancel()
        await asyncio.wait([asked])
        wire.release()
        waiting.open()
        await eventually(lambda: nothing_held(world))
    await world.audited()


# Rule 9 ------------------------------------------------------------------------------------------


async def hold(world: World, approval: Document) -> Document:
    rows = await world.rows(
        "SELECT state, recalled_at IS NOT NULL AS recalled FROM hold WHERE id = $1", approval
    )
    return rows[0]


async def test_an_approval_that_was_recalled_is_not_abandoned(
    world: World, gateway: Gateway
) -> None:
    """Without `mark_recalled` in `_recall`, the retried approval ended without its hold."""
    await world.deposit(100)
    key = fresh_key()
    approval = await gateway.decide(world.card, 10, key=key)
    pair = (approval["id"], approval["account"])
    assert (await gateway.ask(world.card, 10, key=key)).replayed
    assert await abandon(world.postgres, world.clock, [pair]) == []
    assert await hold(world, approval) == {"state": "active", "recalled": True}
    gateway.steps.forget()
    assert (await gateway.ask(world.card, 10, key=key)).replayed
    # Once is enough: a second repeat writes nothing, and waits for no disk.
    assert "commit" not in gateway.steps.sent
    await world.audited()


async def test_an_approval_that_was_abandoned_is_recalled_as_declined(
    world: World, gateway: Gateway
) -> None:
    """Without `stored.abandoned` in `_recall_one`, a void approval was answered as one."""
    await world.deposit(100)
    key = fresh_key()
    approval = await gateway.decide(world.card, 10, key=key)
    pair = (approval["id"], approval["account"])
    assert await abandon(world.postgres, world.clock, [pair]) == [approval["id"]]
    repeated = await gateway.ask(world.card, 10, key=key)
    assert repeated.status == 200
    assert repeated.replayed
    changed = {"decision": "declined", "reason": "abandoned", "status": "abandoned"}
    assert body(repeated) == approval | changed | {"approved_amount": 0, "expires_at": None}
    assert (await hold(world, approval))["state"] == "abandoned"
    await world.audited()


async def test_a_recall_under_way_keeps_an_abandon_waiting(world: World, gateway: Gateway) -> None:
    """Both at once, the recall first: the abandon waits for the account, then leaves the hold.

    Without `held.recalled` in `abandon`, the hold was voided behind the answer.
    """
    await world.deposit(100)
    key = fresh_key()
    approval = await gateway.decide(world.card, 10, key=key)
    committing = gateway.steps.stop("before commit")
    repeated = gateway.ask(world.card, 10, key=key)
    await committing.reached()
    abandoning = asyncio.create_task(abandon_patiently(world.postgres, world, approval))
    await eventually(lambda: waits_for_a_lock(world))
    committing.open()
    assert body(await repeated) == approval
    assert await abandoning == []
    assert (await hold(world, approval))["state"] == "active"
    await world.audited()


async def test_an_abandon_under_way_keeps_a_recall_waiting(world: World, gateway: Gateway) -> None:
    """Both at once, the abandon first: the recall waits for the account, then says declined.

    With the account read without its lock, the recall answered an approval that was voided.
    """
    await world.deposit(100)
    key = fresh_key()
    approval = await gateway.decide(world.card, 10, key=key)
    blocker = await world.postgres.dedicated(
        lock_timeout_ms=1000, statement_timeout_ms=1000, idle_in_transaction_timeout_ms=30_000
    )
    await blocker.begin()
    await blocker.fetch("SELECT id FROM hold WHERE id = $1 FOR UPDATE", approval["id"][4:])
    waiting = gateway.steps.stop("before lock_account_waiting")
    abandoning = asyncio.create_task(abandon_patiently(world.postgres, world, approval))
    await eventually(lambda: waits_for_a_lock(world))
    repeated = gateway.ask(world.card, 10, key=key)
    await waiting.reached()
    waiting.open()
    await blocker.rollback()
    blocker.terminate()
    assert await abandoning == [approval["id"]]
    assert body(await repeated)["reason"] == "abandoned"
    await world.audited()


async def test_an_approval_that_cannot_be_abandoned_keeps_no_other_standing(
    world: World, gateway: Gateway
) -> None:
    """Five on a locked account, and one behind them.

    With all of them given to one `abandon`, as it was, the sixth stood as long as the lock.
    """
    account, card = await world.funded_card(100)
    await world.deposit(100)
    stuck = [await gateway.decide(world.card, 1) for _ in range(5)]
    other = await gateway.decide(card, 10)
    late = LateApprovals(world.postgres, world.clock)
    async with world.locked(world.account):
        for approval in (*stuck, other):
            late.add(approval["id"], approval["account"])
        late.start()
        await eventually(lambda: nothing_held(world, account))
        assert await held(world) == 5
    await eventually(lambda: nothing_held(world))
    await late.stop()
    await world.audited()


async def test_late_approvals_stop_beside_a_database_that_is_gone(world: World) -> None:
    """Seen to hang for ever with the list worked off until it is empty, as it was."""
    postgres = PostgreSQLAdapter({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    late = LateApprovals(postgres, world.clock)
    late.start()
    await postgres.close()
    late.add("aut_" + "0" * 32, "acc_" + "0" * 32)
    async with asyncio.timeout(10):
        await late.stop()
    await late.stop()


async def abandon_patiently(
    postgres: PostgreSQLAdapter, world: World, approval: Document
) -> list[str]:
    """Abandons; a lock that takes longer than a verb waits is asked for again."""
    while True:
        try:
            return await abandon(postgres, world.clock, [(approval["id"], approval["account"])])
        except LockTimeout:
            continue
