"""Foreign versions: models that are served elsewhere and watched here, under the names that they have there.

The record store gives each name one number (see data/foreign.py), whoever brings it: an imported history, POST
/predictions or a followed table. Here is what people and other rooms see of them: names, sentences, and a registry that
knows of them, too. A foreign version has neither files nor runs, so it is never loaded.
"""

from __future__ import annotations

from typing import Any, cast

from keepfit.data.foreign import ForeignVersion, is_foreign
from keepfit.data.snapshot import Split
from keepfit.data.store import RecordStore
from keepfit.errors import NotFound, Refused
from keepfit.evaluation.evaluator import Evaluation
from keepfit.intervals import Interval
from keepfit.registry.registry import Alias, Lineage, ModelVersion, Registry
from keepfit.training.recipe import Recipe

ELSEWHERE = "elsewhere"
"""The stage of an answer that another system gave, the origin of a version of its, and its place in a status."""


def foreign_of(store: RecordStore, model: str, number: int) -> ForeignVersion:
    """What is known of a foreign version. Raises NotFound."""
    found = next((one for one in store.foreign_versions(model) if one.number == number), None)
    if found is None:
        raise NotFound(f"no version {number} of {model!r} was ever heard of")
    return found


def foreign_name(store: RecordStore, model: str, number: int | None) -> str | None:
    """The name of a foreign version where it is served; None of one of keepfit's own."""
    return foreign_of(store, model, number).name if number is not None and is_foreign(number) else None


def name_of(store: RecordStore, model: str, number: int) -> str:
    """A version as people call it."""
    return repr(foreign_of(store, model, number).name) if is_foreign(number) else f"version {number}"


def cannot_answer(store: RecordStore, model: str, number: int) -> str:
    """The sentence for whoever wants to serve a foreign version here."""
    return (
        f"version {number} ({foreign_name(store, model, number)!r}) is served elsewhere, so it cannot answer here; "
        "`keepfit train` or `keepfit import` makes a version that can"
    )


def refuse_foreign(store: RecordStore, model: str, number: int) -> None:
    """Raises Refused for a foreign version, which nobody can serve here."""
    if is_foreign(number):
        raise Refused(cannot_answer(store, model, number))


def as_version(model: str, known: ForeignVersion) -> ModelVersion:
    """A foreign version as a registry tells of its own: the name stands for the code, and nothing was evaluated."""
    k, nothing = len(known.labels), Interval(0.0, 0.0, 1.0, 0)
    metrics = {"accuracy": nothing, "macro_f1": nothing}
    unjudged = Evaluation(ELSEWHERE, Split.TEST, 0, known.labels, metrics, {}, tuple((0,) * k for _ in range(k)))
    lineage = Lineage(ELSEWHERE, Recipe(), ELSEWHERE, f"{ELSEWHERE}-{model}-{known.number}", None, known.name)
    return ModelVersion(model, known.number, lineage, unjudged, known.at)


class WithForeign:
    """A registry that also knows of foreign versions; `versions`, of what was made here, is the registry's own."""

    def __init__(self, registry: Registry, store: RecordStore) -> None:
        self._registry, self._store = registry, store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def version(self, name: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        if not is_foreign(number):
            return self._registry.version(name, number)
        return as_version(name, foreign_of(self._store, name, number))

    def fetch(self, name: str, number: int) -> Any:
        """Raises NotFound for a version whose files are elsewhere."""
        if is_foreign(number):
            raise NotFound(cannot_answer(self._store, name, number))
        return self._registry.fetch(name, number)

    def set_alias(self, name: str, alias: Alias, number: int | None) -> None:
        """While another system's version answers, none of ours is champion."""
        self._registry.set_alias(name, alias, None if number is not None and is_foreign(number) else number)


def with_foreign(registry: Registry, store: RecordStore) -> Registry:
    """The same registry, knowing of foreign versions."""
    return cast(Registry, WithForeign(registry, store))
