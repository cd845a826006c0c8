"""What compression costs and brings on real texts, and whether int8 keeps its accuracy with AVX2 only.

    KEEPFIT_DATA=FOLDER python -m benchmarks.compress [--set sst2|trec|subjectivity] [--part fit|curve|layers|int8|avx2]

FOLDER holds sst2_sentences/, trec_questions/ and subjectivity/. Without --part every part is done in turn; what was
finished is kept in build/benchmarks/compress/SET, and a killed part goes on. The model is the embedded MiniLM at the
default recipe with 64 tokens. `curve` is `keepfit compress` as it is, `layers` keeps three of six, `int8` makes it anew
in three ways. `avx2` answers the test part in fresh processes, some of them with ONEDNN_MAX_CPU_ISA=AVX2: that limits
the library that multiplies the matrices, where int8 without VNNI may overflow; operations of OpenVINO's own keep what
the processor has. The result goes to benchmarks/results/compress.json. Nothing is chosen by the test part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import FOLDER, save, table
from keepfit.data.columns import Columns
from keepfit.data.snapshot import Snapshot, Split, import_file
from keepfit.intervals import paired_interval, wilson
from keepfit.tasks.task import predict
from keepfit.tasks.text import model as answering
from keepfit.tasks.text.compression.compress import Compressor
from keepfit.tasks.text.fit import TextTask
from keepfit.training.recipe import Recipe

SETS = {
    "sst2": "sst2_sentences/sst2_sentences_a.csv.gz",
    "trec": "trec_questions/trec_questions_a.csv.gz",
    "subjectivity": "subjectivity/subjectivity_a.csv.gz",
}
WAYS = {"curve": Compressor(), "layers": Compressor(loss=0.01, layers=3), "int8": Compressor(int8=True)}
SHARES = (0.15, 0.25)
"""Of validation and test."""
WORK = Path("build/benchmarks/compress")
LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}

Values = dict[str, Any]


def data(folder: Path, name: str) -> Snapshot:
    """The set as a snapshot."""
    return import_file(WORK / name / "data", folder / SETS[name], Columns(("text",), "label"), SHARES)[0]


def fitted(name: str, snapshot: Snapshot) -> Path:
    """A version of the default recipe in int8; made once."""
    recipe = Recipe(max_tokens=64, inference="int8")
    return TextTask().fit(snapshot, recipe, lambda metrics, step: say(name, metrics, step), WORK / name / "fit")


def compressed(name: str, snapshot: Snapshot, way: str) -> Values:
    """The trade-off, and the accuracy of what came of it on the test part, beside the version's own."""
    version, workdir = fitted(name, snapshot), WORK / name / way
    workdir.mkdir(parents=True, exist_ok=True)
    found = WAYS[way](version, snapshot, [], lambda what, done, of: None, workdir)
    forms: Values = {"fp32": tested(version, snapshot, "fp32"), "int8": tested(version, snapshot, "int8")}
    if found.folder is not None:
        forms["compressed"] = tested(found.folder, snapshot, None)
    truth = truth_of(snapshot)
    return {
        "forms": [
            {"form": one.name, "MB": one.size / 1e6, "held": one.held / 1e6, **one.milliseconds, "taken": one.taken}
            for one in found.points
        ],
        "because": list(found.because),
        "test": {form: wilson(int(np.sum(said == truth)), len(truth)).to_json() for form, said in forms.items()},
        "against fp32 on the test part": {form: paired(said, forms["fp32"], truth) for form, said in forms.items()},
    }  # fmt: skip


def tested(folder: Path, snapshot: Snapshot, precision: str | None) -> NDArray[np.int64]:
    """Answers on the test part, shape (n,)."""
    model = answering.load(folder, precision)
    return np.asarray(predict(model, snapshot.rows(Split.TEST).contents).scores.argmax(axis=1), np.int64)


def truth_of(snapshot: Snapshot) -> NDArray[np.int64]:
    """Class numbers of the test part."""
    return np.array([snapshot.labels.index(label) for label in snapshot.rows(Split.TEST).truth], np.int64)


