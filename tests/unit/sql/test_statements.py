"""Named statements: how a file is read, and what a file may not be."""

import pytest

from jitway.sql import parse_statements, statements


def test_a_block_is_a_name_reasons_and_one_statement() -> None:
    found = parse_statements(
        "-- About the file.\n\n"
        "-- name: lock_accounts\n-- Why.\n-- More why.\n"
        "SELECT 1 -- kept\n  -- kept too\nFROM t;\n\n"
        "-- name: second\nSELECT 2\n"
    )
    assert dict(found) == {
        "lock_accounts": "SELECT 1 -- kept\n  -- kept too\nFROM t",
        "second": "SELECT 2",
    }
    with pytest.raises(TypeError):
        found["third"] = "SELECT 3"  # type: ignore[index]  # that it cannot be is what is tested


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("-- name: a\nSELECT 1\n-- name: a\nSELECT 2", "two statements are named a"),
        ("-- name: a\n-- Only a reason.\n", "a holds no statement"),
        ("SELECT 1\n-- name: a\nSELECT 2", "SQL before the first"),
        ("-- name: Lock-Accounts\nSELECT 1", "a header is"),
        ("-- name lock\nSELECT 1", "a header is"),
    ],
)
def test_a_file_that_could_be_misread_is_refused(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        parse_statements(text)


def test_the_statements_of_the_product_are_there() -> None:
    ledger = statements("ledger")
    assert "lock_accounts" in ledger
    assert ledger is statements("ledger"), "read once"
    with pytest.raises(FileNotFoundError):
        statements("nowhere")
