"""The learning half of the text task on tiny backbones that are built here, and on the embedded one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.task import predict
from keepfit.tasks.text import backbone as backbones
from keepfit.tasks.text.fit import MOST_CLASSES, TextTask
from keepfit.training.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries that convert
]

GOOD = ["lovely", "superb", "charming", "brilliant", "wunderbar", "magnifique"]
BAD = ["dreadful", "boring", "shoddy", "broken", "furchtbar", "affreux"]
FILLER = ["the", "film", "was", "a", "really", "story", "with", "actors", "and", "music", "der", "une"]


def text(label: int, rng: np.random.Generator, words: int = 12) -> str:
    said = list(rng.choice(FILLER, words))
    for place in rng.choice(words, 2, replace=False):
        said[place] = str(rng.choice(GOOD if label else BAD))
    return " ".join(said)


def snapshot_of(folder: Path, n: int = 160, columns: tuple[str, ...] = ("text",), classes: int = 2) -> Snapshot:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        label = i % 2
        content: Any = text(label, rng) if len(columns) == 1 else tuple(text(label, rng, 6) for _ in columns)
        split = Split.TRAIN if i < 0.7 * n else Split.VALIDATION if i < 0.85 * n else Split.TEST
        name = ("negative", "positive")[label] if classes == 2 else f"class {i % classes:03d}"
        rows.append(SnapshotRow(f"{i:05d}", content, name, str(i), split))
    return write_snapshot(folder, rows, columns, {"kind": "test"})


def corpus() -> list[str]:
    rng = np.random.default_rng(1)
    return [text(i % 2, rng) for i in range(300)]


def distilbert(folder: Path) -> None:
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        corpus(), WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = DistilBertConfig(
        vocab_size=tokenizer.get_vocab_size(), dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=64
    )
    DistilBertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


def multilingual(folder: Path) -> None:
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>"
    ).save_pretrained(folder)


def decoder(folder: Path) -> None:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    config = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_embd=32, n_layer=2, n_head=2, n_positions=64)
    GPT2Model(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)


BACKBONES = {"distilbert": distilbert, "multilingual": multilingual, "decoder": decoder}
SHORT = Recipe(epochs=12, batch_size=16, max_tokens=32, learning_rate=3e-3, precision="fp32", patience=9)


@dataclass
class Seen:
    """What was reported."""

    steps: int = 0
    best: float = 0.0

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self.steps = step
        self.best = max(self.best, metrics.get("eval_accuracy", 0.0))


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_backbone_from_a_folder_learns_and_answers(kind: str, tmp_path: Path) -> None:
    BACKBONES[kind](tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "data")
    seen = Seen()
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"))
    folder = TextTask().fit(snapshot, recipe, seen, tmp_path / "work")
    settings = json.loads((folder / "model.json").read_text("utf-8"))
    assert settings["pooling"] == ("last" if kind == "decoder" else "mean")
    assert seen.best > 0.9
    test = snapshot.rows(Split.TEST)
    model = TextTask().load(folder)
    scores = predict(model, test.contents).scores
    truth = np.array([model.labels.index(label) for label in test.truth])
    assert np.mean(scores.argmax(axis=1) == truth) > 0.85
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    alone = np.concatenate([predict(model, [content]).scores for content in test.contents])
    assert np.abs(alone - scores).max() < 0.02
    card = (folder / "card.md").read_text("utf-8")
    assert settings["precision"] in card
    assert "validation loss" in card


def test_two_columns_and_rare_classes_are_learnt(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "data", columns=("subject", "body"))
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32")
    folder = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "work")
    model = TextTask().load(folder)
    found = predict(model, [model.read({"subject": "a superb film", "body": "lovely music and brilliant actors"})])
    assert model.labels[int(found.scores[0].argmax())] == "positive"


def test_a_finished_model_is_not_made_again_and_other_arguments_make_another(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "data")
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32", epochs=2)
    folder = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "work")
    made = (folder / "model.json").stat().st_mtime_ns
    again = Seen()
    assert TextTask().fit(snapshot, recipe, again, tmp_path / "work") == folder
    assert ((folder / "model.json").stat().st_mtime_ns, again.steps) == (made, 0)
    TextTask().fit(snapshot, recipe.with_(seed=5), again, tmp_path / "work")
    assert again.steps > 0


class KillAt:
    """Kills its own process at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        if step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_while_training_it_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "data")
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32")
    whole = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "whole")
    process = multiprocessing.get_context("spawn").Process(
        target=TextTask().fit, args=(snapshot, recipe, KillAt(40), tmp_path / "work")
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    steps: list[int] = []
    folder = TextTask().fit(snapshot, recipe, lambda _, step: steps.append(step), tmp_path / "work")
    assert min(steps) >= 28
    texts = snapshot.rows(Split.TEST).contents
    expected, found = (predict(TextTask().load(f), texts).scores for f in (whole, folder))
    assert np.abs(expected - found).max() < 1e-4


@pytest.mark.parametrize("problem", ["one class", "no validation", "too many classes"])
def test_data_that_cannot_be_learnt_from_are_refused(problem: str, tmp_path: Path) -> None:
    rows = []
    for i in range(400):
        label = {"one class": "a", "no validation": f"{i % 2}", "too many classes": f"{i % (MOST_CLASSES + 1)}"}[
            problem
        ]
        split = Split.TRAIN if problem == "no validation" or i < 350 else Split.VALIDATION
        rows.append(SnapshotRow(f"{i:05d}", f"text {i}", label, str(i), split))
    snapshot = write_snapshot(tmp_path, rows, ("text",), {})
    with pytest.raises(InvalidInput, match=r"classes|validation"):
        TextTask().fit(snapshot, SHORT, Seen(), tmp_path / "work")


def test_a_backbone_that_is_not_there_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="set backbone to that folder"):
        backbones.load(str(tmp_path / "nowhere"))


