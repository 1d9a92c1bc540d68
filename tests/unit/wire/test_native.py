"""Our own JSON: what is accepted, what is refused, and that it can be read in one way only."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.domain.message import AuthorizationKind, Merchant
from jitway.domain.money import AMOUNT_MINOR_MAX
from jitway.errors import InvalidRequest, MalformedMessage
from jitway.wire import native

LEAST = {"card": "crd_1", "amount": 1250, "currency": "USD"}


def body(**changes: Any) -> bytes:
    return json.dumps(LEAST | changes).encode()


def test_the_least() -> None:
    decoded = native.decode(body())
    assert decoded.request.card == "crd_1"
    assert decoded.request.amount == 1250
    assert decoded.request.currency == "USD"
    assert decoded.request.merchant == Merchant()
    assert decoded.request.kind == AuthorizationKind.PURCHASE
    assert decoded.deadline_ms is None
    assert decoded.canonical == b'{"card":"crd_1","amount":1250,"currency":"USD"}'


def test_everything() -> None:
    decoded = native.decode(
        body(
            merchant={"id": "m-17", "name": "Corner: Books", "mcc": "5942", "country": "US"},
            kind="cash_withdrawal",
            partial_approval=True,
            entry_mode="chip",
            card_present=True,
            network_reference="n1",
            deadline_ms=400,
            metadata={"b": "2", "a": "1"},
        )
    )
    assert decoded.request.merchant == Merchant("m-17", "Corner: Books", "5942", "US")
    assert decoded.request.kind == "cash_withdrawal"
    assert decoded.request.partial_approval
    assert (decoded.request.entry_mode, decoded.request.card_presence) == ("chip", "present")
    assert decoded.deadline_ms == 400
    assert json.loads(decoded.canonical) == LEAST | {
        "merchant": {"id": "m-17", "name": "Corner: Books", "mcc": "5942", "country": "US"},
        "kind": "cash_withdrawal",
        "partial_approval": True,
        "entry_mode": "chip",
        "card_present": True,
        "network_reference": "n1",
        "metadata": {"a": "1", "b": "2"},
    }


@pytest.mark.parametrize(
    "same",
    [
        b'{"currency":"USD","amount":1250,"card":"crd_1"}',
        b' {\n"card" : "crd_1", "amount":1250 ,"currency":"USD"} ',
        b'{"card":"crd_\\u0031","am\\u006funt":1250,"currency":"USD"}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","deadline_ms":5}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","deadline_ms":null}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","kind":"purchase"}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","partial_approval":false}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","entry_mode":null,"card_present":null}',
        b'{"card":"crd_1","amount":1250,"currency":"USD","metadata":{},"merchant":null}',
    ],
)
def test_the_same_request_has_one_canonical_text(same: bytes) -> None:
    assert native.decode(same).canonical == native.decode(body()).canonical


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1251},
        {"kind": "cash_withdrawal"},
        {"merchant": {"mcc": "5942"}},
        {"partial_approval": True},
        {"entry_mode": "manual"},
        {"card_present": False},
        {"metadata": {"a": "1"}},
        {"network_reference": "n"},
    ],
)
def test_another_request_has_another_canonical_text(changes: dict[str, Any]) -> None:
    assert native.decode(body(**changes)).canonical != native.decode(body()).canonical


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'card':1}",
        b'{"card":"crd_1",}',
        b'{"card":"x","amount":NaN,"currency":"USD"}',
        b'{"card":"x","amount":Infinity,"currency":"USD"}',
        b'{"card":"x","amount":01,"currency":"USD"}',
        b'{"card":"x","amount":+1,"currency":"USD"}',
        b'{"card":"x","amount":0x1,"currency":"USD"}',
        b'{"card":"x","amount":1_0,"currency":"USD"}',
        b'{"card":"x","amount":\xd9\xa3,"currency":"USD"}',
        b'{"card":"x\x00","amount":1,"currency":"USD"}',
        b'{"card":"\\ud800","amount":1,"currency":"USD"}',
        b'{"card":"\\udc00\\ud800","amount":1,"currency":"USD"}',
        b'{"card":"\xff","amount":1,"currency":"USD"}',
        b'{"card":"\xed\xa0\x80","amount":1,"currency":"USD"}',
        b'{"card":"\xc0\xaf","amount":1,"currency":"USD"}',
        b'\xef\xbb\xbf{"card":"x","amount":1,"currency":"USD"}',
        body() + b"x",
        body() + body(),
        body()[:-1] + b"/* */}",
        b'{"card":"x","amount":1,"currency":"USD","amount":1}',
        b'{"amount":2,"card":"x","amount":1,"currency":"USD"}',
        b'{"card":"x","amount":1,"currency":"USD","am\\u006funt":1}',
        b'{"card":"x","am\\u006funt":1,"currency":"USD","amount":1}',
        b'{"card":"x","amount":1,"currency":"USD","merchant":{"mcc":"1234","mcc":"1234"}}',
        b'{"card":"x","amount":1,"currency":"USD","merchant":{"id":":","id":"::"}}',
        b'{"card":"x","amount":1,"currency":"USD","metadata":{"a":"1","a":"1"}}',
        b'{"card":"x","amount":1,"currency":"USD","metadata":{},"metadata":{}}',
        b'{"card":"x","amount":1,"currency":"USD","metadata":{"a":"1"},"metadata":{}}',
        b'{"card":"x","amount":1,"currency":"USD","deadline_ms":5,"deadline_ms":5}',
        b'{"card":"x","amount":1,"currency":"USD","kind":"purchase","kind":"purchase"}',
    ],
)
def test_what_is_no_message(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        native.decode(raw)


_TOO_DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b"null", None),
        (b"[]", None),
        (b'"text"', None),
        (_TOO_DEEP, None),
        (b'{"z":' + _TOO_DEEP, "/z"),
        (body()[:-1] + b',"metadata":' + b'{"a":' * 100_000, "/metadata"),
        (b'{"amount":1,"currency":"USD"}', "/card"),
        (body(amount="1250"), "/amount"),
        (body(amount=12.5), "/amount"),
        (body(amount=1250.0), "/amount"),
        (b'{"card":"x","amount":1e2,"currency":"USD"}', "/amount"),
        (b'{"card":"x","amount":-0,"currency":"USD"}', "/amount"),
        (body(amount=True), "/amount"),
        (body(amount=None), "/amount"),
        (body(amount=[1]), "/amount"),
        (body(amount=0), "/amount"),
        (body(amount=-1), "/amount"),
        (body(amount=AMOUNT_MINOR_MAX + 1), "/amount"),
        (body(amount=2**63), "/amount"),
        (body(amount=2**64), "/amount"),
        (b'{"card":"x","amount":' + b"9" * 5000 + b',"currency":"USD"}', "/amount"),
        (body(currency="usd"), "/currency"),
        (body(currency="USX"), "/currency"),
        (body(currency="USD\n"), "/currency"),
        (body(currency=840), "/currency"),
        (body(card=""), "/card"),
        (body(card="x" * 65), "/card"),
        (body(card="a b"), "/card"),
        (body(card="a\n"), "/card"),
        (body(card="a\u0000"), "/card"),
        (body(card="crd_\u202e1"), "/card"),
        (body(card="\u0421rd"), "/card"),
        (body(card="4111111111111111"), "/card"),
        (body(merchant=[]), "/merchant"),
        (body(merchant={"mcc": "594"}), "/merchant/mcc"),
        (body(merchant={"mcc": "5942\n"}), "/merchant/mcc"),
        (body(merchant={"mcc": "\u0665\u0669\u0664\u0662"}), "/merchant/mcc"),
        (body(merchant={"mcc": 5942}), "/merchant/mcc"),
        (body(merchant={"country": "us"}), "/merchant/country"),
        (body(merchant={"country": "USA"}), "/merchant/country"),
        (body(merchant={"name": "a\u0000b"}), "/merchant/name"),
        (body(merchant={"name": "a\x1b[31m"}), "/merchant/name"),
        (body(merchant={"name": "x" * 201}), "/merchant/name"),
        (body(merchant={"id": ""}), "/merchant/id"),
        (body(merchant={"acceptor": "x"}), "/merchant/acceptor"),
        (body(kind="refund"), "/kind"),
        (body(kind=None), "/kind"),
        (body(kind="account_verification", amount=1), "/amount"),
        (body(kind="account_verification", amount=-1), "/amount"),
        (body(kind="balance_inquiry", amount=-1), "/amount"),
        (body(kind="cash_withdrawal", amount=0), "/amount"),
        (body(partial_approval=1), "/partial_approval"),
        (body(partial_approval=None), "/partial_approval"),
        (body(entry_mode="telex"), "/entry_mode"),
        (body(entry_mode=["chip"]), "/entry_mode"),
        (body(card_present="yes"), "/card_present"),
        (body(card_present=1), "/card_present"),
        (body(deadline_ms=0), "/deadline_ms"),
        (body(deadline_ms=1.5), "/deadline_ms"),
        (body(deadline_ms=600_001), "/deadline_ms"),
        (body(metadata={"a": 1}), "/metadata"),
        (body(metadata={"a\n": "1"}), "/metadata"),
        (body(metadata={"a": "x" * 501}), "/metadata"),
        (body(metadata={str(n): "1" for n in range(51)}), "/metadata"),
        (body(extra=1), "/extra"),
        (body(**{"a/b~c\n": 1}), "/a~1b~0c?"),
        (body(**{"n" * 3000: 1}), "/" + "n" * 64),
    ],
)
def test_what_is_wrong_is_named(raw: bytes, pointer: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        native.decode(raw)
    assert refused.value.pointer == pointer
    assert not isinstance(refused.value, MalformedMessage)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (body(extra=1), "unknown_field"),
        (b'{"card":"x","amount":1}', "missing_field"),
        (body(card="4111111111111111"), "card_number_refused"),
        (body(amount=-1), "invalid_request"),
    ],
)
def test_codes(raw: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        native.decode(raw)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("changes", "presence"),
    [
        ({}, None),
        ({"card_present": True}, "present"),
        ({"card_present": False}, "not_present"),
        ({"entry_mode": "contactless"}, "present"),
        ({"entry_mode": "recurring"}, "not_present"),
        ({"entry_mode": "manual"}, None),
        ({"entry_mode": "other", "card_present": None}, None),
        # What is said counts, whatever the way of reading implies.
        ({"entry_mode": "ecommerce", "card_present": True}, "present"),
        ({"entry_mode": "chip", "card_present": False}, "not_present"),
    ],
)
def test_how_the_card_was_read_says_whether_it_was_there(
    changes: dict[str, Any], presence: str | None
) -> None:
    request = native.decode(body(**changes)).request
    assert (request.entry_mode, request.card_presence) == (changes.get("entry_mode"), presence)


def test_what_reserves_nothing_may_have_no_amount() -> None:
    verified = native.decode(body(kind="account_verification", amount=0)).request
    assert (verified.kind, verified.amount) == ("account_verification", 0)
    # Of an inquiry the amount is not looked at.
    for amount in (0, 100):
        assert native.decode(body(kind="balance_inquiry", amount=amount)).request.amount == amount


@pytest.mark.parametrize("card", ["nobody", "x", "!" * 64, '"', "\\", "4111111111111112", "{}"])
def test_a_card_may_be_any_visible_text(card: str) -> None:
    assert native.decode(body(card=card)).request.card == card


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=8) | st.none() | st.integers()),
    st.booleans(),
)
def test_whatever_is_accepted_reads_the_same_to_everybody(
    metadata: dict[str, Any], is_escaped: bool
) -> None:
    """The canonical text means what an ordinary reader finds in the body."""
    raw = json.dumps(LEAST | {"metadata": metadata}, ensure_ascii=is_escaped)
    try:
        decoded = native.decode(raw.encode(errors="surrogatepass"))
    except InvalidRequest:
        return
    expected = LEAST | ({"metadata": metadata} if metadata else {})
    assert json.loads(decoded.canonical) == expected


@given(
    st.lists(
        st.sampled_from(
            [
                '"card":"crd_1"',
                '"amount":1250',
                '"am\\u006funt":1250',
                '"currency":"USD"',
                '"metadata":{"a":":"}',
                '"merchant":{"name":"a: b"}',
                '"deadline_ms":9',
                '"kind":"purchase"',
                '"entry_mode":null',
                '"card_present":null',
                '"partial_approval":false',
            ]
        ),
        max_size=8,
    )
)
def test_no_member_ever_stands_twice(members: list[str]) -> None:
    raw = "{" + ",".join(members) + "}"
    pairs: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=list)
    stands_twice = len(pairs) != len({name for name, _ in pairs})
    try:
        native.decode(raw.encode())
    except InvalidRequest:
        return
    assert not stands_twice
