"""Schemas of POST /predictions: the answers of a model that is served elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, StrictFloat, StrictInt, StrictStr, model_validator

from keepfit.app.http.fields import Moment, Name, Strict
from keepfit.app.http.schemas import TEXT

Number = StrictFloat | StrictInt


class SaidBody(Strict):
    """One answer of a model that is served elsewhere."""

    id: Name = Field(description="The answer's own id: sent again it is known; a label may name it later.")
    version: Name | Annotated[StrictInt, Field(ge=1, lt=2**31)] = Field(
        description="Your own system's name of the version; for one that keepfit handed over its number or MLflow URI."
    )
    text: Any = Field(None, description="The text, or an object of the text columns.", json_schema_extra=TEXT)
    embedding: Annotated[list[Number], Field(min_length=1, max_length=8192)] | None = Field(
        None, description="The model's own; all answers of a version have one of the same size, or none has."
    )
    probabilities: dict[Name, Number] | None = Field(None, description="By class; they add up to 1.")
    label: Name | None = Field(None, description="Where there are no probabilities: the answer.")
    score: Number | None = Field(None, description="Its probability; the other classes share what is left.")
    key: Name | None = Field(None, description="What stays together (a user, a queue).")
    time: Moment | None = Field(None, description="When it was answered; now, unless given. Without a zone: UTC.")
    context: dict[Name, Annotated[StrictStr, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=20, description="A few facts to slice by."
    )


class SaidsBody(Strict):
    """One answer, or `predictions` with many: stored all or none."""

    predictions: Annotated[list[SaidBody], Field(min_length=1)] | None = None
    id: Name | None = None
    version: Name | Annotated[StrictInt, Field(ge=1, lt=2**31)] | None = None
    text: Any = Field(None, json_schema_extra=TEXT)
    embedding: Annotated[list[Number], Field(min_length=1, max_length=8192)] | None = None
    probabilities: dict[Name, Number] | None = None
    label: Name | None = None
    score: Number | None = None
    key: Name | None = None
    time: Moment | None = None
    context: dict[Name, Annotated[StrictStr, Field(max_length=200)]] | None = Field(None, max_length=20)

    @model_validator(mode="after")
    def one_form(self) -> SaidsBody:
        """Raises ValueError (a 422) when it is not clear what is sent."""
        given = self.model_fields_set
        if "predictions" in given and len(given) > 1:
            raise ValueError('give "predictions", or one answer, not both')
        if "predictions" not in given and (self.id is None or self.version is None):
            raise ValueError('an answer needs its "id" and its "version"; many go as {"predictions": [...]}')
        return self


class TakenOut(BaseModel):
    """What became of the answers."""

    accepted: int
    new: int = Field(description="Stored now.")
    known: int = Field(description="Sent before, with the same content.")
