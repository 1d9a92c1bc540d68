"""`proof.py`: proves the checker: in copies of the database one effect is deleted, one is doubled.

Both forgeries keep the books right (balances, versions, windows, events), so that only somebody who
remembers what callers were told can notice. A checker that misses one of them proves nothing.
"""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from chaos.checker import check
from chaos.history import Call, History, Verb
from chaos.rows import read_ledger
from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.ledger.audit import verify

_WINDOWS = ("day", "week", "month", "year", "lifetime")
_CHANGE_WINDOWS = ", ".join(
    f"{name}_amount = {name}_amount + $2, {name}_count = {name}_count + $3" for name in _WINDOWS
)
_DELETE = (
    "DELETE FROM hold WHERE id = $1",
    "DELETE FROM outbox WHERE id = $1",
    "DELETE FROM idempotency_key WHERE subject = $1",
    "DELETE FROM decision WHERE id = $1",
)
_DOUBLE = (
    """INSERT INTO decision SELECT ($2::jsonb->>'id')::uuid, scope, program_id, cardholder_id,
        card_id, account_id, outcome, reason, kind, amount, approved_amount, currency,
        account_version + 1, place, decided_at, $2::jsonb->>'body', request, explanation
    FROM decision WHERE id = $1""",
    """INSERT INTO hold (id, account_id, amount, expires_at)
    SELECT ($2::jsonb->>'id')::uuid, account_id, amount, expires_at FROM hold WHERE id = $1""",
    """INSERT INTO outbox (slot, id, type, program_id, account_id, account_version, occurred_at)
    SELECT slot, ($2::jsonb->>'id')::uuid, type, program_id, account_id, account_version + 1,
        occurred_at
    FROM outbox WHERE id = $1""",
    """INSERT INTO idempotency_key
    SELECT scope, decode($2::jsonb->>'key', 'hex'), content, ($2::jsonb->>'id')::uuid
    FROM idempotency_key WHERE subject = $1""",
)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the checker made of one forgery.

    Args:
        forgery: what was done.
        subject: to which approval.
        noticed: whether a violation names it.
        violations: all that were reported.
        books_right: whether the rows alone still looked right.
    """

    forgery: str
    subject: str
    noticed: bool
    violations: list[str]
    books_right: bool

    @property
    def document(self) -> dict[str, Any]:
        """As it is printed."""
        return asdict(self)


async def prove(url: str, history: History) -> list[Proof]:
    """Forges in copies, and lets the checker look at them.

    Args:
        url: of the database at rest; nobody may be connected to it.
        history: that fits it; every account's last change is an approval that was answered.
    """
    call = next(
        call
        for call in reversed(history.calls)
        if call.verb is Verb.AUTHORIZE and call.answer and call.document["decision"] == "approved"
    )
    return [
        await _forge(url, history, call, "deleted", _delete),
        await _forge(url, history, call, "doubled", _double),
    ]


Forgery = Callable[[TransactionClient, Call], Awaitable[str]]


async def _forge(url: str, history: History, call: Call, name: str, forgery: Forgery) -> Proof:
    async with _copy(url) as copy:
        postgres = PostgreSQLAdapter(database_url=copy, pool_size_min=1, slow_query_ms=60_000)
        try:
            forged = await postgres.execute_transaction(lambda client: forgery(client, call))
            books = await verify(postgres)
        finally:
            await postgres.close()
        violations = check(history, await read_ledger(copy, history)).violations
    return Proof(
        forgery=name,
        subject=call.document["id"],
        noticed=any(one.subject in (forged, call.key) for one in violations),
        violations=sorted({one.invariant for one in violations}),
        books_right=books.ok,
    )


async def _delete(client: TransactionClient, call: Call) -> str:
    """Makes an acknowledged approval as if it had never been; returns what must be named."""
    answer = call.document
    for sql in _DELETE:
        await client.query(sql, [answer["id"][4:]])
    await _change_sums(client, answer, amount=-answer["amount"], count=-1)
    return call.key


async def _double(client: TransactionClient, call: Call) -> str:
    """Makes an approval a second time, under a key that nobody sent."""
    answer = call.document
    digits = answer["id"][4:-6] + secrets.token_hex(3)
    body = answer | {
        "id": f"aut_{digits}",
        "available": answer["available"] - answer["amount"],
        "account_version": answer["account_version"] + 1,
    }
    forged = {
        "id": digits,
        "key": secrets.token_hex(16),
        "body": json.dumps(body, separators=(",", ":")),
    }
    for sql in _DOUBLE:
        await client.query(sql, [answer["id"][4:], json.dumps(forged)])
    await _change_sums(client, answer, amount=answer["amount"], count=1)
    return f"aut_{digits}"


async def _change_sums(
    client: TransactionClient, answer: dict[str, Any], *, amount: int, count: int
) -> None:
    await client.query(
        "UPDATE account SET held = held + $2, version = version + $3 WHERE id = $1",
        [answer["account"][4:], amount, count],
    )
    await client.query(
        f"UPDATE spend_window SET {_CHANGE_WINDOWS} WHERE owner_id = $1",
        [answer["card"][4:], amount, count],
    )


@asynccontextmanager
async def _copy(url: str) -> AsyncIterator[str]:
    parts = urlsplit(url)
    name = parts.path.removeprefix("/")
    forged = f"forged_{secrets.token_hex(4)}"
    house = PostgreSQLAdapter(
        database_url=urlunsplit(parts._replace(path="/postgres")),
        pool_size_min=1,
        pool_size_max=1,
        slow_query_ms=60_000,
    )
    try:
        await house.execute_query(f"CREATE DATABASE {forged} TEMPLATE {name}")
        try:
            yield urlunsplit(parts._replace(path=f"/{forged}"))
        finally:
            await house.execute_query(f"DROP DATABASE {forged} WITH (FORCE)")
    finally:
        await house.close()
