"""Who the agent is for a cluster: a pod's service account, or a kubeconfig; and what its Role must permit."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rotator.agent.agent import Agent
from rotator.agent.errors import SinkError
from rotator.agent.kubernetes.access import open_access
from rotator.agent.kubernetes.api import Api, Resource
from rotator.agent.settings import ClusterOptions
from rotator.config import ConfigError
from rotator.core.errors import UsageError
from rotator.testing.certificates import make_certificates
from tests.agent.kubernetes_host import Backend, pod, start_agent
from tests.servers.kubernetes.server import TOKEN, Cluster

if TYPE_CHECKING:
    from tests.agent.conftest import Host

_DB = Resource("secrets", "shop", "db")
_MANIFEST = Path(__file__).parents[2] / "deploy" / "kubernetes" / "agent.yaml"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def _status(options: ClusterOptions, **more: Any) -> str:
    """Ask for an object that does not exist. The answer to a permitted request is that it is missing."""
    with pytest.raises(SinkError) as raised:
        Api(open_access(options, **more), timeout=5).get(_DB)
    return raised.value.what


def test_a_pod_uses_its_service_account_and_reads_it_again(certificates: Path, tmp_path: Path):
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    (folder / "namespace").write_text("shop")
    with Cluster(certificates) as cluster:
        environ = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(cluster.port),
        }
        access = open_access(ClusterOptions(), environ=environ, service_account=folder)
        api = Api(access, timeout=5)
        assert api.namespace == "shop"
        with pytest.raises(SinkError, match="does not exist"):
            api.get(_DB)
        cluster.tokens = {"the-next-token"}
        with pytest.raises(SinkError, match="rejected the agent's credential"):
            api.get(_DB)
        (folder / "token").write_text("the-next-token")
        with pytest.raises(SinkError, match="does not exist"):
            api.get(_DB)
        (folder / "token").write_text("")
        with pytest.raises(UsageError, match="is empty"):
            api.get(_DB)
        (folder / "token").unlink()
        with pytest.raises(UsageError, match="could not be read"):
            api.get(_DB)
    assert TOKEN not in repr(access)


def test_outside_of_a_pod_a_kubeconfig_is_needed(tmp_path: Path):
    with pytest.raises(UsageError, match="no pod with a service account") as raised:
        open_access(ClusterOptions(), environ={}, service_account=tmp_path)
    assert "kubeconfig" in raised.value.hint


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


@pytest.mark.parametrize("form", ["token", "tokenFile", "certificate", "certificate-data"])
def test_a_kubeconfig_logs_in(certificates: Path, tmp_path: Path, form: str):
    (tmp_path / "token").write_text(TOKEN)
    users = {
        "token": {"token": TOKEN},
        "tokenFile": {"tokenFile": "token"},
        "certificate": {
            "client-certificate": str(certificates / "server.crt"),
            "client-key": str(certificates / "server.key"),
        },
        "certificate-data": {
            "client-certificate-data": _data(certificates / "server.crt"),
            "client-key-data": _data(certificates / "server.key"),
        },
    }
    authority = {"certificate-authority": str(certificates / "ca.crt")}
    with Cluster(certificates, client_ca=certificates / "ca.crt") as cluster:
        file = cluster.kubeconfig(tmp_path / "config", cluster=authority, user=users[form])
        assert "does not exist" in _status(ClusterOptions(kubeconfig=file))
        stranger = cluster.kubeconfig(tmp_path / "other", cluster=authority, user={"token": "x"})
        assert "rejected" in _status(ClusterOptions(kubeconfig=stranger))


def test_the_server_is_verified(certificates: Path, tmp_path: Path):
    """By its authority and its name; nothing is sent before."""
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    with Cluster(certificates) as cluster:
        for given in (
            {"certificate-authority": str(other / "ca.crt")},
            {},
            {
                "certificate-authority": str(certificates / "ca.crt"),
                "tls-server-name": "other.example.org",
            },
        ):
            file = cluster.kubeconfig(tmp_path / "config", cluster=given)
            text = _status(ClusterOptions(kubeconfig=file))
            assert "unreachable: SSLCertVerificationError" in text
        assert cluster.calls == []
        named = {
            "certificate-authority-data": _data(certificates / "ca.crt"),
            "tls-server-name": "localhost",
        }
        file = cluster.kubeconfig(tmp_path / "config", cluster=named)
        assert "does not exist" in _status(ClusterOptions(kubeconfig=file))


_USER = {"token": "s3cret-token"}
_CLUSTER = {"server": "https://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        (_CLUSTER, {"exec": {"command": "aws"}}, "uses `exec`, which rotator does not support"),
        (_CLUSTER, {"auth-provider": {"name": "gcp"}}, "uses `auth-provider`"),
        (_CLUSTER, {"username": "a", "password": "s3cret"}, "uses `username`"),
        (_CLUSTER, {**_USER, "as": "admin"}, "uses `as`"),
        ({**_CLUSTER, "insecure-skip-tls-verify": True}, _USER, "uses `insecure-skip-tls-verify`"),
        ({**_CLUSTER, "proxy-url": "http://p"}, _USER, "uses `proxy-url`"),
        ({"server": "http://cluster.example.org"}, _USER, "not an https:// address"),
        ({"server": "https://user:s3cret@cluster"}, _USER, "not an https:// address"),
        ({"server": 7}, _USER, "not an https:// address"),
        ({**_CLUSTER, "certificate-authority-data": "?"}, _USER, "could not be read: Error"),
        ({**_CLUSTER, "certificate-authority-data": "czNjcmV0"}, _USER, "invalid certificate"),
        ({**_CLUSTER, "certificate-authority": "missing"}, _USER, "FileNotFoundError"),
        (_CLUSTER, {"client-key-data": "czNjcmV0"}, "only one of client-certificate"),
        (
            _CLUSTER,
            {"client-certificate-data": "czNjcmV0", "client-key-data": "czNjcmV0"},
            "invalid certificate or key",
        ),
        (_CLUSTER, {"token": "s3cret with\nbreaks"}, "no HTTP header can hold it"),
    ],
)
def test_what_a_kubeconfig_cannot_have_is_named(tmp_path: Path, cluster, user, words: str):
    """At the start, and without a secret."""
    file = tmp_path / "config"
    data = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    file.write_text(yaml.safe_dump(data))
    file.chmod(0o600)
    with pytest.raises(UsageError) as raised:
        open_access(ClusterOptions(kubeconfig=file))
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        ("{", None, "not valid YAML"),
        ("[]", None, "no current-context"),
        ("{current-context: x}", None, "has no context 'x'"),
        ("{contexts: 1}", "x", "has no context 'x'"),
        ("{contexts: [{name: x, context: {cluster: y}}]}", "x", "has no cluster 'y'"),
        ("{contexts: [{name: x}], clusters: []}", "x", "has no cluster None"),
    ],
)
def test_a_kubeconfig_that_is_incomplete_is_named(tmp_path: Path, text: str, context, words: str):
    file = tmp_path / "config"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(UsageError) as raised:
        open_access(ClusterOptions(kubeconfig=file, context=context))
    assert words in str(raised.value)
    file.chmod(0o666)
    with pytest.raises(UsageError, match="kubeconfig"):
        open_access(ClusterOptions(kubeconfig=file))
    with pytest.raises(UsageError, match="could not be read"):
        open_access(ClusterOptions(kubeconfig=tmp_path / "missing"))


# -- rights --------------------------------------------------------------------------------------


def _rules() -> list[dict[str, Any]]:
    """Return the Role of the manifest, for the names that these tests use."""
    (role,) = [one for one in yaml.safe_load_all(_MANIFEST.read_text()) if one["kind"] == "Role"]
    text = yaml.safe_dump(role["rules"]).replace("shop-db", "db").replace("shop-web", "web")
    return yaml.safe_load(text)


def test_the_role_of_the_manifest_is_enough():
    with Cluster() as cluster:
        cluster.objects.update(("secrets", "shop", "db"), {"data": {}}, "kubectl-create")
        cluster.workload("deployments", "web", pod())
        cluster.rules = _rules()
        process = start_agent(cluster, Backend(), deployments=("web",))
        process.converge()
        assert process.acknowledged == [("1", "deployment/web", "used")]


@pytest.mark.parametrize(
    ("resource", "verb", "words"),
    [
        ("secrets", "get", "forbids the agent to get secrets db in namespace shop"),
        ("secrets", "patch", "forbids the agent to patch (or create) secrets db"),
        ("deployments", "get", "forbids the agent to get deployments web"),
        ("deployments", "patch", "forbids the agent to patch deployments web"),
        ("replicasets", "list", "forbids the agent to list replicasets in namespace shop"),
        ("pods", "list", "forbids the agent to list pods in namespace shop"),
    ],
)
def test_each_right_is_needed_and_its_absence_named(resource: str, verb: str, words: str):
    with Cluster() as cluster:
        cluster.objects.update(("secrets", "shop", "db"), {"data": {}}, "kubectl-create")
        cluster.workload("deployments", "web", pod())
        cluster.rules = copy.deepcopy(_rules())
        for rule in cluster.rules:
            if resource in rule["resources"]:
                rule["verbs"] = [one for one in rule["verbs"] if one != verb]
        process = start_agent(cluster, Backend(), deployments=("web",))
        with pytest.raises(SinkError) as raised:
            process.converge()
        assert words in str(raised.value)
        assert "rotator deploy kubernetes" in raised.value.hint
        assert process.acknowledged == []


def test_a_secret_that_does_not_exist_needs_the_right_to_create_it():
    with Cluster() as cluster:
        cluster.rules = _rules()
        with pytest.raises(SinkError, match=r"patch \(or create\) secrets db"):
            start_agent(cluster, Backend()).bring()
        cluster.rules.append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]})
        assert start_agent(cluster, Backend()).bring() == ""


# -- the agent -----------------------------------------------------------------------------------

_CONFIG = """
kubernetes: {{kubeconfig: {file}}}
socket: {{path: a.sock}}
secrets:
  shop:
    sinks:
      - {{file: db.json, format: json}}
      - kubernetes: {{secret: db, deployments: [web], files: {{db.json: {{format: json}}}}}}
