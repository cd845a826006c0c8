"""GET /status, /history and /decisions: where everything stands, and how it came to that."""

from __future__ import annotations

from typing import Any

from keepfit.app.http.routing import Call, Route
from keepfit.app.http.schemas import DecisionsOut, DecisionsQuery, HistoryOut, LimitQuery, StatusOut
from keepfit.app.turns import why_it_waits
from keepfit.data.records import Deployment, Job, StoredDecision
from keepfit.monitoring.cohorts import LAG
from keepfit.pipelines.forecast import FORECAST
from keepfit.pipelines.foreign import foreign_name
from keepfit.rollout.rollout import WAITING, single, standing


def status(call: Call) -> Any:
    """Where every model stands, or the one that the path names."""
    names = [call.name] if call.named else sorted(call.service.models)
    names = [name for name in names if call.caller.only in (None, name)]
    return {
        "models": [model_status(call, name) for name in names],
        "default": call.service.default,
        "version": call.service.version,
        "forecast": foretold(call),
    }


def foretold(call: Call) -> dict[str, Any] | None:
    """What the worker has forecast last; of other models than the caller's nothing."""
    kept = call.service.store.get("", FORECAST)
    if kept is None or call.caller.only is None:
        return None if kept is None else dict(kept)
    return {**kept, "labels": {name: of for name, of in kept["labels"].items() if name == call.caller.only}}


def history(call: Call, query: LimitQuery) -> Any:
    """Who deployed what, when and why, and when it was really served; newest first."""
    rows = call.service.store.deployments(call.name, limit=query.limit)
    return {"deployments": [deployment_out(row) for row in rows]}


def decisions(call: Call, query: DecisionsQuery) -> Any:
    """Every judgement with its reasons and numbers, also those that changed nothing; newest first."""
    rows = call.service.store.decisions(call.name, query.subject, query.limit)
    return {"decisions": [decision_out(row) for row in rows]}


ROUTES = (
    Route("get", "/status", status, "any", StatusOut, whole=True),
    Route("get", "/history", history, "any", HistoryOut, query=LimitQuery),
    Route("get", "/decisions", decisions, "any", DecisionsOut, query=DecisionsQuery),
)


def model_status(call: Call, name: str) -> dict[str, Any]:
    """As documented in ModelStatusOut."""
    store, served = call.service.store, call.service.models[name]
    deployment = store.deployment(name)
    shares = deployment.traffic.shares if deployment else {}
    champion = single(deployment.traffic) if deployment else None
    others = sorted((set(shares) | set(deployment.traffic.shadow if deployment else ())) - {champion})
    checks = store.decisions(name, "trigger", 1)
    job = store.running_or_waiting(name, "retrain")
    return {
        "name": name,
        "task": served.task,
        "champion": champion,
        "elsewhere": foreign_name(store, name, champion),
        "challenger": others[-1] if others else None,
        "traffic": traffic_out(shares),
        "rollout": standing(store, name),
        "awaiting_approval": (store.get(name, WAITING) or {}).get("version"),
        "accuracy": store.get(name, "accuracy"),
        "label_lag": store.get(name, LAG),
        "last_check": decision_out(checks[0]) if checks else None,
        "retraining": {**job_out(job), "waits_because": why_it_waits(store, job)} if job else None,
        "cascade": served.predictor.cascade.status(champion),
        "class_map": store.classes(name).told(),
        "ready": served.trouble(),
        "memory": None if call.service.memory is None else call.service.memory.of(name).to_json(),
    }


def traffic_out(shares: Any) -> dict[str, float]:
    """Shares by version; JSON wants strings for names."""
    return {str(version): share for version, share in sorted(shares.items())}


def deployment_out(row: Deployment) -> dict[str, Any]:
    """As documented in DeploymentOut."""
    return {
        "id": row.id,
        "model": row.model,
        "at": row.at,
        "actor": row.actor,
        "reason": row.reason,
        "kind": row.kind,
        "traffic": traffic_out(row.traffic.shares),
        "shadow": list(row.traffic.shadow),
        "decision_id": row.decision_id,
        "applied": [{"worker": worker, "at": at} for worker, at in row.applied],
    }


def decision_out(row: StoredDecision) -> dict[str, Any]:
    """As documented in DecisionOut."""
    return {
        "id": row.id,
        "model": row.model,
        "at": row.at,
        "subject": row.subject,
        "outcome": str(row.decision.outcome),
        "because": list(row.decision.because),
        "evidence": dict(row.decision.evidence),
    }


def job_out(job: Job) -> dict[str, Any]:
    """As documented in JobOut."""
    return {
        "id": job.id,
        "model": job.model,
        "kind": job.kind,
        "state": str(job.state),
        "step": job.step,
        "at": job.at,
        "finished_at": job.finished_at,
        "result": dict(job.result),
    }
