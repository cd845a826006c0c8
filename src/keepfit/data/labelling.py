"""Labels and the label queue in the store, and the rule which label of an example counts.

The current label: of each actor the latest; among actors asked before complete before imported before
volunteered, then the latest. Label times are times of arrival. Labels of those who were set apart count nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Text,
    and_,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    true,
    type_coerce,
)

from keepfit.data.database import chunks, insert_or_skip, one_at_a_time
from keepfit.data.labellers import heard
from keepfit.data.predictions import (
    EXAMPLE_COLUMNS,
    PREDICTION_COLUMNS,
    add_examples,
    label_sets,
    read_example,
    read_prediction,
)
from keepfit.data.records import (
    AUDIT,
    DISAGREEMENT,
    Example,
    Label,
    LabelledExample,
    Prediction,
    QueueItem,
    Source,
    Window,
    is_withheld,
)
from keepfit.data.schema import EXAMPLES, LABELS, PREDICTIONS, QUEUE
from keepfit.errors import NotFound

L = LABELS.c
P = PREDICTIONS.c
E = EXAMPLES.c
Q = QUEUE.c
LABEL_NAMES = ("example_id", "value", "time", "source", "actor", "propensity", "prediction_id", "id")
_RANK = (Source.ASKED, Source.COMPLETE, Source.IMPORTED, Source.VOLUNTEERED)


def add_labels(conn: Connection, model: str, labels: Sequence[Label]) -> int:
    """Writes the labels that say something new and returns how many those were.

    A label that repeats its actor's latest one of the same value and source says nothing new.
    Raises NotFound, and writes nothing, when an example is unknown.
    """
    one_at_a_time(conn, "labels", model)
    ids = list(dict.fromkeys(label.example_id for label in labels))
    _check_known(conn, model, ids)
    fresh = list(_fresh(labels, _stored(conn, model, ids)))
    if fresh:
        conn.execute(insert(LABELS), [_label_row(model, label) for label in fresh])
    return len(fresh)


def _check_known(conn: Connection, model: str, ids: list[str]) -> None:
    known: set[str] = set()
    for chunk in chunks(ids):
        known.update(conn.execute(select(E.id).where(E.model == model, E.id.in_(chunk))).scalars())
    if unknown := [id_ for id_ in ids if id_ not in known]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise NotFound(
            f"No example {unknown[0]!r}{more} of the model {model!r} is stored, so no label was written; "
            "label what was predicted, by the id of the answer."
        )


def _stored(conn: Connection, model: str, ids: list[str]) -> Iterator[Label]:
    """The labels of some examples, each actor's latest last."""
    for chunk in chunks(ids):
        query = select(*(L[name] for name in LABEL_NAMES)).where(L.model == model, L.example_id.in_(chunk))
        yield from map(read_label, conn.execute(query.order_by(L.time, L.seq)))


def _fresh(labels: Iterable[Label], stored: Iterable[Label]) -> Iterator[Label]:
    latest: dict[tuple[str, str], Label] = {}
    ids: set[str] = set()
    exact: set[tuple[str, str, str, Source, datetime]] = set()

    def note(label: Label) -> None:
        ids.add(label.id)
        exact.add((label.example_id, label.actor, label.value, label.source, label.time))
        before = latest.get((label.example_id, label.actor))
        if before is None or before.time <= label.time:
            latest[label.example_id, label.actor] = label

    for label in stored:
        note(label)
    for label in labels:
        before = latest.get((label.example_id, label.actor))
        repeats = before is not None and (before.value, before.source) == (label.value, label.source)
        key = (label.example_id, label.actor, label.value, label.source, label.time)
        if not repeats and label.id not in ids and key not in exact:
            note(label)
            yield label


def _label_row(model: str, label: Label) -> dict[str, Any]:
    row = {"model": model} | {name: getattr(label, name) for name in LABEL_NAMES}
    return row | {"propensity": None if label.propensity is None else float(label.propensity)}


