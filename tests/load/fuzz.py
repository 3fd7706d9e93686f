"""Outside data, spoilt at random, through every parser of it: make fuzz COUNT=10000000.

Each parser begins with good data. Some of it is changed: bytes, whole parts, or one value of a structure
for an odd one. What comes of it is a value or one of our errors; anything else is a bug, shown with its
number, by which it comes again: make fuzz ARGS="--only vault --seed 123 --count 1".
"""

from __future__ import annotations

import argparse
import copy
import csv
import functools
import io
import json
import os
import random
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import requests
import yaml
from botocore.awsrequest import AWSResponse

from rotations.valkey.nodes import Client as ValkeyClient
from rotations.valkey.nodes import Node
from rotations.valkey.options import Endpoint
from rotations.valkey.wire import Limit, NotRespError, WireConnection
from rotator import plugins
from rotator.api import Credential, RotatorError, Secret, Version, json_object
from rotator.backends.aws.backend import AwsBackend
from rotator.backends.aws.client import Client
from rotator.backends.aws.options import AwsOptions
from rotator.backends.vault.backend import VaultBackend
from rotator.backends.vault.options import AuthOptions, VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.config import load
from rotator.core import durations
from rotator.faces.aws_lambda import events, secret_json
from rotator.faces.aws_lambda.settings import settings
from rotator.journal import chain, countersigning, rows
from rotator.journal.checkpoints import Anchor, witnessed
from rotator.journal.export import verify_export
from rotator.journal.handovers import NEXT, PREVIOUS, Signers, encoded, first_of
from rotator.journal.key_ring import KeyRing
from rotator.journal.log import KEY, Head, verify_log
from rotator.journal.report import AuditReport
from rotator.journal.signed_heads import SignedHeads
from rotator.plugins import backend_plugin, rotation_plugin
from rotator.references import parse
from tests.load.programs import end_in_order, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable

# So many bugs of a parser are shown, and so many inputs tried between two lines of progress.
_SHOWN: Final = 5
_PORTION: Final = 50_000

# What bytes are replaced by, or put between.
_BITS: Final = (
    b"\0",
    b"\xff",
    b"\r\n",
    b"\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\\ud800",
    b":",
    b",",
    b"-",
    b"1e999",
    b"9" * 30,
    b"9" * 5_000,
    b"null",
    b"NaN",
    b"[" * 3_000,
    b'{"a":' * 300,
    b"$99999999999\r\n",
    b"*99999999999\r\n",
    b"*1\r\n" * 40,
    b"<<: *a",
    b"&a",
    b"!!python/object:os.system",
    b"..",
    b"/",
    "\u00b2\u0663\u202e".encode(),
    b"\x1b[2J",
)
# What a value of a structure is replaced by.
_VALUES: Final = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    10**30,
    1e300,
    1e-300,
    "",
    "x",
    "\0",
    "\ud800",
    "1",
    "-1",
    "9" * 30,
    "9" * 5_000,
    "NaN",
    "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59.999999999+23:59",
    "0001-01-01T00:00:00-23:59",
    "arn:aws:secretsmanager:x:1:secret:y",
    "127.0.0.1",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"a": {"a": {}}},
    [1, "a", {}],
    "x" * 70_000,
)


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with one to four changes."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((0, 1, 1, 2, 8, 64)))
        match chance.randrange(4):
            case 0:
                data = data[:at] + chance.choice(_BITS) + data[end:]
            case 1:
                data = data[:at] + bytes([chance.randrange(256)]) + data[end:]
            case 2:
                data = data[:at] + data[end:]
            case _:
                other = chance.randrange(len(data) + 1)
                data = data[:at] + data[other : other + 64] + data[end:]
    return data


