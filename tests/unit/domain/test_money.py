"""Currencies and amounts."""

from decimal import Decimal

import pytest

from jitway.domain.money import (
    AMOUNT_MINOR_MAX,
    FRACTION_DIGITS,
    is_currency,
    major_to_minor,
    minor_to_major,
)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.50", "USD", 1250),
        ("12.5", "USD", 1250),
        ("-0.01", "USD", -1),
        ("12", "JPY", 12),
        ("12.345", "KWD", 12345),
        ("0.0001", "CLF", 1),
        ("90071992547409.91", "USD", AMOUNT_MINOR_MAX),
    ],
)
def test_major_units_become_minor_ones_and_back(amount: str, currency: str, minor: int) -> None:
    assert major_to_minor(Decimal(amount), currency) == minor
    assert minor_to_major(minor, currency) == Decimal(amount)
    exponent = minor_to_major(minor, currency).as_tuple().exponent
    assert exponent == -FRACTION_DIGITS[currency]


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("0.001", "USD"), ("0.5", "JPY"), ("NaN", "USD"), ("Infinity", "USD"), ("-Infinity", "USD")],
)
def test_what_is_no_amount_of_a_currency(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"fraction digits|finite"):
        major_to_minor(Decimal(amount), currency)


def test_currencies_are_codes_in_capitals() -> None:
    assert all(is_currency(code) for code in ("USD", "EUR", "JPY", "KWD", "CLF"))
    assert not any(is_currency(code) for code in ("usd", "US", "XXX", "XTS", "", "EURO"))
    assert all(len(code) == 3 and code.isupper() for code in FRACTION_DIGITS)
