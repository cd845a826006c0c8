"""A model that is served elsewhere: hand over what is deployed, and see what really answers there.

keepfit's deployment history says what is wanted. The newest deployment is told to the other system by a webhook,
again and again until it is acknowledged, and counts as applied once answers of its version come in. What answers there
without having been handed over is taken down as a deployment, too: so the history says what was live.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from keepfit.clock import SKEW, Clock, spelt
from keepfit.data.foreign import is_foreign
from keepfit.data.records import Cause, Deployment, Traffic, Window
from keepfit.data.retention import REMOVED
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError
from keepfit.pipelines.foreign import ELSEWHERE, foreign_of, name_of
from keepfit.pipelines.recorded import ALWAYS
from keepfit.rollout.rollout import single

HANDED = "handed_over"
"""Under this name the store keeps how far the hand-over of the newest deployment is."""
OBSERVED = ELSEWHERE
"""The kind of a deployment that was seen, not made."""
WORKER = ELSEWHERE
"""Who applied a deployment of a model that is served elsewhere."""
STEADY = 20
"""So many answers in a row by another version than the deployed one are no stragglers."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=10)
TELL_AT = 5
"""After so many failed attempts (half a minute) people hear of it; it is tried on all the same."""
SIGNATURE, EVENT_ID = "X-Keepfit-Signature", "Idempotency-Key"

Post = Callable[[bytes, Mapping[str, str]], int]
"""Sends a body with headers, returns the HTTP status; raises BackendError when nobody answers."""


def signature(secret: str, body: bytes) -> str:
    """The value of the signature header: HMAC-SHA256 (RFC 2104) of the body, in hex.

    >>> signature("s", b"{}")[:13]
    'sha256=143ca8'
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Described:
    """What another system needs to load a version of ours."""

    uri: str | None
    """MLflow's; None where plain files are the registry."""
    path: str
    files: Mapping[str, str]
    """Relative path -> SHA-256 in hex."""


def answers_elsewhere(
    store: RecordStore, model: str, version: int, cause: Cause, at: datetime, after: Deployment | None = None
) -> None:
    """Put into the history that a version answers in another system: it is deployed, and applied there already."""
    row = store.deploy(model, Traffic({version: 1.0}), cause, at, None if after is None else after.id)
    store.applied(row.id, WORKER, at)