def forged(data: Any, chance: random.Random) -> Any:
    """Return a structure with one to three values replaced, dropped or added."""
    made = copy.deepcopy(data)
    for _ in range(chance.randint(1, 3)):
        holder = [made]
        below: Any = holder
        key: Any = 0
        while isinstance(found := below[key], dict | list) and found and chance.random() < 0.8:
            below = found
            key = (
                chance.choice(list(found))
                if isinstance(found, dict)
                else chance.randrange(len(found))
            )
        if isinstance(below, dict) and chance.random() < 0.2:
            del below[key]
        else:
            below[key] = copy.deepcopy(chance.choice(_VALUES))
        made = holder[0]
    return made


def spoilt_json(data: Any, chance: random.Random) -> bytes:
    """Return a structure as JSON, changed as a structure or as a text."""
    if chance.random() < 0.7:
        return json.dumps(forged(data, chance)).encode()
    return spoilt(json.dumps(data).encode(), chance)


# -- the parsers --------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Parser:
    """`run` tries one spoilt input; `share`: how many of a thousand inputs are for it."""

    run: Callable[[random.Random], object]
    share: int


_CONFIG: Final = """
version: 1
defaults: {backend: local, policy: {grace: 1h}}
journal: {url: "sqlite:///rotator.db", signing_key: "local:rotator/audit#private_key"}
backends:
  local: {type: local, path: secrets.db, key: "file:rotator.key"}
  vault: {type: vault, address: "https://vault:8200", nodes: ["vault-2:8200"], auth: {method: approle, role_id: r, secret_id: "env:S"}}
  aws: {type: aws, region: eu-central-1}
targets:
  main: {plugin: postgresql, host: db, port: 5432, dbname: shop, admin: {username: admin, password: "env:P"}}
  cache: {plugin: valkey, host: cache, nodes: ["a:1", "b:2"], admin: "vault:admin/cache"}
policies:
  default: &usual {every: 30d, windows: [{allow: "0 2 * * *", for: 2h, zone: Europe/Berlin}]}
  fast: {<<: *usual, every: 7d}
secrets:
  shop: {target: main, strategy: new-user, options: {group: shop}, tags: [a, b]}
  cache: {target: cache, strategy: dual-password, options: {username: app}, copies: [{backend: aws, path: x}]}
partners: {both: {apart: 6h, secrets: [shop, cache]}}
daemon: {listen: "127.0.0.1:9000"}
notifications: [{type: webhook, url: "https://hook.example/x", topics: [parked]}]
"""
_TIME: Final = "2026-01-01T00:00:00.123456789Z"
_VAULT: Final[dict[str, Any]] = {
    "data": {
        "data": {"username": "app", "password": "x", "port": 1, "rotator_rotation_id": "r1"},
        "metadata": {"version": 3, "created_time": _TIME, "deletion_time": "", "destroyed": False},
        "keys": ["r1", "r2/"],
        "type": "kv",
        "options": {"version": "2"},
        "versions": {"1": {}, "3": {}},
        "version": 4,
        "max_versions": 2,
        "delete_version_after": "720h30m0s",
        "policies": ["root"],
        "ttl": 60,
        "renewable": True,
        "client_token": "t",
        "secret/data/p": ["read"],
    },
    "auth": {"client_token": "hvs.x", "lease_duration": 60, "renewable": True},
    "server_time_utc": 1_790_000_000,
    "errors": ["permission denied"],
}
_AWS: Final[dict[str, Any]] = {
    "ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:p",
    "Name": "p",
    "VersionId": "1" * 32,
    "SecretString": '{"username": "app", "password": "x"}',
    "VersionStages": ["AWSCURRENT", "ROTATOR_PENDING_r1"],
    "VersionIdsToStages": {"1" * 32: ["AWSCURRENT"], "2" * 32: ["AWSPENDING"]},
    "CreatedDate": 1_790_000_000.5,
    "RotationEnabled": True,
    "Tags": [{"Key": "a", "Value": "b"}],
    "__type": "ResourceNotFoundException",
    "message": "no",
}
_CALLS: Final[tuple[Callable[[Any], object], ...]] = (
    lambda backend: backend.current("p"),
    lambda backend: backend.read("p", "1" * (32 if isinstance(backend, AwsBackend) else 1)),
    lambda backend: backend.staged("p", "r1"),
    lambda backend: backend.publish("p", "r1", expect="3"),
    lambda backend: backend.restore("p", expect="3", to="1"),
    lambda backend: backend.rotation_ids("p"),
    lambda backend: backend.put_value("p", "f", Secret("x")),
    lambda backend: backend.examine({"p": timedelta(days=1)}),
)
_STATUSES: Final = (200, 200, 200, 204, 307, 400, 403, 404, 429, 500, 503)


