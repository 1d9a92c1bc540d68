"""Files of lines: what CSV and NDJSON say alike, and what is refused as a whole."""

import json

import pytest

from jitway.errors import InvalidRequest
from jitway.wire import bulk
from jitway.wire.bulk import CardLine, FundingLine, read_lines


def csv(kind: str, *lines: str) -> list[bulk.Read]:
    return read_lines(kind, "csv", "\r\n".join(lines).encode())


def test_both_forms_say_the_same() -> None:
    members = {"external_id": "c-1", "cardholder_external_id": "h-1", "credit_line": 500}
    (line,) = csv("cards", "external_id,cardholder_external_id,credit_line,last4", "c-1,h-1,500,")
    (same,) = read_lines("cards", "ndjson", json.dumps(members).encode())
    assert line.entry == same.entry == CardLine(**members)  # type: ignore[arg-type]  # of many types
    assert line.entry is not None
    assert same.entry is not None
    assert line.entry.canonical() == same.entry.canonical()
    assert (line.number, same.number) == (2, 1)


def test_lines_are_numbered_as_an_editor_does() -> None:
    lines = csv(
        "funding",
        "\ufeffkey,account,amount,description",
        'a,acc_1,1,"two',
        'lines"',
        "",
        "b,acc_1,2,",
    )
    assert [line.number for line in lines] == [2, 5]
    lines = read_lines("funding", "ndjson", b'\n{"key":"a","account":"x","amount":1}\r\n\n{')
    assert [(line.number, line.entry is None) for line in lines] == [(2, False), (4, True)]


@pytest.mark.parametrize(
    "amount", ["1.5", "1e3", "0", "-1", "+1", " 1", "1_0", "٣", "9" * 19, "9" * 40]
)
def test_an_amount_is_a_whole_number_of_minor_units(amount: str) -> None:
    (line,) = csv("funding", "key,account,amount", f"a,acc_1,{amount}")
    assert line.entry is None
    assert line.refused is not None
    assert line.refused.pointer == "/amount"


@pytest.mark.parametrize("amount", ["-" + "9" * 18, "-" + "9" * 19])
def test_an_amount_far_below_nothing_is_refused_in_its_line(amount: str) -> None:
    (line,) = csv("funding", "key,account,amount", f"a,acc_1,{amount}")
    assert line.refused is not None
    assert line.refused.pointer == "/amount"


@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("member", ["key", "account", "card_external_id", "description"])
@pytest.mark.parametrize("number", ["4111111111111111", "4111-1111-1111-1111"])
def test_a_card_number_is_refused_in_either_form(form: str, member: str, number: str) -> None:
    members = {"key": "k", "amount": "1", "description": "d"}
    members["card_external_id" if member == "card_external_id" else "account"] = "x"
    members[member] = number
    if form == "csv":
        first, refused = csv("funding", ",".join(members), "a,2,d,x", ",".join(members.values()))
        assert first.entry is not None
    else:
        raw = json.dumps(members | {"amount": 1}).encode()
        (refused,) = read_lines("funding", "ndjson", raw)
    assert refused.entry is None
    assert refused.refused is not None
    assert (refused.refused.code, refused.refused.pointer) == ("card_number_refused", f"/{member}")
    assert number not in str(refused.refused)


def test_a_line_of_the_wrong_length_is_refused_alone() -> None:
    lines = csv("funding", "key,account,amount", "a,acc_1", "b,acc_1,1,2", "c,acc_1,3")
    assert [line.entry for line in lines[:2]] == [None, None]
    assert lines[2].entry == FundingLine("c", 3, "acc_1")


@pytest.mark.parametrize(
    ("form", "raw", "said"),
    [
        ("csv", b"", "no lines"),
        ("csv", b"key,account,amount\n", "no lines"),
        ("csv", b"key,account,posted\na,b,1\n", "'posted' is no column"),
        ("csv", b"key,key,amount\na,b,1\n", "stands twice"),
        ("csv", b'key,account,amount\n"a,b,1\n', "no CSV"),
        ("csv", b"\xff\xfe", "not UTF-8"),
        ("ndjson", b"\n \n", "no lines"),
    ],
)
def test_what_is_no_file_of_lines_is_refused_as_a_whole(form: str, raw: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_lines("funding", form, raw)


def test_a_line_and_a_file_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    long = b'{"key":"' + b"a" * bulk.LINE_BYTES_MAX + b'"}'
    assert read_lines("funding", "ndjson", long)[0].entry is None
    monkeypatch.setattr(bulk, "LINES_MAX", 2)
    one = b'{"key":"a","account":"x","amount":1}\n'
    assert len(read_lines("funding", "ndjson", one * 2)) == 2
    with pytest.raises(InvalidRequest, match="in parts"):
        read_lines("funding", "ndjson", one * 3)
