"""The battery: what is asked of a model, how answers are scored, and the statistics.

Pure: no network, no database, no Celery, and no import of ``gate`` or ``workers``.
"""
