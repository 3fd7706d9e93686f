"""Sandboxes on a real OpenLDAP, each with entries of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from rotations.ldap import PLUGIN, SecretOptions, TargetOptions
from rotator.api import Credential, Secret
from rotator.testing.crash import Effects, Sandbox
from tests.servers.openldap import BASE, SERVICES

if TYPE_CHECKING:
    from tests.servers.openldap import ScratchOpenLdap

STRATEGIES: Final = ("dual-password", "alternating-users", "single-user")
ADMIN: Final = Credential(username=f"cn=admin,{BASE}", password=Secret("an-admin-Rv82mq"))
FOREIGN: Final = "set-by-hand-Rv82mq"
_numbers = itertools.count(1)


def target_options(server: ScratchOpenLdap, **changed: Any) -> TargetOptions:
    given: dict[str, Any] = {"url": server.plain, "dn": f"uid={{login}},{SERVICES}"}
    return TargetOptions(**(given | changed))


def ensure_admin(server: ScratchOpenLdap) -> None:
    """Create the admin, which may write passwords and is no root of the database."""
    if not server.entries(BASE, "(cn=admin)"):
        classes = ["organizationalRole", "simpleSecurityObject"]
        server.add(ADMIN.username, classes, {"userPassword": ADMIN.password.reveal()})


def add_login(server: ScratchOpenLdap, name: str, mark: str = "", password: str = "") -> str:
    """Add an entry, with a mark and a password where they are given; return its DN."""
    values = {"sn": name, "cn": name}
    values |= {"description": mark} if mark else {}
    values |= {"userPassword": password} if password else {}
    dn = f"uid={name},{SERVICES}"
    server.add(dn, ["inetOrgPerson"], values)
    return dn


def sandbox(server: ScratchOpenLdap, strategy: str, *tapped: Effects) -> Sandbox:
    """Return a sandbox whose entries exist, are marked and have no password."""
    ensure_admin(server)
    name = f"l{next(_numbers)}"
    names = [f"{name}_{one}" for one in ("a", "b", "only")]
    for one in names:
        add_login(server, one, mark=f"rotator:{name}")

    def passwords() -> dict[str, list[bytes]]:
        found = server.entries(SERVICES, f"(&(uid={name}_*)(userPassword=*))")
        return {
            values["uid"][0].decode(): sorted(values["userPassword"]) for values in found.values()
        }

    def foreign() -> Credential:
        add_login(server, f"{name}_legacy", password=FOREIGN)
        return Credential(username=f"{name}_legacy", password=Secret(FOREIGN))

    def accepts(one: Credential) -> bool:
        link: Any = server.connect(f"uid={one.username},{SERVICES}", one.password.reveal())
        if link is not None:
            link.unbind()
        return link is not None

    def close() -> None:
        for dn in server.entries(SERVICES, f"(uid={name}_*)"):
            server.run(lambda link, dn=dn: link.delete(dn))

    return Sandbox.of(
        PLUGIN,
        strategy,
        target_options=target_options(server),
        secret_options=SecretOptions(users=(names[0], names[1]), username=names[2]),
        admin=ADMIN,
        close=close,
        accepts=accepts,
        usable=lambda: set(passwords()),
        state=passwords,
        foreign=foreign,
        tapped=tapped,
        secret=name,
    )
