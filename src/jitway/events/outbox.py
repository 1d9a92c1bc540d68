"""`outbox.py`: what was committed and not published yet: claimed, marked, put off, thrown away.

Owns the claims and the way from a row to an event. A row is written by the statement that made its
fact true; nothing here writes one. Does not publish.

A claim is a lease with a fencing token. Claims are made one after the other, oldest events first,
and while one stands nobody else gets an event of its accounts: so each account's events go out in
the order in which they were written, however many relays there are. The claim of a relay that died
ends with its connection, that of one that hangs with its lease.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from jitway.adapters.postgresql import DedicatedConnection, Row
from jitway.domain.transfer import transfer_body
from jitway.errors import LockTimeout
from jitway.events.envelope import Event
from jitway.sql import statements

_SQL = statements("events")
_log = structlog.get_logger("jitway.events")

LEASE_S: Final = 15.0
SCANNED_MAX: Final = 50_000
DEPTH_MAX: Final = 1_000_000

Connect = Callable[[], Awaitable[DedicatedConnection]]


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event that is to be published, and the slot it waits in."""

    slot: int
    event: Event


@dataclass(frozen=True, slots=True)
class Claim:
    """Events that are ours for a while.

    Args:
        token: greater than that of every earlier claim.
        waiting: in the order in which they were written.
        unreadable: those whose fact is missing, which can only be damage.
    """

    token: int
    waiting: list[Waiting]
    unreadable: list[tuple[int, Event]]


class Outbox:
    """The outbox of one ledger, over one connection of its own; one task at a time.

    Args:
        connect: opens that connection, again whenever it is lost.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: DedicatedConnection | None = None

    async def claim(self, limit: int, holder: str, *, lease_s: float = LEASE_S) -> Claim | None:
        """The oldest events that nobody else has; None when nothing waits.

        Args:
            limit: how many at most.
            holder: who claims, for the eyes of an operator.
            lease_s: seconds until they are anybody's again.

        Raises:
            StoreUnavailable: PostgreSQL is away, or another claim took too long.
        """
        connection = await self._open()
        if not (await connection.fetch(_SQL["is_anything_waiting"]))[0]["waiting"]:
            return None
        await connection.begin()
        try:
            token = (await connection.fetch(_SQL["take_turn"]))[0]["token"]
            await connection.fetch(_SQL["end_old_claims"])
            rows = await connection.fetch(
                _SQL["claim"], token, holder, timedelta(seconds=lease_s), SCANNED_MAX, limit
            )
            await connection.commit()
        except BaseException:
            await self._rollback(connection)
            raise
        return await self._read(connection, token, rows) if rows else None

    async def mark_published(self, token: int, published: Sequence[Waiting]) -> int:
        """Says of events that they were confirmed; how many that was news of.

        None at all when the claim has ended meanwhile: then somebody else publishes them again.

        Args:
            token: of the claim.
            published: some or all of its events.

        Raises:
            StoreUnavailable: PostgreSQL is away; the events may be marked or not.
        """
        if not published:
            return 0
        connection = await self._open()
        rows = await connection.fetch(
            _SQL["mark_published"],
            token,
            [one.slot for one in published],
            [one.event.digits for one in published],
        )
        return len(rows)

    async def release(
        self, token: int, put_off: Iterable[Event] = (), *, backoff_s: float = 0.0
    ) -> None:
        """Ends a claim.

        Args:
            token: of the claim.
            put_off: events that nobody shall claim for a while, nor later ones of their accounts.
            backoff_s: how long, in seconds.

        Raises:
            StoreUnavailable: PostgreSQL is away; the claim ends by its lease.
        """
        connection = await self._open()
        left = list(put_off)
        if not left:
            await connection.fetch(_SQL["release_claim"], token)
            return
        accounts = {event.account[4:] for event in left if event.account is not None}
        await connection.fetch(
            _SQL["put_off"],
            token,
            timedelta(seconds=backoff_s),
            [event.digits for event in left],
            sorted(accounts),
        )

    async def depth_and_lag(self) -> tuple[int, float]:
        """How many events wait, at most 1,000,000, and for how many seconds the oldest has.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        connection = await self._open()
        row = (await connection.fetch(_SQL["depth_and_lag"], DEPTH_MAX))[0]
        return row["depth"], max(0.0, row["lag_s"])

    async def truncate_drained_slots(self) -> int | None:
        """Empties the slot of two hours ago once all of it was published.

        Returns:
            The slot, or None when there was nothing to empty or somebody looked at it.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        connection = await self._open()
        drained = await connection.fetch(_SQL["drained_slot"])
        if not drained:
            return None
        slot: int = drained[0]["slot"]
        await connection.begin()
        try:
            await connection.fetch(_SQL[f"lock_slot_{slot}"])
            # Asked again: a statement that waited for the lock knows what is true behind it.
            still = await connection.fetch(_SQL["drained_slot"])
            is_drained = bool(still) and still[0]["slot"] == slot
            if is_drained:
                await connection.fetch(_SQL[f"truncate_slot_{slot}"])
            await connection.commit()
        except LockTimeout:
            await self._rollback(connection)
            return None
        except BaseException:
            await self._rollback(connection)
            raise
        return slot if is_drained else None

    async def close(self) -> None:
        """Ends the connection; may be called twice, or before it was opened."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _open(self) -> DedicatedConnection:
        if self._connection is None or self._connection.closed:
            self._connection = await self._connect()
        return self._connection

    async def _rollback(self, connection: DedicatedConnection) -> None:
        if not connection.closed:
            await connection.rollback()

    async def _read(
        self, connection: DedicatedConnection, token: int, rows: Sequence[Row]
    ) -> Claim:
        """The events of claimed rows; a body that is not there is built from its immutable row."""
        bare = [row for row in rows if row["body"] is None]
        decided = [row["id"] for row in bare if row["type"].startswith("jit-funding.")]
        transferred = [row["id"] for row in bare if row["type"].startswith("transaction.")]
        bodies: dict[Any, str] = {}
        if decided:
            for row in await connection.fetch(_SQL["decided"], decided):
                bodies[row["id"]] = row["body"]
        if transferred:
            for row in await connection.fetch(_SQL["transferred"], transferred):
                bodies[row["id"]] = _transfer_text(row)
        claim = Claim(token, [], [])
        for row in rows:
            text = row["body"] if row["body"] is not None else bodies.get(row["id"])
            event = _event(row, "{}" if text is None else text)
            if text is None:
                _log.error("event_without_its_fact", id=event.id, type=event.type)
                claim.unreadable.append((row["slot"], event))
            else:
                claim.waiting.append(Waiting(row["slot"], event))
        return claim


def _event(row: Row, data_text: str) -> Event:
    return Event(
        f"evt_{row['id'].hex}",
        row["type"],
        row["occurred_at"],
        row["program_id"] and f"prg_{row['program_id'].hex}",
        row["account_id"] and f"acc_{row['account_id'].hex}",
        row["account_version"],
        data_text,
    )


def _transfer_text(row: Row) -> str:
    return transfer_body(
        id=f"trf_{row['id'].hex}",
        kind=row["kind"],
        authorization=row["authorization_id"] and f"aut_{row['authorization_id'].hex}",
        account=f"acc_{row['account_id'].hex}",
        amount=row["amount"],
        currency=row["currency"],
        account_version=row["account_version"],
        created_at=row["recorded_at"],
        description=row["description"],
    )
