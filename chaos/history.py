"""`history.py`: what the callers know: every attempt, when it began and ended, and how.

    ok       answered: the body is kept
    fail     refused, or never sent: certainly not done
    unknown  reset, timed out, or no decision: done, done later, or never

One clock for all callers. Bounded by the length of a round; the next one begins afresh.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any


class Outcome(StrEnum):
    """How an attempt ended, as far as its caller can know."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Verb(StrEnum):
    """What is asked."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    REVERSE = "reverse"
    DEPOSIT = "deposit"
    WITHDRAW = "withdraw"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    READ = "read"


@dataclass(slots=True)
class Attempt:
    """One request on one connection.

    Args:
        invoked_ns: before its first byte was written.
        returned_ns: after its end was known.
        outcome: what its caller knows.
        status: of HTTP; 0 without an answer.
        body: of the answer.
        cause: why there was none.
    """

    invoked_ns: int
    returned_ns: int
    outcome: Outcome
    status: int = 0
    body: bytes = b""
    cause: str = ""


@dataclass(slots=True)
class Call:
    """One thing that a caller wants once, under one key, however often it must ask.

    Args:
        verb: what is asked.
        path: of the request.
        key: its Idempotency-Key; empty for reads.
        body: what is sent.
        account: `acc_...` that it is about.
        card: `crd_...`, where there is one.
        walked_away: whether its caller hung up and never asked again.
        attempts: in the order in which they were made.
    """

    verb: Verb
    path: str
    key: str
    body: dict[str, Any]
    account: str
    card: str = ""
    walked_away: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def digest(self) -> bytes:
        """How the ledger knows the key: sixteen bytes of BLAKE2b."""
        return blake2b(self.key.encode(), digest_size=16).digest()

    @property
    def answer(self) -> Attempt | None:
        """The first answer it got."""
        return next((one for one in self.attempts if one.outcome is Outcome.OK), None)

    @property
    def was_refused(self) -> bool:
        """Whether it was refused with certainty, and never answered."""
        return any(one.status for one in self.attempts if one.outcome is Outcome.FAIL) and not (
            self.answer
        )

    @property
    def invoked_ns(self) -> int:
        """The earliest instant at which it can have been done."""
        return self.attempts[0].invoked_ns

    @property
    def returned_ns(self) -> float:
        """The instant at which it was certainly done; infinite without an answer."""
        return self.answer.returned_ns if self.answer else float("inf")

    @property
    def document(self) -> dict[str, Any]:
        """What its answer says."""
        assert self.answer is not None
        document: dict[str, Any] = json.loads(self.answer.body)
        return document


@dataclass(slots=True)
class Opening:
    """An account of a round, as it was made.

    Args:
        id: `acc_...`.
        floor: minus its credit line.
        cards: ids, each with its limit over a lifetime, or None.
    """

    id: str
    floor: int
    cards: dict[str, int | None]


@dataclass(slots=True)
class History:
    """Everything that was asked in one round.

    Args:
        openings: the accounts, by id.
        calls: all of them.
    """

    openings: dict[str, Opening] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def of(self, account: str) -> list[Call]:
        """The calls about one account."""
        return [call for call in self.calls if call.account == account]

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt of every call."""
        for call in self.calls:
            yield from call.attempts

    def counts(self) -> dict[str, int]:
        """How many calls were made, and how their attempts ended."""
        counts = dict.fromkeys(Outcome, 0)
        for attempt in self.attempts():
            counts[attempt.outcome] += 1
        return {"calls": len(self.calls), **{str(name): n for name, n in counts.items()}}

    def lines(self, account: str) -> Iterator[str]:
        """What was asked about one account, a line for each attempt, for whoever looks for why."""
        for call in self.of(account):
            for one in call.attempts:
                yield json.dumps(
                    {
                        "invoked_ns": one.invoked_ns,
                        "returned_ns": one.returned_ns,
                        "verb": call.verb,
                        "key": call.key,
                        "path": call.path,
                        "asked": call.body,
                        "outcome": one.outcome,
                        "status": one.status,
                        "answer": one.body.decode(errors="replace"),
                        "cause": one.cause,
                    }
                )


def now_ns() -> int:
    """The one clock of every caller."""
    return time.monotonic_ns()
