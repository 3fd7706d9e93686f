"""The files under deploy/ are taken by the tools that read them, and speak of what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from rotator.api import Access
from rotator.backends.aws.backend import PLUGIN
from rotator.backends.aws.options import AwsOptions
from rotator.config import load
from rotator.core.model import Severity
from rotator.faces.web.guard import Origin
from rotator.metrics import Metrics, StateCollector
from rotator.secret_state import ORPHAN, SEVERITY
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fakes import START, ManualClock

DEPLOY = Path(__file__).parents[2] / "deploy"
_MANIFESTS = DEPLOY / "kubernetes" / "rotator.yaml"
_AGENT = DEPLOY / "kubernetes" / "agent.yaml"
_CONSOLE = DEPLOY / "kubernetes" / "console.yaml"
_ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
_DASHBOARD = DEPLOY / "grafana" / "rotator.json"


def _metrics() -> set[str]:
    """Return the names of everything that the daemon offers to Prometheus."""
    metrics = Metrics(lambda _secret: "postgresql")
    journal = MemoryJournal(clock=ManualClock())
    standing = StateCollector(
        lambda: journal,
        lambda: START,
        timedelta(days=1),
        lambda: {"running": 0},
        lambda: {"target main": START},
    )
    metrics.registry.register(standing)
    return set(re.findall(r"(?m)^# TYPE (\S+) ", metrics.text().decode()))


_LAMBDA = DEPLOY / "lambda"


def test_cfn_lint_accepts_the_template_of_the_function():
    """Every property, reference and condition."""
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "-r", "eu-central-1", "--", str(_LAMBDA / "template.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class _Tags(yaml.SafeLoader):
    """Reads CloudFormation's short forms: `!If [A, b, c]` as {"If": ["A", b, c]}."""


def _tagged(loader: _Tags, tag: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: loader.construct_scalar(node)}  # pyright: ignore[reportArgumentType] # or a scalar


_Tags.add_multi_constructor("!", _tagged)


def _template() -> dict[str, Any]:
    return yaml.load((_LAMBDA / "template.yaml").read_text(), _Tags)  # noqa: S506 # a safe loader's own


def _module() -> str:
    return (_LAMBDA / "terraform" / "main.tf").read_text()


# Of rotator's own; what every function on Lambda has besides is not its to say.
_OURS = ("secretsmanager:", "kms:", "rds:")
_ROLES = {"lambda": "RotateRole", "lambda-sweep": "SweepRole"}
_LISTS = {
    "RotateKey": "SecretArns",
    "SweepKey": "SecretArns",
    "Rotate": "SecretArns",
    "Sweep": "SecretArns",
    "Journal": "SecretArns",
    "Masters": "MasterSecretArns",
    "MastersKey": "MasterSecretArns",
    "Read": "JournalSecretArn",
    "ReadKey": "JournalSecretArn",
}
_Rights = dict[str, tuple[set[str], str, set[str]]]


def _printed(of: str) -> _Rights:
    """Return, by its name, what each statement allows, on what, and under which condition."""
    options = AwsOptions(region="eu-central-1", kms_key="KEY", masters=("MasterSecretArns",))
    access = Access(rotated=("SecretArns",), read=("JournalSecretArn",))
    found = json.loads(PLUGIN.policy(options, access, of=of))["Statement"]
    return {one["Sid"]: _right(one, one["Resource"]) for one in found}


def _right(one: dict[str, Any], resource: Any) -> tuple[set[str], str, set[str]]:
    conditions = {
        f"{operator} {key}" for operator, keys in one.get("Condition", {}).items() for key in keys
    }
    on_all = resource in ("*", ["*"])
    kind = "all" if on_all else "key" if one["Sid"].endswith("Key") else "secrets"
    return set(one["Action"]), kind, conditions


