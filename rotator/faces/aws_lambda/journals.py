"""Where a function keeps its journal: a database, or its log with a tag beside each secret."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from rotator.backends.aws import aws_driven
from rotator.core.errors import RotatorError
from rotator.faces.aws_lambda.state_tag import Memory, StateTag
from rotator.faces.aws_lambda.tag_journal import TagJournal
from rotator.journal.log import Head

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from contextlib import AbstractContextManager

    from rotator.backends.aws.aws_driven import AwsDrivenBackend
    from rotator.core.ports import Journal, Log
    from rotator.engine import ManagedSecret
    from rotator.faces.aws_lambda.managed_secret import AwsSecret, Invocation
    from rotator.journal.event_key import EventKey
    from rotator.journal.sql import SqlJournal

BACKEND: Final = "aws"


class Journals(Protocol):
    """What a function knows of its secrets between two invocations."""

    # Whether a foreign value that replaced the published one can be adopted in its rotation.
    adopts_edits: bool

    def memory(self, arn: str, tags: Mapping[str, str]) -> Memory:
        """Return what is known of the last rotation of a secret with these tags."""
        ...

    def to_sweep(self, function: str) -> Iterable[str]:
        """Return the secrets that a sweep looks at. `function`: the ARN of the invoked function."""
        ...

    def open_rotation(self, name: str, state: StateTag | None) -> str | None:
        """Return the rotation of a secret that has not ended. `state`: as `memory` has it."""
        ...

    def was_published(self, rotation: str) -> bool:
        """Return whether the journal proves that a rotation was published."""
        ...

    def opened(
        self, known: AwsSecret, secret: ManagedSecret, invocation: Invocation, token: str | None
    ) -> AbstractContextManager[Journal]:
        """Yield the journal for work on a secret. `token`: the rotation at which AWS is, if any."""
        ...

    def close(self) -> None:
        """Give back the connections."""
        ...


class TagJournals:
    """One `TagJournal` for each invocation and secret.

    Between the steps of one rotation a warm process remembers what the tags will say at its end. That
    counts as long as AWS has the tags that this process has seen or written: another process writes them.
    """

    adopts_edits: bool = False

    def __init__(
        self,
        *,
        backend: AwsDrivenBackend,
        log: Log,
        actor: str,
        line: Callable[[str], None],
        key: Callable[[], EventKey | None],
        function: str | None,
    ) -> None:
        """`line` writes a line of the log. `function`: the ARN that rotates, where another sweeps."""
        self._backend: AwsDrivenBackend = backend
        self._log: Log = log
        self._actor: str = actor
        self._line: Callable[[str], None] = line
        self._key: Callable[[], EventKey | None] = key
        self._function: str | None = function
        self._remembered: dict[str, Memory] = {}

    def memory(self, arn: str, tags: Mapping[str, str]) -> Memory:
        """Return what this process remembers; else what the tags say."""
        read = (tags.get(aws_driven.HEAD_TAG), tags.get(aws_driven.STATE_TAG))
        remembered = self._remembered.get(arn)
        if remembered is not None and remembered.tags == read:
            return remembered
        return Memory(tags=read, head=Head.parse(read[0]), state=StateTag.parse(read[1]))

    def to_sweep(self, function: str) -> Iterable[str]:
        """Return the secrets that the function rotates."""
        arn = self._function or function
        arns = self._backend.rotated_by(arn)
        if not arns:
            self._log.warning("nothing to sweep", function=arn)
        return arns

    def open_rotation(self, name: str, state: StateTag | None) -> str | None:  # noqa: ARG002 # the tag is the secret's
        """Return the rotation in the secret's tag."""
        return state.rotation if state is not None and state.is_open else None

    def was_published(self, rotation: str) -> bool:  # noqa: ARG002 # no tag proves it
        """Return False."""
        return False

    @contextmanager
    def opened(
        self, known: AwsSecret, secret: ManagedSecret, invocation: Invocation, token: str | None
    ) -> Generator[Journal]:
        """Yield a journal whose end is kept in the secret's tags, also after an error."""
        journal = TagJournal(
            known,
            secret,
            backend=self._backend,
            invocation=invocation,
            token=token,
            actor=self._actor,
            line=self._line,
            key=self._key(),
        )
        _ = self._remembered.pop(known.arn, None)
        try:
            yield journal
        except BaseException:
            try:
                journal.close()
            except RotatorError as lost:
                self._log.error("journal", secret=known.name, what=lost.what)
            raise
        memory = journal.leave()
        if memory is not None:
            self._remembered[known.arn] = memory

    def close(self) -> None:
        """Do nothing."""


class DatabaseJournals:
    """The journal in a database, for all secrets."""

    adopts_edits: bool = True

    def __init__(self, connect: Callable[[], SqlJournal]) -> None:
        """`connect` opens the journal; called once, at its first use."""
        self._connect: Callable[[], SqlJournal] = connect
        self._journal: SqlJournal | None = None

    def memory(self, arn: str, tags: Mapping[str, str]) -> Memory:  # noqa: ARG002 # the database knows it
        """Return nothing."""
        return Memory()

    def to_sweep(self, function: str) -> Iterable[str]:
        """Return the secrets with an open rotation."""
        journal = self._connected()
        arns: list[str] = []
        for record in journal.secrets():
            if record.open_rotation is None:
                continue
            first: Mapping[str, object] = journal.history(record.open_rotation)[0].data
            path = str(first.get("path"))
            # A journal may be shared with functions of other regions and accounts.
            same = path.split(":")[3:5] == function.split(":")[3:5] or not function
            if first.get("backend") == BACKEND and path.startswith("arn:") and same:
                arns.append(path)
        return arns

    def open_rotation(self, name: str, state: StateTag | None) -> str | None:  # noqa: ARG002 # as above
        """Return the open rotation that the journal knows."""
        opened = self._connected().open_rotation(name)
        return None if opened is None else opened.id

    def was_published(self, rotation: str) -> bool:
        """Return whether the journal has recorded its publish."""
        record = self._connected().rotation(rotation)
        return record is not None and record.published_at is not None

    @contextmanager
    def opened(
        self,
        known: AwsSecret,  # noqa: ARG002 # it is the same journal for all
        secret: ManagedSecret,  # noqa: ARG002 # as above
        invocation: Invocation,  # noqa: ARG002 # as above
        token: str | None,  # noqa: ARG002 # as above
    ) -> Generator[Journal]:
        """Yield the journal, which stays open."""
        yield self._connected()

    def close(self) -> None:
        """Close the connection."""
        if self._journal is not None:
            self._journal.close()

    def _connected(self) -> SqlJournal:
        if self._journal is None:
            self._journal = self._connect()
        return self._journal
