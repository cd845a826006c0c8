"""The ceiling: how fast this machine multiplies matrices, and the engine's best rate on texts of one length.

    python -m benchmarks.ceiling [--model FOLDER] [--seconds 60]

Matrices: a chain of products 1024 x 1024 x 1024 in OpenVINO, at fp32, bf16 and int8, beside torch and numpy; billions
of operations a second (a multiplication and an addition are two), the best of what was seen. The engine: the network
of a model folder (the one of `benchmarks.live`, trained where it is not there yet) with every row of the same length,
for calls of 1 to 64 rows, by one call after the other on all cores and by one stream a core; the best of these is the
ceiling for that length, and what it computes is set beside the machine's own rate. Other benchmarks import `Ceiling`
and print their figures as a share of it. Writes benchmarks/results/ceiling.json.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from benchmarks.results import save, table
from keepfit.engine.engine import Precision, known_precision
from keepfit.engine.openvino import HINTS, OpenVinoEngine, usable_cpus
from keepfit.tasks.text.model import NETWORKS

SIDE, CHAIN = 1024, 8
TOKENS = (16, 32, 64, 128, 256)
GRID = (8, 16, 24, 32, 64, 128, 256)
ROWS = (1, 2, 4, 8, 16, 32, 64)
LEAST_TOKENS, MOST_TOKENS = 128, 2048
"""Padded tokens of a call; smaller and larger ones were slower everywhere. One row is measured besides."""


def best_of(call: Callable[[], object], seconds: float) -> float:
    """The shortest time of a call that was seen within `seconds`, after two that do not count."""
    call(), call()
    best, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return float(best)


# the machine


def chain(precision: Precision) -> ov.CompiledModel:
    """CHAIN products of a matrix with constants; for int8 in the form that NNCF gives to a network."""
    rng = np.random.default_rng(0)
    given = ops.parameter([SIDE, SIDE], np.float32, name="x")
    value = given.output(0)
    for _ in range(CHAIN):
        weights = (rng.normal(size=(SIDE, SIDE)) / SIDE**0.5).astype(np.float32)
        right = ops.constant(weights).output(0)
        if precision == "int8":
            value, right = faked(value, 256, 4.0), faked(right, 255, float(np.abs(weights).max()))
        value = ops.matmul(value, right, False, False).output(0)
    network = ov.Model([value], [given], "chain")
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision], "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": usable_cpus(),
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    return ov.Core().compile_model(network, "CPU", options)


def faked(value: ov.Output, levels: int, most: float) -> ov.Output:
    """As int8 with these levels between -most and most."""
    low, high = (ops.constant(np.array(edge, np.float32)) for edge in (-most, most))
    return ops.fake_quantize(value, low, high, low, high, levels).output(0)


def gops(seconds: float, products: int = CHAIN) -> float:
    """Billions of operations a second."""
    return round(products * 2 * SIDE**3 / seconds / 1e9, 1)


def matrices(seconds: float) -> dict[str, float]:
    """The machine's rates, by program and arithmetic."""
    import torch

    given = np.random.default_rng(1).normal(size=(SIDE, SIDE)).astype(np.float32)
    found = {}
    for precision in ("fp32", "bf16", "int8"):
        request = chain(known_precision(precision)).create_infer_request()
        found[f"openvino {precision}"] = gops(best_of(lambda r=request: r.infer([given], share_inputs=True), seconds))
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.from_numpy(given).to(kind)
        with torch.inference_mode():
            found[f"torch {name}"] = gops(best_of(lambda s=square: s @ s, seconds), 1)
    found["numpy fp32"] = gops(best_of(lambda: given @ given, seconds), 1)
    return found


# the engine


def batch(rows: int, tokens: int) -> dict[str, Any]:
    """Texts that are all as long."""
    ids = np.random.default_rng(0).integers(1000, 2000, (rows, tokens)).astype(np.int64)
    return {"input_ids": ids, "attention_mask": np.ones((rows, tokens), np.int64)}


def side_by_side(engine: OpenVinoEngine, inputs: dict[str, Any], streams: int, seconds: float) -> float:
    """Calls a second, from so many threads at once."""
    done, end = [0] * streams, time.perf_counter() + seconds

    def ask(number: int) -> None:
        while time.perf_counter() < end:
            engine.infer(inputs)
            done[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(streams)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - started)


