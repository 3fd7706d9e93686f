"""What a name says about its value: password, login, host, port, database or connection URL."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]++|[A-Z]++|[0-9]++")
_LONGEST: Final = 120

_PASSWORD: Final = frozenset(
    {"password", "passwd", "passwort", "pwd", "pass", "pw", "passphrase", "requirepass"}
    | {"masterauth", "primaryauth", "psw", "pswd", "passwrd", "motdepasse", "contrasena", "senha"}
)
_PASSWORD_ENDS: Final = ("password", "passwd", "pwd", "passwort")
_SHORT_ENDS: Final = frozenset(
    f"{one}pass"
    for one in ("db", "pg", "user", "root", "mysql", "redis", "sql", "admin", "my", "auth")
)
# `REDISCLI_AUTH`, `redis_auth`, `db_secret`.
_PAIRS: Final = frozenset(
    {("rediscli", "auth"), ("cli", "auth"), ("redis", "auth"), ("valkey", "auth")}
    | {("sentinel", "auth"), ("db", "secret"), ("database", "secret"), ("postgres", "secret")}
    | {("mysql", "secret"), ("redis", "secret"), ("pg", "secret"), ("pass", "word")}
)
# A name may end with the environment that it is for.
_TAILS: Final = frozenset(
    {"prod", "production", "stage", "staging", "dev", "development", "qa", "uat", "live"}
    | {"old", "new", "prev", "previous", "current", "next", "backup", "main", "primary", "replica"}
    | {"ro", "rw", "master", "slave", "local", "default", "value", "val", "str", "string", "text"}
    | {"plain", "raw", "base", "b", "env", "var", "literal", "secret", "test"}
)
# Words that make a name something about a password.
_ABOUT: Final = frozenset(
    {
        "allow",
        "empty",
        "random",
        "forgot",
        "forgotten",
        "reset",
        "show",
        "hide",
        "enable",
        "enabled",
    }
    | {"disable", "has", "is", "need", "needs", "check", "validate", "verify", "change"}
    | {"min", "max", "length", "hash", "hashed", "encrypted", "label", "placeholder", "title"}
    | {"help", "hint", "error", "errors", "message", "msg", "invalid", "wrong", "incorrect"}
    | {"missing", "prompt", "ask", "generate", "generated", "input", "field", "confirm"}
    | {"confirmation", "regex", "pattern", "get", "find", "read", "no", "without", "bypass", "by"}
    | {"type", "description", "desc", "widget", "class", "css", "icon", "auto", "forget", "weak"}
    | {"if", "or", "not", "supports", "requires", "can", "ignore", "skip", "mask", "redact"}
)
_LOGIN: Final = frozenset({"user", "username", "login", "usr", "role", "uid", "userid", "benutzer"})
_HOST: Final = frozenset(
    {"host", "hostname", "server", "endpoint", "addr", "address", "servername", "hostaddr"}
)
_DATABASE: Final = frozenset({"database", "dbname", "db", "schema", "catalog", "databasename"})
_URL: Final = frozenset({"url", "uri", "dsn", "jdbcurl", "connectionstring", "conninfo"})
_SYSTEMS: Final = ("db", "pg", "mysql", "postgres", "sql", "mariadb", "redis", "valkey", "dbms")
_GLUED: Final = {
    **{
        f"{system}{word}": ("login", system) for system in _SYSTEMS for word in ("user", "username")
    },
    **{f"{system}host": ("host", system) for system in _SYSTEMS},
    **{f"{system}port": ("port", system) for system in _SYSTEMS},
    **{
        f"{system}{word}": ("database", system)
        for system in _SYSTEMS
        for word in ("database", "db")
    },
}
_ENGINES: Final = (
    ("postgresql", re.compile(r"postgres|psycopg|psql|pgx|asyncpg|(?<![a-z])pg", re.IGNORECASE)),
    ("mysql", re.compile(r"mysql|mariadb", re.IGNORECASE)),
    ("redis", re.compile(r"redis|valkey", re.IGNORECASE)),
)


class Meaning(StrEnum):
    """What the value of a name is."""

    PASSWORD = "password"  # noqa: S105 # a meaning
    LOGIN = "login"
    HOST = "host"
    PORT = "port"
    DATABASE = "database"
    URL = "url"
    OTHER = "other"


@lru_cache(maxsize=16384)
def meaning(name: str) -> tuple[Meaning, str]:
    """Return the meaning of a name and its stem: `DB_PASSWORD` and `dbUser` have the stem `db`."""
    if len(name) > _LONGEST:
        return Meaning.OTHER, ""
    words = [word.lower() for word in _WORDS.findall(name)]
    kept = list(words)
    while len(kept) > 1 and (kept[-1] in _TAILS or kept[-1].isdecimal()):
        _ = kept.pop()
    tail = words[len(kept) :]
    if not kept:
        return Meaning.OTHER, ""
    last = kept[-1]
    found, system = _of_word(last, tuple(kept[-2:]))
    if found is Meaning.PASSWORD and not _ABOUT.isdisjoint(words):
        return Meaning.OTHER, ""
    if found is Meaning.OTHER:
        if len(kept) > 1 and last == "name" and kept[-2] in _LOGIN:
            return Meaning.LOGIN, " ".join(kept[:-2] + tail)
        if len(kept) > 1 and last == "name" and kept[-2] in {*_SYSTEMS, "database"}:
            return Meaning.DATABASE, " ".join(kept[:-1] + tail)
        if len(kept) > 1 and last == "string" and kept[-2] in {"connection", "conn"}:
            return Meaning.URL, " ".join(kept[:-2] + tail)
        if len(kept) > 1 and last == "id" and kept[-2] == "user":
            return Meaning.LOGIN, " ".join(kept[:-2] + tail)
        return Meaning.OTHER, ""
    return found, " ".join([*kept[:-1], *([system] if system else []), *tail])


def is_password(name: str) -> bool:
    """Return whether the value of this name is a password."""
    return meaning(name)[0] is Meaning.PASSWORD


def engine_of(*texts: str) -> str | None:
    """Return the engine that names or a URL's scheme point to."""
    for text in texts:
        for engine, pattern in _ENGINES:
            if pattern.search(text):
                return engine
    return None


def _of_word(word: str, pair: tuple[str, ...]) -> tuple[Meaning, str]:
    if word in _PASSWORD or pair in _PAIRS:
        return Meaning.PASSWORD, ""
    for end in _PASSWORD_ENDS:
        if word.endswith(end):
            return Meaning.PASSWORD, word[: -len(end)]
    if word in _SHORT_ENDS:
        return Meaning.PASSWORD, word[:-4]
    if word in _GLUED:
        kind, system = _GLUED[word]
        return Meaning(kind), system
    for words, kind in (
        (_LOGIN, Meaning.LOGIN),
        (_HOST, Meaning.HOST),
        (_DATABASE, Meaning.DATABASE),
        (_URL, Meaning.URL),
        ({"port"}, Meaning.PORT),
    ):
        if word in words:
            return kind, ""
    return Meaning.OTHER, ""
