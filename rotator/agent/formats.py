"""Renders a login as text: the files, the environment and `rotator get --format` share these formats.

Each format is exact for its reader, or refuses: a value that the reader would not get back raises
`UsageError`, which names the field and never the value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import quote
from xml.sax.saxutils import escape

from rotator.core.errors import UsageError
from rotator.core.secret import Secret

if TYPE_CHECKING:
    from rotator.client import Login

Format: TypeAlias = Literal[
    "env",
    "systemd",
    "dotenv",
    "json",
    "yaml",
    "pgpass",
    "my.cnf",
    "ini",
    "userlist",
    "url",
    "template",
]
FORMATS: Final[tuple[str, ...]] = get_args(Format)

# The first two are `{{name}}`, which is written as `{name}`.
_PLACE: Final = re.compile(r"\{\{([\w./@+-]+)\}\}|\{([\w./@+-]+)((?::\w+)*)\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# systemd drops a variable that holds one (systemd.exec(5), EnvironmentFile=).
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# systemd rejects a file with a noncharacter of Unicode as invalid UTF-8.
_NONCHARACTER: Final = re.compile(
    "[\ufdd0-\ufdef"
    + "".join(
        f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17)
    )
    + "]"
)
# The kernel refuses to start a program with a longer variable: MAX_ARG_STRLEN, with its end.
_LONGEST_VARIABLE: Final = 131_071
# python-dotenv replaces these inside any quotes.
_DOTENV_VARIABLE: Final = re.compile(r"\$\{[^}]*\}")
_SCRAM_ROUNDS: Final = 4096
# The longest line that MariaDB reads from an option file is 4,095 bytes.
_LONGEST_MY_CNF: Final = 4000
# PgBouncer's MAX_USERNAME and MAX_PASSWORD, with room for the end of a C string.
_LONGEST_USERLIST: Final = {"username": 127, "password": 2047}


def _help(text: str) -> dict[str, Any]:
    return {"help": text, "reference": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions:
    """What a format takes beside the login. Each is for the formats that its help names."""

    prefix: str = field(
        default="DB_", metadata=_help("Beginning of each variable's name (env, systemd, dotenv).")
    )
    variables: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help(
            "Variables in place of one for each field, as templates such as"
            " `PGUSER: '{username}'` (env, systemd, dotenv)."
        ),
    )
    section: str = field(
        default="", metadata=_help("Section. Default: client for my.cnf, database for ini.")
    )
    template: str = field(
        default="",
        metadata=_help(
            "Text with `{field}`, `{field:url}`, `{field:json}`, `{field:xml}`, `{field:base64}`, `{field:libpq}`,"
            " `{field:ado}` or `{field:odbc}` (template)."
        ),
    )
    scheme: str = field(
        default="postgresql", metadata=_help("Scheme of the address, such as mysql (url).")
    )
    verifier: bool = field(
        default=False,
        metadata=_help("A SCRAM verifier in place of the password (userlist)."),
    )
    values: dict[str, str] = field(
        default_factory=dict[str, str],
        metadata=_help("Fields that the secret does not contain, such as `host`."),
    )


def render(login: Login, name: str, options: FormatOptions | None = None) -> Secret:
    """Return the login in the format `name`. Raises `UsageError` where the format cannot hold it."""
    options = options or FormatOptions()
    fields = _fields(login, options)
    for key, value in fields.items():
        _check_text(key, value)
    return Secret(_RENDERERS[name](fields, login, options))


def fill(template: str, login: Login, options: FormatOptions | None = None) -> Secret:
    """Return a template with the login's fields in it. Raises `UsageError` for an unknown field."""
    return Secret(_fill(template, _fields(login, options or FormatOptions())))


