"""`bulk_cards.py`: many cards at once, each with its cardholder and account where they are missing.

A line is known by the external id of its card. Where no account is named, the cardholder's only
open account in the currency is used; without one, one is made.
"""

from collections.abc import Sized
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from jitway.clock import id_digits
from jitway.errors import Conflict, TransactionConflict
from jitway.gateway import owned
from jitway.gateway.bulk_chunk import Chunk
from jitway.gateway.bulk_lines import MADE, UNCHANGED, Failure, Line
from jitway.gateway.documents import Document, text_of
from jitway.ledger.journal import outbox_slot
from jitway.sql import statements

_SQL = statements("bulk")
_READ = statements("reading")


class CardEntry(Protocol):
    """What one line asks for."""

    @property
    def external_id(self) -> str:
        """Of the card."""

    @property
    def cardholder(self) -> str | None:
        """`chd_...`, of one that is there."""

    @property
    def cardholder_external_id(self) -> str | None:
        """Of one that is there or is made."""

    @property
    def cardholder_name(self) -> str | None:
        """Of one that is made."""

    @property
    def account(self) -> str | None:
        """`acc_...`, of one that is there."""

    @property
    def currency(self) -> str | None:
        """Of the account; the program's when None."""

    @property
    def credit_line(self) -> int:
        """Minor units, of an account that is made."""

    @property
    def last4(self) -> str | None:
        """Four digits."""


@dataclass(slots=True)
class _Holder:
    id: str
    external_id: str | None
    name: str | None = None
    open: bool = True
    made: bool = False


@dataclass(slots=True)
class _Account:
    id: str
    cardholder_id: str | None
    currency: str
    credit_line: int = 0
    open: bool = True
    made: bool = False


@dataclass(slots=True)
class _Card:
    id: str
    line: Line
    entry: CardEntry
    holder: _Holder
    account: _Account


@dataclass(slots=True)
class _There:
    """What the chunk's lines may name, by whatever they name it by; ids are digits."""

    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    holders: dict[str, _Holder] = field(default_factory=dict)
    named: dict[str, _Holder] = field(default_factory=dict)
    accounts: dict[str, _Account] = field(default_factory=dict)
    of_holder: dict[str, list[_Account]] = field(default_factory=dict)

    def add_holder(self, holder: _Holder) -> None:
        self.holders[holder.id] = holder
        if holder.external_id is not None:
            self.named[holder.external_id] = holder

    def add_account(self, account: _Account) -> None:
        self.accounts[account.id] = account
        if account.cardholder_id is not None:
            self.of_holder.setdefault(account.cardholder_id, []).append(account)


class CardWork:
    """Makes cards."""

    kind = "cards"

    async def take(self, chunk: Chunk) -> None:
        """Makes the cards of a chunk that are not there, with whatever they need."""
        entries = [(line, cast("CardEntry", line.entry)) for line in chunk.lines]
        await chunk.rows("take_turn")
        there = await _look(chunk, [entry for _, entry in entries])
        made: list[_Card] = []
        for line, entry in entries:
            planned = _plan(chunk, there, line, entry)
            if isinstance(planned, Failure):
                chunk.fail(line, planned)
            elif isinstance(planned, _Card):
                made.append(planned)
            else:
                chunk.settle(line, UNCHANGED, planned)
        made = await _admitted(chunk, made)
        if made:
            await _write(chunk, made)
        for card in made:
            chunk.settle(card.line, MADE, f"crd_{card.id}")


