"""The learning half, put together: gate, triggers, alerts, retraining and watch of one model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.alerts.alerts import Alert, Alerts, Channel
from keepfit.alerts.apprise import AppriseChannel, email_url
from keepfit.alerts.mailbox import MailboxChannel
from keepfit.app.learning_settings import GateSettings
from keepfit.app.model_settings import ModelSettings
from keepfit.app.recipes import recipe_now
from keepfit.app.settings import AlertSettings
from keepfit.app.spending import ledger, valued
from keepfit.app.tracing import tracer_of
from keepfit.app.wiring import (
    DETECTORS,
    Home,
    answering_half,
    code_version,
    learning_half,
    named,
    own_metrics,
    roller,
    traits,
    unasked,
    version_folder,
)
from keepfit.data.columns import Columns
from keepfit.data.files import read_rows
from keepfit.data.foreign import is_foreign
from keepfit.data.labellers import FILE
from keepfit.data.records import Example, Label, LabelledExample, Source, text_group
from keepfit.data.snapshot import Snapshot, Split, open_snapshot
from keepfit.data.store import RecordStore
from keepfit.decision import Decision
from keepfit.errors import InvalidInput, KeepfitError
from keepfit.evaluation.behaviour import NAMES, BehaviourPlan, BehaviourResult, check_behaviour
from keepfit.evaluation.evaluator import Judged, Reference, cost_matrix, of_class, read_reference
from keepfit.evaluation.gate import Gate
from keepfit.evaluation.rules import Behaviour as BehaviourRule
from keepfit.evaluation.rules import Better, Floors, Guard, LatencyBudget, NegativeFlips, NotWorse
from keepfit.evaluation.spread_floors import SpreadFloors
from keepfit.metrics import METRICS, Metric, auc, cost_metric
from keepfit.monitoring.asking import Parts
from keepfit.pipelines.announce import Announcer
from keepfit.pipelines.blind import Blind
from keepfit.pipelines.cascading import Cascading
from keepfit.pipelines.choosing import OnWhat
from keepfit.pipelines.estimating import AccuracyWatch
from keepfit.pipelines.harming import Harming
from keepfit.pipelines.inputs import InputWatch
from keepfit.pipelines.intake import WIDTH
from keepfit.pipelines.known import Proposals
from keepfit.pipelines.looks import ChosenDetectors, Look
from keepfit.pipelines.metering import Spending
from keepfit.pipelines.quarantine import quarantine
from keepfit.pipelines.recorded import recorded_reference, told_elsewhere
from keepfit.pipelines.retrain import Behaviour, Folders, Plan, Retraining
from keepfit.pipelines.rolling import Rolling
from keepfit.pipelines.taking import Days
from keepfit.pipelines.watch import Watch, WatchPlan
from keepfit.pipelines.worth import Worth, needed
from keepfit.registry.registry import Registry
from keepfit.rollout.rollout import single
from keepfit.tasks.loading import first_trade
from keepfit.tasks.task import Model, Report
from keepfit.training.recipe import Start
from keepfit.triggers.alarm import Harm
from keepfit.triggers.combinators import NewEvidence
from keepfit.triggers.policies import parts, trigger_from
from keepfit.triggers.trigger import Trigger

log = logging.getLogger(__name__)
BEHAVIOUR_SEED = 20250101
MANY, FEW = 256, 8
"""Labelled examples that a version answers later in one beat: texts, and windows of video, which take seconds."""


def retraining(home: Home, name: str, store: RecordStore, registry: Registry, report: Report) -> Retraining:
    """The steps of one model."""
    _, model = home.settings.model(name)
    plan = Plan(
        recipe_now(home, name, store),
        model.watch.holdout,
        model.watch.recent_share,
        model.approval,
        partial(user_metrics, model),
        code_version(),
        OnWhat() if traits(model.task).detects else on_what(model),
    )

    def fresh_rows(path: str) -> list[LabelledExample]:
        return labelled_file(Path(path), columns_of(store, name, model))

    detects = traits(model.task).detects
    check = unchecked if detects else behaviour(model.gate, home.folder)
    return Retraining(
        name, learning_half(model.task), store, registry, gate(model, metrics_of(model)), plan,
        Folders(home.snapshots, home.work), home.clock, roller(home, name, store), fresh_rows, check,
        screen if detects else None, report,
        Spending(name, store, home.clock, tracer=tracer_of(home.settings.traces)).step,
    )  # fmt: skip


def on_what(model: ModelSettings) -> OnWhat:
    """What the settings say of the data that a retraining learns from."""
    chosen = model.retraining
    return OnWhat(chosen.window, chosen.cheaper, chosen.new_classes, chosen.level)


def screen(base: Snapshot, champion: Model, number: int, start: Start, report: Report) -> tuple[Snapshot, Decision]:
    """What a detector learns from; to recalibrate must be quick, so only what sets the threshold is looked through."""
    parts = (Split.VALIDATION,) if start == "recalibrate" else (Split.TRAIN, Split.VALIDATION)
    return quarantine(base, champion, number, parts, lambda share: report({"progress": share}, 0))


def watch(home: Home, name: str, store: RecordStore, registry: Registry) -> Watch:
    """The watch of one model."""
    _, model = home.settings.model(name)
    plan = WatchPlan(
        model.watch.window, model.watch.label_window, model.watch.label_rate, model.watch.label_budget,
        unasked(model), model.settle_after, home.settings.timezone,
        Parts(**model.watch.label_parts.model_dump()), model.watch.audit_rate, model.watch.cohorts,
    )  # fmt: skip
    inputs = InputWatch(name, store, home.settings.timezone, model.watch.drift_run_length, model.watch.drift_label_rate)
    return Watch(
        name, store, Blind(minimum=model.watch.min_predictions), trigger(model), normals(home, name, store), plan,
        home.clock,
        lambda at, values: registry.log_window(name, at, values), rolling(home, name, store, registry),
        ledger(home, store).objection, harming(home, name, store), looks(name, model, store, inputs),
        inputs.more_labels, worth(home, name, store),
        None if traits(model.task).detects else proposals(home, name, store, registry).propose,
        cascading(home, name, store),
    )  # fmt: skip


def normals(home: Home, name: str, store: RecordStore) -> Callable[[int], Reference]:
    """What life is compared with, by version; of those that are served elsewhere what they answered first."""
    _, model = home.settings.model(name)
    last: dict[int, Reference] = {}

    def read(number: int) -> Reference:
        if is_foreign(number):  # the same object while it is the same: much is made ready for it
            found = recorded_reference(store, name, number, home.clock.now())
            last[number] = last[number] if number in last and same(last[number], found) else found
            return last[number]
        own = normal_of(model, read_reference(version_folder(home, name, number)))
        return own if model.served == "here" else told_elsewhere(own, int(store.get(name, f"{WIDTH}{number}") or 0))

    return read


def same(one: Reference, other: Reference) -> bool:
    """Whether two references are of the same answers with the same truth."""
    return all(
        np.array_equal(getattr(one, part), getattr(other, part), equal_nan=True)
        for part in ("scores", "embeddings", "truth", "times")
    )


def looks(name: str, model: ModelSettings, store: RecordStore, inputs: InputWatch) -> tuple[Look, ...]:
    """What is measured besides the plain windows."""
    few = model.watch.min_predictions
    chosen = {kind: (named(DETECTORS[kind])(), limit) for kind, limit in model.watch.detectors.items()}
    found: list[Look] = [inputs, ChosenDetectors(chosen, few)]
    # half of a detector's test part is made of events, so it says nothing of the accuracy in life
    if model.watch.estimate_accuracy and not traits(model.task).detects:
        found.append(AccuracyWatch(name, store, few))
    return tuple(found)


def harming(home: Home, name: str, store: RecordStore) -> Harming | None:
    """The harm detectors, where a trigger of the settings reads them."""
    _, model = home.settings.model(name)
    rule = next((part for part in parts(trigger(model)) if isinstance(part, Harm)), None)
    complete = unasked(model) is Source.COMPLETE
    return None if rule is None else Harming(name, store, rule, home.settings.timezone, complete, days(home, model))


def days(home: Home, model: ModelSettings) -> Days | None:
    """Which questions count together, where the settings say so."""
    watched = model.watch
    return Days(watched.cohorts, home.settings.timezone, watched.label_window) if watched.cohorts else None


def worth(home: Home, name: str, store: RecordStore) -> Worth | None:
    """Gathers harm and costs, where a trigger of the settings weighs them."""
    _, model = home.settings.model(name)
    if not needed(model.triggers):
        return None
    rows, complete = lru_cache(maxsize=256)(partial(rows_of, home)), unasked(model) is Source.COMPLETE
    return Worth(name, store, valued(model, home.settings.costs), rows, complete, days(home, model))


def rows_of(home: Home, snapshot: str) -> int:
    """Rows of a snapshot; 0 where it is gone."""
    try:
        return int(open_snapshot(home.snapshots, snapshot).lineage.get("rows", 0))
    except KeepfitError:
        return 0


def cascading(home: Home, name: str, store: RecordStore) -> Cascading | None:
    """Judges the first stage, where the settings let one answer."""
    plan = home.settings.model(name)[1].cascade.plan()
    if plan is None:
        return None
    trade = lru_cache(maxsize=8)(lambda number: first_trade(version_folder(home, name, number)))
    return Cascading(name, store, plan, trade, home.clock)


def proposals(home: Home, name: str, store: RecordStore, registry: Registry) -> Proposals:
    """Classes that people label and the model does not know."""
    _, model = home.settings.model(name)

    def learnt() -> Sequence[str]:
        live = store.deployment(name)
        return () if live is None else registry.version(name, single(live.traffic)).evaluation.labels

    return Proposals(name, store, model.retraining.new_classes, learnt, home.clock)


def rolling(home: Home, name: str, store: RecordStore, registry: Registry) -> Rolling:
    """The rollouts of one model; the two versions that it compares stay in memory."""
    _, model = home.settings.model(name)
    rollout = model.rollout
    most = FEW if traits(model.task).detects else MANY
    return Rolling(
        roller(home, name, store), registry, lru_cache(maxsize=2)(answering_half(home, name, store)), rollout.protect,
        rollout.tolerance, rollout.max_failures, most, days(home, model),
    )  # fmt: skip


def normal_of(model: ModelSettings, reference: Reference) -> Reference:
    """What life is compared with: of a detector what is normal, since half of its test part is made of events."""
    return of_class(reference, 0) if traits(model.task).detects else reference


def trigger(model: ModelSettings) -> Trigger:
    """The triggers of the settings: any of them, after a warm-up and a rest, and not twice on the same evidence."""
    return NewEvidence(trigger_from(model.triggers, model.warmup, model.cooldown), model.gate.min_evidence)


def announcer(home: Home, name: str, store: RecordStore, aloud: Callable[[Alert], None]) -> Announcer:
    """Who tells people."""
    alerts = Alerts(channels(home, home.settings.alerts), home.settings.alerts.group_for)
    return Announcer(name, store, alerts, home.clock, aloud)


def channels(home: Home, settings: AlertSettings) -> list[Channel]:
    """Every way to reach people that is set."""
    found: list[Channel] = [AppriseChannel(url.get_secret_value()) for url in settings.urls]
    if settings.email is not None:
        mail = settings.email
        password = mail.password.get_secret_value()
        found.append(AppriseChannel(email_url(mail.host, mail.port, mail.user, password, mail.sender, mail.to)))
    if settings.mailbox:
        found.append(MailboxChannel(home.mailbox, home.clock))
    return found


def columns_of(store: RecordStore, name: str, model: ModelSettings) -> Columns:
    """The columns as set, else the text columns of the training file."""
    known = Columns(**model.columns.model_dump())
    return known if known.text else Columns(text=tuple((store.get(name, "columns") or {}).get("text", ())))


def labelled_file(path: Path, columns: Columns) -> list[LabelledExample]:
    """A labelled file that was handed in later; rows with an error are left out.

    A file that is gone is left out, too: taking it away is the way to be rid of one that cannot be read.
    """
    if not path.is_file():
        log.warning("%s, which came as new data, is gone; learning goes on without it", path)
        return []
    at = path.stat().st_mtime
    found = []
    for row in read_rows(path, columns):
        if row.error is not None or row.label is None or row.content is None:
            continue
        moment = row.time or from_timestamp(at)
        parts = row.content if isinstance(row.content, tuple) else (row.content,)
        id_ = row.id or text_group("\x1f".join(parts))
        example = Example(row.content, moment, id_, row.key, row.context)
        found.append(LabelledExample(example, Label(id_, row.label, moment, Source.IMPORTED, FILE)))
    return found


def from_timestamp(seconds: float) -> datetime:
    """A moment from a file's time."""
    return datetime.fromtimestamp(seconds, UTC)


