"""IMDB as published: the embedded backbone fine-tuned on 1,000, 5,000 and all reviews, beside TF-IDF.

    KEEPFIT_DATA=FOLDER python -m benchmarks.imdb [--part tfidf|1000|2000|5000|25000|report] [--fp32]

FOLDER holds imdb/IMDB_Dataset.csv.gz and imdb/IMDB_meta.csv.gz. Without --part, every part is done in turn. Each part
can be killed and started again; what was finished is kept in build/benchmarks/imdb. The part 2000 is the default
recipe, for its time. The result is written to benchmarks/results/imdb.json. Nothing is chosen by the test part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.imdb_data import read, snapshot
from keepfit.data.snapshot import Rows, Split
from keepfit.intervals import paired_interval, wilson
from keepfit.metrics import calibration_error, log_loss
from keepfit.tasks.task import predict
from keepfit.tasks.text import model as answering
from keepfit.tasks.text.fit import TextTask
from keepfit.training.recipe import Recipe

SIZES = (1_000, 5_000, 25_000)
"""Reviews to learn from (of all 25,000, a twentieth of the films is kept to validate)."""
DEFAULT = 2_000
"""The reviews that a user's first file may have: the recipe as it is set without a word, and the minutes it takes."""
TESTED = {1_000: 5_000, 2_000: 5_000, 5_000: 5_000, 25_000: 25_000}
"""Test reviews that each size is judged on, the first of a fixed shuffle; TF-IDF on the same ones."""
FP32_TESTED = 10_000
"""fp32 takes three times as long as int8; so many of the same reviews tell the two apart."""
TARGETS = (0.925, 0.932)
MINUTES = 60.0
PUBLISHED = "DistilBERT 0.923 to 0.931"
CHUNK = 1_000
WORK = Path("build/benchmarks/imdb")
RESULT = Path("benchmarks/results/imdb.json")

Values = dict[str, Any]
Part = Mapping[Split, Rows]


def recipe(size: int) -> Recipe:
    """By what two cores with bf16 learn in an hour: two thirds over 256 tokens, the rest over nearly whole texts."""
    if size == DEFAULT:
        return Recipe()
    passes = {1_000: 3.0, 5_000: 1.5, 25_000: 1.5}[size]
    return Recipe(epochs=passes, short_passes=passes / 1.5, short_tokens=256, max_tokens=512)


def transformer(size: int, parts: Part, precisions: Sequence[str]) -> Values:
    """Train (or go on), then answer the whole test part in each precision."""
    folder = WORK / str(size)
    model, found = folder / "work" / "model", fitted(folder, parts, size)
    for precision in precisions:
        most = FP32_TESTED if precision == "fp32" else TESTED[size]
        found[precision] = tested(model, precision, first(parts[Split.TEST], min(most, TESTED[size])), folder)
    return found


def fitted(folder: Path, parts: Part, size: int) -> Values:
    """What is said of the training; kept, so that scores of a finished one are never mixed with those of another."""
    kept = folder / "kept.json"
    if kept.is_file():
        found: Values = json.loads(kept.read_text("utf-8"))
        return found
    started, load = time.time(), os.getloadavg()
    model = TextTask().fit(snapshot(folder, parts, size), recipe(size), _say, folder / "work")
    settings = json.loads((model / "model.json").read_text("utf-8"))
    found = {name: settings[name] for name in ("recipe", "training", "acceptance", "temperature")}
    found |= {"fit_seconds": round(time.time() - started), "load_at_start": load}
    kept.write_text(json.dumps(found), "utf-8")
    return found


