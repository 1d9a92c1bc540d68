"""What a measurement of authorizations came to: ratios, aims, tables, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.tables import markdown, write_json

if TYPE_CHECKING:
    from bench.authorize import Measured
    from bench.ceiling import Ceiling
    from bench.loads import Load

LATENCIES = ("p50", "p95", "p99", "max")


def told(measured: "Measured", machine: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    peak = measured.gateway[measured.peak()][0]
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    parts = [
        f"Machine: {described}. Load by {peak.generator}.",
        "PostgreSQL alone, `pgbench` calling one function:\n\n" + _ceiling_table(measured),
        "The gateway over HTTP, closed loop:\n\n" + _gateway_table(measured),
        "Open loop, from the intended send time:\n\n" + _open_table(measured),
        "Written for one decision:\n\n" + _rows_table(measured),
        "Aims:\n\n" + _aims_table(measured),
    ]
    return "\n\n".join(parts)


def write(path: Path, measured: "Measured", machine: Mapping[str, Any]) -> None:
    """Everything as JSON."""
    write_json(
        path,
        {
            "machine": dict(machine),
            "aims": {name: value for name, value, _, _ in aims(measured)},
            **asdict(measured),
        },
    )


def aims(measured: "Measured") -> list[tuple[str, float, str, bool]]:
    """Each aim: its name, what was measured, what is wanted and whether that is so.

    A ratio is the median of the ratios of each round, so that what slows a whole round down
    cancels.
    """
    best, peak = measured.ceiling[measured.best()], measured.gateway[measured.peak()]
    spread = measured.gateway[measured.hot[0].connections]
    to_ceiling = median(_ratios(peak, best))
    hot = median(_ratios(measured.hot, spread))
    # What other work on this machine adds to one run is not the gateway's.
    p99 = median(run.p99 for run in measured.open if not run.follow_ups)
    lone = median(run.p50 for run in measured.gateway[1])
    return [
        ("gateway / pgbench", to_ceiling, ">= 1.0, 1.5 soon", to_ceiling >= 1.0),
        ("hot account / spread", hot, ">= 0.7", hot >= 0.7),
        ("p99 at half of peak, ms", p99, "<= 10", p99 <= 10),
        ("lone p50, ms", lone, "<= 3", lone <= 3),
    ]


def _ratios(above: "Sequence[Load | Ceiling]", below: "Sequence[Load | Ceiling]") -> list[float]:
    return [one.per_second / other.per_second for one, other in zip(above, below, strict=True)]


def wrong(measured: "Measured") -> list[str]:
    """Sentences about what makes the figures worthless; none when they may be trusted."""
    found = [
        f"the books are wrong after {when}" for when, ok in measured.verified.items() if not ok
    ]
    loads = [run for runs in measured.gateway.values() for run in runs] + measured.hot
    failed = sum(run.refused + run.broken for run in loads)
    failed += sum(run.errors + run.no_decision for run in measured.open)
    if failed:
        found.append(f"{failed} requests were not decided")
    ceilings = [run for runs in measured.ceiling.values() for run in runs] + measured.ceiling_hot
    if failed := sum(run.failed for run in ceilings):
        found.append(f"{failed} transactions of pgbench failed")
    per_decision = {side: rows_per_decision(rows) for side, rows in measured.rows.items()}
    if per_decision["ceiling"] != per_decision["gateway"]:
        found.append(f"the two sides wrote different rows: {per_decision}")
    asked = sum(run.requests for run in ceilings)
    if asked != (stored := measured.rows["ceiling"]["decision"]):
        found.append(f"pgbench counted {asked} transactions and stored {stored} decisions")
    asked = sum(run.requests for run in loads)
    in_flight = sum(run.connections for run in loads)
    if not 0 <= measured.rows["gateway"]["decision"] - asked <= in_flight:
        stored = measured.rows["gateway"]["decision"]
        found.append(f"{asked} requests were answered and {stored} decisions stored")
    return found


def rows_per_decision(rows: Mapping[str, int]) -> dict[str, float]:
    """How many rows of each table one decision writes."""
    return {name: round(count / max(rows["decision"], 1), 6) for name, count in rows.items()}


def _ceiling_table(measured: "Measured") -> str:
    rows = [_ceiling_row(str(size), runs) for size, runs in measured.ceiling.items()]
    rows.append(_ceiling_row(f"{measured.ceiling_hot[0].clients}, hot", measured.ceiling_hot))
    columns = ("clients", "a second", "p50 ms", "p95 ms", "p99 ms", "PostgreSQL us", "pgbench us")
    return markdown(columns, rows)


def _ceiling_row(name: str, runs: "Sequence[Ceiling]") -> list[Any]:
    rate = median(run.per_second for run in runs)
    latencies = [median(getattr(run, p) for run in runs) for p in LATENCIES[:3]]
    return [name, rate, *latencies, _cpu_us("postgresql", runs), _cpu_us("generator", runs)]


def _gateway_table(measured: "Measured") -> str:
    rows = [_gateway_row(str(size), runs) for size, runs in measured.gateway.items()]
    rows.append(_gateway_row(f"{measured.hot[0].connections}, hot", measured.hot))
    latencies = ("p50 ms", "p95 ms", "p99 ms")
    cpu = ("gateway us", "PostgreSQL us", "generator us", "cores of others")
    return markdown(("connections", "a second", *latencies, *cpu), rows)


def _gateway_row(name: str, runs: "Sequence[Load]") -> list[Any]:
    rate = median(run.per_second for run in runs)
    latencies = [median(getattr(run, p) for run in runs) for p in LATENCIES[:3]]
    cpu = [_cpu_us(group, runs) for group in ("gateway", "postgresql", "generator")]
    return [name, rate, *latencies, *cpu, median(_others(run.cores) for run in runs)]


def _cpu_us(group: str, runs: "Sequence[Load | Ceiling]") -> float:
    """Processor time for one authorization, in microseconds: steady where rates are noisy."""
    return median(1e6 * run.cores[group] / max(run.per_second, 1) for run in runs)


def _others(cores: Mapping[str, float]) -> float:
    """Cores that were busy with what is not ours."""
    ours = sum(used for name, used in cores.items() if name != "machine")
    return max(cores["machine"] - ours, 0.0)


def _open_table(measured: "Measured") -> str:
    rows = [
        [
            "with captures" if run.follow_ups else "authorizations",
            run.rate,
            *(getattr(run, name) for name in LATENCIES),
            run.cores["gateway"],
            run.cores["postgresql"],
            run.cores["generator"],
            _others(run.cores),
        ]
        for run in measured.open
    ]
    latencies = ("p50 ms", "p95 ms", "p99 ms", "max ms")
    cpu = ("gateway cores", "PostgreSQL cores", "generator cores", "cores of others")
    return markdown(("traffic", "a second", *latencies, *cpu), rows)


def _rows_table(measured: "Measured") -> str:
    decisions = {side: max(rows["decision"], 1) for side, rows in measured.rows.items()}
    per_decision = {side: rows_per_decision(rows) for side, rows in measured.rows.items()}
    rows: list[list[Any]] = [
        [name, value, per_decision["gateway"][name]]
        for name, value in per_decision["ceiling"].items()
    ]
    wal = measured.wal_bytes
    rows.append(["WAL bytes", *(wal[side] / decisions[side] for side in ("ceiling", "gateway"))])
    return markdown(("what", "function", "gateway"), rows)


def _aims_table(measured: "Measured") -> str:
    rows = [
        [name, value, wanted, "yes" if met else "no"] for name, value, wanted, met in aims(measured)
    ]
    return markdown(("what", "measured", "aim", "met"), rows)
