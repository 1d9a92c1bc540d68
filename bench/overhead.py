"""What the profiler itself costs: `python -m bench.overhead`.

One authorization is a trace with seven marks, a sixty-fourth of a batch's trace, one join, two
counted lookups, a counted decision and a finish. Prints microseconds of processor time (so that
other programs do not matter) per authorization, the best and the median of several rounds, and what
reading the statistics costs.
"""

import statistics
import time
from collections.abc import Callable

from jitway.profiler.profiler import Profiler
from jitway.profiler.trace import Stage, Trace

BATCH_SIZE = 64
ROUNDS = 15
BATCHES_PER_ROUND = 50


def record_batch(profiler: Profiler) -> None:
    """One batch of authorizations, recorded the way the gateway does."""
    members: list[Trace] = []
    for _ in range(BATCH_SIZE):
        trace = profiler.start("aut_0")
        trace.mark(Stage.DECODE)
        profiler.count_lookup("l1", "card", hit=True)
        trace.mark(Stage.CARD_LOOKUP)
        profiler.count_lookup("l1", "user", hit=True)
        trace.mark(Stage.USER_LOOKUP)
        members.append(trace)
    batch = profiler.start()
    batch.mark(Stage.ACCOUNT_LOCK)
    batch.mark(Stage.REFRESH)
    for _ in members:
        batch.mark(Stage.LIMITS_CHECK)
        batch.mark(Stage.DECISION)
    batch.mark(Stage.WRITE)
    batch.mark(Stage.COMMIT)
    for trace in members:
        trace.join(batch)
        trace.mark(Stage.ENCODE)
        profiler.count_decision(("approved", ""))
        profiler.finish(trace, "approved")


def best_and_median_us(work: Callable[[], None], *, per: int) -> tuple[float, float]:
    """The best and the median round of some work: microseconds of processor time per item."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        began_ns = time.process_time_ns()
        work()
        rounds.append((time.process_time_ns() - began_ns) / per / 1000)
    return min(rounds), statistics.median(rounds)


def main() -> None:
    """Measure and print."""
    profiler = Profiler()

    def record() -> None:
        for _ in range(BATCHES_PER_ROUND):
            record_batch(profiler)

    best, median = best_and_median_us(record, per=BATCH_SIZE * BATCHES_PER_ROUND)
    print(f"record one authorization: best {best:.2f} us, median {median:.2f} us")

    def tell() -> None:
        profiler.statistics()

    best, median = best_and_median_us(tell, per=1)
    print(f"tell all statistics:      best {best:.0f} us, median {median:.0f} us")


if __name__ == "__main__":
    main()
