"""Notification: deliveries leave the record for their receivers."""
