"""The settings of a model that say how it learns: columns, recipe, gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import (
    Field,
)

from keepfit.app.setting_values import Section, Share


class ColumnSettings(Section):
    """`[models.NAME.columns]`: which columns of a file mean what; what is left out is guessed."""

    text: tuple[str, ...] = Field((), description="One or several text columns, joined in this order.")
    label: str | None = Field(None, description="The column of the classes.")
    id: str | None = Field(None, description="The user's own id of an example.")
    key: str | None = Field(None, description="What stays together: a user, a ticket queue.")
    time: str | None = Field(None, description="When the example happened.")
    split: str | None = Field(None, description="train, validation or test; overrides the split by hash.")
    context: tuple[str, ...] = Field((), description="Columns kept as context of the example (slices).")


class VideoRecipeSettings(Section):
    """`[models.NAME.recipe.video]`: how a video model is trained; see docs/video.md."""

    profile: Literal["auto", "demo", "cpu", "gpu"] = Field(
        "auto", description="Size of the denoiser; auto: gpu where CUDA is there, else cpu."
    )
    budget_minutes: float = Field(20.0, gt=0, description="Time for a training; steps and clips follow from it.")
    steps: int = Field(0, ge=0, description="Steps of the denoiser; 0: from the budget.")
    sequences: int = Field(0, ge=0, description="Clips with synthetic events for the head; 0: from the budget.")
    long_side: int = Field(384, ge=64, le=2048, description="Pictures are made smaller until this is their long side.")
    head: Literal["cells", "global", "cnn_only", "none"] = Field(
        "cells", description="cells: an LSTM per cell; global: one for the picture; cnn_only: no memory; none: errors."
    )
    alarms_per_day: float = Field(1.0, gt=0, description="The budget of false alarms of one camera.")
    gating: bool = Field(True, description="Places that look like the empty scene are not judged; faster.")
    drop: float = Field(0.03, ge=0, lt=0.5, description="Share of the hardest clips that are not learnt from.")


class RecipeSettings(Section):
    """`[models.NAME.recipe]`: how a model is trained; see `training/recipe.py` for the meaning of each."""

    backbone: str = Field(
        "minilm", description="minilm (embedded), a hub name such as distilbert-base-uncased, or a folder."
    )
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are truncated to this many tokens.")
    truncation: Literal["head", "head+tail"] = Field("head+tail", description="Which part of a long text is kept.")
    epochs: float = Field(0.0, ge=0, description="Passes over the training part; 0: chosen from its size.")
    warm_share: float = Field(0.6, gt=0, le=1, description="Of the passes, for a warm start.")
    short_passes: float = Field(
        0.0, ge=0, description="So many of the passes see the texts cut short: cheap, and early."
    )
    short_tokens: int = Field(0, ge=0, description="Tokens read in the short passes; 0: a third of max_tokens.")
    batch_size: int = Field(32, ge=1, description="Examples in a training step.")
    tokens_per_batch: int = Field(
        0, ge=0, description="Batches of so many tokens, padding included, instead of batch_size examples; 0: examples."
    )
    frozen_layers: int = Field(
        0, ge=0, description="So many of the lowest layers do not learn; what they give is computed once per text."
    )
    frozen_cache_gb: float = Field(8.0, ge=0, description="Gigabytes kept of what frozen layers give, in all; 0: none.")
    lora_rank: int = Field(
        0, ge=0, description="Adapters of this rank learn instead of whole weights (LoRA); 0: weights."
    )
    learning_rate: float = Field(1e-4, gt=0, description="The peak of the learning rate.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    patience: int = Field(3, ge=1, description="Evaluations without a lower validation loss before stopping.")
    class_weights: Literal["auto", "none", "balanced"] = Field(
        "auto", description="auto: balanced when unbalanced by 3:1."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the loss.")
    lower_case: bool | None = Field(None, description="Lower-case texts first; unset: as the backbone does.")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="Arithmetic of training; auto measures.")
    inference: Literal["auto", "int8", "bf16", "fp32"] = Field("auto", description="Arithmetic of answering.")
    abstain_below: float | None = Field(None, gt=0, lt=1, description="Below this score no label is given.")
    seed: int = Field(17, description="Seed of everything random in training.")
    start: Literal["new", "warm", "recalibrate", "steps"] = Field(
        "new",
        description="What a retraining takes over from the version that answers: nothing, its weights (warm), of video "
        "also its networks as they are (recalibrate); steps: in turn, the cheapest first.",
    )
    video: VideoRecipeSettings = VideoRecipeSettings()


class GateSettings(Section):
    """`[models.NAME.gate]`: what a candidate must prove before it is served."""

    level: float = Field(0.05, gt=0, lt=0.5, description="Level of the paired test.")
    min_evidence: int = Field(30, ge=1, description="Held-out labels since the change that the test needs at least.")
    guard_margin: Share = Field(0.05, description="No class may fall by more than this on the old held-out data.")
    not_worse_margin: Share = Field(0.01, description="A routine candidate may be this much worse on recent labels.")
    floors: Mapping[str, float] = Field(
        default_factory=lambda: {"accuracy": 0.5}, description="Metric floors, also for the first version."
    )
    latency_ms: float | None = Field(None, gt=0, description="Median time for one text that is allowed.")
    latency_ratio: float = Field(2.0, gt=0, description="Allowed latency as a multiple of the champion's.")
    max_negative_flips: Share = Field(0.1, description="Share of old held-out rows that may turn from right to wrong.")
    must_hold: str | None = Field(None, description="A file with text,label rows that every candidate must get right.")
    invariances: Mapping[str, float] = Field(
        default_factory=lambda: {"case": 0.1, "spaces": 0.02, "typos": 0.2},
        description="Tolerated share of changed answers: case, spaces, typos, names.",
    )
    names: tuple[str, ...] = Field((), description="Names to swap for the names invariance.")
    cost: Mapping[str, Mapping[str, float]] | None = Field(
        None, description="Cost matrix: true label -> said label -> cost."
    )
    metric: str | None = Field(None, description="A user's own metric, module:function(truth, scores) -> float.")
