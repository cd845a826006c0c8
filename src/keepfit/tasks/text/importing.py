"""Importing a text classifier that was trained elsewhere: read, check, convert, choose the arithmetic, describe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from keepfit.data.snapshot import Snapshot, Split
from keepfit.engine import foreign as compiled
from keepfit.engine.convert import export
from keepfit.errors import InvalidInput
from keepfit.tasks.text import backbone as backbones
from keepfit.tasks.text import foreign, imported
from keepfit.tasks.text import model as answering
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.acceptance import Acceptance
from keepfit.tasks.text.card import listed, table
from keepfit.tasks.text.fit import MOST_CLASSES, Settings, TextTask, finish, place
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import HEAD_SHARE, RAW
from keepfit.telling import Tell
from keepfit.training.recipe import Recipe

COMPILED = (".onnx", ".xml")
MOST_TOKENS = 512
"""Unless more is asked for: what most encoders were trained on, and longer texts cost with the square."""
NARROW, RATE = 384, 3e-5
"""Wider networks learn at this rate unless the settings say another (Devlin et al. 2019 took 2e-5 to 5e-5)."""
TRUNCATION = "head"
"""What Transformers does with a text that is too long."""


@dataclass(frozen=True)
class TextImport:
    """What is asked for besides the model itself."""

    recipe: Recipe
    """As the settings have it; what they leave open of `backbone`, `max_tokens`, ... is the model's own."""
    said: frozenset[str]
    """The settings of the recipe that are not left open."""
    names: Sequence[str] | Mapping[str, str] | None = None
    """What its classes are called: in the order of its outputs, or by its own names or numbers."""
    tokenizer: Path | None = None
    max_tokens: int | None = None
    backbone: str | None = None
    """What later trainings begin with, where the model has no weights that can learn."""

    def __call__(self, source: Path, snapshot: Snapshot, tell: Tell, workdir: Path) -> Path:
        """The finished model's folder, in `workdir`. `snapshot` may be without rows: then nothing is calibrated.

        Raises InvalidInput, with the next step, for what cannot be imported or does not fit the data; BackendError when
        the disk fails.
        """
        if len(snapshot.columns) > 1:
            raise InvalidInput("a model that was trained elsewhere reads one text, and the data have several; name one")
        draft, home = workdir / "draft", imported.place_beside(snapshot.path.parent)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        tell("reading the model", 0, None)
        how = self._compiled if source.suffix in COMPILED and source.is_file() else self._transformers
        settings = how(source, draft, home, snapshot.labels)
        settings |= {"snapshot": snapshot.id, "columns": list(snapshot.columns)}
        parts = snapshot.rows(Split.TRAIN), snapshot.rows(Split.VALIDATION)
        settings["imported"]["evaluated"] = any(map(len, parts))
        recipe = Recipe.from_json(settings["recipe"])
        if any(map(len, parts)):
            tell("choosing the arithmetic", 0, None)
            return finish(draft, settings, parts, recipe, card)
        precision = "bf16" if recipe.inference == "bf16" else "fp32"
        if recipe.inference == "int8":
            raise InvalidInput("int8 is calibrated on texts; give --data, or set recipe.inference to auto")
        settings |= {"precision": precision, "acceptance": Acceptance("fp32", 0.0, ()).to_json()}
        return place(draft, settings, card(settings, {}))

    def _transformers(self, source: Path, draft: Path, home: Path, data: Sequence[str]) -> Settings:
        """A folder of Transformers, in `draft`; it is kept for later trainings, too."""
        if self.backbone is not None:
            raise InvalidInput("this model has weights that can learn, and later trainings begin with them; leave out "
                               "--backbone, or set recipe.backbone in the settings", "backbone")  # fmt: skip
        found = foreign.read(source, self.tokenizer)
        network, facts = found.kept.network, found.kept.facts
        order, labels = in_order(named(facts.labels, self.names), data)
        network.head = reordered(network, order)
        kept = replace(found.kept, network=network, facts=replace(facts, labels=labels))
        most = self._most(facts.longest, found.declared)
        recipe = self._recipe(imported.keep(kept, home), most, network.head.in_features)
        networks.save(network, draft / "weights")
        (draft / "tokenizer.json").write_text(kept.tokenizer, "utf-8")
        export(network, draft / "ir" / "model.xml", longest=most)
        about = {
            "architecture": found.architecture,
            "classes": list(facts.labels),
            "embedding": "pooled",
            "learns": True,
        }
        settings = _settings(recipe, labels, network.head.in_features, facts.pad_id)
        return settings | {"max_tokens": most, "pooling": network.pooling, "imported": about}

    def _compiled(self, source: Path, draft: Path, home: Path, data: Sequence[str]) -> Settings:
        """An ONNX file or an OpenVINO IR, in `draft`."""
        if self.recipe.start != "new":
            raise InvalidInput(
                f"recipe.start = {self.recipe.start!r} builds on the weights of the version that answers, and "
                f'{source.name} has none that can learn; set recipe.start = "new"',
                "recipe.start",
            )
        near = source.parent if (source.parent / "tokenizer.json").is_file() else None
        if (lies := self.tokenizer or near) is None:
            raise InvalidInput(f"{source.name} comes without a tokenizer; name its folder: --tokenizer FOLDER")
        if self.names is None:
            raise InvalidInput(f"{source.name} does not say what its outputs mean; name them in order: --labels a,b")
        tokenizer, pad_id, declared = foreign.plain_tokenizer(lies)
        order, labels = in_order(named(numbered(self.names), self.names), data)
        adopted = compiled.adopt(source, draft / "ir" / "model.xml", order)
        if (rows := compiled.words_of(draft / "ir" / "model.xml")) is not None:
            foreign.check_vocabulary(tokenizer.get_vocab(), rows)
        (draft / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
        most = self._most(MOST_TOKENS, declared)
        recipe = self.recipe if self.backbone is None else self._begins_with(self.backbone, home)
        about = {"architecture": source.suffix.removeprefix("."), "embedding": adopted.embedding, "learns": False}
        settings = _settings(recipe.with_(start="new"), labels, adopted.width, pad_id)
        return settings | {"max_tokens": most, "pooling": "own", "imported": about}

    def _begins_with(self, name: str, home: Path) -> Recipe:
        """The recipe with another backbone, which is kept as the imported networks are."""
        found = backbones.load(name, self.recipe.lower_case)
        if name == backbones.MINILM:
            return self.recipe.with_(backbone=name)
        network = Classifier(found.encoder, found.pooling, 2, found.width)
        facts = imported.Facts((), found.pad_id, found.longest)
        kept = imported.keep(imported.Kept(network, found.tokenizer.to_str(), facts), home)
        return self._recipe(kept, self._most(found.longest, 0), found.width)

    def _recipe(self, backbone: str, max_tokens: int, width: int) -> Recipe:
        """The recipe for later trainings: what the settings leave open is as in the model."""
        own = {"max_tokens": max_tokens, "truncation": TRUNCATION}
        own |= {"learning_rate": RATE} if width > NARROW else {}
        left = {name: value for name, value in own.items() if name not in self.said}
        return self.recipe.with_(backbone=backbone, **left)

    def _most(self, longest: int, declared: int) -> int:
        """Tokens that are read of a text. Raises InvalidInput when more are asked for than the network takes."""
        can = min(longest, declared or longest)
        asked = self.max_tokens or (self.recipe.max_tokens if "max_tokens" in self.said else None)
        if asked is not None and asked > can:
            raise InvalidInput(f"max_tokens = {asked}, and this model reads {can} tokens; ask for fewer", "max_tokens")
        return asked or min(can, MOST_TOKENS)


def named(own: Sequence[str], names: Sequence[str] | Mapping[str, str] | None) -> tuple[str, ...]:
    """The classes as they are to be called, in the order of the outputs.

    >>> named(["LABEL_0", "LABEL_1"], ["neg", "pos"]), named(["LABEL_0", "LABEL_1"], {"0": "neg", "LABEL_1": "pos"})
    (('neg', 'pos'), ('neg', 'pos'))
    """
    if names is None:
        found = tuple(own)
    elif isinstance(names, Mapping):
        strange = sorted(set(names) - set(own) - {str(i) for i in range(len(own))})
        if strange:
            raise InvalidInput(
                f"--labels renames {_listed(strange)}, and the model has {_listed(own)}; use its names, or 0 to "
                f"{len(own) - 1}", "labels",
            )  # fmt: skip
        found = tuple(names.get(label, names.get(str(i), label)) for i, label in enumerate(own))
    else:
        if len(names) != len(own):
            raise InvalidInput(
                f"--labels names {len(names)} classes ({_listed(names)}) and the model has {len(own)} ({_listed(own)})",
                "labels",
            )
        found = tuple(names)
    if len(set(found)) < len(found) or not all(label.strip() for label in found):
        raise InvalidInput(f"the classes {_listed(found)} are not all different and named; say --labels a,b", "labels")
    if not 2 <= len(found) <= MOST_CLASSES:
        raise InvalidInput(f"there are {len(found)} classes; between 2 and {MOST_CLASSES} are possible", "labels")
    return found


def numbered(names: Sequence[str] | Mapping[str, str]) -> tuple[str, ...]:
    """Names for the outputs of a network that has none, as many as were given."""
    return tuple(str(i) for i in range(len(names)))


def in_order(labels: Sequence[str], data: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """The places of the outputs in the sorted order of the classes, and these. Raises InvalidInput for other data."""
    strange = sorted(set(data) - set(labels))
    if strange:
        raise InvalidInput(
            f"the labels do not fit: the data have {_listed(data)}, the model has {_listed(labels)}, which lacks "
            f"{_listed(strange)}; say what they are called in the data, from the "
            "first output to the last: --labels A,B",
            "labels",
        )
    order = sorted(range(len(labels)), key=lambda i: labels[i])
    return order, tuple(labels[i] for i in order)


def reordered(network: Classifier, order: Sequence[int]) -> torch.nn.Linear:
    """The network's head with its rows in another order."""
    head = torch.nn.Linear(network.head.in_features, len(order))
    with torch.no_grad():
        head.weight.copy_(network.head.weight[list(order)])
        head.bias.copy_(network.head.bias[list(order)])
    return head.eval()


def _settings(recipe: Recipe, labels: Sequence[str], width: int, pad_id: int) -> Settings:
    """The values of model.json that all imports share."""
    return {
        "format": answering.FORMAT, "task": TextTask.name, "labels": list(labels), "temperature": 1.0,
        "abstain_below": recipe.abstain_below, "truncation": recipe.truncation, "head_share": HEAD_SHARE,
        "cleaning": RAW, "precision": "fp32", "embedding_dim": width, "backbone": recipe.backbone, "pad_id": pad_id,
        "has_token_types": False, "recipe": recipe.to_json(),
    }  # fmt: skip


def card(settings: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Markdown from the values of model.json; `counts` are the rows of each part, none where there were no data."""
    about, acceptance = settings["imported"], settings["acceptance"]
    rows = ", ".join(f"{n} rows to {part}" for part, n in counts.items())
    lines = [
        f"imported: a {about['architecture']}; it was not trained here",
        f"up to {settings['max_tokens']} tokens, {settings['truncation']}; texts go in as they come",
        f"embedding: {about['embedding']}, {settings['embedding_dim']} wide",
        f"arithmetic: {settings['precision']}",
        f"data: {rows or 'none, so it was not evaluated and its probabilities are as they were'}",
        f"temperature: {settings['temperature']:g}",
    ]
    text = f"# Text classifier: {_listed(settings['labels'])}\n\n## Imported\n\n{listed(lines)}"
    recipe = [{"setting": name, "value": str(value)} for name, value in settings["recipe"].items()]
    compared = [c["because"] for c in acceptance["comparisons"]]
    told = f"\n\n{listed(compared)}" if compared else ""
    return f"{text}{told}\n\n## Recipe of later trainings\n\n{table(recipe)}\n"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
