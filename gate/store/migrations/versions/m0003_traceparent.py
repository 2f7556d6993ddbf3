"""The trace that a submission came with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.add_column("submissions", sa.Column("traceparent", sa.String(), nullable=True))


def downgrade() -> None:
    """There is no way back: it would drop what the record must not lose."""
    raise NotImplementedError("restore the backup that was made before `emgate db upgrade`")
