"""FakeEngine: a tiny network in numpy that keeps every rule of an engine; for tests and for trying things out."""

from __future__ import annotations

import numpy as np

from keepfit.engine.engine import Arrays, Outputs, check_inputs

INPUTS = ("attention_mask", "input_ids")
VOCABULARY = 1009


class FakeEngine:
    """Embedding: the mean of fixed random vectors of the tokens; logits: a fixed random linear map of that."""

    precision = "fp32"
    device = "cpu"

    lanes = 1

    def __init__(self, classes: int = 2, dimensions: int = 8, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._table = rng.normal(size=(VOCABULARY, dimensions)).astype(np.float32)
        self._head = rng.normal(size=(dimensions, classes)).astype(np.float32)

    def infer(self, inputs: Arrays) -> Outputs:
        """`input_ids` and `attention_mask`, both (n, t), to `logits` (n, classes) and `embedding` (n, dimensions)."""
        check_inputs(inputs, INPUTS)
        mask = inputs["attention_mask"].astype(np.float32)[:, :, None]
        vectors = self._table[inputs["input_ids"] % VOCABULARY] * mask
        embedding = (vectors.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)).astype(np.float32)
        return {"logits": embedding @ self._head, "embedding": embedding}
