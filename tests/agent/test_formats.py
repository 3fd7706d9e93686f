"""Each format, read back by the program that it is for."""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import psycopg.pq
import pytest
import yaml
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.agent.formats import FORMATS, FormatOptions, fill, render
from rotator.client import Login
from rotator.core.errors import UsageError
from rotator.core.secret import Secret

HOSTILE = (
    "plain",
    "it's",
    'say "yes"',
    "back\\slash",
    "ends with backslash\\",
    "\\n is no line break",
    "$HOME ${HOME} $(id) `id`",
    "a#b # c",
    " spaces at the ends ",
    "a:b;c=d&e@f/g?h",
    "100%s %(x)s %%",
    "Gr\u00fc\u00dfe \u65e5\u672c \U0001f511",
    "!history",
    "\u00a0no-break space\u00a0",
    "'",
    '"',
    "\\",
    "''",
    '""',
    "{username} {{x}}",
    "*",
    "#leading",
    "[section]",
    "null",
    "1e3",
    "~",
    "\u2028\u0085\ufeff",
)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
# Without control characters, which most formats refuse.
_LINES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


def _login(password: str, username: str = "app", **fields: object) -> Login:
    return Login(username=username, password=Secret(password), version="7", fields=fields)


def _rendered(password: str, name: str, options: FormatOptions | None = None, **fields: object):
    return render(_login(password, **fields), name, options).reveal()


def _accepted(passwords, name: str) -> list[str]:
    """Return the passwords that a format takes; each other one must be refused clearly."""
    taken: list[str] = []
    for password in passwords:
        refusal = _refusal(password, name)
        if refusal is None:
            taken.append(password)
        else:
            assert f"format {name}" in refusal.what
            # A letter or two are in any sentence.
            assert password.strip() not in str(refusal) or len(password.strip()) < 3
    return taken


def _refusal(password: str, name: str) -> UsageError | None:
    try:
        _rendered(password, name)
    except UsageError as error:
        return error
    return None


def _env_file(passwords: list[str], name: str) -> str:
    parts = [
        _rendered(password, name, FormatOptions(variables={f"V{number}": "{password}"}))
        for number, password in enumerate(passwords)
    ]
    return "".join(parts)


@settings(deadline=None, max_examples=15)
@given(st.lists(_TEXTS, max_size=60))
def test_a_shell_reads_env_back(tmp_path_factory, drawn):
    passwords = _accepted([*HOSTILE, *drawn, "two\nlines", "tab\tbed"], "env")
    assert len(passwords) >= len(HOSTILE) + 2
    file = tmp_path_factory.mktemp("env") / "db.env"
    file.write_text(_env_file(passwords, "env"), encoding="utf-8", newline="")
    script = 'set -a; . "$0"; i=0; while [ $i -lt "$1" ]; do eval "printf \'%s\\\\0\' \\"\\$V$i\\""; i=$((i+1)); done'
    for shell in ("sh", "bash"):
        run = [shutil.which(shell), "-c", script, file, str(len(passwords))]
        done = subprocess.run(run, capture_output=True, check=True, env={"HOME": "/nowhere"})
        assert done.stdout.decode().split("\0")[:-1] == passwords


# The program of systemd that reads files of assignments by the parser of `EnvironmentFile=`.
_SYSTEMD = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")


