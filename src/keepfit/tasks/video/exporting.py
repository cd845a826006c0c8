"""Exporting: the denoiser and the head as networks of the engine, in the shapes that answering uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keepfit.engine.convert import export_fixed
from keepfit.tasks.video.head import Head, Step
from keepfit.tasks.video.network import Denoiser
from keepfit.tasks.video.preparation import PAST


def export_denoiser(network: Denoiser, size: tuple[int, int], xml: Path) -> None:
    """For pictures of this height and width, any number at once. Raises BackendError when it cannot be converted."""
    rng = np.random.default_rng(0)
    example = {
        "noisy": rng.standard_normal((2, 1, *size), np.float32),
        "past": rng.standard_normal((2, len(PAST), *size), np.float32),
        "known": np.array([0, 1], np.float32),
        "sigma": np.array([0.5, 2], np.float32),
        "place": np.tile(np.array([[0, 0, 1, 1]], np.float32), (2, 1)),
    }
    export_fixed(network, xml, example, ("denoised",))


def export_head(head: Head, xml: Path) -> None:
    """Frame by frame, with its memory going in and out. Raises BackendError when it cannot be converted."""
    shape = head.shape
    memory = np.zeros((2, shape.places, shape.hidden), np.float32)
    maps = np.random.default_rng(0).standard_normal((2, shape.channels, *shape.grid), np.float32)
    export_fixed(Step(head), xml, {"maps": maps, "memory": memory, "cell": memory}, ("cells", "memory_out", "cell_out"))
