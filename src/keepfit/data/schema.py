"""The tables of the record store, as this release reads and writes them (`migrations/` makes them).

Their names carry a prefix, so that one PostgreSQL database may also hold MLflow's and DBOS's tables. Every table
has a `model` column. Scores are float32 bytes, embeddings float16 bytes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)

from keepfit.data.stored_types import Json, Moment, Words

METADATA = MetaData()

_SERIAL = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER numbers itself in SQLite

EXAMPLES = Table(
    "keepfit_examples",
    METADATA,
    Column("model", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("time", Moment, nullable=False),
    Column("key", Words),
    Column("group", Words),
    Column("content", Json, nullable=False),
    Column("context", Json, nullable=False),
    Index("keepfit_examples_time", "model", "time"),
)

LABEL_SETS = Table(
    "keepfit_label_sets",
    METADATA,
    Column("model", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("labels", Json, nullable=False),
)
"""The classes of a version, once instead of in each of its predictions; the id is their hash."""

PREDICTIONS = Table(
    "keepfit_predictions",
    METADATA,
    Column("model", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("example_id", Words, nullable=False),
    Column("group", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("time", Moment, nullable=False),
    Column("label_set", Words, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("embedding", LargeBinary, nullable=False),
    Column("key", Words),
    Column("context", Json, nullable=False),
    Column("measures", Json, nullable=False),
    Column("stage", Words, nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("request", Words),
    Index("keepfit_predictions_time", "model", "time"),
    Index("keepfit_predictions_version", "model", "version", "time"),
    Index("keepfit_predictions_group", "model", "group", "time"),
    Index("keepfit_predictions_example", "model", "example_id", "time"),
)

LABELS = Table(
    "keepfit_labels",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False),
    Column("example_id", Words, nullable=False),
    Column("value", Words, nullable=False),
    Column("time", Moment, nullable=False),
    Column("source", Words, nullable=False),
    Column("actor", Words, nullable=False),
    Column("propensity", Float),
    Column("prediction_id", Words),
    Index("keepfit_labels_time", "model", "time"),
    Index("keepfit_labels_example", "model", "example_id"),
    sqlite_autoincrement=True,
)

QUEUE = Table(
    "keepfit_queue",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False),
    Column("prediction_id", Words, nullable=False),
    Column("example_id", Words, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("reason", Words, nullable=False),
    Column("asked_at", Moment, nullable=False),
    Column("label_set", Json, nullable=False),
    Column("parts", Json),
    UniqueConstraint("model", "id", name="keepfit_queue_id"),
    UniqueConstraint("model", "prediction_id", name="keepfit_queue_prediction"),
    Index("keepfit_queue_asked", "model", "asked_at"),
    Index("keepfit_queue_example", "model", "example_id"),
    sqlite_autoincrement=True,
)

DECISIONS = Table(
    "keepfit_decisions",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False, unique=True),
    Column("at", Moment, nullable=False),
    Column("subject", Words, nullable=False),
    Column("outcome", Words, nullable=False),
    Column("because", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Index("keepfit_decisions_at", "model", "at"),
    sqlite_autoincrement=True,
)

DEPLOYMENTS = Table(
    "keepfit_deployments",
    METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("shares", Json, nullable=False),
    Column("shadow", Json, nullable=False),
    Column("decision_id", Words),
    Column("token", Words),
    UniqueConstraint("model", "token", name="keepfit_deployments_token"),
    Index("keepfit_deployments_model", "model", "id"),
    sqlite_autoincrement=True,
)

APPLIED = Table(
    "keepfit_applied",
    METADATA,
    Column("deployment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("worker", Words, primary_key=True),
    Column("model", Words, nullable=False),
    Column("at", Moment, nullable=False),
)

EVENTS = Table(
    "keepfit_events",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False, unique=True),
    Column("at", Moment, nullable=False),
    Column("kind", Words, nullable=False),
    Column("actor", Words, nullable=False),
    Column("details", Json, nullable=False),
    Column("handled_by", Words),
    Index("keepfit_events_waiting", "model", "handled_by"),
    sqlite_autoincrement=True,
)

JOBS = Table(
    "keepfit_jobs",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False, unique=True),
    Column("kind", Words, nullable=False),
    Column("at", Moment, nullable=False),
    Column("state", Words, nullable=False),
    Column("request", Json, nullable=False),
    Column("result", Json, nullable=False),
    Column("step", Words, nullable=False),
    Column("finished_at", Moment),
    Column("worker", Words),
    Index("keepfit_jobs_state", "state", "model", "kind"),
    sqlite_autoincrement=True,
)

NAMED_VALUES = Table(
    "keepfit_values",
    METADATA,
    Column("model", Words, primary_key=True),
    Column("name", Words, primary_key=True),
    Column("value", Json, nullable=False),
)

TOKENS = Table(
    "keepfit_tokens",
    METADATA,
    Column("name", Words, primary_key=True),
    Column("model", Words),
    Column("hash", Words, nullable=False),
    Column("roles", Json, nullable=False),
    Column("created", Moment, nullable=False),
    Column("expires", Moment),
    Column("revoked", Boolean, nullable=False),
    Column("per_minute", Integer),
    Column("labels_per_day", Integer),
)
"""A token opens the whole installation (model is null), or one model."""

AUDIT = Table(
    "keepfit_audit",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("subject", Words, nullable=False),
    Column("details", Json, nullable=False),
    Column("previous", Words, nullable=False),
    Column("hash", Words, nullable=False),
    Index("keepfit_audit_at", "model", "at"),
    Index("keepfit_audit_subject", "subject"),
    sqlite_autoincrement=True,
)
"""Who changed what; one chain for the whole installation, each row with the hash of the one before."""

FAILURES = Table(
    "keepfit_failures",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("kind", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("worker", Words, nullable=False),
    Column("count", Integer, nullable=False),
    Index("keepfit_failures_version", "model", "version", "at"),
    sqlite_autoincrement=True,
)
"""What a version could not do: be loaded, answer, answer in time, answer with numbers."""

COSTS = Table(
    "keepfit_costs",
    METADATA,
    Column("seq", _SERIAL, primary_key=True, autoincrement=True),
    Column("model", Words, nullable=False),
    Column("id", Words, nullable=False, unique=True),
    Column("at", Moment, nullable=False),
    Column("kind", Words, nullable=False),
    Column("version", Integer),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("gpu_seconds", Float, nullable=False),
    Column("joules", Float),
    Column("details", Json, nullable=False),
    Index("keepfit_costs_at", "model", "at"),
    sqlite_autoincrement=True,
)
"""What was spent on trainings, batches, and answers (added up)."""

LABELLERS = Table(
    "keepfit_labellers",
    METADATA,
    Column("model", Words, primary_key=True),
    Column("actor", Words, primary_key=True),
    Column("apart", Boolean, nullable=False),
    Column("since", Moment, nullable=False),
    Column("decided_by", Words, nullable=False),
    Column("because", Json, nullable=False),
)
"""Labellers about whom something was decided: those set apart neither measure nor train."""