def unchecked(model: Model, judged: Judged) -> None:
    """No behaviour is checked."""


def metrics_of(model: ModelSettings) -> Mapping[str, Metric]:
    """What is measured besides the standard metrics: of a detector how it ranks, and the user's own."""
    return {**({"auc": Metric(auc)} if traits(model.task).detects else {}), **own_metrics(model)}


def gate(model: ModelSettings, own: Mapping[str, Metric]) -> Gate:
    """The rules of the settings; floors may name a user's own metrics."""
    settings = model.gate
    return Gate(
        (
            Floors(
                settings.floors,
                {**METRICS, **own},
                settings.min_evidence,
                one_answer_fails=not traits(model.task).detects,
            ),
            SpreadFloors(settings.floors, {**METRICS, **own}),
            Better(settings.level, settings.min_evidence),
            NotWorse(settings.not_worse_margin, min_labels=settings.min_evidence),
            Guard(settings.guard_margin),
            NegativeFlips(settings.max_negative_flips),
            LatencyBudget(settings.latency_ms, settings.latency_ratio),
            BehaviourRule(),
        )
    )


def behaviour(settings: GateSettings, project: Path) -> Behaviour:
    """The user's must-hold examples and the invariances, tried on a model and its test texts."""
    must_hold = () if settings.must_hold is None else must_hold_file(project / settings.must_hold)
    plan = BehaviourPlan(must_hold, tolerances=settings.invariances, names=settings.names or NAMES)

    def check(model: Model, judged: Judged) -> BehaviourResult:
        return check_behaviour(model, judged.rows.contents, plan, np.random.default_rng(BEHAVIOUR_SEED))

    return check


def must_hold_file(path: Path) -> tuple[tuple[Any, str], ...]:
    """(content, label) pairs from a labelled file. Raises InvalidInput when a row of it cannot be read."""
    pairs = []
    for row in read_rows(path, Columns()):
        if row.error is not None or row.content is None or row.label is None:
            raise InvalidInput(
                f"row {row.number} of {path}: {row.error or 'text or label is missing'}", "gate.must_hold"
            )
        pairs.append((row.content, row.label))
    return tuple(pairs)


def user_metrics(model: ModelSettings, labels: Sequence[str]) -> Mapping[str, Metric]:
    """A user's own metric and cost matrix, for these classes."""
    found = dict(metrics_of(model))
    if model.gate.cost is not None:
        found["cost"] = cost_metric(cost_matrix(labels, model.gate.cost))
    return found
