"""Instants in and out."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from jitway.domain.instant import instant_text, parse_instant


def test_texts_sort_like_their_instants() -> None:
    instants = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n) for n in (0, 1, 10**6)]
    texts = [instant_text(one) for one in instants]
    assert texts == sorted(texts)
    assert texts[0] == "2026-01-01T00:00:00.000000Z"
    assert [parse_instant(text) for text in texts] == instants


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00Z",
        "2026-03-01t12:00:00z",
        "2026-03-01 12:00:00Z",
        "2026-03-01T12:00:00.000Z",
        "2026-03-01T13:00:00+01:00",
        "2026-03-01T06:30:00-05:30",
    ],
)
def test_forms_of_one_instant(text: str) -> None:
    parsed = parse_instant(text)
    assert parsed == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-01",
        "2026-03-01T12:00:00",
        "2026-W09-7T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-01T25:00:00Z",
        "yesterday, at about noon",
        "20260301T120000Z00000",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\u0662026-03-01T12:00:00Z",
    ],
)
def test_what_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 the caller adds the field's name
        parse_instant(text)


def test_an_offset_of_another_zone_is_turned_into_utc() -> None:
    zone = timezone(timedelta(hours=-3))
    at = datetime(2026, 1, 1, 21, tzinfo=zone)
    assert instant_text(parse_instant(at.isoformat())) == "2026-01-02T00:00:00.000000Z"
