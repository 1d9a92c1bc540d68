"""`traffic.py`: what callers ask next: authorizations above all, on few accounts, one hot."""

import random
import secrets
from collections import deque
from collections.abc import Sequence
from typing import Any

from chaos.history import Call, Opening, Verb

# What a caller remembers of its own approvals, to capture and reverse them.
REMEMBERED_MAX = 50


class Traffic:
    """Draws the calls of one caller.

    Args:
        openings: the accounts; the first one is hot.
        dice: what is asked depends on them alone, and on what was approved.
    """

    def __init__(self, openings: Sequence[Opening], dice: random.Random) -> None:
        self._openings = openings
        self._dice = dice
        self._approved: deque[Call] = deque(maxlen=REMEMBERED_MAX)

    def remember(self, call: Call) -> None:
        """An approval that may be captured or reversed later."""
        self._approved.append(call)

    def next(self) -> Call:
        """What is asked next."""
        dice = self._dice
        opening = self._openings[0] if dice.random() < 0.33 else dice.choice(self._openings)
        what = dice.random()
        if self._approved and what < 0.22:
            return self._capture()
        if self._approved and what < 0.32:
            return self._reversal()
        if what < 0.40:
            return movement(opening, Verb.DEPOSIT, dice.randint(1, 20_000))
        if what < 0.44:
            return movement(opening, Verb.WITHDRAW, dice.randint(1, 30_000))
        if what < 0.50:
            return Call(Verb.READ, f"/v1/accounts/{opening.id}", "", {}, opening.id)
        amount = dice.randint(1, 2_000) if dice.random() < 0.9 else dice.randint(10_000, 99_000)
        call = authorization(opening, dice.choice(list(opening.cards)), amount)
        if dice.random() < 0.03:
            call.body["deadline_ms"] = dice.randint(1, 20)
        return call

    def _capture(self) -> Call:
        approved, amount = self._one_approved()
        final = self._dice.random() < 0.5
        return _about(
            Verb.CAPTURE,
            approved,
            "captures",
            {"amount": self._dice.randint(1, amount), "final": final},
        )

    def _reversal(self) -> Call:
        approved, amount = self._one_approved()
        part = {"amount": self._dice.randint(1, amount)}
        return _about(
            Verb.REVERSE, approved, "reversals", part if self._dice.random() < 0.5 else {}
        )

    def _one_approved(self) -> tuple[Call, int]:
        """Half of them stay, so that some are captured or reversed more than once."""
        call = self._dice.choice(self._approved)
        if self._dice.random() < 0.5:
            self._approved.remove(call)
        return call, call.document["approved_amount"]


def authorization(opening: Opening, card: str, amount: int) -> Call:
    """An authorization that names its own key, so that its row says who asked for it."""
    key = new_key()
    body = {"card": card, "amount": amount, "currency": "USD", "network_reference": key}
    return Call(Verb.AUTHORIZE, "/v1/authorizations", key, body, opening.id, card)


def movement(opening: Opening, verb: Verb, amount: int) -> Call:
    """A deposit or a withdrawal."""
    kind = "deposits" if verb is Verb.DEPOSIT else "withdrawals"
    return Call(
        verb, f"/v1/accounts/{opening.id}/{kind}", new_key(), {"amount": amount}, opening.id
    )


def card_change(opening: Opening, card: str, verb: Verb) -> Call:
    """A card is frozen, or no longer."""
    return Call(verb, f"/v1/cards/{card}/{verb}", new_key(), {}, opening.id, card)


def new_key() -> str:
    """Random whatever the seed: a repeated run must not meet its own answers."""
    return f"chaos-{secrets.token_hex(8)}"


def _about(verb: Verb, approved: Call, what: str, body: dict[str, Any]) -> Call:
    path = f"/v1/authorizations/{approved.document['id']}/{what}"
    return Call(verb, path, new_key(), body, approved.account, approved.card)