def tested(model: Path, precision: str, test: Rows, folder: Path) -> Values:
    """Accuracy and calibration on the test part; finished chunks are kept."""
    chunks = folder / f"scores-{precision}"
    chunks.mkdir(parents=True, exist_ok=True)
    missing = [start for start in range(0, len(test), CHUNK) if not (chunks / f"{start:05d}.npy").is_file()]
    loaded = answering.load(model, precision) if missing else None
    seconds, counted = 0.0, 0
    for start in range(0, len(test), CHUNK):
        path = chunks / f"{start:05d}.npy"
        if loaded is not None and not path.is_file():
            began = time.perf_counter()
            scores = predict(loaded, test.contents[start : start + CHUNK]).scores
            seconds, counted = seconds + time.perf_counter() - began, counted + len(scores)
            _store(path, scores)
            _line(f"{precision}: {start + len(scores):,} of {len(test):,} test reviews")
    scores = np.concatenate([np.load(chunks / f"{start:05d}.npy") for start in range(0, len(test), CHUNK)])
    return {
        **judged(scores, truth_of(test)),
        "reviews_per_second": round(counted / seconds, 1) if counted else _before(folder, precision),
    }


def judged(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> Values:
    """Accuracy with its Wilson interval, log loss and calibration error."""
    right = int(np.sum(scores.argmax(axis=1) == truth))
    return {
        "accuracy": wilson(right, len(truth)).to_json(),
        "log_loss": round(log_loss(truth, scores), 4),
        "calibration_error": round(calibration_error(truth, scores), 4),
    }


def tfidf(parts: Part) -> Values:
    """TF-IDF of words and pairs with logistic regression, C by the validation part, at each size."""
    found = {}
    for size in SIZES:
        train, validation = parts_of(parts, size)
        started = time.perf_counter()
        vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_features=300_000)
        learnt, held = vectors.fit_transform(train.contents), vectors.transform(validation.contents)
        models = [LogisticRegression(C=c, max_iter=1000).fit(learnt, truth_of(train)) for c in (3.0, 10.0, 30.0)]
        best = max(models, key=lambda m: float(m.score(held, truth_of(validation))))
        test = test_of(parts, size)
        scores = best.predict_proba(vectors.transform(test.contents)).astype(np.float32)
        seconds = round(time.perf_counter() - started, 1)
        found[str(size)] = judged(scores, truth_of(test)) | {"C": best.C, "seconds": seconds}
    return found


def parts_of(parts: Part, size: int) -> tuple[Rows, Rows]:
    """The same rows that the transformer of this size is given."""
    found = snapshot(WORK / str(size), parts, size)
    return found.rows(Split.TRAIN), found.rows(Split.VALIDATION)


def test_of(parts: Part, size: int) -> Rows:
    """The test reviews that this size is judged on."""
    return first(parts[Split.TEST], TESTED[size])


def first(rows: Rows, n: int) -> Rows:
    """The first n rows."""
    return Rows(
        rows.contents[:n],
        rows.truth[:n],
        rows.ids[:n],
        rows.groups[:n],
        rows.times[:n],
        rows.fresh[:n],
        rows.weights[:n],
    )


def truth_of(rows: Rows) -> NDArray[np.int64]:
    """0 for negative, 1 for positive."""
    return np.array([int(label == "positive") for label in rows.truth], np.int64)


def report(console: Console) -> None:
    """Join what is there into one result, and print it."""
    found: Values = {"benchmark": "imdb", "cores": os.cpu_count(), "targets": TARGETS, "published": PUBLISHED}
    for part in ("tfidf", str(DEFAULT), *map(str, SIZES)):
        if (WORK / f"{part}.json").is_file():
            found[part] = json.loads((WORK / f"{part}.json").read_text("utf-8"))
    if "int8" in found.get("25000", {}) and "fp32" in found["25000"]:
        found["int8_against_fp32"] = _paired(WORK / "25000")
    if "25000" in found:
        found["reached"] = _reached(found["25000"])
    if str(DEFAULT) in found:
        found["default_recipe_minutes"] = round(found[str(DEFAULT)]["fit_seconds"] / 60, 1)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    console.print(_table(found))


