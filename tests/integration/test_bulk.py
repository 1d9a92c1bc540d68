"""Files of cards and of money: each line once, whatever is sent again, and by whom."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from jitway.domain.money import AMOUNT_MINOR_MAX
from jitway.domain.transfer import BALANCE_MINOR_MAX
from jitway.errors import Conflict, IdempotencyConflict, InvalidRequest, NotFound
from jitway.gateway import administer
from jitway.gateway.bulk import CHUNK_MAX, answer_file, take_file
from jitway.gateway.bulk_cards import CardWork
from jitway.gateway.bulk_chunk import Chunk, Work
from jitway.gateway.bulk_funding import FundingWork
from jitway.gateway.bulk_lines import Line, Ordered, Report
from jitway.gateway.caller import Answer
from jitway.gateway.changes import change
from jitway.gateway.states import turn
from jitway.wire.bulk import read_lines
from tests.world import OPERATOR, Document, World, body, bound_to, same_key

WORKS: dict[str, Work] = {"cards": CardWork(), "funding": FundingWork()}


def lines_of(kind: str, lines: list[Document]) -> list[Line]:
    raw = "\n".join(json.dumps(line) for line in lines).encode()
    return [Line(*one) for one in read_lines(kind, "ndjson", raw)]


async def taken(
    world: World, kind: str, lines: list[Document], *, caller: Any = OPERATOR, **ordered: Any
) -> Report:
    ordered = {"program": world.program["id"]} | ordered
    return await take_file(
        *(world.postgres, world.clock, caller, WORKS[kind]),
        lines_of(kind, lines),
        Ordered(**ordered),
    )


def outcomes(report: Report) -> list[str]:
    return [one.outcome for one in report.outcomes]


def card_line(number: int, **more: Any) -> Document:
    return {"external_id": f"c-{number}", "cardholder_external_id": f"h-{number}", **more}


async def test_cards_with_all_they_need(world: World) -> None:
    lines = [
        card_line(1, last4="4242", cardholder_name="Ada", credit_line=500),
        card_line(2, cardholder_external_id="h-1"),
        card_line(3, currency="EUR", cardholder_external_id="h-1"),
        {"external_id": "c-4", "cardholder": world.cardholder["id"]},
        {
            "external_id": "c-5",
            "cardholder": world.cardholder["id"],
            "account": world.account["id"],
        },
    ]
    progress: list[tuple[int, int]] = []
    report = await take_file(
        *(world.postgres, world.clock, OPERATOR, WORKS["cards"], lines_of("cards", lines)),
        Ordered(world.program["id"], reason="spring"),
        progress=lambda done, of: progress.append((done, of)),
    )
    assert outcomes(report) == ["made"] * 5
    assert progress == [(5, 5)]
    assert report.applied
    rows = await world.rows(
        "SELECT card.external_id, card.last4, cardholder.external_id AS holder, cardholder.name,"
        " account.currency, account.floor, account.id AS account FROM card"
        " JOIN cardholder ON cardholder.id = cardholder_id JOIN account ON account.id = account_id"
        " WHERE card.external_id IS NOT NULL ORDER BY card.external_id"
    )
    assert [(row["holder"], row["currency"], row["floor"]) for row in rows] == [
        ("h-1", "USD", -500),
        ("h-1", "USD", -500),
        ("h-1", "EUR", 0),
        (None, "USD", 0),
        (None, "USD", 0),
    ]
    assert rows[0]["account"] == rows[1]["account"]
    assert {row["account"].hex for row in rows[3:]} == {world.account["id"][4:]}
    assert (rows[0]["last4"], rows[0]["name"]) == ("4242", "Ada")
    made = await world.rows("SELECT action, reason FROM audit WHERE reason IS NOT NULL")
    assert sorted(row["action"] for row in made) == (
        ["account.created"] * 2 + ["card.created"] * 5 + ["cardholder.created"]
    )
    events = await world.rows("SELECT body FROM outbox WHERE type = 'card.created'")
    assert len(events) == 6
    assert (await world.authorize(1, card={"id": report.outcomes[0].id}))["decision"] == "approved"
    await world.audited()


@pytest.mark.parametrize("kind", ["cards", "funding"])
async def test_the_same_file_again_changes_nothing_and_says_so(world: World, kind: str) -> None:
    lines = [card_line(number) for number in range(3)]
    if kind == "funding":
        account = world.account["id"]
        lines = [{"key": f"k-{n}", "account": account, "amount": n + 1} for n in range(3)]
    first = await taken(world, kind, lines)
    before = await everything(world)
    again = await taken(world, kind, lines, caller=bound_to(world.program), program=None)
    assert outcomes(first) == ["made"] * 3
    assert outcomes(again) == ["unchanged"] * 3
    assert [one.id for one in again.outcomes] == [one.id for one in first.outcomes]
    assert await everything(world) == before
    await world.audited()


async def everything(world: World) -> Document:
    tables = ("cardholder", "account", "card", "transfer", "audit", "outbox", "spend_window")
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in tables)
    return (await world.rows(f"SELECT {counts}, (SELECT sum(posted) FROM account) AS posted"))[0]


async def test_money_for_many_accounts(world: World) -> None:
    second = await world.new_account()
    card = await world.new_card(second)
    fields = {"external_id": "c-2"}
    await change(world.postgres, world.clock, OPERATOR, "card", card["id"], fields)
    report = await taken(
        world,
        "funding",
        [
            {"key": "a", "account": world.account["id"], "amount": 5, "description": "May"},
            {"key": "b", "account": world.account["id"], "amount": 7},
            {"key": "c", "card_external_id": "c-2", "amount": 11},
        ],
        reason="payday",
    )
    assert outcomes(report) == ["made"] * 3
    assert await world.balances() == (12, 0, 12, 2)
    assert await world.balances(second) == (11, 0, 11, 1)
    trail = await world.rows(
        "SELECT subject, before, after, reason FROM audit"
        " WHERE action = 'account.deposited' ORDER BY id"
    )
    assert [json.loads(row["after"])["posted"] for row in trail] == [5, 12, 11]
    assert [json.loads(row["before"])["posted"] for row in trail] == [0, 5, 0]
    assert {row["reason"] for row in trail} == {"payday"}
    transfers = await world.rows("SELECT description FROM transfer ORDER BY id")
    assert [row["description"] for row in transfers] == ["May", None, None]
    events = await world.rows("SELECT type FROM outbox WHERE account_version IS NOT NULL")
    assert [event["type"] for event in events] == ["transaction.deposited"] * 3
    await world.approve(12)
    await world.audited()


async def test_a_deposit_in_bulk_pays_back_a_shortfall(world: World) -> None:
    account = world.account["id"]
    for line in (50, 0):
        await change(
            world.postgres, world.clock, OPERATOR, "account", account, {"credit_line": line}
        )
        if line:
            await world.approve(50)
    await taken(world, "funding", [{"key": "a", "account": account, "amount": 20}])
    (row,) = await world.rows("SELECT shortfall FROM account")
    assert row["shortfall"] == 30
    await world.audited()


async def test_a_bad_line_is_reported_and_the_others_go_on(world: World) -> None:
    closed = await world.new_account()
    await turn(world.postgres, world.clock, OPERATOR, "account", closed["id"], "close")
    theirs = await world.new_program()
    their_holder = await world.new_cardholder(theirs)
    their_account = await world.new_account(their_holder)
    await taken(world, "funding", [{"key": "old", "account": world.account["id"], "amount": 1}])
    report = await taken(
        world,
        "funding",
        [
            {"key": "a", "account": world.account["id"], "amount": 5},
            {"key": "a", "account": world.account["id"], "amount": 5},
            {"key": "a", "account": world.account["id"], "amount": 6},
            {"key": "b", "account": closed["id"], "amount": 5},
            {"key": "c", "account": their_account["id"], "amount": 5},
            {"key": "d", "account": "acc_1", "amount": 5},
            {"key": "e", "card_external_id": "nobody", "amount": 5},
            {"key": "f", "account": world.account["id"], "amount": 0},
            {"key": "g", "amount": 5},
            {"key": "h", "account": world.account["id"], "amount": 5, "posted": 9},
            {"key": "old", "account": world.account["id"], "amount": 2},
            {"key": "z", "account": world.account["id"], "amount": 2},
        ],
    )
    told = [
        (one.outcome, one.failure and (one.failure.code, one.failure.field))
        for one in report.outcomes
    ]
    assert told == [
        ("made", None),
        ("unchanged", None),
        ("failed", ("idempotency_conflict", None)),
        ("failed", ("account_not_active", "account")),
        ("failed", ("not_found", "account")),
        ("failed", ("not_found", "account")),
        ("failed", ("not_found", "card_external_id")),
        ("failed", ("invalid_request", "amount")),
        ("failed", ("invalid_request", "account")),
        ("failed", ("unknown_field", "posted")),
        ("failed", ("idempotency_conflict", "key")),
        ("made", None),
    ]
    assert report.counts == {"made": 2, "unchanged": 1, "failed": 9, "left_out": 0}
    assert (await world.balances())[0] == 8
    await world.audited()


async def test_cards_that_cannot_be(world: World) -> None:
    await taken(world, "cards", [card_line(1)])
    await world.new_account()
    closed = await world.new_cardholder()
    await turn(world.postgres, world.clock, OPERATOR, "cardholder", closed["id"], "close")
    stranger = await world.new_cardholder()
    theirs = await world.new_cardholder(await world.new_program())
    mine = {"cardholder": world.cardholder["id"]}
    for fields, code, field in (
        (card_line(1, cardholder_external_id="h-9"), "external_id_taken", "external_id"),
        (card_line(1, last4="1111"), "external_id_taken", "external_id"),
        ({"external_id": "x", **mine}, "invalid_request", "account"),
        ({"external_id": "x", "cardholder": closed["id"]}, "cardholder_not_active", "cardholder"),
        ({"external_id": "x", "cardholder": theirs["id"]}, "not_found", "cardholder"),
        ({"external_id": "x", "cardholder": world.card["id"]}, "not_found", "cardholder"),
        (
            {"external_id": "x", "cardholder": stranger["id"], "account": world.account["id"]},
            "account_of_another",
            "account",
        ),
        ({"external_id": "x", **mine, "account": "acc_" + "0" * 32}, "not_found", "account"),
        ({"external_id": "4111111111111111", **mine}, "card_number_refused", "external_id"),
        ({"external_id": "x"}, "invalid_request", "cardholder_external_id"),
        ({**mine}, "missing_field", "external_id"),
    ):
        (one,) = (await taken(world, "cards", [fields])).outcomes
        assert one.failure is not None, fields
        assert (one.failure.code, one.failure.field) == (code, field)
    assert len(await world.rows("SELECT FROM card")) == 2
    await world.audited()


async def test_a_trial_does_nothing_and_tells_the_same(world: World) -> None:
    lines = [card_line(1), card_line(2), {"external_id": "x", "cardholder": "chd_1"}]
    before = await everything(world)
    tried = await taken(world, "cards", lines, dry_run=True)
    assert (outcomes(tried), tried.applied) == (["made", "made", "failed"], False)
    assert {one.id for one in tried.outcomes} == {None}
    assert await everything(world) == before
    assert outcomes(await taken(world, "cards", lines)) == outcomes(tried)
    account = {"account": world.account["id"], "amount": 5}
    tried = await taken(world, "funding", [{"key": "a", **account}], dry_run=True)
    assert outcomes(tried) == ["made"]
    assert (await world.balances())[0] == 0


async def test_strict_means_all_or_nothing(world: World) -> None:
    before = await everything(world)
    lines = [card_line(1), {"external_id": "x", "cardholder": "chd_1"}]
    report = await taken(world, "cards", lines, strict=True)
    assert (outcomes(report), report.applied) == (["left_out", "failed"], False)
    assert await everything(world) == before
    report = await taken(world, "cards", lines[:1], strict=True)
    assert (outcomes(report), report.applied) == (["made"], True)


async def test_strict_stops_at_the_first_chunk_that_is_refused_after_all(world: World) -> None:
    """Each chunk can be, alone: together the first account would hold too much."""
    full, other = world.account["id"], (await world.new_account())["id"]
    most = BALANCE_MINOR_MAX // AMOUNT_MINOR_MAX
    lines = [
        {"key": f"k-{n}", "account": other, "amount": 1}
        if n in range(most, CHUNK_MAX) or n > CHUNK_MAX
        else {"key": f"k-{n}", "account": full, "amount": AMOUNT_MINOR_MAX}
        for n in range(2 * CHUNK_MAX + 1)
    ]
    progress: list[tuple[int, int]] = []
    report = await take_file(
        *(world.postgres, world.clock, OPERATOR, WORKS["funding"], lines_of("funding", lines)),
        Ordered(world.program["id"], strict=True),
        progress=lambda done, of: progress.append((done, of)),
    )
    assert progress == [(200, 401), (400, 401), (401, 401), (200, 401), (401, 401)]
    assert outcomes(report) == ["made"] * CHUNK_MAX + ["failed"] + ["left_out"] * CHUNK_MAX
    assert report.applied
    failure = report.outcomes[CHUNK_MAX].failure
    assert failure is not None
    assert failure.code == "balance_out_of_bounds"
    assert {one.id for one in report.outcomes[CHUNK_MAX:]} == {None}
    (row,) = await world.rows("SELECT count(*) AS number FROM transfer")
    assert row["number"] == CHUNK_MAX
    assert (await world.balances())[0] == most * AMOUNT_MINOR_MAX
    rest = await taken(world, "funding", lines[CHUNK_MAX + 1 :], strict=True)
    assert rest.counts["made"] == CHUNK_MAX
    await world.audited()


async def nothing(chunk: Chunk) -> None:
    """Happens."""


@dataclass
class Meddled:
    """A kind of file, with something that happens before or after each chunk, before its COMMIT."""

    of: Work
    before: Callable[[Chunk], Awaitable[None]] = nothing
    after: Callable[[Chunk], Awaitable[None]] = nothing
    number: int = 0

    @property
    def kind(self) -> str:
        return self.of.kind

    async def take(self, chunk: Chunk) -> None:
        self.number += 1
        await self.before(chunk)
        await self.of.take(chunk)
        await self.after(chunk)


async def test_strict_does_nothing_of_a_chunk_the_ledger_refuses(world: World) -> None:
    """Refused as a whole, when the trial is over and before the first chunk stands."""

    async def meddle(_: Chunk) -> None:
        if work.number == 2:
            await world.rows("ALTER TABLE card ADD CHECK (external_id <> 'c-7')")

    work = Meddled(WORKS["cards"], meddle)
    before = await everything(world)
    report = await take_file(
        *(world.postgres, world.clock, OPERATOR, work),
        lines_of("cards", [card_line(number) for number in range(12)]),
        Ordered(world.program["id"], strict=True),
    )
    assert [one.line for one in report.outcomes if one.outcome == "failed"] == [8]
    assert report.counts == {"made": 0, "unchanged": 0, "failed": 1, "left_out": 11}
    assert not report.applied
    assert await everything(world) == before


async def test_a_chunk_holds_one_account_for_each_line_at_most(world: World) -> None:
    """Of cardholders with accounts in two currencies: that of the line, or the one it names."""
    for currency in ("USD", "EUR"):
        lines = [
            card_line(n, external_id=f"{currency}-{n}", currency=currency) for n in range(CHUNK_MAX)
        ]
        assert (await taken(world, "cards", lines)).counts["made"] == CHUNK_MAX
    rows = await world.rows(
        "SELECT cardholder.external_id AS holder, account.id, currency FROM account"
        " JOIN cardholder ON cardholder.id = cardholder_id"
        " WHERE cardholder.external_id IS NOT NULL"
    )
    ids = {(row["holder"], row["currency"]): row["id"].hex for row in rows}
    held: set[str] = set()

    async def look(_: Chunk) -> None:
        free = await world.rows("SELECT id FROM account FOR NO KEY UPDATE SKIP LOCKED")
        held.update({*ids.values()} - {row["id"].hex for row in free})

    named = f"acc_{ids['h-0', 'EUR']}"
    lines = [card_line(0, account=named), *(card_line(n) for n in range(1, CHUNK_MAX))]
    await take_file(
        *(world.postgres, world.clock, OPERATOR, Meddled(WORKS["cards"], after=look)),
        lines_of("cards", lines),
        Ordered(world.program["id"]),
    )
    assert len(held) == CHUNK_MAX
    wanted = {ids[f"h-{n}", "USD"] for n in range(1, CHUNK_MAX)} | {ids["h-0", "EUR"]}
    assert held == wanted
    await world.audited()


async def test_chunks_stand_alone(world: World) -> None:
    lines = [card_line(number, cardholder_external_id=f"h-{number // 4}") for number in range(450)]
    progress: list[tuple[int, int]] = []
    report = await take_file(
        *(world.postgres, world.clock, OPERATOR, WORKS["cards"], lines_of("cards", lines)),
        Ordered(world.program["id"]),
        progress=lambda done, of: progress.append((done, of)),
    )
    assert progress == [(200, 450), (400, 450), (450, 450)]
    assert report.counts["made"] == 450
    (row,) = await world.rows("SELECT count(*) AS number FROM account")
    assert row["number"] == 1 + 113
    money = [
        {"key": f"k-{n}", "card_external_id": f"c-{n}", "amount": 10} for n in range(len(lines))
    ]
    assert (await taken(world, "funding", money)).counts["made"] == 450
    (row,) = await world.rows("SELECT sum(posted) AS total FROM account")
    assert row["total"] == 4_500
    await world.audited()


@pytest.mark.parametrize("kind", ["cards", "funding"])
async def test_two_at_once_do_each_line_once(world: World, kind: str) -> None:
    lines = [card_line(number, cardholder_external_id="h") for number in range(40)]
    if kind == "funding":
        account = world.account["id"]
        lines = [{"key": f"k-{n}", "account": account, "amount": 1} for n in range(40)]
    reports = await asyncio.gather(*(taken(world, kind, lines) for _ in range(3)))
    made = [one.id for report in reports for one in report.outcomes if one.outcome == "made"]
    assert len(set(made)) == len(made) == 40
    assert all(report.counts["failed"] == 0 for report in reports)
    if kind == "funding":
        assert (await world.balances())[0] == 40
    await world.audited()


async def test_a_busy_account_fails_its_lines_only(world: World) -> None:
    second = await world.new_account()
    lines = [
        {"key": f"k-{n}", "account": (world.account, second)[n % 2]["id"], "amount": 1}
        for n in range(4)
    ]
    async with world.locked(world.account):
        report = await taken(world, "funding", lines)
    assert outcomes(report) == ["failed", "made", "failed", "made"]
    failure = report.outcomes[0].failure
    assert failure is not None
    assert failure.code == "account_busy"
    assert outcomes(await taken(world, "funding", lines)) == ["made", "unchanged"] * 2
    await world.audited()


async def test_whose_program_it_is(world: World) -> None:
    theirs = await world.new_program()
    with pytest.raises(InvalidRequest) as refused:
        await taken(world, "cards", [card_line(1)], program=None)
    assert refused.value.pointer == "/program"
    for program in (world.program["id"], "prg_1", "prg_" + "0" * 32):
        with pytest.raises(NotFound):
            await taken(world, "cards", [card_line(1)], caller=bound_to(theirs), program=program)
    await turn(world.postgres, world.clock, OPERATOR, "program", theirs["id"], "close")
    with pytest.raises(Conflict):
        await taken(world, "cards", [card_line(1)], program=theirs["id"])


async def test_another_currency_is_admitted_or_its_lines_fail(world: World) -> None:
    from jitway.domain.limits import Limit, Period, SpendControls

    limit = SpendControls((Limit(Period.DAY, 100),))
    await world.limit("program", world.program, limit)
    report = await taken(world, "cards", [card_line(1, currency="EUR"), card_line(2)])
    assert outcomes(report) == ["failed", "made"]
    failure = report.outcomes[0].failure
    assert failure is not None
    assert (failure.code, failure.field) == ("currency_mismatch", "currency")
    assert len(await world.rows("SELECT FROM cardholder WHERE external_id IS NOT NULL")) == 1


async def test_the_report_is_kept_for_a_repeat(world: World) -> None:
    lines = lines_of("funding", [{"key": "a", "account": world.account["id"], "amount": 5}])
    ordered = Ordered(world.program["id"])
    asked = (world.postgres, world.clock, OPERATOR, WORKS["funding"], lines, ordered)
    first, other = await asyncio.gather(
        *(answer_file(*asked, idempotency=same_key("file")) for _ in range(2))
    )
    assert first.body == other.body
    again = await answer_file(*asked, idempotency=same_key("file"))
    assert (again.body, again.replayed) == (first.body, True)
    with pytest.raises(IdempotencyConflict):
        await answer_file(*asked, idempotency=same_key("file", '{"other":1}'))
    fresh = body(await answer_file(*asked, idempotency=same_key("another")))
    assert (fresh["unchanged"], fresh["made"]) == (1, 0)
    acts = await world.rows("SELECT action FROM audit WHERE action LIKE 'bulk.%'")
    assert len(acts) == 2
    assert (await world.balances())[0] == 5
    await world.audited()


async def test_two_files_that_race_for_one_key_are_both_told_the_truth(world: World) -> None:
    both = asyncio.Event()
    begun: set[str] = set()

    async def meddle(chunk: Chunk) -> None:
        begun.add(str(chunk.reason))
        if len(begun) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 30)

    async def ask(name: str, account: Document) -> Answer:
        lines = lines_of("funding", [{"key": name, "account": account["id"], "amount": 5}])
        return await answer_file(
            *(world.postgres, world.clock, OPERATOR, Meddled(WORKS["funding"], meddle), lines),
            Ordered(world.program["id"], reason=name),
            idempotency=same_key("file", json.dumps(name)),
        )

    accounts = {"first": world.account, "second": await world.new_account()}
    answers = await asyncio.gather(*(ask(*one) for one in accounts.items()))
    for answer in answers:
        assert (answer.status, answer.replayed, body(answer)["made"]) == (200, False, 1)
    repeats = await asyncio.gather(*(ask(*one) for one in accounts.items()), return_exceptions=True)
    kept = [n for n, repeat in enumerate(repeats) if isinstance(repeat, Answer)]
    refused = [n for n, repeat in enumerate(repeats) if isinstance(repeat, IdempotencyConflict)]
    assert sorted(kept + refused) == [0, 1]
    (first,) = kept
    assert repeats[first] == Answer(200, answers[first].body, replayed=True)
    for account in accounts.values():
        assert (await world.balances(account))[0] == 5
    acts = await world.rows("SELECT reason FROM audit WHERE action = 'bulk.funding'")
    assert sorted(act["reason"] for act in acts) == ["first", "second"]
    await world.audited()


async def test_what_the_ledger_refuses_is_found_in_its_chunk(world: World) -> None:
    """P19: a write that fails for one line fails for that line alone."""
    await world.rows("ALTER TABLE card ADD CONSTRAINT not_seven CHECK (external_id <> 'c-7')")
    report = await taken(world, "cards", [card_line(number) for number in range(12)])
    assert [one.line for one in report.outcomes if one.outcome == "failed"] == [8]
    assert report.counts["made"] == 11
    await world.audited()


async def test_cards_of_single_and_bulk_creation_are_alike(world: World) -> None:
    report = await taken(world, "cards", [card_line(1)])
    single = body(
        await administer.create_card(
            *(world.postgres, world.clock, OPERATOR, None),
            cardholder=world.cardholder["id"],
            account=world.account["id"],
            external_id="c-9",
        )
    )
    assert report.counts["made"] == 1
    row = (await world.rows("SELECT after FROM audit WHERE action = 'card.created' ORDER BY id"))[1]
    bulk = json.loads(row["after"])
    assert bulk.keys() == single.keys()
    assert {name: bulk[name] for name in ("status", "version", "controls")} == {
        name: single[name] for name in ("status", "version", "controls")
    }
