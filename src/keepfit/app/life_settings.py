"""The settings of a model that say how it lives: rollout, watch, prices, retraining."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from keepfit.app.setting_values import Duration, Section, Share
from keepfit.clock import spelt


class RolloutSettings(Section):
    """`[models.NAME.rollout]`: how a version that passed its gate earns its traffic; see docs/rollout.md."""

    strategy: Literal["immediate", "shadow", "canary", "blue_green", "ab"] = Field(
        "immediate",
        description="immediate: all at once; shadow: asked but not heard first; canary: growing shares; blue_green: "
        "both warm, one switch; ab: fixed shares until one is better.",
    )
    steps: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.01, 0.05, 0.25), min_length=1, description="Of canary: growing shares of the traffic before it gets all."
    )
    bake: Duration = Field(timedelta(minutes=10), description="Each step before that lasts so long at least.")
    share: float = Field(0.5, gt=0, le=0.5, description="Of ab: the challenger's share.")
    lasts: Duration = Field(timedelta(days=7), description="Of ab: for so long, unless it is decided earlier.")
    longest: Duration = Field(timedelta(days=7), description="After so long without proof it ends as `undecided` says.")
    undecided: Literal["champion", "challenger"] = Field("champion", description="Who stays when nothing is proven.")
    watched: Duration = Field(
        timedelta(hours=1), description="With all the traffic it can still be taken back for so long."
    )
    level: float = Field(0.05, gt=0, lt=0.5, description="Chance of taking back a challenger that is as good.")
    margin: float = Field(0.05, gt=0, lt=0.5, description="Its accuracy must be proven not to be lower by so much.")
    better_by: float | None = Field(
        None,
        ge=0,
        lt=0.5,
        description="It must be proven to be better by more than this (0: at all); unset: not worse by `margin`.",
    )
    min_labels: int = Field(30, ge=1, description="Labels of examples that both answered, before it goes on.")
    protect: tuple[str, ...] = Field((), description="Context values on none of whose slices it may be worse.")
    tolerance: float = Field(1.5, ge=1, description="An event may be so many times as frequent as with the champion.")
    max_failures: float = Field(0.01, gt=0, lt=1, description="Share of requests that it may fail to answer.")
    confirm: bool = Field(False, description="All the traffic waits for `keepfit approve`.")

    @model_validator(mode="after")
    def each_setting_concerns_the_strategy(self) -> RolloutSettings:
        """A setting that the strategy would pass over in silence is refused."""
        foreign = sorted(self.model_fields_set - EVERY_ROLLOUT - OF_ROLLOUTS[self.strategy])
        if foreign:
            raise ValueError(f"{foreign[0]} does not concern the strategy {self.strategy!r}; leave it out")
        if {"margin", "better_by"} <= self.model_fields_set and self.better_by is not None:
            raise ValueError("give margin (not worse by so much) or better_by (better by so much), not both")
        if any(a >= b for a, b in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError("the shares of steps must grow, such as [0.01, 0.05, 0.25]")
        baking = self.bake * (len(self.steps) if self.strategy == "canary" else 1)
        if self.strategy in ("canary", "shadow") and baking >= self.longest:
            raise ValueError(
                f"longest ({spelt(self.longest)}) must be longer than all steps bake together ({spelt(baking)})"
            )
        return self


EVERY_ROLLOUT = frozenset({"strategy", "level", "protect", "tolerance", "max_failures"})
PROVEN = frozenset({"bake", "watched", "longest", "undecided", "margin", "better_by", "min_labels", "confirm"})
OF_ROLLOUTS: Mapping[str, frozenset[str]] = {
    "immediate": frozenset({"watched"}),
    "shadow": PROVEN,
    "canary": PROVEN | {"steps"},
    "blue_green": frozenset({"bake", "watched", "confirm"}),
    "ab": frozenset({"share", "lasts", "undecided", "better_by"}),
}
"""What each strategy heeds besides what all do."""


class LabelParts(Section):
    """`[models.NAME.watch.label_parts]`: how the label rate is shared out; the parts add up to 1."""

    uniform: float = Field(0.4, gt=0, le=1, description="Of all answers alike: what measures everywhere.")
    disagreement: float = Field(
        0.2, ge=0, le=1, description="Where the two versions of a rollout disagree; without a rollout uniform, too."
    )
    uncertain: float = Field(
        0.4, ge=0, le=1, description="Where the model is unsure, spread over kinds of input; waits during a rollout."
    )

    @model_validator(mode="after")
    def add_up(self) -> LabelParts:
        """Shares of something that is not whole would be guessed at."""
        total = self.uniform + self.disagreement + self.uncertain
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the parts must add up to 1, not {total:g}; name all three of them")
        return self


class WatchSettings(Section):
    """`[models.NAME.watch]`: what is measured, how often, and how many labels are asked for."""

    every: Duration = Field(
        timedelta(minutes=1), description="Time between two checks; new labels that measure bring one on after 10 s."
    )
    window: Duration = Field(timedelta(days=1), description="The stretch of predictions that a check measures.")
    label_window: Duration = Field(
        timedelta(days=30), description="Labels that arrived within this time measure accuracy."
    )
    label_rate: Share = Field(0.05, description="Share of predictions whose label is asked for, at random.")
    label_budget: int = Field(200, ge=0, description="Labels asked for per day at most.")
    label_parts: LabelParts = Field(LabelParts(), description="How the label rate is shared out.")
    audit_rate: Share = Field(
        0.0,
        description="For complete: share of answers checked blindly, which corrects for errors that nobody noticed.",
    )
    cohorts: Share = Field(
        0.0,
        description="Asked labels judge (accuracy, harm, worth, rollouts) once this share of those asked for on the "
        "same day are in; 0: each as it arrives.",
    )
    min_predictions: int = Field(30, ge=1, description="Smaller windows are measured but never breach.")
    drift_run_length: float = Field(
        1e6, ge=1000, le=1e12, description="Answers between two false alarms of input drift, on average at least."
    )
    drift_label_rate: float = Field(
        2.0,
        ge=1,
        le=20,
        description="For a day after such an alarm label_rate is so many times as high, in the budget.",
    )
    estimate_accuracy: bool = Field(True, description="Estimate the accuracy without labels, with an interval.")
    detectors: Mapping[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Classical detectors with the score that is a breach, such as {mmd = 0.95}; see docs/watching.md.",
    )
    folder: Path | None = Field(None, description="A file that appears here is an event of the kind new_data.")
    holdout: Share = Field(0.4, description="Share of the new labels kept for the gate, never trained on.")
    recent_share: Share = Field(0.5, description="Share of the training weight that new labels get together.")

    @field_validator("detectors")
    @classmethod
    def each_detector_is_known(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        """An unknown name is refused with the nearest known one."""
        for name in value:
            if name not in DETECTORS:
                near = difflib.get_close_matches(name, DETECTORS, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(DETECTORS))}"
                raise ValueError(f"there is no detector {name!r}; {hint}")
        return value


DETECTORS = frozenset({"mean_shift", "ks", "mmd", "classifier", "psi"})
"""What `watch.detectors` may name."""


class PriceSettings(Section):
    """`[models.NAME.prices]`: what a mistake and a retraining cost, in one currency, for triggers that weigh them."""

    currency: Literal["mistakes", "seconds", "money"] = Field(
        "mistakes", description="What the other prices are in; money: in the currency of `[costs]`."
    )
    mistake: float | None = Field(
        None, gt=0, description="Price of a wrong answer; needed with seconds and money, 1 with mistakes."
    )
    hour: float | None = Field(
        None, ge=0, description="Price of an hour of training; unset: 100 mistakes, or by the prices of `[costs]`."
    )
    label: float | None = Field(
        None, ge=0, description="Price of a label; unset: 1 mistake, 30 seconds, or `costs.per_label`."
    )
    labels: int = Field(0, ge=0, description="Labels that a retraining needs besides those that the watch asks for.")
    fixed: float = Field(0.0, ge=0, description="What each retraining costs besides, such as somebody's look at it.")

    @model_validator(mode="after")
    def one_currency(self) -> PriceSettings:
        """A price that contradicts the currency, or that nothing would come of, is refused."""
        if self.currency == "mistakes" and self.mistake is not None and self.mistake != 1:
            raise ValueError(
                'a mistake costs 1 where currency = "mistakes"; leave mistake out, or set seconds or money'
            )
        if self.currency != "mistakes" and self.mistake is None:
            raise ValueError(f"with currency = {self.currency!r} say what a wrong answer costs: set mistake")
        if self.currency == "seconds" and self.hour is not None:
            raise ValueError('an hour has 3600 seconds; leave hour out where currency = "seconds"')
        if self.label is not None and not self.labels:
            raise ValueError("label is the price of each of labels; set labels, or leave it out")
        return self


class RetrainingSettings(Section):
    """`[models.NAME.retraining]`: what a retraining learns from, and what may spare it; see docs/decisions.md."""

    window: Literal["auto", "all", "half", "quarter", "eighth", "since", "recency", "replay", "similar"] = Field(
        "all",
        description="Which past is learnt from: auto compares the others by the newest random labels; all; the newest "
        "half, quarter or eighth; since the change; recency: the newer the heavier; replay: recent and old rows, half "
        "of the weight each; similar: like the newest traffic.",
    )
    cheaper: tuple[Literal["mix", "earlier"], ...] = Field(
        ("mix", "earlier"),
        description="Tried before a training that harm calls for: mix, the champion corrected for the class mix; "
        "earlier, a version that served before. Empty: nothing.",
    )
    new_classes: Literal["propose", "grow", "ignore"] = Field(
        "propose",
        description="Labels of a class that the model does not know: propose it to people (`keepfit classes`), grow: "
        "learn it at the next training, ignore: refuse them.",
    )
    level: float = Field(0.05, gt=0, lt=0.5, description="Of each test by which these are chosen.")
