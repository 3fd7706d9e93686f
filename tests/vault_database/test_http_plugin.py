"""The contract of the plugin `http`, on the userpass logins of a real OpenBao."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from rotations.http_api import PLUGIN, Request, SecretOptions, TargetOptions
from rotator.api import Credential, HttpServer, Secret
from rotator.testing.crash import Effects, Sandbox
from rotator.testing.rotation_suite import RotationSuite

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.openbao import ScratchOpenBao

_TOKEN = {"X-Vault-Token": "{admin_password}"}
_USER = "/v1/auth/userpass/users/{login}"
_MARK = "/v1/secret/data/marks/{login}"
_numbers = itertools.count(1)


def _post(path: str, **body: object) -> Request:
    return Request(method="POST", path=path, headers=_TOKEN, body=body)


def _target(server: ScratchOpenBao, strategy: str) -> TargetOptions:
    set_password = _post(_USER, password="{password}", token_policies=["default"])
    delete = Request(method="DELETE", path=_USER, headers=_TOKEN)
    forget = Request(
        method="DELETE", path="/v1/secret/metadata/marks/{login}", headers=_TOKEN, ok=(204, 404)
    )
    return TargetOptions(
        url=server.address,
        exists=Request(path=_USER, headers=_TOKEN),
        mark=Request(path=_MARK, headers=_TOKEN, take="data.data.mark"),
        create=(_post(_MARK, data={"mark": "{mark}"}), set_password),
        update=() if strategy == "new-user" else (set_password,),
        revoke=(delete, forget),
        test=Request(
            method="POST",
            path="/v1/auth/userpass/login/{login}",
            body={"password": "{password}"},
            rejected=(400,),
        ),
    )


@pytest.fixture(scope="module")
def userpass(bao: ScratchOpenBao) -> ScratchOpenBao:
    """A server with userpass logins; it locks none of them after wrong passwords."""
    bao.call("POST", "sys/auth/userpass", type="userpass")
    bao.call("POST", "sys/auth/userpass/tune", user_lockout_config={"lockout_disable": True})
    # An empty list is an error of the API.
    bao.call("POST", "auth/userpass/users/somebody", password="set-by-hand-Zt5kq8")
    return bao


class TestContract(RotationSuite):
    """All three strategies pass, with a table of marks in the key-value engine."""

    sample = 2

    @pytest.fixture(
        params=[
            "new-user",
            "single-user",
            pytest.param("alternating-users", marks=pytest.mark.slow),
        ]
    )
    def make_sandbox(
        self, request: pytest.FixtureRequest, userpass: ScratchOpenBao
    ) -> Callable[[], Sandbox]:
        """Return what makes logins of a sandbox's own."""
        return lambda: _sandbox(userpass, request.param)


def _sandbox(server: ScratchOpenBao, strategy: str) -> Sandbox:
    name = f"h{next(_numbers)}"

    def users() -> list[str]:
        found = server.call("LIST", "auth/userpass/users") or {}
        keys = found.get("data", found).get("keys", [])
        return [one for one in keys if one.startswith(f"{name}_")]

    def foreign() -> Credential:
        password = "set-by-hand-Zt5kq8"
        server.call("POST", f"auth/userpass/users/{name}_legacy", password=password)
        return Credential(username=f"{name}_legacy", password=Secret(password))

    pair = (f"{name}_a", f"{name}_b")
    return Sandbox.of(
        PLUGIN,
        strategy,
        target_options=_target(server, strategy),
        secret_options=SecretOptions(users=pair, username=f"{name}_only", prefix=f"{name}_x"),
        admin=Credential(username="root", password=Secret(server.root_token)),
        usable=lambda: set(users()),
        state=users,
        foreign=foreign,
        secret=name,
    )


class TestDrawnKeys(RotationSuite):
    """Secret ids of an AppRole, which the server draws; their mark is in their metadata."""

    sample = 4

    @pytest.fixture
    def make_sandbox(
        self, bao: ScratchOpenBao, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], Sandbox]:
        """Return what makes a role of a sandbox's own, with a crash around each change."""
        methods = bao.call("GET", "sys/auth") or {}
        if "approle/" not in methods.get("data", methods):
            bao.call("POST", "sys/auth/approle", type="approle")
        requests = Effects("request")
        monkeypatch.setattr(HttpServer, "send", requests.through(HttpServer.send))
        return lambda: _role(bao, requests)


def _role(server: ScratchOpenBao, requests: Effects) -> Sandbox:
    name = f"k{next(_numbers)}"
    role = f"auth/approle/role/{name}"
    server.call("POST", role, token_ttl="60s", token_policies=["default"])
    server.call("POST", f"{role}/role-id", role_id=name)

    def ids() -> list[str]:
        try:
            found = server.call("LIST", f"{role}/secret-id")
        except RuntimeError:  # there is none
            return []
        return sorted(found["data"]["keys"])

    def accepts(one: Credential) -> bool:
        try:
            server.call("POST", "auth/approle/login", role_id=name, secret_id=one.password.reveal())
        except RuntimeError:
            return False
        return True

    def foreign() -> Credential:
        made = server.call("POST", f"{role}/secret-id") or {}
        data = made.get("data", made)
        return Credential(username=data["secret_id_accessor"], password=Secret(data["secret_id"]))

    return Sandbox.of(
        PLUGIN,
        "new-key",
        target_options=TargetOptions(
            url=server.address,
            keys=Request(path=f"/v1/{role}/secret-id?list=true", headers=_TOKEN, take="data.keys"),
            exists=Request(
                method="POST",
                path=f"/v1/{role}/secret-id-accessor/lookup",
                headers=_TOKEN,
                body={"secret_id_accessor": "{login}"},
                take="data.metadata.mark",
                absent=(404, 403),
            ),
            create=(
                Request(
                    method="POST",
                    path=f"/v1/{role}/secret-id",
                    headers=_TOKEN,
                    body={"metadata": "{metadata}"},
                    key_id="data.secret_id_accessor",
                    key_value="data.secret_id",
                ),
            ),
            revoke=(_post(f"/v1/{role}/secret-id-accessor/destroy", secret_id_accessor="{login}"),),
            test=Request(
                method="POST",
                path="/v1/auth/approle/login",
                body={"role_id": name, "secret_id": "{password}"},
                rejected=(400,),
            ),
        ),
        secret_options=SecretOptions(values={"metadata": json.dumps({"mark": f"rotator:{name}"})}),
        admin=Credential(username="root", password=Secret(server.root_token)),
        accepts=accepts,
        usable=lambda: set(ids()),
        state=ids,
        foreign=foreign,
        tapped=(requests,),
        secret=name,
    )
