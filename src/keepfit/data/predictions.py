"""Examples and predictions in the store: written in bulk, read by time, version, example or group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, func, select

from keepfit.data.database import chunks, insert_or_skip, newer_wins
from keepfit.data.records import CONTROL, FIRST, FIRST_SURE, Example, Prediction, Window, is_withheld
from keepfit.data.schema import EXAMPLES, LABEL_SETS, PREDICTIONS
from keepfit.errors import NotFound

P = PREDICTIONS.c
E = EXAMPLES.c
PREDICTION_COLUMNS = (
    P.id, P.example_id, P.version, P.time, P.label_set, P.scores, P.embedding, P.key, P.context, P.measures, P.stage,
    P.shadow, P.request,
)  # fmt: skip
EXAMPLE_COLUMNS = (E.id, E.time, E.key, E.group, E.content, E.context)
FARTHER = 8
"""Behind a first stage so many times as much is read, to find enough that stands for all."""
_HALF = float(np.finfo(np.float16).max)

LabelSets = dict[str, tuple[str, ...]]


def add_predictions(conn: Connection, model: str, pairs: Sequence[tuple[Example, Prediction]]) -> None:
    """Writes what is new by id. An example's id that comes again with other content: the newer content holds."""
    if not pairs:
        return
    sets = {prediction.labels: label_set_id(prediction.labels) for _, prediction in pairs}
    rows = [{"model": model, "id": id_, "labels": labels} for labels, id_ in sorted(sets.items())]
    insert_or_skip(conn, LABEL_SETS, rows)
    add_examples(conn, model, (example for example, _ in pairs))
    rows = [_prediction_row(model, example, prediction, sets) for example, prediction in pairs]
    insert_or_skip(conn, PREDICTIONS, rows)


def add_later(conn: Connection, model: str, said: Sequence[Prediction]) -> None:
    """Writes predictions of examples that are stored, and none of others."""
    here = select(*EXAMPLE_COLUMNS).where(E.model == model, E.id.in_([one.example_id for one in said]))
    examples = {example.id: example for example in map(read_example, conn.execute(here))}
    add_predictions(conn, model, [(examples[one.example_id], one) for one in said if one.example_id in examples])


def unknown(
    conn: Connection, model: str, pairs: Sequence[tuple[Example, Prediction]]
) -> list[tuple[Example, Prediction]]:
    """Those whose prediction is not stored yet, each once."""
    known: set[str] = set()
    for chunk in chunks(said.id for _, said in pairs):
        known.update(conn.execute(select(P.id).where(P.model == model, P.id.in_(chunk))).scalars())
    return list({said.id: (example, said) for example, said in pairs if said.id not in known}.values())


def contents(conn: Connection, model: str, example_ids: Iterable[str]) -> dict[str, Any]:
    """By example id what is stored; a list comes back as a tuple."""
    found: dict[str, Any] = {}
    for chunk in chunks(example_ids):
        rows = conn.execute(select(E.id, E.content).where(E.model == model, E.id.in_(chunk)))
        found.update((id_, tuple(content) if isinstance(content, list) else content) for id_, content in rows)
    return found


def add_examples(conn: Connection, model: str, examples: Iterable[Example]) -> None:
    """Writes what is new by id, replaces an older one of other content."""
    ordered = sorted(examples, key=lambda example: example.id)  # two writers of the same ids: no deadlock
    newer_wins(conn, EXAMPLES, [example_row(model, example) for example in ordered])


def example_row(model: str, example: Example) -> dict[str, Any]:
    return {
        "model": model,
        "id": example.id,
        "time": example.time,
        "key": example.key,
        "group": example.group,
        "content": example.content,
        "context": example.context,
    }


def _prediction_row(
    model: str, example: Example, prediction: Prediction, sets: dict[tuple[str, ...], str]
) -> dict[str, Any]:
    return {
        "model": model,
        "id": prediction.id,
        "example_id": prediction.example_id,
        "group": example.group_or_default(),
        "version": int(prediction.model_version),
        "time": prediction.time,
        "label_set": sets[prediction.labels],
        "scores": np.asarray(prediction.scores, np.float32).tobytes(),
        "embedding": half_bytes(prediction.embedding),
        "key": prediction.key,
        "context": prediction.context,
        "measures": prediction.measures,
        "stage": prediction.stage,
        "shadow": prediction.shadow,
        "request": prediction.request,
    }


def half_bytes(embedding: NDArray[np.float32]) -> bytes:
    """Shape (d,) as float16 bytes; what float16 cannot reach becomes its largest value."""
    return np.clip(embedding, -_HALF, _HALF).astype(np.float16).tobytes()


def label_set_id(labels: tuple[str, ...]) -> str:
    """The hash of the classes in their order."""
    return hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16]


def best_label(labels: Sequence[str], scores: bytes) -> str:
    """The label with the highest of the stored scores (float32), one for each label."""
    return labels[int(np.frombuffer(scores, np.float32).argmax())]


