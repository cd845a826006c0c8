"""Settings: read once from keepfit.toml and KEEPFIT_*, typed and frozen; unknown keys are refused."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from keepfit.clock import spelt
from keepfit.errors import NotFound, SettingsError
from keepfit.redaction import remember, remember_address
from keepfit.triggers.policies import trigger_from

FILE = "keepfit.toml"
PREFIX = "KEEPFIT_"
NOT_SETTINGS = frozenset({"KEEPFIT_DATA", "KEEPFIT_PROJECT", "KEEPFIT_PROMETHEUS", "KEEPFIT_TOKEN"})
"""Names that mean something else: the data of the benchmarks, a server process's project, the Prometheus of the tests,
`keepfit stream`'s token."""
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(value: Any) -> Any:
    """A stretch of time from "90s", "15m", "12h", "7d", "2w" or a number of seconds.

    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*", value)
        if match is None:
            raise ValueError('write a duration like "90s", "15m", "12h" or "7d"')
        return timedelta(seconds=float(match[1]) * UNITS[match[2]])
    return timedelta(seconds=value) if isinstance(value, int | float) else value


def secret(value: Any) -> Any:
    """A text, or where it lies: env:NAME or file:PATH."""
    if isinstance(value, str) and value.startswith("env:"):
        found = os.environ.get(value[4:])
        if found is None:
            raise ValueError(f"the environment variable {value[4:]} is not set")
        return found
    if isinstance(value, str) and value.startswith("file:"):
        try:
            return Path(value[5:]).read_text("utf-8").strip()
        except OSError as error:
            raise ValueError(f"{value[5:]} cannot be read: {error.strerror}") from error
    return value


def zone(value: str) -> str:
    """A name that the time zone data base knows."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone; write one like Europe/Berlin or UTC") from error
    return value


