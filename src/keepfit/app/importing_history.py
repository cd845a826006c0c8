"""A history, imported into a project: the plan, the rows, the versions elsewhere that it tells of, and a look back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from keepfit.app.embedding import Embed, embedder
from keepfit.app.project import Project, actor, check_readable
from keepfit.app.setting_values import secret, zone
from keepfit.app.wiring import discretion
from keepfit.data.foreign import ForeignVersion, is_foreign
from keepfit.data.past_columns import PastColumns, choose_past_columns
from keepfit.data.past_rows import Reader, Terms
from keepfit.data.past_source import PastFile, PastQuery, PastSource
from keepfit.data.past_stage import CHUNK
from keepfit.data.records import Cause, Source
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput, Refused, SettingsError
from keepfit.pipelines import past
from keepfit.pipelines.handing_over import OBSERVED, answers_elsewhere
from keepfit.pipelines.lookback import AFTER, Call, Told, beat, due, over_time, patient, steps
from keepfit.pipelines.past import Known, Stored, Survey, Writer
from keepfit.pipelines.recorded import FEWEST, first_labelled
from keepfit.rollout.rollout import single
from keepfit.telling import Tell

SETTINGS = "settings"


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as the command's options."""

    file: Path | None = None
    url: str | None = None
    """A SQLAlchemy URL, or where it lies: env:NAME, file:PATH."""
    query: str | None = None
    columns: PastColumns = field(default_factory=PastColumns)
    timezone: str | None = None
    """Of times that name none; `settings`: that of the project."""
    name: str = "elsewhere"
    """The version's name, where no column has it."""
    label_source: str | None = None
    normalise: bool = False
    skip_bad: bool = False
    new_classes: bool = False
    embed: bool = False
    looks: int = 100
    chunk: int = CHUNK
    """Rows that are held in memory, and stored at once."""
    dry_run: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be imported, as it is shown before anything is stored."""

    source: str
    columns: PastColumns
    zone: str
    survey: Survey
    labels: Source
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    """What is not there, and what therefore will not work."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "source": self.source, "columns": self.columns.to_json(), "timezone": self.zone, **self.survey.to_json(),
            "label_source": self.labels.value, "classes": list(self.classes), "missing": list(self.missing),
        }  # fmt: skip


def run(project: Project, asked: Wanted, show: Callable[[Plan], None], tell: Tell) -> dict[str, Any]:
    """Import a history; `show` gets the plan before anything is stored.

    Raises InvalidInput with every reason, and stores nothing, when rows are wrong or do not fit; SettingsError for
    options that make no sense; Refused while another import runs; BackendError when a database fails.
    """
    source = source_of(asked)
    if project.traits.detects:
        raise SettingsError("a history is of classifiers of texts; of video nothing can be imported yet")
    if asked.embed and not discretion(project.model, project.settings).keeps_texts:
        raise SettingsError(
            f"[models.{project.model}.keep] lets no text be stored as it came, not even for the time of an import, and "
            "--embed needs them; leave --embed out"
        )
    lock = project.store.sole("import of a history")
    lock.acquire()
    try:
        return Import(project, asked, source, show, tell).run()
    finally:
        lock.release()


def source_of(asked: Wanted) -> PastSource:
    """The file or the query. Raises SettingsError unless it is just one of them."""
    if (asked.file is None) == (asked.url is None):
        raise SettingsError("give either a file, or --from URL with --query SQL")
    if asked.file is not None:
        if asked.query is not None:
            raise SettingsError("--query needs --from URL; a file is read as it is")
        check_readable(asked.file)
        return PastFile(asked.file)
    if asked.query is None:
        raise SettingsError("--from needs --query, such as 'SELECT * FROM answers'")
    try:
        return PastQuery(str(secret(asked.url)), asked.query)
    except ValueError as error:
        raise SettingsError(f"--from: {error}") from error


