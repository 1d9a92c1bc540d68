"""One plan being played: sends what it says when it says so, and judges every answer.

Owns what is expected of an answer and what is an error. Repeats nothing after a failure.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from jitway.simulator.connections import Answer, Connections, Exchange
from jitway.simulator.merchants import AMOUNT_MAX_MINOR
from jitway.simulator.pacer import Pacer
from jitway.simulator.plan import Kind, Plan, Send
from jitway.simulator.report import Report
from jitway.simulator.requests import Writer

LEAD_S = 0.05
ANSWERED_MAX = 512
OPEN_MAX = 10_000
PROGRESS_INTERVAL_S = 0.25
CAPTURE_SHARE = 0.75

Progress = Callable[[int, int], None]


class _Decided(msgspec.Struct):
    id: str
    decision: str
    reason: str | None = None
    approved_amount: int = 0


class _Problem(msgspec.Struct):
    code: str = ""


class _Answered(msgspec.Struct, frozen=True):
    """An authorization with its answer, to repeat later."""

    key: str
    send: Send
    request: bytes
    body: bytes


class _Open(msgspec.Struct, frozen=True):
    """A hold, and what may still be captured or reversed of it."""

    authorization: str
    remaining_minor: int


class Run:
    """One plan being played; made on a running event loop, played once.

    Args:
        plan: what to send.
        connections: through which.
        write: makes the requests.
        warmup_s: how much of the beginning not to time.
    """

    def __init__(
        self, plan: Plan, connections: Connections, write: Writer, *, warmup_s: float
    ) -> None:
        self.report = Report(plan.authorizations)
        self.report.not_possible = tuple(plan.population.not_possible)
        self._plan = plan
        self._planned = len(plan)
        self._connections = connections
        self._write = write
        self._warm_ns = int(warmup_s * 1e9)
        self._began_ns = 0
        self._next = 0
        self._all_sent = asyncio.Event()
        self._pacer = Pacer(self._send_due)
        self._answered: deque[_Answered] = deque(maxlen=ANSWERED_MAX)
        self._open: deque[_Open] = deque(maxlen=OPEN_MAX)
        self._decision = msgspec.json.Decoder(_Decided)
        self._problem = msgspec.json.Decoder(_Problem)

    async def play(self, on_progress: Progress | None) -> None:
        """Send everything at its time, then wait for the last answer."""
        self._began_ns = time.perf_counter_ns() + int(LEAD_S * 1e9)
        try:
            self._send_due()
            while not self._all_sent.is_set():
                if on_progress is not None:
                    on_progress(self.report.sent, self.report.planned)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PROGRESS_INTERVAL_S):
                        await self._all_sent.wait()
            await self._connections.drain()
        finally:
            self._pacer.close()
        self.report.finish()
        if on_progress is not None:
            on_progress(self.report.sent, self.report.planned)

    def _send_due(self) -> None:
        """Send what is due by now, and ask to be woken for the next."""
        now_ns = time.perf_counter_ns() - self._began_ns
        at_ns, planned, first = self._plan.at_ns, self._planned, self._next
        while self._next < planned and at_ns[self._next] <= now_ns:
            send = self._plan.send(self._next)
            self._next += 1
            self._send(send)
        if self._next == planned:
            self._all_sent.set()
        elif self._next > first or self._next == 0:
            self._pacer.wake_at(self._began_ns + at_ns[self._next])

    def _send(self, send: Send) -> None:
        if send.kind == Kind.FOLLOW_UP:
            # Nothing approved is open: there is nothing to follow up.
            if self._open:
                self._follow_up(send, self._open.popleft())
        elif send.kind == Kind.REPLAY and self._answered:
            self._replay(send, self._chosen(send))
        elif send.kind == Kind.CONFLICT and self._answered:
            self._clash(send, self._chosen(send))
        else:
            self._authorize(send)

    def _chosen(self, send: Send) -> _Answered:
        return self._answered[int(send.choice * len(self._answered))]

    def _submit(
        self, send: Send, request: bytes, on_answer: Callable[[Exchange, Answer], None]
    ) -> None:
        self._connections.submit(Exchange(request, self._began_ns + send.at_ns, on_answer))

    def _authorization(self, send: Send, key: str, *, amount_minor: int) -> bytes:
        return self._write.authorization(
            key,
            card=send.card,
            amount_minor=amount_minor,
            currency=send.currency,
            merchant=send.merchant,
        )

    def _authorize(self, send: Send) -> None:
        key = self._write.new_key()
        request = self._authorization(send, key, amount_minor=send.amount_minor)

        def judge(exchange: Exchange, answer: Answer) -> None:
            self._observe(exchange, send)
            if answer.status != 200:
                self._refused(answer)
            elif answer.is_replayed:
                self.report.fail("fresh_key_was_replayed")
            else:
                self._decided(send, answer.body)
                self._answered.append(_Answered(key, send, request, answer.body))

        self.report.sent += 1
        self._submit(send, request, judge)

    def _decided(self, send: Send, body: bytes) -> None:
        try:
            decided = self._decision.decode(body)
        except msgspec.DecodeError:
            return self.report.fail("malformed_answer")
        if decided.decision == "declined":
            self.report.declined[decided.reason or "none"] += 1
        elif decided.decision == "approved":
            self.report.approved += 1
            if send.kind != Kind.FRESH_TO_KEEP and decided.approved_amount > 0:
                self._open.append(_Open(decided.id, decided.approved_amount))
        else:
            self.report.fail("malformed_answer")
        return None

    def _replay(self, send: Send, earlier: _Answered) -> None:
        def judge(exchange: Exchange, answer: Answer) -> None:
            self._observe(exchange, send)
            if answer.status != 200:
                self._refused(answer)
            elif answer.body != earlier.body:
                self.report.fail("replay_differs")
            elif not answer.is_replayed:
                self.report.fail("replay_not_marked")
            else:
                self.report.replays += 1

        self.report.sent += 1
        self._submit(send, earlier.request, judge)

    def _clash(self, send: Send, earlier: _Answered) -> None:
        other_minor = earlier.send.amount_minor % AMOUNT_MAX_MINOR + 1
        request = self._authorization(earlier.send, earlier.key, amount_minor=other_minor)

        def judge(exchange: Exchange, answer: Answer) -> None:
            self._observe(exchange, send)
            if answer.status == 409:
                self.report.conflicts += 1
            elif answer.status == 200:
                self.report.fail("conflict_was_answered")
            else:
                self._refused(answer)

        self.report.sent += 1
        self._submit(send, request, judge)

    def _refused(self, answer: Answer) -> None:
        code = self._code(answer)
        if answer.status == 503 and code == "no_decision":
            self.report.no_decision += 1
        else:
            self.report.fail(answer.failure or f"{answer.status} {code}".strip())

    def _code(self, answer: Answer) -> str:
        try:
            return self._problem.decode(answer.body).code
        except msgspec.DecodeError:
            return ""

    def _follow_up(self, send: Send, hold: _Open) -> None:
        """Capture three quarters of the time, else reverse; mostly all of it."""
        is_capture = send.choice < CAPTURE_SHARE
        within = send.choice / CAPTURE_SHARE if is_capture else (1 - send.choice) * 4
        part_minor = max(int(hold.remaining_minor * (0.3 + within / 2)), 1)
        is_whole = within < 0.7 or part_minor >= hold.remaining_minor
        is_final = is_whole or within < 0.85
        if is_capture:
            amount_minor = hold.remaining_minor if is_whole else part_minor
            request = self._write.capture(
                hold.authorization, amount_minor=amount_minor, is_final=is_final
            )
        else:
            request = self._write.reversal(
                hold.authorization, amount_minor=None if is_whole else part_minor
            )
            is_final = is_whole

        def judge(exchange: Exchange, answer: Answer) -> None:
            if send.at_ns >= self._warm_ns:
                self.report.follow_up_latency.record(exchange.ended_ns - exchange.intended_ns)
            if answer.status != 201:
                cause = answer.failure or f"{answer.status} {self._code(answer)}".strip()
                return self.report.fail_follow_up(cause)
            if is_capture:
                self.report.captures += 1
            else:
                self.report.reversals += 1
            if not is_final:
                self._open.append(_Open(hold.authorization, hold.remaining_minor - part_minor))
            return None

        self._submit(send, request, judge)

    def _observe(self, exchange: Exchange, send: Send) -> None:
        self.report.observe(exchange, is_warm=send.at_ns >= self._warm_ns)
        # An answer is a good moment to look at the time: timers are a millisecond coarse.
        self._send_due()
