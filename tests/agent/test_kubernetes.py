"""The Kubernetes sink, against a strict stand-in of the API. No cluster ran."""

from __future__ import annotations

import base64
import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from rotator.agent.errors import SinkError, SinkWaits
from rotator.agent.kubernetes.api import Api
from tests.agent.kubernetes_host import (
    ENVIRONMENT,
    MOUNT,
    SUB_PATH,
    AgentProcess,
    Backend,
    login_of,
    pod,
    start_agent,
    started,
)
from tests.servers.kubernetes.objects import StatusError
from tests.servers.kubernetes.server import Call, Cluster, Dropped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.kubernetes.objects import Key


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def agent(cluster: Cluster, backend: Backend) -> Callable[..., AgentProcess]:
    """Return a function that starts an agent."""
    return partial(start_agent, cluster, backend)


# -- the object ----------------------------------------------------------------------------------


def test_a_secret_is_created_and_replaced_in_one_call(cluster: Cluster, backend: Backend, agent):
    process = agent()
    assert process.bring() == ""
    assert cluster.secret("db") == {"username": "app_1", "password": "password-1"}
    assert cluster.made("patch") == ["patch secrets/db"]
    found = cluster.objects.get(("secrets", "shop", "db"))
    assert found["metadata"]["annotations"] == {"credential-rotator/version": "1"}
    assert [one["manager"] for one in found["metadata"]["managedFields"]] == ["rotator"]
    backend.versions["db"] = 2
    assert process.bring() == ""
    assert cluster.secret("db") == {"username": "app_2", "password": "password-2"}
    assert cluster.made("patch") == ["patch secrets/db"] * 2
    assert process.acknowledged[-1] == ("2", "secret/db", "read")


def test_unchanged_content_is_not_written(cluster: Cluster, agent):
    process = agent()
    process.bring()
    revision = cluster.objects.revision
    assert [process.bring(), agent().bring()] == ["", ""]
    assert cluster.made("patch") == ["patch secrets/db"]
    assert cluster.objects.revision == revision


def test_a_change_by_others_of_what_we_own_is_repaired_or_named(cluster: Cluster, agent):
    """Who changes a key owns it from then on: it is a conflict, and is not taken back silently."""
    process = agent()
    process.bring()
    key = ("secrets", "shop", "db")
    changed = cluster.objects.get(key)
    changed["data"]["password"] = base64.b64encode(b"by hand").decode()
    cluster.objects.update(key, changed, "kubectl-edit")
    with pytest.raises(
        SinkError, match=r"another manager, kubectl-edit: \.data\.password"
    ) as raised:
        process.bring()
    assert "by hand" not in str(raised.value)
    assert cluster.secret("db")["password"] == "by hand"
    del cluster.objects.stored[key]["data"]["password"]
    assert agent(force=True).bring() == ""
    assert cluster.secret("db")["password"] == "password-1"


def test_keys_of_others_stay_and_a_key_that_is_no_longer_applied_goes(cluster: Cluster, agent):
    key = ("secrets", "shop", "db")
    agent(keys={"username": "{username}", "old": "{password}"}).bring()
    present = cluster.objects.get(key)
    present["data"]["ca.crt"] = base64.b64encode(b"theirs").decode()
    cluster.objects.update(key, present, "helm")
    assert agent().bring() == ""
    assert cluster.secret("db") == {
        "username": "app_1",
        "password": "password-1",
        "ca.crt": "theirs",
    }


def test_a_secret_that_others_wrote_is_taken_over_by_force_only(cluster: Cluster, agent):
    key = ("secrets", "shop", "db")
    theirs = {"data": {"password": base64.b64encode(b"older").decode()}}
    cluster.objects.update(key, theirs, "kubectl-create")
    with pytest.raises(SinkError, match="kubectl-create") as raised:
        agent().bring()
    assert "force: true" in raised.value.hint
    assert "older" not in str(raised.value)
    assert cluster.secret("db") == {"password": "older"}
    assert agent(force=True).bring() == ""
    # From then on it is ours, also without force.
    assert agent().bring() == ""
    assert cluster.secret("db") == {"username": "app_1", "password": "password-1"}


