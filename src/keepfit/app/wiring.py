"""Wiring: the tables of names, and the one place where implementations are chosen and put together.

Heavy rooms (torch, transformers, MLflow, DBOS) are named here as "module:name" and loaded only when asked for, so
that the answering half starts fast and stays small.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from keepfit import __version__
from keepfit.app.life_settings import RolloutSettings
from keepfit.app.model_settings import ModelSettings
from keepfit.app.settings import Settings
from keepfit.clock import Clock, SystemClock
from keepfit.data.foreign import is_foreign
from keepfit.data.records import Source
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, SettingsError
from keepfit.metrics import Metric
from keepfit.pipelines.foreign import cannot_answer
from keepfit.registry.files import MANIFEST, damage
from keepfit.registry.registry import Registry, model_folder
from keepfit.rollout import strategies
from keepfit.rollout.rollout import Roller
from keepfit.rollout.strategies import Strategy
from keepfit.serving.discretion import Discretion
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import Model, Report, Task
from keepfit.training.recipe import Recipe

if TYPE_CHECKING:  # loaded where a model is served elsewhere
    from keepfit.pipelines.intake import Intake

STATE = ".keepfit"

LEARNING = {
    "text": "keepfit.tasks.text.fit:TextTask",
    "video": "keepfit.tasks.video.fit:VideoTask",
    "toy": "keepfit.tasks.toy:ToyTask",
}
REGISTRIES = {
    "mlflow": "keepfit.registry.mlflow:MlflowRegistry",
    "local": "keepfit.registry.local:LocalRegistry",
}
LATE = {
    "retraining": "keepfit.app.learning:retraining",
    "watch": "keepfit.app.learning:watch",
    "announcer": "keepfit.app.learning:announcer",
    "durable": "keepfit.pipelines.durable:DurableRetrainings",
    "import_file": "keepfit.data.snapshot:import_file",
    "score_file": "keepfit.pipelines.score:score_file",
    "serve": "keepfit.app.serving:serve",
    "stream": "keepfit.app.following:run",
    "intake": "keepfit.tasks.video.intake:Intake",
    "search": "keepfit.training.tuning:Search",
    "trust": "keepfit.pipelines.trust:LabelTrust",
    "accuracy_plot": "keepfit.app.accuracy_plot:draw",
    "tuning": "keepfit.pipelines.tune:Tuning",
    "trials": "keepfit.pipelines.tune:Trials",
    "folds": "keepfit.data.folds:Folds",
    "cross_validation": "keepfit.app.crossing:cross_validation",
    "tracer": "keepfit.app.otel:tracer",
    "studies": "keepfit.training.studies:studies",
    "delete_study": "keepfit.training.studies:delete_study",
    "prune": "keepfit.app.retaining:prune",
    "daily": "keepfit.app.retaining:daily",
    "forget": "keepfit.app.retaining:forget",
    "picture": "keepfit.app.evidence:picture",
    "import_history": "keepfit.app.importing_history:run",
    "history_wanted": "keepfit.app.importing_history:Wanted",
    "over_time": "keepfit.pipelines.lookback:over_time",
    "backtest": "keepfit.app.backtesting:run",
    "backtest_wanted": "keepfit.app.backtesting:Wanted",
    "compress": "keepfit.app.compressing:run",
    "compression_plot": "keepfit.app.compression_plot:draw",
    "intake_elsewhere": "keepfit.pipelines.intake:Intake",
    "hand_over": "keepfit.app.elsewhere:hand_over",
    "elsewhere": "keepfit.app.elsewhere:beat",
    "follower": "keepfit.app.table_following:follower",
    "plot_name": "keepfit.app.compression_plot:checked",
    "status": "keepfit.app.show_models:status_json",
    "difference": "keepfit.app.difference:difference",
    "of_prediction": "keepfit.app.lineage:of_prediction",
    "of_snapshot": "keepfit.app.lineage:of_snapshot",
    "examine": "keepfit.app.doctor:examine",
    "pin": "keepfit.app.retaining:pin",
    "unpin": "keepfit.app.retaining:unpin",
    "given_up": "keepfit.app.yearly:given_up",
    "forecast": "keepfit.app.foretelling:current",
    "keep_forecast": "keepfit.app.foretelling:keep",
    "backup": "keepfit.app.backing:backup",
    "backup_target": "keepfit.app.backing:target_of",
    "restore": "keepfit.app.restoring:Restore",
    "jobs_tables": "keepfit.pipelines.jobs_database:make_tables",
    "jobs_engine": "keepfit.pipelines.jobs_database:engine_of",
    "jobs_schema": "keepfit.pipelines.jobs_database:SCHEMA",
    "registry_tables": "keepfit.registry.mlflow_tables:make_tables",
    "registry_table": "keepfit.registry.mlflow_tables:is_mlflows",
    "registry_runs": "keepfit.registry.mlflow_tables:runs_in",
    "registry_engine": "keepfit.registry.mlflow_tables:engine_of",
    "import_model": "keepfit.app.importing:run",
    "mlflow_import": "keepfit.registry.mlflow_import:fetched",
}
DETECTORS = {
    "mean_shift": "keepfit.monitoring.detectors:MeanShift",
    "ks": "keepfit.monitoring.detectors:KsMax",
    "mmd": "keepfit.monitoring.two_sample:Mmd",
    "classifier": "keepfit.monitoring.two_sample:ClassifierTwoSample",
    "psi": "keepfit.monitoring.two_sample:Psi",
}
STRATEGIES: Mapping[str, Callable[[RolloutSettings], Strategy]] = {
    "immediate": lambda one: strategies.immediate(one.watched, limits(one)),
    "shadow": lambda one: strategies.shadow(one.bake, one.watched, limits(one)),
    "canary": lambda one: strategies.canary(one.steps, one.bake, one.watched, limits(one)),
    "blue_green": lambda one: strategies.blue_green(one.bake, one.watched, limits(one)),
    "ab": lambda one: strategies.Experiment(one.share, one.lasts, limits(one)),
}
_FIELDS = (
    "learning_rate", "epochs", "batch_size", "warmup", "weight_decay", "max_tokens", "truncation", "label_smoothing",
    "frozen_layers", "lora_rank",
)  # fmt: skip


@dataclass(frozen=True)
class Traits:
    """What the rooms must know of a task besides its two halves; the defaults are those of a table of texts."""

    importer: str | None = None
    """Makes a snapshot of other files than tables."""
    scorer: str | None = None
    """Scores other files than tables."""
    tunable: Sequence[str] = ()
    """The fields of the recipe that the task heeds and that can be searched over; without any it cannot be tuned."""
    passes: str | None = None
    """What `epochs = 0` means to it, by the number of rows to learn from."""
    detects: bool = False
    """It looks for something rare: the gate asks how it ranks, and lets it find nothing in a short test part. Its
    contents cannot be written otherwise, so no behaviour is checked."""
    refiner: str | None = None
    """Judges thresholds anew as life comes in."""
    embedder: str | None = None
    """Makes embeddings of contents that no version has answered; called with the recipe and the number of columns."""
    compressor: str | None = None
    """Makes a smaller model of a finished one; called with what is allowed it gives the compressor."""
    adopter: str | None = None
    """Makes a version of a model that was trained elsewhere; called with what is asked for it gives the importer."""


TRAITS: Mapping[str, Traits] = {
    "text": Traits(
        tunable=_FIELDS,
        passes="keepfit.tasks.text.learning:passes_for",
        embedder="keepfit.tasks.text.embedding:Embedder",
        compressor="keepfit.tasks.text.compression.compress:Compressor",
        adopter="keepfit.tasks.text.importing:TextImport",
    ),
    "toy": Traits(tunable=_FIELDS, embedder="keepfit.tasks.toy:ToyEmbedder"),
    "video": Traits(
        importer="keepfit.tasks.video.importing:import_video",
        scorer="keepfit.pipelines.score_video:score_videos",
        detects=True,
        refiner="keepfit.app.refining:refiner",
    ),
}


def traits(task: str) -> Traits:
    """Of a task; another package's is taken for one of texts."""
    return TRAITS.get(task, Traits())