@dataclass(frozen=True)
class HandOver:
    """The hand-over of one model."""

    model: str
    store: RecordStore
    describe: Callable[[int], Described]
    """Raises BackendError where the files are not here."""
    clock: Clock
    post: Post | None = None
    """None: no webhook is set, the registry's alias is all that moves."""
    secret: str | None = None
    seen_within: timedelta = timedelta(hours=1)
    """An answer of what was handed over is expected within this time."""

    def observe(self) -> None:
        """Take down what answers elsewhere, from the newest answers."""
        live, now = self.store.deployment(self.model), self.clock.now()
        start = ALWAYS.start if live is None else live.at
        latest = self.store.briefs(self.model, Window(start, now + SKEW), limit=STEADY)
        heard = [one for one in latest if not one.shadow]
        if not heard:
            if live is not None and not live.applied:
                self.wait_for(live, set())
            return
        last = heard[-1]
        if live is None:
            self.saw(last.version, None, min(one.time for one in heard if one.version == last.version))
        elif not live.applied:
            self.wait_for(live, {one.version for one in heard})
        elif len(heard) == STEADY and {one.version for one in heard} == {last.version} != {single(live.traffic)}:
            self.saw(last.version, live, now)

    def saw(self, version: int, live: Deployment | None, at: datetime) -> None:
        """A version answers that nobody handed over: the other system's own."""
        words = f"{name_of(self.store, self.model, version)} answers elsewhere; keepfit did not hand it over"
        token = f"observed-{version}-after-{live.id if live else 0}"
        answers_elsewhere(self.store, self.model, version, Cause(WORKER, words, OBSERVED, token=token), at, live)

    def wait_for(self, live: Deployment, versions: set[int]) -> None:
        """Whether what was handed over answers; when it should have long since, people hear of it once."""
        now, version = self.clock.now(), single(live.traffic)
        if version in versions:
            self.store.applied(live.id, WORKER, now)
            words = (f"{name_of(self.store, self.model, version)} was seen: it answers elsewhere",)
            self.keep(live, Decision(Outcome.PASS, words, {"deployment": live.id}), "seen")
        elif now - live.at > self.seen_within:
            others = ", ".join(name_of(self.store, self.model, one) for one in sorted(versions))
            since = f"{others} still answers" if others else "nothing has answered since"
            ago = spelt(self.seen_within)
            words = (
                f"{name_of(self.store, self.model, version)} was to take over {ago} ago, and {since}: look "
                "why the server there does not load it, or go back by `keepfit rollback`",
            )
            self.keep(live, Decision(Outcome.FAIL, words, {"deployment": live.id}), "unseen")

    def hand_over(self) -> None:
        """Tell the other system of the newest deployment, unless that was done or must wait for its next attempt."""
        live, now = self.store.deployment(self.model), self.clock.now()
        if live is None or live.kind == OBSERVED:
            return
        state = self.store.get(self.model, HANDED) or {}
        if state.get("deployment") != live.id:
            state = {"deployment": live.id, "attempts": 0, "next": now.isoformat(), "done": None}
        if state["done"] is not None or now < datetime.fromisoformat(state["next"]):
            return
        if self.post is None:
            words = "no webhook is set [models.NAME.hand_over]: the registry's alias `champion` alone says it"
            self.done(live, state, (words,))
            return
        self.attempt(live, state)

    def attempt(self, live: Deployment, state: dict[str, Any]) -> None:
        """One call of the webhook."""
        number = int(state["attempts"]) + 1
        try:
            body = orjson.dumps(self.body(live), option=orjson.OPT_SORT_KEYS)
            status = self.post(body, self.headers(live, body)) if self.post is not None else 0
            trouble = None if 200 <= status < 300 else refusal(status)
        except BackendError as error:
            trouble = str(error)
        if trouble is None:
            words = f"{name_of(self.store, self.model, single(live.traffic))} was handed over, at attempt {number}"
            self.done(live, {**state, "attempts": number}, (words,))
            return
        pause = min(FIRST_PAUSE * 2 ** min(number - 1, 20), LONGEST_PAUSE)
        due = (self.clock.now() + pause).isoformat()
        self.store.put(self.model, HANDED, {**state, "attempts": number, "next": due, "error": trouble})
        if number in (1, TELL_AT):
            outcome = Outcome.HOLD if number == 1 else Outcome.FAIL
            told = f"the webhook did not take it at attempt {number}: {trouble}; it is tried on"
            self.keep(live, Decision(outcome, (told,), {"deployment": live.id, "attempts": number}), f"try-{number}")

    def done(self, live: Deployment, state: Mapping[str, Any], words: tuple[str, ...]) -> None:
        """It need not be told again."""
        decision = Decision(Outcome.PASS, words, {"deployment": live.id, "attempts": state["attempts"]})
        self.keep(live, decision, "handed")
        self.store.put(self.model, HANDED, {**state, "done": self.clock.now().isoformat(), "error": None})

    def headers(self, live: Deployment, body: bytes) -> dict[str, str]:
        """The same deployment has the same key, however often it is told."""
        signed = {} if self.secret is None else {SIGNATURE: signature(self.secret, body)}
        key = f"{self.model}-deployment-{live.id}"
        return {"Content-Type": "application/json", EVENT_ID: key, "User-Agent": "keepfit", **signed}

    def body(self, live: Deployment) -> dict[str, Any]:
        """As documented in docs/elsewhere.md; the same for the same deployment. Raises BackendError."""
        version = single(live.traffic)
        told: dict[str, Any] = {
            "event": "hand_over", "deployment_id": live.id, "model": self.model, "kind": live.kind,
            "at": live.at.isoformat(), "actor": live.actor, "reason": live.reason, "decision_id": live.decision_id,
            "because": self.because(live.decision_id),
        }  # fmt: skip
        if is_foreign(version):
            name = foreign_of(self.store, self.model, version).name
            return told | {"version": name, "mlflow_uri": None, "path": None, "files": {}}
        if str(version) in (self.store.get(self.model, REMOVED) or {}):
            raise BackendError(f"the files of version {version} were removed to make room")
        known = self.describe(version)
        return told | {
            "version": str(version), "mlflow_uri": known.uri, "path": known.path, "files": dict(known.files),
        }  # fmt: skip

    def because(self, decision: str | None) -> list[str]:
        """The reasons of the judgement that allowed it."""
        return [] if decision is None else list(self.store.decision(decision).decision.because)

    def keep(self, live: Deployment, decision: Decision, what: str) -> None:
        """Once for each deployment."""
        subject = f"hand over v{single(live.traffic)}"
        self.store.add_decision(self.model, subject, decision, self.clock.now(), f"{self.model}-{live.id}-{what}")


def refusal(status: int) -> str:
    """A status in words."""
    if 300 <= status < 400:
        return f"it answered {status}, and redirects are not followed: set the final address"
    return f"it answered {status}"
