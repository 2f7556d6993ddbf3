"""A vLLM process: how it is started, kept, asked, and given other weights."""
