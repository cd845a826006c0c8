"""What each command prints with --json, as types; the reference page and a test of every command come from these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

Told = Annotated[list[str], Field(description="Sentences.")]


class Out(BaseModel):
    """One object of an output; what is not named here is not printed."""

    model_config = ConfigDict(extra="forbid")


class Number(Out):
    """A measure with its 95 % interval; null where there is nothing to measure it on."""

    value: float | None
    low: float | None
    high: float | None
    n: int = Field(description="Of how many rows.")


class Judged(Out):
    """A decision."""

    outcome: str = Field(description="pass, fail, fire, wait, hold, promote, rollback, ...")
    because: Told
    evidence: dict[str, Any] = Field(description="The numbers; which, depends on who decided.")
    warnings: Told = []


class Decided(Out):
    """A stored decision."""

    id: str
    at: datetime
    subject: str = Field(description="trigger, gate vN, rollout, alert ..., window, start, ...")
    outcome: str
    because: Told
    evidence: dict[str, Any]
    picture: str | None = Field(None, description="Of `decisions ID`: the file that it is drawn in.")


class Decisions(Out):
    """`decisions` without an id, newest first."""

    decisions: list[Decided]


class Applied(Out):
    """Who serves a deployment, and since when."""

    worker: str
    at: datetime


class Deployed(Out):
    """A row of the history."""

    id: int
    at: datetime
    actor: str
    reason: str
    kind: str
    traffic: dict[str, float] = Field(description="Shares by version.")
    shadow: list[int]
    decision_id: str | None
    applied: list[Applied] = []


class History(Out):
    """Deployments, newest first."""

    deployments: list[Deployed]


class Written(Out):
    """A settings file."""

    settings: str


class Trained(BaseModel):
    """A training that ended, or (`retrain` without --wait while a worker runs) only `job` and `joined`.

    More fields than these tell what it chose on its way.
    """

    model_config = ConfigDict(extra="allow")

    job: str
    joined: bool = Field(False, description="An earlier request is under way; this one joined it.")
    version: int | None = None
    snapshot: str | None = None
    parent: int | None = None
    accuracy: float | None = Field(None, description="On the test part.")
    verdict: str | None = None
    because: Told = []
    decision: str | None = Field(None, description="The id of the gate's decision.")
    rollout: str | None = None
    deployed: bool | None = None
    objection: str | None = Field(None, description="Why the watch cannot work as it is set.")
    tuning: dict[str, Any] | None = Field(None, description="With --tune: best, changes, trials, importance, because.")
    cross_validation: dict[str, Any] | None = Field(None, description="With --cv: kind, values, sizes, metrics.")


class ClassMapSaid(Out):
    """By which class map the numbers are."""

    as_of: datetime | None = Field(description="Null: the newest map.")
    changes: int
    newest: datetime | None


class Evaluated(Out):
    """The champion on a file."""

    version: int
    snapshot_id: str
    split: str
    n: int
    labels: list[str]
    metrics: dict[str, Number]
    per_class: dict[str, dict[str, Number]]
    confusion: list[list[int]] = Field(description="Truth by row, answers by column, in the order of `labels`.")
    slices: dict[str, Any]
    unknown: dict[str, int] = Field(description="Rows of classes that the model does not know.")
    reliability: list[dict[str, Any]]
    class_map: ClassMapSaid


class Scored(Out):
    """A file that was answered."""

    output: str
    rows: int
    errors: int
    frames: int | None = Field(None, description="Of videos.")
    alarms: int | None = Field(None, description="Of videos.")


class Frame(Out):
    """One line for each frame, as it is answered."""

    frame: int
    time_s: float
    score: float
    label: int


class Labelled(Out):
    """Labels that were stored; the counts of a Label Studio export only where the file was one."""

    new: int
    read: int
    unknown: int = Field(description="Rows that match no answer.")
    cancelled: int | None = Field(None, description="Annotations that were skipped by their annotator.")
    unlabelled: int | None = Field(None, description="Tasks without an annotation, annotations without a choice.")


class Question(Out):
    """An example whose label is wanted."""

    question: str
    prediction_id: str
    id: str
    text: Any
    reason: str
    propensity: float
    labels: list[str]


class Questions(Out):
    """What to label next."""

    items: list[Question]


class Exported(Out):
    """Questions in a file for a labelling tool."""

    file: str
    items: int
    config: str | None = Field(description="The labelling interface that was written beside it; of Label Studio only.")


class Labellers(Out):
    """Who labels, and how well they agree; or, of one that was set apart or cleared, the decision."""

    labellers: list[dict[str, Any]] | None = None
    labeller: str | None = None
    apart: bool | None = None
    because: Told = []


class VersionDone(Out):
    """The version that it was done to."""

    version: int


class Status(Out):
    """The models as in `GET /status`, with `worker`."""

    models: list[dict[str, Any]]
    default: str
    removed: list[Any] = Field(description="Models that are not in the settings any more; their data stay.")
    remarks: Told


class Version(Out):
    """A version."""

    version: int
    at: datetime
    snapshot: str
    reason: str
    verdict: str | None
    metrics: dict[str, Number]
    removed: Any
    snapshot_rewritten_as: str | None


class Versions(Out):
    """Every version, newest first."""

    aliases: dict[str, int | None]
    pinned: dict[str, Any]
    versions: list[Version]


class Reproduced(Out):
    """`models --reproduce V`."""

    version: int
    same: bool
    differences: Told
    was: dict[str, Number]
    now: dict[str, Number]


class Pinned(Out):
    """`models --pin V` and `--unpin V`."""

    pinned: int | None = None
    unpinned: int | None = None


class Finding(Out):
    """What doctor saw."""

    ok: bool
    what: str
    detail: str


class Findings(Out):
    """All of them."""

    findings: list[Finding]


class Entry(Out):
    """An entry of the audit chain."""

    seq: int
    model: str | None
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    previous: str
    hash: str


class Entries(Out):
    """Newest first."""

    entries: list[Entry]


class Verified(Out):
    """Whether the audit chain is whole."""

    whole: bool
    entries: int
    head: str | None
    first_broken: int | None
    flaws: list[dict[str, Any]]
    count: int
    before_the_chain: dict[str, int]
    not_covered: list[str]


class Costs(Out):
    """A month's costs; each amount has seconds, cpu_seconds, gpu_seconds, kwh, labels, money and its arithmetic."""

    month: str
    timezone: str
    currency: str | None
    total: dict[str, Any]
    budget: dict[str, Any] | None
    models: dict[str, dict[str, Any]]


