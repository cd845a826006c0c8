"""Policies: the triggers that a backtest compares, by name, and how they are written in the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.errors import InvalidInput
from keepfit.pipelines.backtest.matrix import Matrix
from keepfit.triggers.policies import KINDS, built, nearest
from keepfit.triggers.trigger import Trigger

Rule = Mapping[str, Any]
NEVER, EVERY_STEP, SETTINGS = "never", "every_step", "settings"
OFTEN = 1e-4
"""Days: less than any step lasts."""
LOOK_AT_LABELS = frozenset(
    {
        "accuracy_floor",
        "accuracy_drop",
        "ski_rental",
        "benefit",
        "growth",
        "worth_it",
        "period",
        "schedule",
        "new_labels",
    }
)
"""Kinds that look at no measurement of the inputs."""


@dataclass(frozen=True)
class Policy:
    """A way to decide when to retrain."""

    name: str
    rules: tuple[Rule, ...]
    """As the settings write them; any of them suffices, none is never."""

    @property
    def writable(self) -> bool:
        """Whether it may be written into the settings."""
        return self.name not in (EVERY_STEP, SETTINGS)

    @property
    def needs_labels(self) -> bool:
        """Whether it retrains at all, for which labels are needed."""
        return bool(self.rules)

    @property
    def looks_at_inputs(self) -> bool:
        """Whether measurements of the inputs are needed."""
        return any(not only_labels(rule) for rule in self.rules)

    def trigger(self) -> Trigger:
        """Raises SettingsError for a wrong value."""
        return built({"kind": "any_of", "triggers": self.rules})


def only_labels(rule: Rule) -> bool:
    """Whether a rule looks at labels, the clock and costs alone."""
    inner = all(only_labels(one) for one in rule.get("triggers", ()))
    return rule.get("kind") in LOOK_AT_LABELS | {"any_of", "all_of"} and inner


def policy_of(text: str, settings: Sequence[Rule] = ()) -> Policy:
    """From `never`, `every_step`, `settings`, or a trigger with its keys: `accuracy_floor:floor=0.85,alpha=0.1`.

    A value is read as JSON where it is, else as text. Raises InvalidInput (SettingsError) for an unknown kind or key.

    >>> policy_of("period:days=7").rules
    ({'kind': 'period', 'days': 7},)
    """
    name, _, rest = text.strip().partition(":")
    if name in (NEVER, EVERY_STEP, SETTINGS):
        if rest:
            raise InvalidInput(f"the policy {name} has no settings, so leave {rest!r} out", "policy")
        every = ({"kind": "period", "days": OFTEN},)
        return Policy(name, {NEVER: (), EVERY_STEP: every, SETTINGS: kept(settings)}[name])
    if name not in KINDS:
        known = (NEVER, EVERY_STEP, SETTINGS, *KINDS)
        raise InvalidInput(f"there is no policy {name!r}; {nearest(name, known)}", "policy")
    rule: dict[str, Any] = {"kind": name}
    for part in pieces(rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidInput(f"write the settings of {name} like {name}:key=value,key=value, not {part!r}", "policy")
        rule[key.strip()] = read(value.strip())
    made = Policy(text.strip(), (rule,))
    made.trigger()
    return made


def kept(settings: Sequence[Rule]) -> tuple[Rule, ...]:
    """Rules of the settings without those that wait for persons and events, of which a replay has none."""
    return tuple(rule for rule in settings if rule.get("kind") not in ("on_demand", "on_event"))


def pieces(text: str) -> list[str]:
    """Cut at commas outside of brackets."""
    found, depth = [""], 0
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        if sign == "," and depth == 0:
            found.append("")
        else:
            found[-1] += sign
    return [one for one in found if one.strip()]


def read(value: str) -> Any:
    """JSON, else the text itself."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def usual(matrix: Matrix) -> list[Policy]:
    """What is compared unless policies are named: plain rules, periods and amounts that fit the traffic, and ours."""
    days = (matrix.traffic.times[-1] - matrix.traffic.times[matrix.start]).total_seconds() / 86_400
    labels = int(matrix.labelled[matrix.start :].sum())
    period = [f"period:days={figure(days / n)}" for n in (3, 6, 12)]
    amount = [f"new_labels:amount={max(1, labels // n)}" for n in (3, 6, 12)]
    plain = ["accuracy_floor", "accuracy_drop", "ks_plain", "ks", "ski_rental", "benefit", "growth"]
    both = Policy("worth_it or growth", ({"kind": "worth_it"}, {"kind": "growth"}))
    # of two that cost the same, the one that is named first is recommended
    names = ["worth_it", NEVER, *period, *amount, *plain, EVERY_STEP]
    return [*(policy_of(name) for name in names), both]


def figure(value: float) -> str:
    """Three digits.

    >>> figure(12.3456), figure(0.000123456)
    ('12.3', '0.000123')
    """
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def in_toml(policy: Policy) -> str:
    """The value of `triggers` for keepfit.toml, with a person's wish and events beside the rules.

    >>> in_toml(policy_of("period:days=7"))
    '[{kind = "period", days = 7}, {kind = "on_demand"}, {kind = "on_event"}]'
    """
    return f"[{', '.join(map(table, (*policy.rules, {'kind': 'on_demand'}, {'kind': 'on_event'})))}]"


def table(rule: Rule) -> str:
    """An inline table."""
    return "{" + ", ".join(f"{key} = {literal(value)}" for key, value in rule.items()) + "}"


def literal(value: Any) -> str:
    """A TOML value."""
    if isinstance(value, Mapping):
        return table(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value, ensure_ascii=False)
