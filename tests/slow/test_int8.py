"""int8 on the real backbone: as good as fp32, and a text's answer hangs neither on its neighbours nor on padding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from keepfit.engine.convert import export, quantise
from keepfit.engine.openvino import OpenVinoEngine, has_bf16
from keepfit.metrics import predicted
from keepfit.tasks.task import Output, predict
from keepfit.tasks.text import backbone
from keepfit.tasks.text.acceptance import compare
from keepfit.tasks.text.cuda import load_on
from keepfit.tasks.text.model import TextModel, load, read_folder, softmax
from keepfit.tasks.text.network import Classifier, save

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GOOD = ["great", "lovely", "excellent", "a delight", "worth every penny", "flawless", "better than I hoped"]
BAD = ["awful", "broken", "a waste of money", "disappointing", "useless", "poorly made", "worse than I feared"]
THINGS = ["kettle", "phone case", "novel", "blender", "pair of boots", "lamp", "backpack", "headset"]
FILLERS = [
    "I bought this {} last month",
    "my sister has the same {}",
    "the {} came in a plain box",
    "we use the {} daily",
]
TIED = 0.02


def reviews(n: int, seed: int, longest: int = 7) -> tuple[list[str], np.ndarray]:
    """Reviews of one to `longest` sentences, with (n,) truth: 0 bad, 1 good."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    texts = []
    for label in truth:
        parts = [str(rng.choice(FILLERS)).format(rng.choice(THINGS)) for _ in range(rng.integers(0, longest))]
        parts.insert(
            int(rng.integers(0, len(parts) + 1)), f"this {rng.choice(THINGS)} is {rng.choice([BAD, GOOD][label])}"
        )
        texts.append(". ".join(parts))
    return texts, truth


def fine_tune(network: Classifier, items: Sequence[Sequence[int]], truth: np.ndarray, rows: int = 16) -> None:
    """One quick pass; enough for margins like those of a real model."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4)
    network.train()
    for start in range(0, len(items), rows):
        part = items[start : start + rows]
        ids = torch.zeros((len(part), max(map(len, part))), dtype=torch.int64)
        for row, tokens in enumerate(part):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        logits = network(ids, (ids > 0).long())["logits"]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth[start : start + rows])).backward()
        optimiser.step()
    network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM, quickly fine-tuned on the reviews, exported and made int8."""
    path = tmp_path_factory.mktemp("model")
    base = backbone.load("minilm")
    (path / "tokenizer.json").write_text(base.tokenizer.to_str(), "utf-8")
    facts = {"format": 1, "task": "text", "labels": ["bad", "good"], "columns": ["text"], "temperature": 1.0,
             "abstain_below": None, "max_tokens": 128, "truncation": "head+tail", "cleaning": 1, "precision": "int8",
             "embedding_dim": base.width, "pad_id": base.pad_id, "backbone": "minilm"}  # fmt: skip
    (path / "model.json").write_text(json.dumps(facts), "utf-8")
    torch.manual_seed(7)
    network = Classifier(base.encoder, base.pooling, 2, base.width)
    texts, truth = reviews(480, seed=1, longest=3)
    items = read_folder(path)[1].encode(texts).ids
    fine_tune(network, items, truth)
    save(network, path / "weights")
    xml = export(network, path / "ir" / "model.xml", longest=128)
    quantise(xml, [one_row(ids) for ids in items[:60]], path / "ir" / "int8.xml")
    return path


def one_row(ids: Sequence[int]) -> dict[str, np.ndarray]:
    row = np.asarray([ids], np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row)}


@pytest.fixture(scope="module", params=["fp32", "int8", pytest.param("bf16", marks=pytest.mark.skipif(
    not has_bf16(), reason="this CPU has no bf16"))])  # fmt: skip
def model(request: pytest.FixtureRequest, folder: Path) -> TextModel:
    return load(folder, request.param)


def alike(ours: Output, theirs: Output) -> None:
    """The same label unless tied, and probabilities within 0.02."""
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=0.02)
    tied = np.abs(theirs.scores[:, 0] - theirs.scores[:, 1]) < TIED
    assert ((predicted(ours.scores) == predicted(theirs.scores)) | tied).all()


def test_a_text_is_answered_alike_alone_and_in_any_batch(model: TextModel) -> None:
    texts, _ = reviews(40, seed=2)
    together = predict(model, texts)
    alone = [predict(model, [text]) for text in texts]
    alike(Output(np.concatenate([a.scores for a in alone]), np.concatenate([a.embeddings for a in alone])), together)
    backwards = predict(model, texts[::-1])
    alike(Output(backwards.scores[::-1], backwards.embeddings[::-1]), together)


def test_padding_and_strangers_change_nothing(folder: Path, model: TextModel) -> None:
    items = read_folder(folder)[1].encode(reviews(12, seed=3)[0]).ids
    network = folder / "ir" / ("int8.xml" if model.precision == "int8" else "model.xml")
    engine = OpenVinoEngine.load(network, model.precision)
    for ids in items:
        padded = {name: np.zeros((9, 128), np.int64) for name in ("input_ids", "attention_mask")}
        for row, other in enumerate([ids, *items[:8]]):
            padded["input_ids"][row, : len(other)], padded["attention_mask"][row, : len(other)] = other, 1
        ours, theirs = (softmax(engine.infer(inputs)["logits"][:1]) for inputs in (padded, one_row(ids)))
        np.testing.assert_allclose(ours, theirs, atol=1e-4 if model.precision == "fp32" else 0.02)


def test_int8_is_as_accurate_as_fp32(folder: Path) -> None:
    texts, truth = reviews(300, seed=4, longest=4)
    others, _ = reviews(700, seed=6, longest=4)
    fp32, int8 = (
        (predict(model, texts).scores, predict(model, others).scores)
        for model in (load(folder, precision) for precision in ("fp32", "int8"))
    )
    verdict = compare("int8", int8, fp32, truth)
    assert np.mean(predicted(fp32[0]) == truth) > 0.9, "nothing was learnt; the comparison would be empty"
    assert verdict.kept, verdict.because


def test_the_converted_network_answers_as_torch_does(folder: Path) -> None:
    texts, _ = reviews(10, seed=5)
    ours, theirs = predict(load(folder, "fp32"), texts), predict(load_on("cpu", folder), texts)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-3)
