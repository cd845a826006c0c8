"""Trust: whose labels may measure and train? Pure judgement of what labellers said; it looks nothing up.

Four signs speak against a labeller, each by a bound that small numbers cannot reach: agreement with others, agreement
with oneself on the very same content, one class only, and a flood. docs/security.md says what they catch, and how soon.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.data.labellers import Said, token_of
from keepfit.decision import Decision, Outcome
from keepfit.intervals import wilson
from keepfit.sequential import mean_bounds

ALPHA = 0.001
"""Chance that an honest labeller is ever set apart by one sign, however often one looks."""
OTHERS = 30
"""So many examples on which others agree or disagree among themselves are needed to know what to expect."""
NEARER = 0.6
"""How far from answering without looking, on the way to what others reach with each other, a labeller must be."""
REPEATS = 0.6
"""Least agreement with oneself: who errs on a fifth of the examples, each time anew, reaches 0.68."""
RUN = 20
"""A shorter run of one class is never looked at."""
IMPOSSIBLE, ALONE = 1e-6, 1e-9
"""A run less likely than this is no accident; where only the model speaks against it, it must be less likely still."""
FLOOR, FLOOD, HOURS = 200, 10, 3
"""Labels in an hour that are never a flood; how many times the usual is one; active hours that say what is usual."""


@dataclass(frozen=True)
class Agreement:
    """How often two said the same of the same content, the most that it can be, and the least that it must be."""

    same: float
    n: int
    high: float
    floor: float | None
    """None: too little is known of others."""

    @property
    def too_low(self) -> bool:
        """Whether even the most is not enough."""
        return self.floor is not None and self.high < self.floor

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"same": self.same, "n": self.n, "high": round(self.high, 4), "floor": self.floor}


@dataclass(frozen=True)
class Run:
    """The newest labels of one labeller that all say the same class."""

    value: str = ""
    length: int = 0
    log_chance: float | None = None
    """Natural logarithm of the chance that so many all have this class; None: nothing speaks against it."""
    alone: bool = True
    """Whether only the model's answers speak against it."""

    @property
    def impossible(self) -> bool:
        """Whether it is no accident."""
        return self.log_chance is not None and self.log_chance < math.log(ALONE if self.alone else IMPOSSIBLE)


