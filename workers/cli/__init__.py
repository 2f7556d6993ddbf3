"""Commands that need an engine or a model; ``gate.cli`` finds them by entry point."""
