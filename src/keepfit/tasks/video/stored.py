"""Stored videos: what counts as a video, where it is kept, and the windows that it is cut into."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput, NotFound
from keepfit.tasks.video.clips import Clip, window_frames, windows
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frames import PICTURES, video_hash
from keepfit.tasks.video.scene import cut_finder

SUFFIXES = frozenset({".mp4", ".m4v", ".avi", ".mkv", ".mov", ".gif", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"})


def video_files(source: Path) -> list[Path]:
    """The file itself, or the videos in a folder; a folder of pictures is one video.

    Or it holds one folder for each camera, with the videos in them, and nothing else. Raises NotFound, InvalidInput.
    """
    if not source.exists():
        raise NotFound(f"there is no file {source}")
    if source.is_file():
        return [source]
    inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    found = [path for path in inside if path.suffix.lower() in SUFFIXES]
    pictures = [path for path in inside if path.suffix.lower() in PICTURES]
    cameras = {folder: [v for v in sorted(folder.iterdir()) if _is_video(v)] for folder in inside if folder.is_dir()}
    if not any(cameras.values()):
        if not found and not pictures:
            raise InvalidInput(f"the folder {source} holds neither videos nor pictures; name another one", "video")
        return found or [source]
    stray = [*found, *pictures, *(folder for folder, videos in cameras.items() if not videos)]
    if stray:
        raise InvalidInput(
            f"{source} holds a folder for each camera, and {stray[0].name} is none with videos in it; take it away, or "
            "name one of the folders",
            "video",
        )
    return [video for videos in cameras.values() for video in videos]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def named_camera(video: Path, source: Path) -> str:
    """The camera of one of `video_files(source)`: the name of its folder where there is one for each, else ""."""
    return video.parent.name if source.is_dir() and video.parent not in (source, source.parent) else ""


def keep(file: Path, store: Path) -> str:
    """Copy a video into the folder of stored videos; its name there is the hash of its bytes.

    Raises BackendError when it cannot be written; nothing half-copied is left under the name.
    """
    suffix = "" if file.is_dir() else file.suffix.lower()
    name = f"{video_hash(file)[:32]}{suffix}"
    target, partial = store / name, store / f"{name}.partial"
    try:
        store.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return name
        if file.is_dir():
            partial.mkdir(exist_ok=True)
            for picture in sorted(path for path in file.iterdir() if path.suffix.lower() in PICTURES):
                shutil.copyfile(picture, partial / picture.name)
        else:
            shutil.copyfile(file, partial)
        os.replace(partial, target)
    except OSError as error:
        raise BackendError(f"{file} cannot be stored in {store} ({error}); make room on the disk") from error
    return name


def keep_starts(store: Path, name: str, starts: NDArray[np.bool_]) -> None:
    """Remember beside a stored video where its frames follow nothing, as a sidecar or a look through it has said."""
    _remember(_beside(store / name, "starts"), starts)


def keep_times(store: Path, name: str, times: NDArray[np.float64]) -> None:
    """Remember beside a stored video when each of its frames is shown, so that its middle can be found again."""
    _remember(_beside(store / name, "times"), times)


def known_times(video: Path) -> NDArray[np.float64] | None:
    """When the frames of a stored video are shown, seconds since the first, shape (n,); None when nobody looked."""
    file = _beside(video, "times")
    return np.load(file, allow_pickle=False) if file.is_file() else None


def _beside(video: Path, what: str) -> Path:
    return video.with_name(f".{video.name}.{what}.npy")


def _remember(file: Path, values: NDArray[Any]) -> None:
    partial = file.with_suffix(".partial")
    try:
        with partial.open("wb") as out:
            np.save(out, values)
        os.replace(partial, file)
    except OSError as error:
        raise BackendError(f"{file} cannot be written ({error}); make room on the disk") from error


def start_finder(video: Path) -> Callable[[Frame], bool]:
    """Tells of each frame of a stored video, read in order, whether it follows nothing: as remembered, else found."""
    file = _beside(video, "starts")
    if not file.is_file():
        return cut_finder()
    known = np.load(file, allow_pickle=False)
    return lambda frame: frame.start or (frame.number < len(known) and bool(known[frame.number]))


def windows_of(name: str, starts: NDArray[np.bool_], fps: float) -> list[Clip]:
    """Windows of about three seconds side by side, from where each frame begins anew (n,); none goes over a cut."""
    length = window_frames(fps)
    edges = [*np.flatnonzero(starts).tolist(), len(starts)]
    return [clip for first, stop in pairwise(edges) for clip in windows(name, first, stop, length)]