def label_sets(conn: Connection, model: str) -> LabelSets:
    """The classes of every version, by the hash that predictions name."""
    query = select(LABEL_SETS.c.id, LABEL_SETS.c.labels).where(LABEL_SETS.c.model == model)
    return {id_: tuple(labels) for id_, labels in conn.execute(query)}


def read_prediction(row: Sequence[Any], sets: LabelSets) -> Prediction:
    """The prediction of a row of PREDICTION_COLUMNS."""
    id_, example_id, version, time, label_set, scores, embedding, key, context, measures, stage, shadow, request = row
    return Prediction(
        example_id=example_id,
        model_version=version,
        labels=sets[label_set],
        scores=np.frombuffer(scores, np.float32),
        embedding=np.frombuffer(embedding, np.float16).astype(np.float32),
        time=time,
        id=id_,
        key=key,
        context=context,
        measures=measures,
        stage=stage,
        shadow=shadow,
        request=request,
    )


def read_example(row: Sequence[Any]) -> Example:
    """The example of a row of EXAMPLE_COLUMNS; a list in its content comes back as a tuple."""
    id_, time, key, group, content, context = row
    return Example(tuple(content) if isinstance(content, list) else content, time, id_, key, context, group)


def prediction(conn: Connection, model: str, prediction_id: str) -> tuple[Example, Prediction]:
    """Raises NotFound."""
    pair = _first_pair(conn, model, P.id == prediction_id)
    if pair is None:
        raise NotFound(f"No prediction {prediction_id!r} of the model {model!r} is stored; give the id of an answer.")
    return pair


def find_prediction(
    conn: Connection, model: str, example_id: str | None, group: str | None
) -> tuple[Example, Prediction] | None:
    """The newest prediction of an example or group; a shadow's only where nobody else answered."""
    if (example_id is None) == (group is None):
        raise ValueError("give either example_id or group")
    which = P.example_id == example_id if example_id is not None else P.group == group
    pair = _first_pair(conn, model, which, P.shadow.is_(False))
    return pair or _first_pair(conn, model, which)


def _first_pair(conn: Connection, model: str, *which: ColumnElement[bool]) -> tuple[Example, Prediction] | None:
    joined = PREDICTIONS.join(EXAMPLES, (E.model == P.model) & (E.id == P.example_id))
    query = select(*EXAMPLE_COLUMNS, *PREDICTION_COLUMNS).select_from(joined).where(P.model == model, *which)
    row = conn.execute(query.order_by(P.time.desc()).limit(1)).first()
    if row is None:
        return None
    cut = len(EXAMPLE_COLUMNS)
    return read_example(row[:cut]), read_prediction(row[cut:], label_sets(conn, model))


def predictions(
    conn: Connection, model: str, window: Window, version: int | None, limit: int | None, heard: bool,
    without: str | None = None,
) -> list[Prediction]:  # fmt: skip
    """Oldest first; with a limit the newest ones; `heard`: without the shadows'; `without`: those of another stage."""
    query = select(*PREDICTION_COLUMNS).where(P.model == model, P.time >= window.start, P.time < window.end)
    if version is not None:
        query = query.where(P.version == version)
    if heard:
        query = query.where(P.shadow.is_(False))
    if without is not None:
        query = query.where(P.stage != without)
    rows = conn.execute(query.order_by(P.time.desc(), P.id.desc()).limit(limit)).all()
    sets = label_sets(conn, model)
    return [read_prediction(row, sets) for row in reversed(rows)]


def fair_predictions(conn: Connection, model: str, window: Window, version: int | None, limit: int) -> list[Prediction]:
    """Of those that users heard the ones that stand for all (see `Prediction.stands_for_all`); the newest `limit`."""
    said = predictions(conn, model, window, version, limit, heard=True)
    fair = evenly(said)
    if len(said) < limit or len(fair) == len(said):
        return fair
    more = predictions(conn, model, window, version, FARTHER * limit, heard=True, without=FIRST)
    return evenly(more)[-limit:]


def evenly(said: Sequence[Prediction]) -> list[Prediction]:
    """Those that stand for all; where a first stage answered for a part of the time, the drawn ones of all of it.

    Else the hours without it would weigh many times as much as those with it.
    """
    behind = any(CONTROL in one.measures for one in said)
    return [one for one in said if one.stands_for_all and (not behind or FIRST_SURE in one.measures)]


def examples(conn: Connection, model: str, window: Window, limit: int | None) -> list[Example]:
    """Oldest first; with a limit the newest ones. Those whose text was not kept are left out."""
    query = select(*EXAMPLE_COLUMNS).where(E.model == model, E.time >= window.start, E.time < window.end)
    rows = conn.execute(query.order_by(E.time.desc(), E.id.desc()).limit(limit)).all()
    return [example for row in reversed(rows) if not is_withheld((example := read_example(row)).content)]


def count_predictions(conn: Connection, model: str, window: Window | None) -> int:
    """How many are stored, the shadows' too."""
    query = select(func.count()).select_from(PREDICTIONS).where(P.model == model)
    if window is not None:
        query = query.where(P.time >= window.start, P.time < window.end)
    return int(conn.execute(query).scalar_one())
