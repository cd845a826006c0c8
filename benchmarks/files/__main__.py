"""Texts a second in scoring a file of film reviews: keepfit against a Hugging Face pipeline and infinity's engine.

    KEEPFIT_DATA=FOLDER python -m benchmarks.files [--rows 4000] [--timed 1000] [--few 200] [--first]

The models, texts and environments are those of benchmarks.live. keepfit is `keepfit batch` on a CSV, a process with its
start, reading and writing; with --first another one whose first stage answers what it is sure of (its model has learnt
more rows, in which its threshold is proven). The peers get the texts in memory, sorted by length, and are timed without
their start; each at several batch sizes on FEW texts, then at its best. All cut at 256 tokens. The ceiling is the
engine's best rate for texts of these lengths. Writes benchmarks/results/files.json; exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ceiling import Ceiling
from benchmarks.live import models, texts
from benchmarks.live.__main__ import FIRST
from benchmarks.live.environments import CACHE, clean, environment, versions
from benchmarks.results import save, table
from keepfit.intervals import wilson
from keepfit.tasks.loading import load_answering

KIND = "reviews"
HERE = Path(__file__).parent / "peers"
PEERS = {"hugging face": ("flask", "hugging_face.py"), "infinity": ("infinity", "infinity_engine.py")}
SIZES = "1,4,8,16,32"
TARGETS = {"keepfit against hugging face": 6.0, f"{FIRST} against hugging face": 25.0, "share of the ceiling": 0.70}
Row = dict[str, Any]


def ours(project: Path, rows: list[texts.Row], folder: Path, name: str) -> Row:
    """`keepfit batch`, from the start of the process to its end."""
    source, target = folder / "in.csv", folder / f"{name}.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text",), *((text,) for text, _ in rows)])
    command = [sys.executable, "-m", "keepfit.app.cli", "batch", str(source), str(target), "--project", str(project)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    with target.open(newline="", encoding="utf-8") as file:
        said = list(csv.DictReader(file))
    right = sum(one["label"] == label for one, (_, label) in zip(said, rows, strict=True))
    row = {"who": name, "rows": len(rows), "per_s": round(len(rows) / seconds, 1), **accuracy(right, len(rows))}
    first = sum(one.get("stage") == "first" for one in said) / len(said)
    return row | {"rates": {}, "by the first stage": round(first, 3), "how": "keepfit batch, a CSV, with its start"}


def theirs(name: str, rows: list[texts.Row], asked: argparse.Namespace, folder: Path) -> Row:
    """A peer, in its own environment."""
    place, script = PEERS[name]
    python = environment(place, asked.cache)
    source = folder / "texts.json"
    source.write_text(json.dumps([text for text, _ in rows]), "utf-8")
    model = (models.place() / "hugging_face").resolve()
    env = {
        **clean(), "MODEL": str(model), "MAX_TOKENS": str(models.MAX_TOKENS), "HF_HUB_OFFLINE": "1",
        "TORCH_THREADS": str(len(os.sched_getaffinity(0))), "TOKENIZERS_PARALLELISM": "true",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    command = [str(python), str(HERE / script), str(source), str(asked.few), SIZES]
    done = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    truth = dict(rows)
    right = sum(truth[text] == label for text, label in said["answers"].items())
    packages = {"hugging face": ("torch", "transformers"), "infinity": ("torch", "transformers", "infinity_emb")}[name]
    used = ", ".join(f"{package} {number}" for package, number in versions(python, packages).items())
    n = len(said["answers"])
    return {
        "who": name, "rows": n, "rates": said["rates"],
        "per_s": round(said["per_s"], 1), **accuracy(right, n), "by the first stage": 0.0,
        "how": f"fp32, batches of {said['best']} (the best of {SIZES}), without its start; {used}",
    }  # fmt: skip


def accuracy(right: int, n: int) -> Row:
    """With its interval."""
    found = wilson(right, n)
    return {"accuracy": round(found.value, 4), "low": round(found.low, 4), "high": round(found.high, 4)}


def measure(asked: argparse.Namespace) -> Row:
    """Everybody in turn."""
    known = texts.read()
    rows = known.asked[KIND][: asked.rows]
    models.project(known)
    models.hugging_face(known)
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found.append(ours(models.project(known), rows, folder, "keepfit"))
        print(found[-1], flush=True)
        if asked.first:
            found.append(ours(models.project(known, first=True), rows, folder, FIRST))
            print(found[-1], flush=True)
        for name in asked.peers:
            found.append(theirs(name, rows[: asked.timed], asked, folder))
            print(found[-1], flush=True)
    model = models.model_folder()
    lengths = load_answering(model).prepare([text for text, _ in rows[:2000]]).costs
    ceiling = Ceiling(model, 4).of(lengths)
    return {"texts": known.source, "ceiling_per_s": round(ceiling, 1), "scored": found}


def judge(result: Row) -> dict[str, Row]:
    """The targets, with what was reached."""
    rate = {row["who"]: row["per_s"] for row in result["scored"]}
    reached = {"share of the ceiling": rate["keepfit"] / result["ceiling_per_s"]}
    for who in ("keepfit", FIRST):
        for peer in PEERS:
            if who in rate and peer in rate:
                reached[f"{who} against {peer}"] = rate[who] / rate[peer]
    return {
        name: {"reach": TARGETS.get(name), "found": round(value, 3), "reached": value >= TARGETS.get(name, 0.0)}
        for name, value in reached.items()
    }


def main() -> None:
    """Measure, print, write; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--timed", type=int, default=1_000, help="rows that a peer scores at its best batch size")
    parser.add_argument("--few", type=int, default=200, help="rows for each batch size of a peer")
    parser.add_argument("--first", action="store_true", help="keepfit with a first stage, too")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the peers' environments")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    result = measure(asked)
    result["asked"] = {name: str(value) for name, value in vars(asked).items() if name != "cache"}
    result["targets"] = judge(result)
    table("scored", [{name: one for name, one in row.items() if name != "rates"} for row in result["scored"]])
    table("targets", [{"what": name, **row} for name, row in result["targets"].items()])
    if not asked.dry:
        save("files", result)
    sys.exit(not all(row["reached"] for row in result["targets"].values()))


if __name__ == "__main__":
    main()