def _in_the_template(role: str) -> _Rights:
    (policy,) = _template()["Resources"][role]["Properties"]["Policies"]
    found: _Rights = {}
    for entry in policy["PolicyDocument"]["Statement"]:
        one = entry["If"][1] if "If" in entry else entry
        if not one["Action"][0].startswith(_OURS):
            continue
        found[one["Sid"]] = _right(one, one["Resource"])
        if one["Sid"] in _LISTS:
            wanted = {"Ref": _LISTS[one["Sid"]]}
            key = one["Sid"].endswith("Key")
            assert one["Resource"] == ({"Ref": "KmsKeyArn"} if key else wanted)
            if key:
                assert one["Condition"]["ArnLike"] == {"kms:EncryptionContext:SecretARN": wanted}
    return found


def _in_the_module(name: str) -> _Rights:
    """Read the statements of the module's policy, which is one document for both functions."""
    text = _module()
    document = text.partition('data "aws_iam_policy_document" "function"')[2]
    document = document.partition('\nresource "')[0]
    own = re.search(rf"\n    {name} = {{\n(.+?)\n    }}\n", text, re.DOTALL)
    assert own is not None
    sid = re.findall(r'sid\s+= "(\w+)"', own[1])[0]
    of_own = re.findall(r"actions\s+= \[(.+?)\]", own[1], re.DOTALL)
    found: _Rights = {}
    for block in re.split(r"\n  (?:dynamic \"statement\"|statement) {", document)[1:]:
        if "each.key ==" in block and f'each.key == "{name}"' not in block:
            continue
        named = re.findall(r"sid\s+= (.+)", block)[0].strip('"').replace("${each.value.sid}", sid)
        named = sid if named == "each.value.sid" else named
        written = re.findall(r"actions\s+= \[(.+?)\]", block, re.DOTALL) or [
            of_own["each.value.key_actions" in block]
        ]
        actions = re.findall(r'"(\w+:\w+)"', written[0])
        if not actions[0].startswith(_OURS):
            continue
        tests = zip(
            re.findall(r'test\s+= "(.+)"', block),
            re.findall(r'variable\s+= "(.+)"', block),
            strict=True,
        )
        resource = re.findall(r"resources\s+= (.+)", block)[0]
        one = {"Sid": named, "Action": actions, "Condition": {a: {b: []} for a, b in tests}}
        found[named] = _right(one, "*" if resource == '["*"]' else resource)
    return found


@pytest.mark.parametrize("of", _ROLES)
def test_each_functions_role_is_the_one_that_rotator_policy_prints(of: str):
    """Statement by statement, in the template and in the module: no right more, and none less."""
    printed = _printed(of)
    assert len(printed) >= 8
    assert _in_the_template(_ROLES[of]) == printed
    assert _in_the_module("sweep" if "sweep" in of else "rotate") == printed


def test_each_function_has_its_own_role_and_both_the_same_variables():
    """Which are those of the module, and those that docs/reference/lambda.md explains."""
    resources = _template()["Resources"]
    variables: dict[str, dict[str, Any]] = {}
    for name in ("Rotate", "Sweep"):
        about = resources[name]["Properties"]
        assert about["Role"] == {"GetAtt": f"{name}Role.Arn"}
        assert "ReservedConcurrentExecutions" not in about
        variables[name] = about["Environment"]["Variables"]
    assert variables["Sweep"].pop("ROTATOR_FUNCTION_ARN") == {"GetAtt": "Rotate.Arn"}
    assert variables["Sweep"] == variables["Rotate"]
    environment = _module().partition("environment = merge(")[2].partition("var.environment")[0]
    assert set(re.findall(r"([A-Z_]{5,})\s+=", environment)) == set(variables["Rotate"])
    page = (DEPLOY.parent / "docs" / "reference" / "lambda.md").read_text()
    assert [one for one in variables["Rotate"] if f"`{one}`" not in page] == []
    assert "reserved_concurrent_executions" not in _module()


