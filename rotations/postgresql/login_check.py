"""Proves a login by trying it: on the server, and on the replicas that applications read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotations.postgresql import failure_causes
from rotations.postgresql.connection import BoundedConnection, NotConnected
from rotations.postgresql.server import Certificate, Limits
from rotator.api import Denied, Refused, Rejection, StepError, Transient, agree_within

if TYPE_CHECKING:
    from rotations.postgresql.options import SecretOptions
    from rotations.postgresql.server import Server
    from rotator.api import Credential, StepContext


def accepts(
    server: Server, credential: Credential, options: SecretOptions, ctx: StepContext
) -> bool:
    """Log in once and hang up. Raises what hinders it, where that is not the credential."""
    outcome = try_login(server, credential, options, ctx)
    if isinstance(outcome, BoundedConnection):
        outcome.close()
        return True
    cause = failure_causes.of_failure(
        server, outcome, credential.username, Limits.of(ctx), dbname=options.login_dbname
    )
    if cause.cause in failure_causes.REJECTED:
        return False
    if is_full(outcome, cause):
        return True
    raise _hindered(server, outcome, credential.username, options, ctx)


def try_login(
    server: Server,
    credential: Credential,
    options: SecretOptions,
    ctx: StepContext,
    *,
    pooler: bool = False,
) -> BoundedConnection | NotConnected:
    """Try to log in once, with the login's own client certificate where it has one."""
    own = None
    if options.sslcert is not None and options.sslkey is not None:
        own = Certificate(certificate=options.sslcert, key=options.sslkey)
    return server.attempt(credential, options.login_dbname, ctx, own, pooler=pooler)


def is_full(failed: NotConnected, cause: Rejection) -> bool:
    """Return whether the password was accepted, and only a limit was used up.

    Limits of a role, of a database and of the server's reserve are looked at after authentication
    (InitPostgres in PostgreSQL's src/backend/utils/init/postinit.c); whether all slots are taken,
    before a password is asked for.
    """
    return cause.cause == failure_causes.LIMITED and failed.password_sent


def log_in(
    server: Server, new: Credential, options: SecretOptions, ctx: StepContext
) -> BoundedConnection:
    """Return a connection of the new login. Raises `Refused`, with the cause, when it is rejected."""
    outcome = try_login(server, new, options, ctx)
    if isinstance(outcome, BoundedConnection):
        return outcome
    raise _hindered(server, outcome, new.username, options, ctx)


def rejection(
    server: Server, credential: Credential, options: SecretOptions, ctx: StepContext
) -> Rejection | None:
    """Return why a login is rejected; None where it is not."""
    outcome = try_login(server, credential, options, ctx)
    if isinstance(outcome, BoundedConnection):
        outcome.close()
        return None
    return failure_causes.of_login(
        server, outcome, credential.username, ctx, dbname=options.login_dbname
    )


def follow(
    reader: Server,
    credential: Credential,
    options: SecretOptions,
    ctx: StepContext,
    *,
    wanted: bool,
) -> None:
    """Wait until a replica answers as its primary does. Raises `Transient` when it lags too far."""
    agree_within(
        lambda: accepts(reader, credential, options, ctx),
        credential.username,
        reader.options.host + f":{reader.options.port}",
        ctx,
        wanted=wanted,
    )


def _hindered(
    server: Server, failed: NotConnected, name: str, options: SecretOptions, ctx: StepContext
) -> StepError:
    cause = failure_causes.of_login(server, failed, name, ctx, dbname=options.login_dbname)
    if cause.cause in failure_causes.REJECTED:
        return Refused(
            f"{server.where} rejects the login {name!r}{cause.because}.", hint=cause.hint
        )
    if cause.cause in failure_causes.PASSING:
        subject = (
            f"{server.where}: login {name!r}:"
            if cause.cause == failure_causes.LIMITED
            else server.where
        )
        return Transient(f"{subject} {cause.text}.", hint=cause.hint)
    denied = Denied(f"{server.where} rejects the login {name!r}{cause.because}.", hint=cause.hint)
    denied.cause = cause.cause
    return denied