def read_label(row: Sequence[Any]) -> Label:
    """The label of a row of LABEL_NAMES."""
    example_id, value, time, source, *rest = row
    return Label(example_id, value, time, Source(source), *rest)


def _current(model: str, *which: ColumnElement[bool], everyone: bool = False) -> Select[Any]:
    """The one label that counts of each example, among the labels for which `which` holds, by arrival."""
    which = which if everyone else (*which, heard(model))
    latest = func.row_number().over(partition_by=(L.example_id, L.actor), order_by=(L.time.desc(), L.seq.desc()))
    by_actor = select(LABELS, latest.label("turn")).where(L.model == model, *which).subquery()
    a = by_actor.c
    rank = case({source.value: place for place, source in enumerate(_RANK)}, value=a.source)
    best = func.row_number().over(partition_by=a.example_id, order_by=(rank, a.time.desc(), a.seq.desc()))
    by_example = select(by_actor, best.label("place")).where(a.turn == 1).subquery()
    b = by_example.c
    return select(*(b[name] for name in LABEL_NAMES)).where(b.place == 1).order_by(b.time, b.seq)


def labelled(
    conn: Connection,
    model: str,
    window: Window,
    version: int | None,
    sources: Collection[Source],
    by: Literal["prediction", "label"],
    everyone: bool = False,
) -> list[tuple[Prediction, Label]]:
    """Pairs of a prediction that users saw and the current label (among `sources`), one per example.

    By prediction: predictions made in the window, in that order. By label: labels that arrived in it, in that order.
    `everyone`: those who were set apart, too.
    Of several predictions for one example the newest counts (by prediction: the newest in the window).
    """
    if by == "prediction":
        made = _made(model, version).where(*_within(P.time, window))
        answered = L.example_id.in_(made.with_only_columns(P.example_id))
        current = _current(model, _among(sources), answered, everyone=everyone)
    else:
        arrived = select(L.example_id).where(L.model == model, *_within(L.time, window))
        current = _current(model, _among(sources), L.example_id.in_(arrived), everyone=everyone)
        current = current.where(*_within(current.selected_columns.time, window))
        made = _made(model, version)
    labels = {label.example_id: label for label in map(read_label, conn.execute(current))}
    newest = _newest_predictions(conn, model, made, labels)
    if by == "label":
        return [(newest[id_], label) for id_, label in labels.items() if id_ in newest]
    return [(prediction, labels[prediction.example_id]) for prediction in newest.values()]


def _made(model: str, version: int | None) -> Select[Any]:
    """Predictions that users saw."""
    query = select(*PREDICTION_COLUMNS).where(P.model == model, P.shadow.is_(False))
    return query if version is None else query.where(P.version == version)


def _newest_predictions(conn: Connection, model: str, made: Select[Any], ids: Collection[str]) -> dict[str, Prediction]:
    """Of each example the newest of `made`, by example id, in the order of their times."""
    rows: dict[str, Row[Any]] = {}
    for chunk in chunks(ids):
        for row in conn.execute(made.where(P.example_id.in_(chunk))):
            before = rows.get(row.example_id)
            if before is None or (before.time, before.id) < (row.time, row.id):
                rows[row.example_id] = row
    sets = label_sets(conn, model)
    ordered = sorted(rows.values(), key=lambda row: (row.time, row.id))
    return {row.example_id: read_prediction(row, sets) for row in ordered}


def _among(sources: Collection[Source]) -> ColumnElement[bool]:
    return L.source.in_([source.value for source in sources])


def _within(column: ColumnElement[Any], window: Window) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return column >= window.start, column < window.end


