"""GET /audit and /lineage/<id>: who changed what, and where an answer comes from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import LimitQuery
from keepfit.app.lineage import of_prediction


class AuditQuery(LimitQuery):
    """And before which entry, for the next page."""

    before: Annotated[int, Field(ge=1, lt=2**53)] | None = None


class AuditEntryOut(BaseModel):
    """Who changed what; sealed by a hash over all of it and the previous entry's hash."""

    seq: int
    model: str = Field(description="Empty for what concerns the whole installation.")
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


class AuditOut(BaseModel):
    """Newest first."""

    entries: list[AuditEntryOut]
    head: str | None = Field(description="NUMBER:HASH of the last entry of all; keep it elsewhere.")


class LineageOut(BaseModel):
    """Everything that an answer came from."""

    prediction: dict[str, Any] = Field(description="The answer, with the id of its request where one was kept.")
    version: dict[str, Any] = Field(
        description="Job, snapshot, parent and the gate's decision; `run` and `code` are known to the command line."
    )
    deployment: dict[str, Any] | None = Field(description="The one that it was answered under.")
    labels: list[dict[str, Any]] = Field(description="Those that came for its example, oldest first.")


def entries(call: Call, query: AuditQuery) -> Any:
    """Who changed what, newest first; under /models/NAME what concerns that model alone."""
    store = call.service.store
    rows = store.audit_entries(call.name if call.named else None, query.limit, query.before)
    head = store.audit_head()
    return {"entries": [row.to_json() for row in rows], "head": None if head is None else str(head)}


def lineage(call: Call, id: str) -> Any:
    """From an answer to its version, job, data, gate, deployment and labels."""
    call.service.writer.flush()  # an answer of a moment ago may still wait to be stored
    return of_prediction(call.service.store, call.name, id)


ROUTES = (
    Route("get", "/audit", entries, "admin", AuditOut, query=AuditQuery),
    Route("get", "/lineage/<id>", lineage, "any", LineageOut),
)
