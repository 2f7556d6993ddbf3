"""Who may do what: keys, scopes, the rule without keys, waivers. Pure; nothing here does I/O."""
