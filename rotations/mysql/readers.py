"""Whether a server, or a replica that applications read from, accepts a login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rotations.mysql.failure_causes import rejection
from rotations.mysql.server import AtLimit
from rotator.api import UNEXPLAINED, Denied, agree_within

if TYPE_CHECKING:
    from rotations.mysql.server import Server
    from rotator.api import Credential, StepContext


def accepts(server: Server, credential: Credential, ctx: StepContext) -> bool:
    """Log in once and hang up. A login with too many connections already was authenticated first."""
    try:
        connection = server.login(credential, ctx)
    except AtLimit:
        return True
    if connection is None:
        return False
    connection.close()
    return True


def follow(
    reader: Server, primary: Server, credential: Credential, ctx: StepContext, *, wanted: bool
) -> None:
    """Wait until a replica answers as its primary does.

    Its accounts are compared before a login is tried: a replica that lags would count each try as
    a wrong password, and could lock the account. Raises `Transient` when it lags too far, `Denied`
    when it has the account and rejects the login.
    """
    login = credential.username

    def agrees() -> bool:
        if lags(reader, primary, login, ctx):
            return not wanted
        if accepts(reader, credential, ctx) == wanted:
            return wanted
        if not wanted:
            return True
        with reader.admin(f"checking why {login!r} is rejected", ctx) as accounts:
            code = reader.rejected_with(login)
            why = rejection(accounts, reader.options, credential, code) or UNEXPLAINED
        raise Denied(f"{reader.where} rejects the login {login!r}{why.because}.", hint=why.hint)

    agree_within(agrees, login, reader.address, ctx, wanted=wanted)


def lags(reader: Server, primary: Server, login: str, ctx: StepContext) -> bool:
    """Return whether a replica has not yet the accounts of a login as its primary has them."""
    return _kept(reader, login, ctx) != _kept(primary, login, ctx)


def _kept(server: Server, login: str, ctx: StepContext) -> list[tuple[str, tuple[str, ...], bool]]:
    """Return what decides on a login: each account with its hashes, and whether it is locked."""
    with server.admin(f"reading the accounts of {login!r}", ctx) as accounts:
        return sorted((one.host, one.hashes, one.locked) for one in accounts.look(login))
