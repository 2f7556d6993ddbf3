"""The judges that rate answers."""
