"""Which network embeds texts that no version here has answered: the champion, else the task's pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keepfit.app.project import Project
from keepfit.app.wiring import answering_half, named, recipe
from keepfit.data.foreign import is_foreign
from keepfit.errors import SettingsError
from keepfit.rollout.rollout import single
from keepfit.tasks.task import Floats, Model

CHUNK = 256
Embed = Callable[[Sequence[Any]], tuple[Floats, Mapping[str, Floats]]]
"""Contents (n) to embeddings (n, d), and measures by name, each (n,)."""


def embedder(project: Project, columns: int = 1) -> Embed:
    """By keepfit's own champion; where there is none, or it is served elsewhere, by the encoder of the recipe.

    Raises SettingsError for a task that has none.
    """
    live = project.store.deployment(project.model)
    champion = None if live is None else single(live.traffic)
    if champion is not None and not is_foreign(champion):
        return by_model(answering_half(project.home, project.model, project.store)(champion))
    entry = project.traits.embedder
    if entry is None:
        raise SettingsError(f"the task {project.settings.task!r} has no encoder of its own; train a version first")
    made: Embed = named(entry)(recipe(project.settings), columns)
    return made


def by_model(model: Model) -> Embed:
    """The embeddings that a version gives, in small calls."""

    def embed(contents: Sequence[Any]) -> tuple[Floats, Mapping[str, Floats]]:
        parts: list[Floats] = []
        measures: list[Mapping[str, float]] = []
        for at in range(0, len(contents), CHUNK):
            prepared = model.prepare(contents[at : at + CHUNK])
            measures.extend(prepared.measures)
            parts.append(model.infer(prepared).embeddings)
        names = set.intersection(*map(set, measures)) if measures else set()
        return np.concatenate(parts), {n: np.array([m[n] for m in measures], np.float32) for n in sorted(names)}

    return embed
