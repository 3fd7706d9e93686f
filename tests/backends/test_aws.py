"""The AWS backend over moto's server: the contract, and what it says of what goes wrong."""

from __future__ import annotations

import json
import logging
import socket
import time
import traceback
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from rotator.api import (
    Access,
    Conflict,
    Credential,
    Denied,
    Secret,
    Severity,
    StepError,
    Transient,
    UsageError,
)
from rotator.backends.aws.aws_driven import HEAD_TAG, STATE_TAG
from rotator.backends.aws.backend import PLUGIN, AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.testing.backend_suite import BackendSuite, credential, publish
from tests.servers.secrets_manager import SecretsManager

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def strict() -> Iterator[SecretsManager]:
    with SecretsManager() as service:
        yield service


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTING")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-for-the-tests")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


def _opened(endpoint: str, **given: Any) -> AwsBackend:
    options = AwsOptions(region="eu-central-1", endpoint=endpoint, writes_a_second=10_000, **given)
    return AwsBackend("aws", options, Client(options))


@pytest.fixture
def aws() -> Iterator[SecretsManager]:
    """A service of the test's own, so that it can be told to misbehave."""
    with SecretsManager() as service:
        yield service


@pytest.fixture
def backend(aws: SecretsManager) -> Iterator[AwsBackend]:
    backend = _opened(aws.endpoint)
    yield backend
    backend.close()


class TestContract(BackendSuite):
    """What every backend does, by moto and by the strict rules of AWS's reference."""

    plugin = PLUGIN

    @pytest.fixture(params=["moto", "strict"])
    def endpoint(self, request: pytest.FixtureRequest, moto: str, strict: SecretsManager) -> str:
        """Return where the service is."""
        return moto if request.param == "moto" else strict.endpoint

    @pytest.fixture
    def backend(self, endpoint: str) -> Iterator[AwsBackend]:
        """Return the backend."""
        backend = _opened(endpoint)
        yield backend
        backend.close()

    @pytest.fixture
    def another(self, endpoint: str) -> Iterator[AwsBackend]:
        """Return a second client."""
        backend = _opened(endpoint)
        yield backend
        backend.close()


_PATH = "apps/app"


def test_consumers_see_nothing_of_a_first_credential_until_it_is_published(
    aws: SecretsManager, backend: AwsBackend
):
    """AWS gives the first version of a secret the label AWSCURRENT, whatever is asked for."""
    backend.stage(_PATH, "r1", credential("a"))
    stages = [
        one
        for v in aws.secret(_PATH).versions.values()
        if "password-of-a" in str(v.value)
        for one in v.stages
    ]
    assert stages == ["ROTATOR_PENDING_r1"]
    assert backend.current(_PATH) is None
    version = backend.publish(_PATH, "r1", expect=None)
    assert aws.secret(_PATH).versions[version].stages == {"AWSCURRENT"}


def test_awss_own_keys_are_kept_whole(aws: SecretsManager, backend: AwsBackend):
    """Engine, host and whatever a template put there, with their types."""
    theirs = {"engine": "postgres", "host": "db", "port": 5432, "ssl": True, "masterarn": "arn:x"}
    aws.by_hand(_PATH, json.dumps({"username": "app", "password": "old", **theirs}))
    current = backend.current(_PATH)
    assert current is not None
    assert current.rotation_id is None
    new = Credential(username="app", password=Secret("new"), fields=current.credential.fields)
    backend.stage(_PATH, "r1", new)
    version = backend.publish(_PATH, "r1", expect=current.id)
    kept = json.loads(str(aws.secret(_PATH).versions[version].value))
    assert kept == {"username": "app", "password": "new", **theirs, "rotator_rotation_id": "r1"}


def test_an_earlier_version_is_awsprevious(aws: SecretsManager, backend: AwsBackend):
    """As consumers of AWS's own rotation expect it."""
    first, second = publish(backend, _PATH, "r1", "a"), publish(backend, _PATH, "r2", "b")
    stages = {name: one.stages for name, one in aws.secret(_PATH).versions.items() if one.stages}
    assert stages == {first: {"AWSPREVIOUS"}, second: {"AWSCURRENT"}}


