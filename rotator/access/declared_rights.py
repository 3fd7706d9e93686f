"""Compares the rights that a backend really gives with the readers that the configuration declares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from rotator.core.reads import is_of
from rotator.core.rights import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rotator.config.model import SecretSettings
    from rotator.core.rights import HeldRight, Rights


class ProblemKind(StrEnum):
    """What is wrong."""

    UNDECLARED = "undeclared"
    MISSING = "missing"
    WIDE = "wide"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A right that differs from what is declared. `what`: in words, `remedy`: what to do about it.

    `secrets` is empty for a right that is about none in particular.
    """

    kind: ProblemKind
    backend: str
    identity: str
    secrets: tuple[str, ...]
    what: str
    remedy: str
    place: str = ""
    policy: str = ""
    rule: str = ""
    verbs: tuple[str, ...] = ()


def problems(
    secrets: Iterable[SecretSettings], found: Mapping[str, Rights], excepted: Iterable[str] = ()
) -> list[Problem]:
    """Return what is wrong with the rights on these secrets. `found`: by the name of the backend.

    `excepted`: patterns of identities that are left out, such as administrators'.
    """
    patterns = tuple(excepted)
    chosen = list(secrets)

    def is_left_out(identity: str) -> bool:
        return any(means(one, identity) for one in patterns)

    result: list[Problem] = []
    for backend, rights in found.items():
        by_path = {path: secret for secret in chosen for path in secret.paths(backend)}
        result += _undeclared(backend, rights, by_path, is_left_out)
        result += [
            Problem(
                kind=ProblemKind.WIDE,
                backend=backend,
                identity=one.identity,
                secrets=(),
                what=f"{one.why}{_by(rights.cited, one.policy, one.rule)}",
                remedy=one.remedy,
                place=one.place,
                policy=one.policy,
                rule=one.rule,
            )
            for one in rights.wide
            if not is_left_out(one.identity)
        ]
    return [*result, *_missing(chosen, found)]


def means(pattern: str, identity: str) -> bool:
    """Return whether a declared name means an identity. Both may have `*` for any characters."""
    return is_of(pattern, identity) or ("*" in identity and fnmatchcase(pattern, identity))


def _undeclared(
    backend: str,
    rights: Rights,
    by_path: Mapping[str, SecretSettings],
    is_left_out: Callable[[str], bool],
) -> Iterator[Problem]:
    grouped: dict[tuple[str, str, str, str], tuple[dict[str, None], dict[Verb, None]]] = {}
    for one in rights.held:
        secret = by_path.get(one.path)
        if secret is None or one.identity in rights.own or is_left_out(one.identity):
            continue
        if one.verb is Verb.READ and _declares(secret, one):
            continue
        key = (one.identity, one.place, one.policy, one.rule)
        names, verbs = grouped.setdefault(key, ({}, {}))
        names[secret.name] = None
        verbs[one.verb] = None
    for (identity, place, policy, rule), (names, verbs) in grouped.items():
        only_reads = set(verbs) == {Verb.READ}
        yield Problem(
            kind=ProblemKind.UNDECLARED,
            backend=backend,
            identity=identity,
            secrets=tuple(names),
            what=f"may {_joined([one.value for one in verbs])} {{secrets}}{_by(rights.cited, policy, rule)}",
            remedy="Take the path out of the policy, or declare it under `readers`."
            if only_reads
            else "Take it out of the policy: only rotator needs more than to read.",
            place=place,
            policy=policy,
            rule=rule,
            verbs=tuple(one.value for one in verbs),
        )


def _missing(secrets: Iterable[SecretSettings], found: Mapping[str, Rights]) -> Iterator[Problem]:
    """Yield those who are declared and may read a secret in none of its backends."""
    for secret in secrets:
        backends = [name for name, one in found.items() if secret.paths(name) and one.identities]
        declared = [(one.name, one.identities or (one.name,)) for one in secret.consumers]
        declared += [(one, (one,)) for one in secret.readers]
        for name, patterns in declared if backends else ():
            held = [
                one
                for backend in backends
                for one in found[backend].held
                if one.verb is Verb.READ
                and one.path in secret.paths(backend)
                and any(means(pattern, one.identity) for pattern in patterns)
            ]
            known = [
                one
                for backend in backends
                for one in found[backend].identities
                if any(means(pattern, one) for pattern in patterns)
            ]
            # An identity that is not known may be in what could not be read.
            if held or (not known and any(found[backend].unseen for backend in backends)):
                continue
            yield Problem(
                kind=ProblemKind.MISSING,
                backend=backends[0],
                identity=_joined(known) if known else name,
                secrets=(secret.name,),
                what="is declared for {secrets} and may not read it"
                if known
                else "is declared for {secrets}, and nothing can log in by this name",
                remedy=f"Add what this prints to its policy: rotator policy {backends[0]} {secret.name}"
                " --for consumer"
                if known
                else "Correct `identities` or `readers`, or remove the entry.",
            )


def _declares(secret: SecretSettings, right: HeldRight) -> bool:
    """Return whether a reader is declared. One that stands for many needs a name that means them all."""
    patterns = [
        *(pattern for one in secret.consumers for pattern in one.identities or (one.name,)),
        *secret.readers,
    ]
    return any(is_of(pattern, right.identity) for pattern in patterns)


def _by(cited: tuple[str, str], policy: str, rule: str) -> str:
    parts = [text.format(one) for text, one in zip(cited, (policy, rule), strict=True) if one]
    return f": {', '.join(parts)}" if parts else ""


def _joined(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
