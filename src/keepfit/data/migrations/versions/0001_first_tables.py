"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _applied()
    _decisions()
    _deployments()
    _events()
    _examples()
    _jobs()
    _label_sets()
    _labels()
    _predictions()
    _queue()
    _tokens()
    _values()


def _applied() -> None:
    op.create_table(
        "keepfit_applied",
        sa.Column("deployment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )


def _decisions() -> None:
    op.create_table(
        "keepfit_decisions",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_decisions_at", "keepfit_decisions", ["model", "at"])


def _deployments() -> None:
    op.create_table(
        "keepfit_deployments",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("shares", sa.Text, nullable=False),
        sa.Column("shadow", sa.Text, nullable=False),
        sa.Column("decision_id", sa.Text),
        sa.Column("token", sa.Text),
        sa.UniqueConstraint("model", "token", name="keepfit_deployments_token"),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_deployments_model", "keepfit_deployments", ["model", "id"])


def _events() -> None:
    op.create_table(
        "keepfit_events",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("handled_by", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_events_waiting", "keepfit_events", ["model", "handled_by"])


def _examples() -> None:
    op.create_table(
        "keepfit_examples",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("group", sa.Text),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
    )
    op.create_index("keepfit_examples_time", "keepfit_examples", ["model", "time"])


def _jobs() -> None:
    op.create_table(
        "keepfit_jobs",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("worker", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_jobs_state", "keepfit_jobs", ["state", "model", "kind"])


def _label_sets() -> None:
    op.create_table(
        "keepfit_label_sets",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("labels", sa.Text, nullable=False),
    )


def _labels() -> None:
    op.create_table(
        "keepfit_labels",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("propensity", sa.Float),
        sa.Column("prediction_id", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_labels_example", "keepfit_labels", ["model", "example_id"])
    op.create_index("keepfit_labels_time", "keepfit_labels", ["model", "time"])


def _predictions() -> None:
    op.create_table(
        "keepfit_predictions",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("group", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("label_set", sa.Text, nullable=False),
        sa.Column("scores", sa.LargeBinary, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("measures", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
    )
    op.create_index("keepfit_predictions_example", "keepfit_predictions", ["model", "example_id", "time"])
    op.create_index("keepfit_predictions_group", "keepfit_predictions", ["model", "group", "time"])
    op.create_index("keepfit_predictions_time", "keepfit_predictions", ["model", "time"])
    op.create_index("keepfit_predictions_version", "keepfit_predictions", ["model", "version", "time"])


def _queue() -> None:
    op.create_table(
        "keepfit_queue",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("prediction_id", sa.Text, nullable=False),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("label_set", sa.Text, nullable=False),
        sa.UniqueConstraint("model", "id", name="keepfit_queue_id"),
        sa.UniqueConstraint("model", "prediction_id", name="keepfit_queue_prediction"),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_queue_asked", "keepfit_queue", ["model", "asked_at"])
    op.create_index("keepfit_queue_example", "keepfit_queue", ["model", "example_id"])


def _tokens() -> None:
    op.create_table(
        "keepfit_tokens",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("model", sa.Text),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )


def _values() -> None:
    op.create_table(
        "keepfit_values",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
