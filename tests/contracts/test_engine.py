"""What every engine keeps to, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from keepfit.engine.convert import export, quantise
from keepfit.engine.engine import Engine
from keepfit.engine.fake import FakeEngine
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.engine.torch import TorchEngine
from keepfit.errors import BackendError

CLASSES, DIMENSIONS, WORDS = 3, 16, 50
Inputs = dict[str, NDArray[np.int64]]


class TinyNetwork(torch.nn.Module):
    """Embedding, one hidden layer, masked mean, head: the shape of a text network without its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, DIMENSIONS)
        self.hidden = torch.nn.Linear(DIMENSIONS, DIMENSIONS)
        self.head = torch.nn.Linear(DIMENSIONS, CLASSES)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        mask = attention_mask.unsqueeze(-1).float()
        embedding = (torch.tanh(self.hidden(self.words(input_ids))) * mask).sum(1) / mask.sum(1).clamp(min=1)
        return {"logits": self.head(embedding), "embedding": embedding}


def network() -> TinyNetwork:
    torch.manual_seed(3)
    return TinyNetwork()


@pytest.fixture(scope="module")
def xml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("ir") / "model.xml")


@pytest.fixture(scope="module")
def int8(xml: Path) -> Path:
    return quantise(xml, [batch(1, tokens) for tokens in range(3, 23)], xml.with_name("int8.xml"))


Make = Callable[[pytest.FixtureRequest], Engine]
ENGINES: dict[str, Make] = {
    "fake": lambda _: FakeEngine(CLASSES, DIMENSIONS),
    "torch": lambda _: TorchEngine(network()),
    "openvino fp32": lambda request: OpenVinoEngine.load(request.getfixturevalue("xml"), "fp32", threads=1),
    "openvino bf16": lambda request: OpenVinoEngine.load(request.getfixturevalue("xml"), "bf16", threads=1),
    "openvino int8": lambda request: OpenVinoEngine.load(request.getfixturevalue("int8"), "int8", threads=1),
    "openvino with two lanes": lambda r: OpenVinoEngine.load(r.getfixturevalue("int8"), "int8", 2, lanes=2),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param](request)


def batch(rows: int, tokens: int, seed: int = 0) -> Inputs:
    rng = np.random.default_rng([rows, tokens, seed])
    lengths = rng.integers(1, tokens + 1, rows)
    mask = (np.arange(tokens) < lengths[:, None]).astype(np.int64)
    return {"input_ids": rng.integers(1, WORDS, (rows, tokens)) * mask, "attention_mask": mask}


def same(ours: dict[str, Any], theirs: dict[str, Any], within: float = 0.02) -> None:
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(ours[name], theirs[name], atol=within, rtol=0)


def test_the_outputs_are_named_float32_arrays_with_a_row_for_each_row(engine: Engine) -> None:
    outputs = engine.infer(batch(5, 9))
    assert {name: (v.shape, v.dtype) for name, v in outputs.items()} == {
        "logits": ((5, CLASSES), np.float32),
        "embedding": ((5, DIMENSIONS), np.float32),
    }


@pytest.mark.parametrize("tokens", [0, 7])
def test_no_rows_in_give_no_rows_out(engine: Engine, tokens: int) -> None:
    outputs = engine.infer({name: np.zeros((0, tokens), np.int64) for name in ("input_ids", "attention_mask")})
    assert outputs["logits"].shape == (0, CLASSES)
    assert outputs["embedding"].shape == (0, DIMENSIONS)


def test_a_row_is_answered_alike_alone_in_a_batch_and_under_padding(engine: Engine) -> None:
    inputs = batch(6, 12)
    together = engine.infer(inputs)
    wider = engine.infer({name: np.pad(values, ((0, 0), (0, 9))) for name, values in inputs.items()})
    same(wider, together)
    for row in range(6):
        alone = engine.infer({name: values[row : row + 1] for name, values in inputs.items()})
        same(alone, {name: values[row : row + 1] for name, values in together.items()})


def test_the_same_inputs_get_the_same_answer_again(engine: Engine) -> None:
    same(engine.infer(batch(4, 8)), engine.infer(batch(4, 8)), within=0)


def test_answers_stay_as_they_are_when_the_engine_is_used_again(engine: Engine) -> None:
    first = engine.infer(batch(4, 8))
    kept = {name: values.copy() for name, values in first.items()}
    engine.infer(batch(4, 8, seed=1))
    same(first, kept, within=0)
    first["logits"][:] = 0  # the caller owns them


def test_the_inputs_are_not_changed(engine: Engine) -> None:
    inputs = batch(3, 5)
    for values in inputs.values():
        values.flags.writeable = False
    before = {name: values.copy() for name, values in inputs.items()}
    engine.infer(inputs)
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, before[name])


def test_inputs_that_do_not_lie_in_one_piece_are_understood(engine: Engine) -> None:
    inputs = batch(8, 6)
    same(
        engine.infer({n: v[::2] for n, v in inputs.items()}),
        engine.infer({n: v[::2].copy() for n, v in inputs.items()}),
    )


def test_several_threads_at_once_get_their_own_answers(engine: Engine) -> None:
    work = [batch(1 + i % 4, 3 + i % 5, seed=i) for i in range(24)]
    expected = [engine.infer(inputs) for inputs in work]
    with ThreadPoolExecutor(4) as threads:
        for ours, theirs in zip(threads.map(engine.infer, work), expected, strict=True):
            same(ours, theirs, within=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"input_ids": np.ones((1, 2), np.int64)},
        {"input_ids": np.ones((1, 2), np.int64), "attention_mask": np.ones((2, 2), np.int64)},
        {**batch(1, 2), "pixels": np.ones((1, 2), np.int64)},
    ],
    ids=["none", "one is missing", "rows differ", "one too many"],
)
def test_wrong_inputs_are_refused_with_a_sentence(engine: Engine, inputs: Inputs) -> None:
    with pytest.raises(BackendError, match="inputs"):
        engine.infer(inputs)


def test_it_says_how_and_where_it_computes(engine: Engine) -> None:
    assert engine.precision in {"fp32", "bf16", "int8"}
    assert engine.device
