"""`calls.py`: what can be asked of a gateway, each as a value that either client sends.

A call that writes carries an idempotency key from the start, so sending the same value again, even
from another process, asks for the same thing and not for a second one.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from jitway.client.documents import (
    Account,
    Authorization,
    Card,
    Cardholder,
    Owner,
    Page,
    Program,
    Transfer,
)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request.

    Args:
        answer: the type of what comes back.
        method: of HTTP.
        path: with its query.
        body: as JSON; None for none.
        idempotency_key: names it; empty for a read.
    """

    answer: type[Answer]
    method: str
    path: str
    body: Mapping[str, Any] | None = None
    idempotency_key: str = ""

    def keyed(self, idempotency_key: str) -> "Call[Answer]":
        """The same under a key of the caller's own, such as the id of an order.

        Args:
            idempotency_key: 1 to 255 visible ASCII characters.
        """
        return replace(self, idempotency_key=idempotency_key)


def authorize(
    card: str,
    amount: int,
    currency: str,
    *,
    merchant: Mapping[str, str] | None = None,
    kind: str = "purchase",
    partial_approval: bool = False,
    deadline_ms: int | None = None,
    metadata: Mapping[str, str] | None = None,
    **more: Any,
) -> Call[Authorization]:
    """May this be funded?

    Args:
        card: `crd_...`.
        amount: in minor units of `currency`.
        currency: ISO 4217.
        merchant: `id`, `name`, `mcc`, `country`.
        kind: `purchase`, `cash_withdrawal`, `account_verification` or `balance_inquiry`.
        partial_approval: whether less would be taken.
        deadline_ms: an answer after this is of no use.
        metadata: kept with it.
        more: other members of the route's body, such as `network_reference`.
    """
    body = _without_none(
        card=card,
        amount=amount,
        currency=currency,
        merchant=merchant,
        kind=kind,
        partial_approval=partial_approval,
        deadline_ms=deadline_ms,
        metadata=metadata,
        **more,
    )
    return _post(Authorization, "/v1/authorizations", body)


def authorization(authorization_id: str) -> Call[Authorization]:
    """An authorization as it is now, with its explanation."""
    return _get(Authorization, "authorizations", authorization_id)


def authorizations(
    *, limit: int | None = None, cursor: str | None = None, **filters: str
) -> Call[Page[Authorization]]:
    """Authorizations, the newest first.

    Args:
        limit: of one page.
        cursor: `next_cursor` of the page before.
        filters: `card`, `account`, `decision`, `reason`, `from_` and `to` (RFC 3339).
    """
    named = {name.rstrip("_"): value for name, value in filters.items()}
    query = urlencode(_without_none(**named, limit=limit, cursor=cursor))
    return Call(Page[Authorization], "GET", f"/v1/authorizations{'?' if query else ''}{query}")


def capture(authorization_id: str, amount: int, *, final: bool = True) -> Call[Transfer]:
    """Takes reserved money; what remains is released when it is final."""
    body = {"amount": amount, "final": final}
    return _post(Transfer, f"/v1/authorizations/{_part(authorization_id)}/captures", body)


def reverse(authorization_id: str, amount: int | None = None) -> Call[Transfer]:
    """Releases reserved money: all that remains when no amount is given."""
    body = _without_none(amount=amount)
    return _post(Transfer, f"/v1/authorizations/{_part(authorization_id)}/reversals", body)


def deposit(account_id: str, amount: int, *, description: str | None = None) -> Call[Transfer]:
    """Puts money into an account."""
    body = _without_none(amount=amount, description=description)
    return _post(Transfer, f"/v1/accounts/{_part(account_id)}/deposits", body)


def withdraw(account_id: str, amount: int, *, description: str | None = None) -> Call[Transfer]:
    """Takes money out of an account; refused above what is available."""
    body = _without_none(amount=amount, description=description)
    return _post(Transfer, f"/v1/accounts/{_part(account_id)}/withdrawals", body)


def create_program(
    name: str, currency: str, time_zone: str, *, reason: str | None = None
) -> Call[Program]:
    """Makes a card program; its time zone is the calendar of its limits."""
    body = _without_none(name=name, currency=currency, time_zone=time_zone, reason=reason)
    return _post(Program, "/v1/programs", body)


