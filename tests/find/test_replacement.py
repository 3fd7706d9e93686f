"""References in the place of passwords: the file parses to the same but for that value."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from rotator.find.patch import ChangedFile, Head, patch_text
from rotator.find.replacement import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PASSWORD: Final = "Kanarie7-vogel"
_SECRETS: Final = {_PASSWORD: "shop-db"}


def _rewritten(path: str, text: str) -> str:
    result = rewrite(path, text.replace("@@", _PASSWORD), _SECRETS)
    assert result.left == [], result.left
    assert result.changes
    assert _PASSWORD not in result.text
    return result.text


# -- YAML ---------------------------------------------------------------------------------------------

_YAML: Final = [
    ("compose.yaml", "services:\n  db:\n    # the shop\n    environment:\n      POSTGRES_PASSWORD: @@  # here\n", "${POSTGRES_PASSWORD}"),
    ("docker-compose.yml", "services:\n  db:\n    environment: {POSTGRES_PASSWORD: @@, A: b}\n", "${POSTGRES_PASSWORD}"),
    ("compose.yaml", "services:\n  db:\n    environment:\n      POSTGRES_PASSWORD: '@@'\n", "${POSTGRES_PASSWORD}"),
    ("compose.yaml", "services:\n  db:\n    environment:\n      - MYSQL_USER=shop\n      - MYSQL_PASSWORD=@@\n", "MYSQL_PASSWORD=${MYSQL_PASSWORD}"),
    ("compose.yaml", "services:\n  db:\n    environment:\n      POSTGRES_PASSWORD: ${PW:-@@}\n", "${PW}"),
    ("compose.yaml", "services:\n  web:\n    environment:\n      DATABASE_URL: postgres://shop:@@@db/shop\n", "postgres://shop:${SHOP_DB_PASSWORD_URL}@db/shop"),
    ("application.yml", "spring:\n  datasource:\n    username: shop\n    password: @@\n", "${SHOP_DB_PASSWORD}"),
    (".github/workflows/ci.yml", "jobs:\n  test:\n    env:\n      PGPASSWORD: '@@'\n", "${{ secrets.PGPASSWORD }}"),
    (".gitlab-ci.yml", "variables:\n  MYSQL_PASSWORD: @@\n", "${MYSQL_PASSWORD}"),
    ("config/database.yml", "production:\n  adapter: postgresql\n  password: @@\n", "<%= ENV['SHOP_DB_PASSWORD'] %>"),
    ("group_vars/all.yml", "mysql_user: shop\nmysql_password: '@@'\n", "{{ lookup('env', 'SHOP_DB_PASSWORD') }}"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "reference"), _YAML)
def test_yaml(path: str, text: str, reference: str):
    """Every other value, the comments and the lines stay."""
    after = _rewritten(path, text)
    before = yaml.safe_load(text.replace("@@", _PASSWORD))
    assert _replaced(
        before, lambda value: reference if _PASSWORD in value else value
    ) == yaml.safe_load(after)
    assert [one.partition(":")[0] for one in after.splitlines()] == [
        one.partition(":")[0] for one in text.replace("MYSQL_PASSWORD=@@", "MYSQL_PASSWORD=${MYSQL_PASSWORD}").splitlines()
    ]  # fmt: skip
    assert after.count("# ") == text.count("# ")


def test_kubernetes_variable():
    """It becomes a reference to a Secret object."""
    text = (
        "apiVersion: apps/v1\nkind: Deployment\nspec:\n  containers:\n    - name: web\n      env:\n"
        "        - name: DB_PASSWORD\n          value: @@\n        - name: A\n          value: b\n"
    )
    env = yaml.safe_load(_rewritten("deploy.yaml", text))["spec"]["containers"][0]["env"]
    assert env == [
        {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "shop-db", "key": "password"}}},
        {"name": "A", "value": "b"},
    ]  # fmt: skip


def test_a_variable_beside_a_secret_object_in_the_same_file():
    """Only what the object itself holds is left, with the sink that writes it under its own name."""
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: of-shop\nstringData:\n  password: @@\n---\n"
        "kind: Deployment\nspec:\n  containers:\n    - env:\n        - name: DB_PASSWORD\n          value: @@\n"
    ).replace("@@", _PASSWORD)
    result = rewrite("all.yaml", text, _SECRETS)
    assert [one.line for one in result.changes] == [13]
    ((line, reason),) = result.left
    assert line == 6
    assert "{kubernetes: {secret: of-shop, keys: {password: '{password}'}}}" in reason


def _replaced(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, change) for value in node]
    return change(node) if isinstance(node, str) else node


# -- Python -------------------------------------------------------------------------------------------

_PYTHON: Final = [
    ("connect(user='shop', password='@@')\n", "connect(user='shop', password=os.environ['SHOP_DB_PASSWORD'])\n", "os"),
    ('"""Doc."""\nfrom __future__ import annotations\nimport os\nDB_PASSWORD = "@@"  # x\n',
     '"""Doc."""\nfrom __future__ import annotations\nimport os\nDB_PASSWORD = os.environ["DB_PASSWORD"]\n', ""),
    ("import os\nX = os.environ.get('DB_PASSWORD', '@@')\n", "import os\nX = os.environ['DB_PASSWORD']\n", ""),
    ("e = create_engine('postgresql://shop:@@@db/shop')\n",
     "e = create_engine('postgresql://shop:' + urllib.parse.quote(os.environ['SHOP_DB_PASSWORD'], safe='') + '@db/shop')\n", "os urllib.parse"),
    ("c = connect('host=db user=shop password=@@')\n", "c = connect('host=db user=shop password=' + os.environ['SHOP_DB_PASSWORD_LIBPQ'])\n", "os"),
    ("u = f'postgresql://shop:@@@{host}/shop'\n",
     "u = f'postgresql://shop:{urllib.parse.quote(os.environ[\"SHOP_DB_PASSWORD\"], safe=\"\")}@{host}/shop'\n", "os urllib.parse"),
    ("D = {'USER': 'shop', 'PASSWORD': '@@', 'HOST': 'd\u00e4'}\n", "D = {'USER': 'shop', 'PASSWORD': os.environ['SHOP_DB_PASSWORD'], 'HOST': 'd\u00e4'}\n", "os"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected", "modules"), _PYTHON)
def test_python(text: str, expected: str, modules: str):
    """By its syntax tree; the imports that it needs are added."""
    after = _rewritten("app.py", text)
    lead = "".join(f"import {one}\n" for one in modules.split())
    assert ast.dump(ast.parse(after)) == ast.dump(ast.parse(lead + expected))
    assert after.count("#") == text.count("#")


# -- others -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (".env", "A=1\r\nDB_PASSWORD='@@'\r\nB=2\r\n", 'A=1\r\nDB_PASSWORD="${DB_PASSWORD}"\r\nB=2\r\n'),
        (".env", "DB_PASSWORD=@@ # old\n", "DB_PASSWORD=${DB_PASSWORD} # old\n"),
        (".env", 'DB_PASSWORD="@@"\n', 'DB_PASSWORD="${DB_PASSWORD}"\n'),
        (".env", "DATABASE_URL=postgres://shop:@@@db/shop\n", "DATABASE_URL=postgres://shop:${SHOP_DB_PASSWORD_URL}@db/shop\n"),
        ("application.properties", "# x\nspring.datasource.password=@@\n", "# x\nspring.datasource.password=${SHOP_DB_PASSWORD}\n"),
        ("application.properties", "spring.datasource.password=${PW:@@}\n", "spring.datasource.password=${PW}\n"),
        ("db.js", "const p = new Pool({ user: 'shop', password: '@@' });\n", "const p = new Pool({ user: 'shop', password: process.env.SHOP_DB_PASSWORD });\n"),
        ("Db.java", 'source.setPassword("@@");\n', 'source.setPassword(System.getenv("SHOP_DB_PASSWORD"));\n'),
        ("db.rb", "c = Mysql2::Client.new(username: 'shop', password: '@@')\n", "c = Mysql2::Client.new(username: 'shop', password: ENV.fetch(\"SHOP_DB_PASSWORD\"))\n"),
        ("wp-config.php", "<?php\ndefine('DB_PASSWORD', '@@');\n", "<?php\ndefine('DB_PASSWORD', getenv('DB_PASSWORD'));\n"),
    ],
)  # fmt: skip
def test_other_forms(path: str, text: str, expected: str):
    """Line ends, comments and quotation marks stay, unless a variable would not be expanded in them."""
    assert _rewritten(path, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "export PGPASSWORD='@@'\nprintf %s \"$PGPASSWORD\"\n",
        'PGPASSWORD=@@\nprintf %s "$PGPASSWORD"\n',
        'export PGPASSWORD="@@"\nprintf %s "$PGPASSWORD"\n',
        'mysql() { printf %s "${1#-p}"; }\nmysql -p@@\n',
        'export PGPASSWORD=${PGPASSWORD:-@@}\nprintf %s "$PGPASSWORD"\n',
    ],
)
def test_shell(text: str):
    """The script runs to the same value, which the environment provides, also with blanks and quotes in it."""
    after = _rewritten("run.sh", text)
    name = re.findall(r"\$\{(\w+):\?\}", after)[0]
    value = "a b'c\"d$(e)"
    done = subprocess.run(
        ["/bin/sh", "-c", after], env={name: value}, capture_output=True, text=True, check=True
    )
    assert done.stdout == value


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("config.json", '{"db": {"password": "@@"}}'),
        ("secret.yaml", "apiVersion: v1\nkind: Secret\nstringData:\n  password: @@\n"),
        ("Dockerfile", "FROM x\nENV DB_PASSWORD=@@\n"),
        ("db.go", 'const password = "@@"\n'),
        ("db.js", "client.query(\"ALTER ROLE shop PASSWORD '@@'\");\n"),
        ("Db.java", '@Bean(password = "@@")\nclass Db {}\n'),
        ("values.yaml", "db:\n  password: @@\n"),
    ],
)
def test_a_form_without_a_reference_is_left(path: str, text: str):
    """With the reason; the text stays byte for byte."""
    text = text.replace("@@", _PASSWORD)
    result = rewrite(path, text, _SECRETS)
    assert (result.text, result.changes) == (text, [])
    assert result.left


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".env", "KANARIE7VOGEL_PASSWORD=KANARIE7VOGEL\n"),
        ("secret.yaml", "kind: Secret\nstringData:\n  KANARIE7VOGEL_PASSWORD: KANARIE7VOGEL\n"),
    ],
)
def test_a_name_that_repeats_the_password_is_not_printed(path: str, text: str):
    """Neither as the reference nor in the sentence that says what to do instead."""
    result = rewrite(path, text, {"KANARIE7VOGEL": "shop-db"})
    assert result.changes or result.left
    assert "KANARIE7VOGEL" not in str((result.changes, result.left))


# -- patch and branch ---------------------------------------------------------------------------------


def _git(folder: Path, *arguments: str) -> str:
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_git_applies_the_patch(tmp_path: Path):
    """It names each change and holds no removed line."""
    before, after = f"DB_PASSWORD={_PASSWORD}\n".encode() * 30, b"DB_PASSWORD=${DB_PASSWORD}\n" * 30
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".env").write_bytes(before)
    patch = patch_text(
        [ChangedFile(path="a/.env", before=before, after=after)], ["a/.env:1: ${DB_PASSWORD}"]
    )
    assert _PASSWORD not in patch
    (tmp_path / "fix.patch").write_text(patch)
    _git(tmp_path, "apply", "fix.patch")
    assert (tmp_path / "a" / ".env").read_bytes() == after


def test_a_branch_leaves_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither the index nor the working tree nor the branch that is checked out changes; no hook is run."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "a")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a@example.org")
    _git(tmp_path, "init", "-q")
    script = tmp_path / "run.sh"
    script.write_text("old\n")
    script.chmod(0o755)
    (tmp_path / "other").write_text("x\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    for hook in ("pre-commit", "post-commit", "reference-transaction"):
        file = tmp_path / ".git" / "hooks" / hook
        file.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
        file.chmod(0o755)
    (tmp_path / "other").write_text("changed\n")
    status, start = _git(tmp_path, "status", "--porcelain"), _git(tmp_path, "rev-parse", "HEAD")
    head = Head(tmp_path)
    assert head.content("run.sh") == b"old\n"
    assert head.content("missing") is None
    commit = head.create_branch(
        "fix", [ChangedFile(path="run.sh", before=b"old\n", after=b"new\n")]
    )
    assert _git(tmp_path, "diff", "--stat", "HEAD", commit).count("|") == 1
    assert _git(tmp_path, "show", f"{commit}:run.sh") == "new\n"
    assert _git(tmp_path, "ls-tree", commit, "run.sh").startswith("100755")
    assert (_git(tmp_path, "status", "--porcelain"), _git(tmp_path, "rev-parse", "HEAD")) == (
        status,
        start,
    )
    assert not (tmp_path / "sprung").exists()
