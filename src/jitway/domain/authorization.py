"""`authorization.py`: the life of an authorization after its decision, as one table. Pure.

Also how the world is told about it.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from json import dumps, loads

from jitway.domain.instant import instant_text


class HoldState(StrEnum):
    """Where the funds of an approval are."""

    ACTIVE = "active"
    CAPTURED = "captured"
    RELEASED = "released"
    EXPIRED = "expired"
    ABANDONED = "abandoned"


class Message(StrEnum):
    """What can happen to a hold."""

    CAPTURE = "capture"
    REVERSAL = "reversal"
    EXPIRY = "expiry"
    ABANDONMENT = "abandonment"


# state x message -> the state once nothing remains; a pair that is missing is refused.
# While something remains, a hold stays active. Whatever ended it, a hold of which anything was
# captured is `captured`: the money went somewhere.
LIFECYCLE: dict[tuple[HoldState, Message], HoldState] = {
    (HoldState.ACTIVE, Message.CAPTURE): HoldState.CAPTURED,
    (HoldState.ACTIVE, Message.REVERSAL): HoldState.RELEASED,
    (HoldState.ACTIVE, Message.EXPIRY): HoldState.EXPIRED,
    (HoldState.ACTIVE, Message.ABANDONMENT): HoldState.ABANDONED,
}


@dataclass(frozen=True, slots=True)
class Hold:
    """Funds reserved by an approval, and what became of them; minor units.

    Args:
        amount: reserved at first.
        captured: of it, moved to the network.
        released: of it, given back.
        state: `active` while something remains.
    """

    amount: int
    captured: int
    released: int
    state: HoldState

    @property
    def remaining(self) -> int:
        """What is still reserved."""
        return self.amount - self.captured - self.released

    def takes(self, message: Message) -> bool:
        """Whether the life cycle knows this message in this state."""
        return (self.state, message) in LIFECYCLE

    def after(self, message: Message, *, captured: int = 0, released: int = 0) -> "Hold":
        """The hold once a message has taken its amounts from what remains.

        Args:
            message: one that it `takes`.
            captured: minor units that the message moves.
            released: minor units that it gives back.
        """
        assert min(captured, released) >= 0
        assert 0 < captured + released <= self.remaining
        captured_total = self.captured + captured
        released_total = self.released + released
        if captured_total + released_total < self.amount:
            return Hold(self.amount, captured_total, released_total, self.state)
        ended = LIFECYCLE[self.state, message]
        state = HoldState.CAPTURED if captured_total else ended
        return Hold(self.amount, captured_total, released_total, state)


_is_plain = re.compile(r"[A-Za-z0-9_]*", re.ASCII).fullmatch
# All decisions of one commit have the same two instants.
_instant_text = lru_cache(maxsize=64)(instant_text)


def decision_body(  # noqa: PLR0913 one argument for each field of the answer
    *,
    id: str,  # noqa: A002 the field's name
    approved: bool,
    reason: str | None,
    card: str,
    account: str | None,
    amount: int,
    approved_amount: int,
    currency: str,
    available: int | None,
    account_version: int | None,
    decided_at: datetime,
    expires_at: datetime | None,
    status: str,
) -> str:
    """The answer to an authorization, as compact JSON in the documented order of fields.

    Args:
        id: `aut_...`.
        approved: the decision.
        reason: the code of the broken rule; None when approved.
        card: as the caller wrote it; the only text here that is not ours.
        account: `acc_...`; None when the card is not known.
        amount: minor units asked for.
        approved_amount: minor units; of an approval, zero when its kind reserves nothing.
        currency: ISO 4217.
        available: minor units after the decision; None when the card is not known.
        account_version: made by what reserves, seen by everything else.
        decided_at: in UTC.
        expires_at: in UTC; None when nothing is reserved.
        status: of the authorization.
    """
    reason_json = "null" if reason is None else f'"{reason}"'
    card_json = f'"{card}"' if _is_plain(card) else dumps(card)
    account_json = "null" if account is None else f'"{account}"'
    expires_json = "null" if expires_at is None else f'"{_instant_text(expires_at)}"'
    return (
        f'{{"id":"{id}","decision":"{"approved" if approved else "declined"}",'
        f'"reason":{reason_json},"card":{card_json},"account":{account_json},'
        f'"amount":{amount},"approved_amount":{approved_amount},"currency":"{currency}",'
        f'"available":{"null" if available is None else available},'
        f'"account_version":{"null" if account_version is None else account_version},'
        f'"decided_at":"{_instant_text(decided_at)}","expires_at":{expires_json},'
        f'"status":"{status}"}}'
    )


def abandoned_body(body: str) -> str:
    """The answer to a retry of an approval that was never answered and is therefore void.

    Args:
        body: the approval's stored answer.
    """
    answer = loads(body)
    answer |= {
        "decision": "declined",
        "reason": "abandoned",
        "approved_amount": 0,
        "expires_at": None,
        "status": "abandoned",
    }
    return dumps(answer, separators=(",", ":"))


def status_at_first(*, approved: bool, reserves: bool) -> str:
    """The public status of an authorization as it is decided.

    Args:
        approved: the decision.
        reserves: whether it has a hold; an approval that reserves nothing is over at once.
    """
    if not approved:
        return "declined"
    return "open" if reserves else HoldState.RELEASED.value


def status_of(hold: Hold) -> str:
    """The public status of an authorization with a hold: what became of that."""
    return "open" if hold.state is HoldState.ACTIVE else hold.state.value
