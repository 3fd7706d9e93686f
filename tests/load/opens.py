"""Readers open what a sink keeps up to date, again and again, while it changes: make opens.

    make opens OPENS=1000000 CHANGES=1000

A reader must never see a missing file, half a file, or a user and a password of different versions.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotator.agent.settings import FileOptions, FormatOptions, SinkOptions
from rotator.agent.sinks import Sink
from rotator.client import Login
from rotator.core.secret import Secret
from tests.load.programs import end_in_order, end_with_parent, scratch_folder

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized
    from multiprocessing.synchronize import Event

_FILLER: Final = "x" * 4000
_READERS: Final = 2
# So many opens are counted at once.
_COUNTED: Final = 50
_SHARED: list[tuple[Event, Synchronized[int]]] = []


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where no reader saw anything but whole values of one version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opens", type=int, default=1_000_000, help="in all, at least")
    parser.add_argument("--changes", type=int, default=1000)
    given = parser.parse_args(arguments)
    bad = 0
    for kind in ("file", "folder"):
        with scratch_folder("rotator-opens-") as folder:
            opens, wrong, seen, gone, seconds = try_kind(
                kind, folder, given.opens // 2, given.changes
            )
        bad += len(wrong)
        print(
            f"{kind}: {opens:,} opens during {given.changes:,} changes, {len(wrong)} wrong,"
            f" {seen} versions seen, {gone} opened as their folder was removed, {seconds:.0f} s",
            flush=True,
        )
        for one in sorted(set(wrong))[:5]:
            print(f"  {one}")
    return 1 if bad else 0


def try_kind(
    kind: str, folder: Path, opens: int, changes: int
) -> tuple[int, list[str], int, int, float]:
    """Change a sink while readers open it; return opens, what was wrong, versions seen and more."""
    sink = _sink(kind, folder)
    sink.apply(_login(0))
    context, begun = get_context("fork"), time.monotonic()
    stop, count = context.Event(), context.Value("q", 0)
    with ProcessPoolExecutor(
        _READERS, mp_context=context, initializer=_share, initargs=(stop, count)
    ) as readers:
        running = [readers.submit(_read, kind, folder) for _ in range(_READERS)]
        try:
            for number in range(1, changes + 1):
                sink.apply(_login(number))
                # The changes are spread over the opens.
                while count.value < number * opens // changes and not any(
                    one.done() for one in running
                ):
                    time.sleep(0.0005)
        finally:
            stop.set()
        found = [one.result() for one in running]
    versions = set().union(*(one[2] for one in found))
    return (
        sum(one[0] for one in found),
        [wrong for one in found for wrong in one[1]],
        len(versions),
        sum(one[3] for one in found),
        time.monotonic() - begun,
    )


def _sink(kind: str, folder: Path) -> Sink:
    if kind == "file":
        options = SinkOptions(file=folder / "db.json", format="json")
    else:
        template = FormatOptions(template="{username}")
        options = SinkOptions(
            folder=folder / "db",
            files={
                "db.json": FileOptions(format="json"),
                "user": FileOptions(format="template", options=template),
            },
        )
    return Sink("shop", options, lambda text: text)


def _login(number: int) -> Login:
    return Login(
        username=f"user-{number}",
        password=Secret(f"password-{number}"),
        version=str(number),
        fields={"filler": _FILLER},
    )


def _share(stop: Event, count: Synchronized[int]) -> None:
    end_with_parent(signal.SIGKILL)
    _SHARED.append((stop, count))


def _read(kind: str, folder: Path) -> tuple[int, list[str], set[str], int]:
    ((stop, count),) = _SHARED
    done, gone, wrong, seen = 0, 0, list[str](), set[str]()
    while not stop.is_set():
        try:
            seen.add(read_once(kind, folder))
        except FileNotFoundError as error:
            # The folder behind the opened descriptor was replaced and removed: never a mixed pair.
            if kind == "file":
                wrong.append(repr(error))
            gone += 1
        except Exception as error:  # noqa: BLE001 # whatever it is, it is reported
            wrong.append(repr(error))
        done += 1 if kind == "file" else 2
        if done % _COUNTED == 0:
            with count.get_lock():
                count.value += _COUNTED
    return done, wrong, seen, gone


def read_once(kind: str, folder: Path) -> str:
    """Return the version that was read. Raises `ValueError` for a pair of different versions."""
    if kind == "file":
        data = json.loads((folder / "db.json").read_text())
        user = data["username"]
    else:
        opened = os.open(folder / "db", os.O_RDONLY | os.O_DIRECTORY)
        try:
            texts = list[str]()
            for name in ("db.json", "user"):
                with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=opened)) as file:
                    texts.append(file.read())
        finally:
            os.close(opened)
        data, user = json.loads(texts[0]), texts[1]
    number = str(data["password"]).removeprefix("password-")
    if not data["username"] == user == f"user-{number}" or data["filler"] != _FILLER:
        raise ValueError(f"user {user!r} with the password of {number}")
    return number


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
