"""A few calls on one account, with the rows that a right ledger has for them: to be falsified."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chaos.history import Attempt, Call, History, Opening, Outcome, Verb
from chaos.rows import Ledger, Row

ACCOUNT = "acc_" + "a" * 32
CARD = "crd_" + "c" * 32
FLOOR = -500
TICK_NS = 1_000_000


class SmallWorld:
    """Makes calls, one after the other, and their rows. Every amount is chosen by the test."""

    def __init__(self) -> None:
        self.history = History({ACCOUNT: Opening(ACCOUNT, FLOOR, {CARD: None})})
        self.ledger = Ledger()
        self.account: Row = {"posted": 0, "held": 0, "floor": FLOOR, "version": 0}
        self.ledger.accounts[ACCOUNT[4:]] = self.account
        self._now_ns = 0
        self._count = 0

    @property
    def decisions(self) -> list[Row]:
        return self.ledger.decisions[ACCOUNT[4:]]

    @property
    def transfers(self) -> list[Row]:
        return self.ledger.transfers[ACCOUNT[4:]]

    @property
    def holds(self) -> list[Row]:
        return self.ledger.holds[ACCOUNT[4:]]

    @property
    def available(self) -> int:
        return int(self.account["posted"] - self.account["held"] - FLOOR)

    def deposit(self, amount: int) -> Call:
        self.account["posted"] += amount
        path = f"/v1/accounts/{ACCOUNT}/deposits"
        return self._transfer(Verb.DEPOSIT, "deposit", path, {"amount": amount}, amount)

    def authorize(self, amount: int, *, reason: str | None = None) -> Call:
        """An approval, or a decline for that reason."""
        approved = 0 if reason else amount
        if not reason:
            self.account["held"] += amount
            self.account["version"] += 1
        call = self._call(Verb.AUTHORIZE, "/v1/authorizations", {"card": CARD, "amount": amount})
        call.body["network_reference"] = call.key
        id_ = self._id()
        body = {
            "id": f"aut_{id_.hex}",
            "decision": "declined" if reason else "approved",
            "reason": reason,
            "card": CARD,
            "account": ACCOUNT,
            "amount": amount,
            "approved_amount": approved,
            "available": self.available,
            "account_version": self.account["version"],
        }
        row = {
            "id": id_,
            "account_id": UUID(ACCOUNT[4:]),
            "card_id": UUID(CARD[4:]),
            "outcome": body["decision"],
            "reason": reason,
            "amount": amount,
            "approved_amount": approved,
            "account_version": self.account["version"],
            "place": 0,
            "decided_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._count),
            "body": json.dumps(body),
            "request": json.dumps(call.body),
        }
        self.decisions.append(row)
        if not reason:
            hold = {"id": id_, "amount": amount, "captured": 0, "released": 0, "state": "active"}
            self.holds.append(hold)
        self.ledger.keys[call.digest] = {"subject": id_, "status": None, "body": None}
        self._answer(call, 200, row["body"])
        return call

    def capture(self, approval: Call, amount: int, *, final: bool) -> Call:
        hold = self.hold_of(approval)
        rest = hold["amount"] - hold["captured"] - hold["released"]
        hold["captured"] += amount
        hold["released"] += rest - amount if final else 0
        ended = rest if final else amount
        self.account["posted"] -= amount
        self._end(hold, ended, "captured")
        body = {"amount": amount, "final": final}
        return self._about(Verb.CAPTURE, "capture", approval, body, amount, ended)

    def reverse(self, approval: Call) -> Call:
        hold = self.hold_of(approval)
        rest = hold["amount"] - hold["captured"] - hold["released"]
        hold["released"] += rest
        self._end(hold, rest, "released")
        return self._about(Verb.REVERSE, "reversal", approval, {}, rest, rest)

    def abandon(self, approval: Call) -> None:
        """What happens to an approval that nobody was answered."""
        hold = self.hold_of(approval)
        hold["released"] = hold["amount"]
        self._end(hold, hold["amount"], "abandoned")
        self.account["version"] += 1
        self._row("abandonment", hold["amount"], -hold["amount"], hold["id"])

    def read(self) -> Call:
        call = self._call(Verb.READ, f"/v1/accounts/{ACCOUNT}", {})
        call.key = ""
        state = {name: self.account[name] for name in ("posted", "held", "version")}
        self._answer(call, 200, json.dumps(state | {"available": self.available}))
        return call

    def change_card(self, verb: Verb) -> Call:
        """Freezes or unfreezes the card."""
        call = self._call(verb, f"/v1/cards/{CARD}/{verb}", {})
        body = json.dumps({"id": CARD, "status": verb})
        self.ledger.keys[call.digest] = {"subject": self._id(), "status": 200, "body": body}
        self._answer(call, 200, body)
        return call

    def forget_answer(self, call: Call) -> None:
        """Its caller was cut off and never asked again."""
        (attempt,) = call.attempts
        attempt.outcome, attempt.status, attempt.body = Outcome.UNKNOWN, 0, b""
        call.walked_away = True

    def row_of(self, call: Call) -> Row:
        """The row that a call has made."""
        subject = self.ledger.keys[call.digest]["subject"]
        return next(row for row in (*self.decisions, *self.transfers) if row["id"] == subject)

    def hold_of(self, approval: Call) -> Row:
        id_ = self.row_of(approval)["id"]
        return next(hold for hold in self.holds if hold["id"] == id_)

    def _end(self, hold: Row, amount: int, state: str) -> None:
        self.account["held"] -= amount
        if hold["captured"] + hold["released"] == hold["amount"]:
            hold["state"] = state

    def _about(
        self, verb: Verb, kind: str, approval: Call, body: dict[str, Any], amount: int, ended: int
    ) -> Call:
        id_ = self.row_of(approval)["id"]
        path = f"/v1/authorizations/aut_{id_.hex}/{kind}s"
        return self._transfer(verb, kind, path, body, amount, held_change=-ended, of=id_)

    def _transfer(
        self,
        verb: Verb,
        kind: str,
        path: str,
        body: dict[str, Any],
        amount: int,
        *,
        held_change: int = 0,
        of: UUID | None = None,
    ) -> Call:
        self.account["version"] += 1
        call = self._call(verb, path, body)
        row = self._row(kind, amount, held_change, of)
        said = {
            "id": f"trf_{row['id'].hex}",
            "amount": amount,
            "account_version": self.account["version"],
        }
        self.ledger.keys[call.digest] = {
            "subject": row["id"],
            "status": 201,
            "body": json.dumps(said),
        }
        self._answer(call, 201, json.dumps(said))
        return call

    def _row(self, kind: str, amount: int, held_change: int, of: UUID | None) -> Row:
        row = {
            "id": self._id(),
            "kind": kind,
            "amount": amount,
            "held_change": held_change,
            "authorization_id": of,
            "account_version": self.account["version"],
        }
        self.transfers.append(row)
        return row

    def _call(self, verb: Verb, path: str, body: dict[str, Any]) -> Call:
        self._count += 1
        call = Call(verb, path, f"key-{self._count}", dict(body), ACCOUNT, CARD)
        self.history.calls.append(call)
        return call

    def _answer(self, call: Call, status: int, body: str) -> None:
        began = self._now_ns = self._now_ns + TICK_NS
        ended = self._now_ns = self._now_ns + TICK_NS
        call.attempts.append(Attempt(began, ended, Outcome.OK, status, body.encode()))

    def _id(self) -> UUID:
        self._count += 1
        return UUID(int=self._count)
