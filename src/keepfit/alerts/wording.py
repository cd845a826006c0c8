"""The words of alerts: what happened, why, with which numbers, and how to undo it."""

from __future__ import annotations

import shlex
from datetime import datetime

from keepfit.alerts.alerts import Alert, AlertKind
from keepfit.data.records import Deployment
from keepfit.decision import Decision, Outcome

WHY = {
    "harm": "The model in use makes more mistakes than it may.",
    "routine": "No harm was seen; this is a routine retraining.",
    "asked": "A person asked for it.",
}


def listed(because: tuple[str, ...]) -> str:
    """Reasons as a list."""
    return "\n".join(f"- {reason}" for reason in because) or "- no reason was given"


def clock(at: datetime) -> str:
    """A moment for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def trigger_fired(model: str, version: int | None, decision: Decision, at: datetime) -> Alert:
    """A retraining begins; `version` answers meanwhile (None: nothing is deployed)."""
    why = WHY.get(str(decision.evidence.get("reason")), "")
    body = (
        f"{why}\n\nThis is what was seen at {clock(at)}:\n{listed(decision.telling)}\n\n"
        f"A new version of {model} is being trained now."
        + ("" if version is None else f" Version {version} goes on answering until the new one has passed its tests.")
        + " You will hear how that ends.\nNothing needs to be done;"
        + f" `keepfit decisions --model {model}` has everything that was looked at."
    )
    return Alert(AlertKind.TRIGGER, model, f"{model}: retraining has begun", body.strip(), at)


def gate_judged(model: str, version: int, decision: Decision, at: datetime) -> Alert:
    """A candidate passed or failed its gate."""
    passed = decision.outcome is Outcome.PASS
    title = f"{model}: version {version} {'passed' if passed else 'did not pass'} its tests"
    outcome = (
        f"Version {version} may take over."
        if passed
        else f"Version {version} will not be used; the version that answers now stays."
    )
    body = f"{outcome} The reasons:\n{listed(decision.because)}"
    return Alert(AlertKind.GATE, model, title, body, at)


def shares(deployment: Deployment) -> str:
    """The traffic in words.

    >>> from datetime import UTC
    >>> from keepfit.data.records import Traffic
    >>> shares(Deployment(1, "m", datetime(2025, 1, 1, tzinfo=UTC), "a", "r", Traffic({1: 0.9, 2: 0.1})))
    'version 1 (90 %), version 2 (10 %)'
    """
    parts = sorted(deployment.traffic.shares.items())
    if len(parts) == 1:
        return f"version {parts[0][0]}"
    return ", ".join(f"version {version} ({share:.0%})".replace("%", " %") for version, share in parts)


def deployed(deployment: Deployment, previous: int | None) -> Alert:
    """A version, or two of them, answer from now on; `previous` is the one before, None for the first."""
    answer = "answers" if len(deployment.traffic.shares) == 1 else "answer"
    before = "It is the first one." if previous is None else f"Before, it was version {previous}, which is kept ready."
    body = (
        f"Since {clock(deployment.at)} {shares(deployment)} of {deployment.model} {answer}. {before}\n\n"
        f"Why: {deployment.reason}\nBy: {deployment.actor}"
    )
    undo = None if previous is None else f"keepfit rollback --model {deployment.model}"
    title = f"{deployment.model}: {shares(deployment)} {'is' if answer == 'answers' else 'are'} in use"
    return Alert(AlertKind.DEPLOYMENT, deployment.model, title, body, deployment.at, undo)


def rolled_back(deployment: Deployment, previous: int | None) -> Alert:
    """An earlier version answers again; `previous` is the one that was taken back."""
    taken = "" if previous is None else f" Version {previous} was taken back."
    body = (
        f"Since {clock(deployment.at)} {shares(deployment)} of {deployment.model} answers again.{taken}\n\n"
        f"Why: {deployment.reason}\nBy: {deployment.actor}"
    )
    undo = None if previous is None else f"keepfit promote {previous} --model {deployment.model}"
    title = f"{deployment.model}: back to {shares(deployment)}"
    return Alert(AlertKind.ROLLBACK, deployment.model, title, body, deployment.at, undo)


def set_apart(model: str, actor: str, decision: Decision, at: datetime) -> Alert:
    """A labeller's labels count no more until a person says so."""
    body = (
        f"Since {clock(at)} the labels of {actor!r} neither measure nor train {model}. They are kept. Why:\n"
        f"{listed(decision.because)}\n\n`keepfit labels trust --model {model}` shows the numbers of everyone. If the "
        "labels are right, clear the labeller; if they came through a token, think of revoking it."
    )
    undo = f"keepfit labels trust {shlex.quote(actor)} --clear --model {model}"
    return Alert(AlertKind.LABELLER, model, f"{model}: labels of {actor!r} are set apart", body, at, undo)


