"""Dates of a program's calendar as instants, and the countries there are."""

from datetime import UTC, date, datetime, timedelta, timezone
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest

from jitway.domain.country import COUNTRIES, is_country
from jitway.domain.validity import end_instant, first_instant

ZONES = ("UTC", "America/New_York", "Africa/Cairo", "Pacific/Kiritimati", "Pacific/Pago_Pago")


@pytest.mark.parametrize(
    ("zone", "day", "first", "end"),
    [
        ("UTC", date(2028, 2, 29), "2028-02-29T00:00+00:00", "2028-03-01T00:00+00:00"),
        # 23 and 25 hours.
        ("America/New_York", date(2026, 3, 8), "2026-03-08T05:00+00:00", "2026-03-09T04:00+00:00"),
        ("America/New_York", date(2026, 11, 1), "2026-11-01T04:00+00:00", "2026-11-02T05:00+00:00"),
        # Midnight is skipped: the day begins at one o'clock.
        ("Africa/Cairo", date(2026, 4, 24), "2026-04-23T22:00+00:00", "2026-04-24T21:00+00:00"),
        # The year ends half a day earlier, and later, than in Greenwich.
        (
            "Pacific/Kiritimati",
            date(2026, 12, 31),
            "2026-12-30T10:00+00:00",
            "2026-12-31T10:00+00:00",
        ),
        (
            "Pacific/Pago_Pago",
            date(2026, 12, 31),
            "2026-12-31T11:00+00:00",
            "2027-01-01T11:00+00:00",
        ),
    ],
)
def test_a_date_is_a_day_of_the_calendar(zone: str, day: date, first: str, end: str) -> None:
    calendar = ZoneInfo(zone)
    assert first_instant(day, calendar) == datetime.fromisoformat(first)
    assert end_instant(day, calendar) == datetime.fromisoformat(end)


@pytest.mark.parametrize("zone", ZONES)
def test_days_follow_each_other_without_a_gap(zone: str) -> None:
    calendar = ZoneInfo(zone)
    for number in range(3 * 366):
        day = date(2026, 1, 1) + timedelta(days=number)
        assert end_instant(day, calendar) == first_instant(day + timedelta(days=1), calendar)


def test_an_instant_is_itself_in_utc() -> None:
    instant = datetime(2026, 6, 17, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    for of in (first_instant, end_instant):
        told = of(instant, ZoneInfo("America/New_York"))
        assert told == instant
        assert told is not None
        assert told.tzinfo is UTC
        assert of(None, ZoneInfo("UTC")) is None


def test_the_calendar_has_ends() -> None:
    with pytest.raises(OverflowError):
        first_instant(date.min, ZoneInfo("Asia/Tokyo"))
    with pytest.raises(OverflowError):
        end_instant(date.max, ZoneInfo("UTC"))


def test_countries_are_those_of_iso_3166() -> None:
    text = (files("tzdata.zoneinfo") / "iso3166.tab").read_text(encoding="utf-8")
    listed = {line[:2] for line in text.splitlines() if not line.startswith("#")}
    assert listed == COUNTRIES
    assert is_country("XK")
    for code in ("UK", "ZZ", "us", "USA", "", "X"):
        assert not is_country(code)
