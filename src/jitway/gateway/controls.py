"""`controls.py`: what a card, a cardholder or a program may spend is set anew, as a whole.

A card's controls change under its account's lock. Those of a cardholder or a program change beside
batches that are under way, so the caller is answered only once all of these have ended: every later
batch finds another version, and reads the new controls under its locks.

A wide owner's window is made with its first counted limit. It counts from then on, and once the
older batches have ended it is filled with what its cards had spent. Until then, and when it has no
counted limit any more, its version is negative: whoever gives back leaves it alone.
"""

import asyncio
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter, TransactionClient
from jitway.clock import Clock
from jitway.domain.limits import SpendControls, window_starts
from jitway.errors import Conflict, LockTimeout
from jitway.gateway import owned
from jitway.gateway.caller import Answer, Caller, Idempotency
from jitway.gateway.documents import (
    Document,
    card_document,
    cardholder_document,
    controls_form,
    program_document,
    text_of,
)
from jitway.gateway.keyed import keep, once
from jitway.gateway.trail import Act
from jitway.ledger.idempotency import claim, in_transaction
from jitway.sql import statements

_SQL = statements("cards")

OwnerKind = Literal["card", "cardholder", "program"]

# Added to a window's version when it is filled. Far below zero, and far from the end of 64 bits.
UNFILLED = -(1 << 62)

_OLDER_BATCHES_S = 5.0
_POLL_S = 0.005


async def set_controls(
    postgres: PostgreSQLAdapter,
    clock: Clock,
    caller: Caller,
    owner_kind: OwnerKind,
    owner_id: str,
    controls: SpendControls,
    *,
    idempotency: Idempotency | None = None,
    reason: str | None = None,
) -> Answer:
    """Replaces all limits and lists of one owner.

    Args:
        postgres: the ledger.
        clock: for ids.
        caller: who asks.
        owner_kind: of the owner.
        owner_id: with the prefix of its kind.
        controls: at most one limit for each period.
        idempotency: their key and content, or None.
        reason: for the audit.

    Returns:
        200 and the owner with its controls; no later authorization is decided by the old ones.

    Raises:
        NotFound: there is no such owner for this caller.
        Conflict: a limit by amount would add up several currencies.
        LockTimeout: a row stayed locked elsewhere, or older work did not end in time; then the
            controls stand, and a repeat tells.
    """

    async def act(client: TransactionClient) -> Answer:
        before = await _LOCK[owner_kind](client, caller, owner_id)
        if owner_kind != "card":
            await _demand_one_currency(client, before, controls)
            await _count(client, owner_kind, before, counts=controls.counts)
        trail = Act.of(clock, caller, reason)
        at = await claim(client, caller.scope, idempotency, subject=trail.id[4:])
        stored = text_of(controls_form(controls))
        values = [owner_id[4:], owner_kind, _program_of(before)[4:], stored, at]
        await client.query(_SQL["put_controls"], values)
        await client.query(_SQL[f"bump_{owner_kind}"], [owner_id[4:]])
        after = _DOCUMENT[owner_kind](await owned.row(client, owner_kind, owner_id))
        if owner_kind == "card":
            await trail.announce(client, "card.controls_changed", after, at=at)
        await trail.record(client, f"{owner_kind}.controls_changed", after, before=before, at=at)
        return await keep(client, caller, idempotency, Answer(200, text_of(after)), at=at)

    answer = await once(postgres, caller, idempotency, act)
    if owner_kind != "card":
        await wait_for_older_batches(postgres)
        await _fill(postgres, owner_kind, owner_id[4:])
    return answer


async def wait_for_older_batches(postgres: PostgreSQLAdapter) -> None:
    """Ends when every transaction of the ledger's database that is under way now has ended.

    One that has no number yet has locked nothing, so what it will read is read from now on.

    Raises:
        LockTimeout: one of them did not end in time.
    """
    rows = await postgres.execute_query(_SQL["under_way"])
    numbers = [row["number"] for row in rows]
    if not numbers:
        return
    try:
        async with asyncio.timeout(_OLDER_BATCHES_S):
            while not await _have_ended(postgres, numbers):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise LockTimeout(
            "the new controls stand, but work that began before them is still under way; "
            "repeat to be told when it has ended"
        ) from None


