"""A history is imported: read and judged as a whole on a stage first, then stored in parts that a kill cannot tear.

Everything that is stored has an id made from what it is, so the same rows imported again, or within a longer export,
are the same rows. A refusal comes before the first row is stored.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data import past_stage as stage
from keepfit.data.foreign import ForeignVersion
from keepfit.data.labellers import FILE
from keepfit.data.past_columns import near
from keepfit.data.past_rows import NAIVE, SUMS, Faults, PastRow, Reader, digest
from keepfit.data.past_source import PastSource
from keepfit.data.records import EMBEDDED, Example, Label, Prediction, Source
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput
from keepfit.pipelines.foreign import ELSEWHERE
from keepfit.serving.discretion import Discretion, tell_of_masks
from keepfit.telling import Tell

Embed = Callable[[Sequence[Any]], tuple[NDArray[np.float32], Mapping[str, NDArray[np.float32]]]]
"""Contents (n) to embeddings (n, d) and measures by name (n,)."""
MARK = "import"
"""The named value that says how far the import of a stage has come."""
STAGE, SURVEY = "history-", "survey.json"
MOST_CLASSES = 1_000
COMPLETE = 0.99
"""Where so many rows have a label, every outcome becomes known."""
REMEDIES = {
    NAIVE: "say which zone they are in: --timezone Europe/Berlin, or --timezone settings for that of keepfit.toml",
    SUMS: "--normalise divides them by their sum",
}
NOTHING = np.zeros(0, np.float32)


@dataclass
class VersionSeen:
    """One version of the other system."""

    rows: int = 0
    first: datetime | None = None
    last: datetime | None = None
    answers: set[str] = field(default_factory=set)
    """Classes that it answered, or gave a probability."""

    def add(self, row: PastRow) -> None:
        """One more answer."""
        moment = row.time
        self.rows += 1
        self.answers.update(row.scores or (row.answer,))
        self.first = moment if self.first is None else min(self.first, moment)
        self.last = moment if self.last is None else max(self.last, moment)


@dataclass
class Survey:
    """What a history holds, counted in one reading."""

    read: int = 0
    rows: int = 0
    """Without those that have a fault."""
    labelled: int = 0
    versions: dict[str, VersionSeen] = field(default_factory=dict)
    days: dict[date, Counter[str]] = field(default_factory=dict)
    """Answers of each day (UTC) by version."""
    answered: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    """Rows that repeat another one."""
    mended: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, row: PastRow) -> None:
        """One more row."""
        self.rows += 1
        self.versions.setdefault(row.version, VersionSeen()).add(row)
        self.days.setdefault(row.time.date(), Counter())[row.version] += 1
        self.answered[row.answer] += 1
        if row.label is not None:
            self.labelled += 1
            self.labels[row.label] += 1
        if len(self.answered) > MOST_CLASSES or len(self.labels) > MOST_CLASSES:
            raise InvalidInput(
                f"there are more than {MOST_CLASSES:,} different answers or labels, so these are no classes; "
                "name the columns: --prediction, --label"
            )

    @property
    def first(self) -> datetime | None:
        """The time of the first answer."""
        return min((seen.first for seen in self.versions.values() if seen.first is not None), default=None)

    @property
    def last(self) -> datetime | None:
        """The time of the last answer."""
        return max((seen.last for seen in self.versions.values() if seen.last is not None), default=None)

    def classes(self, order: Sequence[str] = ()) -> tuple[str, ...]:
        """What can be answered: as the columns of probabilities are ordered, then by name."""
        found = {name for seen in self.versions.values() for name in seen.answers}
        return (*(name for name in order if name in found), *sorted(found - set(order)))

    def reigns(self) -> list[tuple[str, datetime]]:
        """Which version gave most answers, and since when, wherever that changed from one day to the next."""
        found: list[tuple[str, datetime]] = []
        for day in sorted(self.days):
            most = max(sorted(self.days[day]), key=lambda name: self.days[day][name])
            if not found or found[-1][0] != most:
                midnight = datetime.combine(day, datetime.min.time(), self.first.tzinfo if self.first else None)
                first = self.versions[most].first
                found.append((most, max(midnight, first) if first is not None else midnight))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        versions = {
            name: {"rows": seen.rows, "first": iso(seen.first), "last": iso(seen.last), "answers": sorted(seen.answers)}
            for name, seen in self.versions.items()
        }
        return {
            "read": self.read, "rows": self.rows, "labelled": self.labelled, "equal": self.equal,
            "first": iso(self.first), "last": iso(self.last), "versions": versions,
            "answers": dict(self.answered.most_common()), "labels": dict(self.labels.most_common()),
            "mended": self.mended, "left_out": self.left_out, "notes": self.notes,
        }  # fmt: skip

    def kept(self) -> dict[str, Any]:
        """All of it, for an import that goes on after a kill."""
        return {**self.to_json(), "days": {day.isoformat(): dict(counts) for day, counts in self.days.items()}}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Survey:
        """What `kept` gave."""
        moment = datetime.fromisoformat
        versions = {
            name: VersionSeen(seen["rows"], moment(seen["first"]), moment(seen["last"]), set(seen["answers"]))
            for name, seen in plain["versions"].items()
        }
        days = {date.fromisoformat(day): Counter(counts) for day, counts in plain["days"].items()}
        return cls(
            plain["read"], plain["rows"], plain["labelled"], versions, days, Counter(plain["answers"]),
            Counter(plain["labels"]), plain["equal"], plain["mended"], plain["left_out"], plain["notes"],
        )  # fmt: skip


def iso(moment: datetime | None) -> str | None:
    """As text."""
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True)
class Known:
    """What is known of the model before the import."""

    classes: Collection[str] = ()
    """Of keepfit's own champion; empty where there is none."""
    of_version: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The classes of foreign versions that are registered already."""
    new_classes: bool = False
    """A person lets classes in that the model does not know."""


@dataclass(frozen=True)
class Stored:
    """What an import has added."""

    answers: int
    labels: int
    resumed: int = 0
    """Rows that an earlier, interrupted import of the same had stored."""


@dataclass(frozen=True)
class Desk:
    """Where a history is laid out before it is stored."""

    store: RecordStore
    model: str
    place: Path
    """The stage's folder."""
    chunk: int = stage.CHUNK
    """Rows that are held in memory, and stored at once."""
    discretion: Discretion = field(default_factory=Discretion)
    """What of a text may be stored, on the stage, too."""

    def kept(self, row: PastRow) -> PastRow:
        """The row with its text as it may be stored."""
        if self.discretion.keeps_texts:
            return row
        example = self.discretion.example(Example(row.content, row.time, row.id))
        return replace(row, content=example.content, group=example.group)

    def put(self, writer: stage.StageWriter, held: list[PastRow], clashes: Faults) -> None:
        """A chunk onto the stage, compared with what is stored; `held` is emptied."""
        stored = self.store.contents(self.model, {row.id for row in held})
        for row in held:
            if row.id in stored and stored[row.id] != row.content:
                clashes.add("an id that is stored with another text", row.number, f"{row.id}: {stored[row.id]}")
        if held:
            writer.add(held)
        held.clear()