def fill_from(template: str, logins: Mapping[str, Login]) -> Secret:
    """Return a template with fields of several logins, each as `{NAME.field}`.

    Of a single login, `{field}` does. Raises `UsageError` for an unknown field.
    """
    fields = {
        f"{name}.{key}": value
        for name, login in logins.items()
        for key, value in _fields(login, FormatOptions()).items()
    }
    if len(logins) == 1:
        (only,) = logins.values()
        fields = {**fields, **_fields(only, FormatOptions())}
    return Secret(_fill(template, fields))


def check_template(template: str) -> None:
    """Raise `UsageError` where a template names a conversion that does not exist."""
    for place in _PLACE.finditer(template):
        for name in (place[3] or "").split(":")[1:]:
            _ = _conversion(name)


def check_variable(name: str) -> None:
    """Raise `UsageError` for what cannot be the name of an environment variable."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            "invalid name of an environment variable.",
            hint="Use letters, digits and `_`, beginning with a letter.",
        )


# -- values --------------------------------------------------------------------------------------


def _fields(login: Login, options: FormatOptions) -> dict[str, object]:
    return {
        **options.values,
        **login.fields,
        "username": login.username,
        "password": login.password.reveal(),
        "version": login.version,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check_text(key: str, value: object) -> None:
    if isinstance(value, str):
        try:
            _ = value.encode()
        except UnicodeEncodeError:
            # The error of the encoder holds the value.
            raise UsageError(f"the field {key!r} is not valid Unicode.") from None


def _refuse(
    format_: str, key: str, value: str, pattern: re.Pattern[str], what: str = "a control character"
) -> None:
    if pattern.search(value):
        raise UsageError(
            f"the format {format_} cannot hold {what}, which the field {key!r} contains.",
            hint="Use the format json, or let rotator create a password without such characters.",
        )


# -- formats -------------------------------------------------------------------------------------


def _env(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    """For `. FILE` in a shell; systemd reads its quotes in the same way."""
    lines: list[str] = []
    for key, value in _variables(fields, options).items():
        _refuse("env", key, value, _CONTROL_BUT_LINES)
        lines.append(_assignment(key, value))
    return "".join(lines)


def _assignment(key: str, value: str) -> str:
    quoted = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'{key}="{quoted}"\n'


def _systemd(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    """For `EnvironmentFile=` (systemd.exec(5)): what systemd or the kernel would drop is refused.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=
    """
    lines: list[str] = []
    for key, value in _variables(fields, options).items():
        _refuse("systemd", key, value, _CONTROL_BUT_LINES)
        _refuse("systemd", key, value, _NONCHARACTER, "a noncharacter of Unicode")
        if len(f"{key}={value}".encode()) > _LONGEST_VARIABLE:
            raise UsageError(
                f"the format systemd cannot hold the length of the field {key!r}.",
                hint="The kernel takes at most 131,071 bytes for a variable: use the format json.",
            )
        lines.append(_assignment(key, value))
    return "".join(lines)


def _dotenv(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    """For python-dotenv, whose quotes know other escapes than a shell's."""
    lines: list[str] = []
    for key, value in _variables(fields, options).items():
        _refuse("dotenv", key, value, _CONTROL_BUT_LINES)
        _refuse("dotenv", key, value, _DOTENV_VARIABLE, "`${...}`")
        quoted = re.sub(r"([\\'])", r"\\\1", value)
        lines.append(f"{key}='{quoted}'\n")
    return "".join(lines)


def _variables(fields: Mapping[str, object], options: FormatOptions) -> dict[str, str]:
    if options.variables:
        named = {key: _fill(text, fields) for key, text in options.variables.items()}
    else:
        named = {
            options.prefix + re.sub(r"\W", "_", key, flags=re.ASCII).upper(): _text(value)
            for key, value in fields.items()
        }
    for key in named:
        check_variable(key)
    return named


def _json(fields: Mapping[str, object], _login: Login, _options: FormatOptions) -> str:
    return json.dumps(fields, indent=2) + "\n"


def _yaml(fields: Mapping[str, object], _login: Login, _options: FormatOptions) -> str:
    return "".join(f"{_yaml_text(key)}: {_yaml_value(value)}\n" for key, value in fields.items())


