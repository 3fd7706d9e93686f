"""The database engine `rotator.client.django.postgresql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as BaseClient

from rotator.client import psycopg
from rotator.client.django.settings import credential_of, with_login

if TYPE_CHECKING:
    from rotator.client.login import Login


class DatabaseClient(BaseClient):
    """`manage.py dbshell` with the current login."""

    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict: Any, parameters: Any) -> Any:
        """Return psql's arguments and environment."""
        return super().settings_to_cmd_args_env(with_login(settings_dict), parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """Logs in by the credential; replaces connections of older versions, pooled or not."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return psycopg's arguments, without a login: that is asked for at each connection."""
        parameters = super().get_connection_params()
        _ = parameters.pop("credential", None)
        for name in ("user", "password"):
            _ = parameters.pop(name, None)
        return parameters

    @property
    def pool(self) -> Any:
        """Return Django's own pool, whose connections follow the credential."""
        options = self.settings_dict["OPTIONS"]
        if options.get("pool") and "connection_class" not in (
            options["pool"] if isinstance(options["pool"], dict) else {}
        ):
            given = {} if options["pool"] is True else dict(options["pool"])
            given["connection_class"] = psycopg.following(credential_of(self.settings_dict))
            options["pool"] = given
        return super().pool

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection of the current version."""
        credential = credential_of(self.settings_dict)
        if not self.pool:
            connect = super().get_new_connection

            def attempt(login: Login) -> Any:
                return psycopg.stamped(connect(psycopg.with_login(login, conn_params)), login)

            return credential.connect(attempt, refusal_of=psycopg.refusal_of)
        while True:
            connection = super().get_new_connection(conn_params)
            if psycopg.is_current(credential, connection):
                return connection
            # A closed connection is replaced by its pool.
            connection.close()
            self.pool.putconn(connection)

    def close_if_unusable_or_obsolete(self) -> None:
        """Close the connection also where it was opened with an older version."""
        is_idle = self.connection is not None and not self.in_atomic_block
        credential = credential_of(self.settings_dict)
        if is_idle and not psycopg.is_current(credential, self.connection):
            self.close()
            return
        super().close_if_unusable_or_obsolete()
