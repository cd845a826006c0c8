"""Rollout: the only writer of traffic. Start what passed, carry out what a strategy decides, promote, go back.

A rollout under way is one stored value, written in the same transaction as the deployment of its step, so that a kill
leaves both or neither. Its next deployment is refused when somebody else deployed meanwhile: a person's word ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from keepfit.clock import Clock, spelt
from keepfit.data.foreign import is_foreign
from keepfit.data.records import Cause, Deployment, Traffic, Window
from keepfit.data.retention import REMOVED
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused
from keepfit.monitoring.comparison import Comparison, Normal
from keepfit.rollout.strategies import Ages, Staged, Step, Strategy

WAITING = "awaiting_approval"
"""Under this name the store keeps the version that waits for a person."""

ROLLOUT = "rollout"
"""Under this name the store keeps the rollout that is under way."""

CHALLENGED = "challenged"
"""Under this name the store keeps how many challengers the present champion has had."""

STEP = "rollout"
"""The kind of a deployment that gives a challenger a part of the traffic, or none yet."""

ENDS = frozenset({Outcome.ROLL_BACK, Outcome.UNDECIDED})
"""Outcomes after which the champion has all the traffic again."""

LOOK_BACK, ENOUGH = timedelta(days=1), 500
"""What is slow and unsure is learnt from so many answers of the champion, not older than that."""


@dataclass(frozen=True)
class Rollout:
    """One rollout under way."""

    id: str
    version: int
    """The challenger."""
    champion: int
    """Who answered before, and will again if it is taken back."""
    strategy: str
    step: int
    began: datetime
    since: datetime
    """When the present step began."""
    actor: str = "keepfit"
    decision: str | None = None
    """The judgement that allowed it: the gate's."""
    adopt: Mapping[str, Any] = field(default_factory=dict)
    """Values that become the model's own when the challenger has all the traffic."""
    restore: Mapping[str, Any] = field(default_factory=dict)
    """What they were before, for the way back."""
    normal: Mapping[str, float | None] = field(default_factory=dict)
    """What was slow and what unsure of the champion before it began."""
    steps: tuple[Step, ...] = ()
    """Those of the strategy when it began: what is set later holds for the next one."""
    proof: bool = True
    place: int = 1
    """Which challenger of this champion it is, from 1: the later ones share the level of the first."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        steps = [[step.share, step.shadow, step.bake.total_seconds()] for step in self.steps]
        return asdict(self) | {"began": self.began.isoformat(), "since": self.since.isoformat(), "steps": steps}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Rollout:
        """What `to_json` gave."""
        moments = {name: datetime.fromisoformat(values[name]) for name in ("began", "since")}
        steps = tuple(Step(share, shadow, timedelta(seconds=bake)) for share, shadow, bake in values["steps"])
        return cls(**{**values, **moments, "steps": steps})

    @property
    def compares(self) -> bool:
        """Whether labels where the two disagree are waited for; one that alone has all the traffic is only watched."""
        step = self.steps[self.step]
        return step.share < 1.0 or step.shadow

    @property
    def subject(self) -> str:
        """Of its decisions."""
        return f"rollout v{self.version}"

    @property
    def token(self) -> str:
        """Of the deployment of its present step."""
        return f"{self.id}-step-{self.step}"


def under_way(store: RecordStore, model: str) -> Rollout | None:
    """The rollout that goes on now; one that another deployment has ended does not count."""
    kept = store.get(model, ROLLOUT)
    newest = store.deployment(model)
    if kept is None or newest is None:
        return None
    found = Rollout.from_json(kept)
    return found if found.token == newest.token else None


def waiting_since(store: RecordStore, model: str) -> datetime | None:
    """Since when a rollout waits for labels where its two versions disagree; None when none does."""
    rollout = under_way(store, model)
    return rollout.began if rollout is not None and rollout.compares else None


def standing(store: RecordStore, model: str) -> dict[str, Any] | None:
    """Where the rollout under way stands, as plain values; None when there is none."""
    rollout, live = under_way(store, model), store.deployment(model)
    if rollout is None or live is None:
        return None
    last = next(iter(store.decisions(model, rollout.subject, 1)), None)
    return {
        "version": rollout.version,
        "champion": rollout.champion,
        "strategy": rollout.strategy,
        "step": rollout.step + 1,
        "share": live.traffic.shares.get(rollout.version, 0.0),
        "began": rollout.began,
        "since": rollout.since,
        "outcome": None if last is None else last.decision.outcome.value,
        "because": [] if last is None else list(last.decision.because),
        "touched": 0 if last is None else last.decision.evidence.get("touched", 0),
    }


@dataclass(frozen=True)
class Roller:
    """Carries one model's rollouts out as its strategy decides."""

    model: str
    store: RecordStore
    strategy: Strategy
    clock: Clock
    confirm: bool = False
    """Whether a person must approve before all the traffic is the challenger's."""
    here: bool = True
    """Whether keepfit serves the model; then a champion from elsewhere has no traffic that it could share."""

    def start(self, version: int, cause: Cause, brought: Mapping[str, Any]) -> bool:
        """Enter the first step; true when the version is champion already, since there is nothing to wait for.

        `brought` becomes the model's own once it has all the traffic. Idempotent by the cause's token. A rollout under
        way is ended: what passed its gate last is the better bet.
        """
        id_ = cause.token or f"v{version}-{self.clock.now().isoformat()}"
        history = self.store.deployments(self.model, limit=1000)
        live, before = next(iter(history), None), under_way(self.store, self.model)
        if any(row.token is not None and (row.token == id_ or row.token.startswith(f"{id_}-")) for row in history):
            return before is None and live is not None and single(live.traffic) == version
        if live is None or single(live.traffic) == version or (self.here and is_foreign(single(live.traffic))):
            deploy(self.store, self.model, version, cause, self.clock)
            adopt(self.store, self.model, brought)
            return True
        champion = single(live.traffic) if before is None else self._give_way(before, live, version)
        now = self.clock.now()
        earlier = self.store.briefs(self.model, Window(now - LOOK_BACK, now), champion, limit=ENOUGH)
        had = self.store.get(self.model, CHALLENGED) or {}
        place = 1 + (int(had["n"]) if had.get("champion") == champion else 0)
        begun = Rollout(
            id_, version, champion, self.strategy.name, 0, now, now, cause.actor, cause.decision_id, dict(brought),
            {name: self.store.get(self.model, name) for name in brought}, asdict(Normal.of(earlier)),
            tuple(self.strategy.steps), self.strategy.proof, place,
        )  # fmt: skip
        return self._enter(begun, live, cause.reason, cause.action)

    def _give_way(self, before: Rollout, live: Deployment, version: int) -> int:
        """End a rollout because another version passed its gate; whom that one is compared with."""
        has_all = live.traffic.shares.get(before.version, 0.0) >= 1.0
        place = "is watched no longer" if has_all else "gives up its place"
        words = f"version {before.version} {place}: version {version} passed its gate meanwhile"
        outcome = Outcome.ADVANCE if has_all else Outcome.UNDECIDED
        self._note(before, Decision(outcome, (words,), {"step": before.step}), "replaced")
        return before.version if has_all else before.champion

    def approve(self, version: int | None, actor: str) -> Deployment:
        """Let the version go on that waits for a person: into its rollout, or to all the traffic.

        Two approvals at once count once. Raises Refused when none waits, or another than `version`.
        """
        waiting = self.store.get(self.model, WAITING)
        if waiting is None:
            raise Refused(
                f"no version of {self.model!r} waits for approval; `keepfit status` says what became of the last one"
            )
        number, decision = int(waiting["version"]), waiting.get("decision")
        if version not in (None, number):
            raise Refused(f"version {number} waits for approval, not version {version}")
        rollout = under_way(self.store, self.model)
        if "rollout" in waiting:
            if rollout is None or rollout.id != waiting["rollout"]:
                raise Refused(f"the rollout of version {number} is over; `keepfit history` says how it ended")
            self.finish(rollout, actor)
        else:
            token, reason = f"approve-{number}-{decision}", f"version {number} was approved by {actor}"
            cause = Cause(actor, reason, decision_id=decision, token=token, action="approve")
            self.start(number, cause, waiting.get("adopt", {}))
        return self.store.deployments(self.model, limit=1)[0]

    def judge(self, rollout: Rollout, seen: Comparison) -> Decision:
        """What the strategy says: by the steps that the rollout began with, and the limits of now."""
        now = self.clock.now()
        if self.strategy.name == rollout.strategy:
            strategy = self.strategy.begun_with(rollout.steps)
        else:
            strategy = Staged(rollout.strategy, rollout.steps, self.strategy.limits, rollout.proof)
        return strategy.judge(rollout.step, Ages(now - rollout.since, now - rollout.began), seen)

    def act(self, rollout: Rollout, decision: Decision) -> Deployment | None:
        """Store the decision and do what it says; None where the traffic stays.

        Raises Refused when somebody deployed meanwhile; nothing is changed then.
        """
        live = self.store.deployment(self.model)
        if live is None or live.token != rollout.token:
            raise Refused(f"the rollout of version {rollout.version} was ended by another deployment")
        if decision.outcome is Outcome.ADVANCE and self._asks_first(rollout):
            words = (*decision.because, f"all the traffic waits for a person: keepfit approve {rollout.version}")
            decision = Decision(Outcome.HOLD, words, decision.evidence)
            waiting = {"version": rollout.version, "decision": rollout.decision, "rollout": rollout.id}
            self.store.put_all(self.model, {WAITING: waiting}, live.id)
        if decision.outcome in ENDS:  # counted now: looking took its time, and answers went on
            touched = self.store.count_heard(self.model, rollout.version, rollout.began)
            decision = replace(decision, evidence={**decision.evidence, "touched": touched})
        rollout = replace(rollout, actor="keepfit")
        stored = self._note(rollout, decision)
        if decision.outcome is Outcome.ADVANCE:
            return self._next(rollout, live, stored)
        if decision.outcome in ENDS:
            return self._withdraw(rollout, live, stored, decision)
        return None

    def finish(self, rollout: Rollout, actor: str) -> Deployment | None:
        """A person's approval: all the traffic, whatever is still to be proven."""
        live = self.store.deployment(self.model)
        if live is None or live.token != rollout.token:
            raise Refused(f"the rollout of version {rollout.version} was ended by another deployment")
        words = (f"{actor} approved all the traffic",)
        stored = self._note(rollout, Decision(Outcome.ADVANCE, words, {"step": rollout.step, "actor": actor}))
        at_all = next((n for n, step in enumerate(rollout.steps) if step.share >= 1.0), len(rollout.steps))
        return self._next(replace(rollout, step=at_all - 1, actor=actor), live, stored)

    def _asks_first(self, rollout: Rollout) -> bool:
        steps, following = rollout.steps, rollout.step + 1
        share = 1.0 if following >= len(steps) else steps[following].share
        return self.confirm and share >= 1.0 > steps[rollout.step].share

    def _next(self, rollout: Rollout, live: Deployment, stored: str) -> Deployment | None:
        following = replace(rollout, step=rollout.step + 1, since=self.clock.now(), decision=stored)
        if following.step >= len(rollout.steps):
            words = f"version {rollout.version} is champion: its rollout ended well"
            return self._settle(rollout, live, Cause(rollout.actor, words, decision_id=stored))
        reason = f"version {rollout.version}: step {following.step + 1} of {len(rollout.steps)}"
        self._enter(following, live, reason)
        return self.store.deployment(self.model)

    def _enter(self, rollout: Rollout, live: Deployment, reason: str, action: str | None = None) -> bool:
        """Deploy a step; true when there was nothing to wait for, so that the version is champion now.

        `action` is what the audit calls it.
        """
        step = rollout.steps[rollout.step]
        last = rollout.step + 1 == len(rollout.steps)
        if last and step.share >= 1.0 and not step.bake:
            self._settle(rollout, live, Cause(rollout.actor, reason, decision_id=rollout.decision, action=action))
            return True
        kind, words = STEP if step.share < 1.0 else "deploy", f"{reason} ({told(rollout.strategy, step)})"
        cause = Cause(rollout.actor, words, kind, rollout.decision, rollout.token, action)
        had = {"champion": rollout.champion, "n": rollout.place}
        adopted = rollout.adopt if step.share >= 1.0 else {}
        values = {ROLLOUT: rollout.to_json(), CHALLENGED: had, WAITING: None, **adopted}
        self.store.deploy(self.model, shared(rollout, step), cause, self.clock.now(), live.id, values)
        return False

    def _settle(self, rollout: Rollout, live: Deployment, cause: Cause) -> Deployment | None:
        """The challenger is champion; where it has all the traffic already there is nothing to deploy."""
        values = {**rollout.adopt, WAITING: None, ROLLOUT: None}
        traffic = Traffic({rollout.version: 1.0})
        if live.traffic == traffic:
            self.store.put_all(self.model, values, live.id)
            return None
        once = replace(cause, token=f"{rollout.id}-settled" if rollout.step else rollout.id)
        return self.store.deploy(self.model, traffic, once, self.clock.now(), live.id, values)

    def _withdraw(self, rollout: Rollout, live: Deployment, stored: str, decision: Decision) -> Deployment:
        touched = decision.evidence.get("touched", 0)
        harmed = decision.outcome is Outcome.ROLL_BACK
        what = "was taken back" if harmed else "did not prove itself, and leaves"
        words = f"version {rollout.version} {what} after {touched} answers: {'; '.join(decision.because)}"
        kind = "rollback" if harmed else "deploy"
        cause = Cause("keepfit", words, kind, stored, f"{rollout.id}-withdrawn")
        values = {**rollout.restore, ROLLOUT: None, WAITING: None}
        return self.store.deploy(
            self.model, Traffic({rollout.champion: 1.0}), cause, self.clock.now(), live.id, values
        )  # fmt: skip

    def _note(self, rollout: Rollout, decision: Decision, how: str | None = None) -> str:
        evidence = {**decision.evidence, "step": rollout.step, "strategy": rollout.strategy, "rollout": rollout.id}
        told = Decision(decision.outcome, decision.because, evidence)
        once = how or (None if decision.outcome is Outcome.HOLD else f"{rollout.step}-{decision.outcome.value}")
        id_ = None if once is None else f"{rollout.id}-rollout-{once}"
        return self.store.add_decision(self.model, rollout.subject, told, self.clock.now(), id_)


