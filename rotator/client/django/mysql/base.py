"""The database engine `rotator.client.django.mysql`: over mysqlclient, or PyMySQL in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db.backends.mysql import base
from django.db.backends.mysql.client import DatabaseClient as BaseClient

from rotator.client.django.settings import credential_of, with_login
from rotator.client.refusals import Refusal, of_mysql
from rotator.core.version_mark import with_mark

if TYPE_CHECKING:
    from rotator.client.login import Login

_ATTRIBUTE: Final = "rotator_version"


class DatabaseClient(BaseClient):
    """`manage.py dbshell` with the current login."""

    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict: Any, parameters: Any) -> Any:
        """Return the arguments and environment of the `mysql` program."""
        return super().settings_to_cmd_args_env(with_login(settings_dict), parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """Logs in by the credential; replaces connections of older versions."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        """Return the driver's arguments, without a login: that is asked for at each connection."""
        parameters = super().get_connection_params()
        for name in ("credential", "user", "password"):
            _ = parameters.pop(name, None)
        return parameters

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a connection of the current version."""
        connect = super().get_new_connection

        def attempt(login: Login) -> Any:
            connection = connect(self._with_login(login, conn_params))
            setattr(connection, _ATTRIBUTE, login.version)
            return connection

        def refusal_of(error: BaseException) -> Refusal | None:
            is_of_server = isinstance(error, self.Database.OperationalError)
            return of_mysql(error.args[0]) if is_of_server and error.args else None

        return credential_of(self.settings_dict).connect(attempt, refusal_of=refusal_of)

    def _with_login(self, login: Login, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the driver's arguments with the login, and its mark where the driver can send it."""
        marked = {}
        # mysqlclient sends no attributes of a connection.
        if self.Database.__name__ == "pymysql":
            program = str(parameters.get("program_name") or "")
            marked["program_name"] = with_mark(program, login.version)
        password = login.password.reveal()
        return {**parameters, "user": login.username, "password": password, **marked}

    def close_if_unusable_or_obsolete(self) -> None:
        """Close the connection also where it was opened with an older version."""
        version = getattr(self.connection, _ATTRIBUTE, "")
        outdated = self.connection is not None and not self.in_atomic_block
        if outdated and credential_of(self.settings_dict).is_outdated(version):
            self.close()
            return
        super().close_if_unusable_or_obsolete()
