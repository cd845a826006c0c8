"""Schemas: what requests may bring and answers hold; the OpenAPI document is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    RootModel,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from keepfit.app.http.fields import Actor, Moment, Name, SentFile, Strict
from keepfit.app.http.video_schemas import VideoOut

ONE: list[Any] = [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]
TEXT: dict[str, Any] = {"anyOf": ONE}
"""One content: a text, or the text columns by name."""


class ExampleBody(Strict):
    """One content with what is known about it."""

    text: Any = Field(description="The text, or an object of the text columns.", json_schema_extra=TEXT)
    id: Name | None = Field(None, description="Your own id; a label may name it later.")
    key: Name | None = Field(None, description="What stays together (a user, a queue); answered by one version.")
    time: Moment | None = Field(None, description="When it happened; now, unless given.")
    context: dict[Name, Annotated[StrictStr, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=20, description="A few facts to slice by."
    )


class HuggingFaceParameters(Strict):
    """Of the Hugging Face form, what can be honoured."""

    function_to_apply: Literal["softmax"] | None = Field(
        None, description="Scores are always probabilities that sum to 1."
    )
    top_k: Annotated[StrictInt, Field(ge=1)] | None = Field(None, description="Only the so many best labels.")


HF_INPUTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class HuggingFaceBody(Strict):
    """Hugging Face's text-classification form."""

    inputs: Any = Field(description="A text or a list of texts.", json_schema_extra=HF_INPUTS)
    parameters: HuggingFaceParameters | None = None


class PredictBody(Strict):
    """Exactly one of `text`, `examples` and `inputs`."""

    text: Any = Field(
        None,
        description="One content, or a list of them.",
        json_schema_extra={"anyOf": [*ONE, {"type": "array", "minItems": 1, "items": TEXT}]},
    )
    examples: Annotated[list[ExampleBody], Field(min_length=1)] | None = None
    inputs: Any = Field(
        None,
        description="Hugging Face's text-classification form: a text or a list of texts.",
        json_schema_extra=HF_INPUTS,
    )
    parameters: HuggingFaceParameters | None = Field(None, description="Only with `inputs`.")

    @model_validator(mode="after")
    def one_form(self) -> PredictBody:
        """Raises ValueError (a 422) when it is not clear what is asked."""
        given = self.model_fields_set & {"text", "examples", "inputs"}
        if len(given) != 1:
            raise ValueError('give exactly one of "text", "examples" and "inputs"')
        if self.parameters is not None and "inputs" not in given:
            raise ValueError('"parameters" go with "inputs" only')
        return self


class PredictionOut(BaseModel):
    """One answer."""

    id: str = Field(description="The prediction's id; a label may name it later.")
    example_id: str = Field(description="Your own id, or the one that was made up.")
    label: str | None = Field(description="Null when the model would rather not say.")
    score: float
    probabilities: dict[str, float]
    model_version: int
    abstained: bool


class PredictionsOut(BaseModel):
    """The answers, in the order of the request."""

    predictions: list[PredictionOut]
    model_version: int | None = Field(description="Who answered; null when several versions did.")


class LabelScore(BaseModel):
    """Of the Hugging Face form: one label and its probability."""

    label: str
    score: float


class HuggingFaceOut(RootModel[list[list[LabelScore]]]):
    """The labels of each text by falling score."""


class PredictOut(RootModel[PredictionsOut | list[list[LabelScore]] | VideoOut]):
    """The answers; where `inputs` was asked, the labels of each text by falling score; of a video its own form."""


