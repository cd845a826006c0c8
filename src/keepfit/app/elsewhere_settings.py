"""The settings of a model that is served elsewhere: its classes, the hand-over, and tables that are followed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from keepfit.app.setting_values import Duration, Place, Secret, Section


class ElsewhereSettings(Section):
    """`[models.NAME.elsewhere]`: what is known of a model that is served elsewhere; see docs/elsewhere.md."""

    classes: tuple[str, ...] = Field(
        (), description="All classes; unset: the first answer of a version must have the probabilities of all."
    )
    seen_within: Duration = Field(
        timedelta(hours=1), description="A version that was handed over and does not answer by then is told to people."
    )

    @field_validator("classes")
    @classmethod
    def a_choice(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """One class is no choice."""
        if value and (len(set(value)) < 2 or len(set(value)) != len(value)):
            raise ValueError("name two classes or more, each once")
        return tuple(sorted(value))


class HandOverSettings(Section):
    """`[models.NAME.hand_over]`: the webhook that hears of each version that is to take over."""

    url: Place = Field(
        None, repr=False, description="Where it is posted to; http or https. Redirects are not followed."
    )
    secret: Secret | None = Field(
        None, description="Signs the body (HMAC-SHA256 in X-Keepfit-Signature); best as env:NAME or file:PATH."
    )
    timeout: Duration = Field(timedelta(seconds=10), description="An attempt that takes longer has failed.")

    @model_validator(mode="after")
    def an_address(self) -> HandOverSettings:
        """Raises ValueError for what is none, or for a secret without one."""
        if self.url is None and self.model_fields_set - {"url"}:
            raise ValueError("hand_over needs its url; set it, or leave the section out")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError('url must be an address such as "https://models.example.org/hooks/keepfit"')
        if self.timeout <= timedelta(0):
            raise ValueError('timeout: write a time above zero, such as "10s"')
        return self


class FollowColumns(Section):
    """`[models.NAME.follow.names]`: which column holds what; unset: the column of that very name."""

    id: str = Field("id", description="The answer's own id; unset and not there: the file's name and the row.")
    text: str | tuple[str, ...] = Field("text", description="The text, or the text columns.")
    label: str = Field("label", description="The answer; with `score`, where there are no probabilities.")
    score: str = Field("score", description="The answer's probability.")
    probabilities: str = Field("p_", description="Columns that begin so hold the probability of the class after it.")
    version: str = Field("version", description="The version's name.")
    key: str = Field("key", description="What stays together.")
    time: str = Field("time", description="When it was answered; without a zone it is UTC.")


class FollowSettings(Section):
    """`[models.NAME.follow]`: a folder of tables, or one table of a database, that grows by answers."""

    folder: Path | None = Field(None, description="CSV, TSV, JSONL and Parquet files that appear or grow.")
    url: Place = Field(None, repr=False, description="SQLAlchemy URL of a database.")
    query: str | None = Field(
        None, description="With `:cursor`, such as select * from answers where seq > :cursor order by seq limit 5000."
    )
    cursor: str | None = Field(None, description="The query's column that only grows, in whose order it answers.")
    start: int | str = Field(0, description="The cursor to begin with.")
    version: str | None = Field(None, description="The version's name where no column has it.")
    every: Duration = Field(timedelta(seconds=10), description="Time between two looks.")
    names: FollowColumns = Field(FollowColumns(), description="Which column holds what.")

    @model_validator(mode="after")
    def one_source(self) -> FollowSettings:
        """Raises ValueError unless it is clear what is followed."""
        given = self.model_fields_set
        of_table = (self.url, self.query, self.cursor)
        if self.folder is not None and any(of_table):
            raise ValueError("follow a folder, or a database (url, query, cursor), not both")
        if any(of_table) and not all(of_table):
            raise ValueError("a database needs url, query and cursor together")
        if self.query is not None and ":cursor" not in self.query:
            raise ValueError("the query must name :cursor, from where it goes on; without it all is read each time")
        if self.folder is None and self.url is None and given:
            raise ValueError("follow needs a folder, or url, query and cursor")
        return self

    @property
    def on(self) -> bool:
        """Whether anything is followed."""
        return self.folder is not None or self.url is not None


Served = Annotated[str, Field(pattern="^(here|elsewhere)$")]


def check_served(model: Any) -> None:
    """Raises ValueError for settings that do not go with where the model (a ModelSettings) is served."""
    if model.served == "here":
        foreign = [name for name in ("elsewhere", "hand_over", "follow") if getattr(model, name).model_fields_set]
        if foreign:
            raise ValueError(f'{foreign[0]} concerns served = "elsewhere" alone; set that, or leave it out')
        return
    if model.task == "video":
        raise ValueError("a video model cannot be served elsewhere: its windows are cut and scored here")
    if model.rollout.strategy != "immediate":
        raise ValueError(
            f"rollout.strategy {model.rollout.strategy!r} shares out traffic, which is not keepfit's where served = "
            '"elsewhere"; leave it out, or share traffic there'
        )
    if model.cascade.keeps != "off":
        raise ValueError('cascade has no use where served = "elsewhere": keepfit answers nothing')
