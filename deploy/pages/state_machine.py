"""The state machine, drawn by asking `decide` what comes after each event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from deploy.pages import markdown
from rotator.core.errors import Conflict, Denied, Refused, Transient, Unavailable, Unknown
from rotator.core.model import Event, Kind, Outcome, Policy, Step
from rotator.core.state_machine import DELEGATED, FORWARD, Finish, Run, WaitUntil, decide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rotator.core.model import Json

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Long after every wait.
_LATER: Final = timedelta(days=365)
_POLICY: Final = Policy()
_KINDS: Final = (Transient, Unavailable, Unknown, Refused, Denied, Conflict)


class History:
    """Events of one rotation, as the engine writes them."""

    def __init__(
        self, *, overlaps: bool = True, leaked: bool = False, delegated: bool = False
    ) -> None:
        self.events: list[Event] = []
        optional: dict[str, Json] = {"prepare": True, "copies": ["copy"], "delegated": delegated}
        if leaked:
            optional["leak"] = {"incident": "I", "mode": "kill", "within": 0}
        self._write(Kind.REQUESTED, data={"overlaps": overlaps, "old_version": "1", **optional})

    def next(self) -> Step | Outcome:
        """Return what the engine does next, once every wait is over."""
        now = self.events[-1].at + _LATER
        decision = decide(self.events, now, _POLICY)
        if isinstance(decision, WaitUntil):
            decision = decide(self.events, decision.at, _POLICY)
        match decision:
            case Run():
                return decision.step
            case Finish():
                return decision.outcome
            case _:
                raise AssertionError(decision)

    def run_to(self, step: Step) -> History:
        """Finish each step before this one, and start this one."""
        self.finish_all_before(step)
        self._write(Kind.STARTED, step)
        return self

    def finish_all_before(self, step: Step) -> None:
        """Finish each step before this one."""
        while isinstance(following := self.next(), Step) and following is not step:
            self.finish(following)

    def finish(self, step: Step) -> None:
        """Write that a step has succeeded."""
        self._write(Kind.STARTED, step)
        self._write(Kind.FINISHED, step)

    def fail(self, step: Step, kind: str) -> None:
        """Write that a step has failed, as often as it is retried."""
        for _ in range(_POLICY.attempts * _POLICY.cycles):
            self._write(Kind.FAILED, step, {"kind": kind, "what": "it failed"})
            if self.next() is not step or kind == Unavailable.kind:
                return
            self._write(Kind.STARTED, step)

    def ask_for_rollback(self) -> None:
        """Write that an operator asks for a rollback."""
        self._write(Kind.ROLLBACK_REQUESTED)

    def _write(
        self, kind: Kind, step: Step | None = None, data: dict[str, Json] | None = None
    ) -> None:
        number = len(self.events)
        self.events.append(
            Event(
                secret="shop",  # noqa: S106 # its name
                seq=number + 1,
                at=_START + timedelta(seconds=number),
                actor="docs",
                fence=1,
                kind=kind,
                rotation_id="r",
                step=step,
                data=data or {},
                prev_hash="",
                hash="",
            )
        )


def failures(*, delegated: bool = False) -> str:
    """Return what follows when a step fails for good, by kind of failure."""
    head = ("step", *(f"`{kind.kind}`" for kind in _KINDS))
    rows = (
        (
            f"`{step.value}`",
            *(_shown_after(step, kind.kind, delegated=delegated) for kind in _KINDS),
        )
        for step in (DELEGATED if delegated else FORWARD)
    )
    return markdown.table(head, rows)


def delegated_failures() -> str:
    """Return the same of a rotation that another system does."""
    return failures(delegated=True)


def rollbacks() -> str:
    """Return what a rollback does, by the step that is next when it is asked for."""
    rows = (
        (f"`{step.value}`", ", ".join(_shown(one) for one in _after_rollback(step)))
        for step in FORWARD
    )
    return markdown.table(("asked for while the next step is", "what follows"), rows)


def _after_failure(step: Step, kind: str, *, delegated: bool = False) -> Step | Outcome:
    history = History(delegated=delegated).run_to(step)
    history.fail(step, kind)
    return history.next()


def _after_rollback(step: Step) -> Iterator[Step | Outcome]:
    history = History()
    history.finish_all_before(step)
    history.ask_for_rollback()
    return _to_the_end(history)


def _to_the_end(history: History) -> Iterator[Step | Outcome]:
    while isinstance(following := history.next(), Step):
        yield following
        history.finish(following)
    yield following


def _shown_after(step: Step, kind: str, *, delegated: bool) -> str:
    following = _after_failure(step, kind, delegated=delegated)
    return "waits" if following is step else _shown(following)


def _shown(following: Step | Outcome) -> str:
    return f"`{following.value}`" if isinstance(following, Step) else f"**{following.value}**"


# -- the picture -------------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _BOX, _TALL, _STRIDE = 1122, 540, 92, 36, 122
_ROWS: Final = {"top": 36, "forward": 130, "below": 250, "ends": 350, "delegated": 440}


@dataclass(frozen=True, slots=True)
class _Box:
    name: str
    column: float
    row: str
    end: bool = False

    @property
    def x(self) -> float:
        """The middle."""
        return 24 + _BOX / 2 + self.column * _STRIDE

    @property
    def y(self) -> float:
        """The middle."""
        return _ROWS[self.row] + _TALL / 2

    def drawn(self) -> str:
        """Return it as SVG."""
        left, top, kind = self.x - _BOX / 2, self.y - _TALL / 2, "end" if self.end else "step"
        radius = _TALL / 2 if self.end else 5
        return (
            f'<rect class="{kind}" x="{left:g}" y="{top:g}" width="{_BOX}" height="{_TALL}" rx="{radius:g}"/>'
            f'<text x="{self.x:g}" y="{self.y + 5:g}">{escape(self.name)}</text>'
        )


def picture() -> str:
    """Return the picture as SVG: boxes and arrows, each arrow an answer of `decide`."""
    boxes, arrows = _boxes(), _arrows()
    used = {place for arrow in arrows for place in arrow[:2]}
    lines = [_arrow(boxes[start], boxes[to], kind) for start, to, kind in sorted(arrows)]
    drawn = [box.drawn() for place, box in boxes.items() if place in used]
    return "\n".join((_HEAD, *lines, *drawn, _LEGEND, "</svg>", ""))


def _boxes() -> dict[str, _Box]:
    boxes = {
        f"forward {step.value}": _Box(step.value, column, "forward")
        for column, step in enumerate(FORWARD)
    }
    boxes["leak fence"] = _Box("fence", 0, "top")
    boxes["done"] = _Box("done", 8, "forward", end=True)
    boxes["parked"] = _Box("parked", 5.5, "top", end=True)
    boxes["undone"] = _Box("undone", 0, "below", end=True)
    boxes["backward discard"] = _Box("discard", 1, "below")
    boxes["backward withdraw"] = _Box("withdraw", 3, "below")
    for column, step in enumerate((Step.RESTORE, Step.COPY, Step.DRAIN, Step.REVOKE), start=4):
        boxes[f"rollback {step.value}"] = _Box(step.value, column, "below")
    boxes["rolled-back"] = _Box("rolled back", 8, "below", end=True)
    for column, step in enumerate(DELEGATED, start=1):
        boxes[f"delegated {step.value}"] = _Box(step.value, column, "delegated")
    boxes["delegated undone"] = _Box("undone", 1.5, "ends", end=True)
    boxes["delegated parked"] = _Box("parked", 4, "ends", end=True)
    boxes["delegated done"] = _Box("done", 6, "delegated", end=True)
    return boxes


def _arrows() -> set[tuple[str, str, str]]:
    """Return start, end and kind of each arrow."""
    arrows = _along("forward", _to_the_end(History()))
    for step in FORWARD:
        for kind in _KINDS:
            following = _after_failure(step, kind.kind)
            if following is not step:
                arrows.add((f"forward {step.value}", _place(following), "fails"))
        path = list(_after_rollback(step))
        if path[0] is not step:
            arrows.add((f"forward {step.value}", _place(path[0]), "asked"))
            track = "rollback" if path[0] is Step.RESTORE else "backward"
            arrows |= _along(track, path)
    fence, then = list(_to_the_end(History(leaked=True)))[:2]
    arrows.add((f"leak {fence.value}", f"forward {then.value}", "succeeds"))
    history = History().run_to(Step.VERIFY)
    history.fail(Step.VERIFY, Refused.kind)
    return arrows | _along("backward", _to_the_end(history)) | _arrows_of_another_system()


def _arrows_of_another_system() -> set[tuple[str, str, str]]:
    arrows = _along("delegated", _to_the_end(History(delegated=True)), own_end=True)
    for step in DELEGATED:
        for kind in _KINDS:
            following = _after_failure(step, kind.kind, delegated=True)
            if following is not step:
                to = f"delegated {following.value}"
                arrows.add((f"delegated {step.value}", to, "fails"))
    return arrows


def _along(
    track: str, path: Iterator[Step | Outcome] | list[Step | Outcome], *, own_end: bool = False
) -> set[tuple[str, str, str]]:
    places = [
        f"{track} {one.value}" if isinstance(one, Step) or own_end else one.value for one in path
    ]
    return {(start, to, "succeeds") for start, to in pairwise(places)}


def _place(following: Step | Outcome) -> str:
    if isinstance(following, Outcome):
        return following.value
    track = "rollback" if following is Step.RESTORE else "backward"
    return f"{track} {following.value}"


def _arrow(start: _Box, to: _Box, kind: str) -> str:
    if start.row == to.row and kind == "fails":
        # Back to an earlier step: below what lies between.
        y = start.y + _TALL / 2
        return (
            f'<path class="{kind}" marker-end="url(#{kind})" d="M{start.x:g} {y:g}'
            f' C{start.x:g} {y + 40:g} {to.x:g} {y + 40:g} {to.x:g} {y + 7:g}"/>'
        )
    if start.row == to.row:
        side = 1 if to.x > start.x else -1
        points = (start.x + side * _BOX / 2, start.y, to.x - side * (_BOX / 2 + 7), to.y)
    else:
        side = 1 if to.y > start.y else -1
        # Two arrows between the same boxes stay apart.
        shift = 9 if kind == "asked" else -9
        points = (
            start.x + shift,
            start.y + side * _TALL / 2,
            to.x + shift,
            to.y - side * (_TALL / 2 + 7),
        )
    return '<path class="{}" marker-end="url(#{})" d="M{:g} {:g} L{:g} {:g}"/>'.format(
        kind, kind, *points
    )


_COLOURS: Final = {"succeeds": "#1b5e20", "fails": "#b71c1c", "asked": "#0d47a1"}
_MARKERS: Final = "".join(
    f'<marker id="{kind}" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
    for kind, colour in _COLOURS.items()
)
_HEAD: Final = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">
<title>The steps of a rotation</title>
<defs>{_MARKERS}</defs>
<style>
text {{ font: 14px sans-serif; text-anchor: middle; fill: #212121; }}
.legend {{ font-size: 12px; text-anchor: start; }}
.step {{ fill: #e8eaf6; stroke: #3949ab; }}
.end {{ fill: #f5f5f5; stroke: #616161; }}
.succeeds, .fails, .asked {{ fill: none; stroke-width: 1.6; }}
.succeeds {{ stroke: {_COLOURS["succeeds"]}; }}
.fails {{ stroke: {_COLOURS["fails"]}; stroke-dasharray: 5 3; }}
.asked {{ stroke: {_COLOURS["asked"]}; stroke-dasharray: 2 3; }}
</style>
<rect width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#ffffff"/>"""
_LEGEND: Final = "".join(
    f'<path class="{kind}" d="M{x} 524 h34"/><text class="legend" x="{x + 42}" y="528">{text}</text>'
    for kind, x, text in (
        ("succeeds", 24, "the step succeeds"),
        ("fails", 220, "the step fails for good"),
        ("asked", 430, "an operator asks for a rollback"),
    )
) + (f'<text class="legend" x="24" y="{_ROWS["ends"] - 4}">Where another system rotates:</text>')
