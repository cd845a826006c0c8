"""Project: one folder with its models, and the verbs of the command line as methods."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepfit.alerts.alerts import Alert
from keepfit.app import tokens
from keepfit.app.label_file import LabelFile
from keepfit.app.model_settings import ModelSettings
from keepfit.app.narration import Narrator
from keepfit.app.people import actor
from keepfit.app.recipes import recipe_now
from keepfit.app.settings import FILE, load
from keepfit.app.spending import Housekeeping, ledger
from keepfit.app.template import project_file
from keepfit.app.verbs import Verbs
from keepfit.app.wiring import (
    LATE,
    Home,
    Traits,
    answering_half,
    learning_half,
    named,
    open_registry,
    open_store,
    roller,
    takes_new_classes,
    traits,
    version_folder,
)
from keepfit.app.worker import WatchedModel, Worker, WorkerLock, calm_down, nothing_due
from keepfit.data.columns import Columns
from keepfit.data.costs import BATCH, TUNE
from keepfit.data.files import guess_columns
from keepfit.data.foreign import is_foreign
from keepfit.data.records import (
    Cause,
    Deployment,
    Job,
    JobState,
    QueueItem,
    Source,
    StoredDecision,
    new_id,
)
from keepfit.data.snapshot import Snapshot, Split, open_snapshot
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound, Refused, SettingsError
from keepfit.evaluation.evaluator import evaluate, judge
from keepfit.pipelines.foreign import as_version, refuse_foreign, with_foreign
from keepfit.pipelines.known import Known
from keepfit.pipelines.metering import Spending
from keepfit.pipelines.progress import how_far
from keepfit.pipelines.retrain import Retraining, settle
from keepfit.registry.registry import Alias, ModelVersion, Registry, compare
from keepfit.rollout.rollout import adopt, rollback, single, under_way, waiting_since
from keepfit.serving.cascade import CASCADE, threshold_of
from keepfit.tasks.mapped import answered
from keepfit.tasks.task import Report, first_of
from keepfit.telling import Progress

if TYPE_CHECKING:  # loaded only when they are asked for
    from keepfit.data.folds import Folds
    from keepfit.evaluation.spread import Spread
    from keepfit.pipelines.announce import Announcer
    from keepfit.pipelines.handing_over import HandOver
    from keepfit.pipelines.watch import Watch
    from keepfit.training.recipe import Recipe
    from keepfit.training.trials import Tuned
    from keepfit.training.tuning import Search

__all__ = ["Project", "actor"]

POLL = 0.2


def nothing(*_: Any) -> None:
    """Show nothing."""


class Project(Verbs):
    """One project folder. `model` names one of several; the first is the default.

    Verbs raise KeepfitError with a sentence; judgements are returned as `Decision`s and stored.
    """

    def __init__(
        self, folder: Path | str = ".", model: str | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise NotFound(f"there is no folder {self.folder}; `keepfit init {self.folder}` makes one")
        self.home = Home(self.folder, load(self.folder, os.environ if environ is None else environ))
        self.model, self.settings = self.home.settings.model(model)

    @classmethod
    def init(cls, folder: Path | str, task: str = "text") -> Path:
        """Write a commented keepfit.toml. Raises Refused when there is one already."""
        file = Path(folder) / FILE
        if file.exists():
            raise Refused(f"{file} exists already; edit it, or choose another folder")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(project_file(task), "utf-8")
        except OSError as error:
            raise BackendError(f"{file} cannot be written: {error.strerror}") from error
        return file

    @property
    def traits(self) -> Traits:
        """What sets the model's task apart."""
        return traits(self.settings.task)

    @cached_property
    def store(self) -> RecordStore:
        """The record store."""
        return open_store(self.home)

    @property
    def spending(self) -> Spending:
        """Stores what searches and files cost."""
        return Spending(self.model, self.store, self.home.clock)

    @property
    def recipe(self) -> Recipe:
        """That of the next training."""
        return recipe_now(self.home, self.model, self.store)

    @cached_property
    def registry(self) -> Registry:
        """The registry, which knows of versions that are served elsewhere, too."""
        return with_foreign(open_registry(self.home), self.store)

    # -- learning ---------------------------------------------------------------------------------------------

    def train(
        self, data: Path, report: Report = nothing, snapshot: Snapshot | None = None, tune: Search | None = None,
        start: str | None = None, cv: Folds | None = None,
    ) -> Mapping[str, Any]:  # fmt: skip
        """Make a version from a labelled file; the first that passes its own floors becomes champion.

        `snapshot` spares the import of a file that `import_data` has just given; `tune` (see `search`) looks for a
        better recipe first; `cv` (see `folds`) cross-validates the recipe, and the gate heeds the spread; `start`
        overrides that of the recipe as set. Raises InvalidInput when the file cannot be learnt from.
        """
        if (tune or cv) is not None and start not in (None, "new"):
            raise SettingsError("--tune and --cv are for trainings that begin anew; leave out either these or --start")
        wanted = self.starting(start)
        snapshot = snapshot or self.import_data(data)[0]
        tuned = None if tune is None else self.tune(snapshot, tune, report)
        chosen = wanted if tuned is None else {"recipe": tuned.best.to_json(), "tuned": True}
        if cv is not None:
            anew = self.recipe.with_(start="new") if tuned is None else tuned.best
            spread = self.cross_validate(snapshot, anew, cv, report)
            chosen = {**chosen, "recipe": anew.to_json(), "spread": spread.to_json()}
        first = self.store.deployment(self.model) is None
        request = {
            "reason": "first" if first else "routine",
            "snapshot": snapshot.id,
            "actor": actor(),
            "file": str(data),
            **chosen,
        }
        job = self.store.join_or_add_job(Job(new_id(), self.model, "retrain", self.home.clock.now(), request=request))
        same = all(job.request.get(name) == value for name, value in chosen.items())
        if job.request.get("snapshot") != snapshot.id or not same:
            raise Refused(f"a retraining of {self.model!r} is under way ({job.id}); wait for it, then train again")
        result = dict(self.finish(job, report))
        if (objection := self.objection()) is not None:
            result["objection"] = objection
        told = {} if tuned is None else {"tuning": tuned.to_json()}
        return {**result, **told, **({} if cv is None else {"cross_validation": chosen["spread"]})}

    def folds(self, count: int, kind: str = "grouped") -> Folds:
        """A cross-validation for `train(cv=...)`. Raises SettingsError for what makes no sense, or for this task."""
        if not self.traits.tunable:
            raise SettingsError(f"the task {self.settings.task!r} cannot be cross-validated; leave --cv out")
        made: Folds = named(LATE["folds"])(count, kind, self.settings.recipe.seed)
        return made

    def cross_validate(self, snapshot: Snapshot, recipe: Recipe, cv: Folds, report: Report = nothing) -> Spread:
        """How much a recipe's numbers vary from fold to fold of this data; the decision is stored.

        Raises Refused before anything is learnt when a training is under way that could not use what is found.
        """
        self.refuse_unless(snapshot, "spread")
        made = named(LATE["cross_validation"])(self.home, self.model, self.store)
        with self.spending.on(TUNE, {"folds": cv.count}):
            spread: Spread = made.run(snapshot, recipe, cv, report)
        return spread

    def refuse_unless(self, snapshot: Snapshot, made: str) -> None:
        """Raises Refused when a training is under way, unless it is of this data and of what was `made` for it."""
        job = self.store.running_or_waiting(self.model, "retrain")
        if job is not None and (job.request.get("snapshot") != snapshot.id or not job.request.get(made)):
            raise Refused(f"a retraining of {self.model!r} is under way ({job.id}); wait for it, then train again")

    def search(
        self, trials: int, kind: str = "tpe", minutes: float = 0.0, pruner: str = "median", money: float = 0.0
    ) -> Search:
        """A search for `train(tune=...)`; `money` by the price of a processor hour in the settings, 0: no limit.

        Raises SettingsError for one that makes no sense, or for this task.
        """
        if not self.traits.tunable:
            raise SettingsError(f"the task {self.settings.task!r} has nothing to tune; leave --tune out")
        price = self.home.settings.costs.per_cpu_hour
        seed = self.settings.recipe.seed
        made: Search = named(LATE["search"])(kind, trials, 60 * minutes, seed, pruner, money, price)
        return made

    def tune(self, snapshot: Snapshot, search: Search, report: Report = nothing) -> Tuned:
        """Search a better recipe for this data than the one that is set; the decision is stored, nothing is trained.

        Raises Refused before anything is tried when a training is under way that could not use what is found.
        """
        self.refuse_unless(snapshot, "tuned")
        task, kind = learning_half(self.settings.task), self.traits
        passes = None if kind.passes is None else named(kind.passes)(len(snapshot.rows(Split.TRAIN)))
        workdir = self.home.work / f"tune-{self.model}"
        trials = named(LATE["trials"])(workdir, self.home.tuning_url, kind.tunable, passes)
        tuning = named(LATE["tuning"])(self.model, task, self.store, self.registry, trials, self.home.clock)
        # trials are compared from one beginning; the training after them begins there, too
        with self.spending.on(TUNE, {"trials": search.trials}):
            found: Tuned = tuning.run(snapshot, self.recipe.with_(start="new"), search, report)
        return found

    def import_data(self, data: Path, labels: Path | None = None) -> tuple[Snapshot, Any]:
        """The file (of a video model: a video or a folder of them) as a snapshot, with the report of its check.

        Its columns are remembered for `batch` and `label` once a version made from it serves. `labels` is a table of
        what happens when in videos.
        """
        snapshot, report = self.imported(data, labels, remembered=False)
        if self.store.get(self.model, "snapshot") is None:  # the first data: there is no other to go by
            adopt(self.store, self.model, {"snapshot": snapshot.id, "columns": {"text": list(snapshot.columns)}})
        return snapshot, report

    def columns(self, remembered: bool = True) -> Columns:
        """The columns as set, else as they were in the training file."""
        known = Columns(**self.settings.columns.model_dump())
        if not remembered or known.text:
            return known
        kept = self.store.get(self.model, "columns") or {}
        return Columns(text=tuple(kept.get("text", ())))

    def starting(self, start: str | None) -> dict[str, Any]:
        """What a request says of how its training begins; nothing where the settings say it (None).

        Raises SettingsError for a start that the task has not, Refused where there is no version to build on.
        """
        if start is None:
            return {}
        starts = learning_half(self.settings.task).starts
        if start not in starts and (start != "steps" or len(starts) == 1):
            has = ", ".join(starts)
            raise SettingsError(f"a model of {self.settings.task} has no start {start!r}; it has {has}")
        live = self.store.deployment(self.model)
        if start != "new" and (live is None or is_foreign(single(live.traffic))):
            raise Refused(f"no version of {self.model!r} answers yet that a start {start!r} could build on")
        return {"recipe": self.recipe.with_(start=start).to_json()}

    def retrain(self, wait: bool, report: Report = nothing, start: str | None = None) -> Mapping[str, Any]:
        """Ask for a retraining; without a running worker it runs here. A second request joins the first."""
        chosen = self.starting(start)
        request = {"reason": "asked", "because": ["a person asked for it"], "actor": actor(), **chosen}
        wanted = Job(new_id(), self.model, "retrain", self.home.clock.now(), request=request)
        job = self.store.join_or_add_job(wanted)
        if job.id == wanted.id:
            because = (f"{actor()} asked for a retraining",)
            decision = Decision(Outcome.FIRE, because, {"reason": "asked", "job": job.id, "actor": actor()})
            self.store.add_decision(self.model, "trigger", decision, self.home.clock.now())
        elif chosen and job.request.get("recipe") != chosen["recipe"]:
            raise Refused(f"another retraining of {self.model!r} is under way ({job.id}); wait for it, then ask again")
        if self.worker_runs() and not wait:
            return {"job": job.id, "joined": job.id != wanted.id}
        return self.finish(job, report)

    def finish(self, job: Job, report: Report) -> Mapping[str, Any]:
        """Wait for the worker to do the job, or do it here when there is none. Raises the job's failure."""
        lock = WorkerLock(self.home.state, self.store)
        while True:
            try:
                lock.acquire()
            except Refused:
                if (ended := self.ended(job.id)) is not None:
                    return ended
                far = how_far(self.store, self.store.job(job.id))
                report(far.metrics, far.step)
                time.sleep(POLL)
                continue
            try:
                return self.do_here(job, report)
            finally:
                lock.release()

    def do_here(self, job: Job, report: Report) -> Mapping[str, Any]:
        """The durable steps in this process, which holds the worker's lock; a forgetting is waited for."""
        while not self.store.nobody_forgets():
            time.sleep(POLL)
        with named(LATE["durable"])(self.home.jobs_url, lambda name: self.retraining(name, report)) as durable:
            durable.run(job.model, job.id)
        self.announcer(job.model).announce()
        ended = self.ended(job.id)
        if ended is None:
            raise BackendError(f"the job {job.id} did not end; run `keepfit retrain --wait` to go on with it")
        return ended

    def ended(self, job_id: str) -> Mapping[str, Any] | None:
        """The result of a job that is done, None while it is not.

        Raises its failure: BackendError where trying again may help, InvalidInput where only another input does.
        """
        job = self.store.job(job_id)
        if job.state is JobState.FAILED:
            sentence = str(job.result.get("error", "the job failed"))
            raise BackendError(sentence) if job.result.get("retry") else InvalidInput(sentence)
        return job.result if job.state is JobState.DONE else None

    def retraining(self, model: str, report: Report = nothing) -> Retraining:
        """The steps of a model."""
        made: Retraining = named(LATE["retraining"])(self.home, model, self.store, self.registry, report)
        return made

    def watch(self, model: str) -> Watch:
        """The watch of a model."""
        made: Watch = named(LATE["watch"])(self.home, model, self.store, self.registry)
        return made

    def check(self) -> Decision:
        """Measure and ask the triggers once; FIRE means that a retraining was asked for.

        Raises SettingsError when a trigger makes no sense for this champion, such as a floor that it is below itself.
        """
        if (objection := self.objection()) is not None:
            raise SettingsError(objection)
        return self.watch(self.model).tick()

    def warnings(self) -> list[str]:
        """What the settings will not bring about, with the next step; `check` says it."""
        slow, window = self.settings.too_slow_to_prove(), self.settings.watch.label_window
        since = self.home.clock.now() - window
        if slow is None or self.store.count_labels(self.model, since, {Source.ASKED}):
            return []
        return [slow]

    def objection(self) -> str | None:
        """Why a trigger of the settings makes no sense for the champion; None when all do, or nothing is deployed."""
        if self.store.deployment(self.model) is None:
            return None
        return self.watch(self.model).objection_to(self.champion())

    def evaluate(self, data: Path) -> Mapping[str, Any]:
        """The champion's numbers on a labelled file; classes are as they are called today, on both sides."""
        number = self.champion()
        snapshot = Known(self.store.classes(self.model)).base(self.home.snapshots, self.as_test(data))
        if self.traits.detects:  # only the learning half can render the events of an unlabelled video
            model = learning_half(self.settings.task).load(version_folder(self.home, self.model, number))
        else:
            model = answering_half(self.home, self.model, self.store)(number)
        retraining = self.retraining(self.model)
        judged = judge(retraining.called(model, self.registry.version(self.model, number).at), snapshot.rows())
        own = retraining.plan.metrics(judged.labels)
        found = evaluate(judged, snapshot.id, Split.TEST, own).to_json()
        return {"version": number, **found, "class_map": self.store.classes(self.model).told()}

    def gate(self, data: Path, candidate: int | None = None) -> Decision:
        """The newest version (or a named one) against the champion on a labelled file that neither has seen."""
        number = candidate or next((v.number for v in self.registry.versions(self.model)), None)
        if number is None:
            raise NotFound(f"{self.model!r} has no version yet; run `keepfit train DATA`")
        retraining = self.retraining(self.model)
        decision = retraining.compare_on(self.as_test(data), number)
        self.store.add_decision(self.model, f"gate v{number}", decision, self.home.clock.now())
        return decision

    def as_test(self, data: Path) -> Snapshot:
        """A labelled file as a snapshot of its own."""
        return self.imported(data, judging=True)[0]

    def imported(
        self, data: Path, labels: Path | None = None, remembered: bool = True, judging: bool = False
    ) -> tuple[Snapshot, Any]:
        """Data of the task's kind as a snapshot, with its report. Raises SettingsError for labels that nobody reads."""
        if self.traits.importer is not None:
            side, load_videos = self.settings.recipe.video.long_side, named(self.traits.importer)
            made: tuple[Snapshot, Any] = load_videos(self.home.snapshots, data, labels, side, judging)
            return made
        if labels is not None:
            raise SettingsError('a table has its labels in a column; give one file, or set task = "video"')
        check_readable(data)
        columns = guess_columns(data, self.columns(remembered))
        found: tuple[Snapshot, Any] = named(LATE["import_file"])(self.home.snapshots, data, columns)
        return found

    def reproduce(self, number: int, report: Report = nothing) -> Mapping[str, Any]:
        """Train a version again from its snapshot, recipe and seed, and compare the numbers."""
        version = self.registry.version(self.model, number)
        snapshot = open_snapshot(self.home.snapshots, version.lineage.snapshot_id)
        task = learning_half(self.settings.task)
        if version.lineage.reason == "mix":
            raise InvalidInput(
                f"version {number} was not trained: it is version {version.lineage.parent}, corrected for the class "
                "mix; reproduce that one"
            )
        if version.lineage.reason == "compress":
            raise InvalidInput(
                f"version {number} was not trained: it is version {version.lineage.parent}, compressed; reproduce that "
                "one"
            )
        if version.lineage.reason == "import":
            raise InvalidInput(
                f"version {number} was not trained here: it was imported, and nobody told keepfit what it had learnt "
                "from; import it again from where it came"
            )
        self.home.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"reproduce-{number}-", dir=self.home.work) as workdir:
            parent, wanted = version.lineage.parent, version.lineage.recipe
            before = None if wanted.start == "new" or parent is None else self.registry.fetch(self.model, parent)
            folder = task.fit(snapshot, wanted, report, Path(workdir), before)
            judged = judge(task.load(folder), snapshot.rows(Split.TEST))
        own = self.retraining(self.model).plan.metrics(judged.labels)
        again = evaluate(judged, snapshot.id, Split.TEST, own, snapshot.contradicted_ids())
        differences = compare(version.evaluation, again)
        return {
            "version": number, "same": not differences, "differences": [str(d) for d in differences],
            "was": version.evaluation.to_json()["metrics"], "now": again.to_json()["metrics"],
        }  # fmt: skip

    def compress(self, number: int | None = None, tell: Callable[..., None] = nothing, **asked: Any) -> dict[str, Any]:
        """A smaller or faster form of a version (the champion unless named), registered and judged by its gate.

        `asked`: loss (points of accuracy), layers, int8, dry_run, as the command's options. `tell` hears (what, done,
        of). Raises SettingsError for a task that cannot be compressed, or values that make no sense; NotFound for an
        unknown version; Refused while a retraining is under way.
        """
        found: dict[str, Any] = named(LATE["compress"])(self, number, tell, **asked)
        return found

    def import_model(self, source: str, tell: Callable[..., None] = nothing, **asked: Any) -> dict[str, Any]:
        """A version of a model that was trained elsewhere: a folder of Transformers, an MLflow URI, ONNX, OpenVINO IR.

        `asked`: data, labels, tokenizer, max_tokens, backbone, tracking, as the command's options. `tell` hears (what,
        done, of). Raises InvalidInput for what cannot be imported or does not fit the data, SettingsError for another
        task, NotFound for what is not there, Refused while a retraining is under way.
        """
        found: dict[str, Any] = named(LATE["import_model"])(self, source, tell, **asked)
        return found

    # -- answering --------------------------------------------------------------------------------------------

    def batch(self, source: Path, target: Path, progress: Progress = nothing) -> Any:
        """Score a file (or videos) with the champion; killed and called again it goes on."""
        number = self.champion()
        model = answered(
            answering_half(self.home, self.model, self.store)(number),
            self.store.today(self.model),
            number,
            self.home.clock.now(),
        )
        if self.traits.scorer is not None:
            score = partial(named(self.traits.scorer), model, source, target, number, progress)
        else:
            check_readable(source)
            columns = guess_columns(source, self.columns(), need_label=False)
            kept, plan = self.store.get(self.model, CASCADE), self.settings.cascade.plan()
            sure = threshold_of(first_of(model), kept, number, plan)
            score = partial(named(LATE["score_file"]), model, source, target, columns, number, progress, sure_from=sure)
        with self.spending.on(BATCH, {"file": source.name}) as told:
            told["version"] = number
            report = score()
            told["rows"] = report.rows
        return report

    def score_job(self, job: Job) -> Mapping[str, Any]:
        """A batch job of the queue: its file scored beside it."""
        project = Project(self.folder, job.model)
        report = project.batch(Path(job.request["source"]), Path(job.request["target"]))
        return {"output": job.request["target"], "rows": report.rows, "errors": report.errors}

    def champion(self) -> int:
        """The version with the traffic. Raises NotFound before the first."""
        live = self.store.deployment(self.model)
        if live is None:
            raise NotFound(f"no version of {self.model!r} is deployed yet; run `keepfit train DATA`")
        return single(live.traffic)

    # -- labels -----------------------------------------------------------------------------------------------

    def label(self, file: Path, new_classes: bool = False) -> Mapping[str, int]:
        """Labels from a file with the columns `label` and `prediction_id`, `id` or the text; all or none are stored.

        Raises InvalidInput for a class that the model does not know, unless `new_classes`; NotFound for an unknown
        prediction id.
        """
        check_readable(file)
        if new_classes and not takes_new_classes(self.settings):
            raise SettingsError("this model ignores new classes [retraining.new_classes]; leave --new-classes out")
        unasked, now = Source(self.settings.labels), self.home.clock.now()
        source = LabelFile(self.store, self.model, self.columns().text, unasked, actor(), now, new_classes)
        return source.store_all(file)

    def labels_next(self, limit: int = 10) -> list[QueueItem]:
        """What to label next: what a rollout waits for, then the oldest."""
        return self.store.queue(self.model, limit, waiting_since(self.store, self.model))

    # -- what another system answered -------------------------------------------------------------------------

    def import_history(
        self, show: Callable[[Any], None] = nothing, tell: Callable[..., None] = nothing, **asked: Any
    ) -> dict[str, Any]:
        """Answers, labels and versions of another system, from a file or a database, into the store; then a look back.

        `asked`: file or url and query, columns, timezone, name, label_source, normalise, skip_bad, new_classes, embed,
        looks, dry_run, as the command's options. `show` gets the plan before anything is stored, `tell` hears (what,
        done, of). Raises InvalidInput with every reason, and stores nothing, when rows are wrong or do not fit.
        """
        found: dict[str, Any] = named(LATE["import_history"])(self, named(LATE["history_wanted"])(**asked), show, tell)
        return found

    # -- looking back on policies ----------------------------------------------------------------------------

    def backtest(
        self, file: Path | None = None, policies: Sequence[str] = (), tell: Callable[..., None] = nothing, **asked: Any
    ) -> dict[str, Any]:
        """What policies of retraining would have cost on stored traffic, or on a file with time, text and label.

        policies: as for the command line; the usual ones unless given. `asked`: steps, first, label_rate, label_delay,
        rows, scale, out, write, as_of (a time), as the command's options. `tell` hears (what, done, of). Raises
        InvalidInput for data that cannot be replayed, SettingsError for a policy that makes no sense.
        """
        wanted = named(LATE["backtest_wanted"])(file, tuple(policies), **asked)
        found: dict[str, Any] = named(LATE["backtest"])(self, wanted, tell).to_json()
        if file is None:
            found["class_map"] = self.store.classes(self.model).as_of(wanted.as_of).told(wanted.as_of)
        return found

    # -- traffic ----------------------------------------------------------------------------------------------

    def rollback(self, to: int | None = None) -> Deployment:
        """Back to the last version that really served; servers follow by themselves within a second."""
        done = rollback(self.store, self.model, to, actor(), self.home.clock, self.settings.served == "here")
        if not self.worker_runs():  # it lets the registry follow at its next beat, and nobody need wait for that
            self.follow()
        return done

    def follow(self) -> None:
        """Let the registry's alias follow; traffic does not depend on it, so a registry that is away only warns."""
        try:
            mirror(self.store, self.registry, self.model)
        except KeepfitError as error:
            decision = Decision(Outcome.HOLD, (f"the registry's champion alias was not moved: {error}",))
            self.store.add_decision(self.model, "alias", decision, self.home.clock.now())

    def promote(self, number: int) -> Decision | None:
        """Serve a registered version now, on a person's word: no rollout watches it. Returns its gate's verdict."""
        version = self.registry.version(self.model, number)
        if self.settings.served == "here":
            refuse_foreign(self.store, self.model, number)
        if not is_foreign(number):
            self.registry.fetch(self.model, number)
        cause = Cause(actor(), f"{actor()} promoted version {number}", kind="promote")
        settle(self.store, self.registry, self.model, number, cause, self.home.clock)
        return version.verdict

    def approve(self, number: int) -> None:
        """Let a version go on that waits for a person: into its rollout, or to all the traffic."""
        roller(self.home, self.model, self.store).approve(number, actor())
        self.follow()

    # -- tokens -----------------------------------------------------------------------------------------------

    def add_token(self, name: str, roles: Sequence[str], expires: timedelta | None = None) -> str:
        """A new token; its secret is returned once and never stored. Raises InvalidInput without a name or role."""
        return tokens.add(self.home, self.store, name, tokens.Terms(roles, expires), actor())

    # -- looking ----------------------------------------------------------------------------------------------

    def history(self, limit: int = 100) -> list[Deployment]:
        """What was live, newest first."""
        return self.store.deployments(self.model, limit)

    def live(self, at: datetime) -> Deployment | None:
        """What was live at a moment."""
        return self.store.live_at(self.model, at)

    def decisions(self, limit: int = 20) -> list[StoredDecision]:
        """What was judged, newest first."""
        return self.store.decisions(self.model, limit=limit)

    def decision(self, id: str | None = None) -> StoredDecision:
        """One decision by its id, or how that begins; the newest unless named. Raises NotFound, InvalidInput."""
        if id is None:
            found = self.store.decisions(self.model, limit=1)
        else:
            found = self.store.decisions(self.model, limit=10_000, begins=id)
            exact = [one for one in found if one.id == id]
            if len(found) > 1 and not exact:
                raise InvalidInput(f"{len(found)} decisions have an id that begins with {id!r}; give more of it", "id")
            found = exact or found
        if not found:
            raise NotFound("nothing was judged yet" if id is None else f"there is no decision {id!r}; see `decisions`")
        return found[0]

    def picture(self, id: str | None, target: Path) -> Path:
        """The evidence of a decision, drawn into a file. Raises InvalidInput when there is nothing to draw."""
        wanted = self.decision(id)
        before = self.store.decisions(self.model, wanted.subject, limit=1000, until=wanted.at)
        drawn: Path = named(LATE["picture"])(wanted, before, target)
        return drawn

    def models(self) -> list[ModelVersion]:
        """Every version, newest first, those that are served elsewhere among them.

        Raises BackendError when the registry knows none, though one was deployed.
        """
        far = [as_version(self.model, one) for one in self.store.foreign_versions(self.model)]
        found = sorted([*self.registry.versions(self.model), *far], key=lambda one: (one.at, one.number), reverse=True)
        if not found and (live := self.store.deployment(self.model)) is not None:
            raise BackendError(
                f"the registry knows no version of {self.model!r}, though version {single(live.traffic)} is deployed: "
                "it is another one, or has lost its data; check `tracking`, or restore it from a backup"
            )
        return found

    # -- processes --------------------------------------------------------------------------------------------

    def worker_runs(self) -> bool:
        """Is there a worker for this project?"""
        lock = WorkerLock(self.home.state, self.store)
        try:
            lock.acquire()
        except Refused:
            return True
        lock.release()
        return False

    @contextmanager
    def working(self, narrator: Narrator | None = None) -> Iterator[Worker]:
        """The worker of this process, with its lock and its durable jobs; without a narrator it says nothing."""
        aloud, look = (nothing, nothing) if narrator is None else (narrator.alert, narrator.look)
        lock = WorkerLock(self.home.state, self.store)
        lock.acquire(wait=2)
        calm_down(self.home.settings.worker.niceness, self.home.settings.worker.threads)
        try:
            with named(LATE["durable"])(self.home.jobs_url, self.retraining) as durable:
                watched = {name: self.watched(name, model, aloud) for name, model in self.home.settings.models.items()}
                foretell = partial(named(LATE["keep_forecast"]), self.home, self.store)
                aside = Housekeeping(self.store, ledger(self.home, self.store).warn, self.home.clock, foretell)
                daily = named(LATE["daily"])(self.home, self.store, self.registry)
                yield Worker(
                    self.store, watched, durable, self.score_job, self.home.clock, look, daily, aside, lock.check,
                    self.home.settings.worker.retrainings_at_once,
                )  # fmt: skip
        finally:
            lock.release()

    def watched(self, name: str, model: ModelSettings, aloud: Callable[[Alert], None] = nothing) -> WatchedModel:
        """A model's watch with its rhythm and its folder, which is below the project's unless it is absolute."""
        inbox = None if model.watch.folder is None else (self.folder / model.watch.folder).absolute()
        refiner = traits(model.task).refiner
        refine = nothing_due if refiner is None else named(refiner)(self.home, name, self.store)
        far = model.served == "elsewhere"
        return WatchedModel(
            self.watch(name), self.announcer(name, aloud), partial(mirror, self.store, self.registry, name),
            model.watch.every, inbox,
            named(LATE["elsewhere"])(self.home, name, self.store) if far else nothing_due,
            named(LATE["hand_over"])(self.home, name, self.store).hand_over if far else nothing_due, refine,
        )  # fmt: skip

    def hand_over(self) -> HandOver:
        """Tells the server elsewhere what is to answer; see docs/elsewhere.md."""
        made: HandOver = named(LATE["hand_over"])(self.home, self.model, self.store)
        return made

    def announcer(self, name: str, aloud: Callable[[Alert], None] = nothing) -> Announcer:
        """Who tells people what was recorded about a model."""
        made: Announcer = named(LATE["announcer"])(self.home, name, self.store, aloud)
        return made

    def close(self) -> None:
        """Let go of the store."""
        if "store" in self.__dict__:
            self.store.close()


def mirror(store: RecordStore, registry: Registry, model: str) -> None:
    """Let the registry's champion follow what is deployed; a champion challenges nobody."""
    live, rollout = store.deployment(model), under_way(store, model)
    if live is None:
        return
    champion = single(live.traffic)
    if rollout is not None and rollout.version != champion and registry.alias(model, Alias.CHALLENGER) is None:
        registry.set_alias(model, Alias.CHALLENGER, rollout.version)
    if registry.alias(model, Alias.CHAMPION) != champion:
        registry.set_alias(model, Alias.CHAMPION, champion)
    if registry.alias(model, Alias.CHALLENGER) == champion:
        registry.set_alias(model, Alias.CHALLENGER, None)


def check_readable(file: Path) -> None:
    """Raises NotFound or BackendError with a sentence."""
    if not file.exists():
        raise NotFound(f"there is no file {file}")
    if not file.is_file():
        raise InvalidInput(f"{file} is not a file")