def create_cardholder(
    program: str,
    *,
    external_id: str | None = None,
    name: str | None = None,
    reason: str | None = None,
) -> Call[Cardholder]:
    """Makes a cardholder of a program."""
    body = _without_none(program=program, external_id=external_id, name=name, reason=reason)
    return _post(Cardholder, "/v1/cardholders", body)


def create_account(
    currency: str,
    *,
    cardholder: str | None = None,
    program: str | None = None,
    credit_line: int = 0,
    reason: str | None = None,
) -> Call[Account]:
    """Makes a funding account of a cardholder or of a program, not of both."""
    body = _without_none(
        currency=currency,
        cardholder=cardholder,
        program=program,
        credit_line=credit_line,
        reason=reason,
    )
    return _post(Account, "/v1/accounts", body)


def create_card(
    cardholder: str,
    account: str,
    *,
    external_id: str | None = None,
    last4: str | None = None,
    reason: str | None = None,
    **more: Any,
) -> Call[Card]:
    """Issues a card of a cardholder on an account; `more` are other members of the body."""
    body = _without_none(
        cardholder=cardholder,
        account=account,
        external_id=external_id,
        last4=last4,
        reason=reason,
        **more,
    )
    return _post(Card, "/v1/cards", body)


def program(program_id: str) -> Call[Program]:
    """A program as it is now."""
    return _get(Program, "programs", program_id)


def cardholder(cardholder_id: str) -> Call[Cardholder]:
    """A cardholder as it is now."""
    return _get(Cardholder, "cardholders", cardholder_id)


def account(account_id: str) -> Call[Account]:
    """An account with its balances."""
    return _get(Account, "accounts", account_id)


def card(card_id: str) -> Call[Card]:
    """A card as it is now."""
    return _get(Card, "cards", card_id)


def freeze(card_id: str, *, reason: str | None = None) -> Call[Card]:
    """Nothing is approved on the card after this has returned."""
    return _change(card_id, "freeze", reason)


def unfreeze(card_id: str, *, reason: str | None = None) -> Call[Card]:
    """Ends a freeze."""
    return _change(card_id, "unfreeze", reason)


def close(card_id: str, *, reason: str | None = None) -> Call[Card]:
    """Ends a card for good."""
    return _change(card_id, "close", reason)


def set_controls(
    owner_id: str,
    *,
    limits: Sequence[Mapping[str, Any]] = (),
    allow: Mapping[str, Sequence[str]] | None = None,
    block: Mapping[str, Sequence[str]] | None = None,
    reason: str | None = None,
    **more: Any,
) -> Call[Owner]:
    """Replaces the controls of a card, a cardholder or a program; they count when it returns.

    Args:
        owner_id: `crd_...`, `chd_...` or `prg_...`.
        limits: such as `{"period": "day", "amount": 10000, "count": 5}`.
        allow: `mcc`, `merchant`, `country`.
        block: the same.
        reason: for the audit.
        more: other members of the body.

    Raises:
        ValueError: the id is none of these.
    """
    kinds = {"crd": "cards", "chd": "cardholders", "prg": "programs"}
    kind = kinds.get(owner_id[:3])
    if kind is None:
        raise ValueError(f"{owner_id!r} is no card, cardholder or program")
    body = _without_none(limits=list(limits), allow=allow, block=block, reason=reason, **more)
    return Call(Owner, "PUT", f"/v1/{kind}/{_part(owner_id)}/controls", body, _new_key())


def _get(answer: type[Answer], kind: str, id_: str) -> Call[Answer]:
    return Call(answer, "GET", f"/v1/{kind}/{_part(id_)}")


def _post(answer: type[Answer], path: str, body: Mapping[str, Any]) -> Call[Answer]:
    return Call(answer, "POST", path, body, _new_key())


def _change(card_id: str, verb: str, reason: str | None) -> Call[Card]:
    return _post(Card, f"/v1/cards/{_part(card_id)}/{verb}", _without_none(reason=reason))


def _new_key() -> str:
    return str(uuid.uuid4())


def _part(text: str) -> str:
    return quote(text, safe="")


def _without_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
