"""`supervisor.py`: so many workers behind one socket: started, watched, replaced and ended.

Owns their processes. Serves nobody itself and opens no store. Workers share the one listening
socket, so what waits to be accepted is nobody's own: when a worker dies, another takes it.

    launched -> Serving -> (Stop | death) -> replaced after a pause, unless all are to end
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from jitway.errors import WorkerFailed
from jitway.supervisor.counts import Counts
from jitway.supervisor.line import Line
from jitway.supervisor.messages import (
    AnyMessage,
    Ask,
    Brief,
    Collected,
    Failed,
    Pulse,
    Roll,
    Serving,
    Stop,
    Told,
)
from jitway.supervisor.rounds import Rounds
from jitway.supervisor.shares import Shares

_log = structlog.get_logger("jitway.supervisor")

START_TICKS = 120
# Workers give a sign of life each second. One that gives none is missing, and then beyond help.
TICK_S = 1.0
MISSING_TICKS = 3
HUNG_TICKS = 30
PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 5.0
# One that served for so long has not failed to start.
STEADY_S = 10.0
FAILURES_MAX = 8
END_S = 5.0
ASKS_MAX = 256


@dataclass(slots=True, eq=False)
class Worker:
    """One worker's process.

    Args:
        number: its place, from 1.
        process: of the operating system.
        line: to it.
        serving_at: since when it serves, on a monotonic clock.
        silent_ticks: how long nothing was heard of it.
        failed: why it cannot start, in its own words.
    """

    number: int
    process: asyncio.subprocess.Process
    line: Line
    serving_at: float | None = None
    silent_ticks: int = 0
    failed: Failed | None = None

    @property
    def is_missing(self) -> bool:
        """Whether it serves and has not been heard of for a while."""
        return self.serving_at is not None and self.silent_ticks >= MISSING_TICKS

    @property
    def served_s(self) -> float:
        """How long it has served."""
        return 0.0 if self.serving_at is None else time.monotonic() - self.serving_at

    def kill(self) -> None:
        """SIGKILL; may be called when it is gone."""
        with suppress(ProcessLookupError):
            self.process.kill()


class Supervisor:
    """Keeps so many workers serving until it is told to stop.

    Args:
        command: starts a worker; added are the numbers of its sockets, to us and to the callers,
            and of the memory with everybody's shares.
        brief: what the worker of a number is started with.
        listener: bound; `stop` closes it.
        workers: how many.
    """

    def __init__(
        self,
        command: Sequence[str],
        brief: Callable[[int], bytes],
        listener: socket.socket,
        *,
        workers: int,
    ) -> None:
        self._command = command
        self._brief = brief
        self._listener = listener
        self._wanted = workers
        self._workers: dict[int, Worker] = {}
        self._shares = Shares.make(workers)
        self._counts = Counts()
        self._rounds = Rounds(
            self._counts,
            lines=self._lines_of_serving,
            roll=self._rolled,
            restarts=lambda: self._restarts,
        )
        self._roll = Roll()
        self._restarts = 0
        self._has_started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended_badly = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._asks: set[asyncio.Task[None]] = set()
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it cannot go on, once workers cannot be kept."""

    async def start(self) -> None:
        """Starts the workers, and waits until all of them serve.

        Raises:
            WorkerFailed: one cannot; with its sentence.
        """
        self._tasks = {
            asyncio.create_task(self._keep(number), name=f"worker-{number}")
            for number in range(1, self._wanted + 1)
        }
        self._tasks.add(asyncio.create_task(self._watch(), name="watch-workers"))
        started = asyncio.ensure_future(self._has_started.wait())
        ends: set[asyncio.Future[Any]] = {started, self.broken}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        if self.broken.done():
            raise WorkerFailed(self.broken.result())

    async def stop(self, *, timeout_s: float) -> bool:
        """Ends all workers: each answers what is under way; may be called before `start`.

        Args:
            timeout_s: how long that may take; then they are killed.

        Returns:
            Whether all of them ended in order.
        """
        self._stopping.set()
        # Only who accepts may hold the socket now: the last one to leave closes the door.
        self._listener.close()
        for worker in self._workers.values():
            worker.line.send(Stop())
        keepers = {task for task in self._tasks if task.get_name() != "watch-workers"}
        if keepers:
            _, late = await asyncio.wait(keepers, timeout=timeout_s)
            if late:
                _log.error("workers_do_not_end", workers=sorted(self._workers))
                self._ended_badly = True
                self.kill()
                await asyncio.wait(keepers, timeout=END_S)
        for task in self._tasks | self._asks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._asks, return_exceptions=True)
        self._tasks = set()
        self._shares.close()
        return not self._ended_badly

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in list(self._workers.values()):
            worker.kill()

    # One place, one worker after the other

    async def _keep(self, number: int) -> None:
        failures = tries = 0
        while not self._stopping.is_set():
            try:
                worker = await self._live(number)
            except WorkerFailed as error:
                self._break(str(error))
                return
            if self._stopping.is_set():
                self._ended_badly |= worker.process.returncode != 0
                return
            why = _why(worker)
            if not self._has_started.is_set():
                self._break(why)
                return
            _log.error("worker_ended", worker=number, pid=worker.process.pid, cause=why)
            if worker.served_s >= STEADY_S:
                failures = tries = 0
            tries += 1
            # While a store is away nothing is gained by giving up the workers that still are.
            failures += not (worker.failed is not None and worker.failed.may_pass)
            if failures >= FAILURES_MAX:
                self._break(
                    f"worker {number} ended {failures} times in a row, the last time: {why}"
                )
                return
            await self._pause(min(PAUSE_S_MIN * 2 ** (tries - 1), PAUSE_S_MAX))
            self._restarts += 1

    async def _live(self, number: int) -> Worker:
        """One worker from its start to its end."""
        worker = await self._launch(number)
        try:
            if self._stopping.is_set():
                worker.line.send(Stop())
            await self._hear(worker)
            async with asyncio.timeout(END_S):
                await worker.process.wait()
        except TimeoutError:
            _log.error("worker_does_not_end", worker=number, pid=worker.process.pid)
        except ValueError as error:
            _log.error("worker_not_understood", worker=number, cause=str(error))
        finally:
            worker.line.close()
            worker.kill()
            await worker.process.wait()
            del self._workers[number]
            self._rounds.end(number)
            self._counts.end(number)
            self._call_roll()
        return worker

    async def _launch(self, number: int) -> Worker:
        ours, theirs = socket.socketpair()
        handed = (theirs.fileno(), self._listener.fileno(), self._shares.descriptor)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *map(str, handed),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=handed,
                # What a terminal's keys say to us, we say to them.
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise WorkerFailed(f"a worker cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        worker = Worker(number, process, await Line.over(ours))
        self._workers[number] = worker
        worker.line.send(Brief(number, self._wanted, self._brief(number)))
        self._call_roll()
        return worker

    def _break(self, sentence: str) -> None:
        if not self.broken.done():
            self.broken.set_result(sentence)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # What workers say

    async def _hear(self, worker: Worker) -> None:
        """Until it says nothing more.

        Raises:
            ValueError: it said what is no message.
        """
        while (message := await worker.line.receive()) is not None:
            was_missing = worker.is_missing
            worker.silent_ticks = 0
            self._take(worker, message)
            if was_missing:
                self._call_roll()

    def _take(self, worker: Worker, message: AnyMessage) -> None:
        match message:
            case Pulse(families=families, profile=profile):
                self._counts.learn(worker.number, families, profile)
            case Collected():
                self._rounds.collected(worker.number, message)
            case Ask():
                self._answer(worker, message)
            case Serving():
                worker.serving_at = time.monotonic()
                _log.info("worker_serves", worker=worker.number, pid=worker.process.pid)
                self._call_roll()
            case Failed():
                worker.failed = message
            case _:
                raise ValueError(f"a worker does not say {type(message).__name__}")

    def _answer(self, worker: Worker, ask: Ask) -> None:
        if len(self._asks) >= ASKS_MAX:
            worker.line.send(Told(ask.number, None))
            return

        async def answer() -> None:
            document = await self._rounds.document(ask.what, ask.families)
            worker.line.send(Told(ask.number, document))

        task = asyncio.create_task(answer())
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    # How they are

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for worker in list(self._workers.values()):
                # Ticks of ours are counted: when the whole machine stood still, so did we.
                worker.silent_ticks += 1
                limit = START_TICKS if worker.serving_at is None else HUNG_TICKS
                if worker.silent_ticks >= limit and not self._stopping.is_set():
                    _log.error("worker_hangs", worker=worker.number, pid=worker.process.pid)
                    worker.kill()
            self._call_roll()

    def _lines_of_serving(self) -> dict[int, Line]:
        """Who can be expected to answer."""
        return {
            number: one.line
            for number, one in self._workers.items()
            if one.serving_at is not None and not one.is_missing
        }

    def _rolled(self, answering: set[int]) -> Roll:
        serving = [one for one in self._workers.values() if one.serving_at is not None]
        missing = sum(one.number not in answering for one in serving)
        return Roll(len(serving) - missing, self._wanted - len(serving), missing)

    def _call_roll(self) -> None:
        """Tells everybody how many they are, if that is news."""
        here = {one.number for one in self._workers.values() if not one.is_missing}
        for number in range(1, self._wanted + 1):
            if number not in here:
                self._shares.cross_out(number)
        roll = self._rolled(here)
        if roll.serving == self._wanted:
            self._has_started.set()
        if roll == self._roll:
            return
        self._roll = roll
        for worker in self._workers.values():
            worker.line.send(roll)


def _why(worker: Worker) -> str:
    """Why a worker has ended."""
    if worker.failed is not None:
        return worker.failed.sentence
    code = worker.process.returncode or 0
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with {code}"
