"""All commands with AWS Secrets Manager as the backend and PostgreSQL as the target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from rotator.testing.postgres import ScratchPostgres
from tests.cli.installed_program import APP_PASSWORD, Real, prepare
from tests.servers.secrets_manager import STEPS, SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server() -> Iterator[ScratchPostgres]:
    with ScratchPostgres() as started:
        prepare(started)
        yield started


@pytest.fixture
def aws() -> Iterator[SecretsManager]:
    with SecretsManager() as service:
        yield service


@pytest.fixture
def rotator(tmp_path: Path, server: ScratchPostgres, aws: SecretsManager) -> Real:
    """A folder whose configuration keeps the application's secret in AWS."""
    real = Real(folder=tmp_path, server=server)
    real("init")
    real.configure(grace="1h")
    config = tmp_path / "rotator.yaml"
    text = config.read_text().replace("backend: local", "backend: aws")
    backend = f'  aws: {{type: aws, region: eu-central-1, endpoint: "{aws.endpoint}"}}\n'
    config.write_text(text.replace("backends:\n", f"backends:\n{backend}", 1))
    real.environ |= {"AWS_ACCESS_KEY_ID": "AKIATESTING", "AWS_SECRET_ACCESS_KEY": "made-up"}
    return real


def _served(aws: SecretsManager) -> dict[str, str]:
    """Return what a consumer reads."""
    status, answer = aws.answer("GetSecretValue", {"SecretId": "app"})
    assert status == 200
    return json.loads(answer["SecretString"])


def test_a_login_in_aws_is_rotated(rotator: Real, aws: SecretsManager):
    """Adopted, rotated, rolled back, revoked and verified; AWS's keys stay."""
    theirs = {"engine": "postgres", "host": "db", "port": 5432}
    value = json.dumps({"username": "app", "password": APP_PASSWORD, **theirs})
    before = aws.by_hand("app", value)

    assert f"login app is adopted as version {before}" in rotator("adopt", "app").out
    assert aws.secret("app").versions[before].value == value
    assert rotator.json("doctor", "app").data["errors"] == 0

    rotator("rotate", "app")
    served = _served(aws)
    assert {key: served[key] for key in theirs} == theirs
    assert served["username"] == rotator("get", "app", "--field", "username").out
    rotator.server.connect(user=served["username"], password=served["password"]).close()
    rotator("rollback", "app")
    assert _served(aws)["username"] == "app"
    assert "was rejected" in rotator("revoke", "app").out
    rotator("rotate", "app")
    assert "was rejected" in rotator("revoke", "app").out
    assert rotator.json("audit", "verify").data["ok"] is True
    labels = {one for kept in aws.secret("app").versions.values() for one in kept.stages}
    assert labels == {"AWSCURRENT", "AWSPREVIOUS"}
    assert (
        '"secretsmanager:GetSecretValue"'
        in rotator("policy", "aws", "app", "--for", "consumer").out
    )


def test_a_copy_in_aws_follows_a_secret_in_another_backend(rotator: Real, aws: SecretsManager):
    """Both hold the new credential before the old one is revoked; `verify` and `doctor` report a stale copy."""
    config = rotator.folder / "rotator.yaml"
    text = config.read_text()
    head, app = text.split("  app:\n", 1)
    own = app.replace(
        "backend: aws", "backend: local\n    copies: [{backend: aws, path: team/app}]", 1
    )
    config.write_text(f"{head}  app:\n{own}")
    rotator("adopt", "app", "--username", "app", "--password-from", "env:APP_PASSWORD")
    assert "aws:team/app" in rotator("plan", "app").out
    assert "copy finished" in rotator("rotate", "app").out
    login = rotator("get", "app", "--field", "username").out
    served = json.loads(aws.answer("GetSecretValue", {"SecretId": "team/app"})[1]["SecretString"])
    assert served["username"] == login != "app"
    rotator.server.connect(user=login, password=served["password"]).close()
    assert "was rejected" in rotator("revoke", "app").out

    aws.by_hand("team/app", json.dumps({"username": "app", "password": "typed by hand"}))
    assert rotator.json("verify", "app").data["secrets"][0]["stale_copies"] == ["aws:team/app"]
    assert "Different: aws:team/app." in rotator("verify", "app").out
    assert "is to be a copy" in rotator("doctor", "app", code=1).out
    before = rotator.roles()
    assert "is to be a copy" in rotator("rotate", "app", code=3).out
    assert rotator.roles() == before
    assert "team/app" in rotator("policy", "aws").out


def test_import_prints_entries_for_a_secret_in_awss_format(rotator: Real, aws: SecretsManager):
    """The entry loads, doctor is content, and adopting changes no value."""
    server = {"engine": "postgres", "host": rotator.server.host, "port": str(rotator.server.port)}
    value = json.dumps({**server, "username": "app", "password": APP_PASSWORD})
    version = aws.by_hand("prod/shop", value)
    printed = rotator("import", "aws", "prod/shop").out
    assert APP_PASSWORD not in printed
    assert "rotated every 30d" in printed
    config = rotator.folder / "rotator.yaml"
    entry = "\n".join(
        line for line in printed.splitlines() if line.startswith("  ") and line[2] != "#"
    )
    head, own = config.read_text().split("secrets:\n", 1)
    config.write_text(f"{head}secrets:\n{entry}\n{own}")
    rotator("check")
    assert rotator.json("doctor", "shop").data["errors"] == 0
    adopted = rotator("adopt", "shop")
    assert "; due " in adopted.out
    assert aws.secret("prod/shop").versions[version].value == value
    assert "is already configured" in rotator("import", "aws", "prod/shop", code=2).err
    assert "holds nothing" in rotator("import", "aws", "prod/none", code=2).err


