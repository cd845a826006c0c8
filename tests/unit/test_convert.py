"""Backbones of each kind become OpenVINO networks that answer as torch does, for any number of rows and tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, GPT2Config, RobertaConfig

from keepfit.engine.convert import export, quantise
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.engine.torch import TorchEngine
from keepfit.errors import BackendError
from keepfit.tasks.text.network import Classifier

SMALL = {"vocab_size": 90}
CONFIGS = {
    "bert": lambda: BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **SMALL
    ),
    "distilbert": lambda: DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **SMALL),
    "roberta": lambda: RobertaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, pad_token_id=1, **SMALL
    ),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, **SMALL),
}


def classifier(kind: str, pooling: str = "mean") -> Classifier:
    torch.manual_seed(5)
    encoder = AutoModel.from_config(CONFIGS[kind]())
    return Classifier(encoder, pooling, 3, 32)  # type: ignore[arg-type]


@pytest.fixture(params=["bert mean", "bert cls", "distilbert mean", "roberta cls", "gpt2 last"])
def module(request: pytest.FixtureRequest) -> Classifier:
    return classifier(*request.param.split())


def inputs(rows: int, tokens: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([rows, tokens])
    mask = (np.arange(tokens) < rng.integers(1, tokens + 1, (rows, 1))).astype(np.int64)
    return {"input_ids": rng.integers(5, 90, (rows, tokens)) * mask, "attention_mask": mask}


def test_a_converted_backbone_answers_as_torch_does(module: Classifier, tmp_path: Path) -> None:
    engine = OpenVinoEngine.load(export(module, tmp_path / "ir" / "model.xml", longest=40), "fp32", threads=1)
    reference = TorchEngine(module)
    for rows, tokens in ((1, 1), (1, 33), (4, 12), (9, 3)):
        ours, theirs = engine.infer(inputs(rows, tokens)), reference.infer(inputs(rows, tokens))
        for name in ("logits", "embedding"):
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5)


def test_an_int8_network_stays_near_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = classifier("bert")
    xml = export(module, tmp_path / "model.xml")
    int8 = quantise(xml, [inputs(1, tokens) for tokens in range(2, 32)], tmp_path / "int8.xml")
    fast, exact = OpenVinoEngine.load(int8, "int8", threads=1), OpenVinoEngine.load(xml, "fp32", threads=1)
    np.testing.assert_allclose(fast.infer(inputs(8, 20))["logits"], exact.infer(inputs(8, 20))["logits"], atol=0.05)
    assert int8.with_suffix(".bin").stat().st_size < xml.with_suffix(".bin").stat().st_size
    assert capfd.readouterr() == ("", "")


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = classifier("gpt2", "last").train()
    export(module, tmp_path / "model.xml")
    assert module.training
    assert module.encoder.config.use_cache


def test_nothing_to_calibrate_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no texts to calibrate"):
        quantise(tmp_path / "model.xml", [], tmp_path / "int8.xml")


class Frozen(torch.nn.Module):
    """Its answer hangs on a Python number that tracing fixes: the conversion goes through and is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(9, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = self.words(input_ids).sum(1) * float(input_ids.shape[0] * 10 + len(input_ids[0]))
        return {"logits": embedding[:, :2], "embedding": embedding}


class Broken(Frozen):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        raise ValueError("no")


@pytest.mark.parametrize(("make", "sentence"), [(Frozen, "differs from torch"), (Broken, "cannot be converted")])
def test_a_module_that_does_not_survive_conversion_is_refused(
    make: Callable[[], torch.nn.Module], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match=sentence):
        export(make(), tmp_path / "model.xml")
