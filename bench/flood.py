"""An open-loop generator that asks far more than a gateway can decide; run by `bench.overload`.

Requests go when they are due, whatever became of earlier ones, over plain sockets and `epoll`
(Linux only): that costs a third of what an event loop with callbacks does. One process plays all
stages of a plan in turn, so that what comes after an overload is seen from its first instant.

python -m bench.flood PLAN_FILE: {"url", "key", "cards": [...], "connections", "core",
"deadline_ms", "stages": [{"name", "rate", "seconds", "retries"}]}; a line `STAGE {...}` for each.
"""

import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jitway.profiler.histogram import Histogram
from jitway.simulator.connections import Address

BUFFER = 16_384
# The figures of a stage are also told by so long a piece of it.
WINDOW_S = 0.25
# After a stage, its last answers may take so long.
TAIL_S = 3.0
HEAD = (
    "POST /v1/authorizations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\nIdempotency-Key: "
)
BODY = (
    '{{"card":"{card}","amount":{amount},"currency":"USD","merchant":'
    '{{"id":"m-17","name":"Corner Books","mcc":"5942","country":"US"}}}}'
)


class Wire:
    """One connection and the request under way on it; instants in ns of `perf_counter_ns`."""

    __slots__ = ("attempts", "intended_ns", "request", "sent_ns", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.request = b""
        self.intended_ns = 0
        self.sent_ns = 0
        self.attempts = 0


@dataclass
class Stage:
    """What came of one stage; latencies from the intended send time, of repeats from their own."""

    name: str
    rate: float
    seconds: float
    retries: int = 0
    intended: int = 0
    sent: int = 0
    decided: int = 0
    late: int = 0
    refused: int = 0
    other: int = 0
    broken: int = 0
    slipped_ms: float = 0.0
    accepted: Histogram = field(default_factory=Histogram)
    refusals: Histogram = field(default_factory=Histogram)
    windows: dict[int, Histogram] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers."""
        return {
            "name": self.name,
            "rate": self.rate,
            "seconds": self.seconds,
            "intended": self.intended,
            "sent": self.sent,
            "decided": self.decided,
            "late": self.late,
            "refused": self.refused,
            "other": self.other,
            "broken": self.broken,
            "slipped_ms": self.slipped_ms,
            "goodput": self.decided / self.seconds,
            "accepted_ms": percentiles(self.accepted),
            "refused_ms": percentiles(self.refusals),
            "windows": [
                [number * WINDOW_S, window.percentiles((99,))[0] / 1e6]
                for number, window in sorted(self.windows.items())
            ],
        }


def percentiles(histogram: Histogram) -> dict[str, float]:
    """Some of them in ms."""
    found = histogram.percentiles((50, 95, 99, 100)) if histogram.count else (0, 0, 0, 0)
    return dict(zip(("p50", "p95", "p99", "max"), (ns / 1e6 for ns in found), strict=True))


class Flood:
    """Plays stages against one gateway.

    Args:
        address: of the gateway.
        key: that may authorize.
        cards: to ask about.
        connections: at most so many requests are under way; more wait here, and that counts.
        deadline_ms: a decision that took longer is no good.
    """

    def __init__(
        self, address: Address, key: str, cards: list[str], *, connections: int, deadline_ms: int
    ) -> None:
        self._address = address
        self._deadline_ns = deadline_ms * 1_000_000
        draw = random.Random(len(cards))
        bodies = [BODY.format(card=card, amount=draw.randint(100, 900)) for card in cards]
        head = HEAD.format(host=address.host, key=key, length=len(bodies[0]))
        self._head = f"{head}{random.SystemRandom().randrange(1 << 48):x}-".encode()
        self._tails = [b"\r\n\r\n" + body.encode() for body in bodies]
        draw.shuffle(self._tails)
        self._numbers = 0
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}
        self._free: list[Wire] = []
        for _ in range(connections):
            self._connect()

    def play(self, stage: Stage) -> None:
        """Sends what is due until the time is over, and waits for the last answers."""
        now = time.perf_counter_ns
        began = now()
        ends = began + int(stage.seconds * 1e9)
        gap_ns = 1e9 / stage.rate
        issued = 0
        while (at := now()) < ends:
            due = int((at - began) / gap_ns) + 1
            while issued < due and self._free:
                self._ask(self._free.pop(), began + int(issued * gap_ns), stage)
                issued += 1
            if issued < due:
                # All connections are busy: what is due waits, and its latency has begun.
                stage.slipped_ms = max(stage.slipped_ms, (due - issued) * gap_ns / 1e6)
                wait_s = 0.001
            else:
                wait_s = max((began + issued * gap_ns - now()) / 1e9, 0)
            self._listen(wait_s, stage, began)
        stage.intended = int(stage.seconds * stage.rate)
        last = now() + int(TAIL_S * 1e9)
        while len(self._free) < len(self._wires) and now() < last:
            self._listen(0.01, stage, began)

    def close(self) -> None:
        """Hangs up everywhere."""
        for wire in self._wires.values():
            wire.socket.close()
        self._epoll.close()

    def _ask(self, wire: Wire, intended_ns: int, stage: Stage) -> None:
        self._numbers += 1
        number = self._numbers
        wire.request = b"%b%d%b" % (self._head, number, self._tails[number % len(self._tails)])
        wire.intended_ns = intended_ns
        wire.attempts = 0
        self._send(wire, stage)

    def _send(self, wire: Wire, stage: Stage) -> None:
        stage.sent += 1
        wire.attempts += 1
        try:
            wire.socket.send(wire.request)
        except OSError:
            self._replace(wire, stage)

    def _listen(self, wait_s: float, stage: Stage, began: int) -> None:
        for fd, _ in self._epoll.poll(wait_s):
            wire = self._wires[fd]
            try:
                said = wire.socket.recv(BUFFER)
            except OSError:
                said = b""
            if said and wire.request:
                self._heard(wire, said, stage, began)
            else:
                self._replace(wire, stage)

    def _heard(self, wire: Wire, said: bytes, stage: Stage, began: int) -> None:
        at = time.perf_counter_ns()
        status = said[9:12]
        took = at - wire.intended_ns
        if status == b"503":
            stage.refused += 1
            stage.refusals.record(took)
            if wire.attempts <= stage.retries:
                wire.intended_ns = at
                self._send(wire, stage)
                return
        elif status == b"200":
            if took <= self._deadline_ns:
                stage.decided += 1
            else:
                stage.late += 1
            stage.accepted.record(took)
            number = int((at - began) / 1e9 / WINDOW_S)
            window = stage.windows.get(number)
            if window is None:
                window = stage.windows[number] = Histogram()
            window.record(took)
        else:
            stage.other += 1
        wire.request = b""
        self._free.append(wire)

    def _connect(self) -> None:
        connected = socket.create_connection((self._address.host, self._address.port), timeout=5)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        wire = Wire(connected)
        self._wires[connected.fileno()] = wire
        self._epoll.register(connected.fileno(), select.EPOLLIN)
        self._free.append(wire)

    def _replace(self, wire: Wire, stage: Stage) -> None:
        # One that was idle for long is closed by the gateway as it should.
        stage.broken += bool(wire.request)
        self._epoll.unregister(wire.socket.fileno())
        del self._wires[wire.socket.fileno()]
        wire.socket.close()
        if wire in self._free:
            self._free.remove(wire)
        self._connect()


def main(plan_file: str) -> None:
    """Play a plan, and say after each stage what came of it."""
    plan = json.loads(Path(plan_file).read_text())
    if plan["core"] is not None:
        os.sched_setaffinity(0, {plan["core"]})
    flood = Flood(
        Address.of(plan["url"]),
        plan["key"],
        plan["cards"],
        connections=plan["connections"],
        deadline_ms=plan["deadline_ms"],
    )
    try:
        for stage in stages(plan["stages"]):
            used = time.process_time()
            flood.play(stage)
            told = stage.as_dict() | {
                "generator_cores": (time.process_time() - used) / stage.seconds
            }
            print("STAGE " + json.dumps(told), flush=True)
    finally:
        flood.close()


def stages(described: Iterable[dict[str, Any]]) -> Iterable[Stage]:
    """The stages of a plan."""
    return (Stage(**one) for one in described)


if __name__ == "__main__":
    main(*sys.argv[1:])