def test_import_prints_an_unknown_server_as_a_target(rotator: Real, aws: SecretsManager):
    """With its admin where AWS keeps it."""
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:master-AbCd12"
    about = {
        "engine": "aurora-postgresql",
        "host": "db.example.org",
        "port": 5433,
        "masterarn": arn,
    }
    aws.by_hand("prod/shop", json.dumps({**about, "username": "app", "password": APP_PASSWORD}))
    entry = rotator.json("import", "aws", "prod/shop", "--name", "billing").data["entry"]
    target = entry["targets"]["db-example-org"]
    assert target["plugin"] == "postgresql"
    assert (target["host"], target["port"]) == ("db.example.org", 5433)
    assert target["admin"] == f"aws:{arn}"
    assert entry["secrets"]["billing"]["path"] == "prod/shop"


class _Template:
    """What a rotation function after AWS's sample does: the password changes in place."""

    def __init__(self, aws: SecretsManager, server: ScratchPostgres) -> None:
        self._aws, self._server = aws, server
        self.steps: list[str] = []
        self.password = "made-by-the-function"
        self.broken_at = ""

    def __call__(self, event: dict[str, Any]) -> None:
        self.steps.append(event["Step"])
        if event["Step"] == self.broken_at:
            raise ConnectionError(event["Step"])
        step = {
            "createSecret": self._create,
            "setSecret": self._set,
            "finishSecret": self._finish,
        }.get(event["Step"])
        if step is not None:
            step({"SecretId": event["SecretId"]}, event["ClientRequestToken"])

    def _create(self, secret: dict[str, Any], token: str) -> None:
        value = json.dumps({"username": "app", "password": self.password})
        more = {"ClientRequestToken": token, "VersionStages": ["AWSPENDING"]}
        assert (
            self._aws.answer("PutSecretValue", {**secret, "SecretString": value, **more})[0] == 200
        )

    def _set(self, secret: dict[str, Any], token: str) -> None:
        with self._server.connect() as admin:
            admin.execute(f"ALTER ROLE app PASSWORD '{self.password}'".encode())

    def _finish(self, secret: dict[str, Any], token: str) -> None:
        current = self._aws.answer("GetSecretValue", secret)[1]["VersionId"]
        move = {"MoveToVersionId": token, "RemoveFromVersionId": current}
        given = {**secret, "VersionStage": "AWSCURRENT", **move}
        assert self._aws.answer("UpdateSecretVersionStage", given)[0] == 200


@pytest.fixture
def template(rotator: Real, aws: SecretsManager) -> _Template:
    """A secret that AWS rotates, taken over as it stands."""
    aws.by_hand("app", json.dumps({"username": "app", "password": APP_PASSWORD}))
    rotator("adopt", "app")
    function = _Template(aws, rotator.server)
    aws.secret("app").rotation_enabled = True
    aws.secret("app").function = function
    return function


def test_rotate_delegates_to_aws_and_verifies_its_result(rotator: Real, template: _Template):
    """Nothing is staged, the new credential is tested, and the journal records it."""
    roles = [one[0] for one in rotator.roles()]
    said = rotator("rotate", "app", "--reason", "by hand").out
    assert "is valid" in said
    assert "aws rotates this secret" in said
    assert template.steps == list(STEPS)
    assert [one[0] for one in rotator.roles()] == roles
    assert rotator.json("verify", "app").data["secrets"][0]["known"] is True
    kinds = [one["kind"] for one in rotator.json("audit", "show", "app").data["events"]]
    assert kinds[-3:] == ["finished", "ended", "checked"]
    (rotation,) = rotator.json("history", "app").data["rotations"]
    assert (rotation["reason"], rotation["old_refused"]) == ("by hand", True)
    assert rotator.json("audit", "verify").data["ok"] is True
    template.password = "made-another-time"
    rotator("rotate", "app")
    assert len(template.steps) == 2 * len(STEPS)


def test_an_unfinished_rotation_of_aws_is_reported_and_resumed(
    rotator: Real, template: _Template, aws: SecretsManager
):
    """The call comes back in time; the next one looks on, and asks for no second rotation."""
    config = rotator.folder / "rotator.yaml"
    config.write_text(config.read_text().replace("grace: 1h", "grace: 1h, step_timeout: 1s"))
    template.broken_at = "setSecret"
    said = rotator("rotate", "app", "--timeout", "0s", code=4)
    assert "look at the log of its function" in said.out
    aws.wait()
    template.broken_at = ""
    assert "is valid" in rotator("rotate", "app").out
    made = {name for name, one in aws.secret("app").versions.items() if one.value}
    assert len(made) == 2


def test_an_invalid_credential_from_aws_is_reported_as_unsafe(rotator: Real, template: _Template):
    """The error states that the application is not safe."""
    template._set = lambda secret, token: None  # a function that forgets to set it
    failed = rotator("rotate", "app", code=3)
    assert "the target rejects login 'app'" in failed.out
    assert "NOT safe" in failed.out


def test_a_secret_without_a_rotation_function_is_rejected_with_the_remedy(
    rotator: Real, aws: SecretsManager
):
    """Nothing is changed, on the target or in AWS."""
    before = aws.by_hand("app", json.dumps({"username": "app", "password": APP_PASSWORD}))
    rotator("adopt", "app")
    aws.secret("app").rotation_enabled = True
    roles = rotator.roles()
    failed = rotator("rotate", "app", code=3)
    assert "cancel-rotate-secret" in failed.out + failed.err
    assert rotator.roles() == roles
    assert set(aws.secret("app").versions) == {before}
