"""Indexes over what the metrics count."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.drop_index("ix_submissions_state", "submissions")
    op.create_index("submissions_by_state", "submissions", ["state", "created_at"])
    op.create_index("submissions_by_source", "submissions", ["source"])
    op.create_index("submissions_by_outcome", "submissions", ["outcome", "policy"])
    op.create_index("deliveries_by_target", "deliveries", ["target", "state"])


def downgrade() -> None:
    """There is no way back by this; older versions work with these indexes as well."""
    raise NotImplementedError("restore the backup that was made before `emgate db upgrade`")