def test_an_immutable_secret_is_named(cluster: Cluster, backend: Backend, agent):
    agent().bring()
    key = ("secrets", "shop", "db")
    cluster.objects.update(key, {**cluster.objects.get(key), "immutable": True}, "kubectl")
    backend.versions["db"] = 2
    with pytest.raises(SinkError, match="rejected secret shop/db as invalid: data") as raised:
        agent().bring()
    assert "immutable" in raised.value.hint
    # The server's text repeats the value.
    assert base64.b64encode(b"password-2").decode() not in str(raised.value)


def test_a_stale_replica_does_not_write_an_older_version_back(
    cluster: Cluster, backend: Backend, agent
):
    backend.versions["db"] = 2
    fresh, stale = agent(), agent()
    fresh.bring()
    # It has not heard of version 2; but before it writes, it reads.
    assert stale.bring(login=login_of(1)) == ""
    assert cluster.secret("db")["username"] == "app_2"
    assert cluster.made("patch") == ["patch secrets/db"]
    assert stale.acknowledged[-1][0] == "2"


def test_a_write_between_read_and_write_is_seen(cluster: Cluster, backend: Backend, agent):
    agent().bring()
    process = agent()

    def another_writes_first(call: Call) -> None:
        if call.verb == "patch":
            cluster.fault = None
            present = cluster.objects.get(("secrets", "shop", "db"))
            present["metadata"]["labels"] = {"by": "another"}
            cluster.objects.update(("secrets", "shop", "db"), present, "another")

    backend.versions["db"] = 2
    cluster.fault = another_writes_first
    assert "changed at the same time" in process.bring()
    assert cluster.secret("db")["username"] == "app_1"
    assert process.bring() == ""
    assert cluster.secret("db")["username"] == "app_2"


# -- workloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plural", ["deployments", "statefulsets", "daemonsets"])
def test_a_workload_restarts_once_and_is_used_when_no_old_pod_is_left(
    cluster: Cluster, backend: Backend, agent, plural: str
):
    agent().bring()
    key = cluster.workload(plural, "web", pod())
    process = agent(**{plural: ("web",)})
    process.converge()
    cluster.objects.clock.advance(timedelta(hours=1))
    backend.versions["db"] = 2
    before = len(process.acknowledged)
    seen = []
    for _ in range(100):
        wait = process.bring()
        seen.append(wait)
        if not wait:
            break
        assert process.acknowledged[before:] == []
        cluster.controllers.tick()
    assert seen[0] == f"{plural[:-1]} shop/web restarts soon."
    assert process.acknowledged[-1] == ("2", f"{plural[:-1]}/web", "used")
    assert started(cluster, key) == {"2"}
    assert cluster.restarts(key) == 2
    # Another look asks only for the object.
    count = len(cluster.calls)
    assert process.bring() == ""
    assert len(cluster.calls) == count + 1


@pytest.mark.parametrize(
    ("container", "level", "restarts"),
    [
        (ENVIRONMENT, "used", 1),
        ({"envFrom": [{"secretRef": {"name": "db"}}]}, "used", 1),
        (SUB_PATH, "used", 1),
        ({"volumeMounts": [{**SUB_PATH["volumeMounts"][0]}, *MOUNT["volumeMounts"]]}, "used", 1),
        (MOUNT, "read", 0),
    ],
    ids=["environment", "envFrom", "subPath", "both", "mount"],
)
def test_a_restart_happens_only_where_pods_would_keep_the_old_value(
    cluster: Cluster, agent, container, level: str, restarts: int
):
    agent().bring()
    key = cluster.workload("deployments", "web", pod(container))
    process = agent(deployments=("web",))
    process.converge()
    assert cluster.restarts(key) == restarts
    assert process.acknowledged[-1] == ("1", "deployment/web", level)


