"""Label Studio's formats: questions as tasks with predictions, exported annotations as labels, the labelling interface.

Of tasks: JSON with `data`, `meta` and `predictions`; of annotations: the export named JSON (not JSON-MIN), whose
annotations have `completed_by`, `was_cancelled`, `updated_at` and a `result` of the type choices.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from keepfit.data.records import Prediction, QueueItem
from keepfit.data.times import parse_time
from keepfit.errors import BackendError, InvalidInput

CONTROL = "label"
"""The name of the choices in the labelling interface that is written."""
NAMES = ("question", "prediction_id", "id")
"""How a task says which answer it is about, in `meta` and again in `data`, which every tool hands on."""


@dataclass(frozen=True)
class Annotation:
    """One person's word on one task."""

    place: str
    value: str
    values: Mapping[str, str]
    """What names the answer, and `actor`."""
    content: Any
    """The text of the task, or its texts by column."""
    time: datetime | None


@dataclass(frozen=True)
class Export:
    """What an export holds."""

    annotations: tuple[Annotation, ...]
    cancelled: int
    """Annotations that their annotator skipped."""
    unlabelled: int
    """Tasks without an annotation, and annotations without a choice."""


def tasks(
    items: Sequence[QueueItem], columns: Sequence[str], answers: Mapping[str, Prediction]
) -> list[dict[str, Any]]:
    """Questions as tasks to import; `answers` by the prediction's id are shown to the annotators."""
    return [task(item, columns, answers.get(item.prediction_id)) for item in items]


def task(item: QueueItem, columns: Sequence[str], answer: Prediction | None) -> dict[str, Any]:
    """One question."""
    names = dict(zip(NAMES, (item.id, item.prediction_id, item.example.id), strict=True))
    made: dict[str, Any] = {
        "data": {**texts(item.example.content, columns), **names},
        "meta": {**names, "propensity": item.propensity, "reason": item.reason},
    }
    if answer is not None:
        choice = {"from_name": CONTROL, "to_name": columns[0], "type": "choices", "value": {"choices": [answer.label]}}
        made["predictions"] = [
            {"model_version": str(answer.model_version), "score": round(answer.confidence, 6), "result": [choice]}
        ]
    return made


def texts(content: Any, columns: Sequence[str]) -> dict[str, str]:
    """The texts of an example by column."""
    parts = content if isinstance(content, tuple | list) else (content,)
    return {name: str(part) for name, part in zip(columns, parts, strict=True)}


def interface(columns: Sequence[str], classes: Sequence[str]) -> str:
    """The labelling interface, as the project's settings of Label Studio take it.

    >>> print(interface(["text"], ["good", "bad"]))
    <View>
      <Text name="text" value="$text"/>
      <Choices name="label" toName="text" choice="single" required="true">
        <Choice value="good"/>
        <Choice value="bad"/>
      </Choices>
    </View>
    """
    shown = [f"  <Text name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in columns]
    choices = [f"    <Choice value={quoteattr(name)}/>" for name in classes]
    start = f'  <Choices name="{CONTROL}" toName={quoteattr(columns[0])} choice="single" required="true">'
    return "\n".join(["<View>", *shown, start, *choices, "  </Choices>", "</View>"])


def read_export(file: Path, columns: Sequence[str]) -> Export:
    """The annotations of an export, in the order in which they were made. Raises InvalidInput for another format."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BackendError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{file} is no JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) and "annotations" in one for one in found):
        raise InvalidInput(
            f"{file} is no export of Label Studio in the format JSON, a list of tasks with annotations (not JSON-MIN)"
        )
    annotations, cancelled, unlabelled = [], 0, 0
    for place, one in enumerate(found, 1):
        unlabelled += not one["annotations"]
        for given in one["annotations"]:
            if given.get("was_cancelled"):
                cancelled += 1
            elif (value := choice_of(given, f"{file}, task {one.get('id', place)}")) is None:
                unlabelled += 1
            else:
                annotations.append(annotation(one, given, value, columns, f"{file}, task {one.get('id', place)}"))
    annotations.sort(key=lambda a: "" if a.time is None else a.time.isoformat())
    return Export(tuple(annotations), cancelled, unlabelled)


def annotation(
    one: Mapping[str, Any], given: Mapping[str, Any], value: str, columns: Sequence[str], place: str
) -> Annotation:
    """An annotation of a task with what names its answer."""
    meta, data = one.get("meta") or {}, one.get("data") or {}
    values = {name: str(meta.get(name) or data.get(name) or "") for name in NAMES}
    values["actor"] = annotator(given.get("completed_by"))
    written = given.get("updated_at") or given.get("created_at")
    time = None if written is None else parse_time(str(written))
    if written is not None and time is None:
        raise InvalidInput(f"{place}: {written!r} is no time")
    content = tuple(str(data.get(name, "")) for name in columns)
    return Annotation(place, value, values, content if len(content) > 1 else content[0], time)


def choice_of(given: Mapping[str, Any], place: str) -> str | None:
    """What was chosen; None when nothing was. Raises InvalidInput when that is not clear."""
    results = [one for one in given.get("result") or [] if one.get("type") == "choices"]
    ours = [one for one in results if one.get("from_name") == CONTROL] or results
    chosen = [str(choice) for one in ours for choice in one.get("value", {}).get("choices", [])]
    if len(chosen) > 1:
        raise InvalidInput(f"{place}: {len(chosen)} classes are chosen ({', '.join(chosen)}), a label is one")
    return chosen[0] if chosen else None


def annotator(given: Any) -> str:
    """Who annotated: the e-mail address where the export has it, else the number.

    >>> annotator({"id": 7, "email": "ann@example.org"}), annotator(7)
    ('ann@example.org', 'label-studio:7')
    """
    if isinstance(given, Mapping):
        return str(given.get("email") or annotator(given.get("id")))
    return f"label-studio:{'unknown' if given is None else given}"


def table(items: Sequence[QueueItem], columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Questions as the rows of a table, its header first; `label` is to be filled, then it goes to `keepfit label`."""
    yield (*NAMES, *columns, "label", "reason", "propensity")
    for item in items:
        content = texts(item.example.content, columns).values()
        yield (item.id, item.prediction_id, item.example.id, *content, "", item.reason, repr(item.propensity))