def told(strategy: str, step: Step) -> str:
    """A step in words."""
    gets = f"{step.share:.0%} of the traffic" if step.share else "asked, not heard"
    return f"{strategy}: {gets}" + (f", for {spelt(step.bake)} at least" if step.bake else "")


def shared(rollout: Rollout, step: Step) -> Traffic:
    """The traffic of a step."""
    shares = {rollout.champion: 1.0 - step.share, rollout.version: step.share}
    live = {version: share for version, share in shares.items() if share > 0}
    silent = tuple(version for version in (rollout.champion, rollout.version) if version not in live)
    return Traffic(live, silent if step.shadow else ())


def deploy(store: RecordStore, model: str, version: int, cause: Cause, clock: Clock) -> Deployment:
    """Give a version all the traffic at once, on a person's word or as the first. Idempotent by the cause's token.

    Nothing waits for approval any longer, and no rollout goes on: both were judged against what served until now. Data
    that a person brought with a version stays with it: adopted with the version, else put back.
    """
    rollout, waiting = under_way(store, model), store.get(model, WAITING) or {}
    values: dict[str, Any] = {}
    if rollout is not None:
        values = dict(rollout.adopt if version == rollout.version else rollout.restore)
    if waiting.get("version") == version:
        values |= waiting.get("adopt", {})
    values |= {WAITING: None, ROLLOUT: None}
    return store.deploy(model, Traffic({version: 1.0}), cause, clock.now(), values=values)


