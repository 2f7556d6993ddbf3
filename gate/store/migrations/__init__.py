"""Alembic migrations of the record; applied by ``emgate db upgrade``."""
