"""What do frozen layers save, the first time and once their outputs are on the disk? Processor seconds of a training.

    KEEPFIT_DATA=FOLDER python -m benchmarks.frozen [--rows 256] [--layers 3]

FOLDER holds imdb/IMDB_Dataset.csv.gz and imdb/IMDB_meta.csv.gz. Two passes over the first reviews, batches of 32, up to
256 tokens, with looks at some validation reviews: all layers learn; the lowest are frozen, with nothing on the disk;
the same again, with everything there. Processor seconds of the training, so that other work on the machine matters
little. Writes benchmarks/results/frozen.json. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.imdb_data import read
from benchmarks.results import save, table
from keepfit.data.snapshot import Rows, Split
from keepfit.tasks.text.learning import Beside, learn
from keepfit.training.recipe import Recipe

LOOKED_AT = 60
"""Validation reviews."""


def quiet(metrics: Mapping[str, float], step: int) -> None:
    """Nobody watches."""


def spent(parts: tuple[Rows, Rows], recipe: Recipe, folder: Path, hidden: Path) -> float:
    """Processor seconds of one training."""
    learned = learn(parts, ["negative", "positive"], recipe, quiet, folder, Beside(hidden=hidden))
    return learned.outcome.cpu_seconds


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3, help="that are frozen, of six")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # threads that wait for each other would count what others do on the machine
    data = read(Path(os.environ["KEEPFIT_DATA"]))
    parts = data[Split.TRAIN].only(range(asked.rows)), data[Split.VALIDATION].only(range(LOOKED_AT))
    whole = Recipe(epochs=2.0, max_tokens=256, patience=99)
    frozen = whole.with_(frozen_layers=asked.layers)
    with tempfile.TemporaryDirectory() as place:
        folder, hidden = Path(place), Path(place) / "hidden"
        seconds = {
            "all layers learn": spent(parts, whole, folder / "whole", hidden),
            f"{asked.layers} frozen, nothing on the disk": spent(parts, frozen, folder / "first", hidden),
            f"{asked.layers} frozen, all on the disk": spent(parts, frozen, folder / "second", hidden),
        }
        held = sum(file.stat().st_size for file in hidden.rglob("*") if file.is_file())
    most = seconds["all layers learn"]
    rows: list[dict[str, Any]] = [
        {"training": name, "cpu_seconds": round(used, 1), "share": round(used / most, 3)}
        for name, used in seconds.items()
    ]
    table("frozen layers", rows)
    save("frozen", {"rows": asked.rows, "layers": asked.layers, "trainings": rows, "mb_on_disk": round(held / 1e6, 1)})


if __name__ == "__main__":
    main()
