"""A strict stand-in for three calls of IAM, on loopback: it rejects what AWS would reject.

moto has no SimulatePrincipalPolicy. Each answer has one item, so that everything is paged.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_SIMULATION = re.compile(
    r"Action|Version|PolicySourceArn|Marker|ActionNames\.member\.\d+|ResourceArns\.member\.1"
)
_SERVICE_ROLE = "arn:aws:iam::1:role/aws-service-role/x.amazonaws.com/AWSServiceRoleForX"


@dataclass
class Iam:
    """What it knows. `allowed`: the actions of each role or user. `denied`: every call is refused."""

    allowed: Mapping[str, set[str]]
    denied: bool = False
    simulated: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, given: Mapping[str, str]) -> tuple[int, str]:
        """Return status and body."""
        action, at = given["Action"], int(given.get("Marker", "0"))
        if self.denied:
            return _error(403, "AccessDenied")
        match action:
            case "ListRoles" | "ListUsers":
                kind, key = ("role", "Role") if action == "ListRoles" else ("user", "User")
                arns = [one for one in (*self.allowed, _SERVICE_ROLE) if f":{kind}/" in one]
                items = [_principal(key, arn) for arn in arns]
                return 200, _page(action, f"{key}s", items, at)
            case "SimulatePrincipalPolicy":
                return self._simulate(given, at)
            case _:
                return _error(400, "InvalidAction")

    def _simulate(self, given: Mapping[str, str], at: int) -> tuple[int, str]:
        source, resource = given.get("PolicySourceArn"), given.get("ResourceArns.member.1", "")
        if not all(_SIMULATION.fullmatch(one) for one in given):
            return _error(400, "ValidationError")
        if source not in self.allowed:
            return _error(404, "NoSuchEntity")
        if not re.fullmatch(r"arn:aws:secretsmanager:[a-z0-9-]+:\d+:secret:.+-\w{6}", resource):
            return _error(400, "InvalidInput")
        if at == 0:
            self.simulated.append((source, resource))
        actions = [value for key, value in given.items() if key.startswith("ActionNames.")]
        items = [self._result(source, resource, one) for one in actions]
        return 200, _page("SimulatePrincipalPolicy", "EvaluationResults", items, at)

    def _result(self, source: str, resource: str, action: str) -> str:
        may = action in self.allowed[source]
        matched = "<member><SourcePolicyId>reads-secrets</SourcePolicyId></member>" if may else ""
        return (
            f"<EvalActionName>{action}</EvalActionName><EvalResourceName>{escape(resource)}"
            f"</EvalResourceName><EvalDecision>{'allowed' if may else 'implicitDeny'}</EvalDecision>"
            f"<MatchedStatements>{matched}</MatchedStatements>"
        )


def _principal(key: str, arn: str) -> str:
    path, _, name = arn.partition("/")[2].rpartition("/")
    return (
        f"<Path>/{path + '/' if path else ''}</Path><{key}Name>{name}</{key}Name><{key}Id>AIDA1</{key}Id>"
        f"<Arn>{arn}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>"
    )


def _page(action: str, key: str, items: list[str], at: int) -> str:
    shown = "".join(f"<member>{one}</member>" for one in items[at : at + 1])
    more = at + 1 < len(items)
    marker = f"<Marker>{at + 1}</Marker>" if more else ""
    return (
        f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><{action}Result>'
        f"<{key}>{shown}</{key}><IsTruncated>{'true' if more else 'false'}</IsTruncated>{marker}"
        f"</{action}Result></{action}Response>"
    )


def _error(status: int, code: str) -> tuple[int, str]:
    return status, f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>"


@contextmanager
def serving(iam: Iam) -> Generator[Iam]:
    """Serve it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the base class's name
            length = int(self.headers["content-length"])
            status, body = iam.answer(dict(parse_qsl(self.rfile.read(length).decode())))
            self.send_response(status)
            self.send_header("content-type", "text/xml")
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    iam.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield iam
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
