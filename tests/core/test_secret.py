"""A `Secret` leaves its wrapper through `reveal()` and nowhere else."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import json
import logging
import pickle
import pprint
import string
import sys
import threading
import traceback
import weakref
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.core.errors import RotatorError, UsageError
from rotator.core.model import Credential, Event, Kind, Version
from rotator.core.secret import MASK, Secret, scrub
from rotator.testing.fakes import START, step_context

if TYPE_CHECKING:
    from collections.abc import Callable

_VALUE = "correct-horse-battery-staple"

_TEXTS: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": lambda secret: format(secret, ">60"),
    "f-string": lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
    "str.format": lambda secret: "{} {!r} {:<40}".format(secret, secret, secret),  # noqa: UP032 # the old way is a way out too
    "percent": lambda secret: "%s %r %a" % (secret, secret, secret),  # noqa: UP031 # as above
    "template": lambda secret: string.Template("$it").substitute(it=secret),
    "in a list": lambda secret: str([secret]),
    "in a dict": lambda secret: str({"password": secret}),
    "in a tuple": lambda secret: repr((secret,)),
    "pprint": lambda secret: pprint.pformat({"password": secret}),
    "json by default=str": lambda secret: json.dumps({"password": secret}, default=str),
    "json by default=repr": lambda secret: json.dumps({"password": secret}, default=repr),
    "an exception": lambda secret: repr(ValueError(secret)) + str(ValueError(secret)),
    "a copy": lambda secret: repr(copy.copy(secret)),
    "a deep copy": lambda secret: repr(copy.deepcopy([secret])),
    "a credential": lambda secret: repr(Credential(username="app", password=secret)),
    "a version": lambda secret: repr(
        Version(id="1", credential=Credential(username="app", password=secret))
    ),
    "asdict": lambda secret: str(dataclasses.asdict(Credential(username="app", password=secret))),
    "astuple": lambda secret: str(dataclasses.astuple(Credential(username="app", password=secret))),
    "a step context": lambda secret: repr(
        step_context(current=Credential(username="app", password=secret))
    ),
    "a coroutine's repr": lambda secret: repr(asyncio.Future.__repr__) + repr(secret),
}


@pytest.mark.parametrize("way", _TEXTS.values(), ids=_TEXTS.keys())
def test_no_text_of_a_secret_shows_its_value(way: Callable[[Secret], str]):
    """Whatever turns it into text gets stars."""
    shown = way(Secret(_VALUE))
    assert _VALUE not in shown
    assert MASK in shown


def test_reveal_returns_the_value():
    """`reveal()` returns exactly what went in."""
    assert Secret(_VALUE).reveal() == _VALUE


@given(st.text())
def test_a_secret_returns_any_text_unchanged(value: str):
    """Every string survives, and none shows in its repr unless the mask itself is it."""
    secret = Secret(value)
    assert secret.reveal() == value
    assert repr(secret) == "Secret('***')"
    assert f"{secret:>10}" == MASK


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol: int):
    """No pickle protocol takes it, alone or inside a credential."""
    for one in (Secret(_VALUE), Credential(username="app", password=Secret(_VALUE))):
        with pytest.raises(TypeError, match="cannot be pickled") as caught:
            pickle.dumps(one, protocol)
        assert _VALUE not in str(caught.value)


def test_a_secret_cannot_be_written_as_json():
    """Plain JSON refuses it."""
    with pytest.raises(TypeError) as caught:
        json.dumps({"password": Secret(_VALUE)})
    assert _VALUE not in str(caught.value)


def test_a_secret_has_no_attributes_to_walk():
    """`vars` and `__dict__` do not exist, so no serializer finds the value by looking around."""
    with pytest.raises(TypeError):
        vars(Secret(_VALUE))
    assert not hasattr(Secret(_VALUE), "__dict__")


@pytest.mark.parametrize(
    "attempt",
    [
        iter,
        len,
        bytes,
        lambda secret: secret + "x",
        lambda secret: "x" + secret,
        lambda secret: "correct" in secret,
        lambda secret: secret[0],
        lambda secret: secret < Secret("x"),
        lambda secret: sorted([secret, Secret("x")]),
        "".join,
        lambda secret: setattr(secret, "other", 1),
    ],
)
def test_a_secret_does_not_act_as_a_text(attempt: Callable[[Secret], object]):
    """It is not iterated, joined, searched, ordered or added to."""
    with pytest.raises((TypeError, AttributeError)) as caught:
        attempt(Secret(_VALUE))
    assert _VALUE not in str(caught.value)


def test_secrets_are_equal_by_value_and_to_no_plain_text():
    """Comparison is between secrets only."""
    assert Secret(_VALUE) == Secret(_VALUE)
    assert Secret(_VALUE) != Secret("another")
    assert Secret(_VALUE) != _VALUE
    assert _VALUE != Secret(_VALUE)  # noqa: SIM300 # the plain text is asked first


def test_values_beyond_ascii_are_compared_too():
    """Comparing in constant time does not stumble over umlauts."""
    assert Secret("pässwörd") == Secret("pässwörd")
    assert Secret("pässwörd") != Secret("password")


def test_values_that_are_no_text_are_compared_too():
    """Bytes of the environment that no encoding fits do not end in an error that holds them."""
    assert Secret("from-the-env-\udcff") == Secret("from-the-env-\udcff")
    assert Secret("from-the-env-\udcff") != Secret("from-the-env-\udcfe")


def test_the_hash_of_a_secret_is_no_fingerprint_of_its_value():
    """Two secrets of one value hash apart, so a hash shows nothing of the value."""
    first, second = Secret(_VALUE), Secret(_VALUE)
    assert hash(first) != hash(second)
    assert hash(first) != hash(_VALUE)


def test_a_secret_takes_only_a_text():
    """Bytes, None or another secret are refused, and not shown."""
    for wrong in (_VALUE.encode(), None, 7, Secret(_VALUE)):
        with pytest.raises(TypeError) as caught:
            Secret(wrong)  # pyright: ignore[reportArgumentType] # the point of the test
        assert _VALUE not in str(caught.value)


def test_a_log_record_of_a_secret_shows_stars(caplog: pytest.LogCaptureFixture):
    """The standard logging shows neither argument nor exception in the clear."""
    secret = Secret(_VALUE)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("using %s and %r", secret, {"password": secret})
    assert _VALUE not in caplog.text
    assert MASK in caplog.text


def test_a_traceback_of_a_secret_shows_stars():
    """A traceback with locals, as some error trackers take, shows the repr and no more."""

    def fail(password: Secret) -> None:
        raise ValueError(password)

    try:
        fail(Secret(_VALUE))
    except ValueError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert _VALUE not in "".join(line for line in shown.format() if "_VALUE" not in line)
    frames = {name: text for frame in shown.stack for name, text in (frame.locals or {}).items()}
    assert frames["password"] == "Secret('***')"


def test_other_fields_of_a_credential_do_not_show_either():
    """A connection URL beside the password may hold it: `fields` stay out of the repr."""
    fields = {"url": f"postgresql://app:{_VALUE}@db/app"}
    shown = repr(Credential(username="app", password=Secret(_VALUE), fields=fields))
    assert _VALUE not in shown
    assert "app" in shown


def test_an_event_cannot_hold_a_secret():
    """JSON, which every journal writes, refuses it: nothing slips in unnoticed."""
    event = Event(
        secret="app",
        seq=1,
        at=START,
        actor="test",
        fence=1,
        kind=Kind.CHECKED,
        rotation_id=None,
        step=None,
        data={"password": Secret(_VALUE)},  # pyright: ignore[reportArgumentType] # the point
        prev_hash="",
        hash="",
    )
    assert _VALUE not in repr(event)
    with pytest.raises(TypeError):
        json.dumps(dict(event.data))


# -- the second line of defence ------------------------------------------------------------------


def test_a_text_is_scrubbed_of_every_living_secret():
    """What a driver writes into its message comes out with stars."""
    secrets = [Secret("first-password"), Secret("second-password")]
    statement = "ALTER ROLE app PASSWORD 'first-password'; was 'second-password'"
    assert scrub(statement) == f"ALTER ROLE app PASSWORD '{MASK}'; was '{MASK}'"
    assert len(secrets) == 2


def test_the_longest_match_is_scrubbed_first():
    """A secret that begins with another one leaves no tail behind."""
    secrets = [Secret("abcdefgh"), Secret("abcdefghijkl")]
    assert scrub("abcdefghijkl") == MASK
    assert len(secrets) == 2


def test_short_values_are_left_alone():
    """A password of a few letters would shred every text; it is not searched for."""
    secret = Secret("a")
    assert scrub("a banana") == "a banana"
    assert secret == Secret("a")


def test_a_forgotten_secret_is_not_kept_for_scrubbing():
    """The register of living secrets keeps none of them alive."""
    secret = Secret("soon-forgotten")
    gone = weakref.ref(secret)
    del secret
    gc.collect()
    assert gone() is None


def test_scrubbing_bears_secrets_that_come_and_go_in_other_threads():
    """`rotate --parallel` logs in one thread while others read passwords."""
    kept, over = [Secret(f"password-{number}") for number in range(100)], threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            _ = [Secret(f"another-{number}") for number in range(20)]

    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for one in others:
            one.start()
        for _ in range(600):
            assert scrub(f"it was {kept[7].reveal()}") == f"it was {MASK}"
    finally:
        over.set()
        for one in others:
            one.join()
        sys.setswitchinterval(interval)


def test_an_error_scrubs_its_text():
    """Even when a driver's text with a password is put into an error, it does not come out."""
    secret = Secret(_VALUE)
    error = RotatorError(f"server said: bad password '{_VALUE}'", hint=f"not {_VALUE}")
    error.secret = "app"
    for shown in (str(error), error.what, error.hint):
        assert secret.reveal() not in shown
    assert MASK in str(error)


def test_the_arguments_of_an_error_are_scrubbed_too():
    """`args` and the repr, which trackers and `logging` take, are no way out either."""
    secret = Secret(_VALUE)
    error = UsageError(f"server said: {_VALUE}")
    assert secret.reveal() not in repr(error)
    assert secret.reveal() not in str(error.args)
