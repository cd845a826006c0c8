"""Taking in the answers of a model that is served elsewhere: each is checked, given its version, and stored once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from keepfit.clock import SKEW, Clock
from keepfit.data.records import EMBEDDED, Example, Prediction
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput, Refused
from keepfit.evaluation.evaluator import read_reference
from keepfit.pipelines.foreign import ELSEWHERE
from keepfit.pipelines.text_columns import TextColumns, text_columns
from keepfit.registry.registry import model_folder
from keepfit.serving.discretion import Discretion, tell_of_masks

SUM_WITHIN = 0.01
"""Probabilities that were rounded to two decimals still count; they are scaled to add up to 1."""
WIDEST = 8192
"""Numbers in an embedding at most."""
WIDTH = "elsewhere width "
"""Under this name and its number the store keeps the size of the embeddings that come for a version of ours."""
NOTHING = np.zeros(0, np.float32)
"""In the place of an embedding that was not sent."""


@dataclass(frozen=True)
class Said:
    """One answer as the other system reports it."""

    id: str
    version: str
    text: Any = None
    """A text; or several by column, in whatever order, or in the order of the columns."""
    embedding: Sequence[float] | None = None
    probabilities: Mapping[str, float] | None = None
    label: str | None = None
    score: float | None = None
    key: str | None = None
    time: datetime | None = None
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """How many answers were stored, and how many were known."""

    new: int
    known: int


@dataclass(frozen=True)
class KnownVersion:
    """What an answer is checked against."""

    number: int
    labels: tuple[str, ...]
    width: int
    computed: bool = False
    """Its embeddings were made here, from an imported history, so its answers come without."""


@dataclass(frozen=True)
class Intake:
    """The door for one model's answers; the HTTP route and the followers of tables use the same."""

    model: str
    store: RecordStore
    models: Path
    """Where the files of keepfit's own versions lie."""
    clock: Clock
    classes: tuple[str, ...] = ()
    """Those of the settings; none: a version's first answer says them."""
    discretion: Discretion = field(default_factory=Discretion)
    """What of a text may be stored."""
    columns: tuple[str, ...] = ()
    """The text columns of the settings; none: those that the model was trained with."""

    def take(self, said: Sequence[Said], values: Mapping[str, Any] | None = None, at: str = "predictions") -> Taken:
        """Durable when it returns, all or none; `values` are stored in the same transaction.

        `at` is the list's place in the request, for errors. Raises InvalidInput with the place of what cannot be taken,
        Refused for an id that is stored with other content.
        """
        known: dict[str, KnownVersion] = {}
        seen: dict[str, Said] = {}
        pairs = []
        heard_of = {version.name for version in self.store.foreign_versions(self.model)}
        alike(said, at, heard_of)  # before the first answer names the classes of a version for ever
        columns = self.text_columns(one.text for one in said)
        for place, one in enumerate(said):
            try:
                if one.id in seen and seen[one.id] != one:
                    raise InvalidInput(f"the id {one.id!r} comes twice with different content", "id")
                if one.id not in seen:
                    pairs.append(self.pair(replace(one, text=columns.content(one.text)), known))
            except InvalidInput as error:
                where = f"{at}.{place}"
                raise InvalidInput(f"{where}: {error}", f"{where}.{error.field}" if error.field else where) from error
            seen[one.id] = one
        new = self.store.add_answers(self.model, pairs, {**(values or {}), **columns.to_keep()})
        tell_of_masks(self.store, self.model, self.discretion)
        return Taken(new, len(said) - new)

    def text_columns(self, texts: Iterable[Any]) -> TextColumns:
        """The order in which texts that come as objects are kept."""
        return text_columns(self.store, self.model, self.columns, texts)

    def take_what_fits(self, said: Sequence[Said], values: Mapping[str, Any]) -> tuple[Taken, list[str]]:
        """Stores what can be taken, with named values, and returns a sentence for each that cannot.

        For sources that nobody stands before: one bad row must not hold up all that follow. Texts of several columns
        come in their order.
        """
        known: dict[str, KnownVersion] = {}
        pairs, wrong = [], []
        heard_of = {version.name for version in self.store.foreign_versions(self.model)}
        usual = usual_forms(said, heard_of)
        for one in said:
            try:
                if one.probabilities is not None and form_of(one) != usual.get(one.version, form_of(one)):
                    raise InvalidInput(f"most answers of version {one.version!r} have other classes or embeddings")
                pairs.append(self.pair(one, known))
            except InvalidInput as error:
                wrong.append(f"{one.id!r}: {error}")
        try:
            new = self.store.add_answers(self.model, pairs, values)
        except Refused:
            new = 0
            for pair in pairs:
                try:
                    new += self.store.add_answers(self.model, [pair])
                except Refused as error:
                    wrong.append(str(error))
            self.store.add_answers(self.model, [], values)
        tell_of_masks(self.store, self.model, self.discretion)
        return Taken(new, len(said) - new - len(wrong)), wrong

    def pair(self, one: Said, known: dict[str, KnownVersion]) -> tuple[Example, Prediction]:
        """What may be stored of an answer. Raises InvalidInput with the field."""
        check_form(one)
        now = self.clock.now()
        if one.time is not None and one.time > now + SKEW:
            raise InvalidInput(f"{one.time.isoformat()} lies in the future; give the time of the answer", "time")
        if one.version not in known:
            known[one.version] = self.version_of(one)
        version = known[one.version]
        embedding = NOTHING if one.embedding is None else np.asarray(one.embedding, np.float32)
        if len(embedding) != (0 if version.computed else version.width):
            sent = f"{len(one.embedding)} numbers" if one.embedding is not None else "none"
            usual = f"{version.width} numbers" if version.width and not version.computed else "none"
            raise InvalidInput(
                f"version {one.version!r} has embeddings of {usual} and this answer of {sent}; "
                "send all of a version alike",
                "embedding",
            )
        time = one.time or now
        group = None if one.text is not None else f"elsewhere-{one.id}"  # what is not known is like nothing else
        example = Example(one.text, time, one.id, one.key, dict(one.context), group)
        missing = {EMBEDDED: 0.0} if version.computed else {}
        prediction = Prediction(
            one.id, version.number, version.labels, scores_of(one, version.labels), embedding, time, one.id, one.key,
            dict(one.context), measures_of(one.text) | missing, ELSEWHERE,
        )  # fmt: skip
        return self.discretion.kept(example, prediction)

    def version_of(self, one: Said) -> KnownVersion:
        """The version that an answer names: keepfit's own number or MLflow URI, else another system's name."""
        known = next((v for v in self.store.foreign_versions(self.model) if v.name == one.version), None)
        number = own_number(one.version, self.model)
        if number is not None and (known is None or self.handed_over(number)):
            return self.own_version(number, one)
        if known is None:
            labels = self.classes or labels_of(one)
            width = 0 if one.embedding is None else len(one.embedding)
            scores_of(one, labels)  # what is wrong in itself must not name a version
            known = self.store.foreign_version(self.model, one.version, labels, width, self.clock.now())
        return KnownVersion(known.number, known.labels, known.width, known.computed)

    def handed_over(self, number: int) -> bool:
        """Whether a version of keepfit's own ever was to answer there."""
        return any(number in row.traffic.versions for row in self.store.deployments(self.model, 10_000))

    def own_version(self, number: int, one: Said) -> KnownVersion:
        """A version that keepfit made and handed over."""
        if not self.handed_over(number):
            raise InvalidInput(
                f"version {number} was never handed over; a bare number is one of keepfit's versions, so give your "
                'system\'s own name, such as "reviews-2026-01"',
                "version",
            )
        sent = 0 if one.embedding is None else len(one.embedding)
        wanted = own_width(model_folder(self.models, self.model, number)) if sent else 0
        if sent != wanted:
            raise InvalidInput(
                f"embeddings of version {number} have {wanted} numbers, this one has {sent}; send the model's "
                "own, or none",
                "embedding",
            )
        labels = own_labels(self.models, self.model, number)
        return KnownVersion(number, labels, width_kept(self.store, self.model, number, sent))


