"""`bulk.py`: a file of lines, as CSV or NDJSON, one thing to do on each.

Owns the members of a line, and how a line of either form becomes one. A line that cannot be read is
kept with the reason; only a file that is no such file at all is refused as a whole.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from jitway.errors import InvalidRequest
from jitway.wire.bodies import Body, check_external_id, decode_body
from jitway.wire.forms import (
    Amount,
    AmountOrZero,
    Currency,
    Id,
    LongText,
    ShortText,
    Text,
    check_currency,
    refuse_card_number,
)

LINES_MAX = 100_000
LINE_BYTES_MAX = 16_384

CSV, NDJSON = "csv", "ndjson"

_WHOLE = ("amount", "credit_line")
# As many digits as JSON's whole numbers surely have; a longer one stays a text, and is refused.
_is_whole = re.compile(r"-?[0-9]{1,18}|[0-9]{19}", re.ASCII).fullmatch


class CardLine(Body, frozen=True):
    """One card, with its cardholder and account where they are missing."""

    external_id: ShortText
    cardholder: Id | None = None
    cardholder_external_id: ShortText | None = None
    cardholder_name: Text | None = None
    account: Id | None = None
    currency: Currency | None = None
    credit_line: AmountOrZero = 0
    last4: Annotated[str, Meta(pattern=r"\A[0-9]{4}\Z")] | None = None

    @property
    def own_key(self) -> str:
        """What the line is known by."""
        return self.external_id

    def check(self) -> None:
        """Refuses a line that says one thing twice, or not at all."""
        check_external_id(self.external_id)
        if (self.cardholder is None) == (self.cardholder_external_id is None):
            raise InvalidRequest(
                "name the cardholder by cardholder or by cardholder_external_id",
                "/cardholder_external_id",
            )
        if self.cardholder_external_id is not None:
            refuse_card_number(self.cardholder_external_id, "/cardholder_external_id")
        if self.currency is not None:
            check_currency(self.currency)
            if self.account is not None:
                raise InvalidRequest("an account that is named has its currency", "/currency")
        if self.credit_line and self.account is not None:
            raise InvalidRequest("an account that is named has its credit line", "/credit_line")


class FundingLine(Body, frozen=True):
    """One deposit."""

    key: ShortText
    amount: Amount
    account: Id | None = None
    card_external_id: ShortText | None = None
    description: LongText | None = None

    @property
    def own_key(self) -> str:
        """What the line is known by."""
        return self.key

    def check(self) -> None:
        """Refuses a line that names its account twice, or not at all."""
        if (self.account is None) == (self.card_external_id is None):
            raise InvalidRequest("name the account by account or by card_external_id", "/account")


LINES: Mapping[str, type[CardLine | FundingLine]] = {"cards": CardLine, "funding": FundingLine}


class Read(NamedTuple):
    """One line of a file.

    Args:
        number: of the line, from one.
        entry: what it says; None when it cannot be read.
        refused: why not.
    """

    number: int
    entry: CardLine | FundingLine | None
    refused: InvalidRequest | None


def read_lines(kind: str, form: str, raw: bytes) -> list[Read]:
    """The lines of a file.

    Args:
        kind: `cards` or `funding`.
        form: `csv`, whose first line names the columns, or `ndjson`.
        raw: the whole file.

    Raises:
        InvalidRequest: it is not text, has no lines or too many, or is no CSV with known columns.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("the file is not UTF-8 text") from None
    lines = _csv_lines(LINES[kind], text) if form == CSV else _ndjson_lines(LINES[kind], text)
    found: list[Read] = []
    for line in lines:
        if len(found) == LINES_MAX:
            raise InvalidRequest(f"a file has at most {LINES_MAX} lines: send it in parts")
        found.append(line)
    if not found:
        raise InvalidRequest("the file has no lines")
    return found


def _ndjson_lines(line: type[CardLine | FundingLine], text: str) -> Iterator[Read]:
    for number, one in enumerate(text.split("\n"), 1):
        if not one.strip():
            continue
        try:
            yield Read(number, decode_body(line, _bounded(one)), None)
        except InvalidRequest as error:
            yield Read(number, None, error)


def _bounded(one: str) -> bytes:
    raw = one.encode()
    if len(raw) > LINE_BYTES_MAX:
        raise InvalidRequest(f"a line has at most {LINE_BYTES_MAX} bytes")
    return raw


def _csv_lines(line: type[CardLine | FundingLine], text: str) -> Iterator[Read]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(rows, [])]
        _check_columns(line, columns)
        while True:
            number = rows.line_num + 1
            if (cells := next(rows, None)) is None:
                return
            if any(cells):
                yield _csv_line(line, number, columns, cells)
    except csv.Error as error:
        raise InvalidRequest(f"line {rows.line_num} is no CSV: {error}") from None


def _check_columns(line: type[CardLine | FundingLine], columns: list[str]) -> None:
    known = line.__struct_fields__
    if not columns:
        raise InvalidRequest("the file has no lines")
    for name in columns:
        if name not in known:
            raise InvalidRequest(
                f"{name[:64]!r} is no column here: there are {', '.join(known)}",
                code="unknown_field",
            )
    if len(set(columns)) != len(columns):
        raise InvalidRequest("a column stands twice")


def _csv_line(
    line: type[CardLine | FundingLine], number: int, columns: list[str], cells: list[str]
) -> Read:
    try:
        if len(cells) != len(columns):
            said = f"the line has {len(cells)} cells, and there are {len(columns)} columns"
            raise InvalidRequest(said)
        return Read(number, _converted(line, dict(zip(columns, cells, strict=True))), None)
    except InvalidRequest as error:
        return Read(number, None, error)


def _converted(
    line: type[CardLine | FundingLine], cells: Mapping[str, str]
) -> CardLine | FundingLine:
    members: dict[str, Any] = {name: cell for name, cell in cells.items() if cell}
    for name in _WHOLE:
        if name in members and _is_whole(members[name]):
            members[name] = int(members[name])
    # Through the one decoder, so that a cell is refused for whatever a member is refused for.
    return decode_body(line, msgspec.json.encode(members))
