"""`local_consumption.py`: one consumer of one local queue, from handing out to the end.

Owns the life of a delivery in the table: it is handed out for ten seconds, which are prolonged as
long as its handler runs; then it is finished, retried, buried or given back. Whatever a frozen
consumer says too late finds another token and changes nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from jitway.adapters.postgresql import PostgreSQLAdapter
from jitway.domain.instant import instant_text
from jitway.errors import JitwayError, MalformedMessage, Postpone, StoreUnavailable
from jitway.events.broker import STOP_GRACE_S, Delivery, OnDelivery, Queue, cause_of
from jitway.sql import statements

_SQL = statements("events")
_log = structlog.get_logger("jitway.events")

LEASE_S: Final = 10.0
# Handed out so often without an end, a message is what its consumers die of.
HANDED_OUT_MAX: Final = 20
HISTORY_MAX: Final = 10
_RENEW_S: Final = 3.0
_POLL_MIN_S: Final = 0.02
_POLL_MAX_S: Final = 0.25
_PAUSE_MIN_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_SETTLE_S: Final = 1.5


@dataclass(slots=True, eq=False)
class _Held:
    """A delivery that was handed out to us; `failure` is set when its handler has ended."""

    position: int
    token: int
    handed_out: int
    history: str
    delivery: Delivery
    failure: BaseException | None = None


class LocalConsumption:
    """Hands the messages of one queue to one handler, until it is stopped.

    Args:
        postgres: where the queue is.
        queue: what is consumed.
        on_delivery: up to `prefetch` of it run at a time.
        prefetch: messages held at a time.
        handler_timeout_s: a handler that takes longer has failed.
    """

    def __init__(
        self,
        postgres: PostgreSQLAdapter,
        queue: Queue,
        on_delivery: OnDelivery,
        *,
        prefetch: int,
        handler_timeout_s: float,
    ) -> None:
        self.queue = queue
        self._postgres = postgres
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._handler_timeout_s = handler_timeout_s
        self._held: set[_Held] = set()
        self._ended: list[_Held] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self._poll_s = _POLL_MIN_S
        self._pause_s = 0.0
        self.counts: Counter[str] = Counter(handled=0, retried=0, buried=0, postponed=0)

    def start(self) -> None:
        """Begins to consume; a second call changes nothing."""
        if not self._loops:
            self._loops = [
                asyncio.create_task(self._repeat(self._hand_out_some, while_stopping=False)),
                asyncio.create_task(self._repeat(self._settle_next, while_stopping=True)),
                asyncio.create_task(self._repeat(self._renew, while_stopping=True)),
            ]

    def nudge(self) -> None:
        """Something may be due: look now."""
        self._wake.set()

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Takes no more, lets what has begun finish, and gives the rest back.

        Args:
            grace_s: how many seconds the running handlers get before they are cancelled.
        """
        self._stopping.set()
        self._wake.set()
        if not self._loops:
            return
        hand_out, settle, renew = self._loops
        self._loops = []
        # It ends by itself, so that it knows what it was handed out last.
        await asyncio.wait({hand_out}, timeout=1)
        await _end(hand_out)
        if self._handlers:
            await asyncio.wait(set(self._handlers), timeout=grace_s)
        for handler in self._handlers:
            handler.cancel()
        if self._handlers:
            await asyncio.wait(set(self._handlers), timeout=1)
        await _end(settle)
        await _end(renew)
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self._settle_some()
                await self._give_back(list(self._held))
        except (StoreUnavailable, TimeoutError) as error:
            _log.warning("deliveries_left_to_their_lease", queue=self.queue.name, cause=str(error))

    async def _repeat(self, step: Callable[[], Awaitable[None]], *, while_stopping: bool) -> None:
        """A step again and again; PostgreSQL may be away for as long as it likes."""
        pause_s = _PAUSE_MIN_S
        while while_stopping or not self._stopping.is_set():
            try:
                await step()
                pause_s = _PAUSE_MIN_S
            except JitwayError as error:
                _log.warning("local_delivery_waits", queue=self.queue.name, cause=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(_PAUSE_MAX_S, 2 * pause_s)

    # Handing out

    async def _hand_out_some(self) -> None:
        """Takes what is due as long as there is room for it; else waits for either."""
        self._wake.clear()
        if self._pause_s:
            # While a dependency is away, one at a time tries.
            await _until(self._stopping, within_s=self._pause_s)
            room = 0 if self._held else 1
        else:
            room = self._prefetch - len(self._held)
        rows = await self._take(room) if room and not self._stopping.is_set() else []
        for row in rows:
            self._begin(row)
        if rows and len(rows) == room and not self._pause_s:
            return
        self._poll_s = _POLL_MIN_S if rows else min(_POLL_MAX_S, self._poll_s * 1.5)
        await _until(self._wake, within_s=self._poll_s)

    async def _take(self, room: int) -> list[dict[str, Any]]:
        values = [self.queue.name, room, timedelta(seconds=LEASE_S)]
        return await self._postgres.execute_query(_SQL["hand_out"], values)

    def _begin(self, row: dict[str, Any]) -> None:
        delivery = Delivery(
            self.queue.name,
            row["routing_key"],
            row["id"],
            row["body"],
            row["attempts"],
            row["replays"],
        )
        held = _Held(row["position"], row["token"], row["handed_out"], row["history"], delivery)
        self._held.add(held)
        handler = asyncio.create_task(self._handle(held))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _handle(self, held: _Held) -> None:
        limit = asyncio.timeout(self._handler_timeout_s)
        try:
            if held.handed_out > HANDED_OUT_MAX:
                raise MalformedMessage("its consumers died or were lost too often while holding it")
            async with limit:
                await self._on_delivery(held.delivery)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # Ours to stop: it is given back.
                raise
            held.failure = RuntimeError("something the handler waited for was cancelled")
        except TimeoutError as error:
            held.failure = error
            if limit.expired():
                text = f"the handler took more than {self._handler_timeout_s:g} s"
                held.failure = TimeoutError(text)
        except Exception as error:
            held.failure = error
        self._learn(held.failure)
        self._ended.append(held)
        self._has_ended.set()

    def _learn(self, failure: BaseException | None) -> None:
        """Pauses the queue when a dependency is away, longer after each try, until one works."""
        if not isinstance(failure, Postpone):
            self._pause_s = 0.0
        elif self._pause_s == 0.0:
            self._pause_s = _PAUSE_MIN_S
        elif len(self._held) == 1:
            self._pause_s = min(_PAUSE_MAX_S, 2 * self._pause_s)

    # Settling

    async def _settle_next(self) -> None:
        await self._has_ended.wait()
        await self._settle_some()

    async def _settle_some(self) -> None:
        """Writes down how deliveries ended; many at once, those of one kind in one statement."""
        self._has_ended.clear()
        ended = self._ended[:]
        good = [held for held in ended if held.failure is None]
        put_off = [held for held in ended if isinstance(held.failure, Postpone)]
        await self._settled(good, self._write("finish_deliveries", good), "handled")
        await self._settled(put_off, self._write("give_back_deliveries", put_off), "postponed")
        for held in ended:
            if held.failure is not None and not isinstance(held.failure, Postpone):
                await self._settle_failure(held, held.failure)

    async def _settled(self, some: list[_Held], work: Awaitable[None], outcome: str) -> None:
        try:
            await work
        except BaseException:
            self._has_ended.set()
            raise
        self.counts[outcome] += len(some)
        for held in some:
            self._ended.remove(held)
            self._held.discard(held)
        if some:
            self._wake.set()

    async def _settle_failure(self, held: _Held, failure: BaseException) -> None:
        delays_ms = self.queue.retry_delays_ms
        attempts, cause = held.delivery.attempts, cause_of(failure)
        now = datetime.now(UTC)
        history = _longer(held.history, attempts + 1, now, cause)
        buried = isinstance(failure, MalformedMessage) or attempts >= len(delays_ms)
        values: list[object] = [held.position, held.token]
        if buried:
            values += [cause, attempts + 1, history, now]
        else:
            delay = timedelta(milliseconds=delays_ms[attempts])
            values += [delay, attempts + 1, history, now]
        name = "bury_delivery" if buried else "retry_delivery"
        outcome = "buried" if buried else "retried"
        await self._settled([held], self._ask(name, values), outcome)
        _log.warning(
            "delivery_failed",
            queue=self.queue.name,
            message=held.delivery.id,
            outcome=outcome,
            cause=cause,
        )

    async def _write(self, statement: str, some: list[_Held]) -> None:
        if some:
            positions, tokens = [one.position for one in some], [one.token for one in some]
            await self._ask(statement, [positions, tokens])

    async def _give_back(self, some: list[_Held]) -> None:
        await self._write("give_back_deliveries", some)
        self._held.difference_update(some)

    async def _renew(self) -> None:
        await asyncio.sleep(_RENEW_S)
        held = list(self._held)
        if held:
            positions, tokens = [one.position for one in held], [one.token for one in held]
            values = [timedelta(seconds=LEASE_S), positions, tokens]
            await self._ask("keep_handed_out", values)

    async def _ask(self, statement: str, values: list[object]) -> None:
        await self._postgres.execute_query(_SQL[statement], values)


def _longer(history: str, attempt: int, at: datetime, cause: str) -> str:
    """A history with one failure more; the oldest are forgotten."""
    entries = msgspec.json.decode(history)
    entries.append({"attempt": attempt, "at": instant_text(at), "cause": cause})
    return msgspec.json.encode(entries[-HISTORY_MAX:]).decode()


async def _until(event: asyncio.Event, *, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
