"""Webhooks: what comes in becomes submissions, what happens here goes out."""
