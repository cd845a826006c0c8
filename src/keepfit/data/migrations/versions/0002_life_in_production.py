"""Audit, failures of versions, costs, labellers; limits of tokens, and the request behind a prediction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _audit()
    _failures()
    _costs()
    _labellers()
    op.add_column("keepfit_tokens", sa.Column("per_minute", sa.Integer))
    op.add_column("keepfit_tokens", sa.Column("labels_per_day", sa.Integer))
    op.add_column("keepfit_predictions", sa.Column("request", sa.Text))


def _audit() -> None:
    op.create_table(
        "keepfit_audit",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_audit_at", "keepfit_audit", ["model", "at"])
    op.create_index("keepfit_audit_subject", "keepfit_audit", ["subject"])


def _failures() -> None:
    op.create_table(
        "keepfit_failures",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_failures_version", "keepfit_failures", ["model", "version", "at"])


def _costs() -> None:
    op.create_table(
        "keepfit_costs",
        sa.Column("seq", SERIAL, primary_key=True, autoincrement=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("cpu_seconds", sa.Float, nullable=False),
        sa.Column("gpu_seconds", sa.Float, nullable=False),
        sa.Column("joules", sa.Float),
        sa.Column("details", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("keepfit_costs_at", "keepfit_costs", ["model", "at"])


def _labellers() -> None:
    op.create_table(
        "keepfit_labellers",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("actor", sa.Text, primary_key=True),
        sa.Column("apart", sa.Boolean, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("because", sa.Text, nullable=False),
    )