def inputs_moved(model: str, decision: Decision, at: datetime) -> Alert:
    """The inputs are no longer like those that the version was judged on; nothing is retrained by it."""
    body = (
        f"Seen at {clock(at)}:\n{listed(decision.because)}\n\nThis is no harm yet: whether the answers are still right "
        f"only labels can say, so more of them are asked for during a day. `keepfit labels next --model {model}` shows "
        "which. Nothing else changes."
    )
    return Alert(AlertKind.DRIFT, model, f"{model}: the inputs have changed", body, at)


def estimate_refuted(model: str, decision: Decision, at: datetime) -> Alert:
    """Labels contradict the accuracy that was estimated without them."""
    stands = "The accuracy on labels stands, and what triggers read is that one."
    body = f"Seen at {clock(at)}:\n{listed(decision.because)}\n\n{stands}"
    return Alert(AlertKind.DRIFT, model, f"{model}: labels contradict the estimated accuracy", body, at)


def first_stage(model: str, decision: Decision, at: datetime) -> Alert:
    """A first stage was switched off, or answers again; every answer is right meanwhile, only the cost differs."""
    version, on = decision.evidence["version"], decision.outcome is Outcome.PASS
    title = f"{model}: the first stage of version {version} {'answers again' if on else 'is switched off'}"
    effect = (
        "What it is sure of takes microseconds again. It is still judged at every beat."
        if on
        else "Answers stay right, for the full model gives all of them; they take longer, and need more processors:"
        " look at the load. Nothing needs to be done: it is switched on again where that is proven."
    )
    body = (
        f"Seen at {clock(at)}:\n{listed(decision.because)}\n\n{effect} `keepfit decisions --model {model}` has the"
        f' numbers. To do without it, set cascade.keeps = "off" below [models.{model}].'
    )
    return Alert(AlertKind.CASCADE, model, title, body, at)


def failed(model: str, what: str, error: str, at: datetime) -> Alert:
    """Something could not be done, for example `what` = "the retraining"."""
    body = (
        f"{what[:1].upper()}{what[1:]} of {model} failed at {clock(at)}:\n- {error}\n\n"
        f"The version that answers goes on answering. `keepfit doctor --model {model}` says what is missing."
    )
    return Alert(AlertKind.FAILURE, model, f"{model}: {what} failed", body, at)


def budget_spent(model: str, decision: Decision, at: datetime) -> Alert:
    """A part of the month's budget, or all of it, is spent."""
    held = (
        "Until next month only retrainings that a person asks for, or that harm calls for, are begun."
        if decision.evidence.get("enforced")
        else "Nothing is held back, since `enforce` is not set."
    )
    over = float(decision.evidence["share"]) >= 1
    title = f"the budget of {decision.evidence['month']} is {'spent' if over else 'nearly spent'}"
    body = (
        f"This was reckoned at {clock(at)}, for all models together:\n{listed(decision.because)}\n"
        f"- {decision.evidence['arithmetic']}\n\n{held if over else 'Nothing changes yet.'} "
        "`keepfit costs` shows what it was spent on."
    )
    return Alert(AlertKind.BUDGET, model, title, body, at)


def trial_message(model: str, at: datetime) -> Alert:
    """What `keepfit doctor --send-test` sends."""
    body = f"This is a test, sent at {clock(at)}. If you can read it, alerts of {model} will reach you."
    return Alert(AlertKind.TEST, model, f"{model}: a test of your alerts", body, at)
