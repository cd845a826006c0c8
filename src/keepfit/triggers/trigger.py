"""Trigger: is it time to retrain? A trigger reads a frozen `Situation` and fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from keepfit.data.records import Event
from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.intervals import Interval
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.facts import Attempt, Losses, Price


class Reason(StrEnum):
    """Why a retraining is wanted; the gate asks for more proof when it was harm."""

    HARM = "harm"
    """The champion measurably errs more than it may."""
    ROUTINE = "routine"
    """The clock, an amount of labels, an event, or a drift of the inputs alone."""
    ASKED = "asked"
    """A person wants it."""


@dataclass(frozen=True)
class Situation:
    """The facts of one model at one moment. Measurements are of the champion, since it was deployed."""

    now: datetime
    model: str
    version: int
    """The champion."""
    trained_at: datetime | None = None
    """When the last attempt began, whether its version was let through, refused or failed; None: never."""
    only_first: bool = False
    """The last attempt is the training before which nothing answered: no call led to it, so none rests after it."""
    refused_at: datetime | None = None
    """When the last attempt began, if its gate refused what came of it; None: it did not, or there was none."""
    deployed_at: datetime | None = None
    """Since when the champion has been serving; None: nothing is deployed."""
    reference_accuracy: Interval | None = None
    """The champion's accuracy on its own test part."""
    elsewhere: bool = False
    """The champion is another system's: that accuracy is of its first labelled answers, and no limit of a training."""
    new_labels: int = 0
    """Labels that arrived since the last attempt."""
    measurements: tuple[Measurement, ...] = ()
    """The present window's."""
    history: tuple[tuple[Measurement, ...], ...] = ()
    """What earlier checks of this version measured, newest first, without the present one."""
    events: tuple[Event, ...] = ()
    """Those that nobody has taken up yet."""
    timezone: str = "UTC"
    """An IANA name; schedules are read in it."""
    labels_since_deployment: bool = True
    """False once the label window no longer reaches back to the deployment: its beginning slides from then on."""
    predictions: int = 0
    """How many answers the champion has given since it was deployed."""
    losses: Losses | None = None
    """Its mistakes since the deployment or the last attempt; None: not looked at."""
    price: Price | None = None
    """What a retraining costs; None: not known."""
    learnt: int = 0
    """Rows that the last attempt (the champion where there was none) was trained on; 0: not known."""
    attempts: tuple[Attempt, ...] = ()
    """Retrainings that have ended, newest first, without the first training."""

    def measured(self, name: str) -> Measurement | None:
        """The present window's measurement of this name."""
        return next((m for m in self.measurements if m.name == name), None)


class Trigger(Protocol):
    """Pure: the same situation always gives the same decision."""

    @property
    def kind(self) -> str:
        """Its name in the settings, such as `accuracy_floor`."""
        ...

    def decide(self, situation: Situation) -> Decision:
        """FIRE or WAIT, never an exception; says what it saw either way.

        `evidence["kind"]` is the trigger's, `evidence["reason"]` is a `Reason` when it fires, and
        `evidence["demanded"]` is true when a person's wish is among the causes.
        """
        ...

    def objection(self, reference: Interval | None) -> str | None:
        """Why this trigger makes no sense for a champion of this accuracy, with a better proposal; None: it does."""
        ...


class NoObjection:
    """For triggers that make sense for every champion."""

    def objection(self, reference: Interval | None) -> str | None:
        return None


def within(kind: str, key: str, value: object, low: float, high: float) -> None:
    """Raises SettingsError unless the value is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise SettingsError(
            f"{key} of the trigger {kind} must be a number from {low:g} to {high:g}, not {value!r}", key
        )


def fire(kind: str, reason: Reason, because: str, evidence: Mapping[str, Any] | None = None) -> Decision:
    """The decision to retrain."""
    return Decision(
        Outcome.FIRE,
        (because,),
        {"kind": kind, "reason": reason.value, "demanded": reason is Reason.ASKED, **(evidence or {})},
    )


def wait(kind: str, because: str, evidence: Mapping[str, Any] | None = None) -> Decision:
    """The decision to leave things as they are."""
    return Decision(Outcome.WAIT, (because,), {"kind": kind, **(evidence or {})})
