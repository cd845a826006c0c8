"""What does a retraining win, or lose, that goes on from the champion's weights instead of beginning anew?

    python -m benchmarks.warm [--seeds 1 2 3]

A first version learns 1,500 generated reviews; then their language changes. The retraining has those rows and 1,090
labels from life, 800 of them of the new world, as in `keepfit demo`, and begins anew (2.5 passes) or warm (1.5).
Both are judged on 1,000 later reviews of the new world and 1,000 of the old one, which nothing was chosen on here; the
passes and the rate are those of the demo, whose settings were chosen on other reviews of the same generator. The seed
changes the labels that came from life. Writes benchmarks/results/warm.json. About two minutes a seed on two idle cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import save, table
from keepfit.app.demo.stream import Review, ReviewStream
from keepfit.app.demo.worlds import generated, write_csv
from keepfit.data.records import Example, Label, LabelledExample, Source
from keepfit.data.snapshot import Snapshot, grow, import_file
from keepfit.intervals import wilson
from keepfit.tasks.task import predict
from keepfit.tasks.text.fit import TextTask
from keepfit.training.recipe import Recipe

RECIPE = Recipe(max_tokens=96, epochs=2.5, batch_size=16, learning_rate=3e-4)
ROWS, BEFORE, AFTER, LATER = 1_500, 290, 800, 1_000
HOLDOUT, RECENT_SHARE = 0.3, 0.7
LIFE, JUDGED = 50_000, 60_000
"""Seeds of the reviews that labels come for, and of those that are judged on."""


def silent(metrics: object, step: int) -> None:
    """Report to nobody."""


def from_life(seed: int) -> Iterator[LabelledExample]:
    """Labels as they come in: first of the old world, then of the new one."""
    stream, at = ReviewStream(LIFE + seed), datetime(2026, 1, 1, tzinfo=UTC)
    for number, review in enumerate([*stream.before(BEFORE), *stream.after(AFTER)]):
        example = Example(review.text, at + timedelta(seconds=number), key=review.key)
        yield LabelledExample(example, Label(example.id, review.label, example.time, Source.ASKED))


def right(folder: Path, reviews: Sequence[Review]) -> dict[str, Any]:
    """The accuracy of a model, with its interval."""
    model = TextTask().load(folder)
    said = predict(model, [review.text for review in reviews]).scores.argmax(axis=1)
    hits = sum(model.labels[i] == review.label for i, review in zip(said, reviews, strict=True))
    return wilson(int(hits), len(reviews)).to_json()


def trained(snapshot: Snapshot, recipe: Recipe, workdir: Path, parent: Path | None = None) -> tuple[Path, float]:
    """The model's folder, and the seconds from the data to the model that answers."""
    began = time.perf_counter()
    folder = TextTask().fit(snapshot, recipe, silent, workdir, parent)
    return folder, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    seeds = parser.parse_args().seeds
    later = ReviewStream(JUDGED)
    worlds = {"new": list(later.after(LATER)), "old": list(later.before(LATER))}
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_csv(root / "reviews.csv", generated(7, ROWS).train)
        base, _ = import_file(root / "snapshots", root / "reviews.csv")
        first, seconds = trained(base, RECIPE, root / "first")
        champion = {"seconds": seconds, **{name: right(first, reviews) for name, reviews in worlds.items()}}
        for seed in seeds:
            grown = grow(root / "snapshots", base, list(from_life(seed)), HOLDOUT, RECENT_SHARE)
            for start, parent in (("new", None), ("warm", first)):
                recipe = RECIPE.with_(start=start)
                folder, seconds = trained(grown, recipe, root / f"{start}-{seed}", parent)
                judged = {name: right(folder, reviews) for name, reviews in worlds.items()}
                runs.append({"seed": seed, "start": start, "seconds": seconds, **judged})
                table(f"seed {seed}, {start}", [{"seconds": seconds, **{n: i["value"] for n, i in judged.items()}}])
    save("warm", {"champion": champion, "runs": runs, "summary": summary(runs)})


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and what warm has more than new, seed by seed."""
    by = {start: [run for run in runs if run["start"] == start] for start in ("new", "warm")}
    found: dict[str, Any] = {}
    for start, mine in by.items():
        found[start] = {
            "new_world": float(np.mean([run["new"]["value"] for run in mine])),
            "old_world": float(np.mean([run["old"]["value"] for run in mine])),
            "seconds": float(np.mean([run["seconds"] for run in mine])),
        }
    pairs = list(zip(by["warm"], by["new"], strict=True))
    found["warm_minus_new"] = {
        "new_world": [round(warm["new"]["value"] - new["new"]["value"], 4) for warm, new in pairs],
        "old_world": [round(warm["old"]["value"] - new["old"]["value"], 4) for warm, new in pairs],
        "share_of_the_seconds": [round(warm["seconds"] / new["seconds"], 3) for warm, new in pairs],
    }
    return found


if __name__ == "__main__":
    main()
