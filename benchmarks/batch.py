"""How fast are files scored, how does memory grow with them, and how far is that from the engine's own best?

    python -m benchmarks.batch [--rows 10000 100000]

The model is the embedded MiniLM, fine-tuned in one pass over a few hundred generated reviews (64 tokens, int8), so
that its answers come from the same arithmetic as a real one's. Each file is scored by `keepfit batch` in a fresh
process. The ceiling is measured in the same run: every row at its own length, in calls of the engine's best size,
without reading, tokenizing or writing anything. Writes benchmarks/results/batch.json; exits 1 when memory grows.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import save, table
from keepfit.app.cli import cli
from keepfit.app.demo.words import NEGATIVE, OUTCOME, POSITIVE
from keepfit.engine.engine import known_precision
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.registry.registry import model_folder
from keepfit.tasks.loading import load_answering
from keepfit.tasks.text.cuts import ROWS, TOKENS_PER_CALL, width
from keepfit.tasks.text.model import NETWORKS

MODEL = "reviews"
MAX_TOKENS = 64
SETTINGS = f"""\
tracking = "local"

[models.{MODEL}.recipe]
max_tokens = {MAX_TOKENS}
epochs = 1
inference = "int8"

[models.{MODEL}.gate]
floors = {{ accuracy = 0.0 }}
"""
GROWTH = 1.2
"""Ten times the rows may take this much of the memory."""
LIMIT_S = 420.0
MB = 2**20


def reviews(n: int, seed: int) -> Iterator[tuple[str, str]]:
    """n texts of 3 to 80 words (half have 14 or fewer), with their label."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(14), 0.6, n), 3, 80).astype(int)
    for number, length in enumerate(lengths):
        label = ("negative", "positive")[number % 2]
        said = (POSITIVE if label == "positive" else NEGATIVE, OUTCOME[label])
        parts: list[str] = []
        while len(parts) < length:
            parts += str(rng.choice(said[int(rng.random() < 0.3)])).split()
        yield " ".join(parts[:length]), label


def write_reviews(file: Path, n: int, seed: int, columns: tuple[str, ...] = ("text",)) -> Path:
    """A CSV with these columns; `label` is the second that there can be."""
    with file.open("w", newline="", encoding="utf-8") as target:
        rows = csv.writer(target)
        rows.writerow(columns)
        rows.writerows(review[: len(columns)] for review in reviews(n, seed))
    return file


