"""`bulk_lines.py`: the lines of a file, what became of each, and the report. Values only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jitway.errors import InvalidRequest, JitwayError, NotFound
from jitway.gateway.documents import Document

MADE, UNCHANGED, FAILED, LEFT_OUT = "made", "unchanged", "failed", "left_out"


class Entry(Protocol):
    """What one line asks for."""

    @property
    def own_key(self) -> str:
        """What the line is known by in its program."""

    def canonical(self) -> bytes:
        """The one text of everything that it asks."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file.

    Args:
        number: of the line in its file, from one.
        entry: what it asks for; None when it cannot be read.
        refused: why it cannot be read.
    """

    number: int
    entry: Entry | None
    refused: InvalidRequest | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a line was not done.

    Args:
        code: of the catalogue.
        detail: one sentence.
        field: to blame, if it is one.
        existing: the id of what is in the way, if it is one.
    """

    code: str
    detail: str
    field: str | None = None
    existing: str | None = None


@dataclass(slots=True)
class Outcome:
    """What became of one line.

    Args:
        line: its number.
        outcome: `made`, `unchanged`, `failed` or `left_out`.
        id: of what it made, now or before; None in a trial.
        failure: why it failed.
    """

    line: int
    outcome: str
    id: str | None = None
    failure: Failure | None = None

    def document(self) -> Document:
        """As it is reported."""
        error = self.failure and {
            "code": self.failure.code,
            "detail": self.failure.detail,
            "field": self.failure.field,
            "existing": self.failure.existing,
        }
        return {"line": self.line, "outcome": self.outcome, "id": self.id, "error": error}


@dataclass(frozen=True, slots=True)
class Ordered:
    """How a file is to be taken.

    Args:
        program: `prg_...`, of everything in the file; None: that of the caller's key.
        dry_run: do all of it and undo it.
        strict: nothing at all unless a trial of every line succeeds; then chunk by chunk, up to
            the first in which a line is refused after all.
        reason: for the audit.
    """

    program: str | None = None
    dry_run: bool = False
    strict: bool = False
    reason: str | None = None


@dataclass(slots=True)
class Report:
    """What became of a file.

    Args:
        kind: of the file.
        program: `prg_...`.
        dry_run: whether all of it was undone.
        applied: whether what is reported as made stands.
        outcomes: one for each line, in the order of the file.
    """

    kind: str
    program: str
    dry_run: bool
    applied: bool
    outcomes: list[Outcome]

    @property
    def counts(self) -> dict[str, int]:
        """Lines by outcome."""
        seen = Counter(one.outcome for one in self.outcomes)
        return {name: seen[name] for name in (MADE, UNCHANGED, FAILED, LEFT_OUT)}

    def summary(self) -> Document:
        """The report without its lines."""
        return {
            "kind": self.kind,
            "program": self.program,
            "dry_run": self.dry_run,
            "applied": self.applied,
            "lines": len(self.outcomes),
            **self.counts,
        }

    def document(self) -> Document:
        """The report as it is answered."""
        return self.summary() | {"data": [one.document() for one in self.outcomes]}


def sorted_out(lines: Sequence[Line]) -> tuple[list[Outcome], list[Line]]:
    """What is settled by looking at the file alone, and what is left to do."""
    settled: list[Outcome] = []
    pending: list[Line] = []
    first: dict[str, Line] = {}
    for line in lines:
        if line.entry is None:
            assert line.refused is not None
            settled.append(Outcome(line.number, FAILED, None, failure_of(line.refused)))
        elif (earlier := first.setdefault(line.entry.own_key, line)) is line:
            pending.append(line)
        else:
            settled.append(_repeated(line, earlier))
    return settled, pending


def _repeated(line: Line, earlier: Line) -> Outcome:
    assert line.entry is not None
    assert earlier.entry is not None
    if line.entry.canonical() == earlier.entry.canonical():
        return Outcome(line.number, UNCHANGED)
    detail = f"line {earlier.number} has this key with other content"
    return Outcome(line.number, FAILED, None, Failure("idempotency_conflict", detail))


def failure_of(error: JitwayError) -> Failure:
    """A failure of one line, as it is reported."""
    code = getattr(error, "code", "not_found" if isinstance(error, NotFound) else "conflict")
    pointer = getattr(error, "pointer", None)
    return Failure(code, str(error), pointer and pointer[1:], getattr(error, "existing", None))
