"""Answers and labels under the names that their classes have today; what is stored keeps its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from sqlalchemy import Connection

from keepfit.data.classes import ClassMap, read_map
from keepfit.data.history import deployments
from keepfit.data.records import Label, Prediction

EVER = 1_000_000
"""More deployments than any model has."""
Key = tuple[int, tuple[str, ...], datetime]


@dataclass(frozen=True)
class Today:
    """Reads names of the past."""

    classes: ClassMap
    served: Mapping[int, datetime] = field(default_factory=dict)
    """When each version was deployed first: it answers with the classes of then."""

    def truth(self, name: str, at: datetime) -> str | None:
        """Of a label given at `at`; None where the class was retired or split, so that the label counts nowhere."""
        return self.classes.read(name, at)

    def answer(self, version: int, name: str, at: datetime) -> str:
        """What a version answered at `at`. A retired class keeps its name: no label is of it, so it is wrong."""
        return self.classes.read(name, self.moment(version, at)) or name

    def fair(self, version: int, name: str, at: datetime, truth: str) -> bool:
        """Whether an answer given at `at` was as right as it could be: of a class that was split only afterwards, and
        the truth is one of its parts."""
        ended = self.classes.ended(name, self.moment(version, at))
        if ended is None or ended.at <= at:
            return False
        return truth in {self.classes.read(part, ended.at) for part in ended.parts}

    def moment(self, version: int, at: datetime) -> datetime:
        """Of when its words are."""
        return min(at, self.served.get(version, at))

    def pairs(self, pairs: Sequence[tuple[Prediction, Label]]) -> list[tuple[Prediction, Label]]:
        """Answers with their labels, without the labels of retired classes.

        Of classes that are one now the highest score stands: what was answered stays what was answered.
        """
        if not self.classes.changes:
            return list(pairs)
        known: dict[Key, tuple[str, ...]] = {}
        found = []
        for said, label in pairs:
            value = self.truth(label.value, label.time)
            if value is not None:
                if self.fair(said.model_version, said.label, said.time, value):
                    value = said.label
                found.append((self._prediction(said, known), replace(label, value=value)))
        return found

    def _prediction(self, said: Prediction, known: dict[Key, tuple[str, ...]]) -> Prediction:
        key = (said.model_version, said.labels, self.moment(said.model_version, said.time))
        if key not in known:
            known[key] = tuple(self.answer(key[0], name, key[2]) for name in said.labels)
        called = known[key]
        if called == said.labels:
            return said
        labels = tuple(dict.fromkeys(called))
        scores = np.zeros(len(labels), np.float32)
        np.maximum.at(scores, [labels.index(name) for name in called], said.scores)
        return replace(said, labels=labels, scores=scores)


def read_today(conn: Connection, model: str, as_of: datetime | None = None) -> Today:
    """The class map as it is now, or as it was at `as_of`, and whose words are of when."""
    classes, served = read_map(conn, model).as_of(as_of), dict[int, datetime]()
    if classes.changes:
        for row in deployments(conn, model, EVER):
            for version in row.traffic.versions:
                served[version] = min(row.at, served.get(version, row.at))
    return Today(classes, served)