async def _look(chunk: Chunk, entries: list[CardEntry]) -> _There:
    there = _There()
    rows = await chunk.rows("known_cards", [entry.external_id for entry in entries])
    there.cards = {row["external_id"]: row for row in rows}
    names = {entry.cardholder_external_id for entry in entries} - {None}
    ids = {id_digits(entry.cardholder or "", "chd") for entry in entries} - {None}
    rows = await chunk.rows("cardholders", sorted(map(str, names)), sorted(map(str, ids)))
    for row in rows:
        is_open = row["state"] != "closed"
        there.add_holder(_Holder(row["id"].hex, row["external_id"], open=is_open))
    wanted = {id_digits(entry.account or "", "acc") for entry in entries} - {None}
    rows = await chunk.rows("accounts", sorted(map(str, wanted)), sorted(there.holders))
    # Held until the cards are there, so that none of them is closed meanwhile.
    locked = await chunk.rows("lock_accounts", _used(chunk, there, entries, rows))
    states = {row["id"]: row["state"] for row in locked}
    for row in rows:
        holder = row["cardholder_id"]
        is_open = states.get(row["id"], row["state"]) != "closed"
        there.add_account(
            _Account(row["id"].hex, holder and holder.hex, row["currency"], open=is_open)
        )
    return there


def _used(
    chunk: Chunk, there: _There, entries: list[CardEntry], rows: list[dict[str, Any]]
) -> list[str]:
    """The accounts to hold: at most one for each line, the named or the only one it can be."""
    usable: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] != "closed" and row["cardholder_id"] is not None:
            pair = (row["cardholder_id"].hex, row["currency"])
            usable.setdefault(pair, []).append(row["id"].hex)
    used: set[str] = set()
    for entry in entries:
        if entry.account is not None:
            used.add(id_digits(entry.account, "acc") or "")
        elif (holder := _known_holder(there, entry)) is not None:
            its = usable.get((holder.id, _currency(chunk, entry)), [])
            # Of several in one currency none can be chosen, so none has to be held.
            used.update(its if len(its) == 1 else ())
    return sorted(used - {""})


def _known_holder(there: _There, entry: CardEntry) -> _Holder | None:
    if entry.cardholder is not None:
        return there.holders.get(id_digits(entry.cardholder, "chd") or "")
    return there.named.get(entry.cardholder_external_id or "")


def _currency(chunk: Chunk, entry: CardEntry) -> str:
    currency: str = entry.currency or chunk.program["currency"]
    return currency


def _plan(chunk: Chunk, there: _There, line: Line, entry: CardEntry) -> _Card | Failure | str:
    """The card to make, why there cannot be one, or the id of the one that is there."""
    if (known := there.cards.get(entry.external_id)) is not None:
        return _compared(known, entry)
    holder = _holder(chunk, there, entry)
    if isinstance(holder, Failure):
        return holder
    account = _account(chunk, there, entry, holder)
    if isinstance(account, Failure):
        return account
    # Only now: a line that fails makes nothing.
    if holder.made and holder.id not in there.holders:
        there.add_holder(holder)
    if account.made and account.id not in there.accounts:
        there.add_account(account)
    return _Card(chunk.clock.new_id("crd")[4:], line, entry, holder, account)


def _compared(known: dict[str, Any], entry: CardEntry) -> str | Failure:
    id_ = f"crd_{known['id'].hex}"
    asked: list[tuple[object, object]] = [
        (entry.cardholder, f"chd_{known['cardholder_id'].hex}"),
        (entry.cardholder_external_id, known["cardholder_external_id"]),
        (entry.account, f"acc_{known['account_id'].hex}"),
        (entry.last4, known["last4"]),
    ]
    if all(wanted is None or wanted == found for wanted, found in asked):
        return id_
    detail = "the program has another card with this external id"
    return Failure("external_id_taken", detail, "external_id", id_)


def _holder(chunk: Chunk, there: _There, entry: CardEntry) -> _Holder | Failure:
    found = _known_holder(there, entry)
    if entry.cardholder is not None:
        name = "cardholder"
        if found is None:
            return Failure("not_found", "there is no cardholder with this id", name)
    else:
        name = "cardholder_external_id"
        if found is None:
            id_ = chunk.clock.new_id("chd")[4:]
            return _Holder(id_, entry.cardholder_external_id, entry.cardholder_name, made=True)
    if not found.open:
        return Failure("cardholder_not_active", "the cardholder is closed", name)
    return found


