"""A checkpoint on disk: inspected, identified, and made ready to be served."""