@pytest.mark.skipif(not _SYSTEMD.exists(), reason="systemd is not installed here")
@settings(deadline=None, max_examples=15)
@given(st.lists(_TEXTS, max_size=60))
def test_systemd_reads_systemd_back(tmp_path_factory, drawn):
    """That program also replaces variables and drops empty ones, which a service's file keeps."""
    passwords = _accepted([*HOSTILE, *drawn, "two\nlines", "tab\tbed"], "systemd")
    passwords = [one for one in passwords if one and "$" not in one]
    folder = tmp_path_factory.mktemp("systemd")
    (folder / "environment.d").mkdir()
    file = folder / "environment.d" / "1.conf"
    file.write_text(_env_file(passwords, "systemd"), encoding="utf-8", newline="")
    environ = {"XDG_CONFIG_HOME": str(folder), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([_SYSTEMD], capture_output=True, check=True, env=environ)
    printed = dict(_read_by_the_manual(done.stdout.decode(), is_printed=True))
    assert [printed[f"V{number}"] for number in range(len(passwords))] == passwords


@given(_TEXTS)
def test_systemd_is_read_back_by_the_rules_of_its_manual(password):
    for one in _accepted([password, *HOSTILE, "two\nlines", "$"], "systemd"):
        text = _rendered(one, "systemd", FormatOptions(variables={"V": "{password}", "W": "x"}))
        assert list(_read_by_the_manual(text)) == [("V", one), ("W", "x")]


def _read_by_the_manual(text: str, *, is_printed: bool = False):
    """Yield the assignments of systemd.exec(5), `EnvironmentFile=`; the form that is printed has C escapes."""
    escapes = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
    at = 0
    while at < len(text):
        end = text.index("=", at)
        key, value, at = text[at:end], "", end + 1
        is_quoted = text[at : at + 1] == '"'
        at += is_quoted
        while text[at] != ('"' if is_quoted else "\n"):
            character = text[at]
            if character == "\\" and (is_quoted or is_printed):
                at += 1
                character = text[at]
                if is_printed:
                    character = escapes.get(character, character)
                elif character not in '"\\`$':
                    character = "\\" + character
            value += character
            at += 1
        at += 1 + is_quoted
        yield key, value


@pytest.mark.parametrize("password", ["\ufdd0", "x\ufffe", "\U0010ffff", "x" * 131_070])
def test_systemd_refuses_what_systemd_or_the_kernel_rejects(password):
    with pytest.raises(UsageError, match="format systemd cannot hold"):
        _rendered(password, "systemd", FormatOptions(variables={"V": "{password}"}))
    assert "V=" in _rendered("x" * 131_000, "systemd", FormatOptions(variables={"V": "{password}"}))


@settings(deadline=None, max_examples=15)
@given(st.lists(_TEXTS, max_size=60))
def test_dotenv_reads_dotenv_back(tmp_path_factory, drawn):
    passwords = _accepted([*HOSTILE, *drawn], "dotenv")
    assert "$HOME ${HOME} $(id) `id`" not in passwords
    file = tmp_path_factory.mktemp("dotenv") / ".env"
    file.write_text(_env_file(passwords, "dotenv"), encoding="utf-8", newline="")
    assert list(dotenv_values(file).values()) == passwords


@given(_TEXTS, st.dictionaries(_TEXTS, st.floats(allow_nan=False, allow_infinity=False) | _TEXTS))
def test_yaml_and_json_hold_every_text(password, fields):
    fields = {key: value for key, value in fields.items() if key not in {"username", "version"}}
    wanted = {**fields, "username": "app", "password": password, "version": "7"}
    login = Login(username="app", password=Secret(password), version="7", fields=fields)
    assert json.loads(render(login, "json").reveal()) == wanted
    assert yaml.safe_load(render(login, "yaml").reveal()) == wanted


@pytest.mark.parametrize("password", [*HOSTILE, "\0", "two\nlines"])
def test_yaml_and_json_hold_hostile_texts(password):
    nested = {"hosts": ["a", {"b": password}], "port": 5432, "tls": True, "none": None}
    for name, reader in (("json", json.loads), ("yaml", yaml.safe_load)):
        assert reader(_rendered(password, name, **nested)) == {
            **nested,
            "username": "app",
            "password": password,
            "version": "7",
        }


@settings(deadline=None)
@given(_LINES, st.text(st.sampled_from("ab:\\#*"), min_size=1))
def test_libpq_reads_pgpass_back(tmp_path_factory, password, username):
    file = tmp_path_factory.mktemp("pgpass") / "pgpass"
    for one in (password, *HOSTILE):
        if _accepted([one], "pgpass"):
            _check_pgpass(file, one, username)


def _check_pgpass(file: Path, password: str, username: str) -> None:
    login = _login(password, username, host="127.0.0.1", port=1, dbname="sh:op")
    file.write_text(render(login, "pgpass").reveal(), encoding="utf-8", newline="")
    file.chmod(0o600)
    parts = {
        "host": "127.0.0.1",
        "port": 1,
        "dbname": "sh:op",
        "user": username,
        "passfile": str(file),
    }
    connection = psycopg.pq.PGconn.connect_start(psycopg.conninfo.make_conninfo(**parts).encode())
    try:
        assert (connection.password or b"").decode() == password
    finally:
        connection.finish()


@pytest.mark.skipif(not shutil.which("my_print_defaults"), reason="no my_print_defaults")
@settings(deadline=None, max_examples=15)
@given(st.lists(_TEXTS, max_size=60))
def test_mariadb_reads_my_cnf_back(tmp_path_factory, drawn):
    passwords = _accepted([*HOSTILE, *drawn, "tab\tand\nline\rbreak\b"], "my.cnf")
    # The program prints an option on a line of its own.
    passwords = [one for one in passwords if "\n" not in one]
    file = tmp_path_factory.mktemp("my") / "my.cnf"
    sections = [f"s{number}" for number in range(len(passwords))]
    text = "".join(
        _rendered(password, "my.cnf", FormatOptions(section=section))
        for section, password in zip(sections, passwords, strict=True)
    )
    file.write_text(text, encoding="utf-8", newline="")
    run = ["my_print_defaults", f"--defaults-file={file}", *sections]
    done = subprocess.run(run, capture_output=True, check=True)
    expected = [line for one in passwords for line in ("--user=app", f"--password={one}")]
    assert done.stdout.decode() == "".join(f"{line}\n" for line in expected)


@given(_TEXTS)
def test_configparser_reads_ini_back(password):
    for one in _accepted([password, *HOSTILE], "ini"):
        parser = configparser.ConfigParser()
        parser.read_string(_rendered(one, "ini", host="db"))
        assert dict(parser["database"]) == {
            "host": "db",
            "username": "app",
            "password": one,
            "version": "7",
        }


@given(_LINES)
def test_a_url_is_read_back(password):
    for one in (password, *HOSTILE):
        text = _rendered(one, "url", host="::1", port=5432, dbname="a/b ü").strip("\n")
        parts = urlsplit(text)
        assert unquote(parts.password or "") == one
        assert (parts.hostname, parts.port, unquote(parts.path)) == ("::1", 5432, "/a/b ü")
        parsed = {part.keyword: part.val for part in psycopg.pq.Conninfo.parse(text.encode())}
        assert parsed[b"password"] == one.encode()


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"json", "yaml", "url", "template"}))
@pytest.mark.parametrize("password", ["a\0b", "\x1b[0m"])
def test_a_format_refuses_a_control_character(name, password):
    with pytest.raises(UsageError, match=f"format {name} cannot hold a control character"):
        _rendered(password, name)


