"""Whether a value is a literal password, a well-known example, or a reference to one elsewhere.

The rules, in this order:

- reference, not a candidate: empty; a variable (`${X}`, `$X`, `%(x)s`, `%X%`), a template (`{{ x }}`,
  `<%= x %>`, `{x}`), a placeholder in angle brackets, a masked value (`***`, `xxxx`), a reference into
  a store (`vault:`, `env:`, `arn:aws:`, `op://`, `ENC[...]`), a hash (SCRAM, md5, bcrypt, crypt),
  a word such as `null`, and prose;
- the default within a variable (`${X:-VALUE}`, `<%= ENV.fetch('X', 'VALUE') %>`) is a value of its own;
- weak: a word of `_EXAMPLES`, a phrase such as `your-password` or `change me`, the name of a field,
  or the login or the key repeated;
- literal: everything else.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

_LONGEST: Final = 512

_NOTHING: Final = frozenset(
    {"", "null", "none", "nil", "true", "false", "undefined", "~", "yes", "no", "on", "off"}
    | {"value_specified_in_no_log_parameter", "not_logging_password", "no_log"}
    | {"required", "optional", "prompt", "string", "str", "object", "nullable", "boolean", "text"}
)
_EXAMPLES: Final = frozenset(
    {"password", "passwd", "pass", "pwd", "pw", "secret", "changeme", "changeit", "example"}
    | {"sample", "dummy", "placeholder", "test", "testing", "tests", "foo", "bar", "baz", "foobar"}
    | {"tiger", "postgres", "root", "admin", "mysql", "mariadb", "redis", "user", "username"}
    | {"guest", "default", "value", "todo", "fixme", "tbd", "1234", "12345", "123456", "sa"}
    | {"qwerty", "abc", "abc123", "password1", "passw0rd", "p", "x", "a", "b", "c", "pass123"}
    | {
        "password123",
        "testpass",
        "testpw",
        "passwords",
        "secret123",
        "somepass",
        "fake",
        "mock",
        "example123",
        "toor",
    }
    | {"unused", "unset", "unknown", "empty", "na", "n/a", "hidden", "redacted", "masked", "db"}
)
_PHRASE: Final = re.compile(
    r"(?:your|my|the|some|any|a|an|new|old|insert|enter|replace|change|use|put|set|choose|wrong|invalid|bad|incorrect)"
    r"[-_ ]?(?:(?:own|strong|secure|super|very|this|with|real|good|db|database|user|root|admin|postgres"
    r"|mysql|redis|in|the|your|me|it|here|set|current|secret|password|passwd|pass|pwd|before|production|value)[-_ ]?)+\W*",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(
    r"""
      \$\{[^}]*\} | \$\([^)]*\) | \$[A-Za-z_]\w* | \$\{\{.*\}\}
    | %\([^)]*\)s | %env\([^)]*\)% | %s | %[A-Za-z_]\w*% | %[A-Z_]+
    | \{\{.*\}\} | \{[^{}]*\} | <%.*%> | <[^<>]*> | \[[^\[\]]*\] | \#\{.*\} | @[A-Za-z_.\-]+@ | __[A-Z_]+__
    | `[^`]*` | :[a-z_]+ | \?
    | [*xX._\-•#?\s]+ | (.)\1{2,}
    | (?:env|file|vault|aws|local|ssm|secretsmanager|gcp|azure|op|doppler|keyring|sops|sm|awssm|secret|ref
        |akv|gsm|bao|aws-ssm|k8s|kubernetes|pass)://?[^\s]* | (?:env|file|vault|aws|local|ssm|secret|ref|bao):[\w./\-]+(?:\#\w+)?
    | arn:aws[\w\-]*:.* | projects/[\w\-]+/secrets/.* | @Microsoft\.KeyVault\(.*
    | \w{0,10}<[a-z]{1,20}[_ \-][a-z_ \-]{1,40}>\w{0,10} | [^\w\s]{1,3}
    | ENC[\[(].* | vault:v[0-9]+:.* | !vault.* | \$ANSIBLE_VAULT.* | AgB[\w+/=]{60,}
    | SCRAM-SHA-256\$.* | md5[0-9a-f]{32} | \*[0-9A-F]{40} | \$(?:1|2[abxy]|5|6|7|y|gy|argon2\w*|P|H)\$.*
    | \{(?:SSHA|SHA|MD5|CRYPT|SSHA512)\}.* | pbkdf2\w*\$.* | (?:bcrypt|argon2)\w*\$.*
    | (?:process\.env|os\.environ|System\.getenv|var|local|data|module|secrets|env|vars|self|this)[.\[(].*
    """,
    re.VERBOSE | re.DOTALL,
)
_WITHIN: Final = ("${", "{{", "$(", "<%=", "#{", "}}", "%(", "\x00")
_DEFAULT: Final = re.compile(
    r"\$\{[\w.\-]+(?::-|:=|-|=|:)(?P<shell>[^${}][^{}]*)\}"
    r"""|\{\{.{0,200}?default\(?\s*['"](?P<quoted>[^'"{}]+)['"].{0,200}\}\}"""
    r"""|\$\{\{\s*[^{}]{0,200}\|\|\s*'(?P<actions>[^'{}]+)'\s*\}\}"""
    r"""|<%=[^%]{0,200}?(?:,|\|\|)\s*(?:'(?P<erb>[^'\n]+)'|"(?P<erb2>[^"\n]+)")[^%]{0,100}%>"""
)
_FIELD_NAME: Final = re.compile(
    r"(?:(?:my|db|database|user|root|admin|postgres|pg|mysql|redis|app|the|test|some|secret|a)[-_ ]?){1,3}"
    r"(?:password|passwd|pwd|pass)"
)
# Words of a sentence or a label; a passphrase of four small words is no prose.
_SENTENCE_WORDS: Final = 5
_SENTENCE_ENDS: Final = (".", ":", "!", "?", "\u2026")


class Kind(Enum):
    """What a value is."""

    LITERAL = auto()
    WEAK = auto()
    REFERENCE = auto()


def kind(value: str, login: str | None = None, name: str | None = None) -> Kind:
    """Return what a value is, for an account with this login, under a key of this name."""
    stripped = value.strip()
    if len(value) > _LONGEST or stripped.lower() in _NOTHING or "\n" in stripped:
        return Kind.REFERENCE
    if any(mark in value for mark in _WITHIN) or _REFERENCE.fullmatch(stripped):
        return Kind.REFERENCE
    if _is_prose(stripped):
        return Kind.REFERENCE
    plain = stripped.lower()
    if plain in _EXAMPLES or _PHRASE.fullmatch(plain) or (login and plain == login.lower()):
        return Kind.WEAK
    # `share_password: share_password`, and `my_pass = 1`, which counts something.
    if (name is not None and plain == name.lower()) or (plain.isdecimal() and len(plain) < 3):  # noqa: PLR2004 # no password is so short
        return Kind.WEAK
    if plain.replace("-", "").replace("_", "").replace(
        " ", ""
    ) in _EXAMPLES or _FIELD_NAME.fullmatch(plain):
        return Kind.WEAK
    return Kind.LITERAL


def default_of(value: str) -> tuple[int, str] | None:
    """Return the default within a variable or a template, and its offset: `${X:-VALUE}`."""
    found = _DEFAULT.search(value) if "{" in value or "<%" in value else None
    if found is None:
        return None
    group = found.lastgroup or ""
    return found.start(group), found[group]


def _is_prose(value: str) -> bool:
    words = value.split()
    if len(words) < 2:  # noqa: PLR2004 # a single word
        return False
    if value[0].isupper() or not value.isascii() or len(words) >= _SENTENCE_WORDS:
        return True
    return len(words) > 2 and value.endswith(_SENTENCE_ENDS)  # noqa: PLR2004 # as above