@dataclass
class Ceiling:
    """The engine's best rates for one model folder; each length is measured once, when it is asked for."""

    folder: Path
    seconds: float = 2.0
    """For each length."""
    known: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        facts = json.loads((self.folder / "model.json").read_text("utf-8"))
        self.precision, self.longest = known_precision(facts["precision"]), int(facts["max_tokens"])
        network = self.folder / "ir" / NETWORKS[self.precision]
        self._one = OpenVinoEngine.load(network, self.precision)
        self._streams = usable_cpus()
        self._each = OpenVinoEngine.load(network, self.precision, lanes=self._streams)

    def at(self, tokens: int) -> dict[str, Any]:
        """The best rate of texts with so many tokens, and how it is reached."""
        if tokens not in self.known:
            self.known[tokens] = self._measure(tokens)
        return self.known[tokens]

    def of(self, lengths: Sequence[int]) -> float:
        """Texts a second, were each text of this traffic in a full call of texts as long as itself.

        Seconds a text are measured on a grid of lengths and read off between its points.
        """
        grid = sorted({min(tokens, self.longest) for tokens in GRID})
        seconds = [1 / self.at(tokens)["per_s"] for tokens in grid]
        return float(1 / np.mean(np.interp(lengths, grid, seconds)))

    def alone_ms(self, tokens: int, seconds: float = 1.0) -> float:
        """The median time of a bare call with one text of this length."""
        inputs, took, end = batch(1, tokens), [], time.perf_counter() + seconds
        self._one.infer(inputs)
        while time.perf_counter() < end:
            started = time.perf_counter()
            self._one.infer(inputs)
            took.append(time.perf_counter() - started)
        return 1000 * float(np.median(took))

    def _measure(self, tokens: int) -> dict[str, Any]:
        sizes = [rows for rows in ROWS if rows == 1 or LEAST_TOKENS <= rows * tokens <= MOST_TOKENS]
        each = self.seconds / (2 * len(sizes))
        found = []
        for rows in sizes:
            inputs = batch(rows, tokens)
            found.append((rows / best_of(lambda i=inputs: self._one.infer(i), each), rows, 1))
            side_by_side(self._each, inputs, self._streams, each / 4)
            rate = max(side_by_side(self._each, inputs, self._streams, each / 4) for _ in range(3))
            found.append((rows * rate, rows, self._streams))
        rate, rows, streams = max(found)
        return {
            "tokens": tokens, "per_s": round(rate, 1), "rows": rows, "streams": streams,
            "tokens_per_s": round(rate * tokens), "one_row_per_s": round(max(f[0] for f in found if f[1] == 1), 1),
            "one_stream_per_s": round(max(f[0] for f in found if f[2] == 1), 1),
        }  # fmt: skip


def operations(folder: Path, tokens: int) -> float:
    """Billions of operations that the network does for one text: its matrix products."""
    encoder = json.loads((folder / "weights" / "config.json").read_text("utf-8"))["encoder"]
    layers, wide = encoder.get("num_hidden_layers", 12), encoder.get("hidden_size", 768)
    inner = encoder.get("intermediate_size", 3072)
    return layers * tokens * (2 * (4 * wide * wide + 2 * wide * inner) + 4 * tokens * wide) / 1e9


def engine(folder: Path, seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """The precision, and a row for each length."""
    ceiling = Ceiling(folder, seconds / len(TOKENS))
    rows = []
    for tokens in (t for t in TOKENS if t <= ceiling.longest):
        found = ceiling.at(tokens)
        rows.append({**found, "gops": round(found["per_s"] * operations(folder, tokens), 1)})
    return ceiling.precision, rows


def main() -> None:
    """Measure, print, write."""
    from benchmarks.live.models import model_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; else the one of benchmarks.live")
    parser.add_argument("--seconds", type=float, default=60, help="altogether, about")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    folder = asked.model or model_folder()
    rates = matrices(asked.seconds / 24)
    precision, rows = engine(folder, asked.seconds * 3 / 4)
    for row in rows:
        row["share_of_machine"] = round(row["gops"] / rates[f"openvino {precision}"], 3)
    table("matrix products, 1e9 operations a second", [rates])
    table(f"the engine's best, {precision}, all texts as long", rows)
    if not asked.dry:
        save("ceiling", {"gops": rates, "precision": precision, "engine": rows})


if __name__ == "__main__":
    main()
