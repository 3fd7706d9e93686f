"""The web console: it reads the journal and appends requests, and has no access to a backend or a target."""
