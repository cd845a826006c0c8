"""Settings: read once from keepfit.toml and KEEPFIT_*, typed and frozen; unknown keys are refused."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from keepfit.app.cascade_settings import CascadeSettings
from keepfit.app.elsewhere_settings import ElsewhereSettings, FollowColumns, FollowSettings, HandOverSettings
from keepfit.app.learning_settings import ColumnSettings, GateSettings, RecipeSettings, VideoRecipeSettings
from keepfit.app.life_settings import LabelParts, PriceSettings, RetrainingSettings, RolloutSettings, WatchSettings
from keepfit.app.model_settings import KeepSettings, ModelSettings
from keepfit.app.setting_values import Age, Duration, Place, Secret, Section, zone
from keepfit.errors import NotFound, SettingsError
from keepfit.redaction import remember, remember_address
from keepfit.triggers.policies import trigger_from

FILE = "keepfit.toml"
PREFIX = "KEEPFIT_"
NOT_SETTINGS = frozenset({"KEEPFIT_DATA", "KEEPFIT_PROJECT", "KEEPFIT_PROMETHEUS", "KEEPFIT_TOKEN"})
"""Names that mean something else: the data of the benchmarks, a server process's project, the Prometheus of the tests,
`keepfit stream`'s token."""


class ServerSettings(Section):
    """`[server]`: the HTTP server."""

    host: str = Field("127.0.0.1", description="Any other address than loopback needs tokens.")
    port: int = Field(8080, ge=0, le=65535, description="The port.")
    threads: int = Field(32, ge=1, le=1024, description="Requests handled at once.")
    queue: int = Field(1024, ge=1, description="Texts that may wait; beyond it the answer is 429.")
    max_body_mb: float = Field(10.0, gt=0, description="Larger request bodies are refused.")
    max_upload_mb: float = Field(1024.0, gt=0, description="Larger batch files and videos are refused.")
    max_texts: int = Field(1000, ge=1, description="Texts in one call.")
    max_clip_s: float = Field(120.0, gt=0, description="Seconds of a video in one call; longer ones go to batch.")
    max_streams: int = Field(64, ge=1, description="Cameras with an open session; beyond it the answer is 429.")
    stream_idle: Duration = Field(timedelta(minutes=10), description="A session that is silent so long is dropped.")
    cache_mb: float = Field(64.0, ge=0, description="Size of the answer cache; 0 switches it off.")
    unload_idle_after: Duration = Field(
        timedelta(0), description="A model that nobody asked for so long leaves the memory until it is asked; 0: never."
    )
    engine_threads: int = Field(0, ge=0, description="Threads of the engine; 0: all cores.")
    timeout: Duration = Field(
        timedelta(seconds=30), description="An answer that takes longer is 503; a video gets thirty times as long."
    )
    header_timeout: Duration = Field(
        timedelta(seconds=10), description="A client that takes longer to send its headers is cut off."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Of one address, while no tokens are set; unset: no limit. Tokens have their own."
    )
    labels_per_day: int | None = Field(
        None, ge=1, description="New labels a day (UTC) of all callers without a token together; unset: no limit."
    )

    @field_validator("timeout", "header_timeout")
    @classmethod
    def takes_time(cls, value: timedelta) -> timedelta:
        """No time at all would refuse everyone."""
        if value <= timedelta(0):
            raise ValueError('write a time above zero, such as "30s"')
        return value


class WorkerSettings(Section):
    """`[worker]`: the watcher and the job queue."""

    threads: int = Field(0, ge=0, description="Threads of training; 0: all cores.")
    retrainings_at_once: int = Field(
        1, ge=1, le=64, description="Of all models together; a model has one at a time in any case. Others wait."
    )
    niceness: int = Field(10, ge=0, le=19, description="Lower priority than answering by this much.")
    jobs_database: Place = Field(None, repr=False, description="DBOS system database; unset: .keepfit/jobs.db.")


class RetentionSettings(Section):
    """`[retention]`: how long things are kept (`..._for`) and how many of the newest (`..._most`, per model where they
    are a model's); 0 is no limit. What is needed stays in any case: see docs/operations.md.

    It is of the whole project, since snapshots, videos, files that were handed in and alerts are shared by its models.
    """

    predictions_for: Age = Field(timedelta(0), description="Answers with their examples, unless labelled or asked for.")
    predictions_most: int = Field(0, ge=0, description="Answers of a model.")
    versions_for: Age = Field(timedelta(0), description="Files of versions; what is known of a version stays.")
    versions_most: int = Field(0, ge=0, description="Versions of a model that keep their files.")
    snapshots_for: Age = Field(timedelta(0), description="Snapshots that no version, parent or retraining needs.")
    snapshots_most: int = Field(0, ge=0, description="Snapshots.")
    runs_for: Age = Field(timedelta(0), description="Runs of trainings and searches of which no version came.")
    runs_most: int = Field(0, ge=0, description="Such runs of a model.")
    checkpoints_for: Age = Field(
        timedelta(days=7),
        description="What finished or abandoned trainings and searches have left: .keepfit/work, and the trials.",
    )
    checkpoints_most: int = Field(0, ge=0, description="Folders in .keepfit/work, and searches.")
    videos_for: Age = Field(timedelta(0), description="Stored videos of which no snapshot or label has a window.")
    videos_most: int = Field(0, ge=0, description="Stored videos.")
    batches_for: Age = Field(timedelta(0), description="Files given to POST /batches, with their outputs.")
    batches_most: int = Field(0, ge=0, description="Such jobs that keep their files.")
    alerts_for: Age = Field(timedelta(0), description="Alerts in .keepfit/mailbox.")
    alerts_most: int = Field(0, ge=0, description="Such alerts.")
    quiet_checks_for: Age = Field(
        timedelta(0),
        description="Checks that came to nothing; older ones are thinned to one an hour, looks at a rollout to those "
        "with a new reason.",
    )


