"""Answers that speak to their judge, put to the embedded judge."""
