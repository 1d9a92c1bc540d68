"""Whatever looks like a card's number is refused, wherever it stands; nothing else is."""

import json
from typing import Any

import pytest

from jitway.errors import InvalidRequest
from jitway.wire.card_numbers import refuse_card_numbers


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"card": "4111111111111111"}, "/card"),
        ({"merchant": {"name": "Shop 5500-0000-0000-0004"}}, "/merchant/name"),
        ({"limits": [{"a": "x"}, {"a": "3782 822463 10005"}]}, "/limits/1/a"),
        ({"metadata": {"6011111111111117": "x"}}, "/metadata"),
        ({"metadata": {"n": "4222222222222"}}, "/metadata/n"),
        ({"network_reference": "PAN4111111111111111"}, "/network_reference"),
    ],
)
def test_a_card_number_is_refused_with_its_place(body: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        refuse_card_numbers(json.dumps(body).encode())
    assert (refused.value.code, refused.value.pointer) == ("card_number_refused", pointer)
    assert not any(part in str(refused.value) for part in ("4111", "5500", "3782", "6011"))


def test_escapes_hide_nothing() -> None:
    with pytest.raises(InvalidRequest):
        refuse_card_numbers(rb'{"card": "\u0034111111111111111"}')


@pytest.mark.parametrize(
    "body",
    [
        {"amount": 4111111111111111},
        {"card": "4111111111111112"},
        {"card": "crd_41111111111111114111111111111111"},
        {"reference": "41111111-1111-4111-8111-111111111111"},
        {"reference": "123456789012", "phone": "+1 202 555 0147"},
        {"at": "1699999999999"},
        {"reference": "4111111111111111ab"},
        {"reference": "a4111111111111111"},
        {"name": "Ada\nArcher"},
    ],
)
def test_what_is_none_goes_through(body: dict[str, Any]) -> None:
    refuse_card_numbers(json.dumps(body).encode())