def survey(source: PastSource, reader: Reader, desk: Desk, tell: Tell) -> tuple[Survey, Faults]:
    """Read everything once onto the desk's stage; what it holds, and what is wrong with it."""
    found, total, place = Survey(), source.total(), desk.place
    if total == 0:
        raise InvalidInput(f"{source.name} has no row; nothing is there to import")
    clashes = Faults()
    shutil.rmtree(place, ignore_errors=True)
    try:
        with stage.writing(place) as writer:
            held: list[PastRow] = []
            for record in source.records():
                found.read += 1
                row = reader.read(record)
                if row is not None:
                    found.add(row)
                    held.append(desk.kept(row))
                if len(held) == desk.chunk:
                    desk.put(writer, held, clashes)
                if found.read % 2_000 == 0:
                    tell("reading", found.read, total)
            desk.put(writer, held, clashes)
    except OSError as error:
        raise BackendError(f"{place} cannot be written ({error}); make room on the disk and import again") from error
    if found.read == 0:
        raise InvalidInput(f"{source.name} has no row; nothing is there to import")
    tell_of_masks(desk.store, desk.model, desk.discretion)
    repeats = stage.repeats(place)
    found.equal, found.mended, found.notes = repeats.equal, reader.mended.sentences(), source.notes()
    if repeats.other:
        clashes.counts["an id that comes again with another text or answer"] = repeats.other
        rows = stage.rows_named(place, repeats.first)
        shown = [f"row {row.number} ({row.id!r:.40}: {row.content!s:.40} -> {row.answer})" for row in rows]
        clashes.first["an id that comes again with another text or answer"] = shown
    return found, clashes


def judge(found: Survey, faults: Faults, clashes: Faults, known: Known, skip_bad: bool) -> list[str]:
    """Why this history is refused; empty where it is not. Rows that are left out are told in the survey."""
    refusals = []
    if skip_bad:
        found.left_out = faults.sentences()
    else:
        for sentence, kind in zip(faults.sentences(), [k for k, _ in faults.counts.most_common()], strict=True):
            refusals.append(f"{sentence}; {REMEDIES.get(kind, 'mend them, or leave such rows out: --skip-bad')}")
    refusals += [f"{sentence}; each id must name one thing" for sentence in clashes.sentences()]
    if not found.rows and not refusals:
        refusals.append(f"none of {found.read} rows can be used: {'; '.join(found.left_out)}")
    return refusals + misfits(found, known)


