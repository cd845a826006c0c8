"""RecordStore: where examples, predictions, labels, decisions, deployments, events and jobs are kept.

One call is one transaction: when it returns it is durable, when it raises nothing of it was written. What is
returned never changes later. Any thread and any number of processes may use the same database. Everything raises
BackendError, with a sentence, when the database fails. `tests/contracts/test_record_store.py` holds it to this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from keepfit.clock import Clock, SystemClock
from keepfit.data import (
    arrivals,
    asked,
    audit,
    classes,
    comparing,
    costs,
    foreign,
    history,
    inspection,
    jobs,
    labellers,
    labelling,
    lineage,
    named_models,
    predictions,
    quota,
    relabelling,
    tokens,
)
from keepfit.data.arrivals import Arrival, Settled
from keepfit.data.asked import Question
from keepfit.data.audit import Deed
from keepfit.data.chain import AuditEntry, Head
from keepfit.data.classes import ClassChange, ClassMap, Labelled, Spoken
from keepfit.data.comparing import Brief
from keepfit.data.costs import Cost
from keepfit.data.database import Database, open_database
from keepfit.data.foreign import ForeignVersion
from keepfit.data.inspection import Inspection
from keepfit.data.labellers import Labeller, Said
from keepfit.data.lineage import Made
from keepfit.data.quota import Quota
from keepfit.data.records import (
    MEASURING,
    Cause,
    Deployment,
    Event,
    Example,
    Failure,
    Job,
    JobState,
    Label,
    LabelledExample,
    Prediction,
    QueueItem,
    Source,
    StoredDecision,
    Traffic,
    Window,
    new_id,
)
from keepfit.data.sole import FORGETTING, Sole
from keepfit.data.tallies import Tallies, read_tallies
from keepfit.data.today import Today, read_today
from keepfit.data.tokens import Token
from keepfit.decision import Decision
from keepfit.errors import Refused
from keepfit.telling import Progress

_CLOCK = SystemClock()


class RecordStore:
    """Everything that happened, on SQLite or PostgreSQL."""

    def __init__(self, database: Database, clock: Clock = _CLOCK) -> None:
        self._db, self._clock = database, clock

    def now(self) -> datetime:
        """The present, by the clock that the store was opened with."""
        return self._clock.now()

    @classmethod
    def open(cls, url: str, clock: Clock = _CLOCK) -> RecordStore:
        """The store at `sqlite:///FILE` or `postgresql://...`, created or upgraded as needed.

        Raises SettingsError for a wrong URL, BackendError when it cannot be opened.
        """
        store = cls(open_database(url), clock)
        try:
            audit.begin(store._db, clock.now())
        except BaseException:
            store.close()
            raise
        return store

    @property
    def database(self) -> Database:
        """What is below, for retention and forgetting, which tell of rows that nobody else deletes."""
        return self._db

    def close(self) -> None:
        """Gives back every connection."""
        self._db.engine.dispose()

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ping(self) -> None:
        """Raises BackendError when the database does not answer."""
        with self._db.read() as conn:
            conn.execute(text("SELECT 1"))

    def is_writable(self) -> None:
        """Raises BackendError when the database cannot be written."""
        self._db.check_writable()

    def sole(self, role: str) -> Sole:
        """What one process at most may be of all that use this database, such as its worker; not yet acquired."""
        return Sole(self._db, role)

    def nobody_forgets(self) -> bool:
        """Whether a job that is on record may begin: no forgetting runs, and one that comes later sees the job."""
        forgetting = self.sole(FORGETTING)
        try:
            forgetting.acquire()
        except Refused:
            return False
        forgetting.release()
        return True

    # predictions

    def add_later(self, model: str, said: Sequence[Prediction]) -> None:
        """Writes what was said later to examples that are here still; nothing of one that was forgotten meanwhile."""
        with self._db.write() as conn:
            predictions.add_later(conn, model, said)

    def add_predictions(self, model: str, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        """Writes what is new by id. An example's id that comes again with other content: the newer content holds."""
        with self._db.write() as conn:
            predictions.add_predictions(conn, model, pairs)

    def add_past(
        self, model: str, pairs: Sequence[tuple[Example, Prediction]], labels: Sequence[Label],
        name: str, far: Mapping[str, Any],
    ) -> tuple[int, int]:  # fmt: skip
        """Writes a part of a history and how far it goes (a named value) at once; how many answers and labels are new.

        These are added to `answers` and `labels` of the named value. An answer whose id is there is left as it is.
        Raises NotFound for a label of an unknown example.
        """
        with self._db.write() as conn:
            new = predictions.unknown(conn, model, pairs)
            predictions.add_predictions(conn, model, new)
            said = labelling.add_labels(conn, model, labels)
            counts = {"answers": far["answers"] + len(new), "labels": far["labels"] + said}
            history.put_value(conn, model, name, {**far, **counts})
        return len(new), said

    def contents(self, model: str, example_ids: Collection[str]) -> dict[str, Any]:
        """What stands under these ids, of those that are stored."""
        with self._db.read() as conn:
            return predictions.contents(conn, model, example_ids)

    def prediction(self, model: str, prediction_id: str) -> tuple[Example, Prediction]:
        """Raises NotFound."""
        with self._db.read() as conn:
            return predictions.prediction(conn, model, prediction_id)

    def find_prediction(
        self, model: str, *, example_id: str | None = None, group: str | None = None
    ) -> tuple[Example, Prediction] | None:
        """The newest prediction of an example or group; a shadow's only where nobody else answered."""
        with self._db.read() as conn:
            return predictions.find_prediction(conn, model, example_id, group)

    def predictions(
        self, model: str, window: Window, version: int | None = None, limit: int | None = None, heard: bool = False
    ) -> list[Prediction]:
        """By prediction time, oldest first, with a limit the newest ones; the shadows' too, unless only `heard` ones.

        What a version is asked later, such as where labels came, is a shadow's: a chosen few, and no sample.
        """
        with self._db.read() as conn:
            return predictions.predictions(conn, model, window, version, limit, heard)

    def fair_predictions(self, model: str, window: Window, version: int | None, limit: int) -> list[Prediction]:
        """Of the answers that users heard, the newest of those that stand for all, oldest first.

        Where a first stage answers, these are the ones that were drawn for the full model, whatever they are: all of
        them have its scores and embedding. Else they are all.
        """
        with self._db.read() as conn:
            return predictions.fair_predictions(conn, model, window, version, limit)

    def examples(self, model: str, window: Window, limit: int | None = None) -> list[Example]:
        """By example time, oldest first; with a limit the newest ones."""
        with self._db.read() as conn:
            return predictions.examples(conn, model, window, limit)

    def count_predictions(self, model: str, window: Window | None = None) -> int:
        """How many are stored, the shadows' too."""
        with self._db.read() as conn:
            return predictions.count_predictions(conn, model, window)

    # a model that is served elsewhere

    def foreign_versions(self, model: str) -> list[ForeignVersion]:
        """Versions whose files are not here, by number."""
        with self._db.read() as conn:
            return foreign.foreign_versions(conn, model)

    def foreign_version(
        self, model: str, name: str, labels: tuple[str, ...], width: int, at: datetime, computed: bool = False
    ) -> ForeignVersion:  # fmt: skip
        """The version of another system's name, registered now when it is new; a known one stays as it is.

        Raises InvalidInput for a name that is empty or too long, or a version without classes.
        """
        with self._db.write() as conn:
            return foreign.get_or_register(conn, model, name, labels, width, at, computed)

    def add_answers(
        self, model: str, pairs: Sequence[tuple[Example, Prediction]], values: Mapping[str, Any] | None = None
    ) -> int:
        """Writes what is new by id, with named values, in one transaction; returns how many were new.

        Raises Refused, and writes nothing, when an id is stored with other content.
        """
        with self._db.write() as conn:
            foreign.put_values(conn, model, (values or {}).items())
            return foreign.add_answers(conn, model, pairs)

    # comparing versions

    def briefs(self, model: str, window: Window, version: int | None = None, limit: int | None = None) -> list[Brief]:
        """Answers without embeddings, by prediction time, oldest first; with a limit the newest ones."""
        with self._db.read() as conn:
            return comparing.briefs(conn, model, window, version, limit)

    def briefs_of(self, model: str, window: Window, versions: Collection[int], limit: int) -> list[Brief]:
        """The oldest `limit` answers of these versions in the window, oldest first."""
        with self._db.read() as conn:
            return comparing.briefs_of(conn, model, window, versions, limit)

    def answers(
        self, model: str, example_ids: Collection[str], versions: Collection[int]
    ) -> dict[tuple[str, int], str]:
        """The label that a version gave to an example (its newest) as it is called today, by (example id, version)."""
        with self._db.read() as conn:
            return comparing.answers(conn, model, example_ids, versions)

    def complaints(self, model: str, window: Window) -> list[Brief]:
        """The answers that a volunteered label of the window contradicts, each once; nobody set apart is heard."""
        with self._db.read() as conn:
            return comparing.complaints(conn, model, window)

    def count_heard(self, model: str, version: int, since: datetime, until: datetime | None = None) -> int:
        """How many answers of a version users saw, from `since` on (inclusive), before `until` (None: all)."""
        with self._db.read() as conn:
            return comparing.count_heard(conn, model, version, since, until)

    def add_failures(self, model: str, failures: Sequence[Failure]) -> None:
        """Appends what versions could not do."""
        with self._db.write() as conn:
            comparing.add_failures(conn, model, failures)

    def failures(self, model: str, since: datetime, limit: int = 1000) -> list[Failure]:
        """Those from `since` on (inclusive), newest first."""
        with self._db.read() as conn:
            return comparing.failures(conn, model, since, limit)

    def count_failures(self, model: str, version: int, since: datetime, kinds: Collection[str]) -> int:
        """How often a version failed in these ways, from `since` on (inclusive)."""
        with self._db.read() as conn:
            return comparing.count_failures(conn, model, version, since, kinds)

    # labels

    def add_labels(
        self, model: str, labels: Sequence[Label], within: Quota | None = None, by_hand: bool = False
    ) -> int:
        """Writes the labels that say something new and returns how many those were.

        A label that repeats its actor's latest one of the same value and source says nothing new. `by_hand`: they
        came by the command line, so they are no flood. Raises NotFound, and writes nothing, when an example is
        unknown; Overloaded when the new ones are more than the quota leaves for today.
        """
        with self._db.write() as conn:
            new = labelling.add_labels(conn, model, labels)
            if within is not None:
                quota.spend(conn, within, new)
            if by_hand:
                labellers.count_by_hand(conn, model, [label.actor for label in labels])
            return new

    def labelled(
        self,
        model: str,
        window: Window,
        version: int | None = None,
        sources: Collection[Source] = MEASURING,
        by: Literal["prediction", "label"] = "prediction",
        everyone: bool = False,
        as_of: datetime | None = None,
    ) -> list[tuple[Prediction, Label]]:
        """Pairs of a prediction that users saw and the current label (among `sources`), one per example.

        By prediction: predictions made in the window, in that order. By label: labels that arrived in it, in that
        order. Of several predictions for one example the newest counts (by prediction: the newest in the window).
        Labels of those who were set apart and of retired classes are left out, and classes are named as they are
        today, or as of a moment; where `everyone` is wanted, all is as it was said.
        """
        with self._db.read() as conn:
            pairs = labelling.labelled(conn, model, window, version, sources, by, everyone)
            return pairs if everyone else read_today(conn, model, as_of).pairs(pairs)

    def arrivals(
        self, model: str, version: int, since: datetime, after: int | Settled, limit: int = 10_000
    ) -> list[Arrival]:
        """The first measuring label of each answer that a version gave from `since` on, as they came in.

        Only labels numbered above `after`, the oldest `limit` of them, or of answers that have settled, in the order of
        the answers. Nobody who is set apart is heard. Classes are as they are called today, without the retired ones.
        """
        with self._db.read() as conn:
            return arrivals.arrivals(conn, model, version, since, after, limit)

    def expected_wrong(self, model: str, version: int, window: Window, day: datetime) -> tuple[float, int]:
        """How wrong a version expected to be on the answers of a window that may be asked for, and their number.

        `day`: since when an answer to the same content makes another one that is not asked for.
        """
        with self._db.read() as conn:
            return arrivals.expected_wrong(conn, model, version, window, day)

    def training_data(self, model: str, until: datetime | None = None) -> list[LabelledExample]:
        """Each labelled example with the label that counted at `until` (inclusive; None: now), by label arrival.

        Labels of those who are set apart now are left out, whenever they came.
        """
        with self._db.read() as conn:
            return labelling.training_data(conn, model, until)

    def count_labels(self, model: str, since: datetime, sources: Collection[Source] | None = None) -> int:
        """How many arrived after `since` (exclusive, so that it goes on where training_data(until) ended)."""
        with self._db.read() as conn:
            return labelling.count_labels(conn, model, since, sources)

    # classes

    def classes(self, model: str) -> ClassMap:
        """What people have decided about classes."""
        with self._db.read() as conn:
            return classes.read_map(conn, model)

    def change_classes(self, model: str, change: ClassChange, existing: Collection[str]) -> ClassMap:
        """Adds a decision, and tells the audit; `existing` are the classes learnt so far.

        Raises InvalidInput for one that makes no sense, such as to rename a class that there is not.
        """
        with self._db.write() as conn:
            return classes.change_map(conn, model, change, frozenset(existing))

    def undo_classes(self, model: str, actor: str, at: datetime, learnt: Collection[str]) -> ClassChange:
        """Takes back the decision that was noted last, and tells the audit; `learnt`: what the live version answers.

        Raises InvalidInput where there is none, or it has been learnt.
        """
        with self._db.write() as conn:
            return classes.undo(conn, model, actor, at, sorted(learnt))

    def today(self, model: str) -> Today:
        """The class map, with the moments since when each version has answered."""
        with self._db.read() as conn:
            return read_today(conn, model)

    def labelled_classes(self, model: str) -> list[Labelled]:
        """Every class that was given as a label, the most frequent first; nobody set apart is heard."""
        with self._db.read() as conn:
            return classes.labelled_classes(conn, model)

    def spoken_classes(self, model: str, after: int) -> tuple[int, list[Spoken]]:
        """The number of the newest label, and the classes given since number `after`, by whom: also those set apart."""
        with self._db.read() as conn:
            return classes.spoken_classes(conn, model, after)

    # labellers

    def labellers(self, model: str) -> list[Labeller]:
        """Everyone about whom something was decided, by name."""
        with self._db.read() as conn:
            return labellers.labellers(conn, model)

    def set_labeller(self, labeller: Labeller) -> None:
        """Sets apart, or clears; what was decided before is replaced."""
        deed = Deed(labeller.decided_by, "set apart" if labeller.apart else "clear", labeller.since)
        with self._db.write() as conn:
            labellers.set_labeller(conn, labeller)
            audit.append(conn, labeller.model, deed, f"labeller {labeller.actor}", {"because": labeller.because})

    def arrived(self, model: str, after: int) -> tuple[int, dict[str, int]]:
        """The number of the newest label (`after` unless there is one), and how many each person has given since."""
        with self._db.read() as conn:
            return labellers.arrived(conn, model, after)

    def said(self, model: str, last: int) -> list[Said]:
        """The `last` labels that people gave, set apart or not, in the order in which they came in.

        Classes are as they are called today, without the retired ones.
        """
        with self._db.read() as conn:
            today = read_today(conn, model)
            return labellers.said(conn, model, last, today.truth, today.answer)

    # the label queue

    def ask(self, items: Sequence[QueueItem]) -> None:
        """Queues what is not queued yet, by id and by prediction."""
        with self._db.write() as conn:
            labelling.ask(conn, items)

    def queue(self, model: str, limit: int, first: datetime | None = None) -> list[QueueItem]:
        """What is asked and has no asked or complete label yet (of an audit: no asked one), oldest first.

        What was asked since `first` because two versions disagree comes before all others, and before that, as up to
        half of what is given, examples of a class that was split. Classes to choose from are those of today.
        """
        with self._db.read() as conn:
            known = classes.read_map(conn, model)
            again = relabelling.to_relabel(conn, model, known, limit)
            items = relabelling.joined(again, labelling.queue(conn, model, limit, first), limit)
            return [replace(item, label_set=known.offered(item.label_set, item.asked_at)) for item in items]

    def queue_item(
        self, model: str, *, prediction_id: str | None = None, example_id: str | None = None, id: str | None = None
    ) -> QueueItem | None:
        """The newest item of a prediction or example, or the one of this id, answered or not."""
        with self._db.read() as conn:
            return labelling.queue_item(conn, model, prediction_id, example_id, id)

    def repeated(self, model: str, since: datetime, window: Window) -> set[str]:
        """Ids of live predictions of the window whose very content was answered before, from `since` on."""
        with self._db.read() as conn:
            return asked.repeated(conn, model, since, window)

    def alike(self, model: str, example_ids: Collection[str]) -> dict[str, str]:
        """Of each example what is the same for examples of the very same content."""
        with self._db.read() as conn:
            return asked.alike(conn, model, example_ids)

    def parts_of(self, model: str, example_ids: Collection[str]) -> dict[str, dict[str, datetime]]:
        """Which parts of the queue drew an example, and when last; nothing of what was never asked about."""
        with self._db.read() as conn:
            return asked.parts_of(conn, model, example_ids)

    def asked(self, model: str, window: Window) -> list[Question]:
        """The questions asked in the window, oldest first, each with the time of its first answer that measures."""
        with self._db.read() as conn:
            return asked.asked(conn, model, window)

    def unanswered(self, model: str, window: Window, version: int | None = None) -> list[tuple[Prediction, float]]:
        """Answers given in the window whose question nobody answered by a label that measures, with their chances."""
        with self._db.read() as conn:
            return asked.unanswered(conn, model, window, version)

    def asked_until(self, model: str) -> datetime | None:
        """The time of the newest prediction that was considered for the queue."""
        moment = self.get(model, "asked_until")
        return None if moment is None else datetime.fromisoformat(moment)

    def set_asked_until(self, model: str, moment: datetime) -> None:
        """Remembers how far the predictions were considered."""
        self.put(model, "asked_until", moment)

    # decisions

    def add_decision(self, model: str, subject: str, decision: Decision, at: datetime, id: str | None = None) -> str:
        """Writes it unless its id is there; returns the id."""
        stored = StoredDecision(id or new_id(), model, at, subject, decision)
        with self._db.write() as conn:
            history.add_decision(conn, stored)
        return stored.id

    def decisions(
        self, model: str | None = None, subject: str | None = None, limit: int = 100,
        until: datetime | None = None, begins: str = "",
    ) -> list[StoredDecision]:  # fmt: skip
        """Newest first, up to a moment. The subject "gate" also finds "gate v3"; `begins` is how an id begins."""
        with self._db.read() as conn:
            return history.decisions(conn, model, subject, limit, until, begins)

    def decision(self, id: str) -> StoredDecision:
        """Raises NotFound."""
        with self._db.read() as conn:
            return history.decision(conn, id)

    # deployments

    def deploy(
        self, model: str, traffic: Traffic, cause: Cause, at: datetime,
        after: int | None = None, values: Mapping[str, Any] | None = None,
    ) -> Deployment:  # fmt: skip
        """Appends to the history, and puts named values in the same transaction.

        A token that was used before returns the deployment of then. Raises Refused, and writes nothing, when the newest
        deployment is another than `after` (where it is given): somebody else was faster.
        """
        wanted = Deployment(0, model, at, cause.actor, cause.reason, traffic, cause.kind, cause.decision_id)
        with self._db.write() as conn:
            return history.deploy(conn, wanted, cause, after, values or {})

    def deployment(self, model: str) -> Deployment | None:
        """The newest."""
        return next(iter(self.deployments(model, 1)), None)

    def deployments(self, model: str | None = None, limit: int = 100) -> list[Deployment]:
        """Newest first."""
        with self._db.read() as conn:
            return history.deployments(conn, model, limit)

    def live_at(self, model: str, t: datetime) -> Deployment | None:
        """The deployment that was wanted at `t`; None before the first."""
        with self._db.read() as conn:
            return next(iter(history.deployments(conn, model, 1, until=t)), None)

    def applied(self, deployment_id: int, worker: str, at: datetime) -> None:
        """Notes when a worker began to serve it; the first time holds. Raises NotFound."""
        with self._db.write() as conn:
            history.applied(conn, deployment_id, worker, at)

    # events

    def add_event(self, event: Event) -> None:
        """Writes it unless its id is there."""
        with self._db.write() as conn:
            history.add_event(conn, event)

    def waiting_events(self, model: str) -> list[Event]:
        """What nobody has taken up, oldest first."""
        with self._db.read() as conn:
            return history.waiting_events(conn, model)

    def handle_events(self, ids: Sequence[str], handled_by: str) -> None:
        """Marks events that still wait as taken up by a decision or job."""
        with self._db.write() as conn:
            history.handle_events(conn, ids, handled_by)

    # jobs

    def add_job(self, job: Job) -> None:
        """Writes it unless its id is there."""
        with self._db.write() as conn:
            jobs.add_job(conn, job)

    def join_or_add_job(self, job: Job) -> Job:
        """The job of this model and kind that waits or runs; if there is none, `job`, now written."""
        with self._db.write() as conn:
            return jobs.join_or_add_job(conn, job)

    def running_or_waiting(self, model: str, kind: str) -> Job | None:
        """The oldest job of this model and kind that is not finished."""
        with self._db.read() as conn:
            return jobs.running_or_waiting(conn, model, kind)

    def claim_job(self, worker: str, kinds: Collection[str], models: Collection[str] | None = None) -> Job | None:
        """Takes the job of these kinds (and models) that waits longest and marks it running; each one only once."""
        with self._db.write() as conn:
            return jobs.claim_job(conn, worker, kinds, models)

    def job(self, id: str) -> Job:
        """Raises NotFound."""
        with self._db.read() as conn:
            return jobs.read_job(conn, id)

    def jobs(
        self,
        model: str | None = None,
        kind: str | None = None,
        states: Collection[JobState] | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Newest first."""
        with self._db.read() as conn:
            return jobs.jobs(conn, model, kind, states, limit)

    def update_job(
        self,
        id: str,
        *,
        state: JobState | None = None,
        step: str | None = None,
        result: Any = None,
        finished_at: datetime | None = None,
    ) -> None:
        """Sets what is given. Raises NotFound."""
        changes = {"state": state, "step": step, "result": result, "finished_at": finished_at}
        with self._db.write() as conn:
            jobs.update_job(conn, id, {name: value for name, value in changes.items() if value is not None})

    # small named values

    def get(self, model: str, name: str) -> Any:
        """The JSON value put last under this name, or None."""
        with self._db.read() as conn:
            return history.get_value(conn, model, name)

    def put_all(self, model: str, values: Mapping[str, Any], after: int) -> None:
        """Replaces several values at once; or raises Refused when the newest deployment is another than `after`."""
        with self._db.write() as conn:
            history.put_all(conn, model, values, after)

    def put(self, model: str, name: str, value: Any) -> None:
        """Replaces the value of this name."""
        with self._db.write() as conn:
            history.put_value(conn, model, name, value)

    # costs and tallies

    def put_cost(self, cost: Cost) -> None:
        """Writes it; a row of its id is replaced."""
        with self._db.write() as conn:
            costs.put_cost(conn, cost)

    def costs(self, model: str, window: Window, kind: str | None = None) -> list[Cost]:
        """Oldest first."""
        with self._db.read() as conn:
            return costs.costs(conn, model, window, kind)

    def spent_labels(self, model: str, window: Window) -> dict[str, int]:
        """Labels that people gave in the window, by source."""
        with self._db.read() as conn:
            return costs.spent_labels(conn, model, window)

    def models(self) -> list[str]:
        """The models that had a job or a deployment, by name, whatever the settings say now."""
        with self._db.read() as conn:
            return named_models.models(conn)

    def amounts(self, model: str) -> tuple[int, int]:
        """How many answers and labels are stored of a model."""
        with self._db.read() as conn:
            return named_models.amounts(conn, model)

    def tallies(self, before: Tallies | None = None) -> Tallies:
        """How much of everything is here; goes on from an earlier reading."""
        with self._db.read() as conn:
            return read_tallies(conn, before or Tallies())

    # tokens

    def add_token(self, token: Token, actor: str = audit.SYSTEM) -> None:
        """Raises Refused when the name is taken."""
        with self._db.write() as conn:
            tokens.add_token(conn, token)
            told = {"roles": token.roles, "expires": token.expires}
            audit.tell(conn, "token", token.name, Deed(actor, "token add", token.created), told)

    def tokens(self) -> list[Token]:
        """All, oldest first, the revoked and expired ones too."""
        with self._db.read() as conn:
            return tokens.tokens(conn)

    def change_token(self, name: str, limits: Mapping[str, int | None], actor: str = audit.SYSTEM) -> None:
        """Sets `per_minute` or `labels_per_day` (None: no limit); `actor` does it. Raises NotFound."""
        with self._db.write() as conn:
            tokens.change_token(conn, name, limits)
            audit.tell(conn, "token", name, Deed(actor, "token set", self._clock.now()), {"limits": dict(limits)})

    def revoke_token(self, name: str, actor: str = audit.SYSTEM, at: datetime | None = None) -> None:
        """`actor` does it. Raises NotFound."""
        with self._db.write() as conn:
            if tokens.revoke_token(conn, name):
                audit.tell(conn, "token", name, Deed(actor, "token revoke", at or self._clock.now()))

    # the audit

    def note(
        self, model: str, actor: str, action: str, subject: str, details: Mapping[str, Any], at: datetime
    ) -> AuditEntry:
        """Appends an entry for what other rooms did; "" as the model is the installation.

        The store's own changes (deployments, decisions, tokens, events, retrainings) note themselves.
        """
        with self._db.write() as conn:
            return audit.append(conn, model, Deed(actor, action, at), subject, details)

    def audit_entries(self, model: str | None = None, limit: int = 100, before: int | None = None) -> list[AuditEntry]:
        """Who changed what, newest first; `before` is an entry's number, for the next page."""
        with self._db.read() as conn:
            return audit.entries(conn, model, limit, before)

    def audit_head(self) -> Head | None:
        """The last entry's number and hash; None when the chain was emptied."""
        return next((entry.head for entry in self.audit_entries(limit=1)), None)

    def verify_audit(self, head: Head | None = None, progress: Progress = lambda done, total: None) -> Inspection:
        """Walks the chain, and compares deployments, decisions and tokens with it; `head` was kept elsewhere."""
        with self._db.read() as conn:
            return inspection.inspect(conn, head, progress)

    # where an answer comes from

    def request_of(self, model: str, prediction_id: str) -> str | None:
        """The id of the request that a prediction answered, where one was kept."""
        with self._db.read() as conn:
            return lineage.request_of(conn, model, prediction_id)

    def labels_of(self, model: str, example_id: str) -> list[Label]:
        """Every label of one example, as they arrived, the replaced ones too."""
        with self._db.read() as conn:
            return lineage.labels_of(conn, model, example_id)

    def made_by(self, model: str, version: int) -> Made:
        """How many predictions a version made, and in which time."""
        with self._db.read() as conn:
            return lineage.made_by(conn, model, version)

    def prediction_ids(self, model: str, versions: Collection[int], limit: int, after: str | None = None) -> list[str]:
        """By version, then by time; `after` is the last of the page before. Raises NotFound for an unknown `after`."""
        with self._db.read() as conn:
            return lineage.prediction_ids(conn, model, versions, limit, after)
