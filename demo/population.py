"""A demo program of thousands of funded cards, loaded straight into the ledger in a few seconds.

Plays the part of a bulk load, in chunks of at most 200 accounts; every deposit is a transfer, so
the books verify from the first row on.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import SystemClock
from jitway.simulator.population import Population

CHUNK = 200
EACH_ROLE = 12
CURRENCY = "USD"
MEDIAN_FUNDS_MINOR = 1_200_00

_LOAD = """
WITH made AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[])
        AS new (cardholder_id, account_id, card_id, transfer_id, funds, name)
), cardholders AS (
    INSERT INTO cardholder (id, program_id, name, created_at)
    SELECT cardholder_id, $7, name, $9 FROM made RETURNING 1
), accounts AS (
    INSERT INTO account (id, program_id, cardholder_id, currency, posted, version, created_at)
    SELECT account_id, $7, cardholder_id, $8, funds, 1, $9 FROM made RETURNING 1
), cards AS (
    INSERT INTO card (id, program_id, cardholder_id, account_id, last4, created_at)
    SELECT card_id, $7, cardholder_id, account_id, right('000' || funds % 10000, 4), $9
    FROM made RETURNING 1
), windows AS (
    INSERT INTO spend_window (owner_id, owner_kind, program_id)
    SELECT card_id, 'card', $7 FROM made RETURNING 1
), announced AS (
    INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    SELECT $10, transfer_id, 'transaction.deposited', $7, account_id, 1, $9 FROM made RETURNING 1
)
INSERT INTO transfer (id, program_id, account_id, kind, layer, debit_account_id,
    credit_account_id, amount, currency, account_version, description, recorded_at)
SELECT transfer_id, $7, account_id, 'deposit', 'posted', funding.id, account_id, funds, $8, 1,
    'demo funding', $9
FROM made, system_account AS funding
WHERE funding.program_id = $7 AND funding.code = 'program_funding'
"""

_CONTROL = """
INSERT INTO spend_control (owner_id, owner_kind, program_id, controls, changed_at)
SELECT owner_id, 'card', $2, $3, $4 FROM unnest($1::uuid[]) AS new (owner_id)
"""

_STATE = "UPDATE card SET state = $2, version = version + 1 WHERE id = ANY ($1::uuid[])"

_FIRST_NAMES = ("Ada", "Grace", "Edsger", "Barbara", "Alan", "Katherine", "Dennis", "Radia")
_LAST_NAMES = ("Archer", "Brook", "Castle", "Dale", "Field", "Grove", "Hill", "Lake", "Marsh")


async def load(
    postgres: PostgreSQLAdapter,
    program_id: str,
    *,
    cards: int,
    seed: int,
    on_progress: Callable[[int], None],
) -> Population:
    """Makes cardholders, each with a funded account and a card, and gives some of them roles.

    Args:
        postgres: the ledger.
        program_id: `prg_...`, made before.
        cards: how many.
        seed: of names and funds.
        on_progress: told how many stand, after each chunk.
    """
    dice = random.Random(seed)
    clock = SystemClock()
    roles = Population(ordinary=())
    ids = [clock.new_id("crd") for _ in range(cards)]
    by_role = _dealt(ids)
    poor = set(by_role["poorly_funded"])
    for start in range(0, cards, CHUNK):
        chunk = ids[start : start + CHUNK]
        funds = [
            roles.poorly_funded_minor
            if card in poor
            # Traffic is Zipf's: who pays most often has most.
            else round(dice.lognormvariate(0, 0.6) * MEDIAN_FUNDS_MINOR * (1 + 100 / rank)) + 1
            for rank, card in enumerate(chunk, start + 1)
        ]
        await _load_chunk(postgres, clock, program_id, chunk, funds, dice)
        on_progress(start + len(chunk))
    await _give_roles(postgres, program_id, by_role, roles)
    return Population(
        ordinary=by_role["ordinary"],
        frozen=by_role["frozen"],
        closed=by_role["closed"],
        poorly_funded=by_role["poorly_funded"],
        mcc_blocked=by_role["mcc_blocked"],
        transaction_limited=by_role["transaction_limited"],
        day_limited=by_role["day_limited"],
        month_limited=by_role["month_limited"],
        count_limited=by_role["count_limited"],
    )


def _dealt(ids: Sequence[str]) -> dict[str, Sequence[str]]:
    """The last cards get a role each; the others, the most used first, are ordinary."""
    names = (
        "frozen",
        "closed",
        "poorly_funded",
        "mcc_blocked",
        "transaction_limited",
        "day_limited",
        "month_limited",
        "count_limited",
    )
    ordinary = len(ids) - EACH_ROLE * len(names)
    by_role: dict[str, Sequence[str]] = {"ordinary": ids[:ordinary]}
    for place, name in enumerate(names):
        first = ordinary + place * EACH_ROLE
        by_role[name] = ids[first : first + EACH_ROLE]
    return by_role


async def _load_chunk(
    postgres: PostgreSQLAdapter,
    clock: SystemClock,
    program_id: str,
    cards: Sequence[str],
    funds: Sequence[int],
    dice: random.Random,
) -> None:
    now = datetime.now(UTC)
    names = [f"{dice.choice(_FIRST_NAMES)} {dice.choice(_LAST_NAMES)}" for _ in cards]
    await postgres.execute_query(
        _LOAD,
        [
            [clock.new_id("chd")[4:] for _ in cards],
            [clock.new_id("acc")[4:] for _ in cards],
            [card[4:] for card in cards],
            [clock.new_id("trf")[4:] for _ in cards],
            funds,
            names,
            program_id[4:],
            CURRENCY,
            now,
            int(now.timestamp()) // 3600 % 4,
        ],
    )


async def _give_roles(
    postgres: PostgreSQLAdapter,
    program_id: str,
    by_role: Mapping[str, Sequence[str]],
    roles: Population,
) -> None:
    controls: dict[str, dict[str, Any]] = {
        "mcc_blocked": {"block": {"mcc": [roles.blocked_mcc]}},
        "transaction_limited": _limit("transaction", amount=roles.transaction_limit_minor),
        "day_limited": _limit("day", amount=roles.day_limit_minor),
        "month_limited": _limit("month", amount=roles.month_limit_minor),
        "count_limited": _limit("day", count=roles.day_count),
    }

    async def give(client: TransactionClient) -> None:
        now = datetime.now(UTC)
        for role, control in controls.items():
            digits = [card[4:] for card in by_role[role]]
            await client.query(_CONTROL, [digits, program_id[4:], json.dumps(control), now])
        for role in ("frozen", "closed"):
            await client.query(_STATE, [[card[4:] for card in by_role[role]], role])

    await postgres.execute_transaction(give)
    await postgres.execute_query("ANALYZE")


def _limit(period: str, **most: int) -> dict[str, Any]:
    return {"limits": [{"period": period, **most}]}
