"""References: where a secret is found, and which error is raised when it is not. Never the value itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.api import Credential, Secret, UsageError
from rotator.references import Reference, Resolver, parse
from rotator.testing.backend_suite import publish
from rotator.testing.fake_backend import FakeBackend

if TYPE_CHECKING:
    from pathlib import Path


class _Bare:
    """A backend without the ability to keep single values."""

    def __init__(self, inner: FakeBackend) -> None:
        self.current = inner.current


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def resolver(backend: FakeBackend, tmp_path: Path) -> Resolver:
    known = {"local": backend}
    return Resolver(known.__getitem__, tmp_path, {"SET": "value", "EMPTY": ""})


@pytest.mark.parametrize(
    ("text", "scheme", "path", "field"),
    [
        ("env:PGPASSWORD", "env", "PGPASSWORD", "password"),
        ("file:keys/admin", "file", "keys/admin", "password"),
        ("file:/etc/rotator/a b", "file", "/etc/rotator/a b", "password"),
        ("local:admin/main", "local", "admin/main", "password"),
        ("local:admin/main#username", "local", "admin/main", "username"),
        ("my-vault:kv/a:b#some.field", "my-vault", "kv/a:b", "some.field"),
    ],
)
def test_a_reference_names_scheme_path_and_field(text: str, scheme: str, path: str, field: str):
    """The field of a credential is its password where none is named."""
    assert parse(text) == Reference(scheme=scheme, path=path, field=field)
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2",
        "",
        "env:",
        "env:not a name",
        "env:1ST",
        ":x",
        "Local:x",
        "local:#f",
        "local:a#b c",
        "postgresql://app:hunter2@db/app\n",
    ],
)
def test_a_text_that_is_no_reference_is_refused_and_never_repeated(text: str):
    """It may be the secret itself."""
    with pytest.raises(UsageError) as raised:
        parse(text)
    message = f"{raised.value} {raised.value.hint}"
    assert "hunter2" not in message
    assert "env:NAME" in message


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_clear_refusal(text: str):
    """Nothing else comes out, and what is read can be written down again."""
    try:
        reference = parse(text)
    except UsageError:
        return
    assert parse(str(reference)) == reference


def test_a_variable_of_the_environment(resolver: Resolver):
    """Set and not empty, or the name of what is missing."""
    assert resolver.secret("env:SET") == Secret("value")
    for name in ("EMPTY", "MISSING"):
        with pytest.raises(UsageError, match=f"variable {name} is not set"):
            resolver.secret(f"env:{name}")


def test_a_file_beside_the_configuration(resolver: Resolver, tmp_path: Path):
    """Relative to it; the line break that editors add is not part of the secret."""
    file = tmp_path / "admin.password"
    file.write_text(" pass word \n")
    file.chmod(0o600)
    assert resolver.secret("file:admin.password") == Secret(" pass word ")
    assert resolver.secret(f"file:{file}") == Secret(" pass word ")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_open_is_refused(resolver: Resolver, tmp_path: Path, mode: int):
    """With the mode and the remedy, and without what is in it."""
    file = tmp_path / "admin.password"
    file.write_text("hunter2\n")
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"{mode:04o}") as raised:
        resolver.secret("file:admin.password")
    assert "chmod 600" in raised.value.hint
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00hunter2"])
def test_a_file_that_cannot_be_read_is_reported(
    resolver: Resolver, tmp_path: Path, content: bytes | None
):
    """Missing, or not a text."""
    file = tmp_path / "admin.password"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises(UsageError, match=r"admin\.password") as raised:
        resolver.secret("file:admin.password")
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__!r} {raised.value.hint}"


def test_a_field_of_a_credential_in_a_backend(resolver: Resolver, backend: FakeBackend):
    """Password, login and whatever text is kept beside them."""
    new = Credential(username="root", password=Secret("p"), fields={"host": "db", "port": 5432})
    backend.stage("admin/main", "r1", new)
    backend.publish("admin/main", "r1", expect=None)
    assert resolver.secret("local:admin/main") == Secret("p")
    assert resolver.secret("local:admin/main#username") == Secret("root")
    assert resolver.secret("local:admin/main#host") == Secret("db")
    assert resolver.credential("local:admin/main").username == "root"
    for field in ("port", "nothing"):
        with pytest.raises(UsageError, match=f"has no field '{field}'"):
            resolver.secret(f"local:admin/main#{field}")


def test_a_single_value_in_a_backend(resolver: Resolver, backend: FakeBackend):
    """Such as a signing key, where no credential is."""
    backend.put_value("rotator/audit", "private_key", Secret("pem"))
    assert resolver.secret("local:rotator/audit#private_key") == Secret("pem")


def test_a_reference_is_resolved_anew_each_time(resolver: Resolver, backend: FakeBackend):
    """Nothing is remembered: the admin's own password may just have been rotated."""
    publish(backend, "admin/main", "r1", "first")
    assert resolver.credential("local:admin/main").username == "first"
    publish(backend, "admin/main", "r2", "second")
    assert resolver.credential("local:admin/main").username == "second"


def test_an_empty_path_is_reported(backend: FakeBackend, tmp_path: Path):
    """By a backend that keeps single values, and by one that does not."""
    for one in (backend, _Bare(backend)):
        resolver = Resolver(lambda _name, one=one: one, tmp_path, {})
        with pytest.raises(UsageError, match="has no field 'password' at 'nowhere'"):
            resolver.secret("local:nowhere")
        with pytest.raises(UsageError, match="has no value at 'nowhere'"):
            resolver.credential("local:nowhere")


@pytest.mark.parametrize("text", ["env:SET", "file:admin"])
def test_a_single_value_is_no_credential(resolver: Resolver, text: str):
    """A login is needed too."""
    with pytest.raises(UsageError, match="a login and a password"):
        resolver.credential(text)
