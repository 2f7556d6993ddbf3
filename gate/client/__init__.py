"""The client of the HTTP API, for the command line; it imports nothing of the service."""
