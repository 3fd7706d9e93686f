"""The contract of a secret backend, as tests: what the engine relies on, whichever backend it is.

A backend proves itself with a file of a few lines:

    class TestMine(BackendSuite):
        plugin = PLUGIN

        @pytest.fixture
        def backend(self):
            return MyBackend(...)
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from rotator.api import (
    Conflict,
    Credential,
    ExaminesBackend,
    KeepsValues,
    OffersNext,
    Secret,
    SecretBackend,
    Severity,
    TellsRotations,
    Version,
    abilities_of_backend,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotator.api import BackendPlugin

# What has broken quoting, encodings and templates elsewhere.
AWKWARD: Final = (
    "' OR 1=1; --",
    'quo"te',
    "back\\slash",
    "100%s {0} ${HOME} $(id) `id`",
    "$$dollar$tag$",
    " leading and trailing ",
    "tab\tand\nnewline",
    "grüße, 鍵, 🗝",
    "e\N{COMBINING ACUTE ACCENT} is not \N{LATIN SMALL LETTER E WITH ACUTE}",
    "null",
    "1e5",
    "x" * 4096,
)
_RACERS: Final = 8
_NO_BACKEND: Final = """\
{name} does not say what the backend under test is. Give it

    @pytest.fixture
    def backend(self):
        return MyBackend(...)"""


class BackendSuite:
    """Every test works at a path of its own, so that one store can serve them all.

    `plugin` is what the entry point names: what it declares is compared with what is opened.
    """

    plugin: ClassVar[BackendPlugin | None] = None

    @pytest.fixture
    def backend(self) -> SecretBackend:
        """Return the backend under test: each suite overrides it."""
        pytest.fail(_NO_BACKEND.format(name=type(self).__name__), pytrace=False)

    @pytest.fixture
    def another(self, backend: SecretBackend) -> SecretBackend:
        """Return a second client of the same store, as another process would have."""
        return backend

    @pytest.fixture
    def path(self) -> str:
        """Return a path where nothing is."""
        return f"suite/{uuid.uuid4().hex}"

    # -- staging -------------------------------------------------------------------------------

    def test_nothing_is_there_at_first(self, backend: SecretBackend, path: str) -> None:
        """An unknown path, version or rotation is None, not an error."""
        assert backend.current(path) is None
        assert backend.read(path, "1") is None
        assert backend.staged(path, "r1") is None

    def test_what_is_staged_is_unseen_by_consumers(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """Only its own rotation finds it, and another client does too."""
        assert _same(backend.stage(path, "r1", credential("a")), credential("a"))
        assert backend.current(path) is None
        assert _same(another.staged(path, "r1"), credential("a"))
        assert backend.staged(path, "r2") is None
        assert backend.staged(f"{path}-beside", "r1") is None

    def test_the_first_value_staged_wins(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """A second engine, or a second try, gets what is stored."""
        _ = backend.stage(path, "r1", credential("a"))
        assert _same(another.stage(path, "r1", credential("b")), credential("a"))
        assert _same(backend.staged(path, "r1"), credential("a"))

    def test_staging_leaves_what_is_published_alone(
        self, backend: SecretBackend, path: str
    ) -> None:
        """The current version stays current, under its id."""
        version = publish(backend, path, "r1", "a")
        _ = backend.stage(path, "r2", credential("b"))
        assert _current(backend, path).id == version

    def test_staging_anew_after_publishing_leaves_no_orphan(
        self, backend: SecretBackend, path: str
    ) -> None:
        """A very late second try gets what was published."""
        _ = publish(backend, path, "r1", "a")
        assert _same(backend.stage(path, "r1", credential("b")), credential("a"))
        assert backend.staged(path, "r1") is None

    def test_discarding_forgets_the_staged_value_and_nothing_else(
        self, backend: SecretBackend, path: str
    ) -> None:
        """Twice is once, nothing there is success, and what is published stays."""
        version = publish(backend, path, "r1", "a")
        _ = backend.stage(path, "r2", credential("b"))
        for rotation in ("r2", "r2", "r1", "never"):
            backend.discard(path, rotation)
        assert backend.staged(path, "r2") is None
        assert _current(backend, path).id == version

    # -- publishing ----------------------------------------------------------------------------

    def test_publishing_makes_it_current_and_empties_the_stage(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """Consumers read it under its version, with the rotation that wrote it."""
        version = publish(backend, path, "r1", "a")
        current = _current(another, path)
        assert (current.id, current.rotation_id) == (version, "r1")
        assert _same(current.credential, credential("a"))
        read = backend.read(path, version)
        assert read is not None
        assert (read.id, read.rotation_id) == (version, "r1")
        assert backend.staged(path, "r1") is None

    def test_each_version_has_an_id_of_its_own(self, backend: SecretBackend, path: str) -> None:
        """And the one before can still be read by it: until revoke the engine needs it."""
        first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
        assert first != second
        before = backend.read(path, first)
        assert before is not None
        assert _same(before.credential, credential("a"))

    def test_publishing_twice_is_publishing_once(self, backend: SecretBackend, path: str) -> None:
        """Whatever is expected the second time: it finds what it did."""
        first = publish(backend, path, "r1", "a")
        version = publish(backend, path, "r2", "b")
        for expect in (first, version, None):
            assert backend.publish(path, "r2", expect=expect) == version
        assert _current(backend, path).id == version

    def test_publishing_over_somebody_else_is_refused(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """Nothing is overwritten, and the staged value stays."""
        expected = publish(backend, path, "r1", "a")
        _ = backend.stage(path, "r2", credential("b"))
        theirs = publish(another, path, "r3", "theirs")
        for expect in (expected, None):
            with pytest.raises(Conflict):
                _ = backend.publish(path, "r2", expect=expect)
        assert _current(backend, path).id == theirs
        assert _same(backend.staged(path, "r2"), credential("b"))

    def test_publishing_the_first_one_requires_that_there_is_none(
        self, backend: SecretBackend, path: str
    ) -> None:
        """A version that is expected and not there is a conflict too."""
        _ = backend.stage(path, "r1", credential("a"))
        with pytest.raises(Conflict):
            _ = backend.publish(path, "r1", expect="7")
        assert backend.current(path) is None

    def test_publishing_what_is_not_staged_is_refused(
        self, backend: SecretBackend, path: str
    ) -> None:
        """Never staged, or discarded since."""
        with pytest.raises(Conflict):
            _ = backend.publish(path, "r1", expect=None)
        _ = backend.stage(path, "r2", credential("b"))
        backend.discard(path, "r2")
        with pytest.raises(Conflict):
            _ = backend.publish(path, "r2", expect=None)
        assert backend.current(path) is None

    def test_what_was_superseded_is_not_published_again(
        self, backend: SecretBackend, path: str
    ) -> None:
        """A late repeat of an older rotation does not bring its value back."""
        _ = publish(backend, path, "r1", "a")
        version = publish(backend, path, "r2", "b")
        with pytest.raises(Conflict):
            _ = backend.publish(path, "r1", expect=None)
        assert _current(backend, path).id == version

    # -- restoring -----------------------------------------------------------------------------

    def test_restoring_makes_the_earlier_value_current_again(
        self, backend: SecretBackend, path: str
    ) -> None:
        """And says under which version it now is."""
        first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
        version = backend.restore(path, expect=second, to=first)
        current = _current(backend, path)
        assert current.id == version
        assert _same(current.credential, credential("a"))
        replaced = backend.read(path, second)
        assert replaced is not None
        assert _same(replaced.credential, credential("b"))

    def test_restoring_twice_is_restoring_once(self, backend: SecretBackend, path: str) -> None:
        """It finds the version that it made."""
        first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
        version = backend.restore(path, expect=second, to=first)
        assert backend.restore(path, expect=second, to=first) == version
        assert _current(backend, path).id == version

    def test_restoring_over_somebody_else_is_refused(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """What was written since stays."""
        first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
        theirs = publish(another, path, "r3", "theirs")
        with pytest.raises(Conflict):
            _ = backend.restore(path, expect=second, to=first)
        assert _current(backend, path).id == theirs

    def test_restoring_what_was_never_published_is_refused(
        self, backend: SecretBackend, path: str
    ) -> None:
        """A version that does not exist, however it is spelled."""
        version = publish(backend, path, "r1", "a")
        for unknown in ("999", "0", "-1", "²", "9" * 40, "not a version"):
            with pytest.raises(Conflict):
                _ = backend.restore(path, expect=version, to=unknown)
        assert _current(backend, path).id == version

    def test_a_restored_value_can_be_rotated_again(self, backend: SecretBackend, path: str) -> None:
        """The next rotation publishes over it."""
        first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
        _ = backend.restore(path, expect=second, to=first)
        version = publish(backend, path, "r3", "c")
        current = _current(backend, path)
        assert (current.id, current.rotation_id) == (version, "r3")
        assert _same(current.credential, credential("c"))

    # -- what is kept --------------------------------------------------------------------------

    @pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
    def test_values_come_back_as_they_were(
        self, backend: SecretBackend, path: str, text: str
    ) -> None:
        """In login, password and fields, character by character."""
        new = Credential(username=text, password=Secret(text), fields={"note": text})
        _ = backend.stage(path, "r1", new)
        assert _same(backend.staged(path, "r1"), new)
        _ = backend.publish(path, "r1", expect=None)
        assert _same(_current(backend, path).credential, new)

    def test_fields_it_does_not_know_are_kept(self, backend: SecretBackend, path: str) -> None:
        """With their types: numbers, truth values, null, lists and mappings."""
        fields = {"host": "db", "port": 5432, "tls": True, "none": None, "more": [1, {"a": "b"}]}
        new = Credential(username="a", password=Secret("p"), fields=fields)
        _ = backend.stage(path, "r1", new)
        _ = backend.publish(path, "r1", expect=None)
        assert _current(backend, path).credential.fields == fields

    def test_two_secrets_do_not_know_each_other(self, backend: SecretBackend, path: str) -> None:
        """Also where one path begins with the other, and under one rotation id."""
        _ = publish(backend, path, "r1", "a")
        beside = f"{path}/beside"
        assert backend.current(beside) is None
        _ = publish(backend, beside, "r1", "b")
        assert _same(_current(backend, path).credential, credential("a"))

    def test_no_text_of_it_holds_a_secret(self, backend: SecretBackend, path: str) -> None:
        """Neither what it returns nor what it raises, written out for a person."""
        _ = publish(backend, path, "r1", "a")
        _ = backend.stage(path, "r2", credential("b"))
        with pytest.raises(Conflict) as raised:
            _ = backend.publish(path, "r2", expect=None)
        said = [repr(backend), repr(backend.current(path)), repr(backend.staged(path, "r2"))]
        said += [str(raised.value), repr(raised.value), raised.value.hint]
        for name in ("a", "b"):
            password = credential(name).password.reveal()
            assert not any(password in text for text in said)

    # -- several at once -----------------------------------------------------------------------

    def test_of_many_that_stage_for_one_rotation_all_get_one_value(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """The first write wins, and everybody hears which that was."""
        clients = (backend, another)
        values = _race(
            lambda n: clients[n % 2].stage(path, "r1", credential(f"racer-{n}")).username
        )
        assert len(set(values)) == 1
        assert _same(backend.staged(path, "r1"), credential(str(values[0])))

    def test_of_many_that_publish_at_once_one_wins(
        self, backend: SecretBackend, another: SecretBackend, path: str
    ) -> None:
        """The others are told; the winner's value is what consumers read."""
        clients = (backend, another)
        expect = publish(backend, path, "r0", "before")
        for n in range(_RACERS):
            _ = backend.stage(path, f"racer-{n}", credential(f"racer-{n}"))

        def attempt(n: int) -> str | None:
            try:
                return clients[n % 2].publish(path, f"racer-{n}", expect=expect)
            except Conflict:
                return None

        results = _race(attempt)
        won = [n for n, version in enumerate(results) if version is not None]
        assert len(won) == 1
        current = _current(backend, path)
        assert (current.id, current.rotation_id) == (results[won[0]], f"racer-{won[0]}")
        assert _same(current.credential, credential(f"racer-{won[0]}"))

    # -- abilities, where it has them ----------------------------------------------------------

    def test_it_can_do_what_its_plugin_declares(self, backend: SecretBackend) -> None:
        """No less, and no more: `rotator plugins` tells people so."""
        if self.plugin is None:
            pytest.skip("the suite names no `plugin`")
        assert set(self.plugin.info.abilities) == set(abilities_of_backend(backend))

    def test_what_is_offered_is_the_version_that_publish_makes(
        self, backend: SecretBackend, path: str
    ) -> None:
        """Consumers that read it know under which id it is published; twice is once."""
        if not isinstance(backend, OffersNext):
            pytest.skip("it does not offer the next version")
        expect = publish(backend, path, "r1", "a")
        assert backend.next(path) is None
        with pytest.raises(Conflict):
            backend.offer(path, "r2", expect=expect)
        _ = backend.stage(path, "r2", credential("b"))
        for _ in range(2):
            backend.offer(path, "r2", expect=expect)
        following = backend.next(path)
        assert following is not None
        assert following.rotation_id == "r2"
        assert _same(following.credential, credential("b"))
        assert _current(backend, path).id == expect
        if isinstance(backend, TellsRotations):
            assert backend.rotation_ids(path) == {"r1", "r2"}
        assert backend.publish(path, "r2", expect=expect) == following.version
        for _ in range(2):
            backend.retract(path, "r2")
        assert backend.next(path) is None
        assert _same(_current(backend, path).credential, credential("b"))

    def test_an_undone_offer_leaves_nothing_and_is_replaced_by_the_next(
        self, backend: SecretBackend, path: str
    ) -> None:
        """Another rotation's is untouched; what a crash left behind is no obstacle."""
        if not isinstance(backend, OffersNext):
            pytest.skip("it does not offer the next version")
        expect = publish(backend, path, "r1", "a")
        _ = backend.stage(path, "r2", credential("b"))
        backend.offer(path, "r2", expect=expect)
        backend.retract(path, "another")
        assert backend.next(path) is not None
        # Its process died before it could be retracted.
        backend.discard(path, "r2")
        _ = backend.stage(path, "r3", credential("c"))
        backend.offer(path, "r3", expect=expect)
        following = backend.next(path)
        assert following is not None
        assert (following.rotation_id, following.credential.username) == ("r3", "c")
        backend.retract(path, "r3")
        backend.discard(path, "r3")
        assert backend.next(path) is None
        assert _current(backend, path).id == expect

    def test_single_values_are_kept_beside(self, backend: SecretBackend, path: str) -> None:
        """Signing keys and anchors: the last one written is what is read."""
        if not isinstance(backend, KeepsValues):
            pytest.skip("it keeps no single values")
        assert backend.get_value(path, "signing") is None
        for text in ("first", "second", *AWKWARD):
            backend.put_value(path, "signing", Secret(text))
            assert backend.get_value(path, "signing") == Secret(text)
        backend.put_value(path, "anchor", Secret("7"))
        assert backend.get_value(path, "signing") == Secret(AWKWARD[-1])

    def test_it_tells_which_rotations_it_has_seen(self, backend: SecretBackend, path: str) -> None:
        """Those whose values are held, pending ones too."""
        if not isinstance(backend, TellsRotations):
            pytest.skip("it does not tell rotations")
        assert backend.rotation_ids(path) == set()
        _ = publish(backend, path, "r1", "a")
        _ = publish(backend, path, "r2", "b")
        _ = backend.stage(path, "r3", credential("c"))
        assert backend.rotation_ids(path) == {"r1", "r2", "r3"}

    def test_examining_finds_nothing_wrong_and_changes_nothing(
        self, backend: SecretBackend, path: str
    ) -> None:
        """Where all is well, no finding is an error, and consumers read what they read."""
        if not isinstance(backend, ExaminesBackend):
            pytest.skip("it does not examine itself")
        version = publish(backend, path, "r1", "a")
        findings = backend.examine({path: timedelta(days=30)})
        assert findings
        assert [one for one in findings if one.severity is Severity.ERROR] == []
        assert _current(backend, path).id == version


def credential(name: str) -> Credential:
    """Return a credential that can be told by its name."""
    return Credential(username=name, password=Secret(f"password-of-{name}"), fields={})


def publish(backend: SecretBackend, path: str, rotation_id: str, name: str) -> str:
    """Stage and publish a credential over whatever is current; return its version."""
    current = backend.current(path)
    _ = backend.stage(path, rotation_id, credential(name))
    return backend.publish(path, rotation_id, expect=current.id if current else None)


def _current(backend: SecretBackend, path: str) -> Version:
    current = backend.current(path)
    assert current is not None
    return current


def _same(one: Credential | None, other: Credential) -> bool:
    return (
        one is not None
        and one.username == other.username
        and one.password == other.password
        and dict(one.fields) == dict(other.fields)
    )


def _race(do: Callable[[int], str | None]) -> list[str | None]:
    start = Barrier(_RACERS)

    def run(n: int) -> str | None:
        _ = start.wait()
        return do(n)

    with ThreadPoolExecutor(_RACERS) as pool:
        return list(pool.map(run, range(_RACERS)))
