"""Schedules across time zones and daylight saving, amounts of labels, events and wishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from keepfit.data.records import Event
from keepfit.decision import Outcome
from keepfit.errors import SettingsError
from keepfit.triggers.routine import NewLabels, OnDemand, OnEvent, Schedule, last_due
from keepfit.triggers.trigger import Situation

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2025, 6, 2, 12, tzinfo=UTC)


def fires(schedule: Schedule, now: datetime, attempt: datetime | None, zone: str = "UTC") -> bool:
    decision = schedule.decide(Situation(now, "m", 1, attempt, deployed_at=attempt, timezone=zone))
    return decision.outcome is Outcome.FIRE


def firings(schedule: Schedule, start: datetime, end: datetime, zone: str, every: timedelta) -> list[datetime]:
    """Checks every so often, an attempt at each firing."""
    now, attempt, found = start, start, []
    while now <= end:
        if fires(schedule, now, attempt, zone):
            found.append(now)
            attempt = now
        now += every
    return found


def test_it_fires_once_for_each_due_time() -> None:
    daily = Schedule("0 3 * * *")
    found = firings(daily, MONDAY, MONDAY + timedelta(days=3), "UTC", timedelta(minutes=7))
    assert [moment.day for moment in found] == [3, 4, 5]
    assert all(moment - moment.replace(hour=3, minute=0) < timedelta(minutes=7) for moment in found)


def test_the_due_moment_itself_counts() -> None:
    due = datetime(2025, 6, 3, 3, tzinfo=UTC)
    assert fires(Schedule("0 3 * * *"), due, MONDAY)
    assert not fires(Schedule("0 3 * * *"), due, due)
    assert not fires(Schedule("0 3 * * *"), due - timedelta(microseconds=1), MONDAY)


def test_a_worker_that_was_away_for_a_week_fires_once() -> None:
    later = MONDAY + timedelta(days=7)
    assert fires(Schedule("0 3 * * *"), later, MONDAY)
    assert not fires(Schedule("0 3 * * *"), later + timedelta(minutes=1), later)


def test_hours_are_those_of_the_settings_or_of_its_own_zone() -> None:
    summer = datetime(2025, 6, 3, 1, 30, tzinfo=UTC)
    assert last_due("0 3 * * *", summer, "Europe/Berlin") == datetime(2025, 6, 3, 1, tzinfo=UTC)
    assert last_due("0 3 * * *", summer, "UTC") == datetime(2025, 6, 2, 3, tzinfo=UTC)
    assert fires(Schedule("0 3 * * *", "Europe/Berlin"), summer, MONDAY, "UTC")


@pytest.mark.parametrize(
    ("cron", "night", "expected"),
    [
        pytest.param("0 4 * * *", datetime(2025, 3, 30), ["04:00"], id="spring, after the gap"),
        pytest.param("30 2 * * *", datetime(2025, 3, 30), ["03:30"], id="spring, in the gap: as much later"),
        pytest.param("30 2 * * *", datetime(2025, 10, 26), ["02:30"], id="autumn, twice on the clock: once"),
        pytest.param("0 4 * * *", datetime(2025, 10, 26), ["04:00"], id="autumn, after it"),
        pytest.param("0 1-4 * * *", datetime(2025, 10, 26), ["01:00", "02:00", "03:00", "04:00"], id="autumn, hourly"),
        pytest.param("0 1-4 * * *", datetime(2025, 3, 30), ["01:00", "03:00", "04:00"], id="spring, hourly"),
    ],
)
def test_the_nights_in_which_clocks_change(cron: str, night: datetime, expected: list[str]) -> None:
    start, end = night.replace(tzinfo=BERLIN), (night + timedelta(hours=12)).replace(tzinfo=BERLIN)
    found = firings(Schedule(cron), start.astimezone(UTC), end.astimezone(UTC), "Europe/Berlin", timedelta(minutes=10))
    assert [f"{moment.astimezone(BERLIN):%H:%M}" for moment in found] == expected


@pytest.mark.parametrize("cron", ["", "soon", "99 * * * *", "* * *", "0 0 31 2 *", None, 5])
def test_a_line_that_never_comes_is_refused(cron: str) -> None:
    with pytest.raises(SettingsError, match="cron line"):
        Schedule(cron)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match="no time zone"):
        Schedule("0 3 * * *", "Mars/Olympus")


def test_new_labels_are_counted_down() -> None:
    decision = NewLabels(100).decide(Situation(MONDAY, "m", 1, new_labels=12))
    assert decision.because == ("12 of 100 new labels are in, 88 are missing",)
    assert NewLabels(100).decide(Situation(MONDAY, "m", 1, new_labels=100)).outcome is Outcome.FIRE


def test_events_and_demands_are_kept_apart() -> None:
    events = (Event("a", "m", MONDAY, "upstream_change", "ci"), Event("b", "m", MONDAY, "retrain", "ann"))
    situation = Situation(MONDAY, "m", 1, events=events)
    heard, wish = OnEvent().decide(situation), OnDemand().decide(situation)
    assert heard.evidence["events"] == ["a"]
    assert heard.evidence["reason"] == "routine"
    assert wish.evidence["events"] == ["b"]
    assert wish.evidence["reason"] == "asked"
    assert wish.evidence["demanded"]
    assert "retrain by ann" in wish.because[0]
    assert OnEvent(("release",)).decide(situation).outcome is Outcome.WAIT


def test_kinds_must_be_a_list() -> None:
    with pytest.raises(SettingsError, match="must be a list"):
        OnEvent("release")  # type: ignore[arg-type]
