"""Behaviour tests: what a model must hold whatever its accuracy; the user's own examples, and invariances.

An invariance (Ribeiro et al. 2020, CheckList, arXiv 2005.04118) changes a text in a way that must not change its
class: letter case, spaces, typing errors, one name for another. Each check has a tolerance: the share of labels
that may change all the same. Only for contents that are texts; other tasks' contents are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepfit.errors import SettingsError
from keepfit.intervals import Interval, wilson
from keepfit.metrics import predicted
from keepfit.tasks.task import Model, predict

Change = Callable[[str, np.random.Generator], str]
"""A text, changed in a way that must not matter; the same text where there is nothing to change."""

NAMES = (
    "Aisha", "Anna", "Carlos", "Chen", "David", "Emily", "Fatima", "Ivan", "James", "John", "Kwame", "Lakisha",
    "Maria", "Michael", "Mohammed", "Olga", "Priya", "Robert", "Sarah", "Yuki",
)  # fmt: skip
SHOWN = 5
"""Failing examples that are kept for people."""

SHORTENED = 160


def shorten(content: Any, length: int = SHORTENED) -> str:
    """A content as one line for people.

    >>> shorten("a  long\\nstory", 8)
    'a long …'
    """
    line = " ".join(str(" | ".join(map(str, content)) if isinstance(content, tuple) else content).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def other_case(text: str, rng: np.random.Generator) -> str:
    """All letters small; all capital where they were small already.

    >>> other_case("So Good", np.random.default_rng(0)), other_case("so good", np.random.default_rng(0))
    ('so good', 'SO GOOD')
    """
    return text.lower() if text.lower() != text else text.upper()


def other_spaces(text: str, rng: np.random.Generator) -> str:
    """Some single spaces doubled, and spaces around the text.

    >>> other_spaces("one two", np.random.default_rng(0)).split()
    ['one', 'two']
    """
    return " " + re.sub(r"(?<=\S) (?=\S)", lambda found: "  " if rng.random() < 0.3 else found[0], text) + " "


def typos(text: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters swapped in one word of ten (at least one), never a word's first letter.

    >>> typos("wonderful", np.random.default_rng(1))
    'wondreful'
    """
    words = [found.span() for found in re.finditer(r"[^\W\d_]{4,}", text)]
    letters = list(text)
    count = min(max(1, len(words) // 10), len(words))
    for number in rng.permutation(len(words))[:count]:
        start, end = words[number]
        swaps = [i for i in range(start + 1, end - 1) if text[i] != text[i + 1]]
        if swaps:
            at = swaps[int(rng.integers(len(swaps)))]
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def other_names(names: Sequence[str] = NAMES) -> Change:
    """Each name of the list replaced with another one of it (the same name with the same other one)."""
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(name) for name in names) + r")\b") if len(names) > 1 else None

    def change(text: str, rng: np.random.Generator) -> str:
        if pattern is None:
            return text
        shift = int(rng.integers(1, len(names)))
        return pattern.sub(lambda found: names[(names.index(found[0]) + shift) % len(names)], text)

    return change


