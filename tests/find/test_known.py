"""Values of managed secrets are found in every spelling."""

from __future__ import annotations

import html
import json
import shlex
import sys
from base64 import b64encode
from urllib.parse import quote

import pytest

from rotator.core.errors import UsageError
from rotator.core.secret import Secret
from rotator.find.known import KeptVersion, KnownValues
from rotator.find.model import Account

_VALUES = ("hunter2x", "p@ss/w:rd#1&<'\"$x", "Gr\u00fc\u00dfe-42!x", "aB3+/=%~x9")


@pytest.mark.parametrize("value", _VALUES)
def test_every_spelling_is_found(value: str):
    """Plain, escaped, base64 at each alignment, UTF-16."""
    version = KeptVersion(secret="app", version="current", value=Secret(value), account=Account())
    known = KnownValues([version])
    texts = [
        value, quote(value, safe=""), json.dumps(value), shlex.quote(value) if "'" not in value else value,
        html.escape(value), value.replace("'", "''"),
    ]  # fmt: skip
    contents = [f"x {text} y".encode() for text in texts]
    contents += [b64encode(b"-" * lead + value.encode() + b"tail") for lead in range(6)]
    contents += [f"x {value} y".encode(encoding) for encoding in ("utf-16-le", "utf-16-be")]
    for content in contents:
        assert len(list(known.search("file", content, None))) == 1, content


def test_a_short_value_is_named():
    """It would appear in every text."""
    version = KeptVersion(secret="app", version="current", value=Secret("abc"), account=Account())
    assert KnownValues([version]).short == [("app", "current")]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "ahocorasick", None)
    with pytest.raises(UsageError, match="pyahocorasick") as raised:
        KnownValues([])
    assert "credential-rotator[find]" in (raised.value.hint or "")
