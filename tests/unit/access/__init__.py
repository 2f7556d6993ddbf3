"""The door of the API: keys, scopes, rates, the audit log, and waivers behind it."""
