"""GET /costs: what a month has cost, with the arithmetic."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from keepfit.app.http.fields import Strict
from keepfit.app.http.routing import Call, Route


class CostsQuery(Strict):
    """Which month."""

    month: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$", description="Such as 2026-11; the present unless given.")] | (
        None
    ) = None


class CostsOut(BaseModel):
    """One month's costs; amounts are seconds, and money where prices are set."""

    month: str
    timezone: str = Field(description="By which the month begins and ends.")
    currency: str | None = Field(description="null where no price is set.")
    total: dict[str, Any] = Field(description="Of all models, with the arithmetic.")
    budget: dict[str, Any] | None = Field(description="What is spent of it; null where none is set.")
    models: dict[str, Any] = Field(description="By name: retrainings, versions, labels, and what was saved.")


def costs(call: Call, query: CostsQuery) -> Any:
    """What a month has cost, by retraining, version and 1,000 answers, and what was saved."""
    report = call.service.books.report(query.month)
    if call.named:
        report["models"] = {call.name: report["models"][call.name]}
    return report


ROUTES = (Route("get", "/costs", costs, "any", CostsOut, query=CostsQuery),)
