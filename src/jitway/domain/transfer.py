"""`transfer.py`: the chart of accounts and what each kind of transfer moves. Pure.

A transfer has one debit and one credit of equal amount: a funding account and, on the other side,
a system account of its program. A transfer of the layer `posted` moves money; one of the layer
`pending` gives back what a hold reserved, against the promise made to the network.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from json import dumps

from jitway.domain.card import Account
from jitway.domain.instant import instant_text

# Kept by the schema as well, far from what 64 bits can hold.
BALANCE_MINOR_MAX = 1_000_000_000_000_000_000


class TransferKind(StrEnum):
    """Why money moved, or a hold gave it back."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    CAPTURE = "capture"
    REVERSAL = "reversal"
    EXPIRY = "expiry"
    ABANDONMENT = "abandonment"


class SystemCode(StrEnum):
    """The program's own accounts that transfers use so far; they store no balance."""

    PROGRAM_FUNDING = "program_funding"
    NETWORK_SETTLEMENT = "network_settlement"


SYSTEM_CODES = ("program_funding", "network_settlement", "fees", "disputes", "fx")


class Layer(StrEnum):
    """Whether a transfer moves money or only a reservation of it."""

    POSTED = "posted"
    PENDING = "pending"


class Side(StrEnum):
    """Of a transfer."""

    DEBIT = "debit"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class Policy:
    """How one kind of transfer is booked.

    Args:
        layer: moves money, or a reservation.
        system: the other side.
        side: the funding account's.
        event: the routing key of what is announced.
    """

    layer: Layer
    system: SystemCode
    side: Side
    event: str

    @property
    def sign(self) -> int:
        """What one minor unit does to the funding account's posted balance."""
        if self.layer is Layer.PENDING:
            return 0
        return 1 if self.side is Side.CREDIT else -1


_FUNDING = SystemCode.PROGRAM_FUNDING
_NETWORK = SystemCode.NETWORK_SETTLEMENT

CHART: dict[TransferKind, Policy] = {
    TransferKind.DEPOSIT: Policy(Layer.POSTED, _FUNDING, Side.CREDIT, "transaction.deposited"),
    TransferKind.WITHDRAWAL: Policy(Layer.POSTED, _FUNDING, Side.DEBIT, "transaction.withdrawn"),
    TransferKind.CAPTURE: Policy(Layer.POSTED, _NETWORK, Side.DEBIT, "transaction.captured"),
    TransferKind.REVERSAL: Policy(Layer.PENDING, _NETWORK, Side.CREDIT, "transaction.reversed"),
    TransferKind.EXPIRY: Policy(Layer.PENDING, _NETWORK, Side.CREDIT, "transaction.expired"),
    TransferKind.ABANDONMENT: Policy(Layer.PENDING, _NETWORK, Side.CREDIT, "transaction.abandoned"),
}


def apply(account: Account, kind: TransferKind, amount: int, *, held_change: int = 0) -> None:
    """Books one transfer on its funding account: the account's next version.

    Args:
        account: under its lock.
        kind: of the transfer.
        amount: minor units, more than zero.
        held_change: minor units, never above zero; all of it comes from one hold.
    """
    assert amount > 0 >= held_change
    assert account.held + held_change >= 0
    account.posted += CHART[kind].sign * amount
    account.held += held_change
    account.version += 1
    # What facts took below the floor is forgotten as far as the account climbs back over it.
    account.shortfall = min(
        account.shortfall, max(0, account.floor - account.posted + account.held)
    )


def transfer_body(  # noqa: PLR0913 one argument for each field of the answer
    *,
    id: str,  # noqa: A002 the field's name
    kind: str,
    authorization: str | None,
    account: str,
    amount: int,
    currency: str,
    account_version: int,
    created_at: datetime,
    description: str | None,
) -> str:
    """A transfer as the API writes it, as compact JSON in the documented order of fields.

    Args:
        id: `trf_...`.
        kind: of the transfer.
        authorization: `aut_...`, where it belongs to one.
        account: `acc_...`, the funding account.
        amount: minor units.
        currency: ISO 4217.
        account_version: that it made.
        created_at: in UTC.
        description: the caller's words.
    """
    authorization_json = "null" if authorization is None else f'"{authorization}"'
    return (
        f'{{"id":"{id}","kind":"{kind}","authorization":{authorization_json},'
        f'"account":"{account}","amount":{amount},"currency":"{currency}",'
        f'"account_version":{account_version},"created_at":"{instant_text(created_at)}",'
        f'"description":{dumps(description)}}}'
    )
