"""`rows.py`: the ledger at rest, as plain rows; what the history is held against."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.history import History
from jitway.adapters.postgresql import PostgreSQLAdapter

Row = dict[str, Any]
CHUNK = 5_000

_ACCOUNT = "SELECT id, posted, held, floor, version FROM account WHERE id = ANY ($1::uuid[])"
_DECISIONS = """
    SELECT id, account_id, card_id, outcome, reason, amount, approved_amount, account_version,
        place, decided_at, body, request
    FROM decision WHERE account_id = $1
"""
_TRANSFERS = """
    SELECT id, account_id, kind, amount, held_change, authorization_id, account_version
    FROM transfer WHERE account_id = $1
"""
_HOLDS = """
    SELECT id, account_id, amount, captured, released, state FROM hold WHERE account_id = $1
"""
_KEYS = """
    SELECT key, subject, status, body
    FROM idempotency_key LEFT JOIN answer USING (scope, key)
    WHERE key = ANY ($1::bytea[])
"""
_TOTALS = """
    SELECT (SELECT count(*) FROM decision) + (SELECT count(*) FROM transfer) AS changes
"""


@dataclass(slots=True)
class Ledger:
    """Rows of the accounts of one round; ids are the digits of the public ones.

    Args:
        accounts: by id.
        decisions: by account.
        transfers: by account.
        holds: by account.
        keys: what the ledger knows of each key that was used, by its digest.
        changes: decisions and transfers of everybody.
    """

    accounts: dict[str, Row] = field(default_factory=dict)
    decisions: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    transfers: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    holds: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[bytes, Row] = field(default_factory=dict)
    changes: int = 0


async def read_ledger(url: str, history: History) -> Ledger:
    """Reads what a round has left.

    Args:
        url: of the database.
        history: of the round.
    """
    postgres = PostgreSQLAdapter(
        database_url=url, pool_size_min=1, pool_size_max=1, slow_query_ms=60_000
    )
    try:
        ledger = Ledger()
        accounts = [account[4:] for account in history.openings]
        for row in await postgres.execute_query(_ACCOUNT, [accounts]):
            ledger.accounts[row["id"].hex] = row
        for account in accounts:
            for sql, rows in (
                (_DECISIONS, ledger.decisions),
                (_TRANSFERS, ledger.transfers),
                (_HOLDS, ledger.holds),
            ):
                rows[account] = await postgres.execute_query(sql, [account])
        digests = [call.digest for call in history.calls if call.key]
        for chunk in _chunks(digests):
            for row in await postgres.execute_query(_KEYS, [chunk]):
                ledger.keys[row["key"]] = row
        ledger.changes = (await postgres.execute_query(_TOTALS))[0]["changes"]
        return ledger
    finally:
        await postgres.close()


def _chunks(digests: Sequence[bytes]) -> list[list[bytes]]:
    return [list(digests[at : at + CHUNK]) for at in range(0, len(digests), CHUNK)]
