"""Whose login changes others on the target: the login itself, or the one in its master's secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rotator.backends.aws import rds
from rotator.core.errors import Conflict, RotatorError, UsageError
from rotator.faces.aws_lambda.secret_json import NO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rotator.backends.aws.aws_driven import AwsDrivenBackend
    from rotator.backends.aws.client import Client
    from rotator.core.model import Credential
    from rotator.faces.aws_lambda.secret_json import Described


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Where changes are made for a secret whose own host is a reader."""

    host: str
    port: object


class Own:
    """The admin of a login that changes its own password: itself, with whichever password works.

    Asked once, it is the first; asked again, since that was refused, the one that the target accepts.
    """

    def __init__(self, candidates: Sequence[Credential]) -> None:
        """`accepts` is set once there is a target to try them on."""
        self._candidates: Sequence[Credential] = candidates
        self._asked: bool = False
        self.accepts: Callable[[Credential], bool] = lambda _one: False

    def __call__(self) -> Credential:
        """Return one."""
        first, *others = self._candidates
        if not self._asked:
            self._asked = True
            return first
        return next((one for one in (*others, first) if self.accepts(one)), first)


class Master:
    """The admin of a secret that names its master's secret."""

    def __init__(self, backend: AwsDrivenBackend, client: Client, about: Described) -> None:
        """Nothing is read yet."""
        self._backend: AwsDrivenBackend = backend
        self._client: Client = client
        self._about: Described = about
        self._read: list[Credential] = []
        # Where it works, if that is another host than the one that the secret names.
        self.writer: Writer | None = None

    def read(self) -> None:
        """Read and compare it before anything begins."""
        self._read = [self._look(again=False)]

    def __call__(self) -> Credential:
        """Return what was read; asked again, since that was refused, what is there then."""
        return self._read.pop() if self._read else self._look(again=True)

    def _look(self, *, again: bool) -> Credential:
        master = self._about.master or ""
        found = self._backend.admin(master, again=again)
        if found is None:
            raise UsageError(
                f"the admin's secret {master} is not there, or has no current value.",
                safety="Nothing was changed.",
                hint="Correct `masterarn` of the secret.",
            )
        self._require_same_place(master, found.credential)
        return found.credential

    def _require_same_place(self, master: str, admin: Credential) -> None:
        """The admin's password goes where its own secret says, as it says, and nowhere else."""
        about, host, port = self._about, admin.fields.get("host"), admin.fields.get("port")
        known = rds.Hosts(writer=str(host) if host else None)
        if not host:
            tags = tags_of(self._backend.describe_admin(master) or {})
            if rds.is_managed(tags):
                known = rds.managed(self._client, tags)
        writer = known.writer or ""
        if about.host.lower() == writer.lower():
            self.writer = None
        else:
            self._require_reader(writer, known.readers)
            self.writer = Writer(host=writer, port=port or about.port)
        if not self.writer and port and about.port and str(port) != str(about.port):
            raise Conflict(
                f"the secret is for port {about.port}, and the admin's secret for {port}.",
                safety="Nothing was sent to it.",
                hint="Correct `port` of the one that is wrong.",
            )
        if about.without_tls and admin.fields.get("ssl") not in NO and host:
            raise Conflict(
                "the secret switches TLS off, and the admin's secret does not.",
                safety="The admin's password was not sent in the clear.",
                hint="Set `ssl: false` in the admin's secret too, or remove it from this one.",
            )

    def _require_reader(self, writer: str, readers: frozenset[str]) -> None:
        """Refuse a host that is no reader of the admin's own, by RDS's word."""
        host, said = self._about.host, "RDS knows it as no reader of that one."
        if host.lower() in {one.lower() for one in readers}:
            return
        if writer:
            try:
                found = rds.writer_of(self._client, host)
            except RotatorError as error:
                said = f"whether it is a reader of that one is not known: {error.what}"
            else:
                if found is not None and found.lower() == writer.lower():
                    return
        raise Conflict(
            f"the secret is for host {host!r}, and the admin's secret for {writer or 'no host at all'}; {said}",
            safety="Nothing was sent to it.",
            hint="Correct `host` or `masterarn` of the secret. An admin's secret without `host` must be one that RDS manages.",
        )


def tags_of(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a secret that DescribeSecret has told of."""
    return {one["Key"]: one["Value"] for one in about.get("Tags", ())}
