"""What a version says of contents: each is asked once, also across a kill, in a file that goes with its job."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from keepfit.data.splits import content_group
from keepfit.errors import BackendError
from keepfit.tasks.task import Model, Output, predict

AT_ONCE = 512


class Answers:
    """A version's answers by the hash of the content."""

    def __init__(self, load: Callable[[], Model], file: Path) -> None:
        """`file` keeps the answers; who owns its folder takes it away when the job is over."""
        self._load, self._file = load, file
        self._model: Model | None = None
        self._known: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = self._read()
        self.asked = 0
        """How many contents the model was asked about."""

    @property
    def model(self) -> Model:
        """The version, loaded when it is first needed."""
        if self._model is None:
            self._model = self._load()
        return self._model

    def __call__(self, contents: Sequence[Any]) -> Output:
        """Answers in order; raises what the model raises."""
        keys = [content_group(content) for content in contents]
        new = {key: content for key, content in zip(keys, contents, strict=True) if key not in self._known}
        waiting = list(new.items())
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            said = predict(self.model, [content for _, content in part])
            self._known |= {key: (said.scores[i], said.embeddings[i]) for i, (key, _) in enumerate(part)}
            self.asked += len(part)
        if waiting:
            self._write()
        if not keys:
            return predict(self.model, ())
        found = [self._known[key] for key in keys]
        return Output(np.stack([scores for scores, _ in found]), np.stack([place for _, place in found]))

    def _read(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        try:
            with self._file.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                columns = kept["keys"], kept["scores"], kept["embeddings"]
            return {str(key): (scores, place) for key, scores, place in zip(*columns, strict=True)}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return {}  # they cost seconds, so what a kill has left is not mended

    def _write(self) -> None:
        part = self._file.with_name(f"{self._file.name}.part")
        scores, places = zip(*self._known.values(), strict=True)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, keys=np.array(list(self._known)), scores=np.stack(scores), embeddings=np.stack(places))
            os.replace(part, self._file)
        except OSError as error:
            raise BackendError(f"{self._file} cannot be written ({error}); make room on the disk") from error
