"""`event_report.py`: what a run of `events.py` came to, as a document and as lines."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos.violation import Violation

SHOWN_MAX = 20


@dataclass(slots=True)
class Outage:
    """One store that was away.

    Args:
        seconds: how long.
        events: were made meanwhile.
        drained_s: after its return, until all of them had arrived.
    """

    seconds: float
    events: int
    drained_s: float = 0.0


@dataclass(slots=True)
class Report:
    """What a run came to.

    Args:
        seed: of its random choices.
        violations: everything that must not be.
        kills: by target.
        counts: events, effects, arrivals.
        outages: of the broker, of the archive.
        drained_s: after the last kill.
        stop_s: of each mover, after SIGTERM.
        books: of `jitway verify`.
    """

    seed: int
    violations: list[Violation] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    outages: dict[str, Outage] = field(default_factory=dict)
    drained_s: float = 0.0
    stop_s: list[float] = field(default_factory=list)
    books: dict[str, Any] = field(default_factory=dict)

    def note_outage(self, whose: str, seconds: float, events: int) -> None:
        """Something was away while events went on; that none did is a violation of its own."""
        self.outages[whose] = Outage(seconds, events)
        if not events:
            self.violations.append(Violation("goes_on", whose, "nothing was decided meanwhile"))


def document_of(report: Report, seconds: float) -> dict[str, Any]:
    """The report for programs."""
    named = Counter(one.invariant for one in report.violations)
    return {
        "ok": not report.violations,
        "seed": report.seed,
        "seconds": round(seconds, 1),
        "kills": {"total": report.kills.total(), **report.kills},
        "counts": dict(report.counts),
        "lost": sum(
            one.invariant == "applied_once" and "lost" in one.detail for one in report.violations
        ),
        "applied_twice": sum(
            one.invariant == "applied_once" and "times" in one.detail for one in report.violations
        ),
        "out_of_order": named["in_order"],
        "drained_s": round(report.drained_s, 1),
        "outages": {
            whose: {
                "seconds": one.seconds,
                "events": one.events,
                "drained_s": round(one.drained_s, 1),
            }
            for whose, one in report.outages.items()
        },
        "stop_s_max": round(max(report.stop_s, default=0.0), 2),
        "verify": {"ok": report.books.get("ok")},
        "violations": [one.document for one in report.violations],
    }


def show(document: dict[str, Any]) -> None:
    """The report for people."""
    kills, counts = document["kills"], document["counts"]
    by_target = ", ".join(f"{name} {n}" for name, n in kills.items() if name != "total")
    print(f"seed {document['seed']}, {kills['total']} kills ({by_target}), {document['seconds']} s")
    print(
        f"{counts.get('events', 0):,} events decided, {counts.get('effects', 0):,} effects, "
        f"{counts.get('arrivals', 0):,} arrivals at a queue bound with #, "
        f"{counts.get('archived', 0):,} archived"
    )
    print(
        f"lost {document['lost']}, applied twice {document['applied_twice']}, "
        f"out of order {document['out_of_order']}; drained {document['drained_s']} s after the "
        f"last kill; stopped within {document['stop_s_max']} s"
    )
    for whose, outage in document["outages"].items():
        print(
            f"{whose} away for {outage['seconds']:g} s: {outage['events']:,} events decided "
            f"meanwhile, drained {outage['drained_s']} s after its return"
        )
    if counts.get("forgeries_named"):
        print("proof: one effect deleted: named; one effect doubled: named")
    for one in document["violations"][:SHOWN_MAX]:
        print(f"VIOLATED {one['invariant']} {one['subject']}: {one['detail']}")
    if len(document["violations"]) > SHOWN_MAX:
        print(f"VIOLATED and {len(document['violations']) - SHOWN_MAX} more")
    print("Nothing was lost." if document["ok"] else "Something is WRONG.")
