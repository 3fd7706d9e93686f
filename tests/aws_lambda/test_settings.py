"""What a rotation function's environment says: AWS's own variables, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from rotator.core.errors import UsageError
from rotator.core.passwords import PasswordPolicy
from rotator.faces.aws_lambda.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD_OF_THE_JOURNAL = "hunter2"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ROTATOR_GRACE": "a day"}, "ROTATOR_GRACE"),
        ({"ROTATOR_DRAIN_THEN": "wait"}, "ROTATOR_DRAIN_THEN"),
        ({"ROTATOR_OPTIONS": '["group"]'}, "ROTATOR_OPTIONS is no JSON object"),
        ({"ROTATOR_OPTIONS": "{"}, "ROTATOR_OPTIONS is no JSON object"),
        ({"ROTATOR_STRATEGY": "alternating-user"}, "ROTATOR_STRATEGY: no plugin has a strategy"),
        ({"ROTATOR_SSLROOTCERT": "/no/such.pem"}, "ROTATOR_SSLROOTCERT: there is no file /no/such"),
        ({"SECRETS_MANAGER_ENDPOINT": "vpce-1.amazonaws.com"}, "SECRETS_MANAGER_ENDPOINT"),
        ({"SECRETS_MANAGER_ENDPOINT": "http://vpce-1.amazonaws.com"}, "SECRETS_MANAGER_ENDPOINT"),
        ({"PASSWORD_LENGTH": "long"}, "PASSWORD_LENGTH"),
        ({"PASSWORD_LENGTH": "4"}, "PASSWORD_LENGTH: .* fewer than the 64"),
        (
            {"PASSWORD_LENGTH": "12", "EXCLUDE_PUNCTUATION": "1", "EXCLUDE_UPPERCASE": "y"},
            "than the 64",
        ),
        ({"ROTATOR_JOURNAL": "mysql://x"}, "ROTATOR_JOURNAL"),
        ({"ROTATOR_JOURNAL": "sqlite:///rotator.db"}, "ROTATOR_JOURNAL is neither `log` nor"),
        (
            {"ROTATOR_JOURNAL": "postgresql://u@h/"},
            "ROTATOR_JOURNAL: the URL does not name a database",
        ),
        ({"ROTATOR_JOURNAL": "postgresql://u:hunter2@h/db"}, "the URL contains a password"),
        ({"ROTATOR_JOURNAL": "postgresql://h/db?password=hunter2"}, "the URL contains a password"),
    ],
)
def test_a_bad_environment_is_refused(environ: dict[str, str], said: str):
    """By the variable's name, and without a password that stands in it."""
    with pytest.raises(UsageError, match=said) as caught:
        settings(environ)
    assert _PASSWORD_OF_THE_JOURNAL not in str(caught.value)


def test_the_variables_of_the_templates_mean_what_they_did():
    """So that a function can be replaced without a change."""
    drawn = settings({"PASSWORD_LENGTH": "40", "EXCLUDE_PUNCTUATION": "true"}).policy.password
    assert drawn.length == 40
    assert set("!#$").isdisjoint(drawn.characters())
    assert drawn.require_each_class
    drawn = settings({"EXCLUDE_CHARACTERS": "abc", "EXCLUDE_UPPERCASE": "true"}).policy.password
    assert set("abcABC").isdisjoint(drawn.characters())
    assert {"!", "1", "z", "/"} <= set(drawn.characters())
    assert set("/@\"'\\:").isdisjoint(
        settings({"PASSWORD_LENGTH": "32"}).policy.password.characters()
    )
    assert "/" in settings({"EXCLUDE_CHARACTERS": ""}).policy.password.characters()


@pytest.mark.parametrize("said", ["true", "TRUE", "1", "y", "Y", "yes", "Yes"])
def test_what_the_templates_take_for_true_is_true(said: str):
    """In any case."""
    environ = {"EXCLUDE_NUMBERS": said, "REQUIRE_EACH_INCLUDED_TYPE": said}
    drawn = settings(environ).policy.password
    assert set("0123456789").isdisjoint(drawn.characters())
    assert drawn.require_each_class


@pytest.mark.parametrize("said", ["false", "0", "no", "on", "t", "", " true"])
def test_everything_else_is_false(said: str):
    """Without an error, as with them."""
    environ = {"EXCLUDE_NUMBERS": said, "REQUIRE_EACH_INCLUDED_TYPE": said}
    drawn = settings(environ).policy.password
    assert set("0123456789") <= set(drawn.characters())
    assert not drawn.require_each_class


@pytest.mark.parametrize(
    "environ",
    [
        {"PASSWORD_LENGTH": "16"},
        {"PASSWORD_LENGTH": "20", "EXCLUDE_PUNCTUATION": "true"},
        {"PASSWORD_LENGTH": "11", "EXCLUDE_PUNCTUATION": "true"},
    ],
)
def test_a_shorter_password_than_ours_is_drawn_where_it_is_asked_for(environ: dict[str, str]):
    """The secret goes on being rotated, and the log says what should be changed."""
    found = settings(environ)
    assert found.policy.password.length == int(environ["PASSWORD_LENGTH"])
    (warning,) = found.warnings
    assert warning.startswith("PASSWORD_LENGTH")
    assert "fewer than the 128" in warning


def test_without_a_word_passwords_are_rotators_own():
    """And nobody is warned."""
    found = settings({})
    assert found.policy.password == PasswordPolicy()
    assert found.warnings == ()
    assert settings({"PASSWORD_LENGTH": "32"}).warnings == ()


def test_the_authorities_may_lie_in_the_functions_zip(tmp_path: Path):
    """Named as they lie there, or by their whole path."""
    file = tmp_path / "global-bundle.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    environ = {"LAMBDA_TASK_ROOT": str(tmp_path), "ROTATOR_SSLROOTCERT": "global-bundle.pem"}
    assert settings(environ).sslrootcert == file
    assert settings({"ROTATOR_SSLROOTCERT": str(file)}).sslrootcert == file
    with pytest.raises(UsageError, match=r"--ca global-bundle\.pem"):
        settings({**environ, "ROTATOR_SSLROOTCERT": "other.pem"})


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://u@audit.example.org/db", "verify-full"),
        ("postgres://u@audit.example.org:6432/db?application_name=x", "verify-full"),
        ("postgresql://u@/db?host=localhost:5432&host=audit.example.org:5432", "verify-full"),
        ("postgresql://u@localhost/db?hostaddr=10.0.0.1", "verify-full"),
        ("postgresql://u@audit.example.org/db?sslmode=verify-ca", "verify-ca"),
        ("postgresql://u@localhost/db?sslmode=verify-full", "verify-full"),
    ],
)
def test_the_journals_server_must_prove_itself(tmp_path: Path, url: str, mode: str):
    """By the authorities that are in force, where the address does not say otherwise."""
    file = tmp_path / "own.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    found = settings({"ROTATOR_JOURNAL": url, "ROTATOR_SSLROOTCERT": str(file)}).journal
    said = parse_qs(urlsplit(found).query)
    assert (said["sslmode"], said["sslrootcert"]) == ([mode], [str(file)])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:5432/db",
        "postgresql://u@localhost/db",
        "postgresql://u@/db?host=/run/postgresql",
        "postgresql://u@audit.example.org/db?sslmode=require",
        "postgresql://u@audit.example.org/db?sslmode=verify-full&sslrootcert=system",
    ],
)
def test_on_this_machine_or_by_its_own_word_the_journals_address_stays(url: str):
    """What it says of TLS is meant."""
    assert settings({"ROTATOR_JOURNAL": url}).journal == url