def test_the_setting_overrides_what_the_template_shows(cluster: Cluster, agent):
    agent().bring()
    key = cluster.workload("deployments", "web", pod(MOUNT))
    agent(deployments=("web",), restart="always").converge()
    assert cluster.restarts(key) == 1
    other = cluster.workload("deployments", "job", pod())
    agent(deployments=("job",), restart="never").converge()
    assert cluster.restarts(other) == 0


def test_a_workload_that_does_not_use_the_secret_is_named(cluster: Cluster, agent):
    agent().bring()
    cluster.workload("deployments", "web", pod(name="other"))
    with pytest.raises(SinkError, match="deployment shop/web does not use secret shop/db"):
        agent(deployments=("web",)).bring()
    with pytest.raises(SinkError, match="deployment shop/nothing does not exist"):
        agent(deployments=("nothing",)).bring()


def test_an_old_pod_that_still_ends_holds_the_acknowledgement(cluster: Cluster, agent):
    """The status of the Deployment is complete by then."""
    agent().bring()
    cluster.workload("deployments", "web", pod())
    cluster.controllers.stuck.add("web")
    process = agent(deployments=("web",))
    for _ in range(60):
        wait = process.bring()
        cluster.controllers.tick()
    assert "the old pod web-0000" in wait
    assert "1 others" in wait
    assert process.acknowledged == []
    cluster.controllers.stuck.clear()
    process.converge()
    assert process.acknowledged == [("1", "deployment/web", "used")]


def test_pods_of_another_workload_with_the_same_labels_do_not_count(cluster: Cluster, agent):
    agent().bring()
    cluster.workload("deployments", "web", pod())
    other = cluster.workload("deployments", "other", pod())
    for one in cluster.controllers.pods(other):
        one["metadata"]["labels"]["app"] = "web"
    for one in cluster.objects.stored.values():
        if one["kind"] == "ReplicaSet":
            one["metadata"]["labels"]["app"] = "web"
    agent(deployments=("web",)).converge()


def test_workloads_restart_one_after_the_other(cluster: Cluster, backend: Backend, agent):
    agent().bring()
    keys = [
        cluster.workload("deployments", "web", pod()),
        cluster.workload("deployments", "job", pod()),
        cluster.workload("statefulsets", "queue", pod()),
    ]
    process = agent(deployments=("web", "job"), statefulsets=("queue",))
    most = 0
    for _ in range(200):
        done = not process.bring()
        rolling = [key for key in keys if len(_revisions(cluster, key)) > 1]
        most = max(most, len(rolling))
        if done:
            break
        cluster.controllers.tick()
    assert most == 1
    assert [cluster.restarts(key) for key in keys] == [1, 1, 1]
    assert [one[1] for one in dict.fromkeys(process.acknowledged)] == [
        "deployment/web",
        "deployment/job",
        "statefulset/queue",
    ]


def _revisions(cluster: Cluster, key: Key) -> set[str]:
    return {one["metadata"]["labels"]["pod-template-hash"] for one in cluster.controllers.pods(key)}


def test_a_workload_restarts_at_most_once_per_interval(cluster: Cluster, backend: Backend, agent):
    """The annotation holds it, so that another agent respects it too."""
    agent().bring()
    key = cluster.workload("deployments", "web", pod())
    agent(deployments=("web",)).converge()
    backend.versions["db"] = 2
    process = agent(deployments=("web",))
    wait = process.bring()
    assert "`every` is 10m" in wait
    cluster.objects.clock.advance(timedelta(minutes=8))
    assert process.bring() == agent(deployments=("web",)).bring() == wait
    assert cluster.restarts(key) == 1
    # The object itself is up to date at once.
    assert cluster.secret("db")["username"] == "app_2"
    cluster.objects.clock.advance(timedelta(minutes=2))
    process.converge()
    first, second = cluster.controllers.restarts[key]
    assert second - first >= timedelta(minutes=10)
    assert started(cluster, key) == {"2"}