def test_the_alarms_fit_how_often_the_sweep_runs():
    """Also one for a sweep that does not run, and a rule for rotations that AWS gave up."""
    found = _template()
    for hours, one in found["Mappings"]["Sweeps"].items():
        assert one["Seconds"] == int(hours) * 3600
        assert one["Rate"] == f"rate({hours} hour{'s' if hours != '1' else ''})"
    resources = found["Resources"]
    missing = resources["SweepMissing"]["Properties"]
    assert (missing["MetricName"], missing["TreatMissingData"]) == ("Invocations", "breaching")
    module = _module()
    for name in ("SweepFails", "SweepMissing"):
        period = resources[name]["Properties"]["Period"]
        assert period == {"FindInMap": ["Sweeps", {"Ref": "SweepHours"}, "Seconds"]}
    assert module.count("var.sweep_hours * 3600") == 2
    assert 'treat_missing_data  = "breaching"' in module
    pattern = resources["RotationFails"]["Properties"]["EventPattern"]
    assert pattern["detail"]["eventName"] == ["RotationFailed", "RotationAbandoned"]
    for one in ("RotationFailed", "AWS Service Event via CloudTrail"):
        assert f'"{one}"' in module


def test_the_terraform_module_is_well_formed():
    """As far as it can be checked without its provider."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("no terraform")
    command = [program, "fmt", "-check", str(_LAMBDA / "terraform")]
    environ = {"PATH": "/usr/bin:/bin", "CHECKPOINT_DISABLE": "1"}
    assert subprocess.run(command, capture_output=True, check=False, env=environ).returncode == 0


def test_the_zip_names_every_face_that_it_has():
    """The handlers of both templates are there."""
    from rotator.faces import aws_lambda

    for source in ("template.yaml", "terraform/main.tf"):
        named = re.findall(r"rotator\.faces\.aws_lambda\.(\w+)", (_LAMBDA / source).read_text())
        assert set(named) == {"handler", "sweep"}
        assert all(callable(getattr(aws_lambda, one)) for one in named)


def _used(text: str) -> set[str]:
    return set(re.findall(r"\brotator_[a-z_]+", text))


def test_alerts_and_dashboard_ask_only_for_what_the_daemon_offers():
    """A name that is mistyped would stay silent for ever."""
    offered = _metrics()
    offered |= {f"{name}_bucket" for name in offered}
    rules = yaml.safe_load(_ALERTS.read_text())["groups"][0]["rules"]
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in panels for target in panel["targets"]]
    assert _used(" ".join(asked)) <= offered
    assert len(asked) > 15


@pytest.mark.parametrize(
    "state", [ORPHAN, *(one for one, how in SEVERITY.items() if how is Severity.ERROR)]
)
def test_every_state_that_needs_an_operator_has_an_alert_and_a_panel(state: str):
    """What `status` shows in red wakes somebody, and is on the dashboard."""
    rules = yaml.safe_load(_ALERTS.read_text())["groups"][0]["rules"]
    assert any(f'rotator_secrets{{state="{state}"}}' in rule["expr"] for rule in rules)
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    shown = [
        target["expr"] for one in panels for target in one["targets"] if "=~" in target["expr"]
    ]
    assert any(re.search(rf'state=~"[^"]*\b{state}\b', expr) for expr in shown)


def test_every_alert_is_explained():
    """docs/how-to/respond-to-alerts.md explains what it means and what to do."""
    page = (DEPLOY.parent / "docs" / "how-to" / "respond-to-alerts.md").read_text()
    rules = yaml.safe_load(_ALERTS.read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in page] == []


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus is not there")
def test_the_alerts_are_rules_of_prometheus():
    """By its own tool."""
    command = ["promtool", "check", "rules", str(_ALERTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file", [_MANIFESTS, _AGENT, _CONSOLE], ids=["rotator", "agent", "console"]
)
def test_kubernetes_accepts_the_manifests(file: Path):
    """By its own schemas, strictly."""
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([program, "--strict", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_daemons_manifests_limit_it():
    """Also what may reach it, and how many of it may be missing."""
    kinds = [one["kind"] for one in yaml.safe_load_all(_MANIFESTS.read_text())]
    assert {"Deployment", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)


def test_the_manifests_configuration_loads(tmp_path: Path):
    """And listens where probes and Prometheus look."""
    found = yaml.safe_load_all(_MANIFESTS.read_text())
    text = next(one["data"]["rotator.yaml"] for one in found if one["kind"] == "ConfigMap")
    config = tmp_path / "rotator.yaml"
    config.write_text(text)
    assert load(config).daemon.listen == "0.0.0.0:9464"  # within a pod


def test_the_consoles_manifest_probes_it_by_its_own_name(tmp_path: Path):
    """Its configuration loads, and probes name the host that it answers to."""
    parts = {one["kind"]: one for one in yaml.safe_load_all(_CONSOLE.read_text())}
    config = tmp_path / "console.yaml"
    config.write_text(parts["ConfigMap"]["data"]["console.yaml"])
    origin = Origin(load(config).web)
    (container,) = parts["Deployment"]["spec"]["template"]["spec"]["containers"]
    for probe in (container["livenessProbe"], container["readinessProbe"]):
        (header,) = probe["httpGet"]["httpHeaders"]
        assert {header["value"]} == origin.hosts
    assert [one["host"] for one in parts["Ingress"]["spec"]["rules"]] == [header["value"]]
    assert origin.is_secure


def _agent_parts() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(_AGENT.read_text())}


def test_the_agents_configuration_loads(tmp_path: Path):
    """And names only objects that its Role permits."""
    from rotator.agent.settings import AgentOptions
    from rotator.config import agent_file

    parts = _agent_parts()
    config = tmp_path / "agent.yaml"
    config.write_text(parts["ConfigMap"]["data"]["agent.yaml"])
    options = agent_file.load(config, AgentOptions).options
    (sink,) = options.secrets["shop"].sinks
    assert sink.kubernetes is not None
    names = {
        resource: rule.get("resourceNames")
        for rule in parts["Role"]["rules"]
        for resource in rule["resources"]
    }
    assert names["secrets"] == [sink.kubernetes.secret]
    assert names["deployments"] == list(sink.kubernetes.deployments)


def test_the_agents_role_has_no_right_too_many():
    """No wildcard, no `create`, and no Secret or workload without its name."""
    for rule in _agent_parts()["Role"]["rules"]:
        assert set(rule["verbs"]) <= {"get", "patch"} or rule["verbs"] == ["list"]
        assert "*" not in str(rule)
        assert bool(rule.get("resourceNames")) is (rule["verbs"] != ["list"])
        if rule["verbs"] == ["list"]:
            assert not {"secrets", "configmaps"} & set(rule["resources"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
@pytest.mark.parametrize("name", ["rotator", "rotator-agent", "rotator-console"])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str):
    """By its own tool; only the program is not where an installation has it."""
    text = (DEPLOY / "systemd" / f"{name}.service").read_text()
    unit = tmp_path / f"{name}.service"
    unit.write_text(text.replace("/opt/rotator/bin/rotator", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
@pytest.mark.parametrize("narrowed", [False, True], ids=["as delivered", "addresses filled in"])
@pytest.mark.parametrize("name", ["rotator", "rotator-console"])
def test_the_unit_exposes_little(tmp_path: Path, name: str, *, narrowed: bool):
    """The measure of systemd itself, from 0 (nothing) to 10; 1.0 with the addresses that it may reach."""
    text = (DEPLOY / "systemd" / f"{name}.service").read_text()
    unit = tmp_path / f"{name}.service"
    unit.write_text(re.sub(r"(?m)^# (?=IPAddress)", "", text) if narrowed else text)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= (1.0 if narrowed else 1.1)


def test_the_image_runs_without_root_and_without_a_shell():
    """Nothing here can build it; what can be read of it holds."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert 'ENTRYPOINT ["rotator"]' in lines
    assert not any("ROTATOR" in line or "PASSWORD" in line for line in lines)
