"""Values of managed secrets, searched in every usual spelling. They stay in memory."""

from __future__ import annotations

import html
import json
import shlex
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

from rotator.core.errors import UsageError
from rotator.find.model import Account, Candidate, Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rotator.core.secret import Secret

# Shorter values appear in every text by chance.
SHORTEST: Final = 6
_BASE64_GROUP: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVersion:
    """A version of a managed secret that its backend still holds. `version`: current, previous or an id."""

    secret: str
    version: str
    value: Secret
    account: Account
    is_current: bool = False

    @property
    def name(self) -> str:
        """The secret and the version."""
        return f"{self.secret} ({self.version})"


class KnownValues:
    """The values of all kept versions as one automaton: a text is read once, however many there are."""

    def __init__(self, versions: Iterable[KeptVersion]) -> None:
        """Raises `UsageError` where the extra `find` is not installed."""
        try:
            import ahocorasick  # noqa: PLC0415 # an extra
        except ModuleNotFoundError as error:
            raise UsageError(
                "this needs a package that is not installed: pyahocorasick.",
                hint="pip install 'credential-rotator[find]'",
            ) from error

        self._automaton: Any = ahocorasick.Automaton()
        self.versions: int = 0
        # Too short to be searched: secret and version.
        self.short: list[tuple[str, str]] = []
        for version in versions:
            value = version.value.reveal()
            if len(value) < SHORTEST:
                self.short.append((version.secret, version.version))
                continue
            self.versions += 1
            for spelling, name in spellings(value).items():
                text = spelling.decode("latin-1")
                if text not in self._automaton:
                    self._automaton.add_word(text, (version, name, len(text)))
        if self.versions:
            self._automaton.make_automaton()

    def search(self, file: str, content: bytes, commit: str | None) -> Iterator[Candidate]:
        """Yield each place where a value appears, by its longest spelling."""
        if not self.versions:
            return
        text = content.decode("latin-1")
        found: dict[int, tuple[int, KeptVersion, str]] = {}
        for last, (version, name, length) in self._automaton.iter(text):
            end = last + 1
            begin = end - length
            if begin not in found or found[begin][0] < end:
                found[begin] = end, version, name
        covered, line, line_start = -1, 1, 0
        for begin, (end, version, name) in sorted(found.items()):
            if begin < covered:
                continue
            covered = end
            line += text.count("\n", line_start, begin)
            line_start = max(line_start, text.rfind("\n", line_start, begin) + 1)
            match = Match(
                start=begin,
                end=end,
                value=version.value,
                role=f"{version.version} value of secret {version.secret}, {name}",
                name=version.secret,
                account=version.account,
                form="known",
            )
            yield Candidate(
                file=file,
                line=line,
                column=len(content[line_start:begin].decode(errors="replace")) + 1,
                match=match,
                commit=commit,
                known=version.name,
            )


def spellings(value: str) -> dict[bytes, str]:
    """Return how a value may be written, each with the name of that spelling; the plain one first."""
    found: dict[bytes, str] = {}

    def add(text: str, name: str) -> None:
        _ = found.setdefault(text.encode(errors="surrogatepass"), name)

    add(value, "plain")
    for text in (
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        quote(value, safe="!*'()~"),
    ):
        add(text, "URL-escaped")
        add(_lower_escapes(text), "URL-escaped")
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        add(text, "JSON-escaped")
        add(text.replace("/", "\\/"), "JSON-escaped")
        add(json.dumps(text)[1:-1], "JSON-escaped twice")
    for text in (
        html.escape(value),
        escape(value),
        quoteattr(value)[1:-1],
        html.escape(value, quote=False),
    ):
        add(text, "XML-escaped")
        add(text.replace("&#x27;", "&apos;").replace("&#x27;", "&#39;"), "XML-escaped")
        add(text.replace("&#x27;", "&#39;"), "XML-escaped")
    add(shlex.quote(value).removeprefix("'").removesuffix("'"), "shell-escaped")
    backslashed = "".join(
        one if one.isalnum() or one in "_-.,/:=@%+" else f"\\{one}" for one in value
    )
    add(backslashed, "shell-escaped")
    for marks in ('"\\$`', '"\\', "'\\", ":\\", ":=#!\\ "):
        add("".join(f"\\{one}" if one in marks else one for one in value), "backslash-escaped")
    add(value.replace("'", "''"), "SQL-escaped")
    add(value.replace('"', '""'), "doubled quotes")
    add(value.replace("%", "%%"), "percent-escaped")
    add(value.replace("$", "$$"), "dollar-escaped")
    add(repr(value)[1:-1], "Python-escaped")
    for encoding in ("utf-16-le", "utf-16-be"):
        _ = found.setdefault(value.encode(encoding, "surrogatepass"), "UTF-16")
    for raw, name in (
        (value.encode(errors="surrogatepass"), "base64"),
        (value.encode("utf-16-le", "surrogatepass"), "base64 of UTF-16"),
    ):
        for offset in range(_BASE64_GROUP):
            text = _base64_core(raw, offset)
            if len(text) >= SHORTEST:
                _ = found.setdefault(text, name)
                _ = found.setdefault(text.replace(b"+", b"-").replace(b"/", b"_"), name)
    return found


def _base64_core(raw: bytes, offset: int) -> bytes:
    """Return the characters of the base64 text that depend on nothing but the value.

    `offset`: number of bytes before the value within the group of three that it begins in.
    """
    text = b64encode(b"\0" * offset + raw).rstrip(b"=")
    first = -(-offset * 8 // 6)
    last = (offset + len(raw)) * 8 // 6
    return text[first:last]


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return parts[0] + "".join(f"%{part[:2].lower()}{part[2:]}" for part in parts[1:])