class EmailSettings(Section):
    """`[alerts.email]`: SMTP with STARTTLS and login."""

    host: str = Field("smtp.gmail.com", description="The SMTP server.")
    port: int = Field(587, description="Its port.")
    user: str = Field(description="Login.")
    password: Secret = Field(description="Password, best as env:NAME or file:PATH.")
    sender: str | None = Field(None, description="From address; unset: the user.")
    to: tuple[str, ...] = Field(description="To addresses.")


class AlertSettings(Section):
    """`[alerts]`: who must know?"""

    urls: tuple[Secret, ...] = Field((), description="Any URL that Apprise knows (Slack, Teams, ...).")
    email: EmailSettings | None = Field(None, description="E-mail by SMTP.")
    mailbox: bool = Field(True, description="Keep every alert as an .eml file in .keepfit/mailbox.")
    group_for: Duration = Field(timedelta(hours=1), description="Repeats within this time are grouped.")


class LogSettings(Section):
    """`[log]`: what the server and the worker write to standard error."""

    format: Literal["text", "json"] = Field("text", description="One line an event, for people or for programs.")
    access: Literal["none", "requests", "all"] = Field(
        "none", description="requests: a line for each HTTP request; all: also for /health and /metrics."
    )


Price = Annotated[float | None, Field(ge=0)]


class CostSettings(Section):
    """`[costs]`: what is paid for; without prices costs are told in seconds only."""

    currency: str = Field("EUR", pattern=r"^[A-Za-z$€£¥]{1,8}$", description="How prices and sums are named.")
    per_cpu_hour: Price = Field(None, description="Price of an hour of one core.")
    per_gpu_hour: Price = Field(None, description="Price of an hour during which a GPU is held.")
    per_label: Price = Field(None, description="Price of a label that was asked for.")
    seconds_per_label: float = Field(
        15.0, gt=0, description="A person's time for a label; `status` forecasts hours a week by it."
    )
    per_kwh: Price = Field(None, description="Price of energy, where the machine tells what it used.")
    monthly_budget: float | None = Field(None, gt=0, description="For all models together; alerts say what is spent.")
    enforce: bool = Field(False, description="Once it is spent, only harm or a person begins a retraining.")
    warn_at: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (0.8, 1.0), description="Parts of the budget at which an alert is sent, each once a month."
    )

    @model_validator(mode="after")
    def each_setting_has_its_use(self) -> CostSettings:
        """A setting that nothing would come of is refused."""
        prices = (self.per_cpu_hour, self.per_gpu_hour, self.per_label, self.per_kwh)
        given = self.model_fields_set
        if all(price is None for price in prices) and given & {"currency", "monthly_budget"}:
            raise ValueError("without a price nothing can be told in money; set one, such as per_cpu_hour")
        if self.monthly_budget is None and given & {"enforce", "warn_at"}:
            raise ValueError("enforce and warn_at need monthly_budget; set it, or leave them out")
        return self


class BackupSettings(Section):
    """`[backup]`: what `keepfit doctor` expects of backups; `keepfit backup` makes them."""

    max_age: Duration | None = Field(None, description="An older last backup, or none, is a finding; unset: never.")


