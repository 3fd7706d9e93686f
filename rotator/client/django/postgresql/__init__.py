"""Django's PostgreSQL engine, following a credential."""