class Difference(Out):
    """What differs between two versions."""

    versions: list[dict[str, Any]]
    data: dict[str, Any]
    recipe: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    flips: dict[str, Any]
    code: dict[str, Any]


class Lineage(Out):
    """Of an answer `prediction`, `version`, `deployment` and `labels`; of a snapshot the others."""

    prediction: dict[str, Any] | None = None
    version: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    labels: list[dict[str, Any]] = []
    snapshot: str | None = None
    stored: bool | None = None
    versions: list[dict[str, Any]] = []
    predictions: list[str] = Field([], description="With --list: ids of answers.")
    after: str | None = Field(None, description="With --list: where the next page goes on.")


class Thing(Out):
    """Something that may be pruned."""

    kind: str
    name: str
    model: str | None
    count: int
    bytes: int
    because: str


class Pruned(Out):
    """What went, and what was kept against a limit."""

    dry_run: bool
    gone: list[Thing]
    kept: list[Thing]
    freed_bytes: int
    database_bytes: int
    vacuumed_bytes: int | None


class Forgotten(Out):
    """What was removed; without a word of it."""

    dry_run: bool
    rows: dict[str, int]
    snapshot_rows: int
    snapshots: dict[str, str]
    files: list[str]
    records: list[str]
    trained_on_it: list[str]
    remains: Told
    searched: dict[str, Any] | None


class NewToken(Out):
    """A token; its secret is printed this once."""

    name: str
    roles: list[str]
    token: str


class Token(Out):
    """A token without its secret."""

    name: str
    roles: list[str]
    created: datetime
    expires: datetime | None
    revoked: bool
    model: str | None
    per_minute: int | None
    labels_per_day: int | None


class Tokens(Out):
    """All of them."""

    tokens: list[Token]


class TokenChanged(Out):
    """The limits that were set."""

    changed: str
    per_minute: int | None = None
    labels_per_day: int | None = None


class TokenRevoked(Out):
    """Its name."""

    revoked: str


class Change(Out):
    """A change of the classes."""

    at: datetime
    actor: str
    action: str
    names: list[str]
    into: str | None
    parts: list[str] = Field(description="What a class was split into.")
    noted: datetime | None


class Changed(Out):
    """The change that was noted."""

    change: Change
    class_map: ClassMapSaid


class Undone(Out):
    """The change that was taken back."""

    undone: Change


class MapSaid(Out):
    """`classes map`: every change, in the order in which they hold."""

    class_map: ClassMapSaid
    changes: list[Change]


class InLife(BaseModel):
    """`classes accuracy`: the accuracy in life, as the map of a moment reads the labels."""

    model_config = ConfigDict(extra="allow")

    class_map: ClassMapSaid


