"""Labels from a file: which answer each row means, and how its label came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from keepfit.app.label_studio import Export, read_export
from keepfit.data.classes import ClassMap
from keepfit.data.columns import Columns
from keepfit.data.files import guess_columns, read_rows
from keepfit.data.labellers import NOBODY
from keepfit.data.records import AUDIT, Label, Prediction, Source, text_group
from keepfit.data.store import RecordStore
from keepfit.data.tables import column_names
from keepfit.errors import InvalidInput, NotFound


@dataclass(frozen=True)
class LabelFile:
    """Reads label files of one model."""

    records: RecordStore
    model: str
    text: tuple[str, ...]
    """The text columns that the model was trained on."""
    unasked: Source
    """What a label is that nobody asked for."""
    actor: str
    """Who labelled, where the file does not say."""
    now: datetime
    new_classes: bool = False
    """Whether labels may be of classes that the model does not know yet."""

    def store_all(self, file: Path) -> Mapping[str, int]:
        """Store every label or none; rows that match no answer are counted in `unknown`.

        Raises InvalidInput for a class that the model does not know, NotFound for an unknown prediction id.
        """
        if file.suffix.lower() == ".json":
            return self.store_export(read_export(file, self.text or ("text",)))
        labels, unknown = [], 0
        for row in read_rows(file, self.columns(file)):
            found = self.find(row.values, row.content)
            if row.label is None or found is None:
                unknown += 1
                continue
            self.check(row.label, found, f"row {row.number} of {file}", self.now)
            labels.append(self.label_of(found, row.label, row.values))
        new = self.records.add_labels(self.model, labels, by_hand=True)
        return {"new": new, "read": len(labels), "unknown": unknown}

    def store_export(self, export: Export) -> Mapping[str, int]:
        """Store what was annotated in Label Studio, each annotator's labels as those of one actor; all or none."""
        labels, unknown = [], 0
        for one in export.annotations:
            found = self.find(one.values, one.content)
            if found is None:
                unknown += 1
                continue
            self.check(one.value, found, one.place, one.time or self.now)
            labels.append(replace(self.label_of(found, one.value, one.values), time=one.time or self.now))
        new = self.records.add_labels(self.model, labels, by_hand=True)
        counts = {"new": new, "read": len(labels), "unknown": unknown}
        return {**counts, "cancelled": export.cancelled, "unlabelled": export.unlabelled}

    @cached_property
    def classes(self) -> ClassMap:
        """How names are read; read once for a file."""
        return self.records.classes(self.model)

    def check(self, value: str, found: Prediction, place: str, at: datetime) -> None:
        """Raises InvalidInput for a class that is none any more, or that nobody knows, unless it may be a new one."""
        if (refusal := self.classes.refusal(value, at)) is not None:
            raise InvalidInput(f"{place}: {refusal}", "label")
        if not (value in found.labels or value in self.classes.known() or self.new_classes):
            known = ", ".join(map(repr, found.labels))
            raise InvalidInput(
                f"{place}: {value!r} is not one of the labels: {known}; if it is a class "
                "that the model does not know yet, give --new-classes",
                "label",
            )

    def columns(self, file: Path) -> Columns:
        """The columns of a label file; one that names predictions or ids needs no text."""
        text, header = self.text, column_names(file)
        name = next((column for column in ("question", "prediction_id", "id") if column in header), None)
        if name is not None and not (text and set(text) <= set(header)):
            text = (name,)
        return guess_columns(file, Columns(text=text))

    def find(self, values: Mapping[str, str], content: Any) -> Prediction | None:
        """The answer that a row means. Raises NotFound for an unknown prediction id or question."""
        if values.get("question"):
            item = self.records.queue_item(self.model, id=values["question"])
            if item is None:
                raise NotFound(f"no question has the id {values['question']!r}; `keepfit labels next` shows them")
            return self.records.prediction(self.model, item.prediction_id)[1]
        if values.get("prediction_id"):
            return self.records.prediction(self.model, values["prediction_id"])[1]
        if values.get("id"):
            pair = self.records.find_prediction(self.model, example_id=values["id"])
        else:
            parts = content if isinstance(content, tuple) else (content,)
            pair = self.records.find_prediction(self.model, group=text_group("\x1f".join(map(str, parts))))
        return None if pair is None else pair[1]

    def label_of(self, found: Prediction, value: str, values: Mapping[str, str]) -> Label:
        """A label with its source: asked where we asked for it, else what the settings say of unasked ones."""
        question = values.get("question") or None
        item = self.records.queue_item(self.model, example_id=found.example_id, id=question)
        asked = item is not None and (question is not None or AUDIT not in item.parts)
        source, propensity = (Source.ASKED, item.propensity) if asked and item is not None else (self.unasked, None)
        actor = values.get("actor") or self.actor
        if actor in NOBODY:
            raise InvalidInput(f"{actor!r} is a name of keepfit's own; give the labeller another one", "actor")
        return Label(found.example_id, value, self.now, source, actor, propensity, found.id)
