"""TextTask: the learning half of the text task, told in its phases; each is remembered, so that a kill costs little."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from keepfit.data.snapshot import Rows, Snapshot, Split
from keepfit.engine.convert import export, quantise
from keepfit.engine.engine import Precision
from keepfit.engine.tables import small_lookup
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.task import Report, parent_of, predict
from keepfit.tasks.text import imported
from keepfit.tasks.text import model as answering
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.acceptance import Acceptance, Scores, accept
from keepfit.tasks.text.calibration import fit_temperature
from keepfit.tasks.text.card import card
from keepfit.tasks.text.first_learning import Judged, learn_first
from keepfit.tasks.text.hidden import place_beside
from keepfit.tasks.text.learning import Beside, learn
from keepfit.tasks.text.parent import Parent
from keepfit.tasks.text.possible import refusals
from keepfit.tasks.text.preprocessing import HEAD_SHARE, Content, Preprocessor
from keepfit.training.recipe import Recipe, Start

MOST_CLASSES = 150
CALIBRATION_TEXTS = 128
"""Texts from the train part that int8 is calibrated on."""
JUDGED_TEXTS = 3000
"""Validation rows that the arithmetic is judged on, at most."""
UNLABELLED_TEXTS = 1000
"""Where there are fewer of those, pieces of train texts make up the rest."""

Settings = dict[str, Any]


class TextTask:
    """Fine-tunes a transformer on labelled texts; see tasks.task.Task."""

    name = "text"
    starts: tuple[Start, ...] = ("new", "warm")
    reweights = True

    def learns_from(self, content: Any, snapshots: Path) -> bool:
        """Every text can be learnt from."""
        return True

    def refusals(self, base: Recipe) -> Callable[[Recipe], str | None]:
        """See `tasks.task.refusals_of`: frozen layers and adapters that the backbone does not allow."""
        return refusals(base)

    def fit(
        self, snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Path | None = None
    ) -> Path:
        """Learn, convert, make int8, choose the arithmetic, calibrate, describe; the finished folder is workdir/model.

        With `recipe.start` "warm" the network goes on from the parent's weights. Raises InvalidInput for one class
        only, more than 150, no validation part, or a parent that does not fit; BackendError when the backbone cannot
        be had or the disk fails.
        """
        before = parent_of(recipe, parent, self.starts)
        try:
            return _fit(snapshot, recipe, report, workdir, None if before is None else Parent.of(before, recipe))
        except (OSError, SafetensorError) as error:
            raise BackendError(
                f"cannot write the model in {workdir} ({error}); make room on the disk and start again: it will go on"
            ) from error

    def load(self, folder: Path, precision: str | None = None) -> answering.TextModel:
        """The fitted model, on the engine; `precision` overrides the one chosen at fit."""
        return answering.load(folder, precision)


def _fit(snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Parent | None) -> Path:
    folder, draft = workdir / "model", workdir / "draft"
    built_on = None if parent is None else str(parent.folder)
    _start(workdir, {"snapshot": snapshot.id, "recipe": recipe.to_json(), "parent": built_on})
    if (folder / "model.json").is_file():
        return folder
    parts = snapshot.rows(Split.TRAIN), snapshot.rows(Split.VALIDATION)
    check(*parts, snapshot.labels)
    settings = _learn(snapshot, parts, recipe, report, draft, parent)
    convert(draft, settings)
    return finish(draft, settings, parts, recipe, card)


def finish(
    draft: Path, settings: Settings, parts: tuple[Rows, Rows], recipe: Recipe, describe: Callable[..., str]
) -> Path:
    """Choose the arithmetic, calibrate, learn a first stage and describe; the draft becomes the folder `model` beside.

    `draft` holds the converted network and its tokenizer; `describe` gives the card.
    """
    train, validation = parts
    write(draft, settings)
    acceptance, temperature, judged = _choose(draft, settings, parts, recipe)
    settings |= {"temperature": temperature, "precision": acceptance.chosen, "acceptance": acceptance.to_json()}
    settings["first"] = learn_first(train, settings["labels"], judged, draft, recipe.abstain_below)
    return place(draft, settings, describe(settings, {"learn from": len(train), "validate": len(validation)}))


def place(draft: Path, settings: Settings, described: str) -> Path:
    """The draft as the finished folder `model` beside it."""
    folder = draft.with_name("model")
    (draft / "card.md").write_text(described, "utf-8")
    write(draft, settings)
    _remove(draft / "checkpoints")
    _remove(folder)
    draft.rename(folder)
    return folder


def check(train: Rows, validation: Rows, labels: Sequence[str]) -> None:
    """Raises InvalidInput when these parts cannot be learnt from."""
    classes = set(train.truth)
    if len(classes) < 2:
        raise InvalidInput("there are fewer than two classes in the train part; label some examples of another class")
    if len(labels) > MOST_CLASSES:
        raise InvalidInput(f"there are {len(labels)} classes and {MOST_CLASSES} are possible; join the rare ones")
    if not len(validation):
        raise InvalidInput("the validation part is empty; add rows, or give it a share in the split")


def _start(workdir: Path, arguments: dict[str, Any]) -> None:
    """What another training left in the folder is removed; what this one left is kept."""
    workdir.mkdir(parents=True, exist_ok=True)
    note = workdir / "arguments.json"
    text = json.dumps(arguments, sort_keys=True)
    if note.is_file() and note.read_text("utf-8") != text:
        _remove(workdir / "model")
        _remove(workdir / "draft")
    note.write_text(text, "utf-8")


def _learn(
    snapshot: Snapshot, parts: tuple[Rows, Rows], recipe: Recipe, report: Report, draft: Path, parent: Parent | None
) -> Settings:
    """The weights in draft/weights, and the values of model.json that are known by then."""
    done = draft / "learned.json"
    if done.is_file():
        found: Settings = json.loads(done.read_text("utf-8"))
        return found
    home = snapshot.path.parent
    beside = Beside(len(snapshot.columns), parent, place_beside(home), imported.place_beside(home))
    learned = learn(parts, snapshot.labels, recipe, report, draft, beside)
    networks.save(learned.network, draft / "weights")
    settings: Settings = {
        "format": answering.FORMAT,
        "task": TextTask.name,
        "labels": list(snapshot.labels),
        "columns": list(snapshot.columns),
        "temperature": 1.0,
        "abstain_below": recipe.abstain_below,
        "max_tokens": learned.max_tokens,
        "truncation": recipe.truncation,
        "head_share": HEAD_SHARE,
        "cleaning": learned.cleaning,
        "pooling": learned.network.pooling,
        "precision": "fp32",
        "embedding_dim": learned.network.head.in_features,
        "backbone": recipe.backbone,
        "pad_id": learned.pad_id,
        "has_token_types": False,
        "snapshot": snapshot.id,
        "recipe": recipe.to_json(),
        "training": learned.outcome.to_json() | {"passes": learned.passes, "frozen": learned.frozen},
    }
    done.write_text(json.dumps(settings), "utf-8")
    return settings


def convert(draft: Path, settings: Settings) -> None:
    """The network of draft/weights for the engine, unless a run before has done it, and model.json."""
    if not (draft / "ir" / "model.xml").is_file():
        network = networks.load(draft / "weights")
        partial = draft / "ir.partial"
        _remove(partial)
        export(network, partial / "model.xml", longest=min(64, settings["max_tokens"]))
        partial.rename(draft / "ir")
    write(draft, settings)


def _choose(
    draft: Path, settings: Settings, parts: tuple[Rows, Rows], recipe: Recipe
) -> tuple[Acceptance, float, Judged]:
    """The arithmetic of the answers, the temperature that fits it, and what it says of the judged rows."""
    train, validation = parts
    chosen = spread(len(validation), JUDGED_TEXTS)
    texts = [validation.contents[i] for i in chosen]
    number = {label: i for i, label in enumerate(settings["labels"])}
    truth = np.array([number[validation.truth[i]] for i in chosen], np.int64)
    more = max(0, UNLABELLED_TEXTS - len(texts))
    others = pieces([train.contents[i] for i in spread(len(train), more)], more)
    available = _quantised(draft, settings, train, recipe)
    found: dict[Precision, tuple[Scores, Scores]] = {}
    used: dict[str, float] = {}

    def answers(precision: Precision) -> tuple[Scores, Scores]:
        if precision not in found:
            model = answering.load(draft, precision)
            before = time.process_time()
            found[precision] = predict(model, texts).scores, predict(model, others).scores
            used[precision] = time.process_time() - before
        return found[precision]

    acceptance = accept(answers, truth, recipe.inference, available)
    acceptance = replace(acceptance, cpu_seconds={p: round(s, 3) for p, s in used.items()})
    said, each = answers(acceptance.chosen)[0], 1000 * used[acceptance.chosen] / max(len(texts) + len(others), 1)
    return acceptance, fit_temperature(said, truth), Judged(texts, truth, said.argmax(axis=1), each)


def _quantised(draft: Path, settings: Settings, train: Rows, recipe: Recipe) -> tuple[Precision, ...]:
    """The arithmetics at hand; int8 is made when it may be wanted, and done without when it cannot be made."""
    if recipe.inference not in ("auto", "int8"):
        return ("bf16", "fp32")
    out = draft / "ir" / "int8.xml"
    if not out.is_file():
        texts = [train.contents[i] for i in spread(len(train), CALIBRATION_TEXTS)]
        ids = Preprocessor.from_settings(draft, settings).encode(texts).ids
        batches = [
            {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)} for row in ids if row
        ]
        partial = draft / "int8.partial"
        _remove(partial)
        partial.mkdir()
        try:
            small_lookup(quantise(draft / "ir" / "model.xml", batches, partial / "int8.xml"), partial / "int8.xml")
        except BackendError:
            if recipe.inference == "int8":
                raise
            return ("bf16", "fp32")
        (partial / "int8.bin").rename(draft / "ir" / "int8.bin")
        (partial / "int8.xml").rename(out)
        partial.rmdir()
    return ("int8", "bf16", "fp32")


def spread(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` row numbers out of n, evenly spread.

    >>> spread(10, 4).tolist()
    [0, 2, 5, 7]
    """
    count = min(n, most)
    return np.arange(count, dtype=np.int64) * n // max(count, 1)


def pieces(contents: Sequence[Content], wanted: int) -> list[Content]:
    """At most `wanted` parts of the texts, by words: of the same kind as what was learnt, but not learnt.

    >>> pieces(["a b c d"], 2)
    ['a b', 'c d']
    """
    parts = min(6, max(2, -(-wanted // max(len(contents), 1))))

    def part(text: str, number: int) -> str:
        words = text.split()
        return " ".join(words[number * len(words) // parts : (number + 1) * len(words) // parts]) or text

    cut = [
        part(c, number) if isinstance(c, str) else tuple(part(text, number) for text in c)
        for c in contents
        for number in range(parts)
    ]
    return [cut[i] for i in spread(len(cut), wanted)]


def write(draft: Path, settings: Settings) -> None:
    """model.json."""
    (draft / "model.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False), "utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
