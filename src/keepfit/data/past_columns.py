"""Which column of a table of past answers is the text, the answer, the truth, the time and so on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from keepfit.data.columns import LABELS, TIMES, Columns, Sample, check_named, choose_columns, plain_name
from keepfit.data.times import read_time
from keepfit.errors import InvalidInput

NONE = "none"
"""A role that is named so has no column, whatever could be guessed."""
PREDICTIONS = (
    "prediction", "predicted", "predictedlabel", "predictionlabel", "predlabel", "pred", "ypred",
    "predictedclass", "answer", "modeloutput", "output", "modellabel", "modelanswer", "said",
)  # fmt: skip
TRUTHS = (
    "truelabel", "truth", "groundtruth", "ytrue", "actual", "actuallabel", "gold", "goldlabel", "truthlabel",
    "correctlabel", "humanlabel", "annotation", "outcome", "label",
)  # fmt: skip
MOMENTS = (*TIMES, "ts", "predictedat", "predictiontime", "requesttime", "eventtime", "answeredat", "at")
LABEL_MOMENTS = (
    "labeltime", "labelledat", "labeledat", "labelat", "labeltimestamp", "truthtime", "annotatedat",
    "feedbackat", "feedbacktime",
)  # fmt: skip
VERSIONS = ("modelversion", "version", "release", "modelname", "model")
IDS = ("id", "exampleid", "requestid", "predictionid", "eventid", "uid", "uuid")
KEYS = ("key", "userid", "user", "customerid", "customer", "accountid", "queue", "session", "sessionid")
OBJECTS = ("probabilities", "probability", "probs", "proba", "scores")
PREFIXES = ("p_", "prob_", "proba_", "probability_", "score_")
SINGLE = ("label", "prediction", "id", "time", "version", "key", "label_time")


@dataclass(frozen=True)
class PastColumns:
    """The roles of the columns of a history; what is None or empty is found, or is not there."""

    text: tuple[str, ...] = ()
    id: str | None = None
    label: str | None = None
    prediction: str | None = None
    probabilities: tuple[str, ...] = ()
    """One column for each class, in the order of `classes`; or one with an object {class: probability}."""
    classes: tuple[str, ...] = ()
    """Of the columns of probabilities; empty where one column holds objects."""
    time: str | None = None
    version: str | None = None
    key: str | None = None
    context: tuple[str, ...] = ()
    label_time: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def as_objects(self) -> bool:
        """Whether one column holds the probabilities of all classes."""
        return bool(self.probabilities) and not self.classes


@dataclass
class _Chooser:
    """Fills the gaps, one role after the other; no column has two roles."""

    sample: Sample
    wanted: PastColumns
    taken: set[str] = field(default_factory=set)

    def one(self, role: str, names: Sequence[str]) -> str | None:
        """The column of a role: as named, else the first of the well-known names that fits."""
        given = getattr(self.wanted, role)
        if given == NONE:
            return None
        found = given or self.by_name(names)
        if found is not None and not given and not self.fits(role, found):
            found = None
        if found is not None:
            self.taken.add(found)
        return found

    def by_name(self, names: Sequence[str]) -> str | None:
        """The first of these names that is still free."""
        free = {plain_name(column): column for column in reversed(self.sample.header) if column not in self.taken}
        return next((free[name] for name in names if name in free), None)

    def fits(self, role: str, column: str) -> bool:
        """Whether what a guessed column holds can be what its name says."""
        values = self.sample.values(column)
        if not self.sample.rows:
            return True
        if role in ("time", "label_time"):
            return bool(values) and sum(read_time(value) is None for value in values) <= 0.1 * len(values)
        if role == "id":
            return len(values) == len(self.sample.rows)
        return bool(values)

    def probabilities(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns and classes: p_CLASS for each class, or one column of objects."""
        given = self.wanted.probabilities
        if given == (NONE,):
            return (), ()
        if given:
            named = [(column, class_of(column)) for name in given for column in self.matching(name)]
            if len(named) == 1 and self.holds_objects(named[0][0]):
                return (named[0][0],), ()
            return self.several([(c, name or c) for c, name in named])
        free = [column for column in self.sample.header if column not in self.taken]
        found = [(column, name) for column in free if (name := class_of(column)) and self.share(column)]
        if len(found) >= 2:
            return self.several(found)
        one = self.by_name(OBJECTS)
        return ((one,), ()) if one is not None and self.holds_objects(one) else ((), ())

    def several(self, named: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Raises InvalidInput for one class alone."""
        if len(named) < 2:
            listing = self.sample.listing()
            raise InvalidInput(
                "probabilities need a column for each class, at least two (p_CLASS), or one column of objects such as "
                f'{{"good": 0.9, "bad": 0.1}}; the columns are {listing:.300}',
                "probabilities",
            )
        return tuple(column for column, _ in named), tuple(name for _, name in named)

    def matching(self, name: str) -> list[str]:
        """The columns that a name means; p_* means all that begin with p_."""
        if name.endswith("*"):
            return [column for column in self.sample.header if column.startswith(name[:-1])]
        return [name]

    def share(self, column: str) -> bool:
        """Whether nearly all values are numbers from 0 to 1.001: what is wrong with some is said of the rows."""
        values = self.sample.values(column)
        return sum(map(_is_share, values)) >= 0.9 * len(values)

    def holds_objects(self, column: str) -> bool:
        """Whether the first value is a JSON object."""
        values = self.sample.values(column)
        try:
            return bool(values) and isinstance(json.loads(values[0]), dict)
        except ValueError:
            return False


def choose_past_columns(sample: Sample, wanted: PastColumns) -> PastColumns:
    """Fill the gaps of `wanted`, as `choose_columns` does for a labelled table.

    Raises InvalidInput, with the columns, when one is unknown, or text, time or answers cannot be told.
    """
    check_given(sample, wanted)
    chooser = _Chooser(sample, wanted, {c for c in _given(wanted) if c != NONE})
    found: dict[str, Any] = {role: chooser.one(role, names) for role, names in (
        ("prediction", PREDICTIONS), ("label_time", LABEL_MOMENTS), ("version", VERSIONS), ("time", MOMENTS),
        ("id", IDS), ("key", KEYS),
    )}  # fmt: skip
    probabilities, classes = chooser.probabilities()
    chooser.taken.update(probabilities)
    found["label"] = chooser.one("label", (*TRUTHS, *LABELS))
    if not probabilities and found["prediction"] is None:
        raise InvalidInput(
            f"{sample.name} has no column of answers ({sample.listing():.300}); name it: --prediction COLUMN, or "
            "--probabilities 'p_*'. Labelled texts without answers are for keepfit train and keepfit backtest FILE",
            "prediction",
        )
    if found["time"] is None:
        raise InvalidInput(
            f"{sample.name} has no column with the time of each answer ({sample.listing():.300}); name it: --time "
            "COLUMN",
            "time",
        )
    chosen = replace(wanted, probabilities=probabilities, classes=classes, **found)
    return replace(chosen, text=wanted.text or texts(sample, chosen))


def texts(sample: Sample, chosen: PastColumns) -> tuple[str, ...]:
    """The columns of the text among those that are free."""
    used = set(_given(chosen))
    free = Sample(sample.name, tuple(c for c in sample.header if c not in used), sample.rows)
    if not free.header:
        raise InvalidInput(
            f"{sample.name} has no column left for the text ({sample.listing()}); name it: --text", "text"
        )
    return choose_columns(free, Columns(), need_label=False).text


def check_given(sample: Sample, wanted: PastColumns) -> None:
    """Raises InvalidInput for a column that the table lacks, with the nearest one."""
    given = [("text", c) for c in wanted.text] + [("context", c) for c in wanted.context]
    given += [(role, c) for role in SINGLE if (c := getattr(wanted, role)) not in (None, NONE)]
    given += [("probabilities", c) for c in wanted.probabilities if c != NONE and not c.endswith("*")]
    check_named(sample, given)


def class_of(column: str) -> str | None:
    """The class of a column of probabilities by its name; None when it is none.

    >>> class_of("p_spam"), class_of("text")
    ('spam', None)
    """
    prefix = next((p for p in PREFIXES if column.lower().startswith(p) and len(column) > len(p)), None)
    return None if prefix is None else column[len(prefix) :]


def near(value: str, classes: Sequence[str]) -> str:
    """A hint which class may be meant, or nothing."""
    close = difflib.get_close_matches(value.lower(), [c.lower() for c in classes], 1, 0.5)
    return next((f" (is {c!r} meant?)" for c in classes if close and c.lower() == close[0]), "")


def _given(columns: PastColumns) -> list[str]:
    single = [value for role in SINGLE if (value := getattr(columns, role)) is not None]
    return [*columns.text, *columns.context, *columns.probabilities, *single]


def _is_share(value: str) -> bool:
    try:
        return 0 <= float(value) <= 1.001
    except ValueError:
        return False