class Settings(Section):
    """The whole file."""

    timezone: Annotated[str, AfterValidator(zone)] = Field(
        "UTC", description="Rules schedules and days; stored times are UTC."
    )
    store: Place = Field(
        None, repr=False, description="Record store; unset: sqlite:///.keepfit/keepfit.db. Or a postgresql:// URL."
    )
    tracking: Place = Field(
        None, repr=False, description="MLflow; unset: sqlite:///.keepfit/mlflow.db. Or a server's URL, or local."
    )
    trials: Place = Field(
        None, repr=False, description="Where searches keep their trials; unset: sqlite:///.keepfit/tuning.db. Or a "
        "postgresql:// URL (of a database of its own), for machines that search together.",
    )  # fmt: skip
    traces: bool = Field(
        False, description="Send OpenTelemetry traces, as OTEL_* in the environment says; needs keepfit[otel]."
    )
    tokens_required: bool = Field(False, description="Ask for tokens on loopback, too.")
    server: ServerSettings = ServerSettings()
    worker: WorkerSettings = WorkerSettings()
    alerts: AlertSettings = AlertSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    costs: CostSettings = CostSettings()
    backup: BackupSettings = BackupSettings()
    models: Mapping[str, ModelSettings] = Field(
        default_factory=lambda: {"default": ModelSettings()},
        description="The models, by name; the first is the default.",
    )

    @model_validator(mode="after")
    def money_has_one_price(self) -> Settings:
        """Where prices are in money, an hour is priced by the model or by `[costs]`, not by both and not by none."""
        own = self.costs.per_cpu_hour is not None or self.costs.per_gpu_hour is not None
        for name, model in self.models.items():
            if model.prices.currency == "money" and own == (model.prices.hour is not None):
                both = (
                    "costs.per_cpu_hour (or per_gpu_hour) and hour are"
                    if own
                    else "neither costs.per_cpu_hour nor hour is"
                )
                raise ValueError(f"models.{name}.prices: {both} set; an hour of training needs one price")
        return self

    def model(self, name: str | None) -> tuple[str, ModelSettings]:
        """The named model, or the first. Raises NotFound."""
        chosen = name or next(iter(self.models))
        if chosen not in self.models:
            raise NotFound(f"there is no model {chosen!r}; keepfit.toml has {', '.join(self.models)}")
        return chosen, self.models[chosen]


def load(project: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of a project folder; a missing file means the defaults.

    `KEEPFIT_SERVER__PORT=9000` overrides `[server] port`: two underscores go one level down.
    Raises SettingsError with one sentence per problem.
    """
    file = project / FILE
    values: dict[str, Any] = {}
    try:
        if file.exists():
            values = tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            override(values, name[len(PREFIX) :].lower().split("__"), value, name)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(explain(e) for e in error.errors(include_url=False))) from error
    keep_secret(settings)
    check_names(settings)
    for name, model in settings.models.items():
        try:
            trigger_from(model.triggers)
        except SettingsError as error:
            raise SettingsError(f"setting models.{name}.triggers: {error}") from error
    return settings


def override(values: dict[str, Any], path: list[str], value: str, name: str) -> None:
    """Set one value from the environment: TOML syntax where it parses, else the text itself."""
    place = values
    for part in path[:-1]:
        below = place.setdefault(part, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{name} goes below {part!r}, which is a value")
        place = below
    try:
        place[path[-1]] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        place[path[-1]] = value


def keep_secret(settings: Settings) -> None:
    """Let no message, log or report of this process show what is secret in the settings."""
    for address in (settings.store, settings.tracking, settings.trials, settings.worker.jobs_database):
        if address is not None and (password := urlsplit(address).password):
            remember(password)
            remember(unquote(password))
    for url in settings.alerts.urls:
        remember_address(url.get_secret_value())
    for model in settings.models.values():
        keep_secrets_of(model)
    if settings.alerts.email is not None:
        remember(settings.alerts.email.password.get_secret_value())


def keep_secrets_of(model: ModelSettings) -> None:
    """What another system is told with."""
    if model.hand_over.secret is not None:
        remember(model.hand_over.secret.get_secret_value())
    for address in (model.hand_over.url, model.follow.url):
        if address is not None and (password := urlsplit(address).password):
            remember(password)
            remember(unquote(password))


def check_names(settings: Settings) -> None:
    """Model names become folders and addresses."""
    if not settings.models:
        raise SettingsError("keepfit.toml names no model; write at least [models.default]")
    for name in settings.models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
            raise SettingsError(f"{name!r} is no model name: use letters, digits, - and _")


def explain(error: Mapping[str, Any]) -> str:
    """One pydantic error as a sentence, with the nearest known name for an unknown key."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"setting {where}: {error['msg'].removeprefix('Value error, ')}"
    known = known_names(error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1]), known, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown setting {where}; {hint}"


def known_names(path: tuple[Any, ...]) -> list[str]:
    """The keys of the section at a path."""
    section: type[BaseModel] = Settings
    for number, part in enumerate(path):
        if section is Settings and part == "models":
            section = ModelSettings
        elif number and path[number - 1] == "models":
            continue
        else:
            inner = SECTIONS.get(str(part))
            section = inner if inner is not None else section
    return sorted(section.model_fields)


SECTIONS: Mapping[str, type[BaseModel]] = {
    "server": ServerSettings, "worker": WorkerSettings, "retention": RetentionSettings, "alerts": AlertSettings,
    "email": EmailSettings, "columns": ColumnSettings, "recipe": RecipeSettings, "video": VideoRecipeSettings,
    "gate": GateSettings, "watch": WatchSettings, "label_parts": LabelParts, "rollout": RolloutSettings,
    "log": LogSettings, "costs": CostSettings, "prices": PriceSettings, "retraining": RetrainingSettings,
    "cascade": CascadeSettings, "backup": BackupSettings, "keep": KeepSettings, "elsewhere": ElsewhereSettings,
    "hand_over": HandOverSettings, "follow": FollowSettings, "names": FollowColumns,
}  # fmt: skip
