"""Alerts: who must know? Sends to every channel, groups repeats, and never fails its caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from threading import Lock
from typing import Protocol

from keepfit.redaction import redacted


class AlertKind(StrEnum):
    """What happened."""

    TRIGGER = "trigger"
    GATE = "gate"
    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"
    FAILURE = "failure"
    BUDGET = "budget"
    LABELLER = "labeller"
    DRIFT = "drift"
    CASCADE = "cascade"
    TEST = "test"


@dataclass(frozen=True)
class Alert:
    """One thing that a person should hear of."""

    kind: AlertKind
    model: str
    title: str
    body: str
    """Plain text, with the numbers."""
    at: datetime
    undo: str | None = None
    """The command that takes it back; None where there is nothing to take back."""

    @property
    def text(self) -> str:
        """The body, and how to undo it."""
        return self.body if self.undo is None else f"{self.body}\n\nTo undo this: {self.undo}"


class Channel(Protocol):
    """One way to reach people."""

    @property
    def name(self) -> str:
        """For reports; holds no password."""
        ...

    def send(self, title: str, body: str) -> None:
        """Returns when the other side has taken the message; raises BackendError (with a sentence) when it has not."""
        ...


@dataclass(frozen=True)
class Delivery:
    """What became of one alert. The caller stores it."""

    sent: tuple[str, ...] = ()
    """Names of the channels that took it."""
    failed: tuple[str, ...] = ()
    """`CHANNEL: why` for each that did not."""
    held: int = 0
    """How many alerts like this wait to be told in one summary, this one included; 0: it was sent."""


@dataclass
class _Group:
    """The alerts of one kind and model that came after the one that was sent."""

    since: datetime
    first: Alert
    held: list[Alert] = field(default_factory=list)


class Alerts:
    """Sends the first alert of a kind and model at once, counts repeats, and tells them in one summary.

    Thread-safe. The counts live in this process: a restart forgets what was held, the alerts' own causes
    stay in the stored decisions.
    """

    def __init__(self, channels: Sequence[Channel], group_for: timedelta = timedelta(hours=1)) -> None:
        self._channels, self._group_for = tuple(channels), group_for
        self._groups: dict[tuple[AlertKind, str], _Group] = {}
        self._lock = Lock()

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels; empty when nobody is to be told."""
        return tuple(channel.name for channel in self._channels)

    def send(self, alert: Alert) -> Delivery:
        """Deliver the alert, or hold it when one like it went out less than `group_for` ago. Never raises."""
        if alert.kind is AlertKind.TEST:
            return self._deliver(alert.title, alert.text)
        with self._lock:
            group = self._groups.get((alert.kind, alert.model))
            if group is not None and alert.at < group.since + self._group_for:
                group.held.append(alert)
                return Delivery(held=len(group.held))
            self._groups[alert.kind, alert.model] = _Group(alert.at, alert)
        earlier = self._deliver_summary(group)
        delivery = self._deliver(alert.title, alert.text)
        return Delivery(delivery.sent, (*earlier.failed, *delivery.failed)) if earlier else delivery

    def flush(self, now: datetime) -> list[Delivery]:
        """Send the summaries that are due; call it now and then. Never raises. Returns one delivery per summary."""
        with self._lock:
            due = [key for key, group in self._groups.items() if now >= group.since + self._group_for]
            groups = [self._groups.pop(key) for key in due]
            for key, group in zip(due, groups, strict=True):
                if group.held:  # the summary opens the next stretch of quiet
                    self._groups[key] = _Group(now, group.held[-1])
        return [delivery for group in groups if (delivery := self._deliver_summary(group)) is not None]

    def _deliver_summary(self, group: _Group | None) -> Delivery | None:
        if group is None or not group.held:
            return None
        last = group.held[-1]
        more = f"{len(group.held)} more like this"
        body = f"{more} since {group.since:%Y-%m-%d %H:%M} UTC. The last one ({last.at:%H:%M} UTC):\n\n{last.text}"
        return self._deliver(f"{last.title} ({more})", body)

    def _deliver(self, title: str, body: str) -> Delivery:
        sent, failed = [], []
        for channel in self._channels:
            try:
                channel.send(title, body)
                sent.append(channel.name)
            except Exception as error:  # a broken channel of any make must stop neither the others nor the caller
                failed.append(redacted(f"{channel.name}: {error}"))
        return Delivery(tuple(sent), tuple(failed))
