"""Windows of spend controls: by the program's calendar, across clock changes and zones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitway.domain.limits import (
    COUNTED_PERIODS,
    LIFETIME_START,
    Limit,
    Period,
    SpendControls,
    SpendWindow,
    window_starts,
)
from jitway.ledger.audit_windows import window_bounds

ZONES = [
    "UTC",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Europe/Warsaw",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "instant", "day", "month"),
    [
        ("UTC", "2026-03-01T00:00:00", date(2026, 3, 1), date(2026, 3, 1)),
        ("America/New_York", "2026-03-01T04:59:59", date(2026, 2, 28), date(2026, 2, 1)),
        ("America/New_York", "2026-03-01T05:00:00", date(2026, 3, 1), date(2026, 3, 1)),
        # The day the clocks go forward has 23 hours, the day they go back 25.
        ("America/New_York", "2026-03-08T05:00:00", date(2026, 3, 8), date(2026, 3, 1)),
        ("America/New_York", "2026-03-09T03:59:59", date(2026, 3, 8), date(2026, 3, 1)),
        ("America/New_York", "2026-03-09T04:00:00", date(2026, 3, 9), date(2026, 3, 1)),
        ("America/New_York", "2026-11-01T04:00:00", date(2026, 11, 1), date(2026, 11, 1)),
        ("America/New_York", "2026-11-02T04:59:59", date(2026, 11, 1), date(2026, 11, 1)),
        ("America/New_York", "2026-11-02T05:00:00", date(2026, 11, 2), date(2026, 11, 1)),
        # Midnight itself is skipped: the day begins at one o'clock.
        ("Africa/Cairo", "2026-04-23T21:59:59", date(2026, 4, 23), date(2026, 4, 1)),
        ("Africa/Cairo", "2026-04-23T22:00:00", date(2026, 4, 24), date(2026, 4, 1)),
        # A day that never was: Samoa went over the date line.
        ("Pacific/Apia", "2011-12-30T09:59:59", date(2011, 12, 29), date(2011, 12, 1)),
        ("Pacific/Apia", "2011-12-30T10:00:00", date(2011, 12, 31), date(2011, 12, 1)),
        ("Pacific/Kiritimati", "2026-12-31T10:00:00", date(2027, 1, 1), date(2027, 1, 1)),
        ("Pacific/Pago_Pago", "2027-01-01T10:59:59", date(2026, 12, 31), date(2026, 12, 1)),
    ],
)
def test_days_and_months_are_the_zones(zone: str, instant: str, day: date, month: date) -> None:
    starts = window_starts(at(instant), ZoneInfo(zone))
    assert (starts[Period.DAY], starts[Period.MONTH]) == (day, month)
    assert starts[Period.WEEK].weekday() == 0
    assert timedelta(0) <= day - starts[Period.WEEK] < timedelta(days=7)
    assert starts[Period.YEAR] == date(day.year, 1, 1)
    assert starts[Period.LIFETIME] == LIFETIME_START


instants = st.integers(1_325_376_000, 2_114_380_800).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


@given(instants, st.sampled_from(ZONES))
def test_the_audit_draws_the_same_windows(instant: datetime, zone_name: str) -> None:
    """An instant lies within the bounds of its own window, and of no other."""
    zone = ZoneInfo(zone_name)
    starts = window_starts(instant, zone)
    for period in COUNTED_PERIODS[:-1]:
        first, next_ = window_bounds(period.label, starts[period], zone)
        assert first <= instant < next_
        assert window_starts(first, zone)[period] == starts[period]
        assert window_starts(next_, zone)[period] > starts[period]
        assert window_starts(next_ - timedelta(microseconds=1), zone)[period] == starts[period]


def test_a_window_that_was_never_used_counts_nothing() -> None:
    first, next_ = window_bounds("day", date.min, ZoneInfo("UTC"))
    assert first == next_


@given(instants, instants, st.sampled_from(ZONES))
def test_windows_never_go_back(one: datetime, other: datetime, zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    earlier, later = sorted((one, other))
    for first, second in zip(window_starts(earlier, zone), window_starts(later, zone), strict=True):
        assert first <= second


TODAY = window_starts(at("2026-06-17T12:00:00"), ZoneInfo("UTC"))
TOMORROW = window_starts(at("2026-06-18T12:00:00"), ZoneInfo("UTC"))
NEXT_YEAR = window_starts(at("2027-06-17T12:00:00"), ZoneInfo("UTC"))


def spent(window: SpendWindow, starts: tuple[date, date, date, date, date]) -> list[int]:
    return [window.spent(period, starts)[0] for period in COUNTED_PERIODS]


def test_a_window_rolls_over_on_its_own() -> None:
    window = SpendWindow("crd_1")
    window.add(10, TODAY)
    assert spent(window, TODAY) == [10] * 5
    assert spent(window, TOMORROW) == [0, 10, 10, 10, 10]
    window.add(5, TOMORROW)
    assert spent(window, TOMORROW) == [5, 15, 15, 15, 15]
    assert spent(window, NEXT_YEAR) == [0, 0, 0, 0, 15]
    assert window.counts == [1, 2, 2, 2, 2]


def test_a_clock_that_steps_back_forgets_nothing() -> None:
    window = SpendWindow("crd_1")
    window.add(10, TOMORROW)
    window.add(5, TODAY)
    assert spent(window, TODAY) == [15] * 5


def test_what_is_given_back_goes_to_the_windows_of_its_decision() -> None:
    window = SpendWindow("crd_1")
    window.add(10, TODAY)
    window.add(7, TOMORROW)
    window.give_back(4, TODAY, whole=False)
    assert window.amounts == [7, 13, 13, 13, 13]
    assert window.counts == [1, 2, 2, 2, 2]
    window.give_back(6, TODAY, whole=True)
    assert window.amounts == [7, 7, 7, 7, 7]
    assert window.counts == [1, 1, 1, 1, 1]


def test_controls_as_they_are_stored() -> None:
    controls = SpendControls.from_document(
        {
            "limits": [{"period": "lifetime", "count": 3}, {"period": "transaction", "amount": 5}],
            "block": {"mcc": ["7995"], "country": ["KP"]},
        }
    )
    assert controls.limits == (Limit(Period.TRANSACTION, 5), Limit(Period.LIFETIME, None, 3))
    assert controls.blocked_mccs == {"7995"}
    assert controls.blocked_merchants == frozenset()
    assert controls.counts
    assert SpendControls.from_document({}) == SpendControls()
    assert not SpendControls((Limit(Period.TRANSACTION, 5),)).counts
