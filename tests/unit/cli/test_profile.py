"""`jitway profile`: a profile as tables."""

import io
import json
from datetime import UTC, datetime

from rich.console import Console

from jitway.cli.profile import drawn
from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import Stage


class HandClock:
    def __init__(self) -> None:
        self.ns = 7_000_000_000

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic_ns(self) -> int:
        return self.ns

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{self.ns:032x}"


def shown(profiler: Profiler) -> str:
    text = io.StringIO()
    console = Console(width=160, file=text)
    console.print(drawn(json.loads(json.dumps(profiler.statistics(), default=str)), "minute"))
    return text.getvalue()


def test_a_slow_request_is_told_with_its_stage_and_as_an_episode() -> None:
    clock = HandClock()
    profiler = Profiler(clock)
    assert "episodes" not in shown(profiler)
    profiler.count_lookup("l1", "card", hit=True)
    trace = profiler.start("req_1")
    clock.ns += 80_000_000
    trace.mark(Stage.REFRESH)
    profiler.finish(trace, "approved")
    text = shown(profiler)
    assert "episodes of slow answers since the start: warning 1, critical 0, resolved 0" in text
    assert "cache l1: card 100.0 % hits" in text
    (line,) = [line for line in text.splitlines() if "req_1" in line]
    assert "refresh" in line