def _vault() -> Callable[[random.Random], object]:
    options = VaultOptions(
        address="http://127.0.0.1:1",
        auth=AuthOptions(method="approle", role_id="r", secret_id="env:S"),
    )
    session = VaultClient(options, lambda _: Secret("a-secret-id"))
    backend = VaultBackend("vault", options, session)
    chance = random.Random()

    class Fake(requests.adapters.BaseAdapter):
        def send(self, request: Any, **_: Any) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer.url, answer.request = (
                chance.choice(_STATUSES),
                request.url,
                request,
            )
            answer.headers["Location"] = chance.choice(
                ("http://[", "/v1/x", "http://127.0.0.1:1/x", "//a")
            )
            answer._content, answer.raw = spoilt_json(_VAULT, chance), io.BytesIO()
            return answer

        def close(self) -> None:
            pass

    session._client.adapter.session.mount("http://", Fake())

    def run(given: random.Random) -> object:
        chance.setstate(given.getstate())
        backend._checked = given.random() < 0.5
        if given.random() < 0.1:
            session._client.token = None
        return given.choice(_CALLS)(backend)

    return run


def _aws() -> Callable[[random.Random], object]:
    options = AwsOptions(
        region="eu-central-1", endpoint="http://127.0.0.1:1", attempts=1, writes_a_second=10**9
    )
    client = Client(options)
    backend = AwsBackend("aws", options, client)
    chance = random.Random()

    class Fake:
        def send(self, request: Any) -> AWSResponse:
            answer = AWSResponse(
                request.url, chance.choice(_STATUSES), {"x-amzn-requestid": "1"}, None
            )
            answer._content = spoilt_json(_AWS, chance)
            return answer

    client._client._endpoint.http_session = Fake()

    def run(given: random.Random) -> object:
        chance.setstate(given.getstate())
        return given.choice(_CALLS)(backend)

    return run


class _FakeSocket:
    """Says one thing, in pieces, and hangs up."""

    def __init__(self, said: bytes) -> None:
        self._said: bytes = said

    def recv(self, most: int) -> bytes:
        found, self._said = self._said[:most], self._said[most:]
        return found

    def sendall(self, _: bytes) -> None:
        pass

    def settimeout(self, _: float) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def setsockopt(self, *_: Any) -> None:
        pass

    def close(self) -> None:
        pass


