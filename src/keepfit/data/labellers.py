"""Labellers in the store: who was set apart, and what people said, as it came in.

A labeller is an actor of labels. With tokens it is `TOKEN:actor` or the token's own name, and setting the token apart
sets apart everyone who speaks through it. `silence` and imported files are no labellers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select

from keepfit.data.database import chunks, insert_or_replace
from keepfit.data.predictions import best_label, label_sets
from keepfit.data.records import AUDIT, MEASURING, UNIFORM, Source, is_content_hash
from keepfit.data.schema import LABELLERS, LABELS, NAMED_VALUES, PREDICTIONS, QUEUE

SILENCE, FILE = "silence", "file"
NOBODY = frozenset({SILENCE, FILE})
"""Actors that are no labellers; nobody may speak under these names."""
BY_HAND = "labels_by_hand"
"""Under this name the store counts the labels that were handed in by the command line, by actor."""
L, P, A = LABELS.c, PREDICTIONS.c, LABELLERS.c


@dataclass(frozen=True)
class Labeller:
    """About whom something was decided."""

    model: str
    actor: str
    apart: bool
    since: datetime
    decided_by: str
    """keepfit, or a person."""
    because: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """One label by a person, as trust looks at it."""

    seq: int
    """Rises in the order in which labels came in, whatever their times say."""
    actor: str
    example: str
    alike: str
    """The same for examples of the very same content."""
    value: str
    answered: str | None
    """What the model had answered; None when that is not stored any more."""
    measures: bool
    """Asked or complete, so that the example was not chosen by its sender."""
    picked: bool = False
    """Asked for because of what versions answered: one class may well prevail among such examples."""


def token_of(actor: str) -> str:
    """Through whom somebody speaks: the part before the first colon; the actor itself where there is none.

    >>> token_of("shop:ann"), token_of("ann")
    ('shop', 'ann')
    """
    return actor.partition(":")[0]


def labellers(conn: Connection, model: str) -> list[Labeller]:
    """Everyone about whom something was decided, by name."""
    query = select(*(A[field.name] for field in fields(Labeller))).where(A.model == model).order_by(A.actor)
    return [replace(found, because=tuple(found.because)) for found in (Labeller(*row) for row in conn.execute(query))]


def set_labeller(conn: Connection, labeller: Labeller) -> None:
    """What is decided now replaces what was decided before."""
    insert_or_replace(conn, LABELLERS, {field.name: getattr(labeller, field.name) for field in fields(labeller)})


def heard(model: str | ColumnElement[Any], actor: ColumnElement[Any] = L.actor) -> ColumnElement[bool]:
    """Of a row of labels: nobody set its actor apart, nor the token through which the actor speaks."""
    through = func.substr(actor, 1, func.length(A.actor) + 1) == A.actor + ":"
    return ~exists().where(A.model == model, A.apart.is_(True), or_(actor == A.actor, through))


def count_by_hand(conn: Connection, model: str, actors: Sequence[str]) -> None:
    """Notes labels that came by the command line."""
    n = NAMED_VALUES.c
    before = conn.execute(select(n.value).where(n.model == model, n.name == BY_HAND)).scalar() or {}
    value = dict(Counter(before) + Counter(actors))
    insert_or_replace(conn, NAMED_VALUES, {"model": model, "name": BY_HAND, "value": value})


def labels_after(model: str, number: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Those of a model with a higher number; hidden from the indices that lead through all labels of a model."""
    return func.coalesce(L.model, "") == model, L.seq > number


def arrived(conn: Connection, model: str, after: int) -> tuple[int, dict[str, int]]:
    """The number of the newest label, and how many labels each person has given since the one with number `after`."""
    newest = conn.execute(select(L.seq).where(*labels_after(model, after)).order_by(L.seq.desc()).limit(1)).scalar()
    fresh = (*labels_after(model, after), *_by_people())
    query = select(L.actor, func.count()).where(*fresh).group_by(L.actor)
    return int(newest or after), {actor: int(count) for actor, count in conn.execute(query)}


def said(
    conn: Connection, model: str, last: int,
    truth: Callable[[str, datetime], str | None], answer: Callable[[int, str, datetime], str],
) -> list[Said]:  # fmt: skip
    """The `last` labels of people, oldest first, and the answers to their examples.

    Under the names of today: `truth` reads a label of then (None: its class is retired, and it is left out), `answer`
    what a version said then. Two who mean the same must not seem to contradict each other.
    """
    columns = (L.seq, L.actor, L.example_id, L.value, L.source, L.time)
    query = select(*columns).where(L.model == model, *_by_people()).order_by(L.seq.desc()).limit(last)
    rows = conn.execute(query).all()[::-1]
    examples = {row.example_id for row in rows}
    answers, picked = _answers(conn, model, examples, answer), _picked(conn, model, examples)
    found = []
    for seq, actor, example, then, source, at in rows:
        if (value := truth(then, at)) is None:
            continue
        alike, answered = answers.get(example, (example, None))
        measures = Source(source) in MEASURING
        found.append(Said(seq, actor, example, alike, value, answered, measures, measures and example in picked))
    return found


def _by_people() -> tuple[ColumnElement[bool], ...]:
    return (L.source != Source.IMPORTED.value, L.actor.not_in(sorted(NOBODY)))


def _picked(conn: Connection, model: str, examples: Collection[str]) -> set[str]:
    """The examples that only such parts of the queue drew as look at what versions answered."""
    found: set[str] = set()
    for chunk in chunks(sorted(examples)):
        query = select(QUEUE.c.example_id, QUEUE.c.parts)
        for example, parts in conn.execute(query.where(QUEUE.c.model == model, QUEUE.c.example_id.in_(chunk))):
            if parts and not parts.keys() & {UNIFORM, AUDIT}:
                found.add(example)
    return found


def _answers(
    conn: Connection, model: str, examples: Collection[str], answer: Callable[[int, str, datetime], str]
) -> Mapping[str, tuple[str, str | None]]:
    """Of each example what stands for its content, and what the newest answer that a user saw was."""
    sets = label_sets(conn, model)
    found: dict[str, tuple[str, str | None]] = {}
    for chunk in chunks(sorted(examples)):
        query = select(P.example_id, P.group, P.label_set, P.scores, P.version, P.time)
        query = query.where(P.model == model, P.shadow.is_(False), P.example_id.in_(chunk)).order_by(P.time, P.id)
        for example, group, label_set, scores, version, time in conn.execute(query):
            # a text's group is the hash of it; any other group (a video) holds what is not alike
            alike = group if is_content_hash(group) else example
            found[example] = (alike, answer(version, best_label(sets[label_set], scores), time))
    return found
