"""What changes a model's life: retrain, roll back, approve, events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from keepfit.app.http.history import deployment_out, job_out
from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import (
    ApproveBody,
    DeploymentOut,
    EventBody,
    EventOut,
    RetrainBody,
    RetrainOut,
    RollbackBody,
)
from keepfit.data.records import Event, Job, new_id
from keepfit.decision import Decision, Outcome
from keepfit.errors import Refused
from keepfit.rollout import rollout

SILENT = timedelta(seconds=15)
"""A worker that gave no sign for so long does not run."""


def retrain(call: Call, body: RetrainBody) -> Any:
    """Ask for a retraining; the worker takes it up. Joins the one under way, if there is one."""
    store, now = call.service.store, call.service.clock.now()
    because = body.reason or f"{call.caller.name} asked for a retraining"
    request = {"reason": "asked", "because": [because], "actor": call.caller.name}
    wanted = Job(new_id(), call.name, "retrain", now, request=request)
    job = store.join_or_add_job(wanted)
    if job.id == wanted.id:
        fired = Decision(Outcome.FIRE, (because,), {"reason": "asked", "job": job.id, "actor": call.caller.name})
        store.add_decision(call.name, "trigger", fired, now)
    return job_out(job) | {"joined": job.id != wanted.id, "worker": worker_runs(call)}


def worker_runs(call: Call) -> bool:
    """Whether a worker gave a sign of life lately."""
    sign = call.service.store.get("", "worker")
    return sign is not None and call.service.clock.now() - datetime.fromisoformat(sign["at"]) < SILENT


def roll_back(call: Call, body: RollbackBody) -> Any:
    """Go back to the last version that really served, a second time one further; done when this answers."""
    service = call.service
    deployment = rollout.rollback(
        service.store, call.name, body.to, call.caller.name, service.clock,
        call.served.intake is None,
    )  # fmt: skip
    return apply(call, deployment.id)


def approve(call: Call, body: ApproveBody) -> Any:
    """Let the version go on that waits for a person: into its rollout, or to all the traffic."""
    if call.served.roller is None:
        raise Refused(f"nothing of {call.name!r} is approved at this server")
    deployment = call.served.roller.approve(body.version, call.caller.name)
    return apply(call, deployment.id)


def add_event(call: Call, body: EventBody) -> Any:
    """Tell of something that happened outside; the next check takes it up."""
    event = Event(new_id(), call.name, call.service.clock.now(), body.kind, call.caller.name, body.details)
    call.service.store.add_event(event)
    return {"id": event.id}


def apply(call: Call, deployment_id: int) -> dict[str, Any]:
    """Serve the newest deployment in this process now. Raises BackendError when it cannot be brought up."""
    if call.served.intake is None:  # else the worker hands it over
        call.served.predictor.insist()
    history = call.service.store.deployments(call.name, limit=20)
    return deployment_out(next(row for row in history if row.id == deployment_id))


ROUTES = (
    Route("post", "/retrain", retrain, "admin", RetrainOut, status=202, body=RetrainBody),
    Route("post", "/rollback", roll_back, "approve", DeploymentOut, body=RollbackBody, errors=(409,)),
    Route("post", "/approve", approve, "approve", DeploymentOut, body=ApproveBody, errors=(409,)),
    Route("post", "/events", add_event, "admin", EventOut, status=202, body=EventBody),
)
