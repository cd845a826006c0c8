"""Labels asked for with unequal chances: what is said of all answers comes from those that were drawn alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import AUDIT, DISAGREEMENT, UNCERTAIN, UNIFORM, Example, Label, LabelledExample, Source
from keepfit.data.snapshot import Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.evaluation.mix import Comparison, compared
from keepfit.pipelines.answering import Answers
from keepfit.pipelines.choosing import LOOKED_BACK, WITH_CONFLICTS, Choosing, OnWhat, risen
from keepfit.pipelines.train_part import TrainPart
from keepfit.tasks.task import Output

START, CLASSES, RATE = datetime(2026, 3, 1, tzinfo=UTC), ("bad", "good"), 0.05
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """Answers that were asked about; the champion always says "good"."""

    part: TrainPart
    expected: float
    """Its accuracy on all answers, asked about or not."""

    def seen(self, places: NDArray[np.int64]) -> Comparison:
        """What the champion says beside what is to be expected of it."""
        truth = self.part.past.truth[places]
        said = np.full(len(truth), CLASSES.index("good"), np.int64)
        return compared(said, said, truth, self.expected)


def met(found: Comparison) -> bool:
    """Comes up to what is expected, within chance."""
    return found.after.high >= found.expected


class Champion:
    """The champion, as it is asked."""

    model = SimpleNamespace(labels=CLASSES)

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, contents: Sequence[Any]) -> Output:
        self.asked += contents
        return Output(np.tile(np.float32([0.0, 1.0]), (len(contents), 1)), np.zeros((len(contents), 2), np.float32))


def drawn(folder: Path, seed: int, part: str, often: float, late: bool = False) -> Drawn:
    """A part of the queue asks for answers of which the model is unsure `often` times as often as the others are.

    late: it does so in the second half only. Nothing ever changes in what is right.
    """
    rng, n = np.random.default_rng(seed), 8_000
    sure = rng.uniform(0.55, 1.0, n)
    right, unsure = rng.random(n) < sure, sure < 0.75
    extra = np.where(unsure & (~late | (np.arange(n) >= n // 2)), (often - 1) * RATE, 0.0)
    uniform, other = rng.random(n) < RATE, rng.random(n) < extra
    rows, labelled, parts = [], [], {}
    for i in np.flatnonzero(uniform | other):
        id_, time = f"e{i:05d}", START + timedelta(minutes=int(i))
        label = Label(
            id_, CLASSES[int(right[i])], time, Source.ASKED, "ann", float(1 - (1 - RATE) * (1 - extra[i])), id=f"l{i}"
        )
        parts[id_] = [name for name, hit in ((UNIFORM, uniform[i]), (part, other[i])) if hit]
        labelled.append(LabelledExample(Example(f"text {i}", time, id=id_), label))
        rows.append(SnapshotRow(id_, f"text {i}", label.value, id_, Split.TRAIN, time, True, source="asked"))
    whole = write_snapshot(folder / f"{seed}-{part}", rows, ("text",), {})
    return Drawn(TrainPart.of(whole, labelled, parts), float(right.mean()))


def test_what_is_expected_is_met_where_unsure_answers_are_asked_about_five_times_as_often(tmp_path: Path) -> None:
    found = [drawn(tmp_path, seed, UNCERTAIN, 5.0) for seed in range(20)]
    assert sum(met(one.seen(one.part.random)) for one in found) >= 18
    assert sum(met(one.seen(one.part.drawn)) for one in found) <= 2, "labels of any chance do not stand for all"
    assert abs(np.mean([one.seen(one.part.random).after.value - one.expected for one in found])) < 0.01


def test_the_labels_of_a_rollout_that_begins_are_no_rise_of_errors(tmp_path: Path) -> None:
    found = [drawn(tmp_path, seed, DISAGREEMENT, 5.0, late=True).part for seed in range(20)]
    assert sum(risen(part, Champion(), START, 0.05).at is not None for part in found) <= 3


def test_an_audit_and_labels_of_which_no_part_is_known_stand_for_all_answers(tmp_path: Path) -> None:
    parts = {"a": [AUDIT], "b": [], "d": [UNCERTAIN], "e": [UNCERTAIN], "f": [UNCERTAIN, UNIFORM]}
    labelled = [
        LabelledExample(
            Example(name, START, id=name),
            Label(name, "good", START, Source.COMPLETE if name == "e" else Source.ASKED, "ann", None, id=name),
        )
        for name in "abcdef"
    ]
    rows = [
        SnapshotRow(one.example.id, one.example.content, "good", one.example.id, Split.TRAIN, START, True,
                    source=one.label.source.value)
        for one in labelled
    ]  # fmt: skip
    part = TrainPart.of(write_snapshot(tmp_path, rows, ("text",), {}), labelled, parts)
    assert [part.rows[i].id for i in part.random] == ["a", "b", "c", "e", "f"]
    assert [part.rows[i].id for i in part.drawn] == list("abcdef")


def test_weights_differ_however_small_the_chances_are(tmp_path: Path) -> None:
    rows = tuple(
        SnapshotRow(f"{i}", f"text {i}", "good", f"{i}", Split.TRAIN, START, True, source="asked") for i in range(5)
    )
    chances = dict(zip("01234", (0.004, 0.004, 0.0008, 0.0008, 1e-9), strict=True))
    weights = TrainPart(rows, CLASSES, chances).inverse(np.arange(5))
    assert np.isclose(weights[2] / weights[0], 5.0)
    assert np.isclose(weights[4] / weights[2], 10.0), "nothing counts more than ten times the one in the middle"
    assert np.isclose(weights.mean(), 1.0)


def rows_of(labels: Sequence[str]) -> tuple[SnapshotRow, ...]:
    """Complete labels from life, one a minute."""
    return tuple(
        SnapshotRow(f"e{i:05d}", f"text {i}", label, f"e{i:05d}", Split.TRAIN, START + timedelta(minutes=i), True,
                    source="complete")
        for i, label in enumerate(labels)
    )  # fmt: skip


def test_the_champion_is_asked_about_the_newest_labels_only_and_that_is_told() -> None:
    asked, change = Champion(), LOOKED_BACK + 1000
    rows = rows_of(["good"] * change + ["bad"] * 1000)
    rise = risen(TrainPart(rows, CLASSES, {}), asked, START, 0.05)
    assert asked.asked == [row.content for row in rows[-LOOKED_BACK:]]
    assert rise.at == rows[change].time.timestamp()
    assert rise.since("2020-01-01T00:00:00+00:00") == rise.at
    assert (rise.looked_at, rise.labels) == (LOOKED_BACK, LOOKED_BACK + 2000)
    assert str(rise) == "the newest 4000 of 6000 random labels since the champion's training"


def test_rows_that_conflict_are_not_counted_as_left_out_where_the_window_with_them_wins(tmp_path: Path) -> None:
    rows = rows_of(["good", "bad"] * 20)
    whole = write_snapshot(tmp_path, rows, ("text",), {})
    choosing = Choosing(
        whole, TrainPart(rows, CLASSES, {}), Answers(lambda: None, tmp_path / "answers.npz"),  # type: ignore[arg-type, return-value]
        lambda: np.zeros((0, 2), np.float32), OnWhat("auto"),
    )  # fmt: skip
    denied, told = np.arange(40) < 10, {"conflicts": [{"rows": 10}]}
    kept, _ = choosing.written(tmp_path / "made", np.ones(40), WITH_CONFLICTS, (), told, denied)
    narrow, _ = choosing.written(tmp_path / "made", np.where(denied, 0.0, 1.0), "recency", (), told, denied)
    assert (kept.lineage["conflicts"], kept.lineage["left_out"]) == (0, 0)
    assert (narrow.lineage["conflicts"], narrow.lineage["left_out"]) == (10, 10)