def _text(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


_RESP: Final = (
    _text("redis_version:7.2.0\r\nrun_id:a\r\nrole:master\r\nslave0:ip=1.2.3.4,port=5\r\n"),
    _text("redis_version:7.2.0\r\ncluster_enabled:1\r\n")
    + _text("a 1.2.3.4:5@6,h master - 0\nb :0@0 noaddr\n"),
    b"*2\r\n" + _text("user default on nopass ~* +@all") + _text("user app on #ab (~x +get) +@all"),
    _text("id=7 addr=1.2.3.4:5 name= age=3 flags=N user=app\nid=8 age=4 user=app\n"),
    b"*1\r\n*3\r\n+get\r\n:2\r\n*1\r\n+readonly\r\n",
    b"*2\r\n-ERR x\r\n:5\r\n+OK\r\n",
    b"-NOPERM no\r\n",
)


def _wire(chance: random.Random) -> None:
    link = WireConnection.__new__(WireConnection)
    link.place, link.user, link.id, link.run_id = Endpoint(host="h", port=1), "a", "", ""
    link.limit, link.is_waiting = Limit(5), False
    link._buffer, link._bytes_left, link._parts_left = bytearray(), 0, 0
    good = chance.choice(_RESP)
    link._socket = cast("socket.socket", _FakeSocket(spoilt(good, chance)))
    node = Node(link, "auto", lambda _: frozenset())
    calls: tuple[Callable[[], object], ...] = (
        node.look,
        lambda: (node.look(), node.peers()),
        lambda: [node.users().get(name) for name in ("app", "default")],
        lambda: node.users().unreadable(quotes=True),
        lambda: node.clients("app"),
        lambda: node.is_read_only("get", ""),
        node.store,
        link.identify,
    )
    try:
        _ = chance.choice(calls)()
        _ = ValkeyClient.parse("id=1")
    except (NotRespError, OSError):
        # A link's own, which `Node` and `Server` translate.
        return


_ARN: Final = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x"
_EVENT: Final[dict[str, Any]] = {
    "Step": "createSecret",
    "SecretId": _ARN,
    "ClientRequestToken": "1" * 36,
    "RotationToken": "t",
    "now": True,
}
_FIELDS: Final[dict[str, Any]] = {
    "engine": "postgres",
    "host": "db",
    "port": 5432,
    "dbname": "x",
    "ssl": True,
    "masterarn": _ARN,
    "rotator": {
        "strategy": "alternating-users",
        "options": {"probes": ["SELECT 1"], "prefix": "x"},
    },
}
_ENVIRON: Final = {
    "ROTATOR_GRACE": "1h",
    "ROTATOR_OPTIONS": '{"group": "x"}',
    "ROTATOR_STRATEGY": "single-user",
    "EXCLUDE_CHARACTERS": "/@",
    "PASSWORD_LENGTH": "32",
    "ROTATOR_JOURNAL": "log",
}


def _lambda(chance: random.Random) -> None:
    match chance.randrange(4):
        case 0:
            _ = events.sound(forged(_EVENT, chance))
        case 1:
            _ = events.swept(forged(_EVENT, chance))
        case 2:
            environ = {**_ENVIRON, chance.choice(list(_ENVIRON)): str(chance.choice(_VALUES))}
            _ = settings(environ)
        case _:
            fields = dict[str, Any]()
            with suppress(ValueError):
                fields = json_object(spoilt_json(_FIELDS, chance))
            credential = Credential(username="app", password=Secret("x"), fields=fields)
            version = Version(id="1", credential=credential, rotation_id=None, created=_NOW)
            # Tags come in answers of AWS, which hold no halves of characters.
            tag = str(chance.choice(_VALUES)).replace("\ud800", "?")
            tags = {secret_json.OPTION_TAG + "prefix": tag}
            operators = secret_json.Operators(tags=tags if chance.random() < 0.3 else {})
            about = secret_json.described(version, operators, None)
            secret_json.check_pending(about, credential, credential)


_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _row(secret: str, seq: int, prev: str) -> dict[str, Any]:
    """Return an event whose hash is right."""
    values = (secret, seq, "2026-01-01T00:00:00.000000Z", "me", 1, "noted", None, None, "{}", prev)
    return dict(zip(rows.EVENT_COLUMNS, (*values, chain.event_hash(*values)), strict=False))


def _chain() -> list[dict[str, Any]]:
    made, prev = list[dict[str, Any]](), chain.START
    for seq in range(1, 4):
        made.append(_row("app", seq, prev))
        prev = made[-1]["hash"]
    return made


_EVENTS: Final = _chain()


_KEY = chain.new_signing_key()
_PUBLIC = chain.public_key(_KEY)
_NAMED = encoded(_PUBLIC)
_RING = (
    KeyRing.parse(_KEY)
    .with_successor(chain.new_signing_key())
    .handed_over()
    .text()
    .reveal()
    .encode()
)


def _rehashed(row: Any) -> Any:
    """Return a row with the hash that its content has: who writes a log can compute one."""
    if isinstance(row, dict):
        with suppress(TypeError, AttributeError, ValueError):
            row["hash"] = chain.event_hash(*(row.get(one) for one in rows.HASHED_COLUMNS))
    return row


def _log(chance: random.Random) -> None:
    made = [forged(one, chance) if chance.random() < 0.5 else one for one in _EVENTS]
    if chance.random() < 0.7:
        made = [_rehashed(one) for one in made]
    lines = [json.dumps({KEY: one, "request": "r"}) for one in made]
    at = chance.randrange(len(lines))
    if chance.random() < 0.5:
        lines[at] = spoilt(lines[at].encode(), chance).decode(errors="surrogateescape")
    if chance.random() < 0.2:
        lines[at] = json.dumps({"message": lines[at]})
    _ = verify_log(lines)
    _ = witnessed(lines)
    anchor = {"number": 1, "hash": "0" * 64, "key": "k"}
    text = spoilt_json(anchor, chance).decode(errors="surrogateescape")
    _ = witnessed([text, f"2026-01-01 {text}"])
    _ = Head.parse(spoilt(b"12 " + b"0" * 64, chance).decode(errors="surrogateescape"))
    SignedHeads(AuditReport()).take(
        1, spoilt_json({"app": [1, "0" * 64]}, chance).decode("latin-1")
    )
    _keys(chance)
    with suppress(RotatorError):
        _ = Anchor.parse(text)
    with suppress(RotatorError):
        _ = parse(spoilt(b"vault:a/b#c", chance).decode(errors="surrogateescape"))
    with suppress(ValueError):
        _ = durations.parse(spoilt(b"30d12h", chance).decode(errors="surrogateescape"))


def _keys(chance: random.Random) -> None:
    text = spoilt(_RING, chance).decode(errors="surrogateescape")
    with suppress(RotatorError):
        _ = KeyRing.parse(Secret(text)).key(chance.choice((None, "0" * 16)))
    named = chance.choice((_NAMED, "x", "", "=" * 44))
    heads = {NEXT: [1, named], PREVIOUS: [1, named], "(key)": [1, "0" * 16]}
    points = [spoilt_json(heads, chance).decode("latin-1") for _ in range(2)]
    signers = Signers(_PUBLIC, first_of(points))
    for number, one in enumerate(points, 1):
        row = {"number": number, "at": "", "heads": one, "hash": "0" * 64}
        signers.check(AuditReport(), row | {"key_id": "0" * 16, "signature": "aGVsbG8="})
    signers.end(AuditReport())
    line = {"number": 1, "hash": "0" * 64, "at": "", "key": "0" * 16, "signature": "aGVsbG8="}
    _ = countersigning.read([spoilt_json(line, chance).decode("latin-1")], _PUBLIC)


def _export(folder: Path) -> Callable[[random.Random], object]:
    def run(chance: random.Random) -> object:
        form = chance.choice(("jsonl", "csv"))
        made = [forged(one, chance) if chance.random() < 0.4 else one for one in _EVENTS]
        if chance.random() < 0.7:
            made = [_rehashed(one) for one in made]
        if form == "jsonl":
            text = "\n".join(map(json.dumps, made)) + "\n"
        else:
            file = io.StringIO()
            writer = csv.writer(file)
            writer.writerow(rows.EVENT_COLUMNS)
            with suppress(csv.Error):
                writer.writerows(
                    [one.get(name) for name in rows.EVENT_COLUMNS]
                    for one in made
                    if isinstance(one, dict)
                )
            text = file.getvalue()
        data = text.encode(errors="surrogatepass")
        data = spoilt(data, chance) if chance.random() < 0.5 else data
        points = b"number,at,heads,prev_hash,hash,signature\n" if form == "csv" else b""
        contents = {f"events.{form}": data, f"checkpoints.{form}": points}
        digests = {name: {"sha256": sha256(one).hexdigest()} for name, one in contents.items()}
        heads = {"app": [3, _EVENTS[-1]["hash"]]}
        manifest: Any = {
            "format": "rotator journal export 1",
            "files": digests,
            "heads": heads,
            "public_key": chance.choice((None, "x")),
        }
        text = (
            json.dumps(manifest)
            if chance.random() < 0.7
            else spoilt_json(manifest, chance).decode("latin-1")
        )
        for name, one in contents.items():
            _ = (folder / name).write_bytes(one)
        _ = (folder / "manifest.json").write_text(text, encoding="utf-8", errors="replace")
        _ = (folder / "manifest.sig").write_bytes(spoilt(b"aGVsbG8=", chance))
        return verify_export(folder)

    return run


def _config(folder: Path) -> Callable[[random.Random], object]:
    file = folder / "rotator.yaml"

    def run(chance: random.Random) -> object:
        if chance.random() < 0.5:
            data = spoilt(_CONFIG.encode(), chance)
        else:
            found = forged(yaml.safe_load(_CONFIG), chance)
            data = yaml.safe_dump(found, allow_unicode=True).encode(errors="surrogatepass")
        _ = file.write_bytes(data)
        return load(file, rotations=rotation_plugin, backends=backend_plugin)

    return run


def parsers(folder: Path) -> dict[str, Parser]:
    """Return the parsers, which may write into a folder."""
    return {
        "config": Parser(run=_config(folder), share=4),
        "vault": Parser(run=_vault(), share=186),
        "aws": Parser(run=_aws(), share=150),
        "lambda": Parser(run=_lambda, share=250),
        "valkey": Parser(run=_wire, share=250),
        "log": Parser(run=_log, share=100),
        "export": Parser(run=_export(folder), share=60),
    }


def bugs(name: str, parser: Parser, first: int, count: int) -> list[str]:
    """Try inputs by their numbers; return what went wrong that was none of our errors."""
    found: list[str] = []
    for number in range(first, first + count):
        try:
            _ = parser.run(random.Random(f"{name} {number}"))
        except RotatorError:
            continue
        except Exception:  # noqa: BLE001 # which is what is looked for
            found.append(f"{name} {number}:\n{traceback.format_exc(limit=-6)}")
            if len(found) == _SHOWN:
                break
    return found


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every input ended in a value or in one of our errors."""
    arg = argparse.ArgumentParser(description=__doc__)
    arg.add_argument("--count", type=int, default=100_000, help="inputs in all")
    arg.add_argument("--seed", type=int, default=1, help="the number of each parser's first input")
    arg.add_argument("--only", default="", help="one parser")
    given = arg.parse_args(arguments)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_CONFIG_FILE": "/none",
    }
    # To look for the plugin of an unknown engine reads the metadata of every installed package.
    plugins._points = functools.cache(plugins._points)
    failed = 0
    with scratch_folder("rotator-fuzz-") as folder:
        chosen = {name: one for name, one in parsers(folder).items() if given.only in ("", name)}
        whole = sum(one.share for one in chosen.values())
        for name, parser in chosen.items():
            left, first, begun = given.count * parser.share // whole, given.seed, time.monotonic()
            left = max(1, left)
            total = left
            while left:
                some = min(left, _PORTION)
                found = bugs(name, parser, first, some)
                failed += len(found)
                print(*found, sep="\n", end="", flush=True)
                if found:
                    break
                left, first = left - some, first + some
                print(f"  {name}: {total - left} of {total}", flush=True)
            print(f"{name}: {total - left} inputs, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
