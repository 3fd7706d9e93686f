"""The value that `journal.signing_key` names: the signing key, and what is left of those before it.

One value, so that one write replaces it: the private key in PEM; while a successor takes over, both of
them, the older one first; and for each retired key its public half and the key of its events, which
signs nothing.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rotator.core.errors import UsageError
from rotator.core.secret import Secret
from rotator.journal import chain
from rotator.journal.event_key import EventKey

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVATE: Final = "PRIVATE KEY"
_RETIRED: Final = "ROTATOR RETIRED KEY"
_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
# Before a block, as text that readers of PEM skip: a rotation function selects a key by it without the
# library that computes it.
_ID: Final = re.compile(r"^key ([0-9a-f]{16})\s*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """One or two signing keys, the older one first, and the retired ones. `ids`: where they are written."""

    private: tuple[Secret, ...]
    retired: tuple[EventKey, ...] = ()
    ids: tuple[str | None, ...] = ()

    @staticmethod
    def parse(value: Secret) -> KeyRing:
        """Read what `text` wrote, or a private key alone. Raises `UsageError` for a damaged value."""
        text, private, retired, ids = (
            value.reveal(),
            list[Secret](),
            list[EventKey](),
            list[str | None](),
        )
        end = 0
        for block in _BLOCK.finditer(text):
            if block[1] == _RETIRED:
                retired.append(_retired(block[0]))
            else:
                named = _ID.search(text[end : block.start()])
                private.append(Secret(block[0] + "\n"))
                ids.append(named[1] if named else None)
            end = block.end()
        if not private:
            # Whatever it is: who uses it says what is wrong with it.
            return KeyRing(private=(value,), ids=(None,))
        return KeyRing(private=tuple(private), retired=tuple(retired), ids=tuple(ids))

    def text(self) -> Secret:
        """Return the value to be stored."""
        blocks = [
            f"key {chain.key_id(chain.public_key(one))}\n{one.reveal().strip()}\n"
            for one in self.private
        ]
        for key in self.retired:
            raw = base64.b64encode(chain.public_bytes(key.public) + key.raw).decode()
            lines = "\n".join(raw[at : at + 64] for at in range(0, len(raw), 64))
            blocks.append(f"-----BEGIN {_RETIRED}-----\n{lines}\n-----END {_RETIRED}-----\n")
        return Secret("".join(blocks))

    def key(self, id_: str | None) -> EventKey:
        """Return the key with this id; the oldest that is in use where there is no such one."""
        at = 0
        if len(self.private) > 1:
            at = next((at for at, one in enumerate(self._ids()) if one == id_), 0)
        others = (EventKey.derive(one) for one in (*self.private[:at], *self.private[at + 1 :]))
        return EventKey.derive(self.private[at], older=(*self.retired, *others))

    def with_successor(self, successor: Secret) -> KeyRing:
        """Return the ring in which a key is about to follow; the same where one is already."""
        if len(self.private) > 1:
            return self
        return KeyRing(private=(*self.private, successor), retired=self.retired)

    def handed_over(self) -> KeyRing:
        """Return the ring after its newest key has taken over."""
        *before, newest = self.private
        retired = tuple(EventKey.derive(one).retire() for one in before)
        return KeyRing(private=(newest,), retired=(*self.retired, *retired))

    def _ids(self) -> Iterator[str]:
        for one, id_ in zip(self.private, self.ids or [None] * len(self.private), strict=True):
            yield id_ or chain.key_id(chain.public_key(one))


def _retired(block: str) -> EventKey:
    try:
        raw = base64.b64decode("".join(block.splitlines()[1:-1]), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 2 * 32:
        raise UsageError(
            "the journal's signing key holds a damaged block of a retired key.",
            hint="Restore the value that journal.signing_key names from its earlier version.",
            safety="Nothing was done.",
        )
    return EventKey.of_retired(chain.public_pem(raw[:32]), raw[32:])
