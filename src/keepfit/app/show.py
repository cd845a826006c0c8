"""What the command line prints: tables and sentences for people, JSON for programs."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keepfit.app.amounts import minute
from keepfit.app.findings import Finding
from keepfit.app.listing import Column, listing
from keepfit.data.records import AUDIT, Deployment, QueueItem, StoredDecision
from keepfit.data.tokens import Token
from keepfit.decision import Decision
from keepfit.errors import KeepfitError
from keepfit.redaction import redacted


def out(value: Any) -> None:
    """JSON on standard output."""
    print(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode())


def text(words: str) -> None:
    """A sentence for people, on standard error, so that standard output stays for results."""
    Console(stderr=True).print(escape(redacted(words)), soft_wrap=True)


def result(value: Mapping[str, Any], json: bool, words: str) -> None:
    """One result."""
    if json:
        out(value)
    else:
        Console().print(escape(words), soft_wrap=True)


def error(problem: KeepfitError, json: bool) -> None:
    """One sentence; with --json an object."""
    if json:
        print(orjson.dumps({"error": str(problem), "kind": type(problem).__name__}).decode(), file=sys.stderr)
    else:
        Console(stderr=True).print(f"[bold red]keepfit:[/] {escape(str(problem))}", soft_wrap=True)


def unexpected(problem: Exception) -> None:
    """A fault of keepfit itself: one sentence, and the traceback in a file for a report."""
    with tempfile.NamedTemporaryFile("w", prefix="keepfit-", suffix=".txt", delete=False) as file:
        file.write(redacted("".join(traceback.format_exception(problem))))
    words = f"unexpected {type(problem).__name__}: {redacted(str(problem))}; please report it with {file.name}"
    Console(stderr=True).print(f"[bold red]keepfit:[/] {escape(words)}", soft_wrap=True)


def trained(done: Mapping[str, Any]) -> str:
    """What a training came to."""
    if "version" not in done:
        return f"Asked for: job {done.get('job')}" + (" (joined the one under way)." if done.get("joined") else ".")
    reasons = "\n".join(f"  - {reason}" for reason in done.get("because", ()))
    fate = "is deployed" if done.get("deployed") else "is not deployed"
    if done.get("rollout", "immediate") != "immediate":
        fate = f"is being rolled out ({done['rollout']}; keepfit status says how far it is)"
    seen = "not evaluated" if done["accuracy"] is None else f"accuracy {done['accuracy']:.3f} on its test part"
    words = f"Version {done['version']} ({seen}) {fate}:\n{reasons}"
    return f"{words}\nThe watch cannot work as it is set: {done['objection']}" if "objection" in done else words


def tuning(values: Mapping[str, Any], model: str, trains: bool = True) -> None:
    """The trials of a search, what came of it, and how to keep the recipe; `trains`: a training with it follows."""
    start = values["trials"][0]["recipe"]
    shown = table("trial", "log loss", "minutes", "recipe", "")
    for trial in values["trials"]:
        loss = "" if trial["loss"] is None else f"{trial['loss']:.4f}"
        changed = ", ".join(f"{name} {value}" for name, value in trial["recipe"].items() if value != start[name])
        said = "" if trial["state"] == "finished" else f"{trial['state']} {trial['error']}".strip()
        minutes = f"{trial['seconds'] / 60:.1f}"
        shown.add_row(str(trial["number"]), loss, minutes, changed or "as set", escape(said))
    console = Console()
    console.print(shown)
    for reason in values["because"]:
        console.print(escape(f"  - {reason}"), soft_wrap=True)
    if values["changes"]:
        lines = "\n".join(f"  {name} = {toml(value)}" for name, value in values["changes"].items())
        use = "This training uses it; for later ones, too, set" if trains else "To train with it, set"
        words = f"{use} below [models.{model}.recipe]:\n{lines}"
        console.print(escape(words), soft_wrap=True)


def cross_validation(values: Mapping[str, Any]) -> None:
    """The metrics over all folds, with the standard error of the mean, and of each fold."""
    shown = table("", "mean", "error", "deviation", "folds")
    for name, summary in values["metrics"].items():
        numbers = (f"{summary[key]:.4f}" for key in ("mean", "error", "deviation"))
        shown.add_row(name, *numbers, " ".join(f"{each[name]:.4f}" for each in values["values"]))
    Console().print(shown)


def toml(value: Any) -> str:
    """A plain value as it is written in the settings.

    >>> toml("head"), toml(8e-05)
    ('"head"', '8e-05')
    """
    return f'"{value}"' if isinstance(value, str) else str(value)


def evaluation(values: Mapping[str, Any]) -> str:
    """The numbers of an evaluation."""
    lines = [f"Version {values['version']} on {values['n']} rows:"]
    lines += [
        f"  {name:<20} {m['value']:.4f}  ({m['low']:.4f} to {m['high']:.4f})" for name, m in values["metrics"].items()
    ]
    return "\n".join(lines)


def decision(judged: Decision, json: bool, warnings: Sequence[str] = ()) -> None:
    """A decision with its reasons, and what one should know besides."""
    value = {"outcome": judged.outcome.value, "because": list(judged.because), "evidence": dict(judged.evidence)}
    lines = [*(f"  - {reason}" for reason in judged.because), *(f"  ! {words}" for words in warnings)]
    value |= {"warnings": list(warnings)} if warnings else {}
    result(value, json, "\n".join([judged.outcome.value, *lines]))


def decision_json(stored: StoredDecision) -> dict[str, Any]:
    """A stored decision as in `GET /decisions`."""
    return {
        "id": stored.id, "at": stored.at.isoformat(), "subject": stored.subject,
        "outcome": stored.decision.outcome.value, "because": list(stored.decision.because),
        "evidence": dict(stored.decision.evidence),
    }  # fmt: skip


def deployment_json(row: Deployment) -> dict[str, Any]:
    """A deployment as in `GET /history`."""
    return {
        "id": row.id, "at": row.at.isoformat(), "actor": row.actor, "reason": row.reason, "kind": row.kind,
        "traffic": {str(v): share for v, share in row.traffic.shares.items()}, "shadow": list(row.traffic.shadow),
        "decision_id": row.decision_id,
        "applied": [{"worker": worker, "at": at.isoformat()} for worker, at in row.applied],
    }  # fmt: skip


def table(*columns: str) -> Table:
    """An empty table."""
    made = Table(box=None, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def queue_json(item: QueueItem) -> dict[str, Any]:
    """An item as in `GET /labels/queue`."""
    return {
        "question": item.id, "prediction_id": item.prediction_id, "id": item.example.id, "text": item.example.content,
        "reason": item.reason, "propensity": item.propensity, "labels": list(item.label_set),
    }  # fmt: skip


def queue(items: Sequence[QueueItem], json: bool) -> None:
    """What to label next."""
    if json:
        out({"items": [queue_json(item) for item in items]})
        return
    if not items:
        Console().print("Nothing waits for a label.")
    else:
        audited = any(AUDIT in item.parts for item in items)  # to be answered by the id of the question alone
        named, ids = ("question", "question") if audited else ("prediction", "prediction_id")
        columns = (Column(named), Column("text", folds=True), Column("reason", folds=True, spare=True))
        rows = [
            (
                item.id if audited else item.prediction_id,
                escape(str(item.example.content)[:200]),
                escape(item.reason),
            )
            for item in items
        ]
        listing(Console(), columns, rows)
        text(f"To answer: keepfit label FILE, a CSV with the columns {ids} and label; or POST /labels.")


def tokens(found: Sequence[Token], json: bool) -> None:
    """Tokens, without their hashes."""
    if json:
        out({"tokens": [{"name": t.name, "roles": list(t.roles), "created": t.created, "expires": t.expires,
                         "revoked": t.revoked, "model": t.model, "per_minute": t.per_minute,
                         "labels_per_day": t.labels_per_day} for t in found]})  # fmt: skip
        return
    if not found:
        Console().print("There is no token: only this machine may call.")
        return
    columns = (
        Column("name", folds=True), Column("roles", folds=True), Column("model", folds=True),
        Column("a minute", spare=True), Column("labels a day", spare=True), Column("made (UTC)", spare=True),
        Column("expires (UTC)"), Column("revoked"),
    )  # fmt: skip
    rows = []
    for t in found:
        limits = [str(most) if most else "no limit" for most in (t.per_minute, t.labels_per_day)]
        expires, revoked = minute(t.expires) if t.expires else "never", "yes" if t.revoked else ""
        rows.append((escape(t.name), ", ".join(t.roles), escape(t.model or "all"), *limits, minute(t.created), expires,
                     revoked))  # fmt: skip
    listing(Console(), columns, rows)


def history(rows: Sequence[Deployment], json: bool, reasons: Mapping[str, str]) -> None:
    """Deployments; `reasons` has the first one of each decision that let one in."""
    if json:
        out({"deployments": [deployment_json(row) for row in rows]})
        return
    console = Console()
    for row in rows:
        shares = ", ".join(f"v{v} {share:.0%}" for v, share in row.traffic.shares.items())
        shadow = "".join(f", v{v} in the shadow" for v in row.traffic.shadow)
        console.print(
            f"[bold]{row.id}[/]  {moment(row.at)} UTC  {shares}{shadow}  by {escape(row.actor)}", soft_wrap=True
        )
        lines = {
            "why": row.reason,
            "evidence": reasons.get(row.decision_id or "", ""),
            "decision": row.decision_id or "",
            "served by": ", ".join(worker for worker, _ in row.applied) or "nobody yet",
        }
        for name, words in lines.items():
            if words:
                console.print(escape(f"    {name:<10} {words}"), soft_wrap=True, highlight=False)
    if not rows:
        console.print("Nothing was deployed yet.")


def decisions(rows: Sequence[StoredDecision], json: bool) -> None:
    """Decisions."""
    if json:
        out({"decisions": [decision_json(row) for row in rows]})
        return
    if not rows:
        Console().print("Nothing was judged yet.")
        return
    columns = (Column("at (UTC)"), Column("subject", folds=True), Column("outcome"), Column("because", folds=True))
    told = [
        (minute(row.at), escape(row.subject), row.decision.outcome.value, escape("\n".join(row.decision.telling)))
        for row in rows
    ]
    listing(Console(), columns, told)


def judgement(row: StoredDecision, picture: Path | None, json: bool) -> None:
    """One decision with all its reasons and numbers."""
    drawn = None if picture is None else str(picture)
    if json:
        out({**decision_json(row), "picture": drawn})
        return
    console = Console()
    console.print(f"[bold]{row.decision.outcome.value}[/bold]  {row.subject}, {moment(row.at)} UTC, {row.id}")
    for reason in row.decision.because:
        console.print(f"- {escape(reason)}")
    if drawn is not None:
        console.print(f"The evidence is drawn in {escape(drawn)}.")
        return
    console.print_json(data=dict(row.decision.evidence))


def findings(found: Sequence[Finding], json: bool) -> None:
    """What doctor saw."""
    if json:
        out({"findings": [{"ok": f.ok, "what": f.what, "detail": f.detail} for f in found]})
        return
    shown = table("", "what", "detail")
    for f in found:
        shown.add_row("[green]ok[/]" if f.ok else "[red]missing[/]", escape(f.what), escape(f.detail))
    Console().print(shown)


def moment(value: datetime) -> str:
    """A time for people."""
    return value.strftime("%Y-%m-%d %H:%M:%S")