def adopt(store: RecordStore, model: str, values: Mapping[str, Any]) -> None:
    """Make what a version was made from the model's own: the data and columns that a person brought with it."""
    for name, value in values.items():
        store.put(model, name, value)


def rollback(
    store: RecordStore, model: str, to: int | None, actor: str, clock: Clock, here: bool = True
) -> Deployment:  # fmt: skip
    """Go back to the last version that really served before the present one, or to a named one that did.

    While a rollout goes on, that is its champion, unless no server could ever serve it. A second rollback goes further
    back, not forth again. `here`: keepfit serves the model, so no way leads to a version that is served elsewhere.
    Needs neither registry nor worker.
    Raises Refused when there is nothing to go back to, NotFound when version `to` never served.
    """
    history = store.deployments(model, limit=10_000)
    if not history:
        raise Refused(f"nothing was ever deployed for {model!r}; train a model first")
    removed = store.get(model, REMOVED) or {}
    if to is not None and str(to) in removed:
        raise Refused(f"the files of version {to} were removed to make room; choose another one, or train it again")
    if to is not None and here and is_foreign(to):
        raise Refused(f"version {to} is served elsewhere, so there is no way back to it here")
    served = [one for one in served_before(history) if str(one) not in removed and not (here and is_foreign(one))]
    rollout = under_way(store, model)
    if to is None and rollout is None and not served:
        only = "the only one that ever served" + (" here" if here and is_foreign(single(history[-1].traffic)) else "")
        raise Refused(f"version {single(history[0].traffic)} is {only}; there is no way back")
    if to is not None and to not in versions_served(history):
        known = ", ".join(map(str, sorted(versions_served(history)))) or "none"
        raise NotFound(f"version {to} never served {model!r}; versions that did: {known}")
    target = to if to is not None else back_from(rollout, served, versions_served(history))
    left = single(history[0].traffic) if rollout is None else rollout.version
    if history[0].traffic == Traffic({target: 1.0}):
        raise Refused(f"version {target} is live already")
    reason = f"rolled back from version {left} to version {target}"
    cause = Cause(actor, reason, "rollback")
    values = {**({} if rollout is None else rollout.restore), WAITING: None, ROLLOUT: None}
    if rollout is not None:
        words = Decision(Outcome.ROLL_BACK, (f"{actor} ended it: {reason}",), {"step": rollout.step})
        store.add_decision(model, rollout.subject, words, clock.now())
    return store.deploy(model, Traffic({target: 1.0}), cause, clock.now(), values=values)