def _reached(full: Values) -> Values:
    accuracy = max(full[p]["accuracy"]["value"] for p in ("int8", "bf16", "fp32") if p in full)
    cpu = full["training"]["cpu_seconds"] / 60 / (os.cpu_count() or 1)
    return {
        **{f"accuracy >= {target}": accuracy >= target for target in TARGETS},
        "training_minutes_wall": round(full["training"]["seconds"] / 60, 1),
        "training_minutes_of_all_cores": round(cpu, 1),
        "minutes_from_the_data_to_the_model": round(full["fit_seconds"] / 60, 1),
        f"trained within {MINUTES:.0f} minutes": full["fit_seconds"] / 60 <= MINUTES,
    }


def _said(folder: Path, precision: str) -> NDArray[np.int64]:
    chunks = sorted((folder / f"scores-{precision}").glob("*.npy"))
    return np.asarray(np.concatenate([np.load(path) for path in chunks]).argmax(axis=1), np.int64)


def _paired(folder: Path) -> Values:
    truth = np.load(folder / "truth.npy")[:FP32_TESTED]
    int8, fp32 = (_said(folder, precision)[:FP32_TESTED] == truth for precision in ("int8", "fp32"))
    wins, losses = int(np.sum(int8 & ~fp32)), int(np.sum(fp32 & ~int8))
    return paired_interval(wins, losses, len(truth)).to_json() | {"same_label": float(np.mean(int8 == fp32))}


def _table(found: Values) -> Table:
    table = Table("reviews", "TF-IDF", "int8", "fp32", "training", title="IMDB test accuracy (95 % interval)")
    for size in SIZES:
        full, plain = found.get(str(size), {}), found.get("tfidf", {}).get(str(size))
        training = f"{full['training']['cpu_seconds'] / 60:.1f} processor minutes" if full else ""
        table.add_row(f"{size:,}", _accuracy(plain), _accuracy(full.get("int8")), _accuracy(full.get("fp32")), training)
    return table


def _accuracy(values: Values | None) -> str:
    if not values:
        return ""
    accuracy = values["accuracy"]
    return f"{accuracy['value']:.4f} ({accuracy['low']:.4f} to {accuracy['high']:.4f})"


def _before(folder: Path, precision: str) -> float | None:
    """The rate that an earlier run of this part measured."""
    path = WORK / f"{folder.name}.json"
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    rate = found.get(precision, {}).get("reviews_per_second")
    return None if rate is None else float(rate)


def _store(path: Path, scores: NDArray[np.float32]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, scores)
    partial.rename(path)


def _say(metrics: Mapping[str, float], step: int) -> None:
    shown = {name: round(value, 4) for name, value in metrics.items() if name in ("loss", "eval_loss", "eval_accuracy")}
    _line(f"step {step} ({metrics.get('progress', 0):.0%}) {shown}")


def _line(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["tfidf", *map(str, sorted(TESTED)), "report"])
    parser.add_argument(
        "--fp32", action="store_true", help="answer the test part in fp32, too (for all reviews it always is)"
    )
    asked = parser.parse_args()
    data = os.environ.get("KEEPFIT_DATA")
    if asked.part == "report":
        report(Console())
        return 0
    if not data:
        print("skipped: set KEEPFIT_DATA to the folder that holds imdb/IMDB_Dataset.csv.gz")
        return 0
    wanted = [asked.part] if asked.part else ["tfidf", *map(str, sorted(TESTED)), "report"]
    for part in wanted:
        if part == "report":
            report(Console())
            continue
        parts = read(Path(data))
        if part == "tfidf":
            values = tfidf(parts)
        else:
            folder = WORK / part
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / "truth.npy", truth_of(parts[Split.TEST]))
            precisions = ["int8", "fp32"] if part == "25000" or asked.fp32 else ["int8"]
            values = transformer(int(part), parts, precisions)
        (WORK / f"{part}.json").write_text(json.dumps(values, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