def misfits(found: Survey, known: Known) -> list[str]:
    """Classes that do not fit what the model, or the version, knows."""
    refusals = []
    for name, seen in found.versions.items():
        fixed = known.of_version.get(name)
        if fixed is not None and (new := sorted(seen.answers - set(fixed))):
            refusals.append(
                f"the version {name!r} was imported with the classes {', '.join(sorted(fixed))}, and now answers "
                f"{', '.join(new[:5])}; a version's classes never change: give this one another name, --version or --as"
            )
    if known.new_classes:
        return refusals
    classes = known.classes or found.classes()
    strange = Counter({name: n for name, n in found.labels.items() if name not in classes})
    if strange:
        shown = ", ".join(f"{name!r} {n} times{near(name, tuple(classes))}" for name, n in strange.most_common(3))
        whose = "the model does not know" if known.classes else "were never answered"
        refusals.append(
            f"{strange.total()} labels are of {len(strange)} classes that {whose} ({shown}); the classes are "
            f"{', '.join(list(classes)[:10])}; map them in the export, or let them in: --new-classes"
        )
    return refusals


@dataclass(frozen=True)
class Writer:
    """Stores what stands on a stage."""

    store: RecordStore
    model: str
    versions: Mapping[str, ForeignVersion]
    """By name."""
    source: Source
    embed: Embed | None = None
    discretion: Discretion = field(default_factory=Discretion)
    """Which embeddings may be stored; texts stand on the stage as they may be."""

    def write(self, place: Path, tell: Tell, total: int) -> Stored:
        """Everything that is not stored yet; killed and called again it goes on after the last whole part."""
        mark = self.store.get(self.model, MARK) or {}
        done = mark if mark.get("stage") == place.name else {"parts": 0, "answers": 0, "labels": 0, "rows": 0}
        parts, answers, labels, rows = (int(done[name]) for name in ("parts", "answers", "labels", "rows"))
        resumed = rows
        for chunk in stage.chunks(place, parts):
            tell("importing", rows, total)
            parts, rows = parts + 1, rows + len(chunk)
            pairs, said = self.pairs(chunk), [label for row in chunk if (label := self.label(row)) is not None]
            now = {"stage": place.name, "parts": parts, "answers": answers, "labels": labels, "rows": rows}
            new, added = self.store.add_past(self.model, pairs, said, MARK, now)
            answers, labels = answers + new, labels + added
        return Stored(answers, labels, resumed)

    def pairs(self, chunk: Sequence[PastRow]) -> list[tuple[Example, Prediction]]:
        """Each row as an example with its answer."""
        embeddings, measures = (None, {}) if self.embed is None else self.embed([row.content for row in chunk])
        found = []
        for place, row in enumerate(chunk):
            example = Example(row.content, row.time, row.id, row.key, row.context, row.group)
            version = self.versions[row.version]
            vector = NOTHING if embeddings is None else embeddings[place]
            cheap = {name: float(column[place]) for name, column in measures.items()}
            missing = {EMBEDDED: 0.0} if len(vector) != version.width else {}
            said = Prediction(
                row.id, version.number, version.labels, scores_of(row, version.labels), vector, row.time,
                row.prediction_id(), row.key, row.context, cheap | missing, ELSEWHERE,
            )  # fmt: skip
            found.append((example, self.discretion.prediction(said)))
        return found

    def label(self, row: PastRow) -> Label | None:
        """The truth of a row, if it is known; its id is made from what it says."""
        if row.label is None:
            return None
        at = row.label_time or row.time
        id_ = digest(f"label\0{row.id}\0{row.label}\0{at.isoformat()}\0{self.source}")
        chance = 1.0 if self.source is Source.ASKED else None
        return Label(row.id, row.label, at, self.source, FILE, chance, row.prediction_id(), id_)


def width_of(place: Path, embed: Embed) -> int:
    """Numbers in an embedding, by the first row of a stage."""
    first = next(iter(stage.chunks(place)), [])
    return 0 if not first else int(embed([first[0].content])[0].shape[1])


def scores_of(row: PastRow, classes: Sequence[str]) -> NDArray[np.float32]:
    """Probabilities in the order of the classes, shape (k,); all of it on the answer where only that is known."""
    if row.scores is not None:
        return np.array([row.scores.get(name, 0.0) for name in classes], np.float32)
    return np.array([float(name == row.said) for name in classes], np.float32)


def keep(place: Path, words: Mapping[str, Any]) -> None:
    """Beside the stage what it is; only then it counts as whole."""
    part = place / f"{SURVEY}.part"
    part.write_text(json.dumps(words, default=str), "utf-8")
    part.replace(place / SURVEY)


def kept(place: Path) -> dict[str, Any] | None:
    """What a whole stage is; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((place / SURVEY).read_text("utf-8"))
        return found
    except (OSError, ValueError):
        return None


def stage_of(work: Path, model: str, words: str) -> Path:
    """Where a history of a model is made ready, by what makes it the same import."""
    return work / f"{STAGE}{model}-{digest(words)}"


def others(but: Path) -> Iterable[Path]:
    """Stages of other histories of the same model, which nobody will go on with."""
    whose = but.name.rpartition("-")[0]
    return [path for path in but.parent.glob(f"{whose}-*") if path != but and path.name.rpartition("-")[0] == whose]
