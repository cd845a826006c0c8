"""`[models.NAME]`: everything that is said of one model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from keepfit.app.cascade_settings import CascadeSettings
from keepfit.app.elsewhere_settings import ElsewhereSettings, FollowSettings, HandOverSettings, check_served
from keepfit.app.learning_settings import ColumnSettings, GateSettings, RecipeSettings
from keepfit.app.life_settings import PriceSettings, RetrainingSettings, RolloutSettings, WatchSettings
from keepfit.app.setting_values import Duration, Section
from keepfit.clock import spelt


class KeepSettings(Section):
    """`[models.NAME.keep]`: what of people's texts is stored; see docs/year.md for what then no longer works."""

    texts: Literal["all", "none"] = Field(
        "all",
        description="none: of an answered text only its hash is stored. The label queue then shows no texts, and "
        "nothing is learnt from life.",
    )
    mask: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="A function of yours, package.module:function, from a text to the text that is stored. One that "
        "fails lets nothing be stored.",
    )
    embeddings: float = Field(
        1.0,
        ge=0.001,
        le=1,
        description="The share of answers whose embedding is stored; the others do not tell of drift.",
    )

    @model_validator(mode="after")
    def there_is_something_to_mask(self) -> KeepSettings:
        """A mask for what is not stored would be passed over in silence."""
        if self.texts == "none" and self.mask is not None:
            raise ValueError('texts = "none" stores no text that mask could change; leave one of them out')
        return self


class ModelSettings(Section):
    """`[models.NAME]`: one model."""

    task: Literal["text", "video", "toy"] = Field("text", description="The kind of problem.")
    labels: Literal["volunteered", "complete"] = Field("volunteered", description="What unasked labels are.")
    settle_after: Duration = Field(
        timedelta(days=7), description="For complete: silence this long confirms the answer."
    )
    approval: bool = Field(False, description="A version that passed its gate waits for `keepfit approve`.")
    keep: KeepSettings = KeepSettings()
    served: Literal["here", "elsewhere"] = Field(
        "here", description="elsewhere: another system answers and keepfit watches; see docs/elsewhere.md."
    )
    columns: ColumnSettings = ColumnSettings()
    recipe: RecipeSettings = RecipeSettings()
    gate: GateSettings = GateSettings()
    watch: WatchSettings = WatchSettings()
    rollout: RolloutSettings = RolloutSettings()
    prices: PriceSettings = PriceSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    cascade: CascadeSettings = CascadeSettings()
    elsewhere: ElsewhereSettings = ElsewhereSettings()
    hand_over: HandOverSettings = HandOverSettings()
    follow: FollowSettings = FollowSettings()
    triggers: tuple[Mapping[str, Any], ...] = Field(
        (
            {"kind": "accuracy_floor", "floor": 0.80},
            {"kind": "all_of", "triggers": [{"kind": "period", "days": 30}, {"kind": "new_labels", "amount": 100}]},
            {"kind": "on_demand"},
            {"kind": "on_event"},
        ),
        description="Rules that call for a retraining; any of them suffices.",
    )
    cooldown: Duration = Field(
        timedelta(hours=1), description="Rest after an attempt, not after the first training; a person's demand passes."
    )
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
            foreign += ["keep"] if self.keep.model_fields_set else []
            foreign += ["retraining"] if self.retraining.model_fields_set else []
            foreign += ["cascade"] if self.cascade.model_fields_set else []
        else:
            foreign = ["recipe.video"] if "video" in self.recipe.model_fields_set else []
            foreign += ["recipe.start = 'recalibrate'"] if self.recipe.start == "recalibrate" else []
        if foreign:
            raise ValueError(f"{foreign[0]} does not concern the task {self.task!r}; leave it out")
        self.each_concerns_the_labels()
        check_served(self)
        return self

    def too_slow_to_prove(self) -> str | None:
        """Why a rollout that is judged by complete labels alone ends undecided; None where it need not."""
        wanted = self.rollout
        proving = {"shadow": ("longest", wanted.longest), "canary": ("longest", wanted.longest)}
        proving["ab"] = ("lasts", wanted.lasts)
        name, lasts = proving.get(wanted.strategy, ("", timedelta.max))
        if self.labels != "complete" or self.settle_after < lasts:
            return None
        return (
            f"a rollout ({wanted.strategy}) would end undecided: an answer counts {spelt(self.settle_after)} after it "
            f"was given [settle_after], and the rollout ends after {spelt(lasts)} [rollout.{name}]; set rollout.{name} "
            f"to {spelt(2 * self.settle_after)}, shorten settle_after, or answer the label queue, whose labels count "
            "at once"
        )

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
