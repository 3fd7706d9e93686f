"""The files under deploy/ are taken by the tools that read them, and speak of what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from rotator.api import Access
from rotator.backends.aws.backend import PLUGIN
from rotator.backends.aws.options import AwsOptions
from rotator.config import load
from rotator.metrics import Metrics, Standing
from rotator.testing.fake_journal import MemoryJournal
from rotator.testing.fakes import START, ManualClock

DEPLOY = Path(__file__).parent.parent / "deploy"
_MANIFESTS = DEPLOY / "kubernetes" / "rotator.yaml"
_ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
_DASHBOARD = DEPLOY / "grafana" / "rotator.json"


def _metrics() -> set[str]:
    """Return the names of everything that the daemon offers to Prometheus."""
    metrics = Metrics(lambda _secret: "postgresql")
    journal = MemoryJournal(clock=ManualClock())
    standing = Standing(
        lambda: journal,
        lambda: START,
        timedelta(days=1),
        lambda: {"running": 0},
        lambda: {"target main": START},
    )
    metrics.registry.register(standing)
    return set(re.findall(r"(?m)^# TYPE (\S+) ", metrics.text().decode()))


_LAMBDA = DEPLOY / "lambda"


def test_the_functions_template_is_taken_by_cfn_lint():
    """Every property, reference and condition."""
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "-r", "eu-central-1", "--", str(_LAMBDA / "template.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_functions_role_is_the_one_that_rotator_policy_prints():
    """In the template and in the module: no right more, none less, and no secret by a star."""
    options = AwsOptions(region="eu-central-1")
    printed = json.loads(
        PLUGIN.policy(options, Access(rotated=("app",), read=("main",)), of="lambda")
    )
    wanted = {one["Sid"]: set(one["Action"]) for one in printed["Statement"]}
    text = (_LAMBDA / "template.yaml").read_text()
    module = (_LAMBDA / "terraform" / "main.tf").read_text()
    for source in (text, module):
        found = set(re.findall(r"secretsmanager:[A-Z]\w+", source))
        assert found == wanted["Rotate"] | wanted["Find"] | wanted["Read"]
    for sid in ("Find", "Rotate"):
        block = re.search(rf"Sid: {sid}\n(?:(?!Sid:)[^\n]*\n)+?\s+Resource", text)
        assert block is not None
        assert set(re.findall(r"secretsmanager:[A-Z]\w+", block[0])) == wanted[sid]


def test_the_terraform_module_is_well_formed():
    """As far as it can be told without its provider."""
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


def test_every_alert_is_explained():
    """docs/operations.md says what it means and what to do."""
    page = (DEPLOY.parent / "docs" / "operations.md").read_text()
    rules = yaml.safe_load(_ALERTS.read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in page] == []


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's package prometheus is not there")
def test_the_alerts_are_rules_of_prometheus():
    """By its own tool."""
    command = ["promtool", "check", "rules", str(_ALERTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifests_are_what_kubernetes_takes():
    """By its own schemas, strictly."""
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run(
        [program, "--strict", _MANIFESTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(_MANIFESTS.read_text())]
    assert {"Deployment", "PodDisruptionBudget", "NetworkPolicy"} <= set(kinds)


def test_the_manifests_configuration_loads(tmp_path: Path):
    """And listens where probes and Prometheus look."""
    found = yaml.safe_load_all(_MANIFESTS.read_text())
    text = next(one["data"]["rotator.yaml"] for one in found if one["kind"] == "ConfigMap")
    config = tmp_path / "rotator.yaml"
    config.write_text(text)
    assert load(config).daemon.listen == "0.0.0.0:9464"  # within a pod


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_the_unit_is_what_systemd_takes(tmp_path: Path):
    """By its own tool; only the program is not where an installation has it."""
    text = (DEPLOY / "systemd" / "rotator.service").read_text()
    unit = tmp_path / "rotator.service"
    unit.write_text(text.replace("/opt/rotator/bin/rotator", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""


def test_the_image_runs_as_nobody_who_matters_and_without_a_shell():
    """Nothing here can build it; what can be read of it holds."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert 'ENTRYPOINT ["rotator"]' in lines
    assert not any("ROTATOR" in line or "PASSWORD" in line for line in lines)
