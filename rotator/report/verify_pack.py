"""Verify an evidence pack with Python's standard library alone: python3 -I -S verify.py [DIR]

It computes every digest and chain of the journal's events again, compares their ends with the manifest and
the checkpoints, and each row of the report with the events that it names. It prints every place that differs
and exits with code 1. Signatures need another program: the commands are printed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

START: Final = "0" * 64
COLUMNS: Final = (
    *("secret", "seq", "at", "actor", "fence", "kind", "rotation_id", "step", "data", "prev_hash"),
)
# Which event shows a moment of a rotation.
MOMENTS: Final[dict[str, tuple[str, str | None]]] = {
    "requested": ("requested", None),
    "published": ("finished", "publish"),
    "proven": ("finished", "prove"),
    "restored": ("finished", "restore"),
    "refused": ("finished", "revoke"),
    "ended": ("ended", None),
    "followed": ("followed", None),
}
# Which facts of a row an event shows: by the moment, the name in the row and in the event's data.
FACTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "requested": (
        *(("reason", "reason"), ("plugin", "plugin"), ("strategy", "strategy")),
        *(("old_version", "old_version"), ("old_login", "old_login")),
    ),
    "published": (("new_version", "version"), ("new_login", "login")),
    "proven": (("new_version", "version"), ("new_login", "login")),
    "refused": (("old_refused", "refused"),),
    "ended": (("outcome", "outcome"),),
    "followed": (
        *(("new_version", "version"), ("new_login", "login"), ("old_refused", "old_refused")),
    ),
}
TIMES: Final[dict[str, tuple[str, ...]]] = {
    "requested": ("started_at",),
    "published": ("published_at",),
    "proven": ("published_at",),
    "ended": ("ended_at",),
    "followed": ("started_at", "published_at", "ended_at"),
}
# The chain of what looks at a target found, and the states of logins that nobody manages.
LOGINS: Final = "(logins) "
NOT_MANAGED: Final = ("unmanaged", "configured", "orphan")
# So many of them are named in an exception.
NAMED: Final = 10
FORMAT: Final = "rotator report 1"
LATE_SECONDS: Final = 86_400


class Verification:
    """What was found in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder
        self.places: list[tuple[str, str]] = []
        self.events: int = 0
        self.rotations: int = 0
        # The start of the period.
        self.since: str = ""
        # The hashes that checkpoints have signed: by secret, of the event with a number.
        self.signed: dict[str, dict[int, str]] = {}

    def add(self, where: object, what: str) -> None:
        """Note a place that differs."""
        self.places.append((ascii(str(where))[1:-1], what))

    def run(self) -> dict[str, Any] | None:
        """Check everything; return the manifest, None where it is unreadable."""
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            files, heads = dict(manifest["files"]), dict(manifest["heads"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            self.add("manifest.json", "is missing or unreadable")
            return None
        for name in (
            "events.jsonl",
            "checkpoints.jsonl",
            "report.json",
            "report.html",
            "verify.py",
        ):
            if name not in files:
                self.add(name, "is not in the manifest")
        for name, facts in files.items():
            self.check_file(name, facts)
        for check in (self.check_checkpoints, self.check_events):
            try:
                check(files, heads)
            except (
                OSError,
                ValueError,
                KeyError,
                TypeError,
                AttributeError,
                RecursionError,
            ) as error:
                self.add(
                    check.__name__.replace("check_", ""), f"are unreadable ({type(error).__name__})"
                )
        return manifest

    def check_file(self, name: str, facts: Any) -> None:
        """Compare the SHA-256 of a file with the manifest. Only a bare name is read."""
        path = self.folder / name
        if "/" in name or "\\" in name or name.startswith(".") or not path.is_file():
            self.add(name, "is missing")
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not isinstance(facts, dict) or digest != facts.get("sha256"):
            self.add(name, "was changed: its SHA-256 is not that of the manifest")

    def check_checkpoints(self, files: dict[str, Any], _heads: dict[str, Any]) -> None:
        """Check the chain of checkpoints, and keep what they have signed."""
        prev, count = START, 0
        for count, row in enumerate(self.lines("checkpoints.jsonl"), start=1):
            hashed = digest("rotator checkpoint 1", row["number"], row["at"], row["heads"], prev)
            if row["number"] != count or row["prev_hash"] != prev or row["hash"] != hashed:
                self.add(f"checkpoint {count}", "was changed, or does not follow the one before it")
            prev = row["hash"]
            for entry in json.loads(row["heads"]).items() if row["heads"][:1] == "{" else ():
                secret, (seq, head) = entry
                self.signed.setdefault(secret, {})[seq] = head
        if count != files["checkpoints.jsonl"]["rows"]:
            self.add("checkpoints.jsonl", "does not have the number of rows of the manifest")

    def check_events(self, files: dict[str, Any], heads: dict[str, Any]) -> None:
        """Check each chain, and the rows of the report that name its events."""
        report = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        self.since = report["period"]["since"]
        expected = {entry["secret"]: entry for entry in report["secrets"]}
        noted: dict[str, list[dict[str, Any]]] = {}
        for one in report["exceptions"]:
            noted.setdefault(one["secret"], []).append(one)
        incidents: dict[str, list[dict[str, Any]]] = {}
        for one in report["incidents"]:
            incidents.setdefault(one["secret"], []).append(one)
        looked = {LOGINS + one["target"]: one for one in report["coverage"]}
        seen: set[str] = set()
        rows = self.lines("events.jsonl")
        for secret, chained in groupby(rows, key=lambda row: row["secret"]):
            events = self.check_chain(secret, chained, heads.get(secret))
            seen.add(secret)
            entry = expected.get(secret)
            if entry is not None:
                self.check_secret(entry, events, noted.pop(secret, []))
            if secret in looked:
                self.check_coverage(looked.pop(secret), events, noted.pop(secret, []))
            for one in incidents.pop(secret, []):
                if not all(number in events for number in one["event_numbers"]):
                    self.add(
                        f"incident {one['incident']} of {secret}", "names events that do not exist"
                    )
        for one in looked.values():
            self.check_coverage(one, {}, [])
        for secret in sorted({*heads, *expected} - seen):
            self.add(f"secret {secret}", "its events are missing")
        for secret in sorted({*noted, *incidents}):
            self.add(f"secret {secret}", "the report names it, and the pack has no such secret")
        if self.events != files["events.jsonl"]["rows"]:
            self.add("events.jsonl", "does not have the number of rows of the manifest")
        self.check_totals(report)

    def check_chain(
        self, secret: str, chained: Iterable[dict[str, Any]], head: Any
    ) -> dict[int, dict[str, Any]]:
        """Return the events of a secret by their number, after checking each hash."""
        events: dict[int, dict[str, Any]] = {}
        prev, expected = START, 1
        signed = self.signed.get(secret, {})
        for row in chained:
            where = f"secret {secret}, event {row['seq']}"
            if digest("rotator event 1", *(row[name] for name in COLUMNS)) != row["hash"]:
                self.add(where, "was changed: its hash does not match")
            if row["seq"] != expected or row["prev_hash"] != prev:
                self.add(where, "does not follow the event before it")
            if signed.get(row["seq"], row["hash"]) != row["hash"]:
                self.add(where, "differs from the checkpoint that has signed it")
            prev, expected = row["hash"], row["seq"] + 1
            events[row["seq"]] = row
            self.events += 1
        if head != [expected - 1, prev]:
            self.add(f"secret {secret}", "does not end where the manifest states")
        if any(seq >= expected for seq in signed):
            self.add(f"secret {secret}", "ends before an event that a checkpoint has signed")
        return events

    def check_secret(
        self,
        entry: dict[str, Any],
        events: dict[int, dict[str, Any]],
        exceptions: list[dict[str, Any]],
    ) -> None:
        """Compare a secret of the report, its rotations and its exceptions with its events."""
        name = entry["secret"]
        if events.get(entry["seq"], {}).get("hash") != entry["head"]:
            self.add(f"report, secret {name}, head", "is not the hash of the event that it names")
        for rotation in entry["rotations"]:
            self.check_rotation(name, rotation, events)
        self.check_exceptions(f"report, secret {name}", entry, events, exceptions)

    def check_exceptions(
        self,
        place: str,
        entry: dict[str, Any],
        events: dict[int, dict[str, Any]],
        exceptions: list[dict[str, Any]],
    ) -> None:
        """Compare the exceptions of a secret, or of a target, with the events that they name."""
        for one in exceptions:
            where = f"{place}, exception {one['kind']}"
            opened, closed = events.get(one["opened_event"]), events.get(one["closed_event"])
            if opened is None or (one["closed_event"] is not None and closed is None):
                self.add(where, "names an event that does not exist")
                continue
            if one["kind"] != "overdue" and opened["at"] != one["opened_at"]:
                self.add(f"{where}, opened_at", "is not the time of its event")
            if (closed and closed["at"]) != one["closed_at"]:
                self.add(f"{where}, closed_at", "is not the time of its event")
        if len(exceptions) != entry["exceptions"]:
            self.add(f"{place}, exceptions", "is not the number of its exceptions")

    def check_coverage(
        self,
        entry: dict[str, Any],
        events: dict[int, dict[str, Any]],
        exceptions: list[dict[str, Any]],
    ) -> None:
        """Compare what the report states of the logins of a target with the event of the look."""
        where = f"report, target {entry['target']}"
        self.check_exceptions(where, entry, events, exceptions)
        looks = {number: json.loads(event["data"]) for number, event in events.items()}
        for one in exceptions:
            last = one["closed_event"] or entry["seq"]
            seen = [
                looks[number] for number in sorted(looks) if one["opened_event"] <= number <= last
            ]
            words = [text for text in map(unmanaged_text, seen) if text]
            if one["kind"] != "unmanaged" or words[-1:] != [one["what"]]:
                self.add(f"{where}, exception unmanaged, what", "does not follow from its events")
        counts, names = entry["counts"], entry["names"]
        unmanaged = sum(counts[state] for state in NOT_MANAGED)
        if entry["not_managed"] != unmanaged:
            self.add(f"{where}, not_managed", "is not the sum of its counts")
        word = "exception" if unmanaged else "operated"
        if entry["listed_at"] is None or entry["listed_at"] < self.since:
            word = "not covered"
        if entry["word"] != word:
            self.add(f"{where}, word", "does not follow from its counts")
        event = events.get(entry["seq"])
        if event is None:
            looked = [entry[name] for name in ("seq", "listed_at", "head")]
            if looked != [None, None, None] or any(counts.values()) or any(names.values()):
                self.add(where, "is shown by no event")
            return
        data = json.loads(event["data"])
        if (event["kind"], event["at"], event["hash"]) != (
            "logins-listed",
            entry["listed_at"],
            entry["head"],
        ):
            self.add(f"{where}, event {entry['seq']}", "is not the list that it names")
        for name, shown in (("counts", counts), ("names", names)):
            if data[name] != shown:
                self.add(f"{where}, {name}", f"is not that of event {entry['seq']}")

    def check_rotation(
        self, name: str, rotation: dict[str, Any], events: dict[int, dict[str, Any]]
    ) -> None:
        """Compare each moment and each fact of a rotation with the event that shows it."""
        self.rotations += 1
        where = f"report, secret {name}, rotation {rotation['id']}"
        shown, newest = set[str](), 0
        for moment, number in rotation["event_numbers"].items():
            event = events.get(number)
            if event is None or (event["kind"], event["step"]) != MOMENTS.get(moment):
                self.add(f"{where}, event {number}", f"does not show that it was {moment}")
                continue
            if moment != "followed" and event["rotation_id"] != rotation["id"]:
                self.add(f"{where}, event {number}", "belongs to another rotation")
            newest = max(newest, number)
            data = json.loads(event["data"])
            for column, key in FACTS.get(moment, ()):
                shown.add(column)
                value = data.get(key)
                if not same(rotation[column], value):
                    self.add(f"{where}, {column}", f"is not that of event {number}")
            for column in TIMES.get(moment, ()):
                shown.add(column)
                if rotation[column] != event["at"]:
                    self.add(f"{where}, {column}", f"is not the time of event {number}")
            if moment in ("requested", "followed") and rotation["actor"] != event["actor"]:
                self.add(f"{where}, actor", f"is not that of event {number}")
        for column in (
            "published_at",
            "ended_at",
            "outcome",
            "old_refused",
            "new_version",
            "new_login",
        ):
            if column not in shown and not rotation["delegated"] and rotation[column] is not None:
                self.add(f"{where}, {column}", "is shown by no event")
        if events.get(newest, {}).get("hash") != rotation["head"]:
            self.add(f"{where}, head", "is not the hash of its newest event")
        late = rotation["late_seconds"]
        if rotation["late"] != (late is not None and late > LATE_SECONDS) and late != LATE_SECONDS:
            self.add(f"{where}, late", "does not follow from late_seconds")

    def check_totals(self, report: dict[str, Any]) -> None:
        """Count again what the head of the report states."""
        since, until = report["period"]["since"], report["period"]["until"]
        counted: Counter[str] = Counter()
        for entry in report["secrets"]:
            counted["secrets"] += 1
            counted[entry["word"].replace(" ", "_")] += 1
            age = entry["age_max"]
            counted["ages_unknown"] += age is not None and not age["exact"]
            open_ended = entry["due"] is None and entry["managed_until"] is None
            counted["without_due_date"] += open_ended
            for name in ("owner", "basis"):
                counted[f"without_{name}"] += entry["managed_until"] is None and not entry[name]
            for one in entry["rotations"]:
                ended = one["ended_at"] is not None and since <= one["ended_at"] <= until
                counted["undone"] += ended and one["outcome"] in ("undone", "rolled-back")
                if one["published_at"] is None or not since <= one["published_at"] <= until:
                    continue
                counted["rotations"] += 1
                counted["old_rejected"] += one["old_refused"] is True
                counted["old_accepted"] += one["old_refused"] is False
                untried = one["outcome"] == "done" and one["old_login"] is not None
                counted["old_not_tried"] += untried and one["old_refused"] is None
        for one in report["exceptions"]:
            counted["exceptions_open" if one["closed_at"] is None else "exceptions_closed"] += 1
            counted["late"] += one["kind"] == "overdue"
        for one in report["coverage"]:
            counted["targets"] += 1
            if one["listed_at"] is None or one["listed_at"] < since:
                counted["targets_not_covered"] += 1
                continue
            counted["logins_managed"] += one["counts"]["managed"]
            counted["logins_not_managed"] += one["not_managed"]
        counted["incidents"] = len(report["incidents"])
        counted["incidents_open"] = sum(
            one["proven_at"] is None or bool(one["unproven"]) for one in report["incidents"]
        )
        counted["events"] = sum(one["events"] for one in report["access"])
        counted["damaged_places"] = len(report["journal"]["damage"])
        names = ("secrets", "operated", "exception", "not_covered", "rotations", "old_rejected")
        more = ("old_accepted", "exceptions_open", "exceptions_closed", "late", "incidents")
        rest = ("ages_unknown", "without_due_date", "undone", "old_not_tried", "incidents_open")
        named = ("without_owner", "without_basis", "events", "damaged_places")
        logins = ("targets", "targets_not_covered", "logins_managed", "logins_not_managed")
        for name in (*names, *more, *rest, *named, *logins):
            if report["totals"][name] != counted[name]:
                self.add(
                    f"report, totals, {name}", f"is not {counted[name]}, as its rows add up to"
                )

        self.check_head(report)

    def check_head(self, report: dict[str, Any]) -> None:
        """Compare what the head repeats, and draw the sample again."""
        if report["format"] != FORMAT or report["late_after_seconds"] != LATE_SECONDS:
            self.add("report, format", f"is not that of {FORMAT}")
        if report["journal"]["intact"] is not (not report["journal"]["damage"]):
            self.add("report, journal, intact", "does not follow from the damage")
        for one in report["controls"]:
            for name, count in one["figures"].items():
                if report["totals"].get(name) != count:
                    self.add(f"report, control {one['number']}, {name}", "is not the total")
        ages = [(one["age_max"], one["secret"]) for one in report["secrets"] if one["age_max"]]
        most = max((age["seconds"] for age, _ in ages), default=None)
        oldest = report["oldest"]
        if (oldest is None) is not (most is None) or (
            oldest is not None
            and ({"seconds": oldest["seconds"], "exact": oldest["exact"]}, oldest["secret"])
            not in [one for one in ages if one[0]["seconds"] == most]
        ):
            self.add("report, oldest", "is not the secret with the maximum age")
        self.check_sample(report)

    def check_sample(self, report: dict[str, Any]) -> None:
        """Draw the sample again: the rotations with the smallest SHA-256 of seed, secret and id."""
        since, until = report["period"]["since"], report["period"]["until"]
        seed, wanted = report["sample"]["seed"], report["sample"]["wanted"]
        drawn: list[tuple[str, dict[str, Any]]] = []
        for entry in report["secrets"] if wanted else ():
            for one in entry["rotations"]:
                if one["published_at"] is not None and since <= one["published_at"] <= until:
                    text = f"{seed}\n{entry['secret']}\n{one['id']}"
                    key = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
                    row = {"id": one["id"], "event_numbers": one["event_numbers"]}
                    drawn.append((key, {"secret": entry["secret"], **row}))
        drawn.sort(key=lambda one: one[0])
        expected = sorted(
            (row for _, row in drawn[:wanted]), key=lambda row: (row["secret"], row["id"])
        )
        if report["sample"]["rotations"] != expected:
            self.add("report, sample", "is not what its seed draws")

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of a file."""
        with (self.folder / name).open(encoding="utf-8", newline="\n") as file:
            for line in file:
                yield json.loads(line)


def digest(*parts: object) -> str:
    """Return the SHA-256, in hex, of the JSON array of some texts and numbers."""
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def unmanaged_text(look: dict[str, Any]) -> str:
    """Return the words of an exception for what a look found; none where every login is managed."""
    count = sum(look["counts"][state] for state in NOT_MANAGED)
    if not count:
        return ""
    names = sorted(name for state in NOT_MANAGED for name in look["names"][state])[:NAMED]
    more = f" and {count - len(names)} more" if count > len(names) else ""
    logins = "1 login" if count == 1 else f"{count} logins"
    return f"{logins} that rotator does not manage: {', '.join(names)}{more}"


def same(shown: object, value: object) -> bool:
    """Return whether a fact of the report is that of an event: texts there may be numbers here."""
    if isinstance(value, bool) or isinstance(shown, bool):
        return shown is value
    return (shown or "") == ("" if value is None else str(value))


def main(arguments: list[str]) -> int:
    """Verify a folder and print the result; return the exit code."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    verification = Verification(folder)
    manifest = verification.run()
    for where, what in verification.places:
        print(f"{where}: {what}")
    size = f"{verification.rotations} rotations, {verification.events} events"
    state = (
        f"{len(verification.places)} places differ" if verification.places else "Nothing differs"
    )
    print(f"{state}: {size}.")
    if manifest is not None and (folder / "manifest.sig").is_file():
        print(
            "The signature is not checked here. With the public key that you have from its owner:"
        )
        print("  base64 -d manifest.sig > manifest.raw")
        print(
            "  openssl pkeyutl -verify -pubin -inkey KEY.pem -rawin -in manifest.json -sigfile manifest.raw"
        )
    else:
        print(
            "The pack is not signed: this shows that its files belong together, not whose they are."
        )
    return 1 if verification.places else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