def _yaml_value(value: object) -> str:
    """Return a value in YAML's flow style."""
    if isinstance(value, str):
        return _yaml_text(value)
    if isinstance(value, float):
        text = json.dumps(value)
        # YAML 1.1 reads `1e+22` as text.
        return text if "." in text or "e" not in text else text.replace("e", ".0e", 1)
    if isinstance(value, list):
        return f"[{', '.join(_yaml_value(item) for item in cast('list[object]', value))}]"
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value).items()
        return (
            f"{{{', '.join(f'{_yaml_text(key)}: {_yaml_value(item)}' for key, item in entries)}}}"
        )
    return json.dumps(value)


def _yaml_text(text: str) -> str:
    """Return a text in double quotes: what is not plain ASCII is escaped, as YAML 1.1 and 1.2 read it."""

    def escaped(character: str) -> str:
        number = ord(character)
        if character in '"\\':
            return f"\\{character}"
        if 0x20 <= number < 0x7F:  # noqa: PLR2004 # printable ASCII
            return character
        return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004 # as above

    return f'"{"".join(map(escaped, text))}"'


def _pgpass(fields: Mapping[str, object], _login: Login, _options: FormatOptions) -> str:
    """For libpq (https://www.postgresql.org/docs/current/libpq-pgpass.html)."""
    names = (("host",), ("port",), ("dbname", "database"), ("username",), ("password",))
    parts: list[str] = []
    for keys in names:
        key = next((key for key in keys if key in fields), keys[0])
        value = _text(fields.get(key, "*"))
        _refuse("pgpass", key, value, _CONTROL)
        if key == "password" and not value:
            raise UsageError("the format pgpass cannot hold an empty password.")
        is_wild = key not in fields
        parts.append(value if is_wild else re.sub(r"([\\:])", r"\\\1", value))
    line = ":".join(parts)
    # libpq skips a line that begins with `#`.
    return ("\\" if line.startswith("#") else "") + line + "\n"


