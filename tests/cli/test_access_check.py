"""`access check`: the rights that a real OpenBao gives, against the declared readers."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from rotator.backends import local_rights
from rotator.backends.aws import identity_policies
from rotator.core.rights import Verb
from tests.backends.iam_simulator import Iam, serving
from tests.servers.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.cli.conftest import Cli, Outcome

_PENDING: Final = "secret/data/rotator-pending/app"


@pytest.fixture(scope="module")
def server() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture
def bao(server: ScratchOpenBao, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bao]:
    """A server with the least rights, and a configuration that declares who has them."""
    made = Bao(server)
    cli.edit(
        "backends:\n",
        f'backends:\n  bao: {{type: vault, address: "{server.address}", auth: {{method: approle,'
        ' role_id: "RID", secret_id: "env:SECRET_ID"}}\n',
    )
    for name, readers in (("app", "approle/web"), ("web", "web"), ("old", "userpass-ann")):
        cli.edit(
            f"  {name}: {{target: main, backend: local",
            f'  {name}: {{target: main, backend: bao, readers: ["{readers}"]',
        )
    for kind in ("approle", "userpass", "kubernetes", "jwt"):
        made.enable(kind)
    made.policy("rotator", cli("policy", "bao").out)
    made.policy("access-check", cli("policy", "bao", "--for", "access-check").out)
    made.policy("web", cli("policy", "bao", "app", "web", "--for", "consumer").out)
    made.policy("ann", cli("policy", "bao", "old", "--for", "consumer").out)
    made.policy("lister", 'path "secret/metadata/*" { capabilities = ["list", "read"] }')
    made.role("rotator", "rotator", "access-check")
    made.role("web", "web", "lister")
    made.role("lister", "lister")
    made.user("ann", "ann")
    role_id, secret_id = made.ids("rotator")
    cli.edit("RID", role_id)
    monkeypatch.setenv("SECRET_ID", secret_id)
    yield made
    made.undo()


class Bao:
    """Plants rights on a server, and takes them away again."""

    def __init__(self, server: ScratchOpenBao) -> None:
        self.server = server
        self._undo: list[Callable[[], object]] = []
        self.default = server.call("GET", "sys/policies/acl/default")["data"]["policy"]

    def undo(self) -> None:
        for one in reversed(self._undo):
            one()

    def put(self, path: str, /, **data: Any) -> Any:
        self._undo.append(lambda: self.server.call("DELETE", path))
        return self.server.call("POST", path, **data)

    def enable(self, kind: str) -> None:
        self.put(f"sys/auth/{kind}", type=kind)

    def policy(self, name: str, *rules: str) -> None:
        path = f"sys/policies/acl/{name}"
        self._undo.append(
            (lambda: self.server.policy(name, self.default))
            if name == "default"
            else (lambda: self.server.call("DELETE", path))
        )
        self.server.policy(name, "\n".join(rules))

    def allow(self, name: str, path: str, *capabilities: str) -> None:
        listed = ", ".join(f'"{one}"' for one in capabilities)
        self.policy(name, f'path "{path}" {{ capabilities = [{listed}] }}')

    def role(self, name: str, *policies: str) -> None:
        self.put(f"auth/approle/role/{name}", token_policies=[*policies])

    def user(self, name: str, *policies: str) -> None:
        self.put(
            f"auth/userpass/users/{name}", password="Their-own-4711", token_policies=[*policies]
        )

    def ids(self, role: str) -> tuple[str, str]:
        path = f"auth/approle/role/{role}"
        role_id = self.server.call("GET", f"{path}/role-id")["data"]["role_id"]
        return role_id, self.server.call("POST", f"{path}/secret-id")["data"]["secret_id"]

    def entity(self, name: str, user: str, *policies: str) -> str:
        """Make an identity of a user."""
        self.put(f"identity/entity/name/{name}", policies=[*policies])
        id_ = self.server.call("GET", f"identity/entity/name/{name}")["data"]["id"]
        accessor = self.server.call("GET", "sys/auth")["data"]["userpass/"]["accessor"]
        self.server.call(
            "POST", "identity/entity-alias", name=user, canonical_id=id_, mount_accessor=accessor
        )
        return id_

    def token(self, name: str, *policies: str, **more: Any) -> None:
        made = self.server.call(
            "POST", "auth/token/create", display_name=name, policies=[*policies], **more
        )
        accessor = made["auth"]["accessor"]
        path = "auth/token/revoke-accessor"
        self._undo.append(lambda: self.server.call("POST", path, accessor=accessor))


def _allow(who: str, *actions: str, **more: str) -> dict[str, Any]:
    principal: Any = who if who == "*" else {"AWS": who}
    return {"Effect": "Allow", "Principal": principal, "Action": [*actions], **more}


def _check(cli: Cli, *more: str, code: int) -> Outcome:
    return cli.json("access", "check", *more, code=code)


def test_the_least_rights_differ_in_nothing(cli: Cli, bao: Bao):
    """What `rotator policy` prints is what the check wants. A right to list is no right to read."""
    found = _check(cli, "--except", "root", code=0).data
    assert (found["problems"], found["not_checked"]) == ([], [])
    assert found["backends"]["bao"] >= 4
    assert "The rights are as declared." in cli("access", "check", "--except", "root").out


def _plant(bao: Bao) -> dict[str, tuple[str, str, str, str]]:  # noqa: PLR0915 # a list
    """Plant mistakes; return by what each is found: kind, identity, policy, rule."""
    wanted: dict[str, tuple[str, str, str, str]] = {}

    def by_role(what: str, kind: str, path: str, *capabilities: str) -> None:
        name = what.replace(" ", "-")
        bao.allow(name, path, *capabilities)
        bao.role(name, name)
        wanted[what] = (kind, f"approle/{name}", name, path)

    by_role("reads one", "undeclared", "secret/data/app", "read")
    by_role("reads by glob", "undeclared", "secret/data/a*", "read")
    by_role("reads by segment", "undeclared", "secret/+/old", "read")
    by_role("reads the whole mount", "wide", "secret/*", "read")
    by_role("reads every mount", "wide", "+/data/*", "read")
    by_role("writes", "undeclared", "secret/data/web", "update")
    by_role("patches", "undeclared", "secret/data/old", "patch")
    by_role("deletes", "undeclared", "secret/data/app*", "delete")
    by_role("destroys", "undeclared", "secret/destroy/app", "update")
    by_role("undeletes", "undeclared", "secret/undelete/app", "update")
    by_role("deletes versions", "undeclared", "secret/delete/app", "update")
    by_role("deletes metadata", "undeclared", "secret/metadata/app", "delete")
    by_role("changes retention", "undeclared", "secret/metadata/web", "update")
    by_role("reads staged", "undeclared", f"{_PENDING}/+", "read")
    by_role("replaces staged", "undeclared", f"{_PENDING}/*", "update")
    by_role("has sudo", "wide", "secret/data/old", "read", "sudo")
    by_role("changes policies", "wide", "sys/policies/acl/*", "update")
    by_role("changes roles", "wide", "auth/approle/role/*", "update")
    by_role("unmounts", "wide", "sys/mounts/secret", "delete")
    by_role("gives policies", "wide", "identity/group/id/*", "update")

    bao.policy("old-form", 'path "secret/data/app" { policy = "write" }')
    bao.user("former", "old-form")
    wanted["in the old form"] = ("undeclared", "userpass-former", "old-form", "secret/data/app")

    bao.allow("of-entity", "secret/data/web", "read")
    bao.user("bob")
    bob = bao.entity("bob", "bob", "of-entity")
    wanted["by identity"] = ("undeclared", "userpass-bob", "of-entity", "secret/data/web")

    bao.allow("of-group", "secret/data/old", "read")
    bao.put("identity/group/name/dba", policies=["of-group"], member_entity_ids=[bob])
    wanted["by group"] = ("undeclared", "userpass-bob", "of-group", "secret/data/old")

    bao.allow("of-external", "secret/data/web", "read")
    bao.put("identity/group/name/oncall", type="external", policies=["of-external"])
    group = bao.server.call("GET", "identity/group/name/oncall")["data"]["id"]
    jwt = bao.server.call("GET", "sys/auth")["data"]["jwt/"]["accessor"]
    alias = {"name": "oncall", "mount_accessor": jwt, "canonical_id": group}
    bao.server.call("POST", "identity/group-alias", **alias)
    wanted["by external group"] = ("undeclared", "jwt-*", "of-external", "secret/data/web")

    bao.allow("templated", "secret/data/{{identity.entity.name}}", "read")
    bao.user("eve", "templated")
    bao.entity("app", "eve")
    wanted["by template"] = (
        *("undeclared", "userpass-eve", "templated"),
        "secret/data/{{identity.entity.name}}",
    )

    bao.allow("pods", "secret/data/web", "read")
    bao.put(
        "auth/kubernetes/role/any",
        bound_service_account_names=["*"],
        bound_service_account_namespaces=["shop"],
        token_policies=["pods"],
    )
    wanted["by service account"] = (
        "undeclared",
        "kubernetes-shop-*/any",
        "pods",
        "secret/data/web",
    )

    bao.policy("default", bao.default, 'path "secret/undelete/old" { policy = "write" }')
    wanted["by default"] = ("undeclared", "approle/lister", "default", "secret/undelete/old")

    bao.allow("forgotten", "secret/data/app", "read")
    bao.token("backup", "forgotten", no_parent=True, period="768h")
    wanted["by a token"] = ("undeclared", "token-backup", "forgotten", "secret/data/app")
    wanted["by a token without end"] = ("wide", "token-backup", "default, forgotten", "")

    bao.allow("denying", "secret/data/old", "deny")
    bao.user("ann", "ann", "denying")
    wanted["declared and denied"] = ("missing", "userpass-ann", "", "")
    wanted["root"] = ("wide", "root", "root", "")
    return wanted


def test_each_planted_mistake_is_found(cli: Cli, bao: Bao):
    """Named with its policy and path, and with what to do about it."""
    wanted = _plant(bao)
    cli.edit('readers: ["web"]', 'readers: ["web", "approle/gone"]')
    wanted["declared and gone"] = ("missing", "approle/gone", "", "")
    found = _check(cli, code=1).data["problems"]
    shown = {
        (one["kind"], one["identity"], one["policy"] or "", one["rule"] or "") for one in found
    }
    assert len(wanted) > 20
    assert {what: one for what, one in wanted.items() if one not in shown} == {}
    assert all(one["remedy"] and one["what"] for one in found)
    # And no declared right is taken for a mistake.
    declared = {("undeclared", "approle/web", "web"), ("undeclared", "userpass-ann", "ann")}
    assert not declared & {(one["kind"], one["identity"], one["policy"]) for one in found}
    out = cli("access", "check", code=1).out
    assert 'approle/reads-one may read app: policy reads-one, path "secret/data/app"' in out


def test_a_declared_reader_may_only_read(cli: Cli, bao: Bao):
    bao.allow("more", "secret/data/app", "read", "update")
    bao.role("web", "web", "more")
    (one,) = _check(cli, "--except", "root", code=1).data["problems"]
    assert (one["identity"], one["may"], one["policy"]) == ("approle/web", ["write"], "more")
    assert one["secrets"] == ["app"]


def test_a_value_that_widens_a_template_gives_no_right(cli: Cli, bao: Bao):
    """The server then refuses the whole policy: see `allow_wildcards_in_identity_templates`."""
    bao.allow("templated", "secret/data/{{identity.entity.metadata.team}}", "read")
    bao.user("eve", "templated")
    bao.entity("eve", "eve")
    for value in ("*", "+", "app/x", "app"):
        bao.server.call("POST", "identity/entity/name/eve", metadata={"team": value})
        login = bao.server.call("POST", "auth/userpass/login/eve", password="Their-own-4711")
        token = login["auth"]["client_token"]
        ask = {"token": token, "paths": ["secret/data/app"]}
        may = False
        with suppress(RuntimeError):
            may = (
                "read" in bao.server.call("POST", "sys/capabilities", **ask)["data"]["capabilities"]
            )
        found = cli.json("access", "check", "--except", "root", code=None).data["problems"]
        assert bool([one for one in found if one["identity"] == "userpass-eve"]) is may, value
        bao.server.call("POST", "auth/token/revoke", token=token)


_RESOURCE_POLICY = {
    "Statement": [
        _allow("arn:aws:iam::1:role/web", "secretsmanager:GetSecretValue"),
        _allow("arn:aws:iam::1:role/batch", "secretsmanager:Get*", "secretsmanager:PutSecretValue"),
        _allow("arn:aws:iam::1:role/ops", "secretsmanager:*", Sid="Ops"),
        _allow("*", "secretsmanager:GetSecretValue"),
        {**_allow("arn:aws:iam::1:role/no", "secretsmanager:*"), "Effect": "Deny"},
    ]
}


def test_resource_policies_of_aws_are_compared(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """Against moto. What IAM allows beside them is named as not checked."""
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:1")
    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        address = f"http://{host}:{port}"
        client = boto3.client("secretsmanager", "eu-central-1", endpoint_url=address)
        client.create_secret(Name="app", SecretString="{}")
        client.put_resource_policy(SecretId="app", ResourcePolicy=json.dumps(_RESOURCE_POLICY))
        cli.edit(
            "backends:\n",
            f'backends:\n  aws: {{type: aws, region: eu-central-1, endpoint: "{address}"}}\n',
        )
        cli.edit(
            "app: {target: main, backend: local",
            'app: {target: main, backend: aws, readers: ["web"]',
        )
        found = _check(cli, "app", code=1).data
    finally:
        service.stop()
    may = {(one["identity"].rpartition("/")[2], *one["may"]) for one in found["problems"]}
    assert may == {
        ("batch", "read", "write"),
        ("ops", "read", "write", "delete"),
        ("ops",),
        ("*", "read"),
        ("*",),
    }
    assert "resource policy of app, Ops" in str(found["problems"])
    assert "IAM did not answer" in found["not_checked"][0]["what"]
    policy = json.loads(cli("policy", "aws", "--for", "access-check").out)
    assert policy["Statement"][0]["Action"] == ["secretsmanager:GetResourcePolicy"]
    assert "iam:SimulatePrincipalPolicy" in policy["Statement"][1]["Action"]


@contextmanager
def _in_aws(cli: Cli, monkeypatch: pytest.MonkeyPatch, iam: Iam) -> Generator[Iam]:
    """Serve a secret of moto, and IAM; `app` and its readers are configured there."""
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    service.start()
    try:
        host, port = service.get_host_and_port()
        address = f"http://{host}:{port}"
        # What an emulator keeps is of the whole process.
        httpx2.post(f"{address}/moto-api/reset", trust_env=False)
        client = boto3.client("secretsmanager", "eu-central-1", endpoint_url=address)
        client.create_secret(Name="app", SecretString="{}")
        cli.edit(
            "backends:\n",
            f'backends:\n  aws: {{type: aws, region: eu-central-1, endpoint: "{address}"}}\n',
        )
        cli.edit(
            "app: {target: main, backend: local",
            'app: {target: main, backend: aws, readers: ["web", "lost"]',
        )
        with serving(iam):
            monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", iam.url)
            yield iam
    finally:
        service.stop()


_READS = "secretsmanager:GetSecretValue"


def test_policies_of_iam_are_simulated_for_each_role_and_user(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
):
    """By AWS itself, page by page: who may and is not declared, and who is declared and may not."""
    allowed = {
        "arn:aws:iam::1:role/web": {_READS},
        "arn:aws:iam::1:role/lost": set[str](),
        "arn:aws:iam::1:role/batch": {_READS, "secretsmanager:PutSecretValue"},
        "arn:aws:iam::1:user/eve": {"secretsmanager:DeleteSecret"},
        "arn:aws:iam::1:user/none": set[str](),
    }
    with _in_aws(cli, monkeypatch, Iam(allowed)) as iam:
        found = _check(cli, "app", code=1).data
    assert found["not_checked"] == []
    assert {one for one, _ in iam.simulated} == set(allowed)
    may = {(one["identity"].rpartition("/")[2], *one["may"]) for one in found["problems"]}
    assert may == {("batch", "read", "write"), ("eve", "delete"), ("lost",)}
    assert "reads-secrets" in str(found["problems"])


def test_iam_that_may_not_be_asked_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """With the actions that the login lacks; nothing is taken for good."""
    with _in_aws(cli, monkeypatch, Iam({}, denied=True)):
        found = _check(cli, "app", code=3).data
    [unseen] = found["not_checked"]
    assert "IAM refused (AccessDenied)" in unseen["what"]
    assert "iam:SimulatePrincipalPolicy" in unseen["remedy"]
    assert found["problems"] == []


def test_more_roles_than_are_asked_about_are_named(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """The others count as not checked."""
    monkeypatch.setattr(identity_policies, "MOST_QUESTIONS", 2)
    allowed = {f"arn:aws:iam::1:role/r{number}": set[str]() for number in range(5)}
    with _in_aws(cli, monkeypatch, Iam(allowed)) as iam:
        found = _check(cli, "app", code=3).data
    assert len(iam.simulated) == 2
    assert "3 roles and users more" in found["not_checked"][0]["what"]


def test_files_of_the_embedded_backend_are_compared(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """A group that may read the key may read every value."""
    assert _check(cli, code=0).data["problems"] == []
    key = cli.folder / "rotator.key"
    found = local_rights.read(cli.folder / "secrets.db", {"file:rotator.key": key}, ["app"])
    assert {one.identity for one in found.held} <= set(found.own)
    member = SimpleNamespace(pw_name="eve", pw_gid=key.stat().st_gid)
    monkeypatch.setattr(local_rights.pwd, "getpwall", lambda: [member])
    key.chmod(0o640)
    found = local_rights.read(cli.folder / "secrets.db", {"file:rotator.key": key}, ["app"])
    assert ("os:eve", Verb.READ, "0640") in {
        (one.identity, one.verb, one.rule) for one in found.held
    }


def test_what_may_not_be_looked_at_is_named(cli: Cli, bao: Bao):
    """Without the rights to look, the answer is not that all is well."""
    bao.role("rotator", "rotator")
    found = _check(cli, code=3).data
    assert found["problems"] == []
    assert {"auth methods", "tokens"} <= {one["what"] for one in found["not_checked"]}
    assert 'path "sys/auth" { capabilities = ["read"] }' in str(found["not_checked"])
    out = cli("access", "check", code=3).out
    assert "Not checked: tokens." in out
    assert "What could be checked is as declared." in out
