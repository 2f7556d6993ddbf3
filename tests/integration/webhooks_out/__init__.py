"""Webhooks out, to real receivers on loopback."""
