"""The triggers we ship, by name, and how settings become one of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import timedelta
from typing import Any

from keepfit.errors import SettingsError
from keepfit.triggers.alarm import Harm
from keepfit.triggers.combinators import AllOf, AnyOf, Cooldown, WarmUp
from keepfit.triggers.drift import Ks, KsPlain
from keepfit.triggers.growth import Growth
from keepfit.triggers.harm import AccuracyDrop, AccuracyFloor
from keepfit.triggers.inputs import InputDrift
from keepfit.triggers.routine import NewLabels, OnDemand, OnEvent, Period, Schedule
from keepfit.triggers.trigger import Trigger
from keepfit.triggers.worth import Benefit, SkiRental, WorthIt

KINDS: Mapping[str, Callable[..., Trigger]] = {
    made.kind: made
    for made in (
        Harm, AccuracyFloor, AccuracyDrop, Ks, KsPlain, InputDrift, Schedule, NewLabels, OnEvent, OnDemand, AnyOf,
        AllOf, Period, SkiRental, Benefit, Growth, WorthIt,
    )
}  # fmt: skip
"""What `kind` may say; the other keys are the fields of the class."""


def trigger_from(
    settings: Sequence[Mapping[str, Any]],
    warm_up: timedelta = timedelta(0),
    cool_down: timedelta = timedelta(0),
    predictions: int = 0,
    kinds: Mapping[str, Callable[..., Trigger]] = KINDS,
) -> Trigger:
    """Any of these rules, held back in the warm-up after a deployment and in the rest after an attempt.

    A rule is a mapping like `{"kind": "accuracy_floor", "floor": 0.8}`; `any_of` and `all_of` hold more of them under
    `triggers`. A person's demand is always among them. `predictions`: answers that end the warm-up at the earliest.
    Raises SettingsError for an unknown kind or key, naming the nearest known one, and for wrong values.
    """
    made = [built(rule, kinds) for rule in settings]
    if not any(isinstance(trigger, OnDemand) for trigger in made):
        made.append(OnDemand())
    if len({repr(part) for trigger in made for part in parts(trigger) if isinstance(part, Harm)}) > 1:
        raise SettingsError("two triggers of the kind harm have different settings; give both the same", "kind")
    return Cooldown(WarmUp(AnyOf(tuple(made)), warm_up, predictions), cool_down)


def parts(trigger: Trigger) -> Iterator[Trigger]:
    """The trigger and all that it is made of."""
    yield trigger
    inner = getattr(trigger, "trigger", None)
    for part in (*((inner,) if inner is not None else ()), *getattr(trigger, "triggers", ())):
        yield from parts(part)


def built(rule: Mapping[str, Any], kinds: Mapping[str, Callable[..., Trigger]] = KINDS) -> Trigger:
    """One rule. Raises SettingsError."""
    if not isinstance(rule, Mapping) or "kind" not in rule:
        raise SettingsError(f'a trigger is written like {{kind = "accuracy_floor", floor = 0.8}}, not {rule!r}', "kind")
    kind = str(rule["kind"])
    if kind not in kinds:
        raise SettingsError(f"there is no trigger {kind!r}; {nearest(kind, kinds)}", "kind")
    make = kinds[kind]
    known = keys(make)
    given = {key: value for key, value in rule.items() if key != "kind"}
    for key in given:
        if key not in known:
            raise SettingsError(f"the trigger {kind} has no {key!r}; {nearest(key, known)}", key)
    if missing := [name for name, needed in known.items() if needed and name not in given]:
        raise SettingsError(f"the trigger {kind} needs {missing[0]!r}", missing[0])
    if "triggers" in given:
        given["triggers"] = tuple(built(inner, kinds) for inner in listed(kind, given["triggers"]))
    return make(**given)


def listed(kind: str, rules: Any) -> Iterable[Mapping[str, Any]]:
    """Inner rules. Raises SettingsError."""
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise SettingsError(f"triggers of {kind} must be a list of triggers", "triggers")
    return rules


def keys(make: Any) -> dict[str, bool]:
    """The keys that a kind takes, and whether each must be there."""
    known: tuple[Field[Any], ...] = fields(make)
    return {field.name: field.default is MISSING and field.default_factory is MISSING for field in known}


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint.

    >>> nearest("acuracy_floor", ["ks", "accuracy_floor"])
    "did you mean 'accuracy_floor'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(known)}" if known else "it takes no settings"
