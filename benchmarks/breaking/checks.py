"""What must hold after every fault, held against what the users noted down as acknowledged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Column, select

from benchmarks.breaking.load import MODELS, Ledger, Said, Told
from benchmarks.breaking.place import CAREFUL, PLAIN, Place
from keepfit.data.database import Database, open_database
from keepfit.data.records import Deployment, JobState
from keepfit.data.schema import DECISIONS, LABELS, PREDICTIONS
from keepfit.registry.registry import Alias
from keepfit.rollout.rollout import single, under_way

LOSS = timedelta(seconds=12)
"""What was answered longer before a kill is never lost: a commit that waits longer for others has failed."""
LINGER = timedelta(seconds=0.05)
LATE = timedelta(seconds=0.2)
"""An answer may be on its way to the user when the one who gave it is killed."""
IN_FLIGHT = 12
"""Answers that three users may get between a look at the clock and the kill."""
FLUSH_S = 15.0
JOBS_S = 90.0


@dataclass(frozen=True)
class Lost:
    """Answers that a kill took with it."""

    count: int = 0
    oldest_ms: float = 0.0
    """How long before the kill the earliest of them was received."""


@dataclass
class Accounts:
    """Compares the ledger with the place, each entry once, and everything again at the end."""

    place: Place
    ledger: Ledger
    answers: int = 0
    labels: int = 0
    lost: set[str] = field(default_factory=set)
    _database: Database | None = None

    @property
    def database(self) -> Database:
        """A connection of our own."""
        if self._database is None:
            self._database = open_database(self.place.home.store_url)
        return self._database

    def close(self) -> None:
        """Let go of the database."""
        if self._database is not None:
            self._database.engine.dispose()

    def after(self, killed: datetime | None, waiting: tuple[datetime, int] | None) -> tuple[list[str], Lost]:
        """What does not hold, and which predictions were lost, after a round in which the server was killed or not.

        A kill may take what waited for the records (as the server said just before), and what was answered since.
        """
        answers, labels = self.ledger.answers[self.answers :], self.ledger.labels[self.labels :]
        self.answers, self.labels = self.answers + len(answers), self.labels + len(labels)
        wrong = [f"a label that was acknowledged is missing: {one}" for one in self.missing_labels(labels)]
        missing = self.missing_answers(answers, killed)
        excused = [one for one in missing if killed and killed - LOSS <= one.received <= killed + LATE]
        if waiting is not None and killed is not None:
            since = sum(waiting[0] - LINGER <= one.received <= killed + LATE for one in answers)
            if len(excused) > waiting[1] + since + IN_FLIGHT:
                wrong.append(
                    f"{len(excused)} answers are not recorded, and only {waiting[1]} waited, {since} came since"
                )
        wrong += [f"an answer is not recorded, and no kill explains it: {o}" for o in missing if o not in excused]
        self.lost |= {one.id for one in excused}
        wrong += self.strangers(answers) + self.twice() + self.champions() + self.forgotten()
        ages = [(killed - one.received).total_seconds() * 1000 for one in excused] if killed else []
        return wrong, Lost(len(excused), round(max(ages, default=0.0), 1))

    def finally_(self) -> list[str]:
        """Everything once more, when all jobs have ended."""
        wrong, end = [], time.monotonic() + JOBS_S
        while waiting := [
            j for j in self.ledger.jobs if self.place.store.job(j).state not in (JobState.DONE, JobState.FAILED)
        ]:
            if time.monotonic() > end:
                wrong += [f"a retraining never ended: {self.place.store.job(j)}" for j in waiting]
                break
            time.sleep(0.2)
        wrong += [f"a label that was acknowledged is missing: {one}" for one in self.missing_labels(self.ledger.labels)]
        kept = [one for one in self.ledger.answers if one.id not in self.lost]
        wrong += [f"an answer is gone: {one}" for one in self.missing_answers(kept, None)]
        wrong += self.mirrored() + self.twice() + self.champions() + self.forgotten()
        return wrong

    def known(self, column: Column[str], model: str, ids: Collection[str]) -> set[str]:
        """Those of the values of a column that are stored."""
        found: set[str] = set()
        wanted = list(ids)
        with self.database.read() as connection:
            for start in range(0, len(wanted), 500):
                table = column.table
                query = select(column).where(table.c.model == model, column.in_(wanted[start : start + 500]))
                found |= set(connection.execute(query).scalars())
        return found

    def missing_answers(self, answers: Sequence[Said], killed: datetime | None) -> list[Said]:
        """Answers without a record; what is only on its way is waited for."""
        end, left = time.monotonic() + FLUSH_S, list(answers)
        while left:
            for model in MODELS:
                mine = {one.id for one in left if one.model == model}
                stored = self.known(PREDICTIONS.c.id, model, mine)
                left = [one for one in left if one.id not in stored]
            excused = [one for one in left if killed and killed - LOSS <= one.received <= killed + LATE]
            if len(excused) == len(left) or time.monotonic() > end:
                return left
            time.sleep(0.1)
        return left

    def missing_labels(self, labels: Sequence[Told]) -> list[Told]:
        """Acknowledged labels without a row."""
        rows: set[Told] = set()
        ids, c = list({one.example_id for one in labels}), LABELS.c
        query = select(c.model, c.example_id, c.value, c.actor)
        with self.database.read() as connection:
            for start in range(0, len(ids), 500):
                found = connection.execute(query.where(c.example_id.in_(ids[start : start + 500])))
                rows |= {Told(*row) for row in found}
        return [one for one in labels if one not in rows]

    def strangers(self, answers: Sequence[Said]) -> list[str]:
        """Answers of versions that the history does not show as live when they were given."""
        found = []
        for model in MODELS:
            mine = [one for one in answers if one.model == model]
            history = self.place.store.deployments(model, limit=1000) if mine else []
            found += [f"version {o.version} was not live: {o}" for o in mine if not was_live(history, o)]
        return found

    def twice(self) -> list[str]:
        """Retrainings that left more than one version or deployment."""
        found = []
        for model in MODELS:
            made = Counter(version.lineage.job_id for version in self.place.registry.versions(model))
            found += [f"{n} versions were made by the job {job} of {model}" for job, n in made.items() if n > 1]
            tokens = Counter(row.token for row in self.place.store.deployments(model, limit=10_000) if row.token)
            found += [f"{n} deployments with the token {token}" for token, n in tokens.items() if n > 1]
        return found

    def champions(self) -> list[str]:
        """Traffic that a strategy cannot have meant."""
        found = []
        for model in MODELS:
            live, rollout = self.place.store.deployment(model), under_way(self.place.store, model)
            most = 2 if model == CAREFUL and rollout is not None else 1
            if live is None or len(live.traffic.shares) > most or abs(sum(live.traffic.shares.values()) - 1) > 1e-9:
                newer = self.place.store.deployment(model)
                if newer == live:  # the rollout may have moved between the two looks
                    found.append(f"the traffic of {model} is {live}")
        return found

    def forgotten(self) -> list[str]:
        """Decisions and deployments that were shown once and are not there any more."""
        found = []
        for model in MODELS:
            seen = {id_ for id_, name in self.ledger.decisions.items() if name == model}
            found += [f"the decision {id_} is gone" for id_ in seen - self.known(DECISIONS.c.id, model, seen)]
            ids = {row.id for row in self.place.store.deployments(model, limit=10_000)}
            shown = {id_ for id_, name in self.ledger.deployments.items() if name == model}
            found += [f"the deployment {id_} of {model} is gone" for id_ in shown - ids]
        unknown = [j for j in self.ledger.jobs if not self.has_job(j)]
        return found + [f"the job {id_} is gone" for id_ in unknown]

    def has_job(self, id_: str) -> bool:
        """Whether an acknowledged retraining is on record."""
        return self.place.store.job(id_).id == id_

    def mirrored(self) -> list[str]:
        """The registry must say what the history says, once the watch has looked."""
        end = time.monotonic() + JOBS_S
        while True:
            wrong = []
            for model in (PLAIN, CAREFUL):
                live = self.place.store.deployment(model)
                named = self.place.registry.alias(model, Alias.CHAMPION)
                if live is None or named != single(live.traffic):
                    wrong.append(f"the registry's champion of {model} is {named}, and the history says {live}")
            if not wrong or time.monotonic() > end:
                return wrong
            time.sleep(0.3)


def was_live(history: Sequence[Deployment], said: Said) -> bool:
    """Whether the history (newest first) shows the version as live at some moment between question and answer.

    A deployment is live from when it was wanted until a later one was first reported as served.
    """
    over: datetime | None = None
    for row in history:
        if row.at <= said.received and (over is None or said.sent <= over) and said.version in row.traffic.shares:
            return True
        if row.applied:
            over = min([at for _, at in row.applied] + ([over] if over is not None else []))
    return False
