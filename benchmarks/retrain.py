"""How long until a model is as accurate, against Trainer with common defaults; and how long the next time takes.

    KEEPFIT_DATA=FOLDER python -m benchmarks.retrain [--rows 5000] [--tested 2000] [--part NAME ...] [--recipe JSON]

FOLDER holds imdb/IMDB_Dataset.csv.gz and imdb/IMDB_meta.csv.gz. The parts, in their order, each kept in
build/benchmarks/retrain/ROWS and not done again, so that a run can be cut and go on:

    first    keepfit learns ROWS reviews, from the data to the model that answers
    second   10 % more reviews come; a warm start, the frozen layers' states from the disk, a quarter of the
             passes: all that is new, and as much of the old as fits
    fresh    the same reviews from nothing, to say honestly what the warm start gives up
    speed    Trainer's time a step: its own defaults (fp32, 8 rows, padded to 512); a few steps, extrapolated
    peer     what Trainer's defaults reach in --peer-epochs. So that this ends within minutes the same batches, rate and
             schedule are computed in bf16 without padding, which changes the time and not what is learnt; its time is
             that of `speed`

Judged on the first reviews of the published test part, of other films than were learnt. Nothing is chosen by it. A peer
that does not reach keepfit's accuracy in its epochs needs longer, so the ratio is a lower bound then, and labelled so.
About 25 minutes on two quiet cores with bf16: first 9, second 3, fresh 9, speed 1, peer 8 (each epoch).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from benchmarks.imdb_data import read, snapshot
from benchmarks.results import save, table
from keepfit.data.snapshot import Rows, Split
from keepfit.intervals import paired_interval, wilson
from keepfit.tasks.task import predict
from keepfit.tasks.text.backbone import minilm_folder
from keepfit.tasks.text.fit import TextTask
from keepfit.tasks.text.hidden import FOLDER as HIDDEN
from keepfit.training.recipe import Recipe

RECIPE = Recipe(epochs=1.5, short_passes=1.0, short_tokens=256, max_tokens=512, frozen_layers=2, warm_share=0.25)
"""As benchmarks.imdb learns 5,000 reviews, with two of the six layers frozen."""
MORE = 1.1
PARTS = ("first", "second", "fresh", "speed", "peer")
UNTIMED = 2
"""Steps before those that are timed."""
WORK = Path("build/benchmarks/retrain")

Values = dict[str, Any]
Data = Mapping[Split, Rows]


def learnt(folder: Path, data: Data, name: str, rows: int, recipe: Recipe, parent: Path | None = None) -> Values:
    """keepfit's training of so many reviews: its seconds, and what it says of the test reviews."""
    if name == "first":  # another run's states must not make the first training faster
        shutil.rmtree(folder / HIDDEN, ignore_errors=True)
    data_of = snapshot(folder / "snapshots", data, rows, round(rows / MORE) if name != "first" else None)
    began = time.perf_counter()
    model = TextTask().fit(data_of, recipe, say(name), folder / name, parent)
    seconds = time.perf_counter() - began
    told = json.loads((model / "model.json").read_text("utf-8"))
    scores = predict(TextTask().load(model), data[Split.TEST].contents).scores
    return {
        "rows": rows, "seconds": round(seconds, 1), "training": told["training"], "recipe": told["recipe"],
        "precision": told["precision"], **judged(scores.argmax(axis=1), data[Split.TEST]),
    }  # fmt: skip


def judged(said: np.ndarray, test: Rows) -> Values:
    """The accuracy with its interval, and which reviews were right."""
    right = said == np.array([label == "positive" for label in test.truth], np.int64)
    return {"accuracy": wilson(int(right.sum()), len(right)).to_json(), "right": right.astype(int).tolist()}


class Reviews(Dataset[dict[str, Any]]):
    """Token ids and labels; padded to 512 where that is asked for."""

    def __init__(self, rows: Rows, tokenizer: Any, padded: bool) -> None:
        padding = "max_length" if padded else False
        found = tokenizer(list(rows.contents), truncation=True, max_length=512, padding=padding)
        self._labels = [int(label == "positive") for label in rows.truth]
        self._rows = [
            {"input_ids": ids, "attention_mask": mask}
            for ids, mask in zip(found["input_ids"], found["attention_mask"], strict=True)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self._rows[number], "labels": self._labels[number]}


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Look at the clock."""
        self.at.append(time.perf_counter())


def trainer(folder: Path, rows: Rows, padded: bool, **settings: Any) -> tuple[Trainer, Clock, Any]:
    """Trainer as its documentation starts one: nothing is set but where it writes, and what it must not print."""
    source, clock = str(minilm_folder()), Clock()
    tokenizer = AutoTokenizer.from_pretrained(source)
    torch.manual_seed(17)
    made = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(source, num_labels=2),
        args=TrainingArguments(
            output_dir=str(folder / "trainer"), save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False, **settings,
        ),
        train_dataset=Reviews(rows, tokenizer, padded),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[clock],
    )  # fmt: skip
    made.remove_callback(PrinterCallback)
    return made, clock, tokenizer


def speed(folder: Path, rows: Rows, steps: int) -> Values:
    """Seconds of one step of Trainer with its defaults."""
    made, clock, _ = trainer(folder, rows, padded=True, max_steps=steps + UNTIMED)
    made.train()
    each = np.diff(clock.at[UNTIMED - 1 :])
    batch = made.args.per_device_train_batch_size
    return {
        "seconds_per_step": float(np.median(each)), "timed_steps": len(each), "batch": batch,
        "steps_per_epoch": -(-len(rows) // batch), "learning_rate": made.args.learning_rate,
        "default_epochs": float(TrainingArguments(output_dir=str(folder)).num_train_epochs),
    }  # fmt: skip


def peer(folder: Path, data: Data, rows: Rows, epochs: float) -> Values:
    """What Trainer's defaults reach in these epochs, computed without padding and in bf16."""
    made, _, tokenizer = trainer(folder, rows, padded=False, num_train_epochs=epochs, bf16=True)
    began = time.perf_counter()
    made.train()
    seconds = time.perf_counter() - began
    test = data[Split.TEST]
    said = made.predict(Reviews(test, tokenizer, padded=False)).predictions.argmax(axis=1)
    return {"epochs": epochs, "seconds_of_the_stand_in": round(seconds, 1), **judged(said, test)}