"""


def test_the_agent_goes_on_while_the_cluster_is_away(host: Host):
    """The file is written, the error is shown, and the sink follows once the cluster is back."""
    host.publish("app", "first-Kq83zx")
    with Cluster() as cluster:
        cluster.workload("deployments", "web", pod())
        file = cluster.kubeconfig(host.folder / "kubeconfig")
        away = cluster.kubeconfig(host.folder / "away", cluster={"server": "http://127.0.0.1:9"})
        agent = host.agent(_CONFIG.format(file=away))
        assert agent.bring("shop") == 0
        assert "the cluster is unreachable" in agent.errors()["shop"]
        assert '"first-Kq83zx"' in (host.folder / "db.json").read_text()
        agent = Agent(host.consumer(_CONFIG.format(file=file)))
        assert agent.bring("shop") == pytest.approx(2, abs=0.1)
        assert agent.errors() == {}
        assert agent.waits() == {"shop": "deployment shop/web restarts soon."}
        assert '"first-Kq83zx"' in cluster.secret("db")["db.json"]
        assert not agent.wait_until_ready(0)


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        ("{}", "expected either `file` or `folder`, or `kubernetes`"),
        ("{file: a, format: json, kubernetes: {secret: db}}", "expected either"),
        ("{kubernetes: {secret: db}, mode: '0640'}", "no other option"),
        ("{kubernetes: {secret: db}, check: ['true']}", "no other option"),
        ("{kubernetes: {secret: Db}}", "invalid name of a Kubernetes object"),
        ("{kubernetes: {secret: a/../b}}", "invalid name of a Kubernetes object"),
        ("{kubernetes: {secret: db, deployments: ['']}}", "invalid name of a Kubernetes object"),
        ("{kubernetes: {secret: db, deployments: [a, a]}}", "listed twice"),
        ("{kubernetes: {secret: db, namespace: a.b}}", "invalid `namespace`"),
        ("{kubernetes: {secret: db, keys: {a/b: '{username}'}}}", "invalid key"),
        ("{kubernetes: {secret: db, keys: {}}}", "one of `keys` and `files`"),
        ("{kubernetes: {secret: db, files: {password: {format: json}}}}", "one of `keys`"),
        ("{kubernetes: {secret: db, keys: {a: '{username:shell}'}}}", "unknown conversion"),
        ("{kubernetes: {secret: db, wait: 0s}}", "`wait` must be 1s or more"),
        ("{kubernetes: {secret: db, restart: sometimes}}", "'auto', 'always' or 'never'"),
        ("{kubernetes: {}}", "missing key"),
    ],
)
def test_options_that_cannot_be_meant_are_rejected(host: Host, sink: str, words: str):
    with pytest.raises(ConfigError) as raised:
        host.consumer(f"secrets: {{shop: {{sinks: [{sink}]}}}}\n")
    assert words in " ".join(problem.message for problem in raised.value.problems)


def test_two_sinks_cannot_have_the_same_object(host: Host):
    sink = "{kubernetes: {secret: db}}"
    with pytest.raises(ConfigError, match="same Secret object"):
        host.consumer(f"secrets: {{a: {{sinks: [{sink}]}}, b: {{sinks: [{sink}]}}}}\n")
    other = "{kubernetes: {secret: db, namespace: other}}"
    host.consumer(f"secrets: {{a: {{sinks: [{sink}]}}, b: {{sinks: [{other}]}}}}\n")


def test_an_agent_without_such_sinks_needs_no_cluster(host: Host):
    host.publish("app", "first-Kq83zx")
    assert host.agent("secrets: {shop: {sinks: [{file: a, format: json}]}}").bring("shop") is None
    with pytest.raises(UsageError, match="no pod with a service account"):
        host.agent("secrets: {shop: {sinks: [{kubernetes: {secret: db}}]}}")
