"""`bulk_funding.py`: money for many accounts at once, each line a deposit of its own.

A line is known by its own key, in its program and for good: the transfer it made stays beside it.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol, cast

from jitway.clock import id_digits
from jitway.domain.card import Account
from jitway.domain.transfer import BALANCE_MINOR_MAX, CHART, TransferKind, apply
from jitway.errors import StatementRefused
from jitway.gateway.bulk_chunk import Chunk
from jitway.gateway.bulk_lines import MADE, UNCHANGED, Failure, Line
from jitway.gateway.caller import DIGEST_BYTES
from jitway.gateway.fund import standing
from jitway.ledger.journal import KeyTaken, outbox_slot

_ACTION = "account.deposited"


class FundingEntry(Protocol):
    """What one line asks for."""

    @property
    def own_key(self) -> str:
        """What the line is known by."""

    @property
    def account(self) -> str | None:
        """`acc_...`."""

    @property
    def card_external_id(self) -> str | None:
        """Of a card whose account it is, where that is not named."""

    @property
    def amount(self) -> int:
        """Minor units."""

    @property
    def description(self) -> str | None:
        """The caller's words, kept with the transfer."""

    def canonical(self) -> bytes:
        """The one text of everything that it asks."""


@dataclass(slots=True)
class _Deposit:
    id: str
    line: Line
    entry: FundingEntry
    key: bytes
    content: bytes
    account: Account
    account_version: int
    before: dict[str, Any]
    after: dict[str, Any]


class FundingWork:
    """Deposits money."""

    kind = "funding"

    async def take(self, chunk: Chunk) -> None:
        """Makes the deposits of a chunk that were not made before."""
        entries = [(line, cast("FundingEntry", line.entry)) for line in chunk.lines]
        targets = await _targets(chunk, [entry for _, entry in entries])
        accounts = await _locked(chunk, targets)
        read = {id_: account.version for id_, account in accounts.items()}
        keys = [_digest(entry.own_key.encode()) for _, entry in entries]
        rows = await chunk.rows("known_lines", keys)
        known = {row["key"]: row for row in rows}
        deposits: list[_Deposit] = []
        for (line, entry), key, target in zip(entries, keys, targets, strict=True):
            content = _digest(entry.canonical())
            if key in known:
                _recall(chunk, line, known[key], content)
            elif (account := accounts.get(target or "")) is None:
                chunk.fail(line, _nowhere(entry))
            elif (failure := _impossible(account, entry.amount)) is not None:
                chunk.fail(line, failure)
            else:
                deposits.append(_booked(chunk, line, entry, (key, content), account))
        if deposits:
            await _write(chunk, deposits, read)
        for deposit in deposits:
            chunk.settle(deposit.line, MADE, deposit.id)


async def _targets(chunk: Chunk, entries: list[FundingEntry]) -> list[str | None]:
    """The digits of the account that each line is for, whether or not it is there."""
    names = sorted({entry.card_external_id or "" for entry in entries} - {""})
    rows = await chunk.rows("accounts_of_cards", names) if names else []
    by_name = {row["external_id"]: row["account_id"].hex for row in rows}
    return [
        id_digits(entry.account, "acc")
        if entry.account is not None
        else by_name.get(entry.card_external_id)
        for entry in entries
    ]


async def _locked(chunk: Chunk, targets: list[str | None]) -> dict[str, Account]:
    wanted = sorted({target for target in targets if target is not None})
    rows = await chunk.rows("lock_accounts", wanted)
    return {
        row["id"].hex: Account(
            f"acc_{row['id'].hex}",
            row["currency"],
            row["state"],
            row["posted"],
            row["held"],
            row["floor"],
            row["shortfall"],
            row["version"],
        )
        for row in rows
    }


def _recall(chunk: Chunk, line: Line, known: dict[str, Any], content: bytes) -> None:
    transfer_id = f"trf_{known['transfer_id'].hex}"
    if known["content"] == content:
        chunk.settle(line, UNCHANGED, transfer_id)
        return
    detail = "this key was used with other content"
    chunk.fail(line, Failure("idempotency_conflict", detail, "key", transfer_id))


def _nowhere(entry: FundingEntry) -> Failure:
    if entry.account is not None:
        return Failure("not_found", "there is no account with this id", "account")
    return Failure("not_found", "there is no card with this external id", "card_external_id")


def _impossible(account: Account, amount: int) -> Failure | None:
    if account.state == "closed":
        return Failure("account_not_active", "the account is closed", "account")
    if account.posted + amount > BALANCE_MINOR_MAX:
        return Failure("balance_out_of_bounds", "the balance would be too large", "amount")
    return None


def _booked(
    chunk: Chunk, line: Line, entry: FundingEntry, digests: tuple[bytes, bytes], account: Account
) -> _Deposit:
    transfer_id = chunk.clock.new_id("trf")
    before = standing(chunk.program["id"], account)
    apply(account, TransferKind.DEPOSIT, entry.amount)
    moved = {"transfer": transfer_id, "amount": entry.amount}
    after = standing(chunk.program["id"], account) | moved
    return _Deposit(transfer_id, line, entry, *digests, account, account.version, before, after)


async def _write(chunk: Chunk, deposits: list[_Deposit], read: dict[str, int]) -> None:
    at = await chunk.instant()
    changed = {deposit.account.id: deposit.account for deposit in deposits}
    rows = await chunk.rows(
        "fund",
        [deposit.key for deposit in deposits],
        [deposit.content for deposit in deposits],
        [deposit.id[4:] for deposit in deposits],
        at,
        [deposit.account.id[4:] for deposit in deposits],
        [deposit.entry.amount for deposit in deposits],
        [deposit.account.currency for deposit in deposits],
        [deposit.account_version for deposit in deposits],
        [deposit.entry.description for deposit in deposits],
        outbox_slot(at),
        CHART[TransferKind.DEPOSIT].event,
        [id_[4:] for id_ in changed],
        [read[id_[4:]] for id_ in changed],
        [account.version for account in changed.values()],
        [account.posted for account in changed.values()],
        [account.shortfall for account in changed.values()],
    )
    counts = rows[0]
    if counts["lines"] != len(deposits):
        raise KeyTaken
    wanted = (len(deposits), len(deposits), len(deposits), len(changed))
    if tuple(counts.values()) != wanted:
        raise StatementRefused("a deposit found no row of its account", "XX000")
    await chunk.audit([(_ACTION, deposit.before, deposit.after) for deposit in deposits], at)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
