"""What a secret says of itself, in AWS's JSON: where it logs in, how it is rotated, and by whom."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.core.errors import Conflict, UsageError
from rotator.plugins import near, rotation_plugin_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rotator.core.contracts.plugin import PluginInfo, RotationPlugin
    from rotator.core.model import Credential, Version

# What AWS's templates append to the name of the second of two logins.
_CLONE: Final = "_clone"
# Our own key in the secret's JSON: {"strategy": "...", "options": {...}}.
OURS: Final = "rotator"
# The same, where only operators write: tags of the secret, and the function's environment.
STRATEGY_TAG: Final = "rotator-strategy"
OPTION_TAG: Final = "rotator-option-"
OPTIONS_VARIABLE: Final = "ROTATOR_OPTIONS"
# What the value may say, since it gives no login more than it has: who may write the value is often the
# application itself. What a new login is called and must be able to do, and where it is tried.
HARMLESS: Final = frozenset({"login_dbname", "prefix", "privileges", "probes"})
_YES: Final = (True, "true", "True", "TRUE")
NO: Final = (False, "false", "False", "FALSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A secret as its JSON describes it. `master`: ARN of the secret with the admin's login."""

    plugin: RotationPlugin
    host: str
    port: object
    without_tls: bool
    strategy: str
    target_options: object
    secret_options: object
    master: str | None
    pair: tuple[str, ...]

    def at(self, host: str, port: object) -> Described:
        """Return the same for another host, which takes the writes of this one."""
        options: Any = self.target_options
        given: dict[str, Any] = {"host": host}
        if port not in (None, ""):
            given["port"] = _number(port)
        return dataclasses.replace(
            self, host=host, target_options=dataclasses.replace(options, **given)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """What operators say of a secret: by the function's environment, and by the secret's tags."""

    strategy: str | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


def described(current: Version, operators: Operators, sslrootcert: Path | None) -> Described:
    """Read the JSON of what is current. Raises `UsageError` that names the key."""
    fields = current.credential.fields
    engine, host = fields.get("engine"), fields.get("host")
    if not isinstance(engine, str) or not engine:
        raise _wrong("engine", "names the kind of server", "postgres")
    if not isinstance(host, str) or not host:
        raise _wrong("host", "names the host of the server", "db.example.org")
    plugin = rotation_plugin_for(engine)
    if plugin is None:
        raise UsageError(
            f"there is no plugin for the engine {engine!r}.",
            safety="Nothing was changed.",
            hint="Known: postgres, aurora-postgresql, mysql, aurora-mysql, mariadb. A plugin of your own is added to the function's package (`rotator docs plugin-api`).",
        )
    master = fields.get("masterarn")
    ours = fields.get(OURS)
    given = cast("Mapping[str, object]", ours) if isinstance(ours, dict) else {}
    strategy = operators.tags.get(STRATEGY_TAG) or given.get("strategy") or operators.strategy
    if strategy is None:
        strategy = "alternating-users" if master else "single-user"
    known = [one.name for one in plugin.info.strategies]
    if strategy not in known:
        raise UsageError(
            f"{plugin.info.name} has no strategy {strategy!r}.",
            safety="Nothing was changed.",
            hint=f"{near(str(strategy), known)} It has: {', '.join(known)}.".strip(),
        )
    if not master and strategy != "single-user":
        raise UsageError(
            f"strategy {strategy} needs an admin's login, and the secret names none.",
            safety="Nothing was changed.",
            hint="Add the key `masterarn` to the secret: the ARN of the secret that holds it.",
        )
    base = current.credential.username.removesuffix(_CLONE)
    extra = given.get("options")
    options = _secret_options(
        plugin.info,
        str(strategy),
        current.credential.username,
        (base, base + _CLONE),
        operators,
        cast("Mapping[str, object]", extra) if isinstance(extra, dict) else {},
    )
    return Described(
        plugin=plugin,
        host=host,
        port=fields.get("port"),
        without_tls=fields.get("ssl") in NO,
        strategy=str(strategy),
        target_options=_target_options(plugin.info, fields, sslrootcert),
        secret_options=options,
        master=str(master) if master else None,
        pair=tuple(getattr(options, "users", ())),
    )


def check_pending(about: Described, current: Credential, pending: Credential) -> None:
    """Refuse a pending value that leads elsewhere: whoever wrote it would be sent a password.

    That is AWS's rule against the confused deputy: the same host, and a login of the same family.
    """
    old, new = current.fields, pending.fields
    other = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if other:
        raise Conflict(
            f"what is pending has another {', '.join(map(repr, other))} than what is current.",
            safety="Nothing was sent to it.",
            hint="Take AWSPENDING from that version (update-secret-version-stage), and rotate again.",
        )
    family = (
        {current.username, *about.pair} if about.strategy == "alternating-users" else set[str]()
    )
    if about.strategy in ("single-user", "dual-password"):
        family = {current.username}
    if family and pending.username not in family:
        raise Conflict(
            f"what is pending is for login {pending.username!r}, and current is {current.username!r}.",
            safety="Nothing was changed.",
            hint="Take AWSPENDING from that version (update-secret-version-stage), and rotate again.",
        )


def _target_options(
    info: PluginInfo, fields: Mapping[str, object], sslrootcert: Path | None
) -> object:
    names = {one.name for one in dataclasses.fields(info.target_options)}
    given: dict[str, object] = {"host": fields["host"]}
    port = fields.get("port")
    if port not in (None, ""):
        given["port"] = _number(port)
    if fields.get("dbname"):
        given["dbname"] = str(fields["dbname"])
    ssl = fields.get("ssl")
    # AWS's templates take everything else for "try TLS, then do without". Here only the secret's
    # own word turns it off; without a word the plugin decides, and that is verified TLS.
    if ssl in _YES:
        given["sslmode"] = "verify-full"
    elif ssl in NO:
        given["sslmode"] = "disable"
    elif ssl is not None:
        raise _wrong("ssl", "is true or false", "true")
    if sslrootcert is not None:
        given["sslrootcert"] = sslrootcert
    return _made(info.target_options, {key: one for key, one in given.items() if key in names})


def _secret_options(
    info: PluginInfo,
    strategy: str,
    username: str,
    pair: tuple[str, str],
    operators: Operators,
    said: Mapping[str, object],
) -> object:
    """`said`: what the secret's value says, which counts where it can do no harm."""
    known = {one.name: one for one in dataclasses.fields(info.secret_options)}
    given: dict[str, Any] = {}
    if strategy == "alternating-users":
        # As AWS's templates have it: the second is a member of the first, which owns everything.
        given = {"users": pair, "group": pair[0]}
    elif strategy in ("single-user", "dual-password"):
        given = {"username": username}
    theirs = _operators_options(info, operators)
    for name, value in said.items():
        _require_known(f"the key {OURS!r} of the secret", name, info)
        if name in HARMLESS:
            given[name] = _as_option(value)
        elif theirs.get(name) != _as_option(value):
            tag = OPTION_TAG + name.replace("_", "-")
            raise UsageError(
                f"the key {OURS!r} of the secret sets the option {name!r}, by which anyone who writes the value could get other rights.",
                safety="Nothing was changed.",
                hint=f"Set it where only operators write, and take it out of the value: the secret's tag {tag}, or {OPTIONS_VARIABLE} of the function for all its secrets.",
            )
    given |= theirs
    return _made(info.secret_options, {key: one for key, one in given.items() if key in known})


def _made(kind: type[Any], given: Mapping[str, Any]) -> object:
    """Return options; they come from JSON, where a value may be of any kind."""
    try:
        return kind(**given)
    except (TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            f"an option of the secret is of another kind than it must be: {', '.join(given)}.",
            safety="Nothing was changed.",
            hint=f"Look at the secret's keys, the key {OURS!r} among them, and at its tags.",
        ) from error


def _operators_options(info: PluginInfo, operators: Operators) -> dict[str, object]:
    """Return the options that operators have set; a secret's tags go before the environment."""
    found: dict[str, object] = {}
    for name, value in operators.options.items():
        _require_known(OPTIONS_VARIABLE, name, info)
        found[name] = _as_option(value)
    for tag, text in operators.tags.items():
        if tag.startswith(OPTION_TAG):
            name = tag.removeprefix(OPTION_TAG).replace("-", "_")
            known = _require_known(f"the tag {tag!r} of the secret", name, info)
            found[name] = _from_tag(tag, text, known)
    return found


def _require_known(place: str, name: str, info: PluginInfo) -> dataclasses.Field[Any]:
    known = {one.name: one for one in dataclasses.fields(info.secret_options)}
    if name not in known:
        raise UsageError(
            f"{place} has an option {name!r}, which {info.name} does not know.",
            safety="Nothing was changed.",
            hint=f"{near(name, known)} Known: {', '.join(known)}.".strip(),
        )
    return known[name]


def _as_option(value: object) -> object:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _from_tag(tag: str, text: str, option: dataclasses.Field[Any]) -> object:
    """Read a tag's text as what an option is: a list is separated by blanks."""
    kind = str(option.type)
    if kind.startswith("tuple"):
        return tuple(text.split())
    if kind.startswith("bool"):
        return text in _YES
    if kind.startswith("int"):
        try:
            return int(text)
        except ValueError:
            raise UsageError(
                f"the tag {tag!r} of the secret is no number: {text!r}.",
                safety="Nothing was changed.",
            ) from None
    return text


def _number(port: object) -> int:
    try:
        return int(cast("str", port))
    except (TypeError, ValueError):
        raise _wrong("port", "is a number", "5432") from None


def _wrong(key: str, meaning: str, example: str) -> UsageError:
    return UsageError(
        f"the secret's key {key!r} {meaning}, and it is missing or is something else.",
        safety="Nothing was changed.",
        hint=f"Such as {example!r}; see AWS's JSON structure of database secrets.",
    )
