"""Foreign versions: models that are served elsewhere and only watched here, under the names that they have there.

A foreign version is registered like any other, so its number is nobody else's, and its lineage says "elsewhere". Its
folder holds no network: it is compared with and looked back on, but neither served nor promoted. What its monitors
compare with is made of its own first answers that have a label that measures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from keepfit.data.records import Label, Prediction, Window
from keepfit.data.snapshot import Rows, Split
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput, NotFound, Refused
from keepfit.evaluation.evaluator import REFERENCE, Evaluation, Judged, write_reference
from keepfit.intervals import Interval
from keepfit.registry.registry import Lineage, ModelVersion, Registry
from keepfit.tasks.loading import ELSEWHERE
from keepfit.tasks.task import Output
from keepfit.training.recipe import Recipe

NAMES = "foreign"
"""The named value that maps names to numbers, for those who must not load the registry."""
LONGEST_NAME = 200
FEWEST, USUAL, MOST = 100, 400, 2_000
"""Labelled answers that a reference needs, has where there are so many, and takes at most."""
BEGINNING = 0.2
"""The part of a version's answers that counts as its beginning, when it was as good as it was meant to be."""


def foreign_numbers(store: RecordStore, model: str) -> dict[str, int]:
    """The numbers of the foreign versions by their own names; asks the store alone."""
    return {str(name): int(number) for name, number in (store.get(model, NAMES) or {}).items()}


def foreign_name(store: RecordStore, model: str, number: int) -> str | None:
    """The name of a foreign version where it is served; None of one of keepfit's own."""
    return next((name for name, known in foreign_numbers(store, model).items() if known == number), None)


def is_foreign(version: ModelVersion) -> bool:
    """Whether it is served elsewhere."""
    return version.lineage.reason == ELSEWHERE


def refuse_foreign(version: ModelVersion) -> None:
    """Raises Refused for a foreign version, which nobody can serve here."""
    if is_foreign(version):
        raise Refused(
            f"version {version.number} ({version.lineage.code!r}) is served elsewhere: keepfit watches it and has no "
            "network of it, so it cannot be promoted or served here; `keepfit train` makes a version that can"
        )


def foreign_version(
    store: RecordStore, registry: Registry, model: str, name: str, labels: Sequence[str], at: datetime
) -> int:
    """The number of the foreign version of this name; registered with its classes (in the order of its scores) if new.

    The same name is one version, from however many processes it is asked for. Raises InvalidInput for a name that is
    empty or longer than 200 characters, or without classes.
    """
    known = foreign_numbers(store, model)
    if name in known:
        return known[name]
    if not name.strip() or len(name) > LONGEST_NAME:
        raise InvalidInput(f"a version's name has 1 to {LONGEST_NAME} characters, not {len(name)}", "version")
    if not labels:
        raise InvalidInput(f"the version {name!r} needs its classes before it can be registered", "labels")
    lineage = Lineage(ELSEWHERE, Recipe(), ELSEWHERE, f"{ELSEWHERE}-{model}-{name}", None, name)
    with TemporaryDirectory() as place:
        folder = Path(place)
        facts = {"format": 1, "task": ELSEWHERE, "name": name, "labels": list(labels)}
        (folder / "model.json").write_text(json.dumps(facts, sort_keys=True), "utf-8")
        made = registry.register(model, folder, lineage, unjudged(labels), at)
    registry.fetch(model, made.number)
    # read again: another process may have registered another name meanwhile
    store.put(model, NAMES, {**foreign_numbers(store, model), name: made.number})
    return made.number


def unjudged(labels: Sequence[str]) -> Evaluation:
    """What is known of a version before anything is: nothing."""
    names = tuple(labels)
    nothing = Interval(0.0, 0.0, 1.0, 0)
    metrics = {"accuracy": nothing, "macro_f1": nothing}
    return Evaluation(ELSEWHERE, Split.TEST, 0, names, metrics, {}, tuple((0,) * len(names) for _ in names))


def ensure_reference(
    store: RecordStore, registry: Registry, model: str, number: int, until: datetime, fewest: int = FEWEST
) -> int:
    """Make the reference of a foreign version out of its first labelled answers, once; how many rows it has.

    0 while fewer than `fewest` answers before `until` have a label that measures.
    """
    folder = registry.fetch(model, number)
    if (folder / REFERENCE).is_file():
        with np.load(folder / REFERENCE, allow_pickle=False) as archive:
            return len(archive["truth"])
    pairs = first_labelled(store, model, number, until)
    if len(pairs) < fewest:
        return 0
    judged = judged_of(pairs, registry.version(model, number).evaluation.labels)
    registry.revise(model, number, lambda copy: bool(write_reference(copy, judged)))
    return len(pairs)


def need_reference(store: RecordStore, registry: Registry, model: str, number: int, now: datetime) -> None:
    """Of a foreign version: make its reference, or raise NotFound while too few of its answers have a label."""
    name = foreign_name(store, model, number)
    if name is not None and not ensure_reference(store, registry, model, number, now):
        raise NotFound(
            f"version {number} ({name!r}, served elsewhere) has nothing to compare with yet: {FEWEST} of its answers "
            "need a label that measures (asked or complete); bring labels with keepfit import-history or keepfit label"
        )


def first_labelled(store: RecordStore, model: str, number: int, until: datetime) -> list[tuple[Prediction, Label]]:
    """The oldest answers that have a label that measures, in the order of their times: those of its beginning.

    Read in windows that double from a day on, so that a long history need not fit into memory.
    """
    made = store.made_by(model, number)
    if made.first is None:
        return []
    most = min(MOST, max(USUAL, round(BEGINNING * made.count)))
    length, start = 86_400.0, made.first
    end = min(until, datetime.fromtimestamp(made.last.timestamp() + 1, UTC) if made.last is not None else until)
    while True:
        stop = min(datetime.fromtimestamp(start.timestamp() + length, UTC), end)
        pairs = store.labelled(model, Window(start, stop), number)
        if len(pairs) >= most or stop >= end:
            return pairs[:most]
        length *= 2


def judged_of(pairs: Sequence[tuple[Prediction, Label]], labels: Sequence[str]) -> Judged:
    """Answers beside the truth, as an evaluation has them; contents are not needed."""
    index = {label: number for number, label in enumerate(labels)}
    said = [prediction for prediction, _ in pairs]
    truth = tuple(label.value for _, label in pairs)
    ids, times = tuple(one.example_id for one in said), tuple(one.time for one in said)
    n = len(pairs)
    rows = Rows(("",) * n, truth, ids, ids, times, np.ones(n, bool), np.ones(n, np.float32))
    width = max(len(one.embedding) for one in said)
    embeddings = np.stack([one.embedding if len(one.embedding) else np.zeros(width, np.float32) for one in said])
    names = set.intersection(*(set(one.measures) for one in said))
    return Judged(
        rows, tuple(labels), np.array([index.get(value, -1) for value in truth], np.int64),
        Output(np.stack([one.scores for one in said]), embeddings),
        {name: np.array([one.measures[name] for one in said], np.float32) for name in sorted(names)},
    )  # fmt: skip