def training_data(conn: Connection, model: str, until: datetime | None) -> list[LabelledExample]:
    """Each labelled example with the label that counted at `until` (inclusive; None: now), by label arrival."""
    current = _current(model, *(() if until is None else (L.time <= until,)))
    labels = [read_label(row) for row in conn.execute(current)]
    examples: dict[str, Example] = {}
    for chunk in chunks(label.example_id for label in labels):
        rows = conn.execute(select(*EXAMPLE_COLUMNS).where(E.model == model, E.id.in_(chunk)))
        examples.update((example.id, example) for example in map(read_example, rows))
    known = {id_: example for id_, example in examples.items() if not is_withheld(example.content)}
    return [LabelledExample(known[label.example_id], label) for label in labels if label.example_id in known]


def count_labels(conn: Connection, model: str, since: datetime, sources: Collection[Source] | None) -> int:
    """How many arrived after `since` (exclusive, so that it goes on where training_data(until) ended)."""
    query = select(func.count()).select_from(LABELS).where(L.model == model, L.time > since, heard(model))
    if sources is not None:
        query = query.where(_among(sources))
    return int(conn.execute(query).scalar_one())


def ask(conn: Connection, items: Sequence[QueueItem]) -> None:
    """Queues what is not queued yet, by id and by prediction."""
    for item in items:
        add_examples(conn, item.model, [item.example])
    insert_or_skip(conn, QUEUE, [_queue_row(item) for item in items])


def _queue_row(item: QueueItem) -> dict[str, Any]:
    return {
        "model": item.model,
        "id": item.id,
        "prediction_id": item.prediction_id,
        "example_id": item.example.id,
        "propensity": float(item.propensity),
        "reason": item.reason,
        "asked_at": item.asked_at,
        "label_set": item.label_set,
        "parts": dict(item.parts),
    }


def queue(conn: Connection, model: str, limit: int, first: datetime | None = None) -> list[QueueItem]:
    """What is asked and has no asked or complete label yet, oldest first; of an audit: no asked one.

    Since `first` questions where two versions disagree come before all others.
    """
    usual = func.coalesce(~_has(AUDIT), true())
    measured = or_(L.source == Source.ASKED.value, and_(L.source == Source.COMPLETE.value, usual))
    answered = exists().where(L.model == Q.model, L.example_id == Q.example_id, measured, heard(model))
    order: list[ColumnElement[Any]] = [Q.asked_at, Q.seq]
    if first is not None:
        order.insert(0, case((and_(Q.asked_at >= first, _has(DISAGREEMENT)), 0), else_=1))
    query = _queue_query(model).where(~answered).order_by(*order).limit(limit)
    return [_read_queue_item(model, row) for row in conn.execute(query)]


def _has(part: str) -> ColumnElement[bool]:
    """Of a question: whether this part drew it; parts lie as JSON with their names in quotation marks."""
    return type_coerce(Q.parts, Text).like(f'%"{part}"%')


def queue_item(
    conn: Connection, model: str, prediction_id: str | None, example_id: str | None, id_: str | None = None
) -> QueueItem | None:
    """The newest item of a prediction or example, or the one of this id, answered or not."""
    which = Q.prediction_id == prediction_id if prediction_id is not None else Q.example_id == example_id
    which = which if id_ is None else Q.id == id_
    row = conn.execute(_queue_query(model).where(which).order_by(Q.seq.desc()).limit(1)).first()
    return None if row is None else _read_queue_item(model, row)


def _queue_query(model: str) -> Select[Any]:
    columns = (Q.id, Q.prediction_id, Q.propensity, Q.reason, Q.asked_at, Q.label_set, Q.parts)
    joined = QUEUE.join(EXAMPLES, (E.model == Q.model) & (E.id == Q.example_id))
    return select(*EXAMPLE_COLUMNS, *columns).select_from(joined).where(Q.model == model)


def _read_queue_item(model: str, row: Row[Any]) -> QueueItem:
    cut = len(EXAMPLE_COLUMNS)
    id_, prediction_id, propensity, reason, asked_at, label_set, parts = row[cut:]
    return QueueItem(
        id_, model, prediction_id, read_example(row[:cut]), propensity, reason, asked_at, tuple(label_set), parts or {}
    )