def _account(chunk: Chunk, there: _There, entry: CardEntry, holder: _Holder) -> _Account | Failure:
    if entry.account is not None:
        return _named_account(there, entry.account, holder)
    currency = _currency(chunk, entry)
    its = [one for one in there.of_holder.get(holder.id, ()) if one.currency == currency]
    usable = [one for one in its if one.open]
    if len(usable) == 1:
        return usable[0]
    if usable:
        detail = f"the cardholder has several accounts in {currency}: name one"
        return Failure("invalid_request", detail, "account")
    id_ = chunk.clock.new_id("acc")[4:]
    return _Account(id_, holder.id, currency, entry.credit_line, made=True)


def _named_account(there: _There, account_id: str, holder: _Holder) -> _Account | Failure:
    found = there.accounts.get(id_digits(account_id, "acc") or "")
    if found is None:
        return Failure("not_found", "there is no account with this id", "account")
    if found.cardholder_id not in (None, holder.id):
        detail = "the account belongs to another cardholder"
        return Failure("account_of_another", detail, "account")
    if not found.open:
        return Failure("account_not_active", "the account is closed", "account")
    return found


async def _admitted(chunk: Chunk, cards: list[_Card]) -> list[_Card]:
    """The cards whose new accounts may be in their currency; the others fail."""
    refused: dict[str, Conflict] = {}
    foreign = {card.account.currency for card in cards if card.account.made}
    for currency in sorted(foreign - {chunk.program["currency"]}):
        try:
            await owned.admit_currency(chunk.client, chunk.clock, chunk.program["id"], currency)
        except Conflict as error:
            refused[currency] = error
    admitted = []
    for card in cards:
        why = refused.get(card.account.currency) if card.account.made else None
        if why is None:
            admitted.append(card)
        else:
            chunk.fail(card.line, Failure(why.code, str(why), "currency"))
    return admitted


async def _write(chunk: Chunk, cards: list[_Card]) -> None:
    """Everything that is made, with its audit rows and events."""
    at = await chunk.instant()
    holders = {card.holder.id: card.holder for card in cards if card.holder.made}
    accounts = {card.account.id: card.account for card in cards if card.account.made}
    if holders:
        made = await chunk.rows(
            "insert_cardholders",
            at,
            list(holders),
            [holder.external_id for holder in holders.values()],
            [holder.name for holder in holders.values()],
        )
        _demand_all(made, holders)
    if accounts:
        await chunk.rows(
            "insert_accounts",
            at,
            list(accounts),
            [account.cardholder_id for account in accounts.values()],
            [account.currency for account in accounts.values()],
            [account.credit_line for account in accounts.values()],
        )
    made = await chunk.rows(
        "insert_cards",
        at,
        [card.id for card in cards],
        [card.holder.id for card in cards],
        [card.account.id for card in cards],
        [card.entry.external_id for card in cards],
        [card.entry.last4 for card in cards],
    )
    _demand_all(made, cards)
    await _tell(chunk, at, list(holders), list(accounts), [card.id for card in cards])


def _demand_all(made: Sized, wanted: Sized) -> None:
    if len(made) != len(wanted):
        raise TransactionConflict("somebody else made one of them meanwhile", "40001")


async def _tell(
    chunk: Chunk, at: datetime, holders: list[str], accounts: list[str], cards: list[str]
) -> None:
    things: list[tuple[str, Document]] = []
    for name, ids in (("cardholder", holders), ("account", accounts), ("card", cards)):
        rows = await chunk.client.query(_READ[name], [ids]) if ids else []
        things += [(f"{name}.created", owned.DOCUMENTS[name](row)) for row in rows]
    acts = await chunk.audit([(action, None, after) for action, after in things], at)
    told = [
        (act, after)
        for act, (action, after) in zip(acts, things, strict=True)
        if action == "card.created"
    ]
    await chunk.client.query(
        _SQL["announce_cards"],
        [
            outbox_slot(at),
            chunk.program_id,
            at,
            [act for act, _ in told],
            [card["account"][4:] for _, card in told],
            [text_of(card) for _, card in told],
        ],
    )