@dataclass(frozen=True)
class Hours:
    """How many labels somebody gave in the present hour, and in each earlier hour in which there were any."""

    now: int = 0
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class Standing:
    """What is known of one labeller."""

    actor: str
    labels: int
    others: Agreement
    repeats: Agreement
    run: Run
    hour: int = 0
    usual: int | None = None
    """The busiest earlier hour, of this labeller or of the others; None: too little is known."""

    def because(self) -> tuple[str, ...]:
        """What speaks against this labeller, in sentences; nothing where all is well."""
        found = []
        if self.usual is not None and self.hour > max(FLOOR, FLOOD * self.usual):
            found.append(f"a flood: {self.hour} labels in an hour; the busiest hour before had {self.usual}")
        if self.run.impossible:
            whom = "the model's answers" if self.run.alone else "the model's answers and other labellers"
            found.append(f"one class only: {self.run.length} times {self.run.value!r}, which {whom} say cannot be")
        if self.others.too_low:
            found.append(f"agrees with others on {self.others.same:g} of {self.others.n}, {expected(self.others)}")
        if self.repeats.too_low:
            found.append(
                f"says the same of the same content {self.repeats.same:g} of {self.repeats.n} times, "
                f"{expected(self.repeats)}"
            )
        return tuple(found)

    def decision(self) -> Decision | None:
        """The judgement that sets this labeller apart; None where nothing speaks against it."""
        because = self.because()
        return Decision(Outcome.HOLD, because, self.to_json()) if because else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, the evidence of a decision."""
        run = {"value": self.run.value, "length": self.run.length, "log_chance": self.run.log_chance}
        return {
            "actor": self.actor, "labels": self.labels, "others": self.others.to_json(),
            "repeats": self.repeats.to_json(), "run": run, "hour": self.hour, "usual": self.usual,
        }  # fmt: skip


def expected(found: Agreement) -> str:
    """What an agreement is compared with, in words."""
    return f"at most {found.high:.0%} in truth, where {found.floor:.0%} is the least of somebody who looks"


def standings(
    said: Sequence[Said], apart: Collection[str] = (), cleared: Mapping[str, int] | None = None,
    hours: Mapping[str, Hours] | None = None, about: Collection[str] | None = None,
) -> list[Standing]:  # fmt: skip
    """What is known of every labeller, by name, and of every token through which several speak.

    `apart`: they stay in the list, and are nobody's witness. `cleared`: a person cleared them when the newest label had
    this number, so what they said until then counts neither for nor against them. `hours`: of every labeller, and of
    every token together. `about`: only those who are named, or speak through a token that is named; None: all.
    """
    known = cleared or {}
    fresh = [one for one in said if one.seq > max(known.get(one.actor, 0), known.get(token_of(one.actor), 0))]
    heard = [one for one in said if not is_apart(one.actor, apart)]
    names = {one.actor for one in said} | set(tokens(fresh))
    wanted = names if about is None else {name for name in names if name in about or token_of(name) in about}
    return [_standing(name, fresh, heard, apart, hours or {}) for name in sorted(wanted)]


def tokens(said: Iterable[Said]) -> list[str]:
    """Through whom more than one labeller speaks, so that invented names hide nobody."""
    speakers: dict[str, set[str]] = {}
    for one in said:
        speakers.setdefault(token_of(one.actor), set()).add(one.actor)
    return [token for token, actors in speakers.items() if len(actors) > 1]


def is_apart(actor: str, apart: Collection[str]) -> bool:
    """Whether somebody, or the token through which they speak, is set apart."""
    return actor in apart or token_of(actor) in apart


def speaks_for(name: str, actor: str) -> bool:
    """Whether labels of the actor are labels of this name: it is the actor, or its token.

    >>> speaks_for("shop", "shop:ann"), speaks_for("shop:ann", "shop"), speaks_for("shop", "shopping")
    (True, False, False)
    """
    return name == actor or name == token_of(actor)


def _standing(
    name: str, fresh: Sequence[Said], heard: Sequence[Said], apart: Collection[str], hours: Mapping[str, Hours]
) -> Standing:
    own = [one for one in fresh if speaks_for(name, one.actor)]
    others = [one for one in heard if not speaks_for(name, one.actor)]
    alone = all(one.actor == name for one in own)  # a token's labellers may well differ among themselves
    return Standing(
        name, len(own),
        _with_others(name, own, others) if alone else _NOTHING,
        _with_oneself(own) if alone else _NOTHING,
        _run(own, others), *_hours(name, apart, hours),
    )  # fmt: skip


_NOTHING = Agreement(0, 0, 1.0, None)


def _with_others(name: str, own: Sequence[Said], others: Sequence[Said]) -> Agreement:
    """One comparison per content, with all who spoke of it. What is expected is how far others agree with each other.

    Everyone who speaks through another token counts as one voice, so that one token cannot outvote anybody by inventing
    names. The least that is enough lies between chance, given what each says how often, and what others reach.
    """
    voices: dict[str, dict[str, str]] = {}
    for one in others:
        voice = one.actor if token_of(one.actor) == token_of(name) else token_of(one.actor)
        voices.setdefault(one.alike, {}).setdefault(voice, one.value)
    mine = {one.alike: one.value for one in own}
    pairs = [(mine[alike], list(voices[alike].values())) for alike in mine if alike in voices]
    shares = [said.count(value) / len(said) for value, said in pairs]
    high, same = mean_bounds(shares, 2 * ALPHA)[1], round(sum(shares), 1)
    spoken = [list(values.values())[:2] for values in voices.values() if len(values) > 1]
    if len(spoken) < OTHERS or not pairs:
        return Agreement(same, len(pairs), high, None)
    usual = wilson(sum(a == b for a, b in spoken), len(spoken)).low
    left = Counter(value for value, _ in pairs)
    right = Counter(value for _, said in pairs for value in said)
    chance = sum(left[value] * right[value] for value in left) / (left.total() * right.total())
    return Agreement(same, len(pairs), high, round(chance + NEARER * (usual - chance), 4) if usual > chance else None)


def _with_oneself(own: Sequence[Said]) -> Agreement:
    """On the very same content in different examples; a change of mind about one example is no contradiction."""
    latest: dict[str, dict[str, str]] = {}
    for one in own:
        latest.setdefault(one.alike, {})[one.example] = one.value
    pairs = [
        (before, after)
        for values in map(list, (found.values() for found in latest.values()))
        for before, after in zip(values[::2], values[1::2], strict=False)
    ]
    high = mean_bounds([float(a == b) for a, b in pairs], 2 * ALPHA)[1]
    return Agreement(sum(a == b for a, b in pairs), len(pairs), high, REPEATS)


def _run(own: Sequence[Said], others: Sequence[Said]) -> Run:
    """The run of one class with which the labels end, and how likely it is by the most lenient witness.

    The witnesses: the model's answers on the same examples, what others say, and what the labeller said before. A
    model that never answers this class there may be blind to it (that is the harm which labels are to show), and who
    sends labels unasked may send errors only: then the model is no witness, and others are one only for examples that
    were drawn by chance. Examples that were picked because two versions disagree, or because the model was unsure, are
    left out on both sides: all of them may be of one class.
    """
    own, others = [one for one in own if not one.picked], [one for one in others if not one.picked]
    if not own:
        return Run()
    value = own[-1].value
    length = next((n for n, one in enumerate(reversed(own)) if one.value != value), len(own))
    run, before = own[len(own) - length :], own[: len(own) - length]
    if length < RUN:
        return Run(value, length)
    later = [one for one in others if one.seq >= run[0].seq and one.measures]
    peers = later if len(later) >= RUN else [one for one in others if one.measures]
    answered = [one.answered == value for one in run if one.answered is not None]
    witnesses = [_share(answered)] if len(answered) >= RUN else []
    heard = len(peers) >= RUN
    if not (witnesses and any(answered)) and not (heard and all(one.measures for one in run)):
        return Run(value, length)
    witnesses += [_share([one.value == value for one in peers])] if heard else []
    witnesses += [_share([one.value == value for one in before])] if len(before) >= RUN else []
    share = max(witnesses)
    return Run(value, length, round(length * math.log(share), 2) if share < 1 else 0.0, not heard)


def _share(hits: Sequence[bool]) -> float:
    """The most that a share may be (99 %)."""
    return wilson(sum(hits), len(hits), 0.99).high


def _hours(name: str, apart: Collection[str], hours: Mapping[str, Hours]) -> tuple[int, int | None]:
    """Labels in the present hour, and the busiest hour before of this labeller, or of the others.

    The others are other tokens as a whole, and those who speak through the same token.
    """
    own, token = hours.get(name, Hours()), token_of(name)
    rest = [actor for actor in hours if actor != name and not is_apart(actor, apart)]
    tokens_of_others = [actor for actor in rest if ":" not in actor and actor != token]
    same_token = [actor for actor in rest if ":" in actor and token_of(actor) == token] if name != token else []
    others = [n for actor in (*tokens_of_others, *same_token) for n in hours[actor].earlier]
    known = [group for group in (own.earlier, others) if len(group) >= HOURS]
    return own.now, max((max(group) for group in known), default=None)