class Backed(BaseModel):
    """A backup: the manifest without its list of files."""

    model_config = ConfigDict(extra="allow")

    file: str
    files: int
    bytes: int = Field(description="Of what is in it.")
    written_bytes: int
    made: datetime
    not_in: Told


class Restored(BaseModel):
    """What was restored, and what begins again."""

    model_config = ConfigDict(extra="allow")

    made: datetime
    folder: str
    files: int
    audit: dict[str, Any]
    interrupted: list[str] = Field(description="Jobs that were running when the backup was made.")
    waiting: int
    settings: str


class ImportedModel(BaseModel):
    """The version that was made of a model."""

    model_config = ConfigDict(extra="allow")

    version: int
    verdict: str
    evaluated: bool
    origin: dict[str, Any]
    labels: list[str]
    precision: str


class ImportedHistory(BaseModel):
    """What was taken from a history; with --dry-run the plan alone."""

    model_config = ConfigDict(extra="allow")

    plan: dict[str, Any]


class Tuned(BaseModel):
    """The best recipe of a search so far."""

    model_config = ConfigDict(extra="allow")

    best: dict[str, Any]
    because: Told


class Classes(Out):
    """The classes, those that wait to be accepted, those left out of the last training, and every change."""

    classes: list[str]
    proposed: list[dict[str, Any]]
    held_back: list[dict[str, Any]]
    changes: list[Change]


class Backtested(BaseModel):
    """What policies would have cost."""

    model_config = ConfigDict(extra="allow")

    rows: int
    labelled: int
    steps: int
    classes: int
    scale: float
    price: dict[str, Any]
    recommended: str
    because: Told
    policies: list[dict[str, Any]]
    bounds: dict[str, dict[str, Any]]


class Compressed(BaseModel):
    """The trade-off, and what became of the smaller form."""

    model_config = ConfigDict(extra="allow")

    version: int | None = Field(description="The new version; null when nothing was taken, or with --dry-run.")
    points: list[dict[str, Any]]
    because: Told


class Shown(BaseModel):
    """The report of a demo; `ok` says whether the whole loop went as it should."""

    model_config = ConfigDict(extra="allow")

    ok: bool


OUTPUTS: Mapping[str, Any] = {
    "approve": VersionDone,
    "backup": Backed,
    "import": ImportedModel,
    "import-history": ImportedHistory,
    "restore": Restored,
    "tune": Tuned,
    "classes accuracy": InLife,
    "classes add": Changed,
    "classes map": MapSaid,
    "classes split": Changed,
    "classes undo": Undone,
    "audit list": Entries,
    "audit verify": Verified,
    "backtest": Backtested,
    "batch": Scored,
    "check": Judged,
    "classes accept": Changed,
    "classes list": Classes,
    "classes merge": Changed,
    "classes rename": Changed,
    "classes retire": Changed,
    "compress": Compressed,
    "costs": Costs,
    "decisions": Decisions | Decided,
    "demo": Shown,
    "diff": Difference,
    "doctor": Findings,
    "evaluate": Evaluated,
    "forget": Forgotten,
    "gate": Judged,
    "history": History,
    "init": Written,
    "label": Labelled,
    "labels export": Exported,
    "labels next": Questions,
    "labels trust": Labellers,
    "lineage": Lineage,
    "live": History,
    "models": Versions | Reproduced | Pinned,
    "promote": VersionDone,
    "prune": Pruned,
    "retrain": Trained,
    "rollback": Deployed,
    "status": Status,
    "stream": Frame,
    "token add": NewToken,
    "token list": Tokens,
    "token revoke": TokenRevoked,
    "token set": TokenChanged,
    "train": Trained,
}
"""By command. A new command adds its line here, and a case to the test of every command's output."""

UNPRINTED = frozenset({"up", "serve", "worker"})
"""They run until they are stopped, print no result, and refuse --json."""


class Printed(GenerateJsonSchema):
    """A field with a default is one that may be absent; no titles, which only repeat the names."""

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        """The schema."""
        made: dict[str, Any] = without_titles(super().generate(schema, mode))
        return made


def without_titles(value: Any) -> Any:
    """The same schema; a property that is called title stays."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name != "title" or not isinstance(item, str)}
        return {name: without_titles(item) for name, item in kept.items()}
    return [without_titles(item) for item in value] if isinstance(value, list) else value


def schema_of(command: str) -> dict[str, Any]:
    """The JSON schema (2020-12) of what a command prints. Raises KeyError for one that prints no result."""
    return TypeAdapter(OUTPUTS[command]).json_schema(schema_generator=Printed)
