"""`nemesis.py`: strikes with SIGKILL, brings the gateway back, and measures how long all is silent.

    gateway      its process
    postmaster   the server alone; its backends notice, or do not
    postgresql   the server with all its processes, as an out-of-memory killer would
    backend      one that serves a client: the server restarts all of itself
    both         gateway and PostgreSQL at once

Only the gateway is brought back from outside, as a supervisor would; PostgreSQL is its own affair.
"""

import asyncio
import random
import signal
from collections import Counter, defaultdict
from contextlib import suppress
from enum import StrEnum

from chaos.actions import Actions
from chaos.gateway import Gateway, GatewayFailed
from chaos.history import now_ns
from chaos.load import Load
from chaos.server import Server, send
from chaos.violation import Violation

CALM_S = (0.05, 0.5)
HASTE_S = (0.0, 0.8)
HASTY = 0.2
SILENT_S_MAX = 60.0
POLL_S = 0.01
WATCH_S = 0.2
LOOKS = 5
STOP_S_MAX = 10.0
AGAIN_S = 0.2
FAILURES_MAX = 5


class Target(StrEnum):
    """Whom a strike hits."""

    GATEWAY = "gateway"
    POSTMASTER = "postmaster"
    POSTGRESQL = "postgresql"
    BACKEND = "backend"
    BOTH = "both"


class Nemesis:
    """Strikes one gateway and its server.

    Args:
        gateway: not started yet.
        server: of its data directory.
        actions: where every action is noted.
        dice: of targets and times.
    """

    def __init__(
        self, gateway: Gateway, server: Server, actions: Actions, dice: random.Random
    ) -> None:
        self.violations: list[Violation] = []
        self.strikes: Counter[Target] = Counter()
        self.silent_ms: dict[Target, list[float]] = defaultdict(list)
        """From a strike to the end of the silence, by target; without strikes in haste."""
        self.start_s: list[float] = []
        self.stop_s: list[float] = []
        self._gateway = gateway
        self._server = server
        self._actions = actions
        self._dice = dice
        self._expected_ends: set[int] = set()
        self._stopping = False
        self._serving = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Starts the gateway, and keeps it there until the end.

        Raises:
            GatewayFailed: it does not start.
        """
        self._stopping = False
        self._serving.clear()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._supervise()), loop.create_task(self._watch())]
        async with asyncio.timeout(SILENT_S_MAX):
            await self._serving.wait()

    async def end(self) -> None:
        """Ends the gateway in order, which must leave nothing behind."""
        self._stopping = True
        pid = self._gateway.pid
        self._expected_ends.add(pid)
        try:
            code, seconds = await self._gateway.terminate()
        except GatewayFailed as error:
            self._broken("stops_in_order", str(error))
        else:
            self._actions.note("gateway_ended", pid=pid, code=code, seconds=round(seconds, 3))
            self.stop_s.append(seconds)
            if code != 0 or seconds > STOP_S_MAX:
                self._broken("stops_in_order", f"exit code {code} after {seconds:.1f} s")
        for task in self._tasks:
            task.cancel()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end
        for left in self._server.left_behind():
            self._broken("nothing_is_left_behind", left)

    async def strike(self, load: Load) -> int:
        """Strikes under load once, or a second time in haste, and waits for the first answer.

        Returns:
            How many strikes it were.

        Raises:
            GatewayFailed: nothing is answered any more.
        """
        await asyncio.sleep(self._dice.uniform(*CALM_S))
        target = self._dice.choice(list(Target))
        if self._dice.random() >= HASTY:
            self.silent_ms[target].append(await self.hit_and_wait(target, load))
            return 1
        await self._hit(target, load)
        await asyncio.sleep(self._dice.uniform(*HASTE_S))
        await self.hit_and_wait(self._dice.choice(list(Target)), load)
        return 2

    async def hit_and_wait(self, target: Target, load: Load) -> float:
        """Strikes once, and waits for the first answer; returns milliseconds of silence.

        Raises:
            GatewayFailed: nothing is answered any more.
        """
        silent_ms = await self._silence(await self._hit(target, load), load)
        if silent_ms is None:
            self._broken("recovers_by_itself", f"silent {SILENT_S_MAX:.0f} s after {target}")
            raise GatewayFailed("it does not recover, so there is nothing more to strike")
        await self._one_postmaster()
        return silent_ms

    async def _hit(self, target: Target, load: Load) -> int:
        """Sends SIGKILL; the instant after it."""
        pids: list[int] = []
        if target in (Target.GATEWAY, Target.BOTH) and self._gateway.is_running:
            pids.append(self._gateway.pid)
            self._expected_ends.add(self._gateway.pid)
        if target is Target.POSTMASTER:
            pids += [one.pid for one in self._server.postmasters()]
        elif target in (Target.POSTGRESQL, Target.BOTH):
            pids += [one.pid for one in self._server.processes()]
        elif target is Target.BACKEND:
            backends = self._server.backends()
            pids += [self._dice.choice(backends).pid] if backends else []
        hit = [pid for pid in pids if send(pid, signal.SIGKILL)]
        self.strikes[target] += 1
        self._actions.note("kill", target=target, pids=hit, in_flight=load.in_flight)
        with suppress(TimeoutError):
            await self._server.gone(hit)
        return now_ns()

    async def _silence(self, struck_ns: int, load: Load) -> float | None:
        """Milliseconds until something that was asked after the strike had been answered."""
        limit_ns = struck_ns + SILENT_S_MAX * 1e9
        while load.answered_asked_ns <= struck_ns:
            if now_ns() > limit_ns:
                self._actions.note("silent")
                return None
            await asyncio.sleep(POLL_S)
        silent_ms = (now_ns() - struck_ns) / 1e6
        self._actions.note("answers_again", silent_ms=round(silent_ms))
        return silent_ms

    async def _one_postmaster(self) -> None:
        """There is exactly one; processes come and go while we look, so we look again."""
        found = self._server.postmasters()
        for _ in range(LOOKS):
            if len(found) == 1:
                return
            await asyncio.sleep(WATCH_S)
            found = self._server.postmasters()
        self._broken("one_postmaster", f"{[f'{one.pid} {one.title}' for one in found]}")

    async def _supervise(self) -> None:
        failures = 0
        while not self._stopping and failures < FAILURES_MAX:
            strikes = self.strikes.total()
            try:
                seconds = await self._gateway.start()
            except GatewayFailed as error:
                self._actions.note("gateway_gave_up", cause=str(error))
                if self.strikes.total() == strikes:
                    failures += 1
                    self._broken("starts_by_itself", str(error))
                await self._gateway.kill()
                await asyncio.sleep(AGAIN_S)
                continue
            self.start_s.append(seconds)
            self._actions.note("gateway_serves", pid=self._gateway.pid, seconds=round(seconds, 3))
            self._serving.set()
            pid = self._gateway.pid
            code = await self._gateway.runs_out()
            if pid not in self._expected_ends:
                self._broken("serves_on", f"the gateway ended by itself with {code}")

    async def _watch(self) -> None:
        """Two servers on one data directory would ruin it, however short they meet."""
        seen: set[int] = set()
        while True:
            found = {one.pid for one in self._server.postmasters()}
            both = found & seen
            if len(both) > 1:
                self._broken("one_postmaster", f"processes {sorted(both)} at once")
            seen = found
            await asyncio.sleep(WATCH_S)

    def _broken(self, invariant: str, detail: str) -> None:
        self._actions.note("violation", invariant=invariant, detail=detail)
        self.violations.append(Violation(invariant, "process", detail))
