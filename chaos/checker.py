"""`checker.py`: the history of the callers against the rows of the ledger.

The order of account versions is the witness: a model replayed in it must come to every answer, and
it must not contradict the clock. What was acknowledged is stored, what is stored was asked for, and
a repeat gets the same bytes. Linear but for sorting, so that rounds may be long.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.history import Call, History, Outcome, Verb
from chaos.replay import Replay
from chaos.rows import Ledger, Row
from chaos.violation import Violation

_CARD_VERBS = (Verb.FREEZE, Verb.UNFREEZE)


@dataclass(slots=True)
class Checked:
    """What a check found.

    Args:
        violations: none when all is well.
        changes: decisions and transfers that belong to a call, or follow from one.
        calls: that were held against the rows.
    """

    violations: list[Violation] = field(default_factory=list)
    changes: int = 0
    calls: int = 0


def check(history: History, ledger: Ledger) -> Checked:
    """Holds a round's history against the ledger at rest.

    Args:
        history: of all callers.
        ledger: read after everything had ended.
    """
    checked = Checked(calls=len(history.calls))
    by_account: dict[str, list[Call]] = {account: [] for account in history.openings}
    for call in history.calls:
        by_account[call.account].append(call)
        checked.violations += _one_call(call, ledger)
    for opening in history.openings.values():
        account = Replay(opening, by_account[opening.id], ledger)
        checked.violations += account.violations()
        checked.changes += account.changes
    return checked


def _one_call(call: Call, ledger: Ledger) -> Iterator[Violation]:
    """What one call's answers promise."""

    def broken(invariant: str, detail: str) -> Violation:
        return Violation(invariant, call.key or call.path, detail, call.account)

    answers = {(one.status, one.body) for one in call.attempts if one.outcome is Outcome.OK}
    if call.verb is Verb.READ:
        return
    if len(answers) > 1:
        said = " / ".join(f"{status} {body.decode()}" for status, body in sorted(answers))
        yield broken("repeats_are_equal", f"one key was answered {said}")
    known = ledger.keys.get(call.digest)
    if call.was_refused and known is not None:
        yield broken("refused_is_not_done", f"it was refused, and made {known['subject'].hex}")
    if not answers:
        if not (call.was_refused or call.walked_away):
            yield broken("call_is_answered", f"no answer after {len(call.attempts)} attempts")
        return
    if known is None:
        yield broken("acknowledged_is_stored", "it was answered, and its key is not there")
        return
    yield from _stored_answer(call, known, ledger)


def _stored_answer(call: Call, known: Row, ledger: Ledger) -> Iterator[Violation]:
    def lost(detail: str) -> Violation:
        return Violation("acknowledged_is_stored", call.key, detail, call.account)

    assert call.answer is not None
    subject = known["subject"].hex
    said = call.document
    if call.verb not in _CARD_VERBS and said["id"][4:] != subject:
        yield lost(f"{said['id']} was answered, its key leads to {subject}")
    if call.verb is not Verb.AUTHORIZE:
        stored = (known["body"] or "").encode()
        if known["status"] != call.answer.status or stored != call.answer.body:
            yield lost(f"it was answered {call.answer.body!r}, {stored!r} is stored")
