"""Embeddings of texts by the pretrained encoder alone, for texts that no model of keepfit's has answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from keepfit.engine.convert import export
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.tasks.task import Floats
from keepfit.tasks.text import backbone as backbones
from keepfit.tasks.text.cuts import cut
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import Content, Preprocessor
from keepfit.training.recipe import Recipe


class Embedder:
    """The encoder that the recipe names, as it was published; pooled as a model of it would pool.

    Raises what loading the backbone raises.
    """

    def __init__(self, recipe: Recipe, columns: int = 1) -> None:
        backbone = backbones.load(recipe.backbone, recipe.lower_case)
        self._most, self._pad = min(recipe.max_tokens, backbone.longest), backbone.pad_id
        with TemporaryDirectory() as place:
            folder = Path(place)
            backbone.tokenizer.save(str(folder / "tokenizer.json"))
            self._reading = Preprocessor(folder / "tokenizer.json", self._most, recipe.truncation, columns)
            network = Classifier(backbone.encoder, backbone.pooling, 2, backbone.width)
            export(network, folder / "model.xml", longest=min(64, self._most))
            self._engine = OpenVinoEngine.load(folder / "model.xml", "bf16")
        self._width = backbone.width

    def __call__(self, contents: Sequence[Content]) -> tuple[Floats, Mapping[str, Floats]]:
        """Embeddings (n, d), and by name (`length`, `unknown`) measures (n,)."""
        encoded = self._reading.encode(contents)
        embeddings = np.zeros((len(contents), self._width), np.float32)
        for part in cut([len(ids) for ids in encoded.ids], self._most):
            ids = np.full((len(part.rows), part.width), self._pad, np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(part.rows):
                length = len(encoded.ids[row])
                ids[place, :length] = encoded.ids[row]
                mask[place, : max(length, 1)] = 1
            embeddings[part.rows] = self._engine.infer({"input_ids": ids, "attention_mask": mask})["embedding"]
        measures = {"length": encoded.lengths, "unknown": encoded.unknown}
        return embeddings, {name: np.array(values, np.float32) for name, values in measures.items()}