def test_who_removes_our_annotations_cannot_make_the_agent_restart_in_a_loop(
    cluster: Cluster, agent
):
    agent().bring()
    key = cluster.workload("deployments", "web", pod())
    original = cluster.objects.get(key)
    process = agent(deployments=("web",))
    process.converge()
    process.sinks["db"]._settled.clear()
    cluster.objects.stored[key]["metadata"]["annotations"] = {}
    cluster.objects.update(key, {**cluster.objects.get(key), "spec": original["spec"]}, "gitops")
    cluster.restarts(key)
    assert "`every`" in process.bring()
    assert len(cluster.controllers.restarts[key]) == 2


def _with_two_secrets(
    cluster: Cluster, agent: Callable[..., AgentProcess]
) -> tuple[Key, AgentProcess]:
    """Return a workload that uses two Secrets, and an agent that keeps both."""
    agent({"secret": "db"}).bring()
    agent({"secret": "cache"}).bring("cache")
    spec = pod()
    spec["containers"][0]["envFrom"] = [{"secretRef": {"name": "cache"}}]
    key = cluster.workload("deployments", "web", spec)
    sinks = ({"secret": one, "deployments": ("web",)} for one in ("db", "cache"))
    return key, agent(*sinks)


def test_secrets_of_one_workload_that_change_together_restart_it_once(
    cluster: Cluster, backend: Backend, agent
):
    key, process = _with_two_secrets(cluster, agent)
    waits = [process.bring("db"), process.bring("cache")]
    assert all("restarts soon" in wait or "restarts." in wait for wait in waits)
    process.converge("db")
    process.converge("cache")
    assert cluster.restarts(key) == 1
    cluster.objects.clock.advance(timedelta(hours=1))
    backend.versions |= {"db": 2, "cache": 3}
    assert "restarts soon" in process.bring("db")
    cluster.objects.clock.advance(timedelta(seconds=1))
    assert "restarts soon" in process.bring("cache")
    cluster.objects.clock.advance(timedelta(seconds=1.5))
    # The second change has moved the restart.
    assert "restarts soon" in process.bring("db")
    process.converge("cache")
    process.converge("db")
    assert cluster.restarts(key) == 2
    assert started(cluster, key, "db") == {"2"}
    assert started(cluster, key, "cache") == {"3"}


def test_a_restarted_agent_waits_until_it_has_looked_at_each_secret_of_a_workload(
    cluster: Cluster, backend: Backend, agent
):
    key, process = _with_two_secrets(cluster, agent)
    assert "restarts soon" in process.bring("db")
    cluster.objects.clock.advance(timedelta(seconds=20))
    assert "restarts soon" in process.bring("db")
    # One that cannot be read does not hold the other one for ever.
    cluster.objects.clock.advance(timedelta(seconds=11))
    process.converge("db")
    assert cluster.restarts(key) == 1


# -- rollouts that fail --------------------------------------------------------------------------


def test_a_failed_rollout_is_an_error_and_stops_the_next_workload(
    cluster: Cluster, backend: Backend, agent
):
    agent().bring()
    key = cluster.workload("deployments", "web", pod(), progressDeadlineSeconds=30)
    later = cluster.workload("deployments", "job", pod())
    cluster.controllers.broken.add("web")
    process = agent(deployments=("web", "job"))
    with pytest.raises(SinkError, match="its rollout failed: ProgressDeadlineExceeded") as raised:
        process.converge()
    assert "rollout status deployments/web" in raised.value.hint
    assert process.acknowledged == []
    assert (cluster.restarts(key), cluster.restarts(later)) == (1, 0)
    # The old pods were never stopped.
    assert len([p for p in cluster.controllers.pods(key) if p["status"]["phase"] == "Running"]) == 2
    cluster.controllers.broken.clear()
    cluster.controllers.settle()
    process.converge()
    assert (cluster.restarts(key), cluster.restarts(later)) == (1, 1)


