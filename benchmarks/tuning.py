"""Does a search for a recipe pay? The best of 20 trials against the default recipe, on three small real sets.

    KEEPFIT_DATA=FOLDER python -m benchmarks.tuning [--sets trec emotion sst2] [--trials 20] [--rows 2000]

FOLDER holds trec_questions/, tweeteval/ and sst2_sentences/ as gzipped CSV. Of each set, shuffled with a fixed seed, at
most ROWS are learnt from and validated on; all others are the test part, which no trial sees: it is read once at the
end, by the default recipe and by the best one, both trained anew. Killed and started again it goes on (its state is in
build/benchmarks/tuning). Writes benchmarks/results/tuning.json: accuracies with intervals, their paired difference, the
seconds that the search cost, and what it changed. About 15 minutes a set on two quiet cores with bf16.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import save, table
from keepfit.app.wiring import traits
from keepfit.data.records import text_group
from keepfit.data.snapshot import Rows, Snapshot, Split, split_of, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.intervals import paired_interval, wilson
from keepfit.metrics import log_loss
from keepfit.pipelines.tune import Trials, space_of, tune_recipe
from keepfit.tasks.task import predict
from keepfit.tasks.text.fit import TextTask
from keepfit.tasks.text.learning import passes_for
from keepfit.training.recipe import Recipe
from keepfit.training.tuning import Search

SETS = {
    "trec": "trec_questions/trec_questions_a.csv.gz",
    "emotion": "tweeteval/emotion_a.csv.gz",
    "sst2": "sst2_sentences/sst2_sentences_a.csv.gz",
}
DEFAULT = Recipe(inference="fp32")
"""The arithmetic of answers is no part of the question, and choosing it takes time."""
VALIDATION = 0.15
POINT = 0.01
WORK = Path("build/benchmarks/tuning")

Values = dict[str, Any]


def snapshot_of(file: Path, folder: Path, rows: int) -> Snapshot:
    """At most so many rows to learn from and to validate on, the others to test; no text is in two parts."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as opened:
        read = [(row["text"], row["label"]) for row in csv.DictReader(opened) if row["text"].strip()]
    found = list(dict.fromkeys(read))
    order = np.random.default_rng(0).permutation(len(found))
    groups: dict[str, Split] = {}
    made = []
    for place, i in enumerate(order):
        text, label = found[i]
        group = text_group(text)
        here = split_of(group, validation=VALIDATION, test=0.0) if place < rows else Split.TEST
        made.append(SnapshotRow(f"{place:05d}", text, label, group, groups.setdefault(group, here)))
    return write_snapshot(folder / "snapshots", made, ("text",), {"kind": "benchmark", "source": file.name})


def searched(data: Snapshot, folder: Path, search: Search) -> Values:
    """The search alone: it reads the train and the validation part."""
    trials = Trials(
        folder / "trials", f"sqlite:///{(folder / 'tuning.db').absolute()}", traits("text").tunable,
        passes_for(len(data.rows(Split.TRAIN))),
    )  # fmt: skip
    began = time.perf_counter()
    task = TextTask()
    found = tune_recipe(space_of(task, DEFAULT, search, trials), task, data, search, trials, say)
    print(f"{time.perf_counter() - began:.0f} s in this run")
    return {**found.to_json(), "seconds": round(sum(trial.seconds for trial in found.trials), 1)}


def tested(data: Snapshot, recipe: Recipe, folder: Path) -> Values:
    """A recipe's accuracy on the test part, and which rows were right."""
    began = time.perf_counter()
    model = TextTask().load(TextTask().fit(data, recipe, say, folder))
    seconds = time.perf_counter() - began
    test = data.rows(Split.TEST)
    scores, truth = predict(model, test.contents).scores, truth_of(test, model.labels)
    right = scores.argmax(axis=1) == truth
    return {
        "accuracy": wilson(int(right.sum()), len(right)).to_json(), "log_loss": round(log_loss(truth, scores), 4),
        "seconds": round(seconds, 1), "right": right.astype(int).tolist(),
    }  # fmt: skip


def without_rows(values: Values) -> Values:
    """For the repository: no word on single rows."""
    return {name: value for name, value in values.items() if name != "right"}


def truth_of(rows: Rows, labels: tuple[str, ...]) -> np.ndarray:
    """Class numbers of the rows."""
    return np.array([labels.index(label) for label in rows.truth], np.int64)


def one_set(name: str, file: Path, rows: int, search: Search) -> Values:
    """Search, then judge the default recipe and the best one."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    data = snapshot_of(file, folder, rows)
    found = searched(data, folder, search)
    best = Recipe.from_json(found["best"])
    base = tested(data, DEFAULT, folder / "default")
    tuned = base if best == DEFAULT else tested(data, best, folder / "best")
    a, b = np.array(tuned["right"], bool), np.array(base["right"], bool)
    gain = paired_interval(int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)).to_json()
    return {
        "rows": {split.value: len(data.rows(split)) for split in Split}, "gain": gain,
        "default": without_rows(base), "best": without_rows(tuned),
        "default_within_a_point_of_the_best": gain["value"] <= POINT, "search_seconds": found["seconds"],
        "changes": found["changes"], "because": found["because"], "trials": found["trials"],
        "importance": found["importance"],
    }  # fmt: skip


def say(metrics: Mapping[str, float], step: int) -> None:
    """A line at the beginning of a trial."""
    if step == 0 and "trial" in metrics:
        best = f", best {metrics['best']:.4f}" if "best" in metrics else ""
        print(f"trial {metrics['trial']:.0f} of {metrics['trials']:.0f}{best}", flush=True)


def line(name: str, one: Values) -> Values:
    """A set as people see it."""
    gain = one["gain"]
    return {
        "set": name, "rows": one["rows"]["train"] + one["rows"]["validation"], "tested": one["rows"]["test"],
        "default": one["default"]["accuracy"]["value"], "best": one["best"]["accuracy"]["value"],
        "gain": f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})",
        "search s": one["search_seconds"], "one training s": one["default"]["seconds"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--search", default="tpe")
    chosen = parser.parse_args()
    place = os.environ.get("KEEPFIT_DATA")
    if place is None:
        raise SystemExit("set KEEPFIT_DATA to the folder that holds the data sets")
    search = Search(chosen.search, chosen.trials)
    found = {name: one_set(name, Path(place) / SETS[name], chosen.rows, search) for name in chosen.sets}
    title = f"best of {chosen.trials} trials ({chosen.search}) against the default recipe"
    table(title, [line(*one) for one in found.items()])
    print(json.dumps({name: one["changes"] for name, one in found.items()}, indent=1))
    save("tuning", {"trials": chosen.trials, "search": chosen.search, "sets": found})


if __name__ == "__main__":
    main()
