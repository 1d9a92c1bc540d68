"""Traffic for any gateway: `simulate()` connects, provisions if need be, draws a plan, plays it.

Open loop: a request is sent at its time whatever became of the earlier ones, and its latency
counts from that time, so that a gateway that stalls cannot hide it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jitway.simulator.connections import Address, Connections
from jitway.simulator.plan import draw_plan
from jitway.simulator.population import ORDINARY_CARDS, Population, provision
from jitway.simulator.report import Report
from jitway.simulator.requests import Writer
from jitway.simulator.run import Progress, Run

FUNDS_MINOR_LEAST = 5_000_00
MEAN_AMOUNT_MINOR = 60_00


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the traffic is sent.

    Args:
        connections: how many are kept open; a request waits when all are busy.
        warmup_s: latencies of the first so many seconds are not reported; counts are.
        timeout_s: a request without an answer counts as an error after so long.
    """

    connections: int = 64
    warmup_s: float = 0.0
    timeout_s: float = 10.0


DEFAULT_TUNING = Tuning()


async def simulate(
    url: str,
    *,
    key: str,
    rate: float,
    seconds: float,
    seed: int | None = None,
    cards: Population | Sequence[str] | None = None,
    tuning: Tuning = DEFAULT_TUNING,
    on_progress: Progress | None = None,
) -> Report:
    """Send realistic card traffic to a gateway and report what came of it.

    Args:
        url: where it serves, such as `http://127.0.0.1:3000`.
        key: an API key with the scopes `authorize` and, where no cards are given, `operate`.
        rate: authorizations a second; captures and reversals come on top, a quarter as many.
        seconds: for how long.
        seed: the same seed draws the same traffic.
        cards: the cards to use, by role or as a plain list; None makes a demo program first.
        tuning: connections, warm-up and timeout.
        on_progress: called a few times a second with how many were sent and are planned.

    Returns:
        The report; it is complete, each request sent stands in one of its columns.

    Raises:
        ValueError: the URL, the key, the rate or the seconds make no sense.
        OSError: nobody listens there.
        CannotProvision: the demo program could not be made.
    """
    address = Address.of(url)
    write = Writer(address, key)
    pool = Connections(address, size=tuning.connections, timeout_s=tuning.timeout_s)
    try:
        await pool.open()
        population = await _population(cards, pool, write, planned=rate * seconds)
        plan = draw_plan(population, rate=rate, seconds=seconds, seed=seed)
        run = Run(plan, pool, write, warmup_s=tuning.warmup_s)
        await run.play(on_progress)
    finally:
        await pool.close()
    return run.report


async def _population(
    cards: Population | Sequence[str] | None, pool: Connections, write: Writer, *, planned: float
) -> Population:
    if isinstance(cards, Population):
        return cards
    if cards is not None:
        return Population(ordinary=cards)
    # The first card gets the share 1 / H(n) of Zipf traffic: about a sixth. Twice that is plenty.
    funds_minor = FUNDS_MINOR_LEAST + math.ceil(planned * MEAN_AMOUNT_MINOR / 3)
    return await provision(pool, write, funds_minor=funds_minor, cards=ORDINARY_CARDS)
