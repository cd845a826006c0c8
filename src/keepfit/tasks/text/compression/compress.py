"""A smaller and faster form of a text model: one method after the other, each judged before the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keepfit.data.snapshot import Snapshot
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text.acceptance import MARGIN
from keepfit.tasks.text.compression.card import section
from keepfit.tasks.text.compression.corpus import Corpus
from keepfit.tasks.text.compression.folders import copied, read_facts, revise
from keepfit.tasks.text.compression.judging import TIMED_S, Judge, Made, Point
from keepfit.tasks.text.compression.steps import fewer_layers, look_up_small, make_int8
from keepfit.tasks.text.compression.trimming import trim
from keepfit.tasks.text.first import FILE as FIRST_FILE
from keepfit.tasks.text.model import read_folder
from keepfit.tasks.text.preprocessing import Content
from keepfit.telling import Tell

Method = Callable[[Made, Path], tuple[str, Made]]
LEFT_BEHIND = "its first stage: left behind, what it would change was measured beside the network before; train for one"


@dataclass(frozen=True)
class Compressed:
    """What came of it."""

    folder: Path | None
    """The candidate; None where no method was taken."""
    points: tuple[Point, ...]
    """The trade-off curve: fp32, the version as it is, and every candidate."""
    refused: Mapping[str, str]
    """By its name, why a method could not be tried."""
    had_first: bool = False
    """Whether the version had a first stage."""

    @property
    def because(self) -> tuple[str, ...]:
        """What came of each method, in sentences."""
        tried = [f"{one.name}: {'taken' if one.taken else 'not taken'}, {one.because}" for one in self.points[2:]]
        refused = (f"{name}: not tried, {sentence}" for name, sentence in self.refused.items())
        return (*tried, *refused, *((LEFT_BEHIND,) if self.had_first and self.folder is not None else ()))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"points": [point.to_json() for point in self.points], "refused": dict(self.refused)}


@dataclass(frozen=True)
class Compressor:
    """What a compression may do; called, it compresses. Trimming and the word table are always tried."""

    loss: float = MARGIN
    """Of accuracy, against fp32, all methods together."""
    layers: int | None = None
    """Keep so many and distil; None: all."""
    int8: bool = False
    """Make int8 anew, though the version may answer in it."""
    timed_s: float = TIMED_S
    """Seconds for the timing of one length."""

    def __call__(
        self, version: Path, snapshot: Snapshot, recorded: Sequence[Content], tell: Tell, workdir: Path,
        against: Path | None = None,
    ) -> Compressed:  # fmt: skip
        """What is left of a version when every method has had its turn; the version itself stays as it was.

        Each is judged against the fp32 answers of the version, or of the one that it was itself compressed from
        (`against`), so that small losses do not add up. Killed and called
        again with the same arguments, a distillation goes on from its last checkpoint in `workdir`. Raises InvalidInput
        for a number of layers that cannot be, BackendError when files cannot be read or written.
        """
        made, corpus = Made(version), Corpus.of(snapshot, recorded, read_folder(version)[0].labels)
        tell("judging it as it is", 0, None)
        reference = Made(against or version)
        judge = Judge.of(reference, corpus.held_out, self.loss, self.timed_s)
        points = [judge.first(reference), judge.point(f"as it is ({made.precision})", made)]
        refused: dict[str, str] = {}
        last = points[1]
        for name, method in self.methods(made, corpus, judge, tell):
            tell(name, 0, None)
            started = time.perf_counter()
            try:
                label, candidate = method(made, workdir / name)
            except InvalidInput as error:
                if error.field is not None:  # what was asked for cannot be
                    raise
                refused[name] = str(error)
                continue
            points.append(judge.point(label, candidate, time.perf_counter() - started, last))
            if points[-1].taken:
                made, last = candidate, points[-1]
        if made.folder == version:
            return Compressed(None, tuple(points), refused)
        folder = finished(made, points, refused, self.loss, workdir / "model")
        return Compressed(folder, tuple(points), refused, "first" in read_facts(version))

    def methods(self, version: Made, corpus: Corpus, judge: Judge, tell: Tell) -> Iterator[tuple[str, Method]]:
        """What is tried, in this order: what changes the weights first, what only stores them otherwise last."""

        def progress(metrics: Mapping[str, float], step: int) -> None:
            tell("layers", int(100 * metrics.get("progress", 0.0)), 100)

        if self.layers is not None:
            yield "layers", partial(fewer_layers, corpus=corpus, judge=judge, wanted=self.layers, report=progress)
        yield "words", partial(trim, corpus=corpus)
        if self.int8 or (self.layers is None and version.precision != "int8"):
            yield "int8", partial(make_int8, corpus=corpus, judge=judge)
        yield "table", look_up_small


def finished(made: Made, points: Sequence[Point], refused: Mapping[str, str], loss: float, folder: Path) -> Path:
    """The candidate's folder, which says what was done to it. Raises BackendError."""
    copied(made.folder, folder)
    card = folder / "card.md"
    try:
        # what the first stage would change was measured beside the network as it was before
        revise(folder, first=None, compression={"loss": loss, "forms": [point.to_json() for point in points]})
        (folder / FIRST_FILE).unlink(missing_ok=True)
        before = card.read_text("utf-8") if card.is_file() else ""
        card.write_text(f"{before}\n{section(points, refused, loss)}", "utf-8")
    except OSError as error:
        raise BackendError(f"cannot write {folder} ({error}); make room on the disk and try again") from error
    return folder
