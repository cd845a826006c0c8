"""The first stage of texts: the same buckets everywhere, quick, learnt in seconds, and nothing of learning in it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keepfit.data.snapshot import UNKNOWN_TIME, Rows
from keepfit.errors import BackendError
from keepfit.tasks.text.card import card
from keepfit.tasks.text.first import BITS, FILE, buckets, load, words_of
from keepfit.tasks.text.first_learning import Judged, learn_first
from keepfit.tasks.trade import Terms, Trade, accept

WORDS = [f"word{i}" for i in range(3000)]


def text(label: int, rng: np.random.Generator, n: int = 12) -> str:
    """Mostly noise; one of twenty words of its class."""
    noise = [WORDS[i] for i in rng.integers(0, len(WORDS), n)]
    return " ".join([*noise, f"class{label}x{rng.integers(20)}"])


def rows(labels: np.ndarray, rng: np.random.Generator) -> Rows:
    n = len(labels)
    names = tuple(map(str, range(n)))
    texts = tuple(text(int(label), rng) for label in labels)
    return Rows(
        texts, tuple(f"c{i}" for i in labels), names, names, (UNKNOWN_TIME,) * n, np.zeros(n, bool),
        np.ones(n, np.float32),
    )  # fmt: skip


def learnt(folder: Path, k: int = 2, n: int = 1200) -> tuple[dict[str, object], np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    train, truth = rows(rng.integers(0, k, n), rng), rng.integers(0, k, 800)
    contents = [text(int(label), rng) for label in truth]
    full = np.where(rng.random(800) < 0.05, (truth + 1) % k, truth)
    return learn_first(train, [f"c{i}" for i in range(k)], Judged(contents, truth, full, 5.0), folder), truth, contents


def test_buckets_never_change() -> None:
    assert buckets("Good day, good DAY!").tolist() == buckets(" good  day, <br/>good day! ").tolist()
    assert buckets("a good day").tolist() == [21815, 41035, 68029, 184136, 233985]
    assert buckets(("good", "day")).tolist() != buckets(("day", "good")).tolist()
    assert buckets("").tolist() == []
    assert buckets("日本語 😀").max() < 1 << BITS


def test_of_a_very_long_text_the_ends_are_read() -> None:
    assert len(words_of("x " * 500_000 + "the end")) < 10_000
    assert words_of("x " * 500_000 + "the end")[-2:] == [b"the", b"end"]


@pytest.mark.parametrize("k", [2, 12])
def test_it_learns_two_or_many_classes_and_is_measured_on_what_it_did_not_see(tmp_path: Path, k: int) -> None:
    values, truth, contents = learnt(tmp_path, k, 600 * k)
    first = load(tmp_path, {"first": values})
    assert first is not None
    scores = first.scores(contents)
    assert np.mean(scores.argmax(axis=1) == truth) > 0.9
    assert first.trade.n == 800
    assert first.trade.first_right == (scores.argmax(axis=1) == truth).sum()
    assert accept(first.trade, Terms()).threshold is not None
    assert json.loads(json.dumps(values)) == values


def test_learning_again_gives_the_very_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = learnt(tmp_path / "a")[0], learnt(tmp_path / "b")[0]
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    assert one["strength"] == other["strength"]


def test_a_class_that_the_train_part_lacks_is_never_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train = rows(rng.integers(0, 2, 300), rng)
    judged = Judged(["word1"], np.array([0]), np.array([0]), 1.0)
    values = learn_first(train, ["c0", "c1", "c2"], judged, tmp_path)
    first = load(tmp_path, {"first": values})
    assert first is not None
    assert first.scores(["class0x3", "word7", "nothing known"])[:, 2].max() < 1e-6


def test_a_handful_of_rows_breaks_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = learn_first(
        rows(np.array([0, 1, 1]), rng), ["c0", "c1"], Judged([], np.zeros(0, int), np.zeros(0, int), 0.0), tmp_path
    )
    first = load(tmp_path, {"first": values})
    assert first is not None
    assert first.scores(["class1x2"]).sum() == pytest.approx(1)
    assert accept(first.trade, Terms()).threshold is None


def test_a_text_is_answered_in_far_less_than_a_millisecond(tmp_path: Path) -> None:
    values, _, _ = learnt(tmp_path)
    first = load(tmp_path, {"first": values})
    assert first is not None
    rng = np.random.default_rng(1)
    for words, most_us in ((25, 100), (230, 500)):
        contents = [text(1, rng, words) for _ in range(50)]
        best = min(timed(lambda some=contents: [first.scores([one]) for one in some]) for _ in range(5)) / 50
        assert best < 4 * most_us / 1e6, "four times what is aimed at, for slow and busy machines"


def timed(act: object) -> float:
    began = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - began


def test_a_newer_first_stage_is_refused_and_none_is_none(tmp_path: Path) -> None:
    values, _, _ = learnt(tmp_path)
    assert load(tmp_path, {}) is None
    with pytest.raises(BackendError, match="newer"):
        load(tmp_path, {"first": {**values, "format": 99}})


def test_answering_needs_neither_scipy_nor_sklearn_nor_torch() -> None:
    code = (
        "import sys, keepfit.tasks.text.first;"
        "print([m for m in ('scipy', 'sklearn', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_card_has_the_curve_and_a_sentence_for_either_kind_of_terms(tmp_path: Path) -> None:
    values, _, _ = learnt(tmp_path)
    training = {"precision": {"seconds": {}, "chosen": "fp32", "device": "cpu"}, "steps": 1, "passes": 1.0,
                "best_step": 1, "validation_loss": 0.1, "seconds": 1.0, "cpu_seconds": 1.0}  # fmt: skip
    settings = {
        "labels": ["c0", "c1"], "snapshot": "s", "columns": ["text"], "backbone": "b", "pooling": "mean",
        "embedding_dim": 3, "max_tokens": 32, "truncation": "head", "abstain_below": None, "temperature": 1.0,
        "recipe": {"batch_size": 8}, "training": training, "first": values,
        "acceptance": {"chosen": "fp32", "reference_accuracy": 0.9, "comparisons": []},
    }  # fmt: skip
    words = card(settings, {"learn from": 1200})
    trade = Trade.from_json(values["trade"])  # type: ignore[arg-type]
    assert "## First stage" in words
    assert words.count('with cascade.keeps = "') == 2
    assert words.count("\n| ") >= len(trade.points)
    assert "First stage" not in card({**settings, "first": None}, {})


def test_no_threshold_is_measured_where_no_answer_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    contents = [text(int(label), rng) for label in truth]
    judged = Judged(contents, truth, truth, 5.0)
    values = learn_first(rows(rng.integers(0, 2, 600), rng), ["c0", "c1"], judged, tmp_path, floor=0.9)
    first = load(tmp_path, {"first": values, "abstain_below": 0.9})
    assert first is not None
    assert min(point.threshold for point in first.trade.points) == 0.9
    assert first.trade.points[-1].sure == (first.scores(contents).max(axis=1) >= np.float32(0.9)).sum()