@pytest.mark.parametrize("plural", ["statefulsets", "daemonsets"])
def test_a_rollout_that_takes_too_long_is_an_error(cluster: Cluster, agent, plural: str):
    agent().bring()
    cluster.workload(plural, "web", pod())
    cluster.controllers.broken.add("web")
    process = agent(**{plural: ("web",)}, wait=timedelta(seconds=60))
    with pytest.raises(SinkError, match=r"does not use the new version after 1m: .* of 2 pods"):
        process.converge()
    assert process.acknowledged == []


@pytest.mark.parametrize(
    ("plural", "more", "hint"),
    [
        ("statefulsets", {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        ("daemonsets", {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        (
            "statefulsets",
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}},
            "partition",
        ),
    ],
)
def test_what_only_an_operator_can_finish_is_said(
    cluster: Cluster, agent, plural: str, more: dict[str, Any], hint: str
):
    agent().bring()
    key = cluster.workload(plural, "web", pod(), **more)
    process = agent(**{plural: ("web",)}, wait=timedelta(seconds=30))
    with pytest.raises(SinkError) as raised:
        process.converge()
    assert hint in raised.value.hint
    if hint == "OnDelete":
        for one in cluster.controllers.pods(key):
            cluster.controllers._end(key, one)
        cluster.controllers.settle()
        process.converge()
        assert process.acknowledged[-1][2] == "used"


def test_a_paused_deployment_is_named(cluster: Cluster, agent):
    agent().bring()
    key = cluster.workload("deployments", "web", pod())
    cluster.objects.stored[key]["spec"]["paused"] = True
    process = agent(deployments=("web",))
    cluster.objects.clock.advance(timedelta(seconds=9))
    with pytest.raises(SinkError, match="it is paused") as raised:
        process.bring()
    assert "rollout resume deployment web" in raised.value.hint
    assert cluster.restarts(key) == 0


def test_a_workload_of_no_pods_has_none_with_the_old_version(cluster: Cluster, agent):
    agent().bring()
    cluster.workload("deployments", "web", pod(), replicas=0)
    process = agent(deployments=("web",))
    process.converge()
    assert process.acknowledged == [("1", "deployment/web", "used")]


def test_a_change_of_the_workload_by_others_at_that_moment_is_no_error(cluster: Cluster, agent):
    agent().bring()
    key = cluster.workload("deployments", "web", pod())

    def scales_first(call: Call) -> None:
        if call.verb == "patch" and call.plural == "deployments":
            cluster.fault = None
            cluster.objects.merge(key, {"spec": {"replicas": 3}}, "autoscaler")

    cluster.fault = scales_first
    process = agent(deployments=("web",))
    process.converge()
    assert cluster.restarts(key) == 1
    assert cluster.objects.stored[key]["spec"]["replicas"] == 3
    assert started(cluster, key) == {"1"}


# -- faults --------------------------------------------------------------------------------------


def _answers(code: int, text: str = "s3cret-value"):
    def fault(_call: Call) -> None:
        raise StatusError(code, "", text)

    return fault


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (401, "x", "rejected the agent's credential"),
        (
            403,
            "secrets is forbidden: s3cret-value",
            "forbids the agent to get secrets db in namespace shop",
        ),
        (
            403,
            'admission webhook "policy.example.org" denied the request: s3cret-value',
            "the admission webhook policy.example.org denied secret shop/db",
        ),
        (409, "s3cret-value", "changed at the same time"),
        (422, "s3cret-value", "rejected secret shop/db as invalid"),
        (500, "s3cret-value", "HTTP status 500"),
        (503, "s3cret-value", "HTTP status 503"),
        (302, "s3cret-value", "HTTP status 302"),
    ],
)
def test_each_answer_of_the_server_has_its_error(
    cluster: Cluster, agent, code: int, text: str, words: str
):
    """The server's text is not repeated: it may hold a value."""
    cluster.fault = _answers(code, text=text)
    with pytest.raises(SinkError) as raised:
        agent().bring()
    assert words in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_an_overloaded_server_is_left_alone_for_as_long_as_it_asks(cluster: Cluster, agent):
    cluster.fault = _answers(429)
    cluster.headers["Retry-After"] = "7"
    process = agent()
    with pytest.raises(SinkWaits, match="HTTP status 429") as raised:
        process.sinks["db"].bring(login_of(1), process._acknowledge)
    assert raised.value.pause == 7
    cluster.fault = None
    cluster.objects.clock.advance(timedelta(seconds=6))
    assert "overloaded" in process.bring()
    assert len(cluster.calls) == 1
    cluster.objects.clock.advance(timedelta(seconds=2))
    assert process.bring() == ""


