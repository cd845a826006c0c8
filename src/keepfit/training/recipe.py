"""Recipe: the frozen hyper-parameters of one training. Everything that changes the result is in here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from keepfit.errors import SettingsError

Truncation = Literal["head", "head+tail"]
Start = Literal["new", "warm", "recalibrate", "steps"]


@dataclass(frozen=True)
class VideoRecipe:
    """What the training of a video model depends on; see docs/video.md."""

    profile: Literal["auto", "demo", "cpu", "gpu"] = "auto"
    """The size of the denoiser; auto: gpu where CUDA is there, else cpu."""
    budget_minutes: float = 20.0
    """Time for a training. A short probe makes numbers of steps and sequences of it."""
    steps: int = 0
    """Steps of the denoiser; 0: from the budget. Set it where a training must be repeatable to the digit."""
    sequences: int = 0
    """Clips with synthetic events that the head learns from; 0: from the budget."""
    long_side: int = 384
    """Pictures are made smaller until their long side is at most this."""
    head: Literal["cells", "global", "cnn_only", "none"] = "cells"
    """cells: an LSTM per cell of the picture; global: one for the whole; cnn_only: no memory; none: plain errors."""
    alarms_per_day: float = 1.0
    """The budget of false alarms of one camera."""
    gating: bool = True
    """Places that look like the empty scene are not judged: they cost nothing, and count as without error."""
    drop: float = 0.03
    """Share of the clips, the hardest ones, that the denoiser does not learn from: they may be anomalies."""

    def __post_init__(self) -> None:
        if self.budget_minutes <= 0 or self.alarms_per_day <= 0 or not 0 <= self.drop < 0.5:
            raise SettingsError("recipe.video needs budget_minutes > 0, alarms_per_day > 0 and 0 <= drop < 0.5")
        if not 64 <= self.long_side <= 2048:
            raise SettingsError("recipe.video.long_side must lie between 64 and 2048")


@dataclass(frozen=True)
class Recipe:
    """What a training depends on besides its data. A retraining uses its champion's recipe unless told otherwise."""

    backbone: str = "minilm"
    """`minilm` (embedded), a hub name such as distilbert-base-uncased, or a folder."""
    max_tokens: int = 256
    truncation: Truncation = "head+tail"
    epochs: float = 0.0
    """Passes over the train part; 0 means: chosen from its size (few rows need more passes). A warm start takes
    `warm_share` of them."""
    warm_share: float = 0.6
    """Of the passes, for a training that goes on from the weights of the version that answers."""
    short_passes: float = 0.0
    """Of these, so many at the beginning read only `short_tokens`; cheap, and enough to learn the rough part."""
    short_tokens: int = 0
    """Tokens read in the short passes, less than max_tokens; 0 means a third of it."""
    batch_size: int = 32
    tokens_per_batch: int = 0
    """Batches of so many tokens (with padding) instead of `batch_size` rows, at most four times as many; 0: of rows."""
    frozen_layers: int = 0
    """The embeddings and so many of the lowest layers do not learn; what they give is computed once for each text, and
    kept on the disk for later passes and later trainings."""
    frozen_cache_gb: float = 8.0
    """Gigabytes that is kept of it, of all models of a project; 0: nothing, and it is computed in each pass."""
    lora_rank: int = 0
    """Instead of the layers' weights, adapters of this rank learn beside their query and value projections (LoRA), ten
    times as fast; 0: the weights."""
    learning_rate: float = 1e-4
    warmup: float = 0.1
    """Share of the steps with a rising learning rate; then it falls linearly to zero."""
    weight_decay: float = 0.01
    patience: int = 3
    """Evaluations on the validation part without a lower loss before stopping early."""
    class_weights: Literal["auto", "none", "balanced"] = "auto"
    """auto: balanced when the largest class is over three times the smallest."""
    label_smoothing: float = 0.0
    lower_case: bool | None = None
    """None: whatever the backbone's tokenizer does."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """The arithmetic of training; auto measures both for a few steps and takes the faster."""
    inference: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    """The arithmetic of answering; auto takes int8, then bf16, then fp32: the first that loses no accuracy."""
    abstain_below: float | None = None
    seed: int = 17
    start: Start = "new"
    """What the version that answers gives to the next: nothing; its weights, to train on (warm); or its networks as
    they are, so that only what is usual and the threshold are learnt (recalibrate). steps: these in turn, the cheapest
    first; a finished version names the one that was taken. Not every task has more than new."""
    video: VideoRecipe = VideoRecipe()
    """Of a video model; the settings of text models above, but precision, inference and seed, do not concern it."""

    def __post_init__(self) -> None:
        if (
            self.epochs < 0
            or self.short_passes < 0
            or self.batch_size < 1
            or self.max_tokens < 8
            or not 0 <= self.warmup < 1
        ):
            raise SettingsError(
                "the recipe needs epochs >= 0, short_passes >= 0, batch_size >= 1, max_tokens >= 8 and 0 <= warmup < 1"
            )
        if self.short_tokens and not 8 <= self.short_tokens < self.max_tokens:
            raise SettingsError(f"short_tokens must be 0, or between 8 and max_tokens - 1 ({self.max_tokens - 1})")
        if self.tokens_per_batch and self.tokens_per_batch < self.max_tokens:
            raise SettingsError(f"tokens_per_batch must be 0, or at least max_tokens ({self.max_tokens}): one row's")
        if not 0 < self.warm_share <= 1:
            raise SettingsError("warm_share must lie above 0, and be 1 at most")
        if self.frozen_layers < 0 or self.frozen_cache_gb < 0 or self.lora_rank < 0:
            raise SettingsError("the recipe needs frozen_layers >= 0, frozen_cache_gb >= 0 and lora_rank >= 0")
        if self.abstain_below is not None and not 0 < self.abstain_below < 1:
            raise SettingsError("abstain_below must lie between 0 and 1")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """Raises SettingsError on an unknown name."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise SettingsError(
                f"unknown recipe setting {unknown[0]!r}; known are {', '.join(cls.__dataclass_fields__)}"
            )
        known = dict(values)
        if isinstance(known.get("video"), Mapping):
            known["video"] = VideoRecipe(**known["video"])
        return cls(**known)

    def with_(self, **changes: Any) -> Recipe:
        """A copy with some values changed."""
        return replace(self, **changes)

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with any value."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]