def test_somebody_who_writes_by_hand_is_not_overwritten(aws: SecretsManager, backend: AwsBackend):
    """Between stage and publish, by the command line of AWS."""
    first = publish(backend, _PATH, "r1", "a")
    backend.stage(_PATH, "r2", credential("b"))
    theirs = aws.by_hand(_PATH, json.dumps({"username": "x", "password": "y"}))
    with pytest.raises(Conflict, match="another writer changed it"):
        backend.publish(_PATH, "r2", expect=first)
    assert aws.secret(_PATH).versions[theirs].stages == {"AWSCURRENT"}


def test_the_same_rotation_can_stage_anew_after_it_discarded(backend: AwsBackend):
    """A version's value can never change, so it becomes another version."""
    for name in ("a", "b", "c"):
        assert backend.stage(_PATH, "r1", credential(name)).username == name
        backend.discard(_PATH, "r1")
    backend.stage(_PATH, "r1", credential("d"))
    backend.publish(_PATH, "r1", expect=None)
    current = backend.current(_PATH)
    assert current is not None
    assert current.credential.username == "d"


def test_a_version_that_is_visible_late_is_waited_for(aws: SecretsManager, backend: AwsBackend):
    """Not for long, and only where it must be there."""
    publish(backend, _PATH, "r1", "a")
    aws.late = 0.3
    first = backend.current(_PATH)
    assert first is not None
    backend.stage(_PATH, "r2", credential("b"))
    assert backend.publish(_PATH, "r2", expect=first.id)


def test_a_secret_that_aws_rotates_is_left_to_aws(aws: SecretsManager, backend: AwsBackend):
    """A staged value beside AWS's own would block its rotation, or be overtaken by it."""
    publish(backend, _PATH, "r1", "a")
    aws.secret(_PATH).rotation_enabled = True
    with pytest.raises(Denied, match="AWS rotates"):
        backend.stage(_PATH, "r2", credential("b"))
    found = backend.examine({_PATH: None})
    assert [one.severity for one in found] == [Severity.ERROR, Severity.OK]
    assert "no rotation function" in found[0].message


def test_names_and_arns_lead_to_the_same_secret(aws: SecretsManager, backend: AwsBackend):
    """Also for a name that ends like an ARN does."""
    publish(backend, "apps/app-abcdef", "r1", "a")
    publish(backend, "apps/app", "r1", "b")
    for name, login in (("apps/app-abcdef", "a"), ("apps/app", "b")):
        arn = aws.secret(name).arn
        for path in (name, arn, arn[:-7]):
            current = backend.current(path)
            assert current is not None
            assert current.credential.username == login


def test_what_was_left_behind_is_told(aws: SecretsManager, backend: AwsBackend):
    """By AWS's own rotation, and by ours."""
    publish(backend, _PATH, "r1", "a")
    backend.stage(_PATH, "r2", credential("b"))
    next(iter(aws.secret(_PATH).versions.values())).stages.add("AWSPENDING")
    said = " | ".join(one.message for one in backend.examine({_PATH: None, "apps/new": None}))
    assert "AWSPENDING remains" in said
    assert "1 pending value(s)" in said
    assert "does not exist yet" in said


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("just-a-password", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ('{"user": "a"}', "has no 'username' and 'password'"),
    ],
)
def test_a_secret_of_another_shape_is_told_and_not_repeated(
    aws: SecretsManager, backend: AwsBackend, value: str, says: str
):
    """What is there may be the password itself."""
    aws.by_hand(_PATH, value)
    with pytest.raises(Denied, match=says) as raised:
        backend.current(_PATH)
    assert value not in f"{raised.value} {raised.value.__cause__!r}"