def paired(said: NDArray[np.int64], was: NDArray[np.int64], truth: NDArray[np.int64]) -> Values:
    """The difference in accuracy with its interval, and the share of equal answers."""
    wins, losses = int(np.sum((said == truth) & (was != truth))), int(np.sum((said != truth) & (was == truth)))
    return paired_interval(wins, losses, len(truth)).to_json() | {"same label": float(np.mean(said == was))}


def limited(name: str, snapshot: Snapshot) -> Values:
    """int8 with all that the processor has, and with AVX2 only, each in a fresh process and beside fp32."""
    version, truth = fitted(name, snapshot), truth_of(snapshot)
    said = {
        "fp32": child(name, version, "fp32", {}),
        "int8": child(name, version, "int8", {}),
        "int8, AVX2 only": child(name, version, "int8", LIMIT),
        "fp32, AVX2 only": child(name, version, "fp32", LIMIT),
    }
    answers = {form: np.array(found["said"], np.int64) for form, found in said.items()}
    return {
        form: {
            "isa": said[form]["isa"], "seconds": said[form]["seconds"],
            "accuracy": wilson(int(np.sum(found == truth)), len(truth)).to_json(),
            "against fp32": paired(found, answers["fp32"], truth),
        }
        for form, found in answers.items()
    }  # fmt: skip


def child(name: str, version: Path, precision: str, limits: Mapping[str, str]) -> Values:
    """This program's other half in a fresh process."""
    environment = {**os.environ, **limits, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-m", "benchmarks.compress", "--set", name, "--child", str(version), precision]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    lines = done.stdout.splitlines()
    found: Values = json.loads(lines[-1])
    told = [line.split("isa:")[1] for line in lines if "isa:" in line]
    return found | {"isa": told[0] if told else "not told"}


def answer(name: str, snapshot: Snapshot, version: Path, precision: str) -> None:
    """In a child: the answers on the test part."""
    model = answering.load(version, precision)
    started = time.perf_counter()
    said = predict(model, snapshot.rows(Split.TEST).contents).scores.argmax(axis=1)
    print(json.dumps({"said": said.tolist(), "seconds": round(time.perf_counter() - started, 2)}))


def say(name: str, metrics: Mapping[str, float], step: int) -> None:
    """A line a look."""
    if "eval_loss" in metrics:
        print(time.strftime("%H:%M:%S"), name, f"step {step}", {k: round(v, 4) for k, v in metrics.items()}, flush=True)


PARTS: dict[str, Callable[[str, Snapshot], Any]] = {
    "fit": lambda name, snapshot: str(fitted(name, snapshot)),
    **{way: lambda name, snapshot, way=way: compressed(name, snapshot, way) for way in WAYS},  # type: ignore[misc]
    "avx2": limited,
}


def main() -> None:
    """Do the parts, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, default="sst2")
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = os.environ.get("KEEPFIT_DATA")
    if folder is None or not (Path(folder) / SETS[asked.set]).is_file():
        print(f"skipped: KEEPFIT_DATA names no folder with {SETS[asked.set]}")
        return
    snapshot = data(Path(folder), asked.set)
    if asked.child is not None:
        answer(asked.set, snapshot, Path(asked.child[0]), asked.child[1])
        return
    kept = FOLDER / "compress.json"
    before: Values = json.loads(kept.read_text("utf-8")).get("sets", {}) if kept.is_file() else {}
    found = before.get(asked.set, {})
    for part in [asked.part] if asked.part else PARTS:
        done = PARTS[part](asked.set, snapshot)
        if part == "fit":
            continue
        found[part] = done
        if "forms" in done:
            table(f"{asked.set}: {part}", done["forms"])
            print(
                json.dumps(
                    {name: done[name] for name in ("test", "against fp32 on the test part", "because")}, indent=1
                )
            )
        else:
            print(json.dumps(done, indent=1))
        save("compress", {"benchmark": "compress", "sets": {**before, asked.set: found}})


if __name__ == "__main__":
    main()
