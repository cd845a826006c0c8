"""What a compression costs and what it brings: answers beside fp32, bytes, milliseconds; one point of a curve each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import Precision
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.engine.tables import unfolded
from keepfit.intervals import wilson
from keepfit.tasks.task import Prepared, predict
from keepfit.tasks.text.acceptance import Comparison, Scores, compare
from keepfit.tasks.text.calibration import fit_temperature
from keepfit.tasks.text.model import NETWORKS, TextModel, read_folder
from keepfit.tasks.text.preprocessing import Content, Encoded, Preprocessor, Reading

LENGTHS = (16, 64, 256)
"""Tokens of the texts that are timed."""
TIMED_S = 1.0
"""Seconds that the timing of one length may take, unless a call takes longer."""
FEWEST_CALLS, MOST_CALLS = 5, 300

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What no compression was made from."""

    texts: Sequence[Content]
    truth: Ints
    """Class numbers of these, shape (n,)."""
    others: Sequence[Content] = ()
    """Without a label."""


class Renumbered:
    """A preprocessor whose ids are looked up in a table, shape (v,)."""

    def __init__(self, preprocessor: Preprocessor, table: Ints) -> None:
        self._preprocessor, self._table = preprocessor, table

    def encode(self, contents: Sequence[Content]) -> Encoded:
        """See Preprocessor."""
        encoded = self._preprocessor.encode(contents)
        return replace(encoded, ids=[self._table[np.asarray(ids, np.int64)].tolist() for ids in encoded.ids])


@dataclass(frozen=True, eq=False)
class Made:
    """A model folder on its way."""

    folder: Path
    reading: Reading | None = None
    """How texts are read while it is judged, where the folder's own tokenizer has seen what is held out."""

    def load(self, precision: Precision | None = None, plain: bool = False) -> TextModel:
        """The model, in its own precision unless another is asked for. Raises BackendError.

        plain: as its network answers, at temperature 1 and whatever the class mix.
        """
        facts, preprocessor = read_folder(self.folder)
        wanted = precision or facts.precision
        engine = OpenVinoEngine.load(self.folder / "ir" / NETWORKS[wanted], wanted)
        if plain:
            facts = replace(facts, temperature=1.0, prior=None)
        return TextModel(facts, self.reading or preprocessor, engine)

    @property
    def longest(self) -> int:
        """The most tokens that it reads."""
        return read_folder(self.folder)[0].max_tokens

    @property
    def precision(self) -> Precision:
        """Its own."""
        return read_folder(self.folder)[0].precision

    def sizes(self, precision: Precision | None = None) -> tuple[int, int]:
        """Bytes that a server reads, and that the network takes in memory, in this or its own precision."""
        network = self.folder / "ir" / NETWORKS[precision or self.precision]
        weights = network.with_suffix(".bin").stat().st_size
        others = sum(path.stat().st_size for path in (network, self.folder / "tokenizer.json"))
        return weights + others, weights + unfolded(network)


@dataclass(frozen=True)
class Point:
    """One form of the model on the trade-off curve."""

    name: str
    size: int
    """Bytes that a server reads: the network that answers, and the tokenizer."""
    held: int
    """Bytes that the network takes in memory, without what it computes."""
    milliseconds: Mapping[str, float]
    """Of one text alone, by its tokens: medians."""
    accuracy: Mapping[str, Any]
    """On the labelled held-out texts, with its 95 % interval."""
    comparison: Comparison | None
    """Beside fp32; None for that itself."""
    taken: bool
    because: str
    seconds: float = 0.0
    """That making it took."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Judge:
    """Compares with one reference: the fp32 answers of the version that is compressed."""

    held_out: HeldOut
    reference: tuple[Scores, Scores]
    margin: float
    timed_s: float = TIMED_S
    cpu: dict[str, float] = field(default_factory=dict)
    """Processor seconds for all held-out texts, by the name of what answered them."""

    @classmethod
    def of(cls, version: Made, held_out: HeldOut, margin: float, timed_s: float = TIMED_S) -> Judge:
        """The fp32 answers of the version become the reference."""
        before, found = time.process_time(), answers(version.load("fp32"), held_out)
        return cls(held_out, found, margin, timed_s, {"fp32": time.process_time() - before})

    def compare(self, name: str, model: TextModel) -> Comparison:
        """The answers of a model beside the reference."""
        before, found = time.process_time(), answers(model, self.held_out)
        self.cpu[name] = time.process_time() - before
        return compare(name, found, self.reference, self.held_out.truth, self.margin)

    def first(self, version: Made) -> Point:
        """The point of the reference itself."""
        spent = milliseconds(version.load("fp32"), version.longest, self.timed_s)
        why = "what the others are compared with"
        return Point("fp32", *version.sizes("fp32"), spent, self.accuracy(0.0), None, True, why)

    def point(self, name: str, made: Made, seconds: float = 0.0, before: Point | None = None) -> Point:
        """A candidate, judged and timed; not taken when it saves neither bytes nor time against `before`."""
        model, sizes = made.load(), made.sizes()
        comparison = self.compare(name, model)
        spent = milliseconds(model, made.longest, self.timed_s)
        taken, because = comparison.kept, comparison.because
        if taken and before is not None and not saves(sizes, spent, before):
            taken, because = False, "it saves neither a hundredth of the bytes nor a twentieth of the time"
        accuracy = self.accuracy(comparison.difference)
        return Point(name, *sizes, spent, accuracy, comparison, taken, because, round(seconds, 1))

    def accuracy(self, difference: float) -> dict[str, Any]:
        """Of what is so much better than the reference on the labelled texts."""
        n = len(self.held_out.truth)
        right = float(np.sum(self.reference[0].argmax(axis=1) == self.held_out.truth)) if n else 0.0
        return wilson(round(right + (n * difference if n else 0.0)), n).to_json()

    def temperature(self, made: Made, precision: Precision) -> float:
        """That fits a network's answers on the labelled texts."""
        return fit_temperature(
            predict(made.load(precision, plain=True), self.held_out.texts).scores, self.held_out.truth
        )


def saves(sizes: tuple[int, int], spent: Mapping[str, float], before: Point) -> bool:
    """Whether less is read or held, or texts are answered sooner, by more than the timing wavers."""
    faster = [spent[name] / was for name, was in before.milliseconds.items() if name in spent and was]
    sooner = bool(faster) and float(np.median(faster)) < 0.95
    return sooner or sizes[0] < 0.99 * before.size or sizes[1] < 0.99 * before.held


def answers(model: TextModel, held_out: HeldOut) -> tuple[Scores, Scores]:
    """Scores on the labelled and on the other held-out texts."""
    return predict(model, held_out.texts).scores, predict(model, held_out.others).scores


def milliseconds(model: TextModel, longest: int, seconds: float) -> dict[str, float]:
    """The median time that one text of so many tokens takes the engine, of at least five calls; {"16": 1.25, ...}."""
    found = {}
    for tokens in (length for length in LENGTHS if length <= longest):
        one = Prepared([[1] * tokens], [tokens], [{}])
        model.infer(one)
        took: list[float] = []
        end = time.perf_counter() + seconds
        while len(took) < FEWEST_CALLS or (time.perf_counter() < end and len(took) < MOST_CALLS):
            before = time.perf_counter()
            model.infer(one)
            took.append(1000 * (time.perf_counter() - before))
        found[str(tokens)] = round(float(np.median(took)), 3)
    return found
