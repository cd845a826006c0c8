"""A tiny text model is compressed in every way; its folder stays one that every other part can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.engine.tables import is_small
from keepfit.errors import InvalidInput
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import predict
from keepfit.tasks.text.compression.compress import Compressed, Compressor
from keepfit.tasks.text.cuda import load_on
from keepfit.tasks.text.fit import TextTask
from keepfit.training.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries that convert
]

GOOD = ("lovely", "superb", "charming", "brilliant")
BAD = ("dreadful", "boring", "shoddy", "broken")
FILLER = ("the", "film", "was", "a", "story", "with", "actors", "and", "music")
UNUSED = tuple(f"unused{i}" for i in range(60))
LETTERS = tuple("bcdefghijklmnopqrstuvwxyz")  # "a" is a word of its own
WORDS = (
    *UNUSED, *GOOD, *BAD, *FILLER, *LETTERS,
    *(f"##{one}" for one in ("a", *LETTERS)), "lovelysuperb",
)  # fmt: skip


def silent(*_: Any) -> None:
    """Report to nobody."""


def text(label: int, rng: np.random.Generator) -> str:
    said = [str(word) for word in rng.choice(FILLER, int(rng.integers(3, 20)))]
    return " ".join([str(rng.choice(GOOD if label else BAD)), *said])


def rows() -> list[SnapshotRow]:
    rng = np.random.default_rng(0)
    return [
        SnapshotRow(
            f"{i:05d}", text(i % 2, rng), ("negative", "positive")[i % 2], str(i),
            Split.TRAIN if i < 700 else Split.VALIDATION if i < 850 else Split.TEST,
        )
        for i in range(1000)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return write_snapshot(tmp_path_factory.mktemp("data"), rows(), ("text",), {"kind": "test"})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., str]) -> Recipe:
    return Recipe(
        backbone=tiny_bert(tmp_path_factory.mktemp("backbone"), WORDS, layers=4), epochs=4, batch_size=16,
        max_tokens=32, learning_rate=3e-3, precision="fp32", inference="fp32",
    )  # fmt: skip


@pytest.fixture(scope="module")
def version(snapshot: Snapshot, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TextTask().fit(snapshot, recipe, silent, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def compressed(version: Path, snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """With all that is done without a training: words, int8 (the version answers in fp32), the table.

    What may be lost is wide: whether int8 of so small a network keeps 0.3 points is chance, and is not tested here.
    """
    before = {path: path.stat().st_mtime_ns for path in version.rglob("*")}
    workdir = tmp_path_factory.mktemp("made")
    found = Compressor(loss=0.05, timed_s=0.0)(version, snapshot, ["music story"] * 9, silent, workdir)
    assert {path: path.stat().st_mtime_ns for path in version.rglob("*")} == before, "the version stays as it was"
    return found


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
    return found


def test_every_form_is_on_the_curve_and_in_the_card(compressed: Compressed) -> None:
    assert compressed.folder is not None
    names = [point.name for point in compressed.points]
    assert names[:2] == ["fp32", "as it is (fp32)"]
    assert any("words" in name for name in names)
    assert any("int8" in name for name in names)
    card = (compressed.folder / "card.md").read_text("utf-8")
    assert "## Compressed" in card
    assert all(name in card for name in names)
    assert len(facts(compressed.folder)["compression"]["forms"]) == len(names)
    assert compressed.points[-1].held < compressed.points[1].held


def test_texts_of_the_corpus_are_answered_as_before_in_fp32(
    version: Path, compressed: Compressed, snapshot: Snapshot
) -> None:
    assert compressed.folder is not None
    texts = snapshot.rows(Split.TRAIN).contents[:200]
    was, now = (TextTask().load(folder, "fp32") for folder in (version, compressed.folder))
    expected, found = predict(was, texts), predict(now, texts)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-5)
    assert was.prepare(texts).measures == now.prepare(texts).measures


def test_a_text_that_nobody_has_sent_before_is_still_answered(compressed: Compressed) -> None:
    assert compressed.folder is not None
    model = load_answering(compressed.folder, threads=1)
    odd = ["unused3 lovely", "zebra ☃ quixotic", "lovelysuperb story", "ж"]
    assert np.allclose(predict(model, odd).scores.sum(axis=1), 1, atol=1e-5)
    tokens = model.prepare(["unused3"]).costs
    assert tokens[0] <= 32


def test_words_that_nobody_said_are_gone_from_tokenizer_network_and_weights(compressed: Compressed) -> None:
    assert compressed.folder is not None
    tokenizer = Tokenizer.from_file(str(compressed.folder / "tokenizer.json"))
    assert tokenizer.token_to_id("unused3") is None
    assert tokenizer.token_to_id("music") is not None
    config = json.loads((compressed.folder / "weights" / "config.json").read_text("utf-8"))
    assert config["encoder"]["vocab_size"] == tokenizer.get_vocab_size() < 4 + len(WORDS)
    assert is_small(compressed.folder / "ir" / "int8.xml")


def test_torch_and_a_warm_start_go_on_from_a_compressed_version(
    compressed: Compressed, snapshot: Snapshot, recipe: Recipe, tmp_path: Path
) -> None:
    assert compressed.folder is not None
    texts = snapshot.rows(Split.TEST).contents
    torch_says = predict(load_on("cpu", compressed.folder), texts)
    ours = predict(TextTask().load(compressed.folder, "fp32"), texts)
    np.testing.assert_allclose(torch_says.scores, ours.scores, atol=1e-4)
    warm = recipe.with_(start="warm", epochs=1, learning_rate=1e-4)
    folder = TextTask().fit(snapshot, warm, silent, tmp_path, compressed.folder)
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() == 4 + len(WORDS), "all words are back"
    again = predict(TextTask().load(folder), texts).scores.argmax(axis=1)
    assert np.mean(again == ours.scores.argmax(axis=1)) > 0.95


def test_fewer_layers_learn_to_answer_like_all(
    version: Path, snapshot: Snapshot, recipe: Recipe, tmp_path: Path
) -> None:
    told: list[str] = []
    found = Compressor(loss=0.05, layers=2, timed_s=0.0)(
        version, snapshot, [], lambda what, done, of: told.append(what), tmp_path / "work"
    )
    (layers,) = [point for point in found.points if "layers" in point.name]
    assert layers.taken, layers.because
    assert layers.name.startswith("2 of 4 layers")
    assert "layers" in told
    assert found.folder is not None
    texts = snapshot.rows(Split.TEST)
    said = predict(TextTask().load(found.folder), texts.contents).scores.argmax(axis=1)
    assert np.mean([snapshot.labels[i] == truth for i, truth in zip(said, texts.truth, strict=True)]) > 0.9
    assert facts(found.folder)["acceptance"]["cpu_seconds"].keys() >= {"fp32"}
    warm = recipe.with_(start="warm", epochs=1, learning_rate=1e-4)
    heir = TextTask().fit(snapshot, warm, silent, tmp_path / "heir", found.folder)
    config = json.loads((heir / "weights" / "config.json").read_text("utf-8"))
    assert config["encoder"]["num_hidden_layers"] == 2


@pytest.mark.parametrize("layers", [4, 9])
def test_layers_that_there_are_not_are_refused(layers: int, version: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has 4 layers, so --layers may be 1 to 3"):
        Compressor(layers=layers, timed_s=0.0)(version, snapshot, [], silent, tmp_path)


def test_what_loses_too_much_is_not_taken_and_says_why(version: Path, snapshot: Snapshot, tmp_path: Path) -> None:
    found = Compressor(loss=1e-9, timed_s=0.0)(version, snapshot, [], silent, tmp_path)
    assert found.folder is None
    assert not any(point.taken for point in found.points[2:])
    assert all("allowed" in sentence for sentence in found.because if "not taken" in sentence)