def test_a_value_that_is_too_long_is_refused_before_it_is_sent(
    aws: SecretsManager, backend: AwsBackend
):
    """With both sizes."""
    publish(backend, _PATH, "r1", "a")
    long = Credential(username="a", password=Secret("p"), fields={"note": "x" * 65_536})
    with pytest.raises(Denied, match="65536"):
        backend.stage(_PATH, "r2", long)
    assert backend.staged(_PATH, "r2") is None


@pytest.mark.parametrize(
    ("operation", "message", "says"),
    [
        ("PutSecretValue", "no identity-based policy allows it", "does not allow PutSecretValue"),
        ("PutSecretValue", "not authorized to perform: kms:Decrypt", "the KMS key"),
    ],
)
def test_a_missing_right_is_named(
    aws: SecretsManager, backend: AwsBackend, operation: str, message: str, says: str
):
    """IAM and KMS are told apart."""
    publish(backend, _PATH, "r1", "a")
    aws.denied[operation] = message
    with pytest.raises(Denied, match=says):
        backend.stage(_PATH, "r2", credential("b"))


def test_a_secret_that_is_marked_for_deletion_is_told(aws: SecretsManager, backend: AwsBackend):
    """With the command that brings it back."""
    publish(backend, _PATH, "r1", "a")
    aws.secret(_PATH).deleted = True
    with pytest.raises(Denied, match="because of the secret's state") as raised:
        backend.current(_PATH)
    assert "restore-secret" in raised.value.hint


def test_throttling_is_waited_out_and_then_told(aws: SecretsManager, backend: AwsBackend):
    """A few refusals are overcome; more of them are for the engine to wait for."""
    publish(backend, _PATH, "r1", "a")
    aws.throttled = 2
    assert backend.current(_PATH) is not None
    aws.throttled = 1000
    with pytest.raises(Transient, match="limits the rate"):
        backend.current(_PATH)
    aws.throttled = 0


def test_no_debug_log_of_botocore_and_no_error_holds_a_secret(
    aws: SecretsManager, caplog: pytest.LogCaptureFixture
):
    """At its debug level botocore writes whole requests and answers into the log."""
    caplog.set_level(logging.DEBUG)
    backend = _opened(aws.endpoint)
    publish(backend, _PATH, "r1", "canary")
    backend.stage(_PATH, "r2", credential("canary-two"))
    aws.denied["UpdateSecretVersionStage"] = "no"
    with pytest.raises(StepError) as raised:
        backend.publish(_PATH, "r2", expect="7")
    assert all(one.levelno >= logging.WARNING for one in caplog.records if "botocore" in one.name)
    said = [record.getMessage() for record in caplog.records]
    said += traceback.format_exception(raised.value)
    assert not any("password-of-canary" in one for one in said)
    backend.close()


def test_writes_keep_within_the_quota(aws: SecretsManager):
    """As many a second as the options say, however many threads there are."""
    options = AwsOptions(region="eu-central-1", endpoint=aws.endpoint, writes_a_second=50)
    backend = AwsBackend("aws", options, Client(options))
    begun = time.monotonic()
    for number in range(10):
        publish(backend, f"apps/{number}", "r1", "a")
    writes = sum(one not in ("GetSecretValue", "DescribeSecret") for one in aws.requests)
    assert writes == 40
    assert time.monotonic() - begun >= (writes - 1) / 50
    backend.close()


def test_no_region_and_no_reachable_endpoint_are_told(monkeypatch: pytest.MonkeyPatch):
    """Before anything is sent."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="the AWS region is unknown"):
        Client(AwsOptions())
    backend = _opened("http://127.0.0.1:1")
    with pytest.raises(Transient, match="is unreachable"):
        backend.current(_PATH)
    backend.close()
    with pytest.raises(UsageError, match="not encrypted"):
        AwsOptions(endpoint="http://vpce.example.org")


def test_a_service_that_is_silent_is_told_in_time():
    """Within the timeout of one call, however often it may be tried: a rotation function's own time is short."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        backend = _opened(url, timeout=timedelta(seconds=3), attempts=2)
        begun = time.monotonic()
        with pytest.raises(Transient, match=f"did not answer at {url}") as caught:
            backend.current(_PATH)
        assert 3 <= time.monotonic() - begun < 4
        backend.close()
    assert "VPC endpoint for Secrets Manager" in caught.value.hint


