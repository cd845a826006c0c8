"""What MLflow keeps as files of a model or a run: measured, replaced, deleted; in a folder, on a server, in a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keepfit.registry.mlflow_quiet import get_artifact_repository


class ArtifactFiles:
    """The files at one place. What MLflow's own repository raises passes through (see `mlflow_quiet.talking`)."""

    def __init__(self, uri: str, tracking_uri: str) -> None:
        self._repository: Any = get_artifact_repository(uri, tracking_uri=tracking_uri)

    def size(self) -> int:
        """Bytes of all of them."""
        return sum(size for _, size in self._walk(None))

    def delete_all_but(self, *names: str) -> None:
        """Delete every file and folder but these; what is gone already is passed over."""
        for found in self._repository.list_artifacts(None):
            if found.path not in names:
                self.delete(found.path)

    def delete(self, path: str) -> None:
        """Delete a file or folder."""
        self._repository.delete_artifacts(path)

    def replace(self, folder: Path, below: str) -> None:
        """The files of a folder take the place of those `below`."""
        self._repository.log_artifacts(str(folder), below)

    def _walk(self, path: str | None) -> Iterator[tuple[str, int]]:
        for found in self._repository.list_artifacts(path):
            if found.is_dir:
                yield from self._walk(found.path)
            else:
                yield found.path, int(found.file_size or 0)