def test_a_changed_embedded_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(BackendError, match="not the published model"):
        backbones.verify(tmp_path / "model.safetensors", backbones.MINILM_SHA256)


def test_the_embedded_backbone_learns_in_int8_what_it_learnt(tmp_path: Path) -> None:
    snapshot = snapshot_of(tmp_path / "data", n=120)
    recipe = Recipe(epochs=3, max_tokens=32, learning_rate=2e-4, inference="int8")
    folder = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "work")
    test = snapshot.rows(Split.TEST)
    int8, fp32 = (predict(TextTask().load(folder, precision), test.contents).scores for precision in ("int8", "fp32"))
    truth = np.array([snapshot.labels.index(label) for label in test.truth])
    assert np.mean(int8.argmax(axis=1) == truth) > 0.9
    assert np.abs(int8 - fp32).max() < 0.2


def hidden_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "hidden").rglob("*") if "-" in path.name]


@pytest.mark.parametrize("kind", BACKBONES)
def test_frozen_layers_learn_nothing_and_what_they_give_serves_the_next_training(kind: str, tmp_path: Path) -> None:
    BACKBONES[kind](tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "snapshots")
    recipe = SHORT.with_(
        backbone=str(tmp_path / "backbone"), inference="fp32", frozen_layers=1, short_passes=4, short_tokens=10
    )
    folder = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "work")
    told = json.loads((folder / "model.json").read_text("utf-8"))["training"]["frozen"]
    files = hidden_files(tmp_path)
    assert told["kept"] == len(files) > 112
    assert told["no_room"] == 0
    assert "the lowest 1 layers did not learn" in (folder / "card.md").read_text("utf-8")
    warm = recipe.with_(start="warm")
    again = TextTask().fit(snapshot, warm, Seen(), tmp_path / "again", parent=folder)
    told = json.loads((again / "model.json").read_text("utf-8"))["training"]["frozen"]
    assert told["kept"] == 0, "the same lower layers: everything was there"
    assert hidden_files(tmp_path) == files
    before, after = (load_file(made / "weights" / "model.safetensors") for made in (folder, again))
    learnt = {name for name in before if not np.array_equal(before[name], after[name])}
    assert learnt
    assert all(name.startswith("head.") or ".1." in name for name in learnt)


def test_with_and_without_room_for_what_frozen_layers_give_the_same_is_learnt(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "snapshots")
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32", frozen_layers=1, epochs=3)
    texts = snapshot.rows(Split.TEST).contents
    found = []
    for gigabytes in (1.0, 0.00005, 0.0):
        made = recipe.with_(frozen_cache_gb=gigabytes)
        folder = TextTask().fit(snapshot, made, Seen(), tmp_path / f"work {gigabytes}")
        found.append(predict(TextTask().load(folder), texts).scores)
        hidden = tmp_path / "hidden"
        if hidden.exists():
            hidden.rename(tmp_path / f"hidden {gigabytes}")
    assert len(list((tmp_path / "hidden 5e-05").rglob("*-*"))) in range(1, 100)
    assert not (tmp_path / "hidden 0.0").exists()
    assert max(np.abs(one - found[0]).max() for one in found[1:]) < 5e-3


def test_adapters_learn_and_the_finished_model_is_a_plain_one_to_go_on_from(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "snapshots")
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32", lora_rank=4, frozen_layers=1)
    folder = TextTask().fit(snapshot, recipe, Seen(), tmp_path / "work")
    seen = Seen()
    again = TextTask().fit(snapshot, recipe.with_(start="warm"), seen, tmp_path / "again", parent=folder)
    assert seen.best > 0.9
    whole = TextTask().fit(snapshot, recipe.with_(lora_rank=0, start="warm"), seen, tmp_path / "whole", parent=again)
    names = [set(load_file(made / "weights" / "model.safetensors")) for made in (folder, again, whole)]
    assert names[0] == names[1] == names[2]


def test_batches_by_tokens_learn_as_well(tmp_path: Path) -> None:
    distilbert(tmp_path / "backbone")
    snapshot = snapshot_of(tmp_path / "snapshots")
    seen = Seen()
    recipe = SHORT.with_(backbone=str(tmp_path / "backbone"), inference="fp32", tokens_per_batch=200)
    TextTask().fit(snapshot, recipe, seen, tmp_path / "work")
    assert seen.best > 0.9