def check_form(one: Said) -> None:
    """Raises InvalidInput for an answer of nothing, or one that says nothing."""
    if one.text is None and one.embedding is None:
        raise InvalidInput('give "text", "embedding" or both: without either nothing can be watched', "text")
    texts = one.text if isinstance(one.text, tuple) else (one.text,)
    if one.text is not None and not all(isinstance(text, str) for text in texts):
        raise InvalidInput("the text must be a string, or an object of the text columns", "text")
    if one.text is not None and not any(text.strip() for text in texts):
        raise InvalidInput("the text is empty", "text")
    if one.embedding is not None and not 1 <= len(one.embedding) <= WIDEST:
        raise InvalidInput(f"an embedding has 1 to {WIDEST} numbers, not {len(one.embedding)}", "embedding")
    if one.embedding is not None and not np.isfinite(np.asarray(one.embedding, np.float32)).all():
        raise InvalidInput("the embedding holds what is no finite number", "embedding")
    if (one.probabilities is None) == (one.label is None):
        raise InvalidInput('give exactly one of "probabilities" and "label" (with "score")', "probabilities")
    if one.label is not None and one.score is None:
        raise InvalidInput('a "label" needs its "score", the probability of it', "score")


Form = tuple[frozenset[str], int]
"""The classes of an answer, and the size of its embedding."""


def form_of(one: Said) -> Form:
    """Of an answer with probabilities."""
    return frozenset(one.probabilities or ()), 0 if one.embedding is None else len(one.embedding)


