"""What IAM allows roles and users to do to secrets, as AWS's own simulation decides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions

from rotator.api import HeldRight, Unseen, Verb
from rotator.backends.aws.client import UNREADABLE
from rotator.backends.aws.policy import SIMULATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rotator.backends.aws.client import Client

# AWS decides; the actions that make one right.
ACTIONS: Final = {
    Verb.READ: ("GetSecretValue",),
    Verb.WRITE: ("PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "RotateSecret"),
    Verb.DELETE: ("DeleteSecret",),
}
_SERVICE: Final = "secretsmanager:"
_VERBS: Final = {f"{_SERVICE}{one}": verb for verb, names in ACTIONS.items() for one in names}
# Roles of AWS's services, which nobody can change.
_OF_AWS: Final = "/aws-service-role/"
# One question for each role or user and each secret.
MOST_QUESTIONS: Final = 5_000
_BY_HAND: Final = (
    "aws iam simulate-principal-policy --policy-source-arn ROLE"
    " --action-names secretsmanager:GetSecretValue --resource-arns SECRET"
)


class IdentityPolicies:
    """The answer: rights, who was asked about, and what could not be seen."""

    def __init__(self, client: Client) -> None:
        """Nothing is asked yet."""
        self._client: Client = client
        self._iam: Any = client.service("iam")
        self.held: list[HeldRight] = []
        self.identities: list[str] = []
        self.unseen: list[Unseen] = []

    def read(self, arns: Mapping[str, str]) -> None:
        """Ask for each role and user. `arns`: the secrets by their paths."""
        try:
            names = [*self._listed("list_roles", "Roles"), *self._listed("list_users", "Users")]
            possible = MOST_QUESTIONS // max(1, len(arns))
            for name in names[:possible]:
                for path, arn in arns.items():
                    self._simulate(name, path, arn)
                self.identities.append(name)
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            self._missed(f"IAM refused ({code})", f"Allow {', '.join(SIMULATES)}. Or: {_BY_HAND}")
        except (exceptions.BotoCoreError, *UNREADABLE) as error:
            what = f"IAM did not answer ({type(error).__name__})"
            self._missed(what, f"Check for a route to IAM. Or: {_BY_HAND}")
        else:
            left = len(names) - possible
            if left > 0:
                self._missed(f"{left} roles and users more than are asked about", _BY_HAND)

    def _missed(self, why: str, remedy: str) -> None:
        seen = f" of all but {len(self.identities)} roles and users" if self.identities else ""
        what = f"the policies of IAM{seen}, which give most rights in AWS: {why}"
        self.unseen.append(Unseen(what=what, remedy=remedy))

    def _listed(self, operation: str, key: str) -> Iterator[str]:
        for one in self._pages(operation, key):
            if not str(one["Path"]).startswith(_OF_AWS):
                yield str(one["Arn"])

    def _simulate(self, name: str, path: str, arn: str) -> None:
        given = {"PolicySourceArn": name, "ActionNames": list(_VERBS), "ResourceArns": [arn]}
        found: dict[Verb, str] = {}
        for one in self._pages("simulate_principal_policy", "EvaluationResults", **given):
            if one["EvalDecision"] == "allowed":
                _ = found.setdefault(_VERBS[one["EvalActionName"]], _rule(one))
        self.held += [
            HeldRight(
                identity=name, place="", path=path, verb=verb, policy="policy of IAM", rule=rule
            )
            for verb, rule in found.items()
        ]

    def _pages(self, operation: str, key: str, **given: Any) -> Iterator[Mapping[str, Any]]:
        call, more = getattr(self._iam, operation), dict[str, str]()
        while True:
            with self._client.limit():
                answer = call(**given, **more)
            yield from answer[key]
            if not answer.get("IsTruncated"):
                return
            more = {"Marker": str(answer["Marker"])}


def _rule(result: Mapping[str, Any]) -> str:
    """Return the policies that allow it, by their names."""
    statements: Sequence[Mapping[str, Any]] = result.get("MatchedStatements") or ()
    return ", ".join(dict.fromkeys(str(one.get("SourcePolicyId")) for one in statements))
