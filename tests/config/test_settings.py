"""A good file becomes settings with nothing left to look up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from rotator.config import AdminSettings, JournalSettings
from rotator.core.errors import UsageError
from rotator.core.model import DrainThen, Policy
from rotator.core.passwords import PasswordPolicy
from tests.config.plugins import (
    BackendOptions,
    Pool,
    Rotations,
    SecretOptions,
    TargetOptions,
    Tls,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.config.conftest import Load

FULL = """
    version: 1
    journal:
      url: postgresql://rotator@db.example/audit?sslmode=verify-full
      password: env:JOURNAL_PASSWORD
      signing_key: vault:rotator/audit#private_key
    backends:
      vault: {type: drawer, path: v/secrets.db, key: "file:my key", old_keys: [env:OLD]}
      bare: {type: bare}
    targets:
      main:
        plugin: paper
        admin: {username: postgres, password: env:PGPASSWORD}
        host: db.example
        tls: off
        root_certificate: certs/ca.pem
        connect_timeout: 1m30s
        databases: [one, two]
        schema: app
        pool: {size: 2, idle: 1h}
      spare: {plugin: paper, admin: vault:admin/spare, host: spare.example, ratio: 1}
    policies:
      default: {every: 30d, grace: 48h, retry: {attempts: 2}}
      careful:
        every: 90d
        grace: 1w
        drain: {wait: 1d12h, then: terminate, poll: 500ms}
        retry: {attempts: 5, cycles: 6, backoff: 2s, backoff_cap: 10m}
        proposals: 2
        step_timeout: 1m
        password: {length: 40, alphabet: abcdefghijkl-, exclude: l, require_each_class: true}
    secrets:
      billing:
        target: main
        backend: vault
        path: apps/billing
        strategy: new-user
        options: {group: billing_owner}
        policy: careful
        tags: [prod, payments]
      web:
        target: spare
        backend: bare
        strategy: single-user
        policy: {grace: 1h, retry: {cycles: 9}}
      cron:
        target: spare
        backend: bare
        strategy: single-user
        policy: {base: careful, every: never, password: {length: 50}}
      plain: {target: spare, backend: bare, strategy: single-user}
"""


def test_every_key_reaches_the_settings(settings: Load, tmp_path: Path):
    """What a file says is found in the settings, key by key."""
    read = settings(FULL)
    assert read.file == tmp_path / "rotator.yaml"
    assert read.base == tmp_path
    assert read.journal == JournalSettings(
        url="postgresql://rotator@db.example/audit?sslmode=verify-full",
        password="env:JOURNAL_PASSWORD",
        signing_key="vault:rotator/audit#private_key",
    )
    assert read.backends["vault"].options == BackendOptions(
        path=tmp_path / "v/secrets.db", key="file:my key", old_keys=("env:OLD",)
    )
    assert read.targets["main"].options == TargetOptions(
        host="db.example",
        tls=Tls.OFF,
        root_certificate=tmp_path / "certs/ca.pem",
        connect_timeout=timedelta(seconds=90),
        databases=("one", "two"),
        schema="app",
        pool=Pool(size=2, idle=timedelta(hours=1)),
    )
    assert read.targets["main"].admin == AdminSettings(
        username="postgres", password="env:PGPASSWORD"
    )
    assert read.targets["spare"].admin == AdminSettings(reference="vault:admin/spare")
    billing = read.secrets["billing"]
    assert (billing.target, billing.backend, billing.path) == ("main", "vault", "apps/billing")
    assert (billing.strategy, billing.tags) == ("new-user", ("prod", "payments"))
    assert billing.options == SecretOptions(group="billing_owner")
    assert billing.policy == Policy(
        every=timedelta(days=90),
        grace=timedelta(weeks=1),
        drain_wait=timedelta(days=1, hours=12),
        drain_then=DrainThen.TERMINATE,
        drain_poll=timedelta(milliseconds=500),
        attempts=5,
        cycles=6,
        backoff=timedelta(seconds=2),
        backoff_cap=timedelta(minutes=10),
        proposals=2,
        step_timeout=timedelta(minutes=1),
        password=PasswordPolicy(
            length=40, alphabet="abcdefghijkl-", exclude="l", require_each_class=True
        ),
    )


def test_a_secret_overrides_single_keys_of_the_default_policy(settings: Load):
    """A mapping under `policy` changes what it names, also deep down, and nothing else."""
    web = settings(FULL).secrets["web"].policy
    assert web == Policy(every=timedelta(days=30), grace=timedelta(hours=1), attempts=2, cycles=9)


def test_a_secret_overrides_single_keys_of_the_policy_that_base_names(settings: Load):
    """With `base` the other keys come from that policy; `never` takes the period away."""
    read = settings(FULL).secrets
    careful, cron = read["billing"].policy, read["cron"].policy
    assert (cron.every, cron.grace, cron.attempts) == (None, careful.grace, careful.attempts)
    assert (cron.password.length, cron.password.exclude) == (50, "l")


def test_what_is_left_out_has_its_default(settings: Load, tmp_path: Path):
    """A path is the secret's name, a policy is `default`, a journal is a file beside this one."""
    read = settings("""
        version: 1
        backends: {b: {type: bare}}
        targets: {t: {plugin: paper, admin: b:admin, host: h}}
        secrets: {s/1: {target: t, backend: b, strategy: new-user}}
    """)
    assert read.journal == JournalSettings(url=f"sqlite:///{tmp_path}/rotator.db")
    assert read.secrets["s/1"].path == "s/1"
    assert read.secrets["s/1"].policy == Policy()
    assert read.secrets["s/1"].options == SecretOptions()
    assert read.targets["t"].options == TargetOptions(host="h")


