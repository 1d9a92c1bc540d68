"""`gathering.py`: what only a store can say, asked in the background while somebody looks.

Each question has a limit of its own, and what is not answered is unknown: a store that hangs costs
the page that figure and nothing else. Nothing is asked while nobody looks.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from jitway.adapters.postgresql import DedicatedConnection
from jitway.compose import Services
from jitway.errors import JitwayError
from jitway.events.outbox import DEPTH_MAX
from jitway.gateway.caller import Caller
from jitway.gateway.read import AuthorizationsAsked, list_authorizations
from jitway.sql import statements
from jitway.web.dashboard.whole import Whole

_log = structlog.get_logger("jitway.dashboard")

_SQL = statements("watching")
_EVENTS = statements("events")

TIMEOUT_S = 1.5
STATEMENT_MS = 1_000
DECISIONS = 25
HOLDS_MAX = 50_000
AGES_S = {"hour": 3_600, "day": 86_400, "three_days": 3 * 86_400, "week": 7 * 86_400}
_TICK_S = 0.25
_OPERATOR = Caller("dashboard", None, frozenset({"read"}))


@dataclass(slots=True)
class Question:
    """One figure: how it is asked for, how often, and what was answered last."""

    ask: Callable[[], Coroutine[Any, Any, Any]]
    every_s: float
    due_at: float = 0.0
    answer: Any = None


class Gathering:
    """Asks the stores while somebody looks.

    Args:
        services: what runs.
        whole: what all workers counted; None when there is one.
    """

    def __init__(self, services: Services, whole: Whole | None = None) -> None:
        self._services = services
        self._connection: DedicatedConnection | None = None
        self._questions = {
            "pool": Question(services.postgres.get_pool_stats, 1.0),
            "outbox": Question(self._outbox, 1.0),
            "decisions": Question(self._decisions, 1.0),
            "queues": Question(self._queues, 2.0),
            "holds": Question(self._holds, 15.0),
        }
        if whole is not None:
            self._questions["whole"] = Question(whole.ask, 1.0)
            self._questions["slowest"] = Question(whole.slowest, 15.0)
        self._task: asyncio.Task[None] | None = None
        self._is_watched = False

    def known(self) -> dict[str, Any]:
        """What was answered last; None is unknown. Begins to ask, if nobody looked before."""
        self._is_watched = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="dashboard-gathering")
        return {name: question.answer for name, question in self._questions.items()}

    def rest(self) -> None:
        """Nobody looks any more: what is being asked is the last."""
        self._is_watched = False

    async def stop(self) -> None:
        """Ends it; may be called twice, or before anything was asked."""
        self.rest()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        try:
            while self._is_watched:
                for question in self._questions.values():
                    await self._turn(question)
                await asyncio.sleep(_TICK_S)
        finally:
            self._hang_up()
            for question in self._questions.values():
                question.due_at, question.answer = 0.0, None

    async def _turn(self, question: Question) -> None:
        began = time.monotonic()
        if began < question.due_at or not self._is_watched:
            return
        question.answer = await self._answer(question)
        # What takes long is asked less often.
        question.due_at = began + max(question.every_s, 20 * (time.monotonic() - began))

    async def _answer(self, question: Question) -> Any:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await question.ask()
        except (JitwayError, TimeoutError):
            # An answer may still be on its way: this connection cannot be asked again.
            self._hang_up()
            return None
        except Exception:
            _log.exception("figure_failed", question=question.ask.__name__)
            self._hang_up()
            return None

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._connection = await self._services.postgres.dedicated(
                lock_timeout_ms=STATEMENT_MS,
                statement_timeout_ms=STATEMENT_MS,
                idle_in_transaction_timeout_ms=STATEMENT_MS,
            )
        return await connection.fetch(sql, *parameters)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(JitwayError):
                connection.terminate()

    async def _outbox(self) -> dict[str, Any]:
        row = (await self._fetch(_EVENTS["depth_and_lag"], DEPTH_MAX))[0]
        return {"depth": row["depth"], "lag_s": round(max(0.0, row["lag_s"]), 3)}

    async def _decisions(self) -> list[dict[str, Any]]:
        asked = AuthorizationsAsked(limit=DECISIONS)
        listed = await list_authorizations(self._services.postgres, _OPERATOR, asked)
        data: list[dict[str, Any]] = listed["data"]
        return data

    async def _queues(self) -> list[dict[str, Any]]:
        message_queue = self._services.manager.message_queue
        if message_queue is None:
            return [dict(row) for row in await self._fetch(_SQL["queues"])]
        told = []
        for row in await self._fetch(_SQL["subscribed"]):
            name = row["queue"]
            waiting = await message_queue.get_queue_stats(name, timeout_s=TIMEOUT_S)
            dead = await message_queue.get_queue_stats(f"{name}.dead", timeout_s=TIMEOUT_S)
            told.append(
                {
                    "queue": name,
                    "depth": waiting["message_count"],
                    "consumers": waiting["consumer_count"],
                    "dead": dead["message_count"],
                }
            )
        return told

    async def _holds(self) -> dict[str, Any]:
        now_s = self._services.clock.now().timestamp()
        bounds = [_first_id(now_s - age_s) for age_s in AGES_S.values()]
        row = dict((await self._fetch(_SQL["open_holds"], HOLDS_MAX + 1, *bounds))[0])
        return row | {"is_all": row["counted"] <= HOLDS_MAX}


def _first_id(instant_s: float) -> str:
    """The least id that could have been made at an instant: milliseconds come first in it."""
    return f"{max(0, int(instant_s * 1000)):012x}" + "0" * 20
