"""On what should a retraining learn: everything as ever, the newest alone, or a window that is chosen?

    KEEPFIT_DATA=... python -m benchmarks.decisions.windows [--seeds 1 2]

Real texts in the order of time with frozen MiniLM embeddings; a "training" is a logistic head on them. The first
quarter of a stream is the training file; from what follows a share of labels is drawn at random, of which 40 % go to
the gate and are never looked at. At four moments a head is trained on each choice and judged on the next 400 texts.
`auto` is the choice of `keepfit.pipelines.choosing` as it is, conflicts included, with the head of the moment before as
the champion. The injected streams turn the labels of a slice of the texts from the middle on. The recurring stream goes
A-B-A-B in blocks of 1,000 texts (B: a slice of the labels turned): its cost is mistakes beyond those of heads that know
A and B, and 100 for each training, with and without asking earlier versions first. Intervals over seeds are 95 % by t.
Writes benchmarks/results/decisions_windows.json; about three minutes a seed on one idle core.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decisions.frozen import Stream, streams
from benchmarks.results import save, table
from keepfit.data.growth import MOST_WEIGHT
from keepfit.data.snapshot import Snapshot, Split
from keepfit.data.splits import SnapshotRow
from keepfit.decision import Decision
from keepfit.evaluation.head import Frame, fit_head, probabilities
from keepfit.evaluation.mix import compared
from keepfit.evaluation.windows import ALL, Past, windows
from keepfit.pipelines.cheaper import VERSIONS, screened
from keepfit.pipelines.choosing import Choosing, OnWhat, risen
from keepfit.pipelines.train_part import TrainPart
from keepfit.tasks.task import Output

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS, NEXT = (0.45, 0.6, 0.75, 0.9), 400
RATE, HELD_OUT, RECENT_SHARE = 0.3, 0.4, 0.5
STEPS = 200
BLOCK, PRICE, CHECK, LOOK, ENOUGH, RECURRING_RATE = 1000, 100, 100, 300, 200, 1.0

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]


class Replayed(Choosing):
    """The choice as it is made for a snapshot; what it would write is returned as weights instead."""

    def written(self, folder, weights, name, words, evidence, denied=None):  # type: ignore[no-untyped-def]
        return weights, Decision("pass", words, {"window": name, **evidence})

    def kept(self, words, evidence):  # type: ignore[no-untyped-def]
        return self.part.past.weights, Decision("hold", words, {"window": ALL, **evidence})


class Answers:
    """A head on the frozen embeddings in the place of a version that is asked."""

    def __init__(self, stream: Stream, head: Head) -> None:
        self.stream, self.head, self.asked = stream, head, 0
        self.model = SimpleNamespace(labels=stream.classes)

    def __call__(self, contents: Sequence[str]) -> Output:
        places = [int(content) for content in contents]
        self.asked += len(places)
        return Output(self.head.scores(self.stream.embeddings[places]), self.stream.embeddings[places])


@dataclass(frozen=True, eq=False)
class Head:
    """A trained model."""

    frame: Frame
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, stream: Stream, places: Ints, weights: Doubles) -> Head:
        frame = Frame.of(stream.embeddings[places])
        x = frame.see(stream.embeddings[places])
        return cls(frame, fit_head(x, stream.truth[places], weights, len(stream.classes), steps=STEPS))

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return probabilities(self.frame.see(embeddings), self.weights)

    def right(self, stream: Stream, places: Ints) -> NDArray[np.bool_]:
        return self.scores(stream.embeddings[places]).argmax(axis=1) == stream.truth[places]


@dataclass(frozen=True, eq=False)
class Life:
    """What is known at a moment: the training file and the train part of the labels since, weighed as by `grow`."""

    places: Ints
    fresh: NDArray[np.bool_]

    @property
    def weights(self) -> Doubles:
        old, new = int((~self.fresh).sum()), int(self.fresh.sum())
        ratio = min(max(RECENT_SHARE / (1 - RECENT_SHARE) * old / max(new, 1), 1.0), MOST_WEIGHT)
        weights = np.where(self.fresh, ratio, 1.0)
        return np.asarray(weights / weights.mean())


def part_of(stream: Stream, life: Life) -> TrainPart:
    rows = tuple(
        SnapshotRow(
            f"{place:06d}", str(place), stream.classes[stream.truth[place]], f"g{place}", Split.TRAIN,
            EPOCH + timedelta(minutes=int(place)), bool(fresh), float(weight), source="asked" if fresh else "imported",
        )
        for place, fresh, weight in zip(life.places, life.fresh, life.weights, strict=True)
    )  # fmt: skip
    return TrainPart(rows, stream.classes, {})


def chosen(
    stream: Stream, life: Life, champion: Head, trained: int, now: int, told: str | None = None
) -> tuple[Doubles, Decision, float]:
    """The weights that `auto` gives, its decision, and its seconds; `told` is when an earlier one saw a change."""
    began, part = time.perf_counter(), part_of(stream, life)
    asked, policy = Answers(stream, champion), OnWhat("auto")
    harm = (EPOCH + timedelta(minutes=trained)).isoformat() if harmed(stream, life, champion, trained) else None
    rise = risen(part, asked, EPOCH + timedelta(minutes=trained), policy.level)  # type: ignore[arg-type]
    since = rise.since(harm, told)
    traffic = stream.embeddings[max(now - 1000, 0) : now]
    choosing = Replayed(Snapshot("", Path(), ()), part, asked, lambda: traffic, policy, since)  # type: ignore[arg-type]
    weights, decision = choosing.choose(Path())
    return weights, decision, time.perf_counter() - began


def harmed(stream: Stream, life: Life, champion: Head, trained: int) -> bool:
    """What an alarm would say: since it was trained it errs more than on what was held back before, by a z-test."""
    new = life.places[life.fresh & (life.places >= trained)]
    before = np.arange(max(trained - 400, 0), trained)
    before = before[~np.isin(before, life.places)]
    if len(new) < 30:
        return False
    was, now = (float((~champion.right(stream, places)).mean()) for places in (before, new))
    error = math.sqrt(was * (1 - was) / len(before) + now * (1 - now) / len(new)) + 1e-9
    return (now - was) / error > 2.33


def flipped(stream: Stream, name: str, share: float, seed: int, where: NDArray[np.bool_] | None = None) -> Stream:
    """From the middle on (or where it says), labels turn to the next class on a slice around a random text."""
    rng = np.random.default_rng(seed)
    unit = stream.embeddings / np.linalg.norm(stream.embeddings, axis=1, keepdims=True)
    likeness = unit @ unit[rng.integers(len(unit))]
    inside = likeness >= np.quantile(likeness, 1 - share)
    later = np.arange(len(unit)) >= len(unit) // 2 if where is None else where
    truth = np.where(inside & later, (stream.truth + 1) % len(stream.classes), stream.truth)
    return replace(stream, name=name, truth=truth)


def null(stream: Stream, seed: int) -> Stream:
    """The same texts in any order: nothing changes."""
    order = np.random.default_rng(seed).permutation(len(stream.truth))
    return Stream(f"{stream.name} permuted", stream.embeddings[order], stream.truth[order], stream.classes)


def replay(stream: Stream, seed: int, rate: float) -> Iterator[dict[str, Any]]:
    """Accuracy on the next stretch of each choice, at each moment."""
    n, rng = len(stream.truth), np.random.default_rng(seed)
    first = n // 4
    label = (rng.random(n) < rate) & (rng.random(n) >= HELD_OUT) & (np.arange(n) >= first)
    base = np.flatnonzero((np.arange(n) < first) & (rng.random(n) < 0.8))
    champion, trained, told = Head.of(stream, base, np.ones(len(base))), first, None
    for moment in MOMENTS:
        now = int(moment * n)
        new = np.flatnonzero(label & (np.arange(n) < now))
        life = Life(np.concatenate([base, new]), np.repeat([False, True], [len(base), len(new)]))
        ahead = np.arange(now, min(now + NEXT, n))
        weights, decision, seconds = chosen(stream, life, champion, trained, now, told)
        told = decision.evidence.get("since") or told
        past = Past(life.places.astype(float) * 60 + EPOCH.timestamp(), stream.truth[life.places], life.weights)
        tried = {"newest": np.where(life.fresh, 1.0, 0.0), "auto": weights, **windows(past, None)}
        models = {name: Head.of(stream, life.places, w) for name, w in tried.items()}
        scores = {name: float(model.right(stream, ahead).mean()) for name, model in models.items()}
        yield {
            "moment": moment, "labels": len(new), "window": decision.evidence["window"], "seconds": seconds,
            "conflicts": sum(c["rows"] for c in decision.evidence.get("conflicts", ())), **scores,
        }  # fmt: skip
        champion, trained = models["auto"], now


def recurring(stream: Stream, seed: int, share: float = 0.7) -> dict[str, Any]:
    """A-B-A-B: cost in mistakes and trainings, with and without earlier versions. Looks after every CHECK texts."""
    n = len(stream.truth)
    turned = flipped(stream, "recurring", share, seed, (np.arange(n) // BLOCK) % 2 == 1)
    return {"without": cost_of(turned, seed, False), "with": cost_of(turned, seed, True)}


def cost_of(stream: Stream, seed: int, ask_earlier: bool) -> dict[str, float]:
    """One run: an alarm where the newest labels say that the error rose, then a training or an earlier version.

    A fifth of what is known is held out of each training and says how much the version errs when all is well. Mistakes
    are counted beyond those of two heads that know A and B from the first block of each.
    """
    rng, n = np.random.default_rng(seed), len(stream.truth)
    label, held, at = rng.random(n) < RECURRING_RATE, rng.random(n) < 0.2, np.arange(n)
    versions = [Head.of(stream, first := np.flatnonzero((at < BLOCK) & ~held), np.ones(len(first)))]
    normal = [wrong(stream, versions[0], np.flatnonzero((at < BLOCK) & held))]
    known_well = [Head.of(stream, at[i * BLOCK :][:BLOCK], np.ones(BLOCK)) for i in (0, 1)]
    live, since, excess, trainings, switches, told = 0, BLOCK, 0, 0, 0, None
    for start in range(BLOCK, n, CHECK):
        places = at[start : start + CHECK]
        usual = known_well[start // BLOCK % 2]
        excess += int(usual.right(stream, places).sum()) - int(versions[live].right(stream, places).sum())
        window = np.flatnonzero(label & (at >= max(since, places[-1] + 1 - LOOK)) & (at <= places[-1]))
        was, now = normal[0], wrong(stream, versions[live], window)
        if len(window) < ENOUGH or now <= was + 0.05 + 2.33 * math.sqrt(was * (1 - was) / len(window)):
            continue
        best = earlier_of(stream, versions, normal, live, window) if ask_earlier else None
        if best is not None:
            live, switches = best, switches + 1
        else:
            known = np.flatnonzero((at < BLOCK) | (label & (at <= places[-1])))
            known, apart = known[~held[known]], known[held[known] & (known >= window[0])]
            life, before = Life(known, known >= BLOCK), (EPOCH + timedelta(minutes=int(window[0]))).isoformat()
            weights, decision, _ = chosen(stream, life, versions[live], since, int(places[-1]), told or before)
            told = decision.evidence.get("since") or told
            versions.append(Head.of(stream, known, weights))
            normal.append(wrong(stream, versions[-1], apart))
            live, trainings = len(versions) - 1, trainings + 1
        since = int(places[-1]) + 1
    return {"excess": excess, "trainings": trainings, "switches": switches, "cost": excess + PRICE * trainings}


def wrong(stream: Stream, head: Head, places: Ints) -> float:
    """The share of wrong answers; 0 without any."""
    return float((~head.right(stream, places)).mean()) if len(places) else 0.0


def earlier_of(stream: Stream, versions: list[Head], normal: list[float], live: int, window: Ints) -> int | None:
    """The earlier version that passes the screen of `keepfit.pipelines.cheaper`; None: train."""
    said = [version.scores(stream.embeddings[window]).argmax(axis=1) for version in versions]
    truth, others = stream.truth[window], [i for i in range(len(versions)) if i != live][-VERSIONS:]
    found = {i: compared(said[live], said[i], truth, 1 - normal[i]) for i in others}
    if not found:
        return None
    best = max(found, key=lambda one: found[one].after.value)
    return best if screened(found[best], "", 0.05 / len(found)) is None else None


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval by t."""
    array = np.array(values, float)
    t = {2: 12.7, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}.get(len(array), 2.0)
    half = t * array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else float("nan")
    return {"mean": float(array.mean()), "low": float(array.mean() - half), "high": float(array.mean() + half)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", type=float, default=RATE, help="Share of the texts whose label is asked for.")
    parser.add_argument("--name", default="decisions_windows", help="Of the result; other rates go beside it.")
    parser.add_argument("--only", default="", help="Streams whose name has this in it; recurring is always there.")
    given = parser.parse_args()
    real, rows, cells = streams(), [], {}
    for seed in given.seeds:
        tried = [*real.values(), null(real["semeval"], seed)]
        tried += [flipped(null(real["imdb-amazon"], seed), "reviews, slice flipped", 0.4, seed)]
        tried += [flipped(real["reuters"], "reuters, slice flipped", 0.3, seed)]
        for stream in (one for one in tried if given.only in one.name):
            for found in replay(stream, seed, given.rate):
                rows.append({"stream": stream.name, "seed": seed, **found})
                print(rows[-1], flush=True)
    for name in dict.fromkeys(row["stream"] for row in rows):
        mine = [row for row in rows if row["stream"] == name]
        by_seed = [[row for row in mine if row["seed"] == seed] for seed in given.seeds]
        policies = ("all", "newest", "auto", "half", "quarter", "eighth", "recency", "replay")
        cells[name] = {
            "accuracy": {p: float(np.mean([row[p] for row in mine if p in row])) for p in policies},
            "auto_minus_all": interval([float(np.mean([r["auto"] - r["all"] for r in rs])) for rs in by_seed]),
            "auto_minus_newest": interval([float(np.mean([r["auto"] - r["newest"] for r in rs])) for rs in by_seed]),
            "best_fixed_at_each_moment": float(np.mean([max(row[p] for p in policies if p in row) for row in mine])),
            "windows": {w: sum(row["window"] == w for row in mine) for w in sorted({row["window"] for row in mine})},
            "rows_in_conflict": float(np.mean([row["conflicts"] for row in mine])),
            "seconds": float(np.median([row["seconds"] for row in mine])),
        }
    runs = {name: [recurring(null(real[name], seed), seed) for seed in given.seeds] for name in ("imdb-amazon",)}
    again = {
        name: {
            "cost_with_over_without": interval([run["with"]["cost"] / run["without"]["cost"] for run in found]),
            "trainings_with_over_without": interval(
                [run["with"]["trainings"] / max(run["without"]["trainings"], 1) for run in found]
            ),
            "runs": found,
        }
        for name, found in runs.items()
    }  # fmt: skip
    for name, cell in cells.items():
        difference = cell["auto_minus_all"]
        shown = {"auto-all": difference["mean"], "low": difference["low"], "high": difference["high"]}
        table(name, [{**cell["accuracy"], **shown, "s": cell["seconds"], "chosen": cell["windows"]}])
    for name, found in again.items():
        table(f"recurring {name}", [{k: v["mean"] for k, v in found.items() if k != "runs"}])
    about = {"rate": given.rate, "seeds": given.seeds, "price_of_a_training": PRICE, "next": NEXT}
    save(given.name, {"about": about, "streams": cells, "recurring": again})


if __name__ == "__main__":
    main()