# -- the policy ----------------------------------------------------------------------------------

_KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
_ACCESS = Access(rotated=("apps/app",), kept=("rotator/audit",), read=("admin/main",))


def _allows(text: str, arn: str) -> set[str]:
    """Return what a policy allows on an ARN, by IAM's wildcards."""
    return {
        action.partition(":")[2]
        for one in json.loads(text)["Statement"]
        for action in one["Action"]
        if action.startswith("secretsmanager:")
        if any(fnmatchcase(arn, pattern.replace("[", "[[]")) for pattern in one["Resource"])
    }


def test_the_policy_is_enough_and_no_action_of_it_too_much(aws: SecretsManager):
    """With it everything works on a service that checks it; without any action, something fails."""
    text = PLUGIN.policy(AwsOptions(region="eu-central-1"), _ACCESS, of="rotator")

    def work() -> None:
        backend = _opened(aws.endpoint)
        path = f"apps/{uuid4()}"
        publish(backend, path, "r1", "a")
        backend.stage(path, "r2", credential("b"))
        backend.discard(path, "r2")
        backend.put_value(f"{path}/value", "field", Secret("x"))
        backend.examine({path: None})
        aws.secret(path).function = lambda _event: None
        backend.request_rotation(path, "r3", expect=None)
        aws.wait()
        backend.close()

    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:apps/app-AbCd12"
    allowed = _allows(text, arn)
    needed = {"DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"}
    assert allowed == needed | {"CreateSecret", "TagResource", "RotateSecret"}
    for missing in sorted(needed | {"CreateSecret", "RotateSecret"}):
        aws.denied = {missing: "no policy allows it"}
        with pytest.raises(Denied, match=f"does not allow {missing}|KMS"):
            work()
    aws.denied = {}
    work()
    # What creating with a tag needs is AWS's own check: its reference names both.
    assert "TagResource" in allowed


def test_the_functions_roles_may_do_what_their_steps_need_and_create_nothing():
    """Of a secret that AWS hands it: read, stage, move labels, write one tag; the sweep stages none."""
    begin = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
    access = Access(rotated=("apps/app",), read=("admin/main", "audit"), admins=("admin/main",))
    options = AwsOptions(region="eu-central-1", masters=("admin/other",))
    for of, app in (
        ("lambda", {"PutSecretValue"}),
        ("lambda-sweep", {"ListSecrets"}),
    ):
        text = PLUGIN.policy(options, access, of=of)
        everywhere = app & {"ListSecrets"}
        looking = {"DescribeSecret", "GetSecretValue"}
        needed = app | looking | {"UpdateSecretVersionStage", "TagResource"}
        assert _allows(text, f"{begin}apps/app-AbCd12") == needed
        for admin in ("admin/main", "admin/other"):
            assert _allows(text, f"{begin}{admin}-AbCd12") == looking | everywhere
        assert _allows(text, f"{begin}audit-AbCd12") == {"GetSecretValue"} | everywhere
        (tagging,) = (one for one in json.loads(text)["Statement"] if one["Sid"] == "Journal")
        assert tagging["Condition"]["ForAllValues:StringEquals"] == {
            "aws:TagKeys": [HEAD_TAG, STATE_TAG]
        }


