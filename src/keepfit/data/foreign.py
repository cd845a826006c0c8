"""Versions of a model that is served elsewhere, under the names that the other system gives them, and their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from keepfit.data.database import chunks, insert_new, insert_or_replace, insert_or_skip
from keepfit.data.predictions import E, P, add_predictions, example_row, half_bytes, label_set_id, unknown
from keepfit.data.records import Example, Prediction
from keepfit.data.schema import EXAMPLES, NAMED_VALUES
from keepfit.errors import InvalidInput, Refused

FOREIGN_FROM = 1_000_000
"""Numbers above it are of other systems' versions: a registry counts its own from 1."""
LONGEST_NAME = 200
_PREFIX = "foreign version "

Pairs = Sequence[tuple[Example, Prediction]]


@dataclass(frozen=True)
class ForeignVersion:
    """What is known of a version whose files are not here."""

    number: int
    name: str
    """As the other system calls it."""
    labels: tuple[str, ...]
    """The classes, in the order of its scores."""
    width: int
    """Numbers in each of its embeddings; 0: it sends none."""
    at: datetime
    """When it was heard of first."""
    computed: bool = False
    """Its embeddings were made here, from the texts of an imported history; none are sent."""


def is_foreign(number: int) -> bool:
    """Whether a version's files are elsewhere.

    >>> is_foreign(3), is_foreign(1_000_001)
    (False, True)
    """
    return number > FOREIGN_FROM


def foreign_versions(conn: Connection, model: str) -> list[ForeignVersion]:
    """By number."""
    n = NAMED_VALUES.c
    query = select(n.name, n.value).where(n.model == model, n.name.startswith(_PREFIX))
    found = [_read(int(name.removeprefix(_PREFIX)), value) for name, value in conn.execute(query)]
    return sorted(found, key=lambda one: one.number)


def get_or_register(
    conn: Connection, model: str, name: str, labels: tuple[str, ...], width: int, at: datetime, computed: bool = False
) -> ForeignVersion:  # fmt: skip
    """The version of this name; it gets the next number when it is new, whoever else registers at the same time.

    Raises InvalidInput for a name that is empty or longer than LONGEST_NAME, or a version without classes.
    """
    if not name.strip() or len(name) > LONGEST_NAME:
        raise InvalidInput(f"a version's name has 1 to {LONGEST_NAME} characters, not {len(name.strip())}", "version")
    if not labels:
        raise InvalidInput(f"the version {name!r} needs its classes before it can be registered", "labels")
    while True:
        known = foreign_versions(conn, model)
        if (found := next((one for one in known if one.name == name), None)) is not None:
            return found
        number = known[-1].number + 1 if known else FOREIGN_FROM + 1
        value = {"name": name, "labels": list(labels), "width": width, "at": at.isoformat(), "computed": computed}
        if insert_new(conn, NAMED_VALUES, {"model": model, "name": f"{_PREFIX}{number}", "value": value}):
            return _read(number, value)


def _read(number: int, value: dict[str, Any]) -> ForeignVersion:
    at = datetime.fromisoformat(value["at"])
    computed = bool(value.get("computed"))
    return ForeignVersion(number, value["name"], tuple(value["labels"]), int(value["width"]), at, computed)


def add_answers(conn: Connection, model: str, pairs: Pairs) -> int:
    """Writes what is new by id, and returns how much that was.

    What is here already must be the same. Raises Refused, so that nothing is written, for an id that has other content.
    """
    if not pairs:
        return 0
    # first come, first kept: inserted before they are compared, so that of two writers of one id the second sees it
    examples = sorted((example for example, _ in pairs), key=lambda example: example.id)
    insert_or_skip(conn, EXAMPLES, [example_row(model, example) for example in examples])
    fresh = unknown(conn, model, pairs)
    _compare(conn, model, pairs)
    add_predictions(conn, model, fresh)
    return len(fresh)


def _compare(conn: Connection, model: str, pairs: Pairs) -> None:
    kept: dict[str, Any] = {}
    said: dict[str, Any] = {}
    for chunk in chunks(p.id for _, p in pairs):
        rows = conn.execute(select(E.id, E.content, E.key).where(E.model == model, E.id.in_(chunk)))
        kept |= {id_: (content, key) for id_, content, key in rows}
        columns = (P.id, P.version, P.label_set, P.scores, P.embedding)
        found = conn.execute(select(*columns).where(P.model == model, P.id.in_(chunk)))
        said |= {row[0]: tuple(row[1:]) for row in found}
    for example, prediction in pairs:
        content = list(example.content) if isinstance(example.content, tuple) else example.content
        if kept[example.id] != (content, example.key) or said.get(prediction.id, facts(prediction)) != facts(
            prediction
        ):
            raise Refused(
                f"the id {prediction.id!r} is stored with other content; an answer is sent once under its id, and a "
                "new answer needs a new id"
            )


def facts(prediction: Prediction) -> tuple[Any, ...]:
    """What makes an answer the same answer. The time is left out: who sends again without one means the same."""
    return (
        int(prediction.model_version), label_set_id(prediction.labels), prediction.scores.tobytes(),
        half_bytes(prediction.embedding),
    )  # fmt: skip


def put_values(conn: Connection, model: str, values: Iterable[tuple[str, Any]]) -> None:
    """Named values in the transaction of the answers, such as how far a source was read."""
    for name, value in values:
        insert_or_replace(conn, NAMED_VALUES, {"model": model, "name": name, "value": value})
