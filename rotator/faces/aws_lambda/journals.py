"""Where a function keeps its journal: a database, or its log with a tag beside each secret."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from rotator.core.errors import RotatorError
from rotator.faces.aws_lambda.state_tag import StateTag
from rotator.faces.aws_lambda.tag_journal import TagJournal

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

    def state(self, tag: str | None) -> StateTag | None:
        """Return the state that a tag keeps; None where tags keep none."""
        ...

    def to_sweep(self, function: str) -> Iterable[str]:
        """Return the secrets that a sweep looks at. `function`: the ARN of the invoked function."""
        ...

    def open_rotation(self, known: AwsSecret) -> str | None:
        """Return the rotation of a secret that has not ended."""
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
    """One `TagJournal` for each invocation and secret."""

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

    def state(self, tag: str | None) -> StateTag | None:
        """Read the tag."""
        return StateTag.parse(tag)

    def to_sweep(self, function: str) -> Iterable[str]:
        """Return the secrets that the function rotates."""
        arn = self._function or function
        arns = self._backend.rotated_by(arn)
        if not arns:
            self._log.warning("nothing to sweep", function=arn)
        return arns

    def open_rotation(self, known: AwsSecret) -> str | None:
        """Return the rotation in the secret's tag."""
        return known.state.rotation if known.state is not None and known.state.is_open else None

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
        try:
            yield journal
        except BaseException:
            try:
                journal.close()
            except RotatorError as lost:
                self._log.error("journal", secret=known.name, what=lost.what)
            raise
        journal.close()

    def close(self) -> None:
        """Do nothing."""


class DatabaseJournals:
    """The journal in a database, for all secrets."""

    adopts_edits: bool = True

    def __init__(self, connect: Callable[[], SqlJournal]) -> None:
        """`connect` opens the journal; called once, at its first use."""
        self._connect: Callable[[], SqlJournal] = connect
        self._journal: SqlJournal | None = None

    def state(self, tag: str | None) -> StateTag | None:  # noqa: ARG002 # the database knows it
        """Return None."""
        return None

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

    def open_rotation(self, known: AwsSecret) -> str | None:
        """Return the open rotation that the journal knows."""
        opened = self._connected().open_rotation(known.name)
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
