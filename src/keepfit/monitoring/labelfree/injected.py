"""Shifts injected into the reference: windows with a known truth that look as if the world had changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from keepfit.monitoring.detectors import Components
from keepfit.monitoring.labelfree.sample import SMALLEST, Doubles, Ints, Sample

CLUSTERS = 8
DIRECTIONS = 8


@dataclass(frozen=True, eq=False)
class Injected:
    """One window, and of which rows it is made."""

    sample: Sample
    places: Ints
    moved: bool
    """Whether the answers are others than the model gave to these rows."""


class Shifts:
    """Makes windows from a sample, of `size` rows where rows are drawn; the same generator makes the same windows."""

    def __init__(self, sample: Sample, size: int, seed: int) -> None:
        self._sample, self._size = sample, size
        self._components = Components(sample.embeddings, DIRECTIONS)
        self._projected = self._components.project(sample.embeddings)
        distinct = len(np.unique(self._projected, axis=0))  # few, where only the answers are known and all are sure
        clusters = min(CLUSTERS, max(1, len(sample) // 20), distinct)
        self._cluster = KMeans(clusters, n_init=1, random_state=seed, max_iter=50).fit_predict(self._projected)
        self._deviation = sample.embeddings.std(axis=0)
        logs = np.log(np.maximum(sample.scores, SMALLEST))
        centred = sample.embeddings - sample.embeddings.mean(axis=0)
        # the model's own last layer where that is linear, as it is in ours; near it elsewhere
        wide = centred.T @ centred + 0.01 * np.trace(centred.T @ centred) / centred.shape[1] * np.eye(centred.shape[1])
        self._layer = np.linalg.solve(wide, centred.T @ (logs - logs.mean(axis=0)))

    @property
    def families(self) -> Mapping[str, Callable[[np.random.Generator], Injected]]:
        """By name, what makes one window."""
        return {
            "prior": self.prior, "group": self.group, "direction": self.direction, "hardness": self.hardness,
            "noise": self.noise, "move": self.move, "mix": self.mix,
        }  # fmt: skip

    def windows(self, rng: np.random.Generator, each: int) -> Iterator[tuple[str, Injected]]:
        """So many of each family, with the family's name."""
        for name, make in self.families.items():
            for _ in range(each):
                yield name, make(rng)

    def _drawn(self, rng: np.random.Generator, weights: Doubles) -> Injected:
        places = rng.choice(len(weights), self._size, p=weights / weights.sum())
        return Injected(self._sample.rows(places), places, False)

    def _every(self) -> Injected:
        # each row once: the accuracy then changes by the move alone, and not by the luck of a draw
        return Injected(self._sample, np.arange(len(self._sample)), False)

    def _moved(self, drawn: Injected, step: Doubles) -> Injected:
        """Embeddings moved by a step, shape (n, d), with the answers that the model gives there."""
        sample = drawn.sample
        return Injected(sample.moved(sample.embeddings + step, step @ self._layer), drawn.places, True)

    def prior(self, rng: np.random.Generator) -> Injected:
        """Other shares of the classes."""
        k = self._sample.scores.shape[1]
        counts = np.bincount(np.maximum(self._sample.truth, 0), minlength=k)
        wanted = rng.dirichlet(np.full(k, 1.0)) * (counts > 0)
        mixed = rng.uniform(0, 1)
        shares = mixed * wanted / max(wanted.sum(), SMALLEST) + (1 - mixed) * counts / counts.sum()
        return self._drawn(rng, (shares / np.maximum(counts, 1))[np.maximum(self._sample.truth, 0)] + SMALLEST)

    def group(self, rng: np.random.Generator) -> Injected:
        """Other shares of the groups of alike inputs."""
        shares = rng.dirichlet(np.full(self._cluster.max() + 1, 0.5))
        return self._drawn(rng, shares[self._cluster] + 1e-3)

    def direction(self, rng: np.random.Generator) -> Injected:
        """More of one end of a direction of the embeddings."""
        axis = rng.normal(size=self._projected.shape[1])
        along = self._projected @ axis / max(float(np.linalg.norm(axis)), SMALLEST)
        return self._drawn(rng, np.exp(np.clip(rng.uniform(0.3, 1.5) * along, -6, 6)))

    def hardness(self, rng: np.random.Generator) -> Injected:
        """More, or fewer, of the inputs that the model is sure of."""
        order = np.argsort(np.argsort(self._sample.top)) / len(self._sample) - 0.5
        return self._drawn(rng, np.exp(rng.uniform(-3, 3) * order))

    def noise(self, rng: np.random.Generator) -> Injected:
        """Embeddings with noise, as of misspelt texts."""
        drawn = self._every()
        noise = rng.normal(size=drawn.sample.embeddings.shape) * self._deviation * rng.uniform(0.1, 0.8)
        return self._moved(drawn, noise)

    def move(self, rng: np.random.Generator) -> Injected:
        """All embeddings moved the same way, as of another source."""
        drawn = self._every()
        step = rng.normal(size=len(self._deviation)) * self._deviation * rng.uniform(0.1, 0.8)
        return self._moved(drawn, np.tile(step, (len(drawn.places), 1)))

    def mix(self, rng: np.random.Generator) -> Injected:
        """Embeddings on the way to those of another row, as of texts that speak of several things."""
        drawn = self._every()
        embeddings = drawn.sample.embeddings
        others = embeddings[rng.permutation(len(embeddings))]
        return self._moved(drawn, (others - embeddings) * rng.uniform(0.05, 0.45))
