"""Judging apart from the run: answers go out on a queue, ratings come back."""
