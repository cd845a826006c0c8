"""`[models.NAME.cascade]`: whether a first stage answers what it is sure of, and what must be kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from keepfit.app.setting_values import Section
from keepfit.serving.cascade import CascadePlan
from keepfit.tasks.trade import Terms


class CascadeSettings(Section):
    """`[models.NAME.cascade]`: a first stage that answers what it is sure of; see docs/cascade.md."""

    keeps: Literal["off", "accuracy", "agreement"] = Field(
        "off",
        description="off: the full model answers everything; accuracy: both together are proven to be no less accurate "
        "than it; agreement: few answers differ from its.",
    )
    loss: float = Field(0.005, gt=0, lt=0.5, description="For accuracy: it may be lower by this much.")
    differing: float = Field(0.02, gt=0, lt=0.5, description="For agreement: the share of answers that may differ.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="With which this is proven.")
    control: float = Field(
        0.02, gt=0, lt=1, description="Share of all contents that the full model answers whatever they are: what the "
        "watch judges the first stage and the inputs by.",
    )  # fmt: skip
    least_share: float = Field(0.05, ge=0, lt=1, description="Answering less than this share it is switched off.")

    @model_validator(mode="after")
    def each_setting_has_its_use(self) -> CascadeSettings:
        """A setting that nothing would come of is refused."""
        given = self.model_fields_set
        if self.keeps == "off" and given - {"keeps"}:
            raise ValueError(f'{min(given - {"keeps"})} has no use while keeps is "off"; set keeps, or leave it out')
        foreign = {"accuracy": "differing", "agreement": "loss"}.get(self.keeps)
        if foreign in given:
            raise ValueError(f'{foreign} has no use where keeps is "{self.keeps}"; leave it out')
        return self

    def plan(self) -> CascadePlan | None:
        """None: off."""
        if self.keeps == "off":
            return None
        terms = Terms(self.keeps, self.loss, self.differing, self.confidence)
        return CascadePlan(terms, self.control, self.least_share)
