"""Triggers that need no harm: the clock, an amount of labels, an event outside, a person's wish."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError

from keepfit.data.records import Event
from keepfit.decision import Decision
from keepfit.errors import SettingsError
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait, within

RETRAIN = "retrain"
"""The kind of the event by which a person asks."""


def zone(name: str) -> ZoneInfo:
    """The time zone of this name. Raises SettingsError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(f"{name!r} is no time zone; write one like Europe/Berlin or UTC", "timezone") from error


def last_due(cron: str, now: datetime, timezone: str) -> datetime:
    """The newest moment at or before `now` that the cron line names, in UTC.

    Wall-clock times of the zone: a time that an autumn night has twice counts once (the first time); a time that a
    spring night leaves out comes as much later as the clock jumps.
    """
    place = zone(timezone)
    # croniter reckons with naive wall time here; its own zone handling differs from release to release
    wall = now.astimezone(place).replace(tzinfo=None) + timedelta(hours=1, seconds=1)
    moments = croniter(cron, wall)
    while True:
        due: datetime = moments.get_prev(datetime)
        moment = due.replace(tzinfo=place, fold=0).astimezone(UTC)
        if moment <= now:
            return moment


@dataclass(frozen=True)
class Schedule(NoObjection):
    """Once for each time that a cron line (five fields) has named since the last attempt."""

    cron: str
    timezone: str | None = None
    """An IANA name; None: the settings' zone."""
    kind: ClassVar[str] = "schedule"

    def __post_init__(self) -> None:
        try:
            last_due(self.cron, datetime(2025, 1, 1, tzinfo=UTC), self.timezone or "UTC")
        except (CroniterError, AttributeError, TypeError) as error:
            raise SettingsError(
                f'{self.cron!r} is no cron line; write one like "0 3 * * 1" (Mondays at 3:00)', "cron"
            ) from error

    def decide(self, situation: Situation) -> Decision:
        since = situation.trained_at or situation.deployed_at
        if since is None:
            return wait(self.kind, "nothing is deployed yet, so there is nothing to retrain")
        timezone = self.timezone or situation.timezone
        due = last_due(self.cron, situation.now, timezone)
        local = f"{due.astimezone(zone(timezone)):%Y-%m-%d %H:%M} {timezone}"
        facts = {"due": due.isoformat(), "since": since.isoformat()}
        if due > since:
            return fire(self.kind, Reason.ROUTINE, f'the schedule "{self.cron}" was due at {local}', facts)
        return wait(self.kind, f'the schedule "{self.cron}" was last due at {local}, before the last attempt', facts)


@dataclass(frozen=True)
class Period(NoObjection):
    """So many days have gone by since the last attempt, or since the deployment when there was none."""

    days: float
    kind: ClassVar[str] = "period"

    def __post_init__(self) -> None:
        within(self.kind, "days", self.days, 1e-4, 3650)

    def decide(self, situation: Situation) -> Decision:
        since = max((at for at in (situation.trained_at, situation.deployed_at) if at is not None), default=None)
        if since is None:
            return wait(self.kind, "nothing is deployed yet, so there is nothing to retrain")
        gone = (situation.now - since) / timedelta(days=1)
        facts = {"days": self.days, "gone": gone, "since": since.isoformat()}
        if gone >= self.days:
            return fire(self.kind, Reason.ROUTINE, f"{gone:.3g} days have gone by, {self.days:g} were wanted", facts)
        return wait(self.kind, f"{gone:.3g} of {self.days:g} days have gone by since the last attempt", facts)


@dataclass(frozen=True)
class NewLabels(NoObjection):
    """This many labels have arrived since the last attempt, whatever they say."""

    amount: int
    kind: ClassVar[str] = "new_labels"

    def __post_init__(self) -> None:
        within(self.kind, "amount", self.amount, 1, 1e12)

    def decide(self, situation: Situation) -> Decision:
        seen, facts = situation.new_labels, {"new_labels": situation.new_labels, "amount": self.amount}
        if seen >= self.amount:
            return fire(self.kind, Reason.ROUTINE, f"{seen} new labels are in, {self.amount} were wanted", facts)
        return wait(self.kind, f"{seen} of {self.amount} new labels are in, {self.amount - seen} are missing", facts)


def told(events: tuple[Event, ...]) -> str:
    """Events in words."""
    return ", ".join(f"{event.kind} by {event.actor} at {event.at:%Y-%m-%d %H:%M} UTC" for event in events)


@dataclass(frozen=True)
class OnEvent(NoObjection):
    """Another system reported something: new data, an upstream change, a release."""

    kinds: tuple[str, ...] = ()
    """Which kinds count; empty: all but a person's demand."""
    kind: ClassVar[str] = "on_event"

    def __post_init__(self) -> None:
        if isinstance(self.kinds, str) or not all(isinstance(kind, str) for kind in self.kinds):
            raise SettingsError('kinds of the trigger on_event must be a list like ["new_data"]', "kinds")
        object.__setattr__(self, "kinds", tuple(self.kinds))

    def decide(self, situation: Situation) -> Decision:
        heard = tuple(e for e in situation.events if e.kind != RETRAIN and (not self.kinds or e.kind in self.kinds))
        if heard:
            return fire(self.kind, Reason.ROUTINE, f"reported: {told(heard)}", {"events": [e.id for e in heard]})
        return wait(self.kind, f"no event of the kind {' or '.join(self.kinds) or 'new_data, ...'} waits")


@dataclass(frozen=True)
class OnDemand(NoObjection):
    """A person (or `POST /retrain`) asks for it."""

    kind: ClassVar[str] = "on_demand"

    def decide(self, situation: Situation) -> Decision:
        heard = tuple(event for event in situation.events if event.kind == RETRAIN)
        if heard:
            return fire(self.kind, Reason.ASKED, f"asked for: {told(heard)}", {"events": [e.id for e in heard]})
        return wait(self.kind, "nobody asked for a retraining")
