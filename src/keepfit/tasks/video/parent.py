"""Parent: the version that a training builds on, and what it hands down."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from keepfit.data.snapshot import Snapshot, Split, open_snapshot
from keepfit.errors import InvalidInput, KeepfitError
from keepfit.tasks.video import network, weights
from keepfit.tasks.video.exporting import export_denoiser
from keepfit.tasks.video.finishing import write_json
from keepfit.tasks.video.model import Facts
from keepfit.tasks.video.preparation import Preparation
from keepfit.training.recipe import Recipe

ANY_SIZE = 4
"""Since this format of models the denoiser answers about parts of a picture, too."""
OF_NETWORKS = ("profile", "head", "long_side")
"""Settings that the networks were made with; a training that keeps them cannot have others."""


@dataclass(frozen=True)
class Parent:
    """A finished model's folder and what it says of itself."""

    folder: Path
    facts: Facts

    @classmethod
    def of(cls, folder: Path, recipe: Recipe) -> Parent:
        """Raises InvalidInput where the recipe asks for other networks, BackendError when the folder is damaged."""
        parent = cls(folder, Facts.read(folder))
        had = Recipe.from_json(parent.facts.about["recipe"]).video
        other = [name for name in OF_NETWORKS if getattr(recipe.video, name) != getattr(had, name)]
        if other:
            raise InvalidInput(
                f"{other[0]} differs from what the version that answers was trained with, and start = {recipe.start!r} "
                "builds on its networks; leave it as it was, or start anew",
                f"recipe.video.{other[0]}",
            )
        return parent

    def check(self, preparation: Preparation) -> None:
        """Raises InvalidInput for pictures of another size, which are of another camera."""
        had, has = self.facts.background.shape, preparation.background.shape
        if had != has:
            raise InvalidInput(
                f"the pictures are {has[1]} x {has[0]} and the version that answers has learnt {had[1]} x {had[0]}; "
                "start anew",
                "video",
            )

    def check_newer(self, snapshot: Snapshot) -> None:
        """Raises InvalidInput where the threshold would be chosen from the video that it was chosen from before."""
        try:
            before = open_snapshot(snapshot.path.parent, self.facts.about["snapshot"])
        except KeepfitError:  # it was removed: nobody can tell
            return
        if set(before.rows(Split.VALIDATION).contents) & set(snapshot.rows(Split.VALIDATION).contents):
            raise InvalidInput(
                "the threshold would be chosen from the same video as before; bring newer video to recalibrate with: "
                "keepfit train NEWER.mp4 --start recalibrate",
                "recipe.start",
            )

    def denoiser(self) -> network.Denoiser:
        """Its denoiser, to be trained on."""
        shape = network.DenoiserShape.from_json(self.facts.about["denoiser"]["shape"])
        return weights.load(network.Denoiser(shape), self.folder / "weights" / "denoiser.safetensors").train()

    def hand_down(self, draft: Path) -> None:
        """Both networks as they are, in the form in which the phases of a training leave them; safe to repeat."""
        for name in ("ir", "weights"):
            shutil.copytree(self.folder / name, draft / name, dirs_exist_ok=True)
        if self.facts.about["format"] < ANY_SIZE:
            export_denoiser(self.denoiser().eval(), draft / "ir" / "denoiser.xml")
        for name in ("denoiser", "head"):
            write_json(draft / f"{name}.json", self.facts.about[name])