def usual_forms(said: Sequence[Said], heard_of: Collection[str]) -> dict[str, Form]:
    """Of the new versions among these answers, the form that most of them have: one odd row must not fix it."""
    seen: dict[str, Counter[Form]] = {}
    for one in said:
        if one.probabilities is not None and one.version not in heard_of:
            seen.setdefault(one.version, Counter())[form_of(one)] += 1
    return {name: forms.most_common(1)[0][0] for name, forms in seen.items()}


def alike(said: Sequence[Said], at: str, heard_of: Collection[str] = ()) -> None:
    """Raises InvalidInput where answers of a new version have other classes or embeddings than its first one."""
    first: dict[str, Form] = {}
    for place, one in enumerate(said):
        if one.probabilities is not None and one.version not in heard_of:
            form = form_of(one)
            if (before := first.setdefault(one.version, form)) != form:
                strange = sorted(form[0] - before[0]) or sorted(before[0] - form[0])
                field = "probabilities" if strange else "embedding"
                words = f"{strange[0]!r} is none of the classes of some" if strange else "embeddings of several sizes"
                raise InvalidInput(
                    f"{at}.{place}: {words} in version {one.version!r}; send all of a version alike",
                    f"{at}.{place}.{field}",
                )


def labels_of(one: Said) -> tuple[str, ...]:
    """The classes that a version's first answer names. Raises InvalidInput where it cannot name all."""
    if one.probabilities is None:
        raise InvalidInput(
            f"the classes of version {one.version!r} are not known yet, and a label with its score names only one: "
            'send "probabilities" of all classes, or set [models.NAME.elsewhere] classes',
            "label",
        )
    if len(one.probabilities) < 2:
        raise InvalidInput(
            "one class is no choice: send the probabilities of all classes, or set [models.NAME.elsewhere] classes",
            "probabilities",
        )
    return tuple(sorted(one.probabilities))


def scores_of(one: Said, labels: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Shape (k,) in the order of the labels, adding up to 1. Raises InvalidInput.

    A label with its score shares what is left among the other classes alike.
    """
    given = one.probabilities if one.probabilities is not None else {str(one.label): float(one.score or 0.0)}
    where = "probabilities" if one.probabilities is not None else "label"
    unknown = sorted(set(given) - set(labels))
    if unknown:
        known = ", ".join(repr(label) for label in labels[:30])
        raise InvalidInput(f"{unknown[0]!r} is none of the classes of version {one.version!r}: {known}", where)
    wrong = next((label for label, p in given.items() if not 0 <= p <= 1 + SUM_WITHIN), None)
    if wrong is not None:
        raise InvalidInput(f"the probability of {wrong!r} is {given[wrong]:g}, it must lie between 0 and 1", where)
    if one.probabilities is None:
        rest = (1.0 - min(1.0, next(iter(given.values())))) / max(1, len(labels) - 1)
        return np.array([given.get(label, rest) for label in labels], np.float32)
    total = math.fsum(given.values())
    if abs(total - 1) > SUM_WITHIN:
        raise InvalidInput(
            f"the probabilities add up to {total:.4g}, not to 1; send those of all classes, after the softmax", where
        )
    return np.array([given.get(label, 0.0) / total for label in labels], np.float32)


def measures_of(text: Any) -> dict[str, float]:
    """The cheap facts that need no tokenizer: the length in words."""
    if text is None:
        return {}
    parts = text if isinstance(text, tuple) else (text,)
    return {"length": float(sum(len(part.split()) for part in parts))}


def own_number(version: str, model: str) -> int | None:
    """The number of keepfit's own version that a name means; None for another system's name.

    >>> own_number("3", "reviews"), own_number("models:/reviews/3", "reviews"), own_number("2026-01", "reviews")
    (3, 3, None)
    """
    name = version.removeprefix(f"models:/{model}/")
    if name.isascii() and name.isdigit() and 0 < len(name) < 7:
        return int(name)
    return None


def own_labels(models: Path, model: str, number: int) -> tuple[str, ...]:
    """The classes of a version by its files. Raises InvalidInput where they are gone."""
    try:
        state = orjson.loads((model_folder(models, model, number) / "evaluation.json").read_bytes())
        return tuple(state["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"the files of version {number} are not here ({error}), so its classes are not known",
                           "version") from error  # fmt: skip


@lru_cache(maxsize=64)
def own_width(folder: Path) -> int:
    """Numbers in the embeddings of a version of ours. Raises BackendError when its files are gone."""
    return int(read_reference(folder).embeddings.shape[1])


def width_kept(store: RecordStore, model: str, number: int, sent: int) -> int:
    """The size of the embeddings that came for a version first, 0 where none came; `sent` when it is the first."""
    kept = store.get(model, f"{WIDTH}{number}")
    if kept is None:
        store.put(model, f"{WIDTH}{number}", sent)
    return sent if kept is None else int(kept)