Duration = Annotated[timedelta, BeforeValidator(duration)]
Age = Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(0))]
Secret = Annotated[SecretStr, BeforeValidator(secret)]
Place = Annotated[str | None, BeforeValidator(secret)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """What all sections have in common: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


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
    drop: float = Field(0.03, ge=0, lt=0.5, description="Share of the hardest clips that are not learnt from.")


class RecipeSettings(Section):
    """`[models.NAME.recipe]`: how a model is trained; see `training/recipe.py` for the meaning of each."""

    backbone: str = Field(
        "minilm", description="minilm (embedded), a hub name such as distilbert-base-uncased, or a folder."
    )
    max_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are truncated to this many tokens.")
    truncation: Literal["head", "head+tail"] = Field("head+tail", description="Which part of a long text is kept.")
    epochs: float = Field(
        0.0, ge=0, description="Passes over the training part, 0.6 of them for a warm start; 0: chosen from its size."
    )
    short_passes: float = Field(
        0.0, ge=0, description="So many of the passes see the texts cut short: cheap, and early."
    )
    short_tokens: int = Field(0, ge=0, description="Tokens read in the short passes; 0: a third of max_tokens.")
    batch_size: int = Field(32, ge=1, description="Examples in a training step.")
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
        description="Labels count once this share of those asked for on the same day are in; 0: each as it arrives.",
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


class ModelSettings(Section):
    """`[models.NAME]`: one model."""

    task: Literal["text", "video", "toy"] = Field("text", description="The kind of problem.")
    labels: Literal["volunteered", "complete"] = Field("volunteered", description="What unasked labels are.")
    settle_after: Duration = Field(
        timedelta(days=7), description="For complete: silence this long confirms the answer."
    )
    approval: bool = Field(False, description="A version that passed its gate waits for `keepfit approve`.")
    columns: ColumnSettings = ColumnSettings()
    recipe: RecipeSettings = RecipeSettings()
    gate: GateSettings = GateSettings()
    watch: WatchSettings = WatchSettings()
    rollout: RolloutSettings = RolloutSettings()
    prices: PriceSettings = PriceSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    triggers: tuple[Mapping[str, Any], ...] = Field(
        (
            {"kind": "accuracy_floor", "floor": 0.80},
            {"kind": "all_of", "triggers": [{"kind": "period", "days": 30}, {"kind": "new_labels", "amount": 100}]},
            {"kind": "on_demand"},
            {"kind": "on_event"},
        ),
        description="Rules that call for a retraining; any of them suffices.",
    )
    cooldown: Duration = Field(timedelta(hours=1), description="Rest after an attempt; a person's demand passes.")
    warmup: Duration = Field(
        timedelta(0), description="No trigger but a person's demand fires this soon after a deployment."
    )

    @model_validator(mode="before")
    @classmethod
    def defaults_of_the_task(cls, values: Any) -> Any:
        """What a video model has in the place of the defaults for texts."""
        if isinstance(values, Mapping) and values.get("task") == "video":
            gate = values.get("gate", {})
            known = {**values, "gate": {"floors": {"auc": VIDEO_FLOOR}, **gate} if isinstance(gate, Mapping) else gate}
            return {"triggers": ({"kind": "on_demand"}, {"kind": "on_event"}), **known}
        return values

    @model_validator(mode="after")
    def each_setting_concerns_the_task(self) -> ModelSettings:
        """A setting that the task would pass over in silence is refused."""
        if self.task == "video":
            foreign = [f"recipe.{name}" for name in sorted(self.recipe.model_fields_set - OF_VIDEO)]
            foreign += [f"gate.{name}" for name in sorted(self.gate.model_fields_set & OF_TEXT_GATES)]
            foreign += [f"watch.{name}" for name in sorted(self.watch.model_fields_set & OF_TABLES)]
            foreign += ["columns"] if self.columns.model_fields_set else []
            foreign += ["retraining"] if self.retraining.model_fields_set else []
        else:
            foreign = ["recipe.video"] if "video" in self.recipe.model_fields_set else []
            foreign += ["recipe.start = 'recalibrate'"] if self.recipe.start == "recalibrate" else []
        if foreign:
            raise ValueError(f"{foreign[0]} does not concern the task {self.task!r}; leave it out")
        self.each_concerns_the_labels()
        return self

    def each_concerns_the_labels(self) -> None:
        """An audit looks for what silence has confirmed, and takes the place of all other asking."""
        if self.watch.audit_rate and self.labels != "complete":
            raise ValueError('watch.audit_rate concerns labels = "complete" alone; leave it out')
        if self.watch.audit_rate and self.watch.model_fields_set & {"label_rate", "label_parts", "cohorts"}:
            raise ValueError("watch.audit_rate takes the place of label_rate, label_parts and cohorts; leave them out")


VIDEO_FLOOR = 0.6
"""Area under the curve on the test windows that a video model needs, unless set."""
OF_VIDEO = frozenset({"precision", "inference", "seed", "start", "video"})
"""What a video model heeds of `[models.NAME.recipe]`."""
OF_TABLES = frozenset({"folder", "recent_share", "estimate_accuracy"})
"""Of `[models.NAME.watch]`: files that appear are read as tables, a video's windows have no weights, and half of its
test part is made of events, which says nothing of the accuracy in life."""
OF_TEXT_GATES = frozenset({"must_hold", "invariances", "names"})


class ServerSettings(Section):
    """`[server]`: the HTTP server."""

    host: str = Field("127.0.0.1", description="Any other address than loopback needs tokens.")
    port: int = Field(8080, ge=0, le=65535, description="The port.")
    threads: int = Field(32, ge=1, le=1024, description="Requests handled at once.")
    queue: int = Field(1024, ge=1, description="Texts that may wait; beyond it the answer is 429.")
    max_body_mb: float = Field(10.0, gt=0, description="Larger request bodies are refused.")
    max_upload_mb: float = Field(1024.0, gt=0, description="Larger batch files and videos are refused.")
    max_texts: int = Field(1000, ge=1, description="Texts in one call.")
    max_clip_s: float = Field(120.0, gt=0, description="Seconds of a video in one call; longer ones go to batch.")
    max_streams: int = Field(64, ge=1, description="Cameras with an open session; beyond it the answer is 429.")
    stream_idle: Duration = Field(timedelta(minutes=10), description="A session that is silent so long is dropped.")
    cache_mb: float = Field(64.0, ge=0, description="Size of the answer cache; 0 switches it off.")
    engine_threads: int = Field(0, ge=0, description="Threads of the engine; 0: all cores.")
    timeout: Duration = Field(
        timedelta(seconds=30), description="An answer that takes longer is 503; a video gets thirty times as long."
    )
    header_timeout: Duration = Field(
        timedelta(seconds=10), description="A client that takes longer to send its headers is cut off."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Of one address, while no tokens are set; unset: no limit. Tokens have their own."
    )
    labels_per_day: int | None = Field(
        None, ge=1, description="New labels a day (UTC) of all callers without a token together; unset: no limit."
    )

    @field_validator("timeout", "header_timeout")
    @classmethod
    def takes_time(cls, value: timedelta) -> timedelta:
        """No time at all would refuse everyone."""
        if value <= timedelta(0):
            raise ValueError('write a time above zero, such as "30s"')
        return value


class WorkerSettings(Section):
    """`[worker]`: the watcher and the job queue."""

    threads: int = Field(0, ge=0, description="Threads of training; 0: all cores.")
    niceness: int = Field(10, ge=0, le=19, description="Lower priority than answering by this much.")
    jobs_database: Place = Field(None, repr=False, description="DBOS system database; unset: .keepfit/jobs.db.")


class RetentionSettings(Section):
    """`[retention]`: how long things are kept (`..._for`) and how many of the newest (`..._most`, per model where they
    are a model's); 0 is no limit. What is needed stays in any case: see docs/operations.md.

    It is of the whole project, since snapshots, videos, files that were handed in and alerts are shared by its models.
    """

    predictions_for: Age = Field(timedelta(0), description="Answers with their examples, unless labelled or asked for.")
    predictions_most: int = Field(0, ge=0, description="Answers of a model.")
    versions_for: Age = Field(timedelta(0), description="Files of versions; what is known of a version stays.")
    versions_most: int = Field(0, ge=0, description="Versions of a model that keep their files.")
    snapshots_for: Age = Field(timedelta(0), description="Snapshots that no version, parent or retraining needs.")
    snapshots_most: int = Field(0, ge=0, description="Snapshots.")
    runs_for: Age = Field(timedelta(0), description="Runs of trainings and searches of which no version came.")
    runs_most: int = Field(0, ge=0, description="Such runs of a model.")
    checkpoints_for: Age = Field(
        timedelta(days=7),
        description="What finished or abandoned trainings and searches have left: .keepfit/work, and the trials.",
    )
    checkpoints_most: int = Field(0, ge=0, description="Folders in .keepfit/work, and searches.")
    videos_for: Age = Field(timedelta(0), description="Stored videos of which no snapshot or label has a window.")
    videos_most: int = Field(0, ge=0, description="Stored videos.")
    batches_for: Age = Field(timedelta(0), description="Files given to POST /batches, with their outputs.")
    batches_most: int = Field(0, ge=0, description="Such jobs that keep their files.")
    alerts_for: Age = Field(timedelta(0), description="Alerts in .keepfit/mailbox.")
    alerts_most: int = Field(0, ge=0, description="Such alerts.")
    quiet_checks_for: Age = Field(
        timedelta(0),
        description="Checks that came to nothing; older ones are thinned to one an hour, looks at a rollout to those "
        "with a new reason.",
    )


class EmailSettings(Section):
    """`[alerts.email]`: SMTP with STARTTLS and login."""

    host: str = Field("smtp.gmail.com", description="The SMTP server.")
    port: int = Field(587, description="Its port.")
    user: str = Field(description="Login.")
    password: Secret = Field(description="Password, best as env:NAME or file:PATH.")
    sender: str | None = Field(None, description="From address; unset: the user.")
    to: tuple[str, ...] = Field(description="To addresses.")


class AlertSettings(Section):
    """`[alerts]`: who must know?"""

    urls: tuple[Secret, ...] = Field((), description="Any URL that Apprise knows (Slack, Teams, ...).")
    email: EmailSettings | None = Field(None, description="E-mail by SMTP.")
    mailbox: bool = Field(True, description="Keep every alert as an .eml file in .keepfit/mailbox.")
    group_for: Duration = Field(timedelta(hours=1), description="Repeats within this time are grouped.")


class LogSettings(Section):
    """`[log]`: what the server and the worker write to standard error."""

    format: Literal["text", "json"] = Field("text", description="One line an event, for people or for programs.")
    access: Literal["none", "requests", "all"] = Field(
        "none", description="requests: a line for each HTTP request; all: also for /health and /metrics."
    )


Price = Annotated[float | None, Field(ge=0)]


class CostSettings(Section):
    """`[costs]`: what is paid for; without prices costs are told in seconds only."""

    currency: str = Field("EUR", pattern=r"^[A-Za-z$€£¥]{1,8}$", description="How prices and sums are named.")
    per_cpu_hour: Price = Field(None, description="Price of an hour of one core.")
    per_gpu_hour: Price = Field(None, description="Price of an hour during which a GPU is held.")
    per_label: Price = Field(None, description="Price of a label that was asked for.")
    per_kwh: Price = Field(None, description="Price of energy, where the machine tells what it used.")
    monthly_budget: float | None = Field(None, gt=0, description="For all models together; alerts say what is spent.")
    enforce: bool = Field(False, description="Once it is spent, only harm or a person begins a retraining.")
    warn_at: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.8, 1.0), description="Parts of the budget at which an alert is sent, each once a month."
    )

    @model_validator(mode="after")
    def each_setting_has_its_use(self) -> CostSettings:
        """A setting that nothing would come of is refused."""
        prices = (self.per_cpu_hour, self.per_gpu_hour, self.per_label, self.per_kwh)
        given = self.model_fields_set
        if all(price is None for price in prices) and given & {"currency", "monthly_budget"}:
            raise ValueError("without a price nothing can be told in money; set one, such as per_cpu_hour")
        if self.monthly_budget is None and given & {"enforce", "warn_at"}:
            raise ValueError("enforce and warn_at need monthly_budget; set it, or leave them out")
        return self


class Settings(Section):
    """The whole file."""

    timezone: Annotated[str, AfterValidator(zone)] = Field(
        "UTC", description="Rules schedules and days; stored times are UTC."
    )
    store: Place = Field(
        None, repr=False, description="Record store; unset: sqlite:///.keepfit/keepfit.db. Or a postgresql:// URL."
    )
    tracking: Place = Field(
        None, repr=False, description="MLflow; unset: sqlite:///.keepfit/mlflow.db. Or a server's URL, or local."
    )
    traces: bool = Field(
        False, description="Send OpenTelemetry traces, as OTEL_* in the environment says; needs keepfit[otel]."
    )
    tokens_required: bool = Field(False, description="Ask for tokens on loopback, too.")
    server: ServerSettings = ServerSettings()
    worker: WorkerSettings = WorkerSettings()
    alerts: AlertSettings = AlertSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    costs: CostSettings = CostSettings()
    models: Mapping[str, ModelSettings] = Field(
        default_factory=lambda: {"default": ModelSettings()},
        description="The models, by name; the first is the default.",
    )

    @model_validator(mode="after")
    def money_has_one_price(self) -> Settings:
        """Where prices are in money, an hour is priced by the model or by `[costs]`, not by both and not by none."""
        own = self.costs.per_cpu_hour is not None or self.costs.per_gpu_hour is not None
        for name, model in self.models.items():
            if model.prices.currency == "money" and own == (model.prices.hour is not None):
                both = (
                    "costs.per_cpu_hour (or per_gpu_hour) and hour are"
                    if own
                    else "neither costs.per_cpu_hour nor hour is"
                )
                raise ValueError(f"models.{name}.prices: {both} set; an hour of training needs one price")
        return self

    def model(self, name: str | None) -> tuple[str, ModelSettings]:
        """The named model, or the first. Raises NotFound."""
        chosen = name or next(iter(self.models))
        if chosen not in self.models:
            raise NotFound(f"there is no model {chosen!r}; keepfit.toml has {', '.join(self.models)}")
        return chosen, self.models[chosen]


def load(project: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of a project folder; a missing file means the defaults.

    `KEEPFIT_SERVER__PORT=9000` overrides `[server] port`: two underscores go one level down.
    Raises SettingsError with one sentence per problem.
    """
    file = project / FILE
    values: dict[str, Any] = {}
    try:
        if file.exists():
            values = tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            override(values, name[len(PREFIX) :].lower().split("__"), value, name)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(explain(e) for e in error.errors(include_url=False))) from error
    keep_secret(settings)
    check_names(settings)
    for name, model in settings.models.items():
        try:
            trigger_from(model.triggers)
        except SettingsError as error:
            raise SettingsError(f"setting models.{name}.triggers: {error}") from error
    return settings


def override(values: dict[str, Any], path: list[str], value: str, name: str) -> None:
    """Set one value from the environment: TOML syntax where it parses, else the text itself."""
    place = values
    for part in path[:-1]:
        below = place.setdefault(part, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{name} goes below {part!r}, which is a value")
        place = below
    try:
        place[path[-1]] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        place[path[-1]] = value


def keep_secret(settings: Settings) -> None:
    """Let no message, log or report of this process show what is secret in the settings."""
    for address in (settings.store, settings.tracking, settings.worker.jobs_database):
        if address is not None and (password := urlsplit(address).password):
            remember(password)
            remember(unquote(password))
    for url in settings.alerts.urls:
        remember_address(url.get_secret_value())
    if settings.alerts.email is not None:
        remember(settings.alerts.email.password.get_secret_value())


def check_names(settings: Settings) -> None:
    """Model names become folders and addresses."""
    if not settings.models:
        raise SettingsError("keepfit.toml names no model; write at least [models.default]")
    for name in settings.models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise SettingsError(f"{name!r} is no model name: use letters, digits, - and _")


def explain(error: Mapping[str, Any]) -> str:
    """One pydantic error as a sentence, with the nearest known name for an unknown key."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"setting {where}: {error['msg'].removeprefix('Value error, ')}"
    known = known_names(error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown setting {where}; {hint}"


def known_names(path: tuple[Any, ...]) -> list[str]:
    """The keys of the section at a path."""
    section: type[BaseModel] = Settings
    for number, part in enumerate(path):
        if section is Settings and part == "models":
            section = ModelSettings
        elif number and path[number - 1] == "models":
            continue
        else:
            inner = SECTIONS.get(str(part))
            section = inner if inner is not None else section
    return sorted(section.model_fields)


SECTIONS: Mapping[str, type[BaseModel]] = {
    "server": ServerSettings, "worker": WorkerSettings, "retention": RetentionSettings, "alerts": AlertSettings,
    "email": EmailSettings, "columns": ColumnSettings, "recipe": RecipeSettings, "video": VideoRecipeSettings,
    "gate": GateSettings, "watch": WatchSettings, "label_parts": LabelParts, "rollout": RolloutSettings,
    "log": LogSettings, "costs": CostSettings, "prices": PriceSettings, "retraining": RetrainingSettings,
}  # fmt: skip