class LabelBody(Strict):
    """What was true of one example: name it one way, and say the label or that the answer was wrong."""

    question: Name | None = Field(
        None, description="The id of a question of GET /labels/queue; an audit is answered by it alone."
    )
    prediction_id: Name | None = Field(None, description="The id of an answer.")
    id: Name | None = Field(None, description="Your own id of the example.")
    text: Any = Field(
        None, description="The very text that was asked about; the latest counts.", json_schema_extra=TEXT
    )
    label: Name | None = Field(None, description="The true class.")
    new_class: StrictBool = Field(
        False, description="The label may be of a class that the model does not know yet: so a slip is not one."
    )
    wrong: StrictBool | None = Field(None, description="True: the other class was right (two classes only).")
    actor: Actor | None = Field(
        None, description="Who says so; recorded as TOKEN:actor, as it is from an admin or without tokens."
    )
    time: Moment | None = Field(None, description="When it became known; now, unless given.")

    @model_validator(mode="after")
    def one_example_one_truth(self) -> LabelBody:
        """Raises ValueError (a 422) when it is not clear what is meant."""
        if sum(value is not None for value in (self.question, self.prediction_id, self.id, self.text)) != 1:
            raise ValueError('name the example by exactly one of "question", "prediction_id", "id" and "text"')
        if (self.label is None) == (self.wrong is None):
            raise ValueError('give exactly one of "label" and "wrong"')
        if self.wrong is False:
            raise ValueError('"wrong": false says nothing; give the label')
        return self


class LabelsBody(Strict):
    """Labels, stored all or none."""

    labels: Annotated[list[LabelBody], Field(min_length=1)]


class LabelsOut(BaseModel):
    """How many labels were taken, and how many of them said something new."""

    accepted: int
    new: int


class QueueQuery(Strict):
    """How many at most."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 20


class QueueItemOut(BaseModel):
    """An example whose label is wanted."""

    question: str = Field(description="The id of the question; to answer an audit give this one.")
    prediction_id: str
    id: str = Field(description="The example's id.")
    text: Any = Field(json_schema_extra=TEXT)
    reason: str
    propensity: float = Field(description="The chance with which it was drawn.")
    asked_at: datetime
    labels: list[str] = Field(description="The classes that the model knew.")


class QueueOut(BaseModel):
    """What to label next, oldest first; while a rollout waits for proof first what its two versions disagree about."""

    items: list[QueueItemOut]


class BatchForm(Strict):
    """A file to be answered; which columns hold the text is in the settings, or guessed."""

    file: SentFile = Field(description="CSV, TSV, JSONL or Parquet; the first three plain or gzipped.")


class JobOut(BaseModel):
    """A job of the worker."""

    id: str
    model: str
    kind: str
    state: str = Field(description="waiting, running, done or failed.")
    step: str
    at: datetime
    finished_at: datetime | None
    result: dict[str, Any]


class RetrainBody(Strict):
    """Why, for the history."""

    reason: Name | None = None


class RetrainOut(JobOut):
    """The job; `joined` when one was under way already."""

    joined: bool
    worker: bool = Field(description="False: no worker runs, the job waits until one is started (keepfit up).")


class RollbackBody(Strict):
    """Back to the last version that really served, or to a named one."""

    to: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None


class ApproveBody(Strict):
    """The version that waits, named to be sure."""

    version: Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None


class DeploymentOut(BaseModel):
    """One row of the history."""

    id: int
    model: str
    at: datetime
    actor: str
    reason: str
    kind: str
    traffic: dict[str, float] = Field(description="Shares by version.")
    shadow: list[int]
    decision_id: str | None
    applied: list[dict[str, Any]] = Field(description="Which worker serves it, and since when.")


class EventBody(Strict):
    """Something that happened outside."""

    kind: Annotated[StrictStr, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_. -]*$")] = Field(
        description="new_data, upstream_change, release, or a word of your own that a trigger listens to."
    )
    details: dict[str, Any] = Field(default_factory=dict, max_length=50)


class EventOut(BaseModel):
    """The event's id."""

    id: str