GROUP = "keepfit.tasks"
"""Entry points of this group add tasks of other packages to LEARNING."""


def named(entry: str) -> Any:
    """The object behind "module:name". Raises BackendError when a part of the installation is missing."""
    module, _, name = entry.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise BackendError(f"{entry} cannot be loaded ({error}); install keepfit with all its dependencies") from error


@dataclass(frozen=True)
class Home:
    """One project: its folder, its settings, and where its state lies."""

    folder: Path
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)

    @property
    def state(self) -> Path:
        """The folder `.keepfit/`."""
        return self.folder / STATE

    @property
    def store_url(self) -> str:
        """Where the records are."""
        return self.settings.store or f"sqlite:///{(self.state / 'keepfit.db').absolute()}"

    @property
    def jobs_url(self) -> str:
        """Where DBOS keeps its state."""
        return self.settings.worker.jobs_database or f"sqlite:///{(self.state / 'jobs.db').absolute()}"

    @property
    def models(self) -> Path:
        """Where the files of every version lie, by name and number."""
        return self.state / "models"

    @property
    def snapshots(self) -> Path:
        """Where the snapshots lie."""
        return self.state / "snapshots"

    @property
    def work(self) -> Path:
        """Where trainings keep their checkpoints."""
        return self.state / "work"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow keeps what it knows, unless `tracking` is "local"."""
        return self.settings.tracking or f"sqlite:///{(self.state / 'mlflow.db').absolute()}"

    @property
    def tuning_url(self) -> str:
        """Where the trials of searches are."""
        return self.settings.trials or f"sqlite:///{(self.state / 'tuning.db').absolute()}"

    @property
    def videos(self) -> Path:
        """Where stored videos lie."""
        return self.state / "videos"

    @property
    def batches(self) -> Path:
        """Where uploaded files and their outputs lie."""
        return self.state / "batches"

    @property
    def mailbox(self) -> Path:
        """Where alerts are kept as files."""
        return self.state / "mailbox"

    @property
    def backtests(self) -> Path:
        """Where backtests keep what they have trained."""
        return self.state / "backtests"


def open_store(home: Home) -> RecordStore:
    """The record store, migrated to this release."""
    try:
        home.state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{home.state} cannot be made: {error.strerror}; choose another --project") from error
    return RecordStore.open(home.store_url, home.clock)


def open_registry(home: Home) -> Registry:
    """MLflow by default; `tracking = "local"` keeps versions in plain files."""
    tracking = home.settings.tracking
    if tracking == "local":
        return cast(Registry, named(REGISTRIES["local"])(home.models))
    return cast(Registry, named(REGISTRIES["mlflow"])(home.mlflow_url, home.models, snapshots=home.snapshots))


def learning_half(name: str) -> Task:
    """The task by its name in the settings. Raises SettingsError with the known names."""
    table = {**LEARNING, **{point.name: point.value for point in entry_points(group=GROUP)}}
    if name not in table:
        raise SettingsError(f"there is no task {name!r}; known are {', '.join(sorted(table))}")
    return cast(Task, named(table[name])())


def version_folder(home: Home, name: str, number: int) -> Path:
    """The local files of a version. Raises BackendError when they are not here."""
    folder = model_folder(home.models, name, number)
    if not (folder / "model.json").is_file():
        raise BackendError(f"version {number} of {name!r} is not in {folder}; `keepfit doctor` fetches it again")
    return folder


def answering_half(home: Home, name: str, store: RecordStore) -> Callable[[int], Model]:
    """Loads a version for answering, without torch and without the registry.

    Raises BackendError when it is damaged, or is served elsewhere.
    """

    def load(number: int) -> Model:
        if is_foreign(number):
            raise BackendError(cannot_answer(store, name, number))
        threads, folder = home.settings.server.engine_threads or None, version_folder(home, name, number)
        if (folder / MANIFEST).exists() and (wrong := damage(folder)) is not None:
            raise BackendError(
                f"version {number} of {name!r} in {folder} is damaged: {wrong}; `keepfit rollback` goes back to another"
            )
        return load_answering(folder, threads=threads)

    return load


def limits(rollout: RolloutSettings) -> strategies.Limits:
    """What a challenger must prove."""
    return strategies.Limits(
        rollout.level, rollout.margin, rollout.min_labels, rollout.longest, rollout.undecided, rollout.better_by
    )


def roller(home: Home, name: str, store: RecordStore) -> Roller:
    """Carries out the rollouts of a model."""
    _, model = home.settings.model(name)
    here, confirm = model.served == "here", model.rollout.confirm
    return Roller(name, store, STRATEGIES[model.rollout.strategy](model.rollout), home.clock, confirm, here)


def intake(home: Home, name: str, store: RecordStore) -> Intake:
    """The door for the answers of a model that is served elsewhere."""
    _, model = home.settings.model(name)
    classes, said, texts = model.elsewhere.classes, discretion(name, model), model.columns.text
    made: Intake = named(LATE["intake_elsewhere"])(name, store, home.models, home.clock, classes, said, texts)
    return made


def recipe(model: ModelSettings) -> Recipe:
    """The recipe that the settings ask for."""
    return Recipe.from_json(model.recipe.model_dump())


def unasked(model: ModelSettings) -> Source:
    """What a label is that nobody asked for."""
    return Source(model.labels)


def takes_new_classes(model: ModelSettings) -> bool:
    """Whether a label may be of a class that the model does not know; of video there are two for ever."""
    return model.retraining.new_classes != "ignore" and not traits(model.task).detects


def code_version() -> str:
    """keepfit's version, and the revision of the source where it runs from a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    return f"{__version__}+{done.stdout.strip()}" if done.returncode == 0 else __version__


def own_metrics(model: ModelSettings) -> Mapping[str, Metric]:
    """A user's own metric, named in the settings as "module:function"."""
    entry = model.gate.metric
    if entry is None:
        return {}
    try:
        function = named(entry)
    except (BackendError, AttributeError, ValueError) as error:
        raise SettingsError(f"gate.metric {entry!r} cannot be loaded: {error}") from error
    return {entry.partition(":")[2]: Metric(function, True)}


def discretion(name: str, model: ModelSettings) -> Discretion:
    """What of a model's texts may be stored. Raises SettingsError for a mask that cannot be loaded."""
    kept, mask = model.keep, None
    if kept.mask is not None:
        try:
            mask = named(kept.mask)
        except (BackendError, AttributeError, ValueError) as error:
            raise SettingsError(f"models.{name}.keep.mask {kept.mask!r} cannot be loaded: {error}") from error
        if not callable(mask):
            raise SettingsError(f"models.{name}.keep.mask {kept.mask!r} is no function; name one from a text to a text")
    return Discretion(kept.texts, mask, kept.embeddings)


def no_report(metrics: Mapping[str, float], step: int) -> None:
    """Show nothing."""


SILENT: Report = no_report
