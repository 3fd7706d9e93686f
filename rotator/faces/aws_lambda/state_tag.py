"""The last rotation of a secret, in one tag beside it: the memory of a function without a database.

Anyone who may write the secret can set the labels of its versions and invoke AWS's steps. Only this
function may tag it, so the tag is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from rotator.core.model import Kind, Outcome, Step

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rotator.core.model import Event
    from rotator.journal.log import Head

_NOTHING: Final = "-"
_FIELDS: Final = 7
# What the value of a tag may have, in characters.
_MOST: Final = 256


class Phase(Enum):
    """How far the last rotation has got, as far as is known for certain."""

    BEGUN = "begun"
    CREATED = "created"
    VERIFIED = "verified"
    # AWSCURRENT may have been moved, or not.
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTag:
    """The last rotation. `rotation`: the version that it makes current, and so its own id.

    `old`: the version that it replaces; `before` and `earlier`: those before that, of which one may be
    somebody's edit of the next, so that the other login of a pair is among them. Once it has ended, what `rotation`
    names is under our care. `at`: when it was published. `busy_until`: until then somebody may be closing
    the old login.
    """

    rotation: str | None = None
    old: str | None = None
    before: str | None = None
    earlier: str | None = None
    state: Phase = Phase.ENDED
    at: datetime | None = None
    busy_until: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether a rotation has begun and not ended."""
        return self.rotation is not None and self.state is not Phase.ENDED

    @property
    def may_be_published(self) -> bool:
        """Whether what it makes current may be current."""
        return self.state in (Phase.PUBLISHING, Phase.PUBLISHED)

    def after(self, events: Iterable[Event]) -> StateTag:
        """Return what is to be known after these events."""
        found = self
        for event in events:
            found = found._after(event)
        return found

    def _after(self, event: Event) -> StateTag:
        found = self
        match event.kind, event.step:
            case Kind.ADOPTED, _ if (version := str(event.data["version"])) != self.rotation:
                found = StateTag(
                    rotation=version, old=self.rotation, before=self.old, earlier=self.before
                )
            case Kind.REQUESTED, _:
                old = event.data.get("old_version")
                before = (self.rotation, self.old, self.before)
                before = before[1:] if old == self.rotation else before[:2]
                found = StateTag(
                    rotation=event.rotation_id,
                    old=None if old is None else str(old),
                    before=before[0],
                    earlier=before[1],
                    state=Phase.BEGUN,
                )
            case Kind.FINISHED, Step.CREATE:
                found = replace(self, state=Phase.CREATED)
            case Kind.FINISHED, Step.VERIFY:
                found = replace(self, state=Phase.VERIFIED)
            case Kind.STARTED, Step.PUBLISH:
                found = replace(self, state=Phase.PUBLISHING, at=event.at)
            case Kind.FINISHED, Step.PUBLISH:
                found = replace(self, state=Phase.PUBLISHED, at=event.at)
            case Kind.ENDED, _ if event.data.get("outcome") == Outcome.UNDONE.value:
                found = StateTag(rotation=self.old, old=self.before, before=self.earlier)
            case Kind.ENDED, _:
                found = replace(self, state=Phase.ENDED)
            case _:
                pass
        return found

    def text(self) -> str:
        """Return it as a tag holds it: 256 characters at most, of those that tags may have.

        AWS's own ids have 36 characters; where somebody chose longer ones, the earliest is left out.
        """
        named = (self.rotation, self.old, self.before, self.earlier)
        versions = [one or _NOTHING for one in named]
        times = [_seconds(one) for one in (self.at, self.busy_until)]
        told = " ".join([*versions, self.state.value, *times])
        return told if len(told) <= _MOST else replace(self, earlier=None).text()

    @staticmethod
    def parse(text: str | None) -> StateTag | None:
        """Read what `text` returned; None for anything else."""
        said = (text or "").split(" ")
        if len(said) != _FIELDS or said[4] not in {one.value for one in Phase}:
            return None
        rotation, old, before, earlier = (None if one == _NOTHING else one for one in said[:4])
        try:
            at, busy_until = (_moment(one) for one in said[5:])
        except (ValueError, OverflowError, OSError):
            return None
        return StateTag(
            rotation=rotation,
            old=old,
            before=before,
            earlier=earlier,
            state=Phase(said[4]),
            at=at,
            busy_until=busy_until,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a function knows of the last rotation of a secret: from its tags, or beyond them.

    `tags`: the two tags as AWS has them. A warm process that is at a rotation keeps more than they say:
    `head` and `state` as they are after its last step, and the `lines` of events that it has not written.
    `request`: the invocation that wrote the tags, and so the name under which those lines are written.
    """

    tags: tuple[str | None, str | None] = (None, None)
    head: Head | None = None
    state: StateTag | None = None
    lines: tuple[str, ...] = ()
    request: str | None = None


def _seconds(at: datetime | None) -> str:
    return _NOTHING if at is None else f"{at.timestamp():.3f}"


def _moment(text: str) -> datetime | None:
    return None if text == _NOTHING else datetime.fromtimestamp(float(text), UTC)