def _my_cnf(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    """For MariaDB's and MySQL's option files (https://dev.mysql.com/doc/refman/8.4/en/option-files.html)."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b"}
    keys = {"user": "username", "password": "password", "host": "host", "port": "port"}
    lines = [f"[{_section('my.cnf', options.section or 'client')}]\n"]
    for option, key in keys.items():
        if key not in fields:
            continue
        value = _text(fields[key])
        quoted = "".join(escapes.get(character, character) for character in value)
        _refuse("my.cnf", key, quoted, _CONTROL)
        if len(quoted.encode()) > _LONGEST_MY_CNF:
            raise UsageError(f"the field {key!r} is too long for the format my.cnf.")
        lines.append(f'{option}="{quoted}"\n')
    return "".join(lines)


def _ini(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    """For Python's `configparser.ConfigParser`: it strips spaces and replaces `%(name)s`."""
    lines = [f"[{_section('ini', options.section or 'database')}]\n"]
    for key, field_value in fields.items():
        value = _text(field_value)
        if value != value.strip():
            raise UsageError(
                f"the format ini cannot hold the space at an end of the field {key!r}.",
                hint="Use the format json or env.",
            )
        _refuse("ini", key, value, _CONTROL)
        if not re.fullmatch(r"[\w.-]+", key):
            raise UsageError("the format ini cannot hold the name of a field of this secret.")
        lines.append(f"{key} = {value.replace('%', '%%')}\n")
    return "".join(lines)


def _section(format_: str, name: str) -> str:
    if not re.fullmatch(r"[\w. -]+", name) or name != name.strip():
        raise UsageError(f"invalid name of a section for the format {format_}.")
    return name


def _userlist(fields: Mapping[str, object], login: Login, options: FormatOptions) -> str:
    """For `auth_file` of PgBouncer (https://www.pgbouncer.org/config.html#authentication-file-format)."""
    password = login.password.reveal()
    written = {
        "username": login.username,
        "password": _scram_verifier(login) if options.verifier else password,
    }
    _ = fields
    for key, value in written.items():
        _refuse("userlist", key, value, _CONTROL)
        if not 0 < len(value.encode()) <= _LONGEST_USERLIST[key]:
            raise UsageError(f"the format userlist cannot hold the length of the field {key!r}.")
    return " ".join('"' + value.replace('"', '""') + '"' for value in written.values()) + "\n"


def _scram_verifier(login: Login) -> str:
    """Return PostgreSQL's SCRAM verifier (RFC 5803). The same version has the same one.

    The salt is derived, because a file that did not change must not be written again.
    """
    password = login.password.reveal()
    if not password.isascii():
        raise UsageError(
            "a SCRAM verifier needs a password of ASCII characters.",
            hint="Set `verifier: false`, or let rotator create the password.",
        )
    salt = hashlib.sha256(f"{login.username}\0{login.version}".encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ROUNDS)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored, server_text = (
        base64.b64encode(part).decode() for part in (salt, client, server)
    )
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{salt_text}${stored}:{server_text}"


def _url(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    if "host" not in fields:
        raise UsageError(
            "the format url needs a host, which the secret does not contain.",
            hint="Add the field `host` to the secret. In agent.yaml, set `options: {values: {host: ...}}`.",
        )
    host = _text(fields["host"])
    address = f"[{host}]" if ":" in host else quote(host, safe="")
    port = f":{quote(_text(fields['port']), safe='')}" if "port" in fields else ""
    database = next((_text(fields[key]) for key in ("dbname", "database") if key in fields), "")
    login = ":".join(quote(_text(fields[key]), safe="") for key in ("username", "password"))
    return f"{options.scheme}://{login}@{address}{port}/{quote(database, safe='')}\n"


def _template(fields: Mapping[str, object], _login: Login, options: FormatOptions) -> str:
    if not options.template:
        raise UsageError(
            "the format template needs a template.", hint="Example: 'user={username}'."
        )
    return _fill(options.template, fields)


def _fill(template: str, fields: Mapping[str, object]) -> str:
    def place(match: re.Match[str]) -> str:
        literal, key, conversions = match.groups()
        if literal is not None:
            return f"{{{literal}}}"
        if key not in fields:
            raise UsageError(
                f"the template requires {key!r}, which the secret does not contain.",
                hint=f"Its fields: {', '.join(sorted(fields))}. For a literal `{{{key}}}` write `{{{{{key}}}}}`.",
            )
        text = _text(fields[key])
        for name in conversions.split(":")[1:]:
            text = _conversion(name)(text)
        return text

    return _PLACE.sub(place, template)


def _conversion(name: str) -> Callable[[str], str]:
    conversions: dict[str, Callable[[str], str]] = {
        "url": lambda text: quote(text, safe=""),
        "json": json.dumps,
        "xml": lambda text: escape(text, {'"': "&quot;", "'": "&apos;"}),
        "base64": lambda text: base64.b64encode(text.encode()).decode(),
        # Values in connection strings, with their quotation marks.
        "libpq": lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'",
        "ado": lambda text: '"' + text.replace('"', '""') + '"',
        "odbc": lambda text: "{" + text.replace("}", "}}") + "}",
    }
    if name not in conversions:
        raise UsageError(
            f"unknown conversion `{name}` in a template.", hint=f"Use {', '.join(conversions)}."
        )
    return conversions[name]


_RENDERERS: Final[Mapping[str, Callable[[Mapping[str, object], Login, FormatOptions], str]]] = {
    "env": _env,
    "systemd": _systemd,
    "dotenv": _dotenv,
    "json": _json,
    "yaml": _yaml,
    "pgpass": _pgpass,
    "my.cnf": _my_cnf,
    "ini": _ini,
    "userlist": _userlist,
    "url": _url,
    "template": _template,
}