@dataclass(frozen=True)
class BehaviourPlan:
    """What to check, and how much of it may fail."""

    must_hold: tuple[tuple[Any, str], ...] = ()
    """(content, label) pairs that must be answered so."""
    must_hold_tolerance: float = 0.0
    tolerances: Mapping[str, float] = field(
        default_factory=lambda: {"case": 0.05, "spaces": 0.02, "typos": 0.10, "names": 0.05}
    )
    """By invariance, the share of labels that may change; one that is not named is not checked."""
    names: tuple[str, ...] = NAMES
    sample: int = 200
    """Texts to try each invariance on."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tolerances) - set(self.changes))
        if unknown:
            known = ", ".join(self.changes)
            raise SettingsError(f"there is no invariance {unknown[0]!r}; known are {known} [invariances]")
        if "names" in self.tolerances and len(self.names) < 2:
            raise SettingsError("one name cannot be swapped for another: give two names or more [names]")

    @property
    def changes(self) -> dict[str, Change]:
        """The invariances by name."""
        return {"case": other_case, "spaces": other_spaces, "typos": typos, "names": other_names(self.names)}


@dataclass(frozen=True)
class Slip:
    """One example that did not hold."""

    before: str
    after: str
    expected: str
    said: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {"before": self.before, "after": self.after, "expected": self.expected, "said": self.said}


@dataclass(frozen=True)
class CheckResult:
    """How one check went."""

    name: str
    """must_hold, case, spaces, typos or names."""
    tolerance: float
    failed: Interval
    """The share that failed, of n tried."""
    slips: tuple[Slip, ...] = ()
    """The first of those that failed."""

    @property
    def holds(self) -> bool:
        """A must-hold list is counted; an invariance is sampled, so its lower bound must be within the tolerance."""
        return not self.failed.n or self._counts <= self.tolerance

    @property
    def _counts(self) -> float:
        return self.failed.value if self.name == "must_hold" else self.failed.low

    def __str__(self) -> str:
        what = "must-hold examples fail" if self.name == "must_hold" else f"labels change with {self.name}"
        return f"{round(self.failed.value * self.failed.n)} of {self.failed.n} {what} ({self.tolerance:.0%} allowed)"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tolerance": self.tolerance,
            "failed": self.failed.to_json(),
            "holds": self.holds,
            "slips": [slip.to_json() for slip in self.slips],
        }


@dataclass(frozen=True)
class BehaviourResult:
    """How a model did in all checks that could be tried."""

    checks: tuple[CheckResult, ...] = ()

    def check(self, name: str) -> CheckResult | None:
        """One check by name; None when it was not tried."""
        return next((check for check in self.checks if check.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values, by check."""
        return {check.name: check.to_json() for check in self.checks}


def check_behaviour(
    model: Model, contents: Sequence[Any], plan: BehaviourPlan, rng: np.random.Generator
) -> BehaviourResult:
    """Try the plan on a model; the invariances on a sample of these contents (test texts), drawn with `rng`."""
    texts = [content for content in contents if _is_text(content)]
    chosen = [texts[i] for i in rng.permutation(len(texts))[: plan.sample]]
    said = _answers(model, chosen)
    checks = [_must_hold(model, plan)] if plan.must_hold else []
    for name, tolerance in plan.tolerances.items():
        changed = [_changed(content, plan.changes[name], rng) for content in chosen]
        tried = [i for i, content in enumerate(changed) if content != chosen[i]]
        if tried:
            triples = [(chosen[i], changed[i], said[i]) for i in tried]
            checks.append(_checked(model, name, tolerance, triples))
    return BehaviourResult(tuple(checks))


def _must_hold(model: Model, plan: BehaviourPlan) -> CheckResult:
    triples = [(content, content, label) for content, label in plan.must_hold]
    return _checked(model, "must_hold", plan.must_hold_tolerance, triples)


def _checked(model: Model, name: str, tolerance: float, triples: Sequence[tuple[Any, Any, str]]) -> CheckResult:
    """Triples: (before, after, expected label)."""
    said = _answers(model, [after for _, after, _ in triples])
    slips = [
        Slip(shorten(before), shorten(after), expected, answer)
        for (before, after, expected), answer in zip(triples, said, strict=True)
        if answer != expected
    ]
    return CheckResult(name, tolerance, wilson(len(slips), len(triples)), tuple(slips[:SHOWN]))


def _answers(model: Model, contents: Sequence[Any]) -> list[str]:
    if not contents:
        return []
    return [model.labels[i] for i in predicted(predict(model, contents).scores)]


def _is_text(content: Any) -> bool:
    return isinstance(content, str) or (
        isinstance(content, tuple) and bool(content) and all(isinstance(part, str) for part in content)
    )


def _changed(content: Any, change: Change, rng: np.random.Generator) -> Any:
    """Every column of a content changed."""
    return tuple(change(part, rng) for part in content) if isinstance(content, tuple) else change(content, rng)
