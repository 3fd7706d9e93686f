"""The plugin vault-database, on real servers."""
