"""The audit database: what has happened, kept so that nobody can quietly change it."""