def test_a_server_that_hangs_or_drops_the_connection_is_named(cluster: Cluster, agent):
    def drops(_call: Call) -> None:
        raise Dropped

    cluster.fault = drops
    with pytest.raises(SinkError, match="unreachable: RemoteDisconnected"):
        agent().bring()
    free = threading.Event()
    cluster.fault = lambda _call: free.wait(20) and None
    with pytest.raises(SinkError, match="did not answer in time"):
        agent(timeout=0.2).bring()
    free.set()


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"[" * 100_000, b"\xff"])
def test_an_answer_that_is_no_object_is_an_error(cluster: Cluster, agent, monkeypatch, content):
    monkeypatch.setattr(cluster, "serve", lambda *_arguments: (200, content))
    with pytest.raises(SinkError, match="no valid object"):
        agent().bring()


def test_an_answer_without_end_is_not_read_to_its_end(cluster: Cluster, agent, monkeypatch):
    monkeypatch.setattr(cluster, "serve", lambda *_arguments: (200, b" " * (9 << 20)))
    with pytest.raises(SinkError, match="unreachable: ValueError"):
        agent().bring()


def test_lists_are_read_page_by_page_and_without_the_pods_environment(cluster: Cluster, agent):
    agent().bring()
    cluster.workload("deployments", "web", pod(), replicas=130)
    for _ in range(1000):
        cluster.controllers.tick()
        if len(cluster.controllers.pods(("deployments", "shop", "web"))) == 130:
            break
    found = list(agent().sinks["db"]._api.list("pods", "shop", labels="app=web"))
    assert len(found) == 130
    assert all("name" in one and "spec" not in one for one in found)
    assert cluster.made("list") == ["list pods"] * 2


# -- crashes -------------------------------------------------------------------------------------


class Killed(BaseException):
    """The agent's process ends here."""


@pytest.mark.parametrize("each", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("effect", [False, True], ids=["before the call", "after the call"])
def test_an_agent_that_is_killed_at_any_call_restarts_each_workload_once(
    monkeypatch: pytest.MonkeyPatch, *, effect: bool, each: int
):
    """The next agent goes on from what the cluster shows, and restarts nothing a second time."""
    for number in range(1, 300, each):
        with Cluster() as cluster:
            backend = Backend()
            start = partial(start_agent, cluster, backend)
            start().bring()
            keys = [cluster.workload(one, "web", pod()) for one in ("deployments", "statefulsets")]
            with monkeypatch.context() as patch:
                calls = _kill_at(patch, number, effect=effect)
                backend.versions["db"] = 2
                process = start(deployments=("web",), statefulsets=("web",))
                try:
                    process.converge()
                except Killed:
                    process = start(deployments=("web",), statefulsets=("web",))
                    process.converge()
            assert cluster.secret("db") == {"username": "app_2", "password": "password-2"}
            for key in keys:
                assert started(cluster, key) == {"2"}, number
                assert cluster.restarts(key) == 1, number
        if calls[0] < number:
            return
    raise AssertionError("it never ended")


def _kill_at(patch: pytest.MonkeyPatch, number: int, *, effect: bool) -> list[int]:
    """End the process at the call of that number; return a list whose only entry counts the calls."""
    calls, works = [0], Api._request

    def request(api: Api, *given: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] != number:
            return works(api, *given, **more)
        if effect:
            works(api, *given, **more)
        raise Killed

    patch.setattr(Api, "_request", request)
    return calls
