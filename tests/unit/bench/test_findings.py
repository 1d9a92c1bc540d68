"""What a measurement comes to: paired ratios, and the sentences that make it worthless."""

from dataclasses import replace

from bench.authorize import Measured
from bench.ceiling import Ceiling
from bench.findings import aims, told, wrong
from bench.loads import Load
from bench.open_loop import Traffic

CORES = {"gateway": 0.8, "postgresql": 0.5, "generator": 0.1, "machine": 1.5}
ROWS = {"decision": 600, "hold": 600, "outbox": 600, "transfer": 0}


def asked(clients: int, *requests: int) -> list[Ceiling]:
    return [
        Ceiling(clients, 1.0, count, failed=0, p50=1, p95=2, p99=3, max=4, cores=CORES)
        for count in requests
    ]


def loaded(connections: int, *requests: int) -> list[Load]:
    return [
        Load("wrk", connections, 1.0, count, 0, 0, p50=2, p95=3, p99=4, max=5, cores=CORES)
        for count in requests
    ]


def measured() -> Measured:
    """Two rounds; in the second, the whole machine was half as fast."""
    traffic = Traffic(75, False, 750, 0, 0, False, 1, 2, 3, 9, follow_up_p99=0, cores=CORES)
    return Measured(
        ceiling={1: asked(1, 20, 10), 8: asked(8, 100, 50)},
        gateway={1: loaded(1, 40, 20), 64: loaded(64, 150, 75)},
        hot=loaded(64, 120, 60),
        ceiling_hot=asked(8, 280, 140),
        open=[traffic, replace(traffic, p99=7), replace(traffic, p99=30)],
        wal_bytes={"ceiling": 600_000, "gateway": 465_000},
        rows={
            "ceiling": ROWS,
            "gateway": {name: count * 470 // 600 for name, count in ROWS.items()},
        },
        verified={"round 1": True},
    )


def test_ratios_are_of_the_best_sizes_and_of_runs_in_the_same_round() -> None:
    figures = {name: (value, met) for name, value, _, met in aims(measured())}
    assert figures == {
        "gateway / pgbench": (1.5, True),
        "hot account / spread": (0.8, True),
        "p99 at half of peak, ms": (7, True),
        "lone p50, ms": (2, True),
    }


def test_a_measurement_in_which_all_adds_up_is_told() -> None:
    assert wrong(measured()) == []
    text = told(measured(), {"cores": 2})
    assert "| gateway / pgbench       |      1.5 |" in text
    assert "| WAL bytes |    1,000 |     989 |" in text


def test_each_thing_that_does_not_add_up_is_said() -> None:
    one = measured()
    one.verified["open loop"] = False
    one.gateway[1][0] = replace(one.gateway[1][0], refused=2)
    one.open[0] = replace(one.open[0], errors=1)
    one.ceiling[1][0] = replace(one.ceiling[1][0], failed=3, requests=19)
    one.rows["gateway"]["hold"] = 469
    said = "\n".join(wrong(one))
    assert "the books are wrong after open loop" in said
    assert "3 requests were not decided" in said
    assert "3 transactions of pgbench failed" in said
    assert "the two sides wrote different rows" in said
    assert "pgbench counted 599 transactions and stored 600 decisions" in said


def test_a_decision_that_nobody_asked_for_is_noticed() -> None:
    one = measured()
    # Of what was in flight when a run ended, some may be stored and not counted; not more.
    in_flight = 2 * (1 + 64 + 64)
    for name in ("decision", "hold", "outbox"):
        one.rows["gateway"][name] = 465 + in_flight
    assert wrong(one) == []
    for name in ("decision", "hold", "outbox"):
        one.rows["gateway"][name] += 1
    assert wrong(one) == ["465 requests were answered and 724 decisions stored"]