@dataclass
class Import:
    """One import of one model."""

    project: Project
    asked: Wanted
    source: PastSource
    show: Callable[[Plan], None]
    tell: Tell

    def run(self) -> dict[str, Any]:
        """The plan, the rows, what follows from them."""
        now = self.project.home.clock.now()
        terms = self.terms()
        place = self.place(terms)
        kept = None if self.asked.dry_run else past.kept(place)
        found, refusals = (Survey.from_json(kept), []) if kept is not None else self.read(terms, place, now)
        plan = self.plan(terms, found)
        self.show(plan)
        if refusals:
            shutil.rmtree(place, ignore_errors=True)
            raise InvalidInput(f"nothing was imported from {self.source.name}: " + "; ".join(refusals))
        if self.asked.dry_run:
            shutil.rmtree(place, ignore_errors=True)
            return {"plan": plan.to_json(), "dry_run": True}
        if kept is None:
            past.keep(place, found.kept())
        for other in past.others(place):
            shutil.rmtree(other, ignore_errors=True)
        embed = embedder(self.project, max(1, len(plan.columns.text))) if self.asked.embed else None
        versions = self.versions(plan, place, embed, now)
        numbers = {name: known.number for name, known in versions.items()}
        stored = self.write(plan, versions, place, embed)
        shutil.rmtree(place, ignore_errors=True)
        told = self.follow(plan, numbers) if found.rows else Told(0)
        return self.result(plan, numbers, stored, told)

    def terms(self) -> Terms:
        """The columns, and what a person allows."""
        asked, sample = self.asked, self.source.sample()
        wanted = asked.columns
        if not wanted.text and (known := self.project.columns().text) and set(known) <= set(sample.header):
            wanted = PastColumns(**{**wanted.to_json(), "text": tuple(known)})
        name = self.project.home.settings.timezone if asked.timezone == SETTINGS else asked.timezone
        try:
            place = None if name is None else ZoneInfo(zone(name))
        except ValueError as error:
            raise SettingsError(f"--timezone: {error}") from error
        return Terms(choose_past_columns(sample, wanted), place, asked.name, asked.normalise, asked.skip_bad)

    def place(self, terms: Terms) -> Path:
        """The folder of this import's stage; the same for the same table under the same terms.

        Among what trainings leave, where a forgetting looks for people's texts.
        """
        how = f"{terms} {self.asked.label_source} {self.project.settings.keep}"
        return past.stage_of(self.project.home.work, self.project.model, f"{self.source.identity()} {how}")

    def read(self, terms: Terms, place: Path, now: datetime) -> tuple[Survey, list[str]]:
        """All rows onto the stage, and why they are refused."""
        reader = Reader(terms, now)
        said = discretion(self.project.model, self.project.settings)
        desk = past.Desk(self.project.store, self.project.model, place, self.asked.chunk, said)
        try:
            found, clashes = past.survey(self.source, reader, desk, self.tell)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        refusals = past.judge(found, reader.faults, clashes, self.known(), terms.skip_bad)
        return found, refusals

    def known(self) -> Known:
        """What is known of the model before the import."""
        project = self.project
        fixed = {one.name: one.labels for one in project.store.foreign_versions(project.model)}
        live = project.store.deployment(project.model)
        champion = None if live is None else single(live.traffic)
        own = champion is not None and not is_foreign(champion)
        classes = project.registry.version(project.model, champion).evaluation.labels if own and champion else ()
        return Known(classes, fixed, self.asked.new_classes)

    def plan(self, terms: Terms, found: Survey) -> Plan:
        """What will be imported."""
        labels = self.label_source(found)
        zone_ = "as each time says" if terms.zone is None else f"as each time says, else {terms.zone}"
        return Plan(
            self.source.name, terms.columns, zone_, found, labels, found.classes(terms.columns.classes),
            tuple(self.missing(terms.columns, found, labels)),
        )  # fmt: skip

    def label_source(self, found: Survey) -> Source:
        """As asked for; else complete where nearly every row has a label, else as the settings say."""
        known = {source.value: source for source in (Source.ASKED, Source.COMPLETE, Source.VOLUNTEERED)}
        if self.asked.label_source is not None:
            if self.asked.label_source not in known:
                raise SettingsError(f"--label-source is {', '.join(known)}; not {self.asked.label_source!r}")
            return known[self.asked.label_source]
        if found.rows and found.labelled >= past.COMPLETE * found.rows:
            return Source.COMPLETE
        return Source(self.project.settings.labels)

    def missing(self, columns: PastColumns, found: Survey, labels: Source) -> list[str]:
        """What is not there, each with what therefore does not work."""
        words = []
        if not found.labelled:
            words.append("no labels: accuracy, its plot, label-free estimates and backtest need some (keepfit label)")
        elif labels is Source.VOLUNTEERED:
            words.append(
                "the labels count as volunteered: they train and measure nothing; say --label-source complete where "
                "every outcome becomes known, asked where rows were drawn at random"
            )
        if labels is not Source.VOLUNTEERED and found.labelled and columns.label_time is None:
            words.append("no times of labels: each counts as known at the time of its answer")
        if not columns.probabilities:
            words.append("no probabilities: confidence, and estimates without labels, have nothing to go by")
        if not self.asked.embed:
            words.append("no embeddings: embedding_drift is not measured, and backtest computes its own (or --embed)")
        if columns.id is None:
            words.append("no ids: rows are told apart by text, time and version; labels that come later need the text")
        if columns.version is None:
            words.append(f"no versions: all answers count as those of {self.asked.name!r} (--as NAME)")
        return words

    def versions(self, plan: Plan, place: Path, embed: Embed | None, now: datetime) -> dict[str, ForeignVersion]:
        """Each version of the other system, registered where it is new. Raises Refused where embeddings do not fit."""
        project, found = self.project, plan.survey
        width = 0 if embed is None else past.width_of(place, embed)
        versions = {
            name: project.store.foreign_version(project.model, name, plan.classes, width, now, computed=width > 0)
            for name in sorted(found.versions, key=lambda name: (found.versions[name].first, name))
        }
        for known in versions.values():
            if width and (known.width != width or not known.computed):
                raise Refused(
                    f"the answers of {known.name!r} are here already, and their embeddings are of another kind; leave "
                    "--embed out"
                )
        return versions

    def write(self, plan: Plan, versions: Mapping[str, ForeignVersion], place: Path, embed: Embed | None) -> Stored:
        """The rows into the store."""
        project = self.project
        said = discretion(project.model, project.settings)
        writer = Writer(project.store, project.model, versions, plan.labels, embed, said)
        stored = writer.write(place, self.tell, plan.survey.rows)
        project.store.put(project.model, past.MARK, None)
        if not project.columns().text:  # a label by the text finds its column, then
            project.store.put(project.model, "columns", {"text": list(plan.columns.text)})
        return stored

    def follow(self, plan: Plan, numbers: Mapping[str, int]) -> Told:
        """What the import makes of the model: marks of the watch, references, deployments elsewhere, a look back."""
        project, found = self.project, plan.survey
        if found.first is None or found.last is None:
            return Told(0)
        past_marks(project, found.last)
        live = project.store.deployment(project.model)
        if live is not None and not is_foreign(single(live.traffic)):
            return Told(0)  # keepfit's own champion is watched; the past is there for plots and comparisons
        return self.look_back(found, numbers)

    def look_back(self, found: Survey, numbers: Mapping[str, int]) -> Told:
        """Each version as deployed when most answers became its own, and the watch through its time."""
        assert found.first is not None
        assert found.last is not None
        project, calls, looks = self.project, [], 0
        store, model = project.store, project.model
        moments = due(store, model, steps(found.first, found.last, self.asked.looks)) if self.alone else []
        reigns = found.reigns()
        ends = [since for _, since in reigns[1:]] + [found.last + 2 * AFTER]
        for (name, since), end in zip(reigns, ends, strict=True):
            number = numbers[name]
            deploy_elsewhere(project, name, number, since)
            rows = first_labelled(store, model, number, end)
            live = store.deployment(model)
            if not rows or live is None or single(live.traffic) != number:
                continue
            watch = patient(project.watch(model))
            for at in (moment for moment in moments if since < moment <= end):
                self.tell("looking back", looks, len(moments))
                looks += 1
                if (call := beat(watch, at)) is not None:
                    calls.append(call)
        hush(project)
        project.follow()
        return Told(looks, tuple(calls))

    @property
    def alone(self) -> bool:
        """Whether no worker watches; the look back goes through the states of its detectors."""
        return not self.project.worker_runs()

    def result(self, plan: Plan, numbers: Mapping[str, int], stored: Stored, told: Told) -> dict[str, Any]:
        """What was done, stored as a decision and in the audit."""
        project, now = self.project, self.project.home.clock.now()
        trend = over_time(project.store, project.model)
        facts = {
            "source": plan.source, "answers": stored.answers, "labels": stored.labels, "resumed": stored.resumed,
            "versions": dict(numbers), "looks": told.looks, "alarm": call_json(told.alarm),
            "calls": len(told.calls),
            "first_call": call_json(told.calls[0] if told.calls else None),
            "objection": project.objection() if trend else None,
            "next": next_step(plan, bool(trend)),
        }  # fmt: skip
        because = (
            f"{plan.survey.rows} rows of {plan.source}: {stored.answers} answers and {stored.labels} labels were new",
            *plan.survey.mended, *plan.survey.left_out, *plan.survey.notes, *plan.missing,
        )  # fmt: skip
        evidence = {"plan": plan.to_json(), **facts}
        project.store.add_decision(project.model, "import", Decision(Outcome.PASS, because, evidence), now)
        told_ = {"source": plan.source, "answers": stored.answers, "labels": stored.labels}
        project.store.note(project.model, actor(), "import history", plan.source, told_, now)
        return {"plan": plan.to_json(), **facts, "accuracy": trend, "notes": list(plan.survey.notes)}