def back_from(rollout: Rollout | None, way_back: Sequence[int], served: Collection[int]) -> int:
    """The version to go back to; the champion of a rollout may be one that was wanted, but could never be loaded."""
    if rollout is None or (way_back and rollout.champion not in served):
        return way_back[0]
    return rollout.champion


def served_before(history: Sequence[Deployment]) -> list[int]:
    """The versions that one could go back to, nearest first, from a history that is newest first.

    The way back is a stack: each deployment pushes a version, a rollback pops down to its target, so that a second
    rollback goes further back. A deployment counts only when a server reported that it served it.
    """
    stack: list[int] = []
    for row in reversed(history):
        version = single(row.traffic)
        if row is not history[0] and not row.applied:
            continue
        if row.kind == "rollback" and version in stack:
            del stack[len(stack) - 1 - stack[::-1].index(version) :]
        if not stack or stack[-1] != version:
            stack.append(version)
    return stack[-2::-1]


def versions_served(history: Sequence[Deployment]) -> set[int]:
    """Every version that a server reported to have served."""
    return {version for row in history if row.applied for version in row.traffic.shares}


def single(traffic: Traffic) -> int:
    """The version with the largest share; of equals the older one, which a challenger has still to beat."""
    return max(sorted(traffic.shares), key=lambda version: traffic.shares[version])


def serving_since(history: Sequence[Deployment]) -> datetime:
    """Since when the version with the most traffic has had it, from a history that is newest first."""
    version, since = single(history[0].traffic), history[0].at
    for row in history:
        if single(row.traffic) != version:
            break
        since = row.at
    return since
