"""`administration.py`: the bodies that change what was made, and those of keys.

In a change, a member that is absent leaves the field as it is; null takes its value away. Owns
members, forms and bounds.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, UnsetType

from jitway.errors import InvalidRequest
from jitway.wire.bodies import Body, check_external_id, validity_of
from jitway.wire.forms import AmountOrZero, Id, LongText, MomentText, ShortText, Text

Last4 = Annotated[str, Meta(pattern=r"\A[0-9]{4}\Z")]
Instant = Annotated[datetime, Meta(tz=True)]


class Change(Body, frozen=True, kw_only=True):
    """What every change may say beside its fields."""

    reason: LongText | None = None

    def changes(self) -> dict[str, Any]:
        """The fields that were sent, with what they shall be."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        del members["reason"]
        return {name: value for name, value in members.items() if value is not UNSET}


class ProgramChange(Change, frozen=True, kw_only=True):
    """`PATCH /v1/programs/{id}`."""

    name: Text | UnsetType = UNSET


class CardholderChange(Change, frozen=True, kw_only=True):
    """`PATCH /v1/cardholders/{id}`."""

    external_id: ShortText | UnsetType | None = UNSET
    name: Text | UnsetType | None = UNSET

    def check(self) -> None:
        """Refuses an external id that looks like a card's number."""
        check_external_id(self.external_id or None)


class AccountChange(Change, frozen=True, kw_only=True):
    """`PATCH /v1/accounts/{id}`."""

    credit_line: AmountOrZero | UnsetType = UNSET


class CardChange(Change, frozen=True, kw_only=True):
    """`PATCH /v1/cards/{id}`."""

    external_id: ShortText | UnsetType | None = UNSET
    last4: Last4 | UnsetType | None = UNSET
    valid_from: MomentText | UnsetType | None = UNSET
    valid_until: MomentText | UnsetType | None = UNSET

    def changes(self) -> dict[str, Any]:
        """The fields that were sent; instants and dates are read."""
        found = super().changes()
        for name in ("valid_from", "valid_until"):
            if name in found:
                found[name] = validity_of(found[name], name)
        return found

    def check(self) -> None:
        """Refuses an external id that looks like a card's number."""
        check_external_id(self.external_id or None)


class Key(Body, frozen=True):
    """`POST /v1/keys`; without a program, one of the caller's."""

    scopes: Annotated[
        list[Literal["authorize", "read", "operate", "admin"]], Meta(min_length=1, max_length=4)
    ]
    program: Id | None = None
    name: Text | None = None
    expires_at: Instant | None = None
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses an end that is out of the calendar."""
        _check_instant(self.expires_at, "/expires_at")


class Rotation(Body, frozen=True):
    """`POST /v1/keys/{id}/rotate`; the body may be absent."""

    MAY_BE_ABSENT: ClassVar[bool] = True

    until: Instant | None = None
    reason: LongText | None = None

    def check(self) -> None:
        """Refuses an end that is out of the calendar."""
        _check_instant(self.until, "/until")


def _check_instant(instant: datetime | None, pointer: str) -> None:
    """Refuses what an offset moves beyond the first year or the last, where UTC has no date."""
    try:
        if instant is not None:
            instant.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest("the instant is out of the calendar", pointer) from None