def child(part: str, *arguments: object) -> dict[str, Any]:
    """A part of this program in a fresh process, and what it found."""
    command = [sys.executable, "-m", "benchmarks.batch", "--part", part, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise SystemExit(f"{part} ended with code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def keepfit(*words: object) -> dict[str, Any]:
    """A command in this process, and what it prints for programs."""
    said = io.StringIO()
    with redirect_stdout(said):
        cli([*map(str, words), "--json"], standalone_mode=False)
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer


def peak_mb() -> float:
    """The most memory that this process ever held.

    Linux hands `ru_maxrss` on from the process that started this one, so its own high-water mark is asked for first.
    """
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
    return round(kib * 1024 / MB, 1)


def train(folder: str, rows: str) -> dict[str, Any]:
    """In a child: a project with one version."""
    data = write_reviews(Path(folder) / "train.csv", int(rows), seed=1, columns=("text", "label"))
    result = keepfit("train", data, "--project", folder)
    return {"accuracy": result["accuracy"], "fit_seconds": result["fit_seconds"]}


def score(folder: str, source: str) -> dict[str, Any]:
    """In a child: one file, from the start of the command to the finished output."""
    target = Path(source).with_suffix(".out.csv")
    started = time.perf_counter()
    report = keepfit("batch", source, target, "--project", folder)
    seconds = time.perf_counter() - started
    return {
        "rows": report["rows"], "errors": report["errors"], "seconds": round(seconds, 2),
        "rows_per_second": round(report["rows"] / seconds, 1), "peak_mb": peak_mb(),
        "output_mb": round(target.stat().st_size / MB, 1),
    }  # fmt: skip


def ceiling(folder: str, rows: str, seconds: str) -> dict[str, Any]:
    """In a child: rows per second that the engine alone could do, were each row in a full call of its own width."""
    place = model_folder(Path(folder) / ".keepfit" / "models", MODEL, 1)
    model = load_answering(place)
    costs = model.prepare([text for text, _ in reviews(int(rows), seed=2)]).costs
    widths = Counter(width(cost, MAX_TOKENS) for cost in costs)
    precision = known_precision(json.loads((place / "model.json").read_text("utf-8"))["precision"])
    engine = OpenVinoEngine.load(place / "ir" / NETWORKS[precision], precision)
    took = {tokens: best_time(engine, tokens, float(seconds) / len(widths)) for tokens in widths}
    ideal = sum(count * took[tokens] for tokens, count in widths.items())
    return {
        "precision": precision, "rows_per_second": round(len(costs) / ideal, 1),
        "tokens_per_row": round(float(np.mean(costs)), 1),
    }  # fmt: skip


def best_time(engine: OpenVinoEngine, tokens: int, seconds: float) -> float:
    """Seconds per row, in the best call of this width that was seen within the time."""
    rows = max(n for n in ROWS if n * tokens <= TOKENS_PER_CALL)
    rng = np.random.default_rng(0)
    inputs = {
        "input_ids": rng.integers(1000, 2000, (rows, tokens)).astype(np.int64),
        "attention_mask": np.ones((rows, tokens), np.int64),
    }
    engine.infer(inputs)
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        engine.infer(inputs)
        best = min(best, time.perf_counter() - started)
    return float(best) / rows


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"train": train, "score": score, "ceiling": ceiling}


def measure(sizes: list[int], train_rows: int, ceiling_seconds: float) -> dict[str, Any]:
    """Train, score each size, measure the ceiling before and after; the better one counts."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
        training = child("train", folder, train_rows)
        bests = [child("ceiling", folder, 2000, ceiling_seconds / 2)]
        runs = []
        for size in sizes:
            file = write_reviews(folder / f"{size}.csv", size, seed=2)
            runs.append({**child("score", folder, file), "input_mb": round(file.stat().st_size / MB, 1)})
            file.with_suffix(".out.csv").unlink()
        bests.append(child("ceiling", folder, 2000, ceiling_seconds / 2))
    best = max(bests, key=lambda found: float(found["rows_per_second"]))
    for run in runs:
        run["share_of_ceiling"] = round(run["rows_per_second"] / best["rows_per_second"], 3)
    return {
        "model": f"MiniLM fine-tuned in one pass over {train_rows} generated reviews, {MAX_TOKENS} tokens",
        "training": training, "ceiling": best, "runs": runs,
        "memory_ratio": round(runs[-1]["peak_mb"] / runs[0]["peak_mb"], 3),
        "rows_ratio": round(sizes[-1] / sizes[0], 1),
    }  # fmt: skip


def main() -> None:
    """Measure, print, write; exit 1 when rows were lost or bad, or memory grew with the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--train-rows", type=int, default=400)
    parser.add_argument("--ceiling-seconds", type=float, default=20)
    parser.add_argument("--no-save", action="store_true", help="Only print.")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        name, *rest = arguments.part
        print(json.dumps(PARTS[name](*rest)))
        return
    sizes = sorted(arguments.rows)
    result = measure(sizes, arguments.train_rows, arguments.ceiling_seconds)
    table("keepfit batch", result["runs"])
    beside = result["training"] | result["ceiling"] | {"memory_ratio": result["memory_ratio"]}
    table("the model, and the most that the engine could do", [beside])
    if not arguments.no_save:
        save("batch", result)
    whole = [run["rows"] for run in result["runs"]] == sizes and not any(run["errors"] for run in result["runs"])
    sys.exit(not whole or result["memory_ratio"] > GROWTH)


if __name__ == "__main__":
    main()
