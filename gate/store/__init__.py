"""The record: everything that a restart must not lose, in SQL."""