@pytest.mark.parametrize(
    ("region", "partition"),
    [
        ("eu-central-1", "aws"),
        ("cn-north-1", "aws-cn"),
        ("us-gov-west-1", "aws-us-gov"),
        ("us-east-1", "aws"),
    ],
)
def test_arns_are_of_the_regions_partition(region: str, partition: str):
    """China's and the government's regions have their own."""
    options = AwsOptions(region=region, account="123456789012", function="shop-rotate")
    [rotate, *_] = json.loads(PLUGIN.policy(options, _ACCESS, of="rotator"))["Statement"]
    start = f"arn:{partition}:secretsmanager:{region}:123456789012:secret:"
    assert rotate["Resource"] == [f"{start}apps/app-??????"]
    [one] = json.loads(PLUGIN.policy(options, _ACCESS, of="lambda-invoke"))["Statement"]
    assert one["Resource"] == f"arn:{partition}:lambda:{region}:123456789012:function:shop-rotate"


def test_only_secrets_manager_of_this_account_may_call_the_function():
    """The service alone would let anybody's secret be rotated by it."""
    options = AwsOptions(region="eu-central-1", account="123456789012")
    [one] = json.loads(PLUGIN.policy(options, _ACCESS, of="lambda-invoke"))["Statement"]
    assert one["Principal"] == {"Service": "secretsmanager.amazonaws.com"}
    assert one["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert one["Resource"] == "arn:aws:lambda:eu-central-1:123456789012:function:rotator-rotate"
    with pytest.raises(UsageError, match="one account and one region"):
        PLUGIN.policy(AwsOptions(region="eu-central-1"), _ACCESS, of="lambda-invoke")
    with pytest.raises(UsageError, match="12 digits"):
        AwsOptions(account="my-account")


def test_an_arn_of_another_region_is_told(backend: AwsBackend):
    """Asked for here it would only not be there, and a name would be made anew."""
    with pytest.raises(UsageError, match="in region 'us-east-1'"):
        backend.current("arn:aws:secretsmanager:us-east-1:123456789012:secret:app-AbCd12")


def test_a_template_makes_further_keys(aws: SecretsManager):
    """Such as a whole URL, made anew with each password and never taken for a field."""
    url = {"url": "postgresql://{username}:{password:url}@{host}/db"}
    backend = _opened(aws.endpoint, templates=url)
    new = Credential(username="app", password=Secret("a/b"), fields={"host": "h"})
    backend.stage(_PATH, "r1", new)
    version = backend.publish(_PATH, "r1", expect=None)
    read = backend.read(_PATH, version)
    assert read is not None
    assert read.credential.fields == {"host": "h"}
    assert backend.get_value(_PATH, "url") == Secret("postgresql://app:a%2Fb@h/db")
    backend.close()


def test_a_policy_does_not_reach_secrets_whose_names_begin_alike():
    """Six question marks for AWS's six characters, and conditions on the key."""
    options = AwsOptions(region="eu-central-1", kms_key=_KEY)
    text = PLUGIN.policy(options, _ACCESS, of="rotator")
    begin = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"
    assert _allows(text, f"{begin}apps/app-AbCd12")
    assert not _allows(text, f"{begin}apps/app-other-AbCd12")
    assert not _allows(text, f"{begin}apps/apple-AbCd12")
    assert _allows(text, f"{begin}admin/main-AbCd12") == {"GetSecretValue"}
    consumer = PLUGIN.policy(options, _ACCESS, of="consumer")
    assert _allows(consumer, f"{begin}apps/app-AbCd12") == {"GetSecretValue"}
    assert not _allows(consumer, f"{begin}admin/main-AbCd12")
    keys = [one for one in json.loads(text)["Statement"] if one["Sid"].endswith("Key")]
    assert [one["Action"] for one in keys][-1] == ["kms:Decrypt"]
    for one in keys:
        assert one["Resource"] == _KEY
        assert one["Condition"]["ArnLike"]["kms:EncryptionContext:SecretARN"]


def test_an_arn_in_the_configuration_is_taken_as_it_is():
    """Whole, or without its ending."""
    whole = "arn:aws:secretsmanager:eu-central-1:1:secret:apps/app-AbCd12"
    text = PLUGIN.policy(AwsOptions(), Access(rotated=(whole, whole[:-7])), of="consumer")
    assert json.loads(text)["Statement"][0]["Resource"] == [whole, f"{whole[:-7]}-??????"]
