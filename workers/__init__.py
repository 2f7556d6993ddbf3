"""Everything that touches an engine: preparation, vLLM processes, judges, the run, Celery."""