def test_a_file_whose_sections_are_all_comments_is_good(settings: Load):
    """A section with nothing but comments below it is an empty section."""
    read = settings("""
        version: 1
        journal:
        backends:
          # local: {type: local}
        targets:
        policies:
          default:
            # every: 30d
        secrets:
    """)
    assert (dict(read.backends), dict(read.targets), dict(read.secrets)) == ({}, {}, {})


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("sqlite:///audit/j.db", "sqlite:///{base}/audit/j.db"),
        ("sqlite:////var/lib/j.db", "sqlite:////var/lib/j.db"),
        ("postgres://me@host:5433/audit", "postgresql://me@host:5433/audit"),
        ("postgresql+psycopg://host/audit", "postgresql://host/audit"),
        ("postgresql:///audit", "postgresql:///audit"),
    ],
)
def test_the_journals_address_is_made_absolute(
    settings: Load, tmp_path: Path, url: str, becomes: str
):
    """An SQLite file is taken from the configuration's folder; PostgreSQL has one spelling."""
    read = settings(f"{{version: 1, journal: {{url: '{url}'}}}}")
    assert read.journal.url == becomes.format(base=tmp_path)


def test_yaml_is_read_as_editors_read_it(settings: Load):
    """`no`, `off` and `010` are the texts and numbers they look like, not booleans and octals."""
    read = settings("""
        version: 1
        backends: {no: {type: bare}}
        targets: {on: {plugin: paper, admin: no:off, host: "yes", port: 0100, tls: off}}
        secrets: {1: {target: on, backend: no, strategy: new-user, tags: [y, 2026-01-01, 1:30]}}
    """)
    options = read.targets["on"].options
    assert options == TargetOptions(host="yes", port=100, tls=Tls.OFF)
    assert read.secrets["1"].tags == ("y", "2026-01-01", "1:30")


def test_a_plugin_that_has_no_use_for_an_admin_needs_none(
    settings: Load, monkeypatch: pytest.MonkeyPatch
):
    """Its target has none."""
    monkeypatch.setattr(Rotations, "info", replace(Rotations.info, needs_admin=False))
    read = settings("""
        version: 1
        targets: {file: {plugin: paper, host: h}}
    """)
    assert read.targets["file"].admin is None


def test_anchors_and_merge_keys_save_repetition(settings: Load):
    """`<<: *name` brings in another mapping, below what the mapping says itself."""
    read = settings("""
        version: 1
        backends: {b: {type: bare}}
        targets:
          one: &one {plugin: paper, admin: b:admin, host: one, port: 1}
          two: &two {<<: *one, host: two}
          three: {<<: [*two], port: 3}
    """)
    assert read.targets["two"].options == TargetOptions(host="two", port=1)
    assert read.targets["three"].options == TargetOptions(host="two", port=3)


def test_a_secret_that_is_not_there_is_answered_with_near_matches(settings: Load):
    """Asking the settings for a misspelled secret gets 'did you mean'."""
    read = settings(FULL)
    assert read.secret("billing").path == "apps/billing"
    with pytest.raises(UsageError) as caught:
        read.secret("biling")
    assert caught.value.hint == "Did you mean `billing`?"


def test_secrets_are_chosen_by_all_of_several_tags(settings: Load):
    """A secret is chosen when it carries every tag that is asked for."""
    read = settings(FULL)
    assert [one.name for one in read.tagged(["prod"])] == ["billing"]
    assert [one.name for one in read.tagged(["prod", "payments"])] == ["billing"]


def test_a_tag_that_no_secret_carries_is_an_error(settings: Load):
    """A misspelled tag in a cron line must not select nothing in silence."""
    with pytest.raises(UsageError) as caught:
        settings(FULL).tagged(["prod", "paiments"])
    assert "`paiments`" in caught.value.what
    assert caught.value.hint == "Did you mean `payments`?"
