"""Which parts of the label queue drew a question, each with its chance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("keepfit_queue", sa.Column("parts", sa.Text))
