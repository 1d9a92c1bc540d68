"""`relay.py`: from the outbox to the broker; marks only what was confirmed.

Owns the pace. One claim at a time: its accounts side by side, the events of one account one after
the other, each after the confirm of the one before. So a queue receives an account's events in
their order, through every failure: an event that is not confirmed keeps the later ones of its
account back. What was published twice is recognised by its id.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from jitway.errors import BrokerUnavailable, JitwayError
from jitway.events.broker import Broker, Message
from jitway.events.envelope import Event, encode
from jitway.events.outbox import LEASE_S, Claim, Outbox, Waiting

_log = structlog.get_logger("jitway.events")

BATCH_MAX: Final = 200
# The rest of the lease is for what is under way, and for saying so.
SENDING_S: Final = LEASE_S / 2
STOP_S: Final = 6.0
HOUSEKEEPING_S: Final = 10.0
# Work and rest take turns, so that a long backlog leaves the machine to the authorizations.
REST_PER_WORK: Final = 0.5
_POLL_MIN_S: Final = 0.01
_POLL_MAX_S: Final = 0.2
_PAUSE_MIN_S: Final = 0.2
_PAUSE_MAX_S: Final = 5.0
_REFUSED_REST_S: Final = 0.2
_SLOW_S: Final = 1.0
_PUT_OFF_MIN_S: Final = 0.5
_PUT_OFF_MAX_S: Final = 60.0


@dataclass(slots=True)
class _Outcome:
    """What became of a claim's events; `kept_back` failed, or stand behind one that did."""

    published: list[Waiting] = field(default_factory=list)
    kept_back: list[Event] = field(default_factory=list)
    cause: BrokerUnavailable | None = None
    is_slow: bool = False