async def finish_filling(postgres: PostgreSQLAdapter) -> int:
    """Fills the windows whose filling a crash interrupted.

    Returns:
        How many were found.

    Raises:
        LockTimeout: older work did not end in time.
    """
    rows = await postgres.execute_query(_SQL["unfilled_windows"])
    unfilled = [row for row in rows if _counts(row["controls"])]
    if unfilled:
        await wait_for_older_batches(postgres)
    for row in unfilled:
        await _fill(postgres, row["owner_kind"], row["owner_id"].hex)
    return len(unfilled)


async def _have_ended(postgres: PostgreSQLAdapter, numbers: list[str]) -> bool:
    rows = await postgres.execute_query(_SQL["have_ended"], [numbers])
    return bool(rows[0]["ended"])


async def _lock_cardholder(client: TransactionClient, caller: Caller, id_: str) -> Document:
    await owned.cardholder(client, caller, id_)
    await client.query(_SQL["lock_cardholder"], [id_[4:]])
    return cardholder_document(await owned.row(client, "cardholder", id_))


async def _lock_program(client: TransactionClient, caller: Caller, id_: str) -> Document:
    await owned.open_program(client, caller, id_)
    await client.query(_SQL["lock_program"], [id_[4:]])
    return program_document(await owned.row(client, "program", id_))


def _program_of(owner: Document) -> str:
    """The program's id; a program is its own."""
    program_id: str = owner["program"] if "program" in owner else owner["id"]
    return program_id


_LOCK = {"card": owned.lock_card, "cardholder": _lock_cardholder, "program": _lock_program}
_DOCUMENT = {
    "card": card_document,
    "cardholder": cardholder_document,
    "program": program_document,
}


async def _demand_one_currency(
    client: TransactionClient, owner: Document, controls: SpendControls
) -> None:
    if all(limit.amount is None for limit in controls.limits):
        return
    program = await owned.row(client, "program", _program_of(owner))
    values = [program["id"].hex, program["currency"]]
    if (await client.query(_SQL["foreign_accounts"], values))[0]["found"]:
        raise Conflict(
            "the program has accounts in several currencies, whose amounts do not add up",
            "currency_mismatch",
        )


async def _count(
    client: TransactionClient, owner_kind: OwnerKind, owner: Document, *, counts: bool
) -> None:
    """Begins to count what a wide owner spends, or stops; under the owner's own lock."""
    digits = owner["id"][4:]
    windows = await client.query(_SQL["lock_wide_window"], [digits])
    if counts and not windows:
        values = [digits, owner_kind, _program_of(owner)[4:], UNFILLED]
        await client.query(_SQL["insert_wide_window"], values)
    elif not counts and windows and windows[0]["version"] >= 0:
        await client.query(_SQL["stop_counting"], [digits, UNFILLED])


async def _fill(postgres: PostgreSQLAdapter, owner_kind: str, digits: str) -> None:
    """Fills a wide owner's window with what its cards had spent; again changes nothing."""

    async def act(client: TransactionClient) -> None:
        windows = await client.query(_SQL["lock_wide_window"], [digits])
        if not windows or windows[0]["version"] >= 0:
            return
        # A later statement than the lock: whoever changed the controls meanwhile has committed.
        rows = await client.query(_SQL["counted_owner"], [digits])
        if not _counts(rows[0]["controls"]):
            return
        starts = _starts(rows[0])
        owner = digits if owner_kind == "cardholder" else None
        values = [rows[0]["program_id"], owner, *starts[:4], -UNFILLED]
        await client.query(_SQL["fill_window"], values)

    await in_transaction(postgres, act)


def _starts(row: dict[str, Any]) -> tuple[Any, ...]:
    now: datetime = row["now"]
    return window_starts(now, ZoneInfo(row["time_zone"]))


def _counts(stored: str) -> bool:
    return SpendControls.from_document(msgspec.json.decode(stored)).counts
