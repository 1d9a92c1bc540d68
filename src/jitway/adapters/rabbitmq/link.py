"""One supervised connection to RabbitMQ: whenever it ends, another is made from scratch.

Owns reconnecting, its pace, and finding out that a connection is dead though nothing said so.
Refuses to publish, to consume and to repeat anything that was under way when a connection ended.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Any, Literal

from jitway.adapters.rabbitmq.failure import Refused
from jitway.adapters.rabbitmq.wire import Wire
from jitway.errors import BrokerUnavailable, JitwayError, SettingsError

logger = logging.getLogger(__name__)

LinkState = Literal["closed", "connecting", "connected", "blocked"]

CONNECT_TIMEOUT_S = 5.0
PROBE_INTERVAL_S = 5.0
PROBE_TIMEOUT_S = 3.0
PAUSE_MIN_S = 0.1
PAUSE_MAX_S = 2.0
PAUSE_AFTER_REFUSAL_S = 3.0


class Link:
    """Keeps one connection open until it is told to stop.

    Args:
        open_wire: makes a connection; gets the seconds it may take.
        prepare: what a fresh connection needs before anybody may use it.
    """

    def __init__(
        self,
        open_wire: Callable[[float], Awaitable[Wire]],
        prepare: Callable[[Wire], Awaitable[None]],
    ) -> None:
        self._open_wire = open_wire
        self._prepare = prepare
        self._wire: Wire | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._suspected = asyncio.Event()
        self._failures = 0
        self._stopped = False
        self.last_error: JitwayError | None = None
        self.connections_made = 0

    def start(self) -> None:
        """Begin to connect; a second call, or one after the end, changes nothing."""
        if self._supervisor is None and not self._stopped:
            _quieten_driver()
            self._supervisor = asyncio.create_task(self._supervise(), name="rabbitmq-link")

    async def wire(self) -> Wire:
        """The open connection; waits for it without limit, so bound it.

        Raises:
            BrokerUnavailable: the link was closed.
        """
        self.start()
        async with self._changed:
            while self._wire is None or self._wire.closed.is_set():
                self._refuse_when_stopped()
                await self._changed.wait()
            return self._wire

    async def first_wire(self, *, timeout_s: float) -> Wire:
        """The open connection, or the reason why there is none.

        Raises:
            BrokerUnavailable: not connected in time, or refused: then it says so at once.
            SettingsError: a certificate file cannot be read.
        """
        self.start()
        failures_before = self._failures
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while self._wire is None:
                    refused = isinstance(self.last_error, Refused | SettingsError)
                    if refused and self._failures > failures_before and self.last_error:
                        raise self.last_error
                    self._refuse_when_stopped()
                    await self._changed.wait()
                return self._wire
        except TimeoutError:
            raise BrokerUnavailable(self.reason()) from None

    async def state(self) -> LinkState:
        """What can be done with it now."""
        if self._supervisor is None or self._stopped:
            return "closed"
        if self._wire is None or self._wire.closed.is_set():
            return "connecting"
        return "blocked" if await self._wire.is_blocked() else "connected"

    async def statistics(self) -> dict[str, Any]:
        """State, reason of the last failure, and how often it was connected."""
        reason = str(self.last_error) if self.last_error is not None else None
        state = await self.state()
        return {"state": state, "reason": reason, "connections_made": self.connections_made}

    def reason(self) -> str:
        """Why there is no connection, as far as it is known."""
        return str(self.last_error) if self.last_error else "RabbitMQ did not answer in time"

    def suspect(self) -> None:
        """Something did not answer: find out now whether the connection still lives."""
        self._suspected.set()

    async def close(self) -> None:
        """Stop, and end the connection; bounded, and harmless when repeated."""
        self._stopped = True
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait({supervisor})
        await self._become(None)

    async def _supervise(self) -> None:
        while True:
            wire = await self._connect()
            if wire is None:
                await asyncio.sleep(self._pause_s())
                continue
            politely = True
            try:
                await self._become(wire)
                politely = False
                await self._until_lost(wire)
            except asyncio.CancelledError:
                politely = True
                raise
            finally:
                self._wire = None
                await wire.close(politely=politely)
            # Everybody who lost this connection comes back at the same moment.
            await asyncio.sleep(_jittered(PAUSE_MIN_S))

    async def _connect(self) -> Wire | None:
        """A connection ready for use, or None; then `last_error` says why."""
        wire: Wire | None = None
        try:
            wire = await self._open_wire(CONNECT_TIMEOUT_S)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._prepare(wire)
        except TimeoutError:
            await self._note_failure(BrokerUnavailable("RabbitMQ did not answer in time"))
        except JitwayError as error:
            await self._note_failure(error)
        except BaseException:
            if wire is not None:
                await wire.close(politely=False)
            raise
        else:
            self._failures = 0
            self.connections_made += 1
            return wire
        if wire is not None:
            await wire.close(politely=False)
        return None

    async def _until_lost(self, wire: Wire) -> None:
        """Return when the connection ended, or when it has stopped to answer."""
        while True:
            self._suspected.clear()
            if await self._ended_or_suspected(wire):
                self.last_error = BrokerUnavailable("the connection to RabbitMQ was lost")
                logger.warning("the connection to RabbitMQ was lost; another is being made")
                return
            try:
                # A blocked connection is not read by the broker, but its heartbeats go on.
                if not await wire.is_blocked():
                    await wire.probe(timeout_s=PROBE_TIMEOUT_S)
            except BrokerUnavailable as error:
                self.last_error = error
                logger.warning("%s; the connection is given up and made again", error)
                return

    async def _ended_or_suspected(self, wire: Wire) -> bool:
        """Wait until the connection ends (true), is suspected, or is due for a probe (false)."""
        waits = {
            asyncio.ensure_future(wire.closed.wait()),
            asyncio.ensure_future(self._suspected.wait()),
        }
        try:
            await asyncio.wait(waits, timeout=PROBE_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return wire.closed.is_set()

    async def _note_failure(self, error: JitwayError) -> None:
        if self._failures == 0 or str(error) != str(self.last_error):
            logger.warning("RabbitMQ: %s", error)
        self._failures += 1
        self.last_error = error
        await self._become(None)

    async def _become(self, wire: Wire | None) -> None:
        async with self._changed:
            self._wire = wire
            if wire is not None:
                self.last_error = None
            self._changed.notify_all()

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise BrokerUnavailable("the connection to RabbitMQ was closed: call connect() again")

    def _pause_s(self) -> float:
        if isinstance(self.last_error, Refused | SettingsError):
            return _jittered(PAUSE_AFTER_REFUSAL_S)
        grown_s: float = PAUSE_MIN_S * 2 ** min(self._failures, 10)
        return _jittered(min(PAUSE_MAX_S, grown_s))


def _jittered(pause_s: float) -> float:
    return pause_s * uniform(0.5, 1)  # noqa: S311 - spreads load only


def _quieten_driver() -> None:
    """Leave it to us to report a lost connection: the driver logs a traceback for each."""
    chatter = logging.getLogger("aiormq")
    if chatter.level == logging.NOTSET:
        chatter.setLevel(logging.CRITICAL)
