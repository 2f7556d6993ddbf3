"""What may be wrong with an installation: one small probe each. None starts an engine."""