class Relay:
    """Publishes what waits in the outbox, again and again until it is stopped.

    Args:
        outbox: over a connection of its own.
        broker: where events go.
        holder: how it signs its claims.
    """

    def __init__(self, outbox: Outbox, broker: Broker, *, holder: str) -> None:
        self._outbox = outbox
        self._broker = broker
        self._holder = holder
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._nudged = asyncio.Event()
        self._poll_s = _POLL_MIN_S
        self._refusals = 0
        self._looked_after_at = 0.0
        self.is_refused = False
        """Whether the broker took nothing when it was last tried."""
        self.depth = 0
        """Events that waited when last counted."""
        self.lag_s = 0.0
        """Seconds that the oldest of them had waited then."""
        self.counts: Counter[str] = Counter(published=0, failed=0, claims=0, stale=0)

    def start(self) -> None:
        """Begins to publish; a second call changes nothing."""
        if self._task is None:
            self._stopping.clear()
            self._task = asyncio.create_task(self._run(), name="relay")

    async def stop(self) -> None:
        """Gives what is under way a moment; may be called twice, or before `start`."""
        task, self._task = self._task, None
        self._stopping.set()
        self._nudged.set()
        if task is not None:
            await asyncio.wait({task}, timeout=STOP_S)
            # Events that were confirmed and not marked are published again, which is allowed.
            task.cancel()
            await asyncio.wait({task})
        await self._outbox.close()

    def nudge(self) -> None:
        """Something was committed: look now."""
        self._nudged.set()

    async def _run(self) -> None:
        pause_s = _PAUSE_MIN_S
        while not self._stopping.is_set():
            try:
                await self.round()
                await self._look_after()
                pause_s = _PAUSE_MIN_S
            except JitwayError as error:
                _log.warning("relay_waits", cause=str(error))
                await self._rest(pause_s)
                pause_s = min(_PAUSE_MAX_S, 2 * pause_s)
            except Exception:
                # A bug in one round must not silence every later event.
                _log.exception("relay_failed")
                await self._rest(_PAUSE_MAX_S)

    async def round(self) -> int:
        """Claims, publishes and marks once, then rests; how many events were published.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        started_s = time.monotonic()
        self._nudged.clear()
        claim = await self._outbox.claim(BATCH_MAX, self._holder)
        if claim is None:
            self._poll_s = min(_POLL_MAX_S, 1.3 * self._poll_s)
            await self._rest(self._poll_s, until_nudged=True)
            return 0
        self._poll_s = _POLL_MIN_S
        self.counts["claims"] += 1
        outcome = await self._publish(claim, until=started_s + SENDING_S)
        await self._settle(claim, outcome)
        self.is_refused = outcome.cause is not None and not outcome.published
        rest_s = REST_PER_WORK * (time.monotonic() - started_s)
        await self._rest(max(rest_s, _REFUSED_REST_S) if self.is_refused else rest_s)
        return len(outcome.published)

    async def _publish(self, claim: Claim, *, until: float) -> _Outcome:
        """Publishes a claim's events: accounts side by side, each account's in order."""
        rows = _rows(claim)
        messages = [[_message(waiting.event) for waiting in row] for row in rows]
        outcome = _Outcome()
        began_s = time.monotonic()
        published_rows = await self._broker.publish(messages, until=until)
        outcome.is_slow = time.monotonic() - began_s > _SLOW_S
        for row, published in zip(rows, published_rows, strict=True):
            outcome.published += row[: published.count]
            outcome.kept_back += [waiting.event for waiting in row[published.count :]]
            outcome.cause = published.cause or outcome.cause
        return outcome

    async def _settle(self, claim: Claim, outcome: _Outcome) -> None:
        """Marks what was confirmed; what was not is nobody's for a while."""
        marked = await self._outbox.mark_published(claim.token, outcome.published)
        self.counts["published"] += marked
        self.counts["stale"] += len(outcome.published) - marked
        damaged = [event for _, event in claim.unreadable]
        if outcome.cause is None and not damaged:
            self._refusals = 0
            await self._outbox.release(claim.token)
            return
        self.counts["failed"] += len(outcome.kept_back)
        _log.warning("events_kept_back", count=len(outcome.kept_back), cause=str(outcome.cause))
        kept_back = [*outcome.kept_back, *damaged]
        await self._outbox.release(claim.token, kept_back, backoff_s=self._put_off_s(outcome))

    def _put_off_s(self, outcome: _Outcome) -> float:
        """How long events that failed keep out of the way of others.

        A broker that is away says so slowly, and then one pause for all is enough. One that is
        there and refuses says so at once: then others come first, and the longer it goes on the
        more of them, so that a full queue does not keep all the others waiting.
        """
        if outcome.published or outcome.is_slow:
            self._refusals = 0
            return _PUT_OFF_MIN_S
        self._refusals += 1
        put_off_s: float = _PUT_OFF_MIN_S * 2**self._refusals
        return min(_PUT_OFF_MAX_S, put_off_s)

    async def _look_after(self) -> None:
        """Now and then: counts what waits, and empties what was drained."""
        if time.monotonic() < self._looked_after_at + HOUSEKEEPING_S:
            return
        self._looked_after_at = time.monotonic()
        self.depth, self.lag_s = await self._outbox.depth_and_lag()
        slot = await self._outbox.truncate_drained_slots()
        if slot is not None:
            _log.info("outbox_slot_emptied", slot=slot)

    async def _rest(self, pause_s: float, *, until_nudged: bool = False) -> None:
        waited_for = self._nudged if until_nudged else self._stopping
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await waited_for.wait()


def _rows(claim: Claim) -> list[list[Waiting]]:
    """The events in rows: those of one account, and each of no account alone."""
    rows: dict[str, list[Waiting]] = {}
    for waiting in claim.waiting:
        rows.setdefault(waiting.event.account or waiting.event.id, []).append(waiting)
    return list(rows.values())


def _message(event: Event) -> Message:
    return Message(event.type, event.id, encode(event), event.needs_reader)
