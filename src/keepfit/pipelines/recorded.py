"""What keepfit knows of a model that it does not serve: its recorded answers as a champion, and as the normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from keepfit.data.foreign import ForeignVersion
from keepfit.data.records import EMBEDDED, Label, Prediction, Window
from keepfit.data.store import RecordStore
from keepfit.evaluation.evaluator import Reference
from keepfit.pipelines.foreign import foreign_of
from keepfit.tasks.recorded import Recorded

FIRST = 500
"""The first answers of a version: the normal of its watch until enough of them have labels."""
FEWEST, USUAL, MOST = 100, 400, 2_000
"""Labelled answers that a normal with the truth needs, has where there are so many, and takes at most."""
BEGINNING = 0.2
"""The part of a version's answers that counts as its beginning, when it was as good as it was meant to be."""
ALL = 100_000
ALWAYS = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))

Pairs = Sequence[tuple[Prediction, Label]]


def recorded_champion(store: RecordStore, model: str, number: int) -> Recorded:
    """A foreign version by the newest of its answers to each content; also of texts that were not kept as they came."""
    labels = foreign_of(store, model, number).labels
    said: dict[str, Any] = {}
    examples = {one.id: one for one in store.examples(model, ALWAYS, ALL)}
    for prediction in store.predictions(model, ALWAYS, number, ALL, heard=True):
        example = examples.get(prediction.example_id)
        if example is not None and example.content is not None:
            said[example.group_or_default()] = prediction.scores
    return Recorded(labels, said)


def recorded_reference(store: RecordStore, model: str, number: int, now: datetime) -> Reference:
    """The first answers of a foreign version that have a label that measures, where FEWEST have one until `now`.

    Which these are is remembered, so that labels that come later change nothing. Until there are enough it is the first
    answers, and the truth is empty: what the accuracy should be is not known, and harm that began early must not pass
    for the normal.
    """
    version = foreign_of(store, model, number)
    if pairs := first_labelled(store, model, number, now):
        index = {label: place for place, label in enumerate(version.labels)}
        truth = [index.get(label.value, -1) for _, label in pairs]
        return reference_of([said for said, _ in pairs], version, np.array(truth, np.int64))
    return reference_of(first_answers(store, model, number), version, np.zeros(0, np.int64))


def first_labelled(store: RecordStore, model: str, number: int, now: datetime) -> Pairs:
    """The answers of the beginning with their labels, the same ever after; none while there are fewer than FEWEST."""
    name = f"normal of {number}"
    kept = store.get(model, name)
    if kept is not None:
        until, known = (datetime.fromisoformat(kept[moment]) for moment in ("until", "known"))
        pairs = store.labelled(model, Window(ALWAYS.start, until), number)
        return [pair for pair in pairs if pair[1].time <= known][: kept["rows"]]
    found = oldest_labelled(store, model, number, now)
    if len(found) < FEWEST:
        return []
    until = datetime.fromtimestamp(found[-1][0].time.timestamp() + 1, UTC)
    known = max(now, *(label.time for _, label in found))
    store.put(model, name, {"until": until.isoformat(), "known": known.isoformat(), "rows": len(found)})
    return found


def oldest_labelled(store: RecordStore, model: str, number: int, now: datetime) -> Pairs:
    """Read in windows that double from a day on, so that a long history need not fit into memory."""
    made = store.made_by(model, number)
    if made.first is None or made.last is None:
        return []
    most = min(MOST, max(USUAL, round(BEGINNING * made.count)))
    length, start = 86_400.0, made.first
    end = min(now, datetime.fromtimestamp(made.last.timestamp() + 1, UTC))
    while start < end:
        stop = min(datetime.fromtimestamp(start.timestamp() + length, UTC), end)
        pairs = store.labelled(model, Window(start, stop), number)
        if len(pairs) >= most or stop >= end:
            return pairs[:most]
        length *= 2
    return []


def first_answers(store: RecordStore, model: str, number: int) -> list[Prediction]:
    """Oldest first; up to a moment that is remembered once there are enough of them."""
    name = f"first of {number}"
    until = store.get(model, name)
    if until is None:
        found = store.predictions(model, ALWAYS, number, ALL, heard=True)[:FIRST]
        if len(found) == FIRST:
            store.put(model, name, found[-1].time)
        return found
    window = Window(ALWAYS.start, datetime.fromisoformat(until))
    return store.predictions(model, window, number, FIRST, heard=True)


def reference_of(first: Sequence[Prediction], version: ForeignVersion, truth: Any) -> Reference:
    """Arrays of the answers; where embeddings are kept of a share only [keep.embeddings], of the answers with one."""
    k, width = len(version.labels), version.width
    whole = np.array([len(one.embedding) == width for one in first], bool)
    if whole.any() and not whole.all():
        first = [one for one, kept in zip(first, whole, strict=True) if kept]
        truth = truth[whole] if len(truth) else truth
    scores = np.stack([one.scores for one in first]) if first else np.zeros((0, k), np.float32)
    places = np.stack([one.embedding for one in first]) if whole.any() else np.zeros((len(first), width), np.float32)
    names = set.intersection(*(set(one.measures) for one in first)) - {EMBEDDED} if first else set()
    measures = {name: np.array([one.measures[name] for one in first], np.float32) for name in sorted(names)}
    times = np.array([one.time.timestamp() for one in first])
    return Reference(scores.astype(np.float32), places.astype(np.float32), truth, measures, times)


def told_elsewhere(reference: Reference, width: int) -> Reference:
    """The normal of a version of our own that answers elsewhere: without what its answers there come without.

    `width`: numbers in the embeddings that come, 0 for none. A tokenizer's facts come in no case.
    """
    none = np.zeros((len(reference.scores), 0), np.float32)
    return replace(reference, embeddings=reference.embeddings if width else none, measures={})
