"""What keepfit knows of a model that it does not serve: its recorded answers as a champion, and as the normal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from keepfit.data.foreign import ForeignVersion, is_foreign
from keepfit.data.records import Prediction, Source, Window
from keepfit.data.snapshot import Split
from keepfit.data.splits import content_group
from keepfit.data.store import RecordStore
from keepfit.errors import NotFound
from keepfit.evaluation.evaluator import Evaluation, Reference
from keepfit.pipelines.intake import foreign_of
from keepfit.registry.registry import Alias, Lineage, ModelVersion, Registry
from keepfit.tasks.recorded import Recorded
from keepfit.training.recipe import Recipe

NORMAL = 500
"""The first answers of a version that are the normal of its watch."""
FEWEST_LABELS = 30
"""With so many labels among them, the labelled ones are: only then can its accuracy be a normal, too."""
MOST = 100_000
ALWAYS = Window(datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def recorded_champion(store: RecordStore, model: str, number: int) -> Recorded:
    """A foreign version by the newest of its answers to each content."""
    labels = foreign_of(store, model, number).labels
    said: dict[str, Any] = {}
    examples = {one.id: one for one in store.examples(model, ALWAYS, MOST)}
    for prediction in store.predictions(model, ALWAYS, number, MOST, heard=True):
        example = examples.get(prediction.example_id)
        if example is not None and example.content is not None:
            said[content_group(example.content)] = prediction.scores
    return Recorded(labels, said)


def recorded_reference(store: RecordStore, model: str, number: int) -> Reference:
    """The first answers of a foreign version, frozen once there are enough, with the truth where labels came.

    Until then, and without enough labels, the truth is empty: what its accuracy should be is not known, and harm that
    began early must not pass for the normal.
    """
    version = foreign_of(store, model, number)
    first = first_answers(store, model, number)
    labelled = {
        p.id: label.value for p, label in store.labelled(model, span(first), number, frozenset(Source)) if first
    }
    if len(labelled) >= FEWEST_LABELS and store.get(model, f"normal of {number}") is not None:
        first = [one for one in first if one.id in labelled]
        index = {label: place for place, label in enumerate(version.labels)}
        truth = np.array([index.get(labelled[one.id], -1) for one in first], np.int64)
    else:
        truth = np.zeros(0, np.int64)
    return reference_of(first, version, truth)


def first_answers(store: RecordStore, model: str, number: int) -> list[Prediction]:
    """Oldest first; up to a moment that is remembered once there are enough of them."""
    name = f"normal of {number}"
    until = store.get(model, name)
    if until is None:
        found = store.predictions(model, ALWAYS, number, MOST, heard=True)[:NORMAL]
        if len(found) == NORMAL:
            store.put(model, name, found[-1].time)
        return found
    window = Window(ALWAYS.start, datetime.fromisoformat(until))
    return store.predictions(model, window, number, NORMAL, heard=True)


def span(said: list[Prediction]) -> Window:
    """From the first to the last."""
    return Window(said[0].time, ALWAYS.end) if said else Window(ALWAYS.start, ALWAYS.start)


def reference_of(first: list[Prediction], version: ForeignVersion, truth: Any) -> Reference:
    """Arrays of the answers."""
    k, width = len(version.labels), version.width or 1
    scores = np.stack([one.scores for one in first]) if first else np.zeros((0, k), np.float32)
    places = np.stack([one.embedding for one in first]) if first else np.zeros((0, width), np.float32)
    measured = {"length"} if first and all("length" in one.measures for one in first) else set()
    measures = {name: np.array([one.measures[name] for one in first], np.float32) for name in measured}
    times = np.array([one.time.timestamp() for one in first])
    return Reference(scores.astype(np.float32), places.astype(np.float32), truth, measures, times)


def told_elsewhere(reference: Reference, width: int) -> Reference:
    """The normal of a version of our own that answers elsewhere: without what its answers there come without.

    `width`: numbers in the embeddings that come, 0 for none. A tokenizer's facts come in no case.
    """
    blank = np.zeros((len(reference.scores), 1), np.float32)
    return replace(reference, embeddings=reference.embeddings if width else blank, measures={})


class WithForeign:
    """A registry that also knows of the versions of another system, which have neither files nor runs here."""

    def __init__(self, registry: Registry, store: RecordStore) -> None:
        self._registry, self._store = registry, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def version(self, name: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        if not is_foreign(number):
            return self._registry.version(name, number)
        known = foreign_of(self._store, name, number)
        nothing = Evaluation("", Split.TEST, 0, known.labels, {}, {}, ())
        return ModelVersion(name, number, Lineage("", Recipe(), "elsewhere", known.name), nothing, known.at)

    def fetch(self, name: str, number: int) -> Any:
        """Raises NotFound for a version whose files are elsewhere."""
        if is_foreign(number):
            called = foreign_of(self._store, name, number).name
            raise NotFound(f"{called!r} is a version of another system, its files are not here")
        return self._registry.fetch(name, number)

    def set_alias(self, name: str, alias: Alias, number: int | None) -> None:
        """While another system's version answers, none of ours is champion."""
        self._registry.set_alias(name, alias, None if number is not None and is_foreign(number) else number)


def with_foreign(registry: Registry, store: RecordStore) -> Registry:
    """The same registry, knowing of foreign versions."""
    return cast(Registry, WithForeign(registry, store))
