"""`replay.py`: one account's rows, replayed by the model in the order of its versions.

Every change must be possible where it stands, belong to exactly one call, and say what the caller
was told; the order must not contradict the clock of the callers.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.history import Call, Opening, Verb
from chaos.model import Impossible, Model
from chaos.rows import Ledger, Row
from chaos.violation import Violation

_FROZEN = "card_frozen"
_CHANGES_OF_CARDS = (Verb.FREEZE, Verb.UNFREEZE)
_NEVER = float("inf")
_VERB_OF_KIND = {
    "deposit": Verb.DEPOSIT,
    "withdrawal": Verb.WITHDRAW,
    "capture": Verb.CAPTURE,
    "reversal": Verb.REVERSE,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a card was frozen: for certain, and at most.

    Args:
        certain: from the return of the freeze to the beginning of what ended it.
        possible: from the beginning of the freeze to the return of what ended it.
    """

    certain: tuple[float, float]
    possible: tuple[float, float]


class Replay:
    """One account of a round.

    Args:
        opening: as it was made.
        calls: about it.
        ledger: at rest.
    """

    def __init__(self, opening: Opening, calls: Sequence[Call], ledger: Ledger) -> None:
        self._opening = opening
        self._calls = calls
        self._ledger = ledger
        self._digits = opening.id[4:]
        self._model = Model(opening.floor, opening.cards)
        self._frozen = {card: list(_frozen_spans(calls, card)) for card in opening.cards}
        known = ((call, ledger.keys.get(call.digest)) for call in calls if call.key)
        self._call_of = {row["subject"].hex: call for call, row in known if row is not None}
        self._abandoned = {
            row["authorization_id"].hex
            for row in ledger.transfers[self._digits]
            if row["kind"] == "abandonment"
        }
        self._placed: list[tuple[tuple[int, int], Call]] = []
        self.changes = 0
        """Rows that belong to a call, or follow from one."""

    def violations(self) -> list[Violation]:
        """Everything that does not fit."""
        return [
            *self._replayed(),
            *self._account_is_as_replayed(),
            *self._holds_are_as_replayed(),
            *self._order_follows_time(),
        ]

    def _broken(self, invariant: str, subject: str, detail: str) -> Violation:
        return Violation(invariant, subject, detail, self._opening.id)

    def _replayed(self) -> Iterator[Violation]:
        steps: list[tuple[tuple[Any, ...], Iterator[Violation]]] = []
        for row in self._ledger.decisions[self._digits]:
            if row["outcome"] == "approved":
                steps.append(((row["account_version"], 0), self._approved(row)))
            else:
                seen = (row["account_version"], 1, row["decided_at"], row["place"])
                steps.append((seen, self._declined(row)))
        steps += [
            ((row["account_version"], 0), self._transferred(row))
            for row in self._ledger.transfers[self._digits]
        ]
        steps += [
            ((call.document["version"], 2), self._read(call))
            for call in self._calls
            if call.verb is Verb.READ and call.answer is not None
        ]
        # Each looks at the model where it stands: nothing of it runs before its turn.
        for _, step in sorted(steps, key=lambda step: step[0]):
            yield from step

    def _approved(self, row: Row) -> Iterator[Violation]:
        authorization = row["id"].hex
        yield from self._next_version(row)
        try:
            self._model.approve(authorization, f"crd_{row['card_id'].hex}", row["approved_amount"])
        except Impossible as impossible:
            yield self._broken("replay_allows_it", f"aut_{authorization}", str(impossible))
        yield from self._decision(row)

    def _declined(self, row: Row) -> Iterator[Violation]:
        yield from self._decision(row)
        card = f"crd_{row['card_id'].hex}"
        if row["reason"] == _FROZEN:
            return
        expected = self._model.refusal(card, row["amount"])
        if row["reason"] != expected:
            yield self._broken(
                "replay_equals_answers",
                f"aut_{row['id'].hex}",
                f"declined for {row['reason']}, expected {expected or 'an approval'}",
            )

    def _decision(self, row: Row) -> Iterator[Violation]:
        """What approvals and declines have in common: their call, their body, their card."""
        subject = f"aut_{row['id'].hex}"
        call = self._call_of.get(row["id"].hex)
        asked = json.loads(row["request"])
        if call is None or call.verb is not Verb.AUTHORIZE:
            yield self._broken("row_was_asked_for", subject, f"nobody asked for {asked}")
            return
        self.changes += 1
        content = {name: value for name, value in call.body.items() if name != "deadline_ms"}
        if any(asked.get(name) != value for name, value in content.items()):
            yield self._broken("row_was_asked_for", subject, f"{call.body} was asked, not {asked}")
        model = self._model
        said = json.loads(row["body"])
        expected = {
            "id": subject,
            "decision": row["outcome"],
            "reason": row["reason"],
            "card": call.card,
            "account": self._opening.id,
            "amount": call.body["amount"],
            "approved_amount": row["approved_amount"],
            "available": model.available,
            "account_version": model.version,
        }
        wrong = {
            name: said.get(name) for name, value in expected.items() if said.get(name) != value
        }
        if wrong:
            yield self._broken(
                "replay_equals_answers", subject, f"the answer says {wrong}, expected {expected}"
            )
        yield from self._was_told(row, call)
        self._placed.append(((row["account_version"], int(row["outcome"] != "approved")), call))
        yield from self._card_was_not_frozen(row, call)

    def _was_told(self, row: Row, call: Call) -> Iterator[Violation]:
        """An answer is the stored one, or says that the approval was abandoned."""
        if call.answer is None or call.answer.body == row["body"].encode():
            return
        if call.document["reason"] != "abandoned" or row["id"].hex not in self._abandoned:
            yield self._broken(
                "acknowledged_is_stored",
                call.key,
                f"it was answered {call.answer.body!r}, {row['body']!r} is stored",
            )

    def _card_was_not_frozen(self, row: Row, call: Call) -> Iterator[Violation]:
        began, ended = call.invoked_ns, call.returned_ns
        spans = self._frozen[call.card]
        if row["reason"] == _FROZEN:
            if not any(ended > span.possible[0] and began < span.possible[1] for span in spans):
                yield self._broken("freeze_is_respected", call.key, "refused, and was not frozen")
        elif any(began > span.certain[0] and ended < span.certain[1] for span in spans):
            detail = f"{row['outcome']} while the card was frozen"
            yield self._broken("freeze_is_respected", call.key, detail)

    def _transferred(self, row: Row) -> Iterator[Violation]:
        subject = f"trf_{row['id'].hex}"
        yield from self._next_version(row)
        if row["kind"] == "abandonment":
            yield from self._was_abandoned(row)
            return
        call = self._call_of.get(row["id"].hex)
        if call is None or call.verb is not _VERB_OF_KIND.get(row["kind"]):
            what = f"{row['kind']} of {row['amount']}"
            yield self._broken("row_was_asked_for", subject, f"nobody asked for a {what}")
            return
        self.changes += 1
        self._placed.append(((row["account_version"], 0), call))
        try:
            expected = self._book(row, call)
        except Impossible as impossible:
            yield self._broken("replay_allows_it", subject, str(impossible))
            return
        booked = (row["amount"], row["held_change"])
        if booked != expected:
            yield self._broken(
                "replay_equals_answers",
                subject,
                f"amount and change of held are {booked}, expected {expected}",
            )
        if call.answer is not None:
            said = call.document
            if (said["amount"], said["account_version"]) != (expected[0], self._model.version):
                yield self._broken("replay_equals_answers", subject, f"the answer says {said}")

    def _book(self, row: Row, call: Call) -> tuple[int, int]:
        """Books what was asked; the amount, and how the held amount changes."""
        model, amount = self._model, call.body.get("amount")
        if call.verb is Verb.DEPOSIT:
            model.deposit(call.body["amount"])
            return call.body["amount"], 0
        if call.verb is Verb.WITHDRAW:
            model.withdraw(call.body["amount"])
            return call.body["amount"], 0
        authorization = row["authorization_id"].hex
        if f"aut_{authorization}" not in call.path:
            raise Impossible(f"it was asked for {call.path}")
        if call.verb is Verb.CAPTURE:
            captured = call.body["amount"]
            return captured, -model.capture(authorization, captured, final=call.body["final"])
        released = model.reverse(authorization, amount)
        return released, -released

    def _was_abandoned(self, row: Row) -> Iterator[Violation]:
        authorization = row["authorization_id"].hex
        subject = f"aut_{authorization}"
        call = self._call_of.get(authorization)
        self.changes += 1
        try:
            released = self._model.abandon(authorization)
        except Impossible as impossible:
            yield self._broken("replay_allows_it", subject, str(impossible))
            return
        if (row["amount"], row["held_change"]) != (released, -released):
            yield self._broken("replay_equals_answers", subject, f"{released} was held")
        if call is not None and call.answer is not None and call.document["reason"] != "abandoned":
            yield self._broken("answered_stays", subject, "abandoned, and its caller was answered")

    def _next_version(self, row: Row) -> Iterator[Violation]:
        if row["account_version"] != self._model.version + 1:
            detail = f"version {row['account_version']} follows {self._model.version}"
            yield self._broken("versions_are_gapless", row["id"].hex, detail)
            self._model.version = row["account_version"] - 1

    def _read(self, call: Call) -> Iterator[Violation]:
        model, said = self._model, call.document
        self._placed.append(((said["version"], 1), call))
        expected = (model.version, model.posted, model.held, model.available)
        found = (said["version"], said["posted"], said["held"], said["available"])
        if found != expected:
            yield self._broken("reads_fit_their_version", call.path, f"{found}, not {expected}")

    def _account_is_as_replayed(self) -> Iterator[Violation]:
        row = self._ledger.accounts.get(self._digits)
        model = self._model
        expected = (model.posted, model.held, model.floor, model.version)
        found = row and (row["posted"], row["held"], row["floor"], row["version"])
        if found != expected:
            yield self._broken(
                "account_is_as_replayed", self._opening.id, f"{found}, not {expected}"
            )

    def _holds_are_as_replayed(self) -> Iterator[Violation]:
        rows = {row["id"].hex: row for row in self._ledger.holds[self._digits]}
        for id_, hold in self._model.holds.items():
            row = rows.pop(id_, None)
            found = row and (row["amount"], row["captured"], row["released"])
            is_open = row is not None and row["state"] == "active"
            if found != (hold.amount, hold.captured, hold.released) or is_open != bool(hold.rest):
                yield self._broken("holds_are_as_replayed", f"aut_{id_}", f"{row}, not {hold}")
        for id_ in rows:
            yield self._broken("holds_are_as_replayed", f"aut_{id_}", "a hold without an approval")

    def _order_follows_time(self) -> Iterator[Violation]:
        """What had returned before another began must stand before it in the order."""
        latest, latest_before, at_before = float("-inf"), float("-inf"), (-1, 0)
        for at, call in sorted(self._placed, key=lambda placed: placed[0]):
            if at != at_before:
                latest_before, at_before = latest, at
            if call.returned_ns < latest_before:
                yield self._broken(
                    "order_follows_time",
                    call.key or call.path,
                    f"it stands at version {at[0]}, after what began once it had returned",
                )
            latest = max(latest, call.invoked_ns)


def _frozen_spans(calls: Sequence[Call], card: str) -> Iterator[Span]:
    """When a card was frozen; one caller freezes and unfreezes it, one after the other."""
    changes = [call for call in calls if call.card == card and call.verb in _CHANGES_OF_CARDS]
    changes.sort(key=lambda call: call.invoked_ns)
    for place, call in enumerate(changes):
        if call.verb is Verb.FREEZE:
            ended = changes[place + 1] if place + 1 < len(changes) else None
            yield Span(
                (call.returned_ns, ended.invoked_ns if ended else _NEVER),
                (call.invoked_ns, ended.returned_ns if ended else _NEVER),
            )