class LimitQuery(Strict):
    """How many at most."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class DecisionsQuery(LimitQuery):
    """And of which subject: trigger, gate, rollout, retrain."""

    subject: Annotated[str, Field(max_length=100)] | None = None


class DecisionOut(BaseModel):
    """A judgement, with its reasons and numbers."""

    id: str
    model: str
    at: datetime
    subject: str
    outcome: str
    because: list[str]
    evidence: dict[str, Any]


class DecisionsOut(BaseModel):
    """Newest first."""

    decisions: list[DecisionOut]


class HistoryOut(BaseModel):
    """Newest first."""

    deployments: list[DeploymentOut]


class AccuracyOut(BaseModel):
    """Accuracy on asked and complete labels, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class LabelLagOut(BaseModel):
    """How soon questions of the label queue are answered, of those asked within the label window."""

    asked: int
    answered: int
    median_s: float | None = Field(description="Seconds from the model's answer to the label, of those that came.")
    p90_s: float | None
    by_age: dict[str, float | None] = Field(
        description="Of questions at least an hour, day, week, month old the share answered within that time."
    )


class RolloutOut(BaseModel):
    """A rollout under way."""

    version: int = Field(description="The challenger.")
    champion: int = Field(description="Who answers again if it is taken back.")
    strategy: str
    step: int = Field(description="Counted from 1.")
    share: float = Field(description="Of the requests, the challenger's.")
    began: datetime
    since: datetime = Field(description="When the present step began.")
    outcome: str | None = Field(description="What was decided last.")
    because: list[str]
    touched: int = Field(description="Answers of the challenger that users have seen.")


class CascadeOut(BaseModel):
    """Whether a first stage answers what it is sure of."""

    keeps: str = Field(description="off, accuracy or agreement, as set.")
    on: bool | None = Field(description="Null: the watch has not looked at it yet.")
    threshold: float | None = Field(description="The score from which on it answers.")
    share: float | None = Field(
        description="Of the latest answers that it was asked for (20,000 at most), the part that it gave."
    )
    because: str


class RetrainingOut(JobOut):
    """A retraining that waits or runs."""

    waits_because: str | None = Field(description="Why it waits, once that was judged; null while it does not.")


class MemoryOut(BaseModel):
    """What a model takes here."""

    files_bytes: int = Field(description="Files of every version on this disk.")
    resident_bytes_estimate: int = Field(description="Estimate: the weights of the versions in memory.")
    loaded: list[int] = Field(description="Versions in memory.")
    unloaded: bool = Field(description="Nobody asked for server.unload_idle_after; the next request loads it.")
    last_asked: datetime | None = Field(description="By anyone, of this process; null: not since it started.")


class ModelStatusOut(BaseModel):
    """Where one model stands."""

    name: str
    task: str
    champion: int | None
    elsewhere: str | None = Field(description="Under which name the champion is served elsewhere.")
    challenger: int | None
    traffic: dict[str, float]
    rollout: RolloutOut | None
    awaiting_approval: int | None
    accuracy: AccuracyOut | None
    label_lag: LabelLagOut | None
    last_check: DecisionOut | None
    retraining: RetrainingOut | None
    cascade: CascadeOut
    ready: str | None = Field(description="Null when all is well, else what is not.")
    memory: MemoryOut | None
    class_map: dict[str, Any] = Field(description="By which class map accuracy is counted: as_of, changes, newest.")


class DiskForecastOut(BaseModel):
    """When the disk of the state is full."""

    bytes_a_day: dict[str, int]
    free_bytes: int
    full_in_days: float | None
    because: str


class LabellingOut(BaseModel):
    """How much labelling a model asks for."""

    asked_a_day: float | None
    answered_a_day: float | None
    hours_a_week: float | None
    because: str


class ForecastOut(BaseModel):
    """What is to be expected, with what it rests on; null where it cannot be told yet."""

    at: str
    days: float
    disk: DiskForecastOut
    labels: dict[str, LabellingOut]


class StatusOut(BaseModel):
    """Where everything stands."""

    models: list[ModelStatusOut]
    default: str = Field(description="The model that the bare routes address.")
    version: str
    forecast: ForecastOut | None = Field(None, description="As the worker made it within the last hour.")


class ReadyOut(BaseModel):
    """The server can answer."""

    ready: bool


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = Field(None, description="The culprit's place in the request.")
