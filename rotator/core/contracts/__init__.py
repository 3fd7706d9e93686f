"""The contracts that plugins and backends fulfil; authors import them from `rotator.api`."""
