"""`dead_letter.py`: buried deliveries: looked at, replayed, discarded, on either broker.

Every act leaves an audit row, and leaves it first: an act that was recorded and did not happen is a
second line in the audit, one that happened and was not recorded would be a lie.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.clock import Clock, id_digits
from jitway.domain.instant import instant_text
from jitway.domain.redaction import redact, redact_text
from jitway.errors import BrokerUnavailable, Conflict, InvalidRequest, NotFound
from jitway.events.broker import QUEUES, Broker, DeadLetter, Queue
from jitway.sql import statements

_SQL = statements("events")

Document = dict[str, Any]
MaySee = Callable[[str | None], bool]
Act = Literal["replay", "discard"]

BODY_SHOWN_MAX: Final = 4_000
_DONE: Final = {"replay": "replayed", "discard": "discarded"}


class DeadLetters:
    """The dead letters of some queues.

    Args:
        broker: where they lie.
        postgres: knows the queues, and keeps the audit.
        clock: for ids and instants.
        own: queues that the broker has declared itself.
    """

    def __init__(
        self,
        broker: Broker,
        postgres: PostgreSQLAdapter,
        clock: Clock,
        *,
        own: Sequence[Queue] = QUEUES,
    ) -> None:
        self._broker = broker
        self._postgres = postgres
        self._clock = clock
        self._declared = {queue.name for queue in own}

    async def letters(self, may_see: MaySee, *, queue: str | None = None) -> list[Document]:
        """The dead letters that the caller may see, the oldest first, without their messages.

        Args:
            may_see: whether the letters of a program, or of none, exist for the caller.
            queue: only those of one queue.

        Raises:
            NotFound: there is no such queue.
            BrokerUnavailable: the broker is away.
        """
        letters = await self._all(queue)
        return [_summary(letter) for letter in letters if may_see(program_of(letter))]

    async def show(self, may_see: MaySee, letter_id: str, *, queue: str | None = None) -> Document:
        """One dead letter with its message, redacted, and what happened to it.

        Raises:
            NotFound: there is none of that id for this caller.
            Conflict: several queues have one.
            BrokerUnavailable: the broker is away.
        """
        return _whole(await self._one(may_see, letter_id, queue))

    async def act(
        self,
        act: Act,
        may_see: MaySee,
        letter_id: str,
        *,
        queue: str | None = None,
        actor: str,
        reason: str | None = None,
    ) -> Document:
        """Sends a dead letter back into its queue, or forgets it for good.

        Once it is done there is no such letter any more: a second time does nothing.

        Args:
            act: `replay` or `discard`.
            may_see: as in `letters`.
            letter_id: of the letter.
            queue: needed where several queues have one of that id.
            actor: whose key it is, for the audit.
            reason: in their words.

        Returns:
            The letter as it was.

        Raises:
            NotFound: there is none of that id for this caller.
            Conflict: several queues have one.
            BrokerUnavailable: the broker is away; what was begun may have happened.
        """
        letter = await self._one(may_see, letter_id, queue)
        await self._record(f"dead_letter.{_DONE[act]}", letter, actor, reason)
        try:
            taken = await self._take(act, letter)
        except BrokerUnavailable as error:
            await self._record(f"dead_letter.{act}_failed", letter, actor, str(error))
            raise
        if taken is None:
            await self._record(f"dead_letter.{act}_failed", letter, actor, "it was gone")
            raise _none(letter_id)
        return _whole(taken)

    async def _take(self, act: Act, letter: DeadLetter) -> DeadLetter | None:
        if act == "replay":
            return await self._broker.replay(letter.queue, letter.id)
        return await self._broker.discard(letter.queue, letter.id)

    async def _all(self, queue: str | None) -> list[DeadLetter]:
        known = await self._queues()
        if queue is not None and queue not in known:
            raise NotFound(f"no queue {queue[:200]!r} is known; they are {', '.join(known)}")
        names = known if queue is None else [queue]
        letters = [letter for name in names for letter in await self._broker.dead(name)]
        return sorted(letters, key=lambda letter: (_sortable(letter.last_failed_at), letter.id))

    async def _queues(self) -> list[str]:
        """Ours, and those that consumers of others have declared on this ledger."""
        rows = await self._postgres.execute_query(_SQL["subscriptions"], repeatable=True)
        for row in rows:
            if row["queue"] not in self._declared:
                keys, delays_ms = tuple(row["binding_keys"]), tuple(row["retry_delays_ms"])
                await self._broker.declare(Queue(row["queue"], keys, delays_ms))
                self._declared.add(row["queue"])
        return sorted(self._declared)

    async def _one(self, may_see: MaySee, letter_id: str, queue: str | None) -> DeadLetter:
        seen = [letter for letter in await self._all(queue) if may_see(program_of(letter))]
        # The list shows an id redacted, so that must do to name a letter.
        found = [letter for letter in seen if letter.id == letter_id] or [
            letter for letter in seen if redact_text(letter.id) == letter_id
        ]
        if not found:
            raise _none(letter_id)
        queues = sorted({letter.queue for letter in found})
        if len(queues) > 1:
            raise Conflict(f"name the queue: {', '.join(queues)} all have it", "queue_required")
        if len({letter.id for letter in found}) > 1:
            raise Conflict(
                f"{len(found)} letters of {queues[0]} are shown as {letter_id!r}: name one by the "
                "id that its sender gave it"
            )
        return found[0]

    async def _record(
        self, action: str, letter: DeadLetter, actor: str, reason: str | None
    ) -> None:
        program = program_of(letter)
        values = [
            self._clock.new_id("adt")[4:],
            actor,
            action,
            program and program[4:],
            redact_text(letter.id),
            msgspec.json.encode(_summary(letter)).decode(),
            reason,
            self._clock.now(),
        ]
        await self._postgres.execute_query(_SQL["audit_dead_letter"], values)


def program_of(letter: DeadLetter) -> str | None:
    """The program that a letter's envelope names, if it has one."""
    try:
        program = msgspec.json.decode(letter.body, type=_Owned).program
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return program if program is not None and id_digits(program, "prg") is not None else None


class _Owned(msgspec.Struct, frozen=True):
    program: str | None = None


def _none(letter_id: str) -> NotFound:
    return NotFound(f"there is no dead letter {redact_text(letter_id[:255])!r}")


def _sortable(instant: datetime | None) -> float:
    return 0.0 if instant is None else instant.timestamp()


def _summary(letter: DeadLetter) -> Document:
    return {
        "id": redact_text(letter.id),
        "queue": letter.queue,
        "type": redact_text(letter.routing_key),
        "cause": redact_text(letter.cause),
        "attempts": letter.attempts,
        "replays": letter.replays,
        "program": program_of(letter),
        "first_failed_at": letter.first_failed_at and instant_text(letter.first_failed_at),
        "last_failed_at": letter.last_failed_at and instant_text(letter.last_failed_at),
    }


def _whole(letter: DeadLetter) -> Document:
    history = [
        {
            "attempt": failure.attempt,
            "at": failure.at and instant_text(failure.at),
            "cause": redact_text(failure.cause),
        }
        for failure in letter.history
    ]
    return _summary(letter) | {"history": history} | _message(letter.body)


def _message(body: bytes) -> Document:
    """What was buried: as JSON where it is that, else as much of its text as fits a screen."""
    try:
        return {"message": redact(msgspec.json.decode(body)), "body": None}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidRequest):
        text = body[:BODY_SHOWN_MAX].decode(errors="replace")
        return {"message": None, "body": redact_text(text)}
