"""`Sealer`: what it opens is what was sealed: same id, same version, same ledger, same release."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from jitway.cache import encoding
from jitway.cache.encoding import CARD_FIELDS, Foreign, ProgramEntry, Sealer
from jitway.domain.card import CardView, Level, Validity
from jitway.domain.limits import NO_CONTROLS, Limit, Period, SpendControls

EVERYTHING = SpendControls(
    (Limit(Period.TRANSACTION, 50), Limit(Period.DAY, 2**53, 7)),
    **{
        field.name: frozenset({"5411", field.name})
        for field in fields(SpendControls)
        if field.name != "limits"
    },
)
VIEW = CardView(
    program=Level("program", "prg_1", "active", 3, EVERYTHING),
    cardholder=Level("cardholder", "chd_1", "suspended", 2, NO_CONTROLS),
    card=Level("card", "crd_1", "frozen", 2**40, EVERYTHING),
    account_id="acc_1",
    zone=ZoneInfo("Asia/Kathmandu"),
    validity=Validity(datetime(2026, 3, 29, 1, tzinfo=UTC), None),
)
SEALER = Sealer(b"a ledger")


def test_what_was_sealed_comes_back() -> None:
    card = SEALER.open_card("crd_1", 2**40, SEALER.card(VIEW))
    user = SEALER.open_cardholder("chd_1", 2, SEALER.cardholder(VIEW))
    program = SEALER.open_program("prg_1", 3, SEALER.program(VIEW))
    assert program == ProgramEntry(VIEW.program, VIEW.zone)
    assert user == VIEW.cardholder
    assert (card.card, card.cardholder_id, card.program_id) == (VIEW.card, "chd_1", "prg_1")
    rest = dict(zip(CARD_FIELDS, card.rest, strict=True))
    made = CardView(
        program=program.program, cardholder=user, card=card.card, zone=program.zone, **rest
    )
    assert made == VIEW
    assert made.bounds == VIEW.bounds
    assert made.lists == VIEW.lists


def test_every_field_of_a_view_is_carried() -> None:
    """A field that a decision looks at and that Redis forgets would be a rule that is not asked."""
    carried = {"program", "cardholder", "card", "zone", *CARD_FIELDS}
    assert carried == {field.name for field in fields(CardView) if field.init}


def test_a_card_without_controls_is_small() -> None:
    plain = replace(VIEW, card=replace(VIEW.card, controls=NO_CONTROLS), validity=None)
    assert len(SEALER.card(plain)) < 64
    opened = SEALER.open_card("crd_1", 2**40, SEALER.card(plain))
    assert opened.card.controls is NO_CONTROLS


def test_controls_that_are_equal_are_one_object() -> None:
    first = SEALER.open_card("crd_1", 2**40, SEALER.card(VIEW))
    again = SEALER.open_program("prg_1", 3, SEALER.program(VIEW))
    assert first.card.controls is again.program.controls


@pytest.mark.parametrize(
    ("id_", "version"), [("crd_2", 2**40), ("crd_1", 2**40 - 1), ("crd_1", 2**40 + 1)]
)
def test_another_id_or_version_is_foreign(id_: str, version: int) -> None:
    with pytest.raises(Foreign):
        SEALER.open_card(id_, version, SEALER.card(VIEW))


def test_another_ledger_is_foreign() -> None:
    """A copy of a ledger has the same ids, and soon other controls at the same versions."""
    with pytest.raises(Foreign):
        Sealer(b"its copy").open_card("crd_1", 2**40, SEALER.card(VIEW))


def test_a_release_with_other_controls_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read a limit that it does not know as no limit at all."""
    monkeypatch.setattr(encoding, "_SHAPE", b"another shape")
    other = Sealer(b"a ledger")
    with pytest.raises(Foreign):
        other.open_card("crd_1", 2**40, SEALER.card(VIEW))


def test_every_changed_byte_is_noticed() -> None:
    sealed = SEALER.card(VIEW)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(Foreign):
            SEALER.open_card("crd_1", 2**40, changed)
    for end in range(len(sealed)):
        with pytest.raises(Foreign):
            SEALER.open_card("crd_1", 2**40, sealed[:end])


def test_one_kind_is_not_another() -> None:
    sealed = SEALER.cardholder(VIEW)
    with pytest.raises(Foreign):
        SEALER.open_program("chd_1", 2, sealed)
    with pytest.raises(Foreign):
        SEALER.open_card("chd_1", 2, sealed)
    with pytest.raises(Foreign):
        SEALER.open_cardholder("prg_1", 3, SEALER.program(VIEW))


def test_a_calendar_that_this_machine_does_not_know_is_foreign() -> None:
    class Elsewhere(ZoneInfo):
        key = "Mars/Olympus_Mons"

    sealed = SEALER.program(replace(VIEW, zone=Elsewhere.no_cache("UTC")))
    with pytest.raises(Foreign):
        SEALER.open_program("prg_1", 3, sealed)