def paired(one: Values, other: Values) -> Values:
    """The difference of two accuracies on the same reviews, with its 95 % interval."""
    a, b = (np.array(each["right"], bool) for each in (one, other))
    return paired_interval(int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)).to_json()


def summary(found: Mapping[str, Values]) -> Values:
    """The ratios, of the parts that are there."""
    told: Values = {}
    first, second, fresh, pace, reached = (found.get(name) for name in PARTS)
    if first and second:
        told["second_share_of_first"] = round(second["seconds"] / first["seconds"], 3)
        told["second_within_35_percent"] = told["second_share_of_first"] <= 0.35
        told["second_minus_first"] = paired(second, first)
    if second and fresh:
        told["second_minus_fresh"] = paired(second, fresh)
        told["second_share_of_fresh"] = round(second["seconds"] / fresh["seconds"], 3)
    if first and pace and reached:
        seconds = pace["seconds_per_step"] * pace["steps_per_epoch"] * reached["epochs"]
        equal = reached["accuracy"]["value"] >= first["accuracy"]["value"]
        told["trainer_seconds_extrapolated"] = round(seconds)
        told["trainer_reached_the_accuracy"] = equal
        told["times_faster" if equal else "times_faster_at_least"] = round(seconds / first["seconds"], 2)
        told["first_minus_trainer"] = paired(first, reached)
    return told


def report(found: Mapping[str, Values], rows: int) -> None:
    """Print what there is, and write it."""
    lines = [line(name, values) for name, values in found.items()]
    told = summary(found)
    table(f"IMDB, {rows} reviews to learn from", lines)
    print(json.dumps(told, indent=1))
    slim = {name: {k: v for k, v in values.items() if k != "right"} for name, values in found.items()}
    save("retrain", {"rows": rows, "parts": slim, "summary": told})


def line(name: str, values: Values) -> Values:
    """A part as people see it."""
    seconds = values.get("seconds", values.get("seconds_per_step", ""))
    right = "{value:.4f} ({low:.4f} to {high:.4f})".format(**values["accuracy"]) if "accuracy" in values else ""
    return {"part": name, "seconds": seconds, "accuracy": right, "note": note(name, values)}


def note(name: str, values: Values) -> str:
    """What else matters of a part."""
    if name == "speed":
        return f"s a step of {values['batch']} rows; {values['steps_per_epoch']} steps an epoch"
    if name == "peer":
        return f"{values['epochs']:g} epochs"
    frozen = values["training"].get("frozen") or {}
    return f"{values['training']['passes']:g} passes, {frozen.get('kept', 0)} texts computed"


def say(name: str) -> Callable[[Mapping[str, float], int], None]:
    """Progress, a line a look."""

    def told(metrics: Mapping[str, float], step: int) -> None:
        if "eval_loss" in metrics:
            print(f"{name}: step {step}, {metrics.get('progress', 0):.0%}, loss {metrics['eval_loss']:.4f}", flush=True)

    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--tested", type=int, default=2_000)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields of the recipe to change, as JSON")
    parser.add_argument("--peer-steps", type=int, default=12)
    parser.add_argument("--peer-epochs", type=float, default=1.0)
    chosen = parser.parse_args()
    place = os.environ.get("KEEPFIT_DATA")
    if place is None:
        raise SystemExit("set KEEPFIT_DATA to the folder that holds imdb/")
    data = dict(read(Path(place)))
    data[Split.TEST] = data[Split.TEST].only(range(chosen.tested))
    recipe, folder = RECIPE.with_(**chosen.recipe), WORK / str(chosen.rows)
    learn = data[Split.TRAIN].only(range(chosen.rows))
    more, parent = round(MORE * chosen.rows), folder / "first" / "model"
    makers: dict[str, Callable[[], Values]] = {
        "first": lambda: learnt(folder, data, "first", chosen.rows, recipe),
        "second": lambda: learnt(folder, data, "second", more, recipe.with_(start="warm"), parent),
        "fresh": lambda: learnt(folder, data, "fresh", more, recipe),
        "speed": lambda: speed(folder, learn, chosen.peer_steps),
        "peer": lambda: peer(folder, data, learn, chosen.peer_epochs),
    }
    folder.mkdir(parents=True, exist_ok=True)
    parts = known(folder, chosen.part)
    found = {name: kept(folder / f"{name}.json", makers[name], name in chosen.part) for name in parts}
    report(found, chosen.rows)


def known(folder: Path, wanted: Sequence[str]) -> list[str]:
    """The parts to do, and those that were done before."""
    return [name for name in PARTS if name in wanted or (folder / f"{name}.json").is_file()]


def kept(file: Path, make: Callable[[], Values], wanted: bool) -> Values:
    """A part's result, made when it is wanted and not there yet."""
    if wanted and not file.is_file():
        file.write_text(json.dumps(make()), "utf-8")
    found: Values = json.loads(file.read_text("utf-8"))
    return found


if __name__ == "__main__":
    main()
