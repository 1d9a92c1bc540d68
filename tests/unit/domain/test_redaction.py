"""Card data and secrets are taken out, and nothing else is changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.domain.redaction import REDACTED, has_check_digit, redact, redact_text

CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117"]


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_masked_wherever_it_stands(card: str) -> None:
    masked = "*" * (len(card) - 4) + card[-4:]
    grouped = " ".join(card[place : place + 4] for place in range(0, len(card), 4))
    assert redact_text(f"pay with {card}!") == f"pay with {masked}!"
    assert card not in redact_text(f"x{card}y")
    assert redact_text(grouped) == masked
    assert redact_text(grouped.replace(" ", "-")) == masked
    assert redact([{"note": card}, int(card)]) == [{"note": masked}, masked]
    assert redact({card: 1}) == {masked: 1}


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # no check digit
        "1732290000004",  # milliseconds
        "crd_01997532290000123411111111111111",
        "41111111-1111-4111-8111-111111111111",
        "evt_4111111111111111aaaaaaaaaaaaaaaa",
        "12.50",
        "411111111111",
    ],
)
def test_what_is_no_card_number_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["pan", "PAN", "card_number", "cardNumber", "cvv2", "pin_block", "Track-2", "password"]
)
def test_a_secret_member_is_replaced_whole(name: str) -> None:
    assert redact({name: "12"}) == {name: REDACTED}
    assert redact({name: {"a": 1}}) == {name: REDACTED}
    assert redact({name: None}) == {name: None}


def test_the_rest_stays_as_it_is() -> None:
    document = {"id": "evt_1", "n": [1, True, None, 1.5], "card": {"last4": "4242"}}
    assert redact(document) == document


def test_what_is_nested_too_deep_is_not_looked_through() -> None:
    value: object = CARDS[0]
    for _ in range(40):
        value = [value]
    assert CARDS[0] not in repr(redact(value))


@given(st.text(alphabet="0123456789", min_size=11, max_size=17), st.sampled_from("23456789"))
def test_no_number_with_a_check_digit_is_left(digits: str, first: str) -> None:
    body = first + digits
    (last,) = [digit for digit in "0123456789" if has_check_digit(body + digit)]
    assert body + last not in redact_text(f"{body}{last}") or len(body) + 1 < 13
