"""RecordStore: where examples, predictions, labels, decisions, deployments, events and jobs are kept.

One call is one transaction: when it returns it is durable, when it raises nothing of it was written. What is
returned never changes later. Any thread and any number of processes may use the same database. Everything raises
BackendError, with a sentence, when the database fails. `tests/contracts/test_record_store.py` holds it to this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from keepfit.data import comparing, history, jobs, labelling, predictions, tokens
from keepfit.data.comparing import Brief
from keepfit.data.database import Database, open_database
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
from keepfit.data.sole import Sole
from keepfit.data.tokens import Token
from keepfit.decision import Decision


class RecordStore:
    """Everything that happened, on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @classmethod
    def open(cls, url: str) -> RecordStore:
        """The store at `sqlite:///FILE` or `postgresql://...`, created or upgraded as needed.

        Raises SettingsError for a wrong URL, BackendError when it cannot be opened.
        """
        return cls(open_database(url))

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

    # predictions

    def add_predictions(self, model: str, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        """Writes what is new by id. An example's id that comes again with other content: the newer content holds."""
        with self._db.write() as conn:
            predictions.add_predictions(conn, model, pairs)

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
        self, model: str, window: Window, version: int | None = None, limit: int | None = None
    ) -> list[Prediction]:
        """By prediction time, oldest first, the shadows' too; with a limit the newest ones."""
        with self._db.read() as conn:
            return predictions.predictions(conn, model, window, version, limit)

    def examples(self, model: str, window: Window, limit: int | None = None) -> list[Example]:
        """By example time, oldest first; with a limit the newest ones."""
        with self._db.read() as conn:
            return predictions.examples(conn, model, window, limit)

    def count_predictions(self, model: str, window: Window | None = None) -> int:
        """How many are stored, the shadows' too."""
        with self._db.read() as conn:
            return predictions.count_predictions(conn, model, window)

    # comparing versions

    def briefs(self, model: str, window: Window, version: int | None = None, limit: int | None = None) -> list[Brief]:
        """Answers without embeddings, by prediction time, oldest first; with a limit the newest ones."""
        with self._db.read() as conn:
            return comparing.briefs(conn, model, window, version, limit)

    def answers(
        self, model: str, example_ids: Collection[str], versions: Collection[int]
    ) -> dict[tuple[str, int], str]:
        """The label that a version gave to an example (its newest), by (example id, version)."""
        with self._db.read() as conn:
            return comparing.answers(conn, model, example_ids, versions)

    def complaints(self, model: str, window: Window) -> dict[int, int]:
        """How many volunteered labels arrived in the window that contradict the answer they name, by its version."""
        with self._db.read() as conn:
            return comparing.complaints(conn, model, window)

    def add_failures(self, model: str, failures: Sequence[Failure]) -> None:
        """Appends what versions could not do."""
        with self._db.write() as conn:
            comparing.add_failures(conn, model, failures)

    def failures(self, model: str, since: datetime, limit: int = 1000) -> list[Failure]:
        """Those from `since` on (inclusive), newest first."""
        with self._db.read() as conn:
            return comparing.failures(conn, model, since, limit)

    def count_failures(self, model: str, version: int, since: datetime) -> int:
        """How often a version could not answer, from `since` on (inclusive)."""
        with self._db.read() as conn:
            return comparing.count_failures(conn, model, version, since)

    # labels

    def add_labels(self, model: str, labels: Sequence[Label]) -> int:
        """Writes the labels that say something new and returns how many those were.

        A label that repeats its actor's latest one of the same value and source says nothing new.
        Raises NotFound, and writes nothing, when an example is unknown.
        """
        with self._db.write() as conn:
            return labelling.add_labels(conn, model, labels)

    def labelled(
        self,
        model: str,
        window: Window,
        version: int | None = None,
        sources: Collection[Source] = MEASURING,
        by: Literal["prediction", "label"] = "prediction",
    ) -> list[tuple[Prediction, Label]]:
        """Pairs of a prediction that users saw and the current label (among `sources`), one per example.

        By prediction: predictions made in the window, in that order. By label: labels that arrived in it, in that
        order. Of several predictions for one example the newest counts (by prediction: the newest in the window).
        """
        with self._db.read() as conn:
            return labelling.labelled(conn, model, window, version, sources, by)

    def training_data(self, model: str, until: datetime | None = None) -> list[LabelledExample]:
        """Each labelled example with the label that counted at `until` (inclusive; None: now), by label arrival."""
        with self._db.read() as conn:
            return labelling.training_data(conn, model, until)

    def count_labels(self, model: str, since: datetime, sources: Collection[Source] | None = None) -> int:
        """How many arrived after `since` (exclusive, so that it goes on where training_data(until) ended)."""
        with self._db.read() as conn:
            return labelling.count_labels(conn, model, since, sources)

    # the label queue

    def ask(self, items: Sequence[QueueItem]) -> None:
        """Queues what is not queued yet, by id and by prediction."""
        with self._db.write() as conn:
            labelling.ask(conn, items)

    def queue(self, model: str, limit: int) -> list[QueueItem]:
        """What is asked and has no asked or complete label yet, oldest first."""
        with self._db.read() as conn:
            return labelling.queue(conn, model, limit)

    def queue_item(
        self, model: str, *, prediction_id: str | None = None, example_id: str | None = None
    ) -> QueueItem | None:
        """The newest item of a prediction or example, answered or not."""
        with self._db.read() as conn:
            return labelling.queue_item(conn, model, prediction_id, example_id)

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

    def decisions(self, model: str | None = None, subject: str | None = None, limit: int = 100) -> list[StoredDecision]:
        """Newest first. The subject "gate" also finds "gate v3"."""
        with self._db.read() as conn:
            return history.decisions(conn, model, subject, limit)

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
            return history.deploy(conn, wanted, cause.token, after, values or {})

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

    def claim_job(self, worker: str, kinds: Collection[str]) -> Job | None:
        """Takes the job of these kinds that waits longest and marks it running; no two callers get the same one."""
        with self._db.write() as conn:
            return jobs.claim_job(conn, worker, kinds)

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

    def put(self, model: str, name: str, value: Any) -> None:
        """Replaces the value of this name."""
        with self._db.write() as conn:
            history.put_value(conn, model, name, value)

    # tokens

    def add_token(self, token: Token) -> None:
        """Raises Refused when the name is taken."""
        with self._db.write() as conn:
            tokens.add_token(conn, token)

    def tokens(self) -> list[Token]:
        """All, oldest first, the revoked and expired ones too."""
        with self._db.read() as conn:
            return tokens.tokens(conn)

    def revoke_token(self, name: str) -> None:
        """Raises NotFound."""
        with self._db.write() as conn:
            tokens.revoke_token(conn, name)
