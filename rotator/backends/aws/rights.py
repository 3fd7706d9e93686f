"""Who may read, write and delete secrets, by their resource policies and by those of IAM."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, cast

from rotator.api import Denied, HeldRight, Rights, Unseen, WideRight, json_object
from rotator.backends.aws.client import AwsError
from rotator.backends.aws.identity_policies import ACTIONS, IdentityPolicies

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rotator.backends.aws.client import Client

_SERVICE: Final = "secretsmanager:"
_GRANTS: Final = ("PutResourcePolicy", "DeleteResourcePolicy")
_NOTES: Final = (
    "Conditions and Deny statements of resource policies are not considered: a right counts.",
    "Policies of IAM are simulated without the keys of a request, so a right that depends on one does not count.",
    "Roles and users of other accounts are known by resource policies alone.",
    "Who may read a secret in AWS may read its staged value too.",
)


def read(client: Client, paths: Sequence[str]) -> Rights:
    """Return what the resource policies of these secrets, and the policies of IAM, allow."""
    held: list[HeldRight] = []
    wide: list[WideRight] = []
    unseen: list[Unseen] = []
    arns: dict[str, str] = {}
    for path in paths:
        try:
            answer = client.ask("get_resource_policy", path, SecretId=path)
            arns[path], text = str(answer["ARN"]), answer.get("ResourcePolicy")
            statements = _statements(text) if isinstance(text, str) and text else ()
            for number, one in enumerate(statements, start=1):
                _add(one, number, path, held, wide)
        except AwsError:
            # There is no such secret yet.
            continue
        except Denied:
            remedy = "Allow secretsmanager:GetResourcePolicy on it."
            unseen.append(Unseen(what=f"the resource policy of {path}", remedy=remedy))
        except (ValueError, LookupError):
            remedy = f"aws secretsmanager get-resource-policy --secret-id {path}"
            unseen.append(Unseen(what=f"the resource policy of {path}: invalid", remedy=remedy))
    simulated = IdentityPolicies(client)
    simulated.read(arns)
    return Rights(
        held=(*held, *simulated.held),
        wide=tuple(wide),
        unseen=(*simulated.unseen, *unseen),
        identities=tuple(simulated.identities),
        notes=_NOTES,
        cited=("{}", "{}"),
    )


def _add(
    statement: Mapping[str, Any],
    number: int,
    path: str,
    held: list[HeldRight],
    wide: list[WideRight],
) -> None:
    if statement.get("Effect") != "Allow":
        return
    rule = str(statement.get("Sid") or f"statement {number}")
    policy = f"resource policy of {path}"
    for identity in _principals(statement):
        for verb, actions in ACTIONS.items():
            if any(_allows(statement, action) for action in actions):
                held.append(
                    HeldRight(
                        identity=identity,
                        place="",
                        path=path,
                        verb=verb,
                        policy=policy,
                        rule=rule,
                    )
                )
        if identity == "*" or any(_allows(statement, action) for action in _GRANTS):
            why = (
                "stands for everybody"
                if identity == "*"
                else "may change the resource policy, and so give itself any right"
            )
            remedy = "Name single roles and actions: aws secretsmanager put-resource-policy"
            wide.append(
                WideRight(
                    identity=identity, place="", policy=policy, rule=rule, why=why, remedy=remedy
                )
            )


def _principals(statement: Mapping[str, Any]) -> Iterator[str]:
    principal = statement.get("Principal")
    if not isinstance(principal, Mapping):
        # Without one it is `NotPrincipal`: everybody but a few.
        yield str(principal) if principal is not None else "*"
        return
    for named in cast("Mapping[str, object]", principal).values():
        yield from _texts(named)


def _allows(statement: Mapping[str, Any], action: str) -> bool:
    wanted = f"{_SERVICE}{action}".lower()
    named = statement.get("Action")
    if named is None:
        return not any(fnmatchcase(wanted, one.lower()) for one in _texts(statement["NotAction"]))
    return any(fnmatchcase(wanted, one.lower()) for one in _texts(named))


def _statements(text: str) -> list[Mapping[str, Any]]:
    found = json_object(text)["Statement"]
    listed = cast("list[Any]", found) if isinstance(found, list) else [found]
    if not all(isinstance(one, Mapping) for one in listed):
        raise ValueError
    return listed


def _texts(value: object) -> list[str]:
    return (
        [str(one) for one in cast("list[object]", value)]
        if isinstance(value, list)
        else [str(value)]
    )
