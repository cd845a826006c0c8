"""Alerts: everyone is told once, repeats in one summary, and nothing ever reaches the caller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from keepfit.alerts.alerts import Alert, AlertKind, Alerts
from keepfit.alerts.mailbox import MemoryChannel

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def alert(minutes: int = 0, kind: AlertKind = AlertKind.FAILURE, model: str = "reviews", undo: str = "") -> Alert:
    return Alert(kind, model, f"{model}: {kind}", f"it is {minutes} past", NOON + minutes * MINUTE, undo or None)


class Rude:
    """A channel of another make."""

    name = "rude"

    def send(self, title: str, body: str) -> None:
        raise RuntimeError("no manners")


def test_an_alert_reaches_every_channel_with_the_way_to_undo_it() -> None:
    first, second = MemoryChannel("first"), MemoryChannel("second")
    delivery = Alerts([first, second]).send(alert(undo="keepfit rollback --model reviews"))
    assert delivery.sent == ("first", "second")
    assert first.sent == second.sent
    assert first.sent[0][1].endswith("To undo this: keepfit rollback --model reviews")


def test_one_broken_channel_stops_neither_the_others_nor_the_caller() -> None:
    dead, good = MemoryChannel("dead"), MemoryChannel("good")
    dead.broken = "the line is dead"
    delivery = Alerts([dead, Rude(), good]).send(alert())
    assert delivery.sent == ("good",)
    assert delivery.failed == ("dead: the line is dead", "rude: no manners")


def test_nobody_to_tell_is_no_error() -> None:
    assert Alerts([]).send(alert()).sent == ()


def test_repeats_are_held_and_told_in_one_summary() -> None:
    channel = MemoryChannel()
    alerts = Alerts([channel], timedelta(hours=1))
    held = [alerts.send(alert(minute)).held for minute in range(0, 60, 5)]
    assert held == [0, *range(1, 12)]
    assert len(channel.sent) == 1
    assert alerts.flush(NOON + 59 * MINUTE) == []
    assert len(alerts.flush(NOON + 60 * MINUTE)) == 1
    title, body = channel.sent[1]
    assert title == "reviews: failure (11 more like this)"
    assert "it is 55 past" in body
    assert "since 2025-01-01 12:00 UTC" in body


def test_after_a_summary_the_quiet_goes_on() -> None:
    channel = MemoryChannel()
    alerts = Alerts([channel], timedelta(hours=1))
    alerts.send(alert(0))
    alerts.send(alert(5))
    alerts.flush(NOON + 60 * MINUTE)
    assert alerts.send(alert(61)).held == 1
    assert len(alerts.flush(NOON + 120 * MINUTE)) == 1
    assert alerts.flush(NOON + 300 * MINUTE) == [], "nothing is left to tell"
    assert alerts.send(alert(301)).sent == ("memory",)


def test_a_summary_that_nobody_called_for_goes_out_with_the_next_alert() -> None:
    channel = MemoryChannel()
    alerts = Alerts([channel], timedelta(hours=1))
    for minute in (0, 5, 200):
        alerts.send(alert(minute))
    assert [title for title, _ in channel.sent] == [
        "reviews: failure", "reviews: failure (1 more like this)", "reviews: failure",
    ]  # fmt: skip


def test_other_kinds_and_models_are_not_held() -> None:
    channel = MemoryChannel()
    alerts = Alerts([channel])
    for one in (alert(), alert(kind=AlertKind.GATE), alert(model="tickets"), alert()):
        alerts.send(one)
    assert len(channel.sent) == 3


def test_a_test_is_never_held() -> None:
    channel = MemoryChannel()
    alerts = Alerts([channel])
    for _ in range(3):
        assert alerts.send(alert(kind=AlertKind.TEST)).sent
