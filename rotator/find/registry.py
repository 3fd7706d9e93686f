"""Which reader reads a file: by its name, and by its first line where the name is silent."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rotator.find import connection
from rotator.find.readers import accounts, lines, markup, python, shell, source, sql
from rotator.find.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rotator.find.model import Match
    from rotator.find.reading import Reader

# A file within a file within a file is not read.
_DEEPEST: Final = 2
READERS: Final[Mapping[str, Reader]] = {
    "dotenv": lines.dotenv,
    "yaml": markup.yaml_file,
    "json": markup.json_file,
    "notebook": markup.notebook,
    "xml": markup.xml_file,
    "toml": source.reader(source.TOML),
    "ini": lines.ini,
    "properties": lines.properties,
    "pgpass": accounts.pgpass,
    "userlist": accounts.userlist,
    "netrc": accounts.netrc,
    "python": python.python,
    "shell": shell.shell,
    "dockerfile": shell.dockerfile,
    "terraform": source.reader(source.TERRAFORM),
    "sql": sql.sql,
    "javascript": source.reader(source.JAVASCRIPT),
    "go": source.reader(source.GO),
    "java": source.reader(source.JAVA),
    "groovy": source.reader(source.GROOVY),
    "ruby": source.reader(source.RUBY),
    "php": source.reader(source.PHP),
    "rust": source.reader(source.RUST),
    "powershell": source.reader(source.POWERSHELL),
    "lua": source.reader(source.LUA),
    "source": source.reader(source.OTHER),
    "text": lines.plain,
    "prose": lines.prose,
}
_NAMES: Final[Mapping[str, str]] = {
    ".pgpass": "pgpass",
    "pgpass.conf": "pgpass",
    "pgpass": "pgpass",
    "userlist.txt": "userlist",
    ".netrc": "netrc",
    "_netrc": "netrc",
    ".authinfo": "netrc",
    ".my.cnf": "ini",
    ".pg_service.conf": "ini",
    ".envrc": "shell",
    ".flaskenv": "dotenv",
    ".psqlrc": "sql",
    "jenkinsfile": "groovy",
    "vagrantfile": "ruby",
    "gemfile": "ruby",
    "rakefile": "ruby",
    "procfile": "shell",
    "makefile": "shell",
    "gnumakefile": "shell",
    "containerfile": "dockerfile",
    "dockerfile": "dockerfile",
    "crontab": "shell",
    "pipfile": "toml",
    ".bashrc": "shell",
    ".bash_profile": "shell",
    ".profile": "shell",
    ".zshrc": "shell",
    ".bash_history": "shell",
    ".zsh_history": "shell",
}
_SUFFIXES: Final[Mapping[str, str]] = {
    one: form
    for form, suffixes in {
        "dotenv": "env",
        "yaml": "yaml yml",
        "json": "json jsonc json5 tfstate webmanifest har avsc geojson",
        "notebook": "ipynb",
        "xml": "xml config plist xhtml csproj props targets jdbc xsl dbeaver",
        "toml": "toml",
        "ini": "ini cfg conf cnf service socket timer desktop pgservice acl editorconfig",
        "properties": "properties",
        "pgpass": "pgpass",
        "netrc": "netrc",
        "python": "py pyw pyi wsgi",
        "shell": "sh bash zsh ksh fish csh command bats bat cmd mk",
        "terraform": "tf tfvars hcl nomad",
        "sql": "sql psql pgsql mysql ddl",
        "javascript": "js jsx ts tsx mjs cjs mts cts vue svelte",
        "go": "go",
        "java": "java kt kts scala cs swift dart c h cc cpp hpp m fs vb",
        "groovy": "groovy gradle jenkinsfile",
        "ruby": "rb erb rake gemspec cr",
        "php": "php phtml php5 inc module",
        "rust": "rs zig",
        "powershell": "ps1 psm1 psd1",
        "lua": "lua",
        "source": "pl pm ex exs clj cljs r jl nix groovy2 conf2 hocon",
        "prose": "md rst adoc html htm po pot tex svg css scss less csv tsv map lock",
    }.items()
    for one in suffixes.split()
}
# Endings of copies and templates; the name before them decides.
_COPIES: Final = frozenset(
    {
        "example",
        "sample",
        "dist",
        "template",
        "tmpl",
        "tpl",
        "j2",
        "jinja",
        "jinja2",
        "bak",
        "old",
        "orig",
    }
    | {
        "save",
        "backup",
        "default",
        "in",
        "local",
        "erb",
        "copy",
        "swp",
        "production",
        "staging",
        "development",
    }
    | {"prod", "dev", "test", "gotmpl", "disabled", "1", "2"}
)
_TRANSLATIONS: Final = re.compile(
    r"(?:^|/)(?:locales?|i18n|l10n|lang|translations?|messages)/", re.IGNORECASE
)
# Forms whose layout alone proves the role: they contain no word that gives a password away.
_WORDLESS: Final = frozenset({"pgpass", "userlist", "netrc", "ini", "notebook"})
# Every reader needs one of these in the text: most files of a tree have none. All are lower-case.
_WORDS: Final = (
    "pass", "pwd", "psw", "identified", "senha", "contrasena", "@tcp(", "@unix(", "@@", "auth(", "mysql",
    "mariadb", "setuser", "redis(", "valkey(", "connect",
)  # fmt: skip
# A word, and what has to be around it.
_AROUND: Final = tuple(
    (word, re.compile(pattern))
    for word, pattern in (
        ("pw", r"(?<![a-z])pw(?![a-z])"),
        ("url", r"url\b"),
        (
            "auth",
            r"(?:cli|redis|valkey|master|primary|sentinel)[_.\-]?auth|[\"']auth[\"']|\bauth\s",
        ),
        (
            "secret",
            r"kind:\s{0,8}[\"']?secret|(?:db|database|postgres|mysql|redis|pg)[_.\-]?secret",
        ),
        ("-a", r"-a\s"),
        ("@(", r"@\([\w.\-]{1,200}:\d"),
        ("://", rf"(?:{connection.SCHEMES})[\w+:.\-]{{0,30}}://"),
        (":@", rf"(?:{connection.SCHEMES})[\w+:.\-]{{0,30}}:@"),
    )
)
_SHEBANG: Final = re.compile(
    r"#!.{0,100}?\b(?P<program>sh|bash|zsh|dash|ksh|fish|python[\d.]*|ruby|node|php|perl|lua)\b"
)
_PROGRAMS: Final = {
    "python": "python",
    "ruby": "ruby",
    "node": "javascript",
    "php": "php",
    "perl": "source",
    "lua": "lua",
}


def form_of(path: str, text: str = "") -> str:
    """Return the form of a file: a key of `READERS`."""
    name = path.rpartition("/")[2].lower()
    form = _by_name(name)
    if form is None:
        shebang = _SHEBANG.match(text)
        if shebang is not None:
            return _PROGRAMS.get(shebang["program"].rstrip("0123456789."), "shell")
        form = "text"
    if _TRANSLATIONS.search(path) and form in (
        "yaml",
        "json",
        "properties",
        "ini",
        "php",
        "javascript",
        "xml",
        "python",
    ):
        return "prose"
    return form


def read(path: str, text: str) -> Reading:
    """Read a text as the file at `path`. It never raises: what cannot be parsed is read as text."""
    form = form_of(path, text)
    if not _may_hold(form, text):
        return Reading()
    reading = _read(form, text, 0)
    if reading.is_broken and form not in ("python", "xml", "yaml"):
        reading.matches += READERS["text"](text, _none).matches
    return Reading(matches=_distinct(reading.matches, form), is_broken=reading.is_broken)


def may_hold(path: str, text: str) -> bool:
    """Return whether a text, or a part of one, may hold a password: fast, and never wrongly False."""
    return _may_hold(form_of(path, text), text)


def _may_hold(form: str, text: str) -> bool:
    if form in _WORDLESS:
        return True
    lower = text.lower()
    return any(word in lower for word in _WORDS) or any(
        word in lower and pattern.search(lower) is not None for word, pattern in _AROUND
    )


def _by_name(name: str) -> str | None:
    if name in _NAMES:
        return _NAMES[name]
    if name == ".env" or name.startswith((".env.", "env.", ".env-")) or name.endswith(".env"):
        return "dotenv"
    if name.startswith(("dockerfile.", "dockerfile-")) or name.endswith(".dockerfile"):
        return "dockerfile"
    if name.startswith("userlist") and name.endswith(".txt"):
        return "userlist"
    base, dot, suffix = name.rpartition(".")
    if not dot:
        return None
    if suffix.rstrip("~") in _SUFFIXES and suffix.rstrip("~") not in _COPIES - {"erb"}:
        return _SUFFIXES[suffix.rstrip("~")]
    if suffix.rstrip("~") in _COPIES and base:
        return _by_name(base)
    return None


def _read(form: str, text: str, depth: int) -> Reading:
    def nested(name: str, inner: str) -> list[Match]:
        if depth >= _DEEPEST:
            return []
        return _read(form_of(name, inner), inner, depth + 1).matches

    return READERS[form](text, nested)


def _none(name: str, text: str) -> list[Match]:
    _ = name, text
    return []


def _distinct(found: list[Match], form: str) -> list[Match]:
    """Return each place once: the match that knows most of its account, in the order of the text."""
    best: dict[tuple[int, str], Match] = {}
    for one in found:
        key = one.start, one.value.reveal()
        other = best.get(key)
        if other is None or _knowledge(one) > _knowledge(other):
            best[key] = replace(one, form=form)
    ordered = sorted(
        best.values(), key=lambda one: (one.start, one.start - one.end, -_knowledge(one))
    )
    kept: list[Match] = []
    last = -1
    for one in ordered:
        if one.start >= last:
            kept.append(one)
            last = max(last, one.end)
    return kept


def _knowledge(one: Match) -> int:
    account = one.account
    return sum(
        part is not None
        for part in (account.login, account.host, account.port, account.database, account.engine)
    ) + (not one.weak)
