"""`event_checker.py`: compares what was decided with what was applied, as sets.

Reads rows and nothing of the product's own judgement. Proven by its forgeries: one effect that is
deleted and one that is doubled must both be named.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.violation import Violation
from jitway.adapters.postgresql import PostgreSQLAdapter

Fact = tuple[str, str | None, int | None, int | None]
"""Type, account, account version and amount of an event."""

_FACTS = """
    SELECT 'evt_' || replace(id::text, '-', '') AS id, 'jit-funding.' || outcome AS type,
        'acc_' || replace(account_id::text, '-', '') AS account, account_version, amount
    FROM decision
    UNION ALL
    SELECT 'evt_' || replace(id::text, '-', ''), 'transaction.' || CASE kind
            WHEN 'capture' THEN 'captured' WHEN 'reversal' THEN 'reversed'
            WHEN 'expiry' THEN 'expired' WHEN 'deposit' THEN 'deposited'
            WHEN 'withdrawal' THEN 'withdrawn' ELSE 'abandoned' END,
        'acc_' || replace(account_id::text, '-', ''), account_version, amount
    FROM transfer
    UNION ALL
    SELECT 'evt_' || replace(id::text, '-', ''), action,
        after ->> 'account', NULL, NULL
    FROM audit WHERE action LIKE 'card.%'
    UNION ALL
    -- An alarm is nothing but its event; one of the last seconds may not be published any more.
    SELECT 'evt_' || replace(id::text, '-', ''), type, NULL, NULL, NULL
    FROM outbox WHERE type LIKE 'alert.%' AND published_at IS NOT NULL
"""
_EFFECTS = "SELECT event_id AS id, type, account, account_version, amount FROM effect"


@dataclass(slots=True)
class Sets:
    """What was decided, and what became of it.

    Args:
        decided: every event that must be, by its id.
        applied: every effect, in no order.
        witnessed: what a queue that nobody reads received, in its order; None when there was none.
        archived: ids of the archive's documents, and their amounts.
        kept_elsewhere: those of them that are not in PostgreSQL.
    """

    decided: dict[str, Fact] = field(default_factory=dict)
    applied: list[tuple[str, Fact]] = field(default_factory=list)
    witnessed: list[tuple[str, Fact]] = field(default_factory=list)
    archived: dict[str, int] = field(default_factory=dict)
    kept_elsewhere: dict[str, int] = field(default_factory=dict)


async def read_sets(
    postgres: PostgreSQLAdapter,
    witnessed: Iterable[tuple[str, Fact]],
    *,
    kept_elsewhere: Mapping[str, int],
) -> Sets:
    """Everything at rest."""
    sets = Sets(witnessed=list(witnessed), kept_elsewhere=dict(kept_elsewhere))
    sets.archived.update(kept_elsewhere)
    sets.decided = {row["id"]: _fact(row) for row in await postgres.execute_query(_FACTS)}
    sets.applied = [(row["id"], _fact(row)) for row in await postgres.execute_query(_EFFECTS)]
    for row in await postgres.execute_query("SELECT id, amount FROM archive"):
        sets.archived["evt_" + row["id"].hex] = row["amount"]
    return sets


def compare(sets: Sets) -> list[Violation]:
    """Everything that must not be: lost, applied twice, phantom, altered, out of order."""
    found = _compare_effects(sets.decided, sets.applied)
    found += _compare_witness(sets.decided, sets.witnessed)
    for id_, fact in sets.decided.items():
        kept = fact[0].startswith(("jit-funding.", "transaction."))
        if kept and sets.archived.get(id_) != fact[3]:
            detail = f"{fact[0]} of {fact[3]}, archived: {sets.archived.get(id_)}"
            found.append(Violation("archived", id_, detail, fact[1] or ""))
    return found


def _compare_effects(
    decided: Mapping[str, Fact], applied: Sequence[tuple[str, Fact]]
) -> list[Violation]:
    times = Counter(id_ for id_, _ in applied)
    found = [
        Violation("applied_once", id_, f"{fact[0]} was lost", fact[1] or "")
        for id_, fact in decided.items()
        if not times[id_]
    ]
    found += [
        Violation("applied_once", id_, f"applied {number} times")
        for id_, number in times.items()
        if number > 1
    ]
    for id_, fact in dict(applied).items():
        if id_ not in decided:
            found.append(Violation("applied_was_decided", id_, f"{fact}"))
        elif decided[id_] != fact:
            found.append(Violation("applied_as_decided", id_, f"{decided[id_]} became {fact}"))
    return found


def _compare_witness(
    decided: Mapping[str, Fact], witnessed: Sequence[tuple[str, Fact]]
) -> list[Violation]:
    """The outsider's queue: the same ids and amounts, each account's first arrivals in order."""
    found = []
    first: dict[str, Fact] = {}
    for id_, fact in witnessed:
        first.setdefault(id_, fact)
    found += [
        Violation("witnessed", id_, f"{fact[0]} never arrived")
        for id_, fact in decided.items()
        if first.get(id_) is None
    ]
    found += [
        Violation("witnessed", id_, f"{fact} and not {decided.get(id_)}")
        for id_, fact in first.items()
        if decided.get(id_) != fact
    ]
    reached: dict[str, int] = {}
    for id_, (_, account, version, _) in first.items():
        if account is None or version is None:
            continue
        if version < reached.get(account, 0):
            detail = f"version {version} came after {reached[account]}"
            found.append(Violation("in_order", id_, detail, account))
        reached[account] = max(version, reached.get(account, 0))
    return found


async def prove(postgres: PostgreSQLAdapter, sets: Sets) -> list[Violation]:
    """Forges one effect away and one twice; a violation for each forgery that is not named."""
    subject, _ = sets.applied[len(sets.applied) // 2]
    unnoticed = []
    await postgres.execute_query(
        "CREATE TABLE forged AS SELECT * FROM effect WHERE event_id = $1", [subject]
    )
    try:
        await postgres.execute_query("DELETE FROM effect WHERE event_id = $1", [subject])
        if not await _is_named(postgres, sets, subject):
            unnoticed.append(Violation("checker_notices", subject, "it was deleted unnoticed"))
        await postgres.execute_query("INSERT INTO effect SELECT * FROM forged")
        await postgres.execute_query("INSERT INTO effect SELECT * FROM forged")
        if not await _is_named(postgres, sets, subject):
            unnoticed.append(Violation("checker_notices", subject, "it was doubled unnoticed"))
    finally:
        await postgres.execute_query("DELETE FROM effect WHERE event_id = $1", [subject])
        await postgres.execute_query("INSERT INTO effect SELECT * FROM forged")
        await postgres.execute_query("DROP TABLE forged")
    return unnoticed


async def _is_named(postgres: PostgreSQLAdapter, sets: Sets, subject: str) -> bool:
    forged = await read_sets(postgres, sets.witnessed, kept_elsewhere=sets.kept_elsewhere)
    return [one.subject for one in compare(forged)] == [subject]


def _fact(row: Mapping[str, Any]) -> Fact:
    return row["type"], row["account"], row["account_version"], row["amount"]
