"""Why: every rule with what it saw, balances around the decision, the later life of the money."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jitway.domain.decision import _LISTED, _STATE_RULES
from jitway.domain.limits import Limit, Period, SpendControls
from jitway.domain.message import Merchant
from jitway.errors import NotFound
from jitway.gateway.caller import Caller
from jitway.gateway.explain import _TEXTS, amount_text, explained
from tests.world import OPERATOR, Document, World, bound_to


async def why(world: World, authorization: Document, caller: Caller = OPERATOR) -> Document:
    return await explained(world.postgres, caller, authorization["id"])


async def test_a_daily_limit_says_by_how_much_it_fails(world: World) -> None:
    await world.deposit(100_000)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, amount=10_000),)))
    await world.approve(9_680)
    declined = await world.authorize(640)
    told = await why(world, declined)
    assert told["explanation"][-1] == {
        "rule": "spend_limit",
        "level": "card",
        "period": "day",
        "fact": 9_680,
        "limit": 10_000,
        "headroom": -320,
        "outcome": "broken",
        "text": "fails by 3.20, daily limit of the card: 96.80 spent before, 100.00 USD allowed",
    }
    assert told["summary"] == (
        "Declined 6.40 USD, spend_limit_exceeded: fails by 3.20, daily limit of the card: "
        "96.80 spent before, 100.00 USD allowed."
    )
    assert told["balance"] == {"before": 90_320, "after": 90_320}
    assert told["account_version"] == declined["account_version"]
    assert told["transfers"] == []


async def test_every_rule_is_told_in_order(world: World) -> None:
    await world.deposit(10_000)
    controls = SpendControls(
        (Limit(Period.TRANSACTION, amount=5_000), Limit(Period.MONTH, amount=9_000, count=2)),
        blocked_mccs=frozenset({"7995"}),
        blocked_countries=frozenset({"KP"}),
    )
    await world.limit("program", world.program, controls)
    approved = await world.approve(1_250, merchant=Merchant(mcc="5942"))
    told = await why(world, approved)
    assert [finding["text"] for finding in told["explanation"]] == [
        "the card is active",
        "the cardholder is active",
        "the account is active",
        "the program is active",
        "asked in USD, as the account is",
        "the merchant category 5942 is not among those that the program blocks",
        "the country is not known, so it is not among those that the program blocks",
        "passes with 37.50 left, transaction limit of the program: 12.50 asked, 50.00 USD allowed",
        "passes with 77.50 left, monthly limit of the program: "
        "0.00 spent before, 90.00 USD allowed",
        "passes with 1 left, monthly count limit of the program: 0 approved before, 2 allowed",
        "passes with 87.50 left, available balance: 100.00 available, 12.50 USD asked",
    ]
    assert told["balance"] == {"before": 10_000, "after": 8_750}
    assert told["summary"].startswith("Approved 12.50 USD: all 11 rules passed. Open: 12.50 held")


async def test_versions_and_timings_are_those_of_the_decision(world: World) -> None:
    await world.deposit(10_000)
    first = await world.approve(100)
    await world.limit("card", world.card, SpendControls((Limit(Period.DAY, amount=10_000),)))
    second = await world.approve(100)
    told, later = await why(world, first), await why(world, second)
    assert list(told["versions"]) == ["program", "cardholder", "card", "account"]
    assert later["versions"]["card"] > told["versions"]["card"]
    assert later["versions"]["program"] == told["versions"]["program"]
    assert told["versions"]["account"] == first["account_version"]
    assert list(told["timings"]) == [
        *("decode", "card_lookup", "user_lookup", "batch_wait"),
        *("account_lock", "refresh", "limits_check", "decision"),
    ]
    assert told["timings"]["account_lock"] > 0
    assert told["timings"]["refresh"] > 0
    assert all(0 <= ms < 60_000 for ms in told["timings"].values())
    unknown = await why(world, await world.authorize(100, card={"id": "crd_" + "0" * 32}))
    assert unknown["versions"] is None
    assert unknown["timings"]["decision"] >= 0
    await world.audited()


async def test_what_was_decided_before_they_were_kept_is_told_without_them(world: World) -> None:
    approved = await world.authorize(100)
    await world.rows("UPDATE decision SET circumstances = NULL WHERE id = $1", approved)
    told = await why(world, approved)
    assert (told["versions"], told["timings"]) == (None, {})
    assert told["explanation"]
    await world.audited()


async def test_every_kind_of_decline(world: World) -> None:
    await world.deposit(1_000)
    short = await world.authorize(1_320)
    assert (await why(world, short))["summary"] == (
        "Declined 13.20 USD, insufficient_available_balance: fails by 3.20, available balance: "
        "10.00 available, 13.20 USD asked."
    )
    foreign = await world.authorize(100, currency="EUR")
    assert (await why(world, foreign))["summary"].endswith(
        "currency_mismatch: asked in EUR, and the account is in USD."
    )
    controls = SpendControls(blocked_mccs=frozenset({"7995"}))
    await world.limit("card", world.card, controls)
    blocked = await world.authorize(100, merchant=Merchant(mcc="7995"))
    assert (await why(world, blocked))["summary"].endswith(
        "mcc_blocked: the merchant category 7995 is among those that the card blocks."
    )
    await world.freeze()
    frozen = await world.authorize(100)
    assert (await why(world, frozen))["summary"].endswith(
        "card_frozen: the card is frozen, and must be active."
    )
    unknown = await world.authorize(100, card={"id": "crd_" + "0" * 32})
    told = await why(world, unknown)
    assert told["summary"].endswith("card_not_found: there is no such card for this caller.")
    assert told["balance"] is None


async def test_the_later_life_of_the_money(world: World) -> None:
    await world.deposit(10_000)
    approved = await world.approve(5_000)
    await world.reverse(approved, 500)
    await world.capture(approved, 1_000, final=False)
    told = await why(world, approved)
    moved = [(one["kind"], one["amount"]) for one in told["transfers"]]
    assert moved == [("reversal", 500), ("capture", 1_000)]
    assert all(one["authorization"] == approved["id"] for one in told["transfers"])
    assert "Open: 10.00 captured, 5.00 released, 35.00 held until" in told["summary"]
    # What was decided does not change with what came after.
    assert told["balance"] == {"before": 10_000, "after": 5_000}
    await world.capture(approved, 3_500)
    told = await why(world, approved)
    assert [one["amount"] for one in told["transfers"]] == [500, 1_000, 3_500]
    assert "Ended as captured at" in told["summary"]
    assert "45.00 captured, 5.00 released" in told["summary"]


async def test_abandoned_and_expired(world: World) -> None:
    await world.deposit(10_000)
    lost = await world.approve(100)
    await world.abandon(lost)
    told = await why(world, lost)
    assert (told["decision"], told["reason"]) == ("declined", "abandoned")
    assert "Nobody was answered in time" in told["summary"]
    assert told["balance"] == {"before": 10_000, "after": 9_900}
    assert [one["kind"] for one in told["transfers"]] == ["abandonment"]
    old = await world.approve(200)
    await world.overdue(old)
    await world.sweep()
    assert "Ended as expired at" in (await why(world, old))["summary"]


async def test_nobody_sees_what_is_not_theirs(world: World) -> None:
    approved = await world.authorize(100)
    assert await why(world, approved, bound_to(world.program))
    for id_, caller in (
        (approved["id"], bound_to(await world.new_program())),
        ("aut_" + "0" * 32, OPERATOR),
        ("crd_" + approved["id"][4:], OPERATOR),
        ("aut_'; DROP TABLE decision", OPERATOR),
        ("", OPERATOR),
    ):
        with pytest.raises(NotFound):
            await explained(world.postgres, caller, id_)


def test_every_rule_has_its_words() -> None:
    rules = {rule for rule, _ in _STATE_RULES} | set(_LISTED)
    rules |= {"card_known", "currency", "amount_limit", "spend_limit", "count_limit"}
    rules |= {"card_valid_from", "card_valid_until", "partial_approval"}
    assert set(_TEXTS) == rules | {"available_balance"}


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123_456, "USD", "1,234.56"),
        (0, "USD", "0.00"),
        (1_234, "JPY", "1,234"),
        (1_234, "KWD", "1.234"),
        (9_007_199_254_740_991, "USD", "90,071,992,547,409.91"),
        (12, "XXX", "12 minor units"),
    ],
)
def test_amounts_have_the_digits_of_their_currency(amount: int, currency: str, text: str) -> None:
    assert amount_text(amount, currency) == text


async def test_the_command_and_its_exit_codes(world: World, database: str, tmp_path: Path) -> None:
    await world.deposit(10_000)
    approved = await world.approve(1_250)
    await world.capture(approved, 1_000)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jitway", "why", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "DATABASE_URL": database,
                "JITWAY_ENV_FILE": os.devnull,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = run(approved["id"])
    assert done.returncode == 0, done.stderr
    assert "available   100.00 before, 87.50 USD after" in done.stdout
    assert "passed  available_balance" in done.stdout
    assert "ms until it was written: decode 0." in done.stdout
    assert "versions    program 1, cardholder 1, card 1, account " in done.stdout
    assert "capture      10.00 USD" in done.stdout
    told: dict[str, Any] = json.loads(run(approved["id"], "--json").stdout)
    assert told == await why(world, approved)
    for missing in ("aut_" + "0" * 32, "nonsense"):
        done = run(missing)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"jitway: there is no authorization {missing}\n"
    assert run().returncode == 2