@pytest.mark.parametrize("name", ["pgpass", "ini", "userlist"])
def test_a_format_of_lines_refuses_a_line_break(name):
    with pytest.raises(UsageError, match="'password' contains") as raised:
        _rendered("two\nlines", name)
    assert "two" not in str(raised.value)


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_takes_half_a_character(name):
    with pytest.raises(UsageError, match="not valid Unicode") as raised:
        _rendered("half\udc80", name, FormatOptions(template="x"), host="db")
    assert "half" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_verifier_stands_for_the_password():
    text = _rendered("s3cret-password", "userlist", FormatOptions(verifier=True))
    assert "s3cret" not in text
    assert text == _rendered("s3cret-password", "userlist", FormatOptions(verifier=True))
    _, verifier = text.strip()[1:-1].split('" "')
    kind, salt, keys = verifier.split("$")
    rounds, salt = salt.split(":")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    salted = hashlib.pbkdf2_hmac("sha256", b"s3cret-password", base64.b64decode(salt), int(rounds))
    assert kind == "SCRAM-SHA-256"
    assert hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest() == stored
    assert hmac.digest(salted, b"Server Key", "sha256") == server


def test_a_template_escapes_for_xml():
    """An attribute in either kind of quotation marks reads back to the password."""
    password = "a<b>&\"'c"
    text = fill("""<d x="{password:xml}" y='{password:xml}'/>""", _login(password)).reveal()
    assert ET.fromstring(text).attrib == {"x": password, "y": password}  # noqa: S314 # a text of this test


def test_a_template_runs_nothing_and_names_what_is_missing():
    login = _login("p w", host="db")
    assert fill("{{username}}={username} {password:url} {x y}", login).reveal() == (
        "{username}=app p%20w {x y}"
    )
    assert fill("{{password.__class__}}", login).reveal() == "{password.__class__}"
    with pytest.raises(UsageError, match=r"requires 'password\.__class__'"):
        fill("{password.__class__}", login)
    with pytest.raises(UsageError, match="requires 'port'") as raised:
        fill("{port}", login)
    assert "p w" not in str(raised.value)
    with pytest.raises(UsageError, match="unknown conversion"):
        fill("{password:shell}", login)


def test_a_field_named_like_a_variable_of_the_system_cannot_replace_it():
    text = _rendered("x", "env", path="/evil", **{"ld-preload": "y"})
    assert 'DB_PATH="/evil"\n' in text
    assert 'DB_LD_PRELOAD="y"\n' in text
