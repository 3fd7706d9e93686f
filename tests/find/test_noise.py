"""What is no candidate, and what a long history may skip."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rotator.find import registry
from rotator.find.history import Repository
from rotator.find.scan import Scan
from tests.find.corpus import FORMS, Form

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("play.yml", "idrac_user: x\nshare_password: share_password\n"),
        ("play.yml", "db_password: CHANGE_ME_SET_YOUR_PASSWORD\n"),
        ("play.yml", "db_password: wrong_password\n"),
        ("play.yml", "db_password: VALUE_SPECIFIED_IN_NO_LOG_PARAMETER\n"),
        ("play.yml", "db_password: md5<encrypted_password>\n"),
        ("count.py", "my_pass = 1\n"),
        ("form.py", "data = {'username': 'a', 'password1': 'hunter2x', 'password2': 'hunter2x'}\n"),
        ("guide.txt", "Call authenticate(user=user, host=host, password=pwd).\n"),
    ],
)
def test_an_example_or_a_name_is_no_candidate(file: str, text: str):
    """Nobody logs in with it, or `--weak` lists it."""
    assert [one for one in registry.read(file, text).matches if not one.weak] == []


def test_a_quoted_argument_in_a_text_is_a_candidate():
    """Without quotation it would be the name of a variable."""
    text = "psycopg.connect(host='db', user='shop', password='hunter2x')\n"
    assert len(registry.read("guide.txt", text).matches) == 1


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_no_form_is_skipped_before_it_is_read(form: Form):
    """The fast look at a text is never wrongly negative."""
    assert registry.may_hold(form.path, form.render("hunter2x"))


def test_history_finds_a_password_in_a_later_version(tmp_path: Path):
    """Only the changed lines of a file are looked at, with their neighbours: a key may be some lines above."""
    filler = "".join(f"name{number} = {number}\n" for number in range(200))
    versions = [
        filler,
        filler + "connect(\n    'db',\n    'shop',\n    'old',\n)\n",
        filler + "connect(\n    'db',\n    'shop',\n    'hunter2x',\n)\n",
        "# a comment\n" + filler + "connect(\n    'db',\n    'shop',\n    'hunter2x',\n)\n",
    ]
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for version in versions:
        (tmp_path / "app.py").write_text(version)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-qm", "x"], check=True)
    repository = Repository(tmp_path)
    scan = Scan()
    commits = repository.commits()
    scan.history(repository.blobs(commits, largest=1_000_000))
    places = [(one.match.value.reveal(), one.commit) for one in scan.report.candidates]
    assert places == [("old", commits[1]), ("hunter2x", commits[2])]