def past_marks(project: Project, last: datetime) -> None:
    """Nobody is asked about an imported past, and its silence confirms nothing; a watch that is further stays."""
    store, model = project.store, project.model
    asked = store.asked_until(model)
    if asked is None or asked < last:
        store.set_asked_until(model, last + AFTER)
    settled = store.get(model, "settled_until")
    if settled is None or datetime.fromisoformat(settled) < last:
        store.put(model, "settled_until", (last + AFTER).isoformat())


def deploy_elsewhere(project: Project, name: str, number: int, since: datetime) -> None:
    """Put into the history of deployments that a version answered elsewhere from then on, where it comes last."""
    live = project.store.deployment(project.model)
    if live is not None and (single(live.traffic) == number or live.at >= since):
        return
    reason = f"version {number} is {name!r}, served elsewhere: most answers were its own from then on"
    cause = Cause(actor(), reason, OBSERVED, token=f"elsewhere-{number}-{since.isoformat()}")
    answers_elsewhere(project.store, project.model, number, cause, since)


def hush(project: Project) -> None:
    """What was judged of the past is no news: nobody is alerted."""
    store, model = project.store, project.model
    decision = next(iter(store.decisions(model, limit=1)), None)
    deployment = store.deployment(model)
    mark = {"decision": decision.id if decision else None, "deployment": deployment.id if deployment else 0}
    store.put(model, "announced", mark)


def call_json(call: Call | None) -> dict[str, Any] | None:
    """Plain values."""
    if call is None:
        return None
    return {"at": call.at.isoformat(), "version": call.version, "reason": call.reason, "because": list(call.because)}


def next_step(plan: Plan, looked: bool) -> str:
    """What to do now."""
    if not plan.survey.labelled:
        return "keepfit label FILE brings labels; then accuracy and backtest have something to go by"
    if plan.labels is Source.VOLUNTEERED:
        return "import again with --label-source complete (or asked), if that is what the labels are"
    if not looked:
        return f"keepfit backtest says what other policies would have cost; a look back needs {FEWEST} labelled answers"
    return "keepfit status --plot accuracy.png draws it; keepfit backtest says what other policies would have cost"
