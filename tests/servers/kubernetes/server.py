"""The HTTP side of the stand-in: authentication, RBAC, patches, lists in pages, and faults on demand."""

from __future__ import annotations

import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.servers.kubernetes.controllers import Controllers
from tests.servers.kubernetes.objects import KINDS, Key, Objects, StatusError

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "a-token-of-a-service-account"
_PATH = re.compile(r"/(api/v1|apis/apps/v1)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?")
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_WHOLE = "application/json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass
class Call:
    """A request that arrived. `number` counts from 1."""

    number: int
    verb: str
    plural: str
    name: str
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.verb} {self.plural}/{self.name}".rstrip("/")


class Dropped(Exception):
    """The connection ends without an answer."""


# Called before a request is served: may raise `Dropped` or `StatusError`, or return a call for after it.
Fault = "Callable[[Call], Callable[[], None] | None]"


class Cluster:
    """A cluster with one API server on loopback. `rules` are those of a Role; None permits everything."""

    def __init__(self, certificates: Path | None = None, *, client_ca: Path | None = None) -> None:
        self.objects = Objects()
        self.controllers = Controllers(self.objects)
        self.rules: list[dict[str, Any]] | None = None
        self.tokens = {TOKEN}
        self.calls: list[Call] = []
        self.fault: Any = None
        self.headers: dict[str, str] = {}
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.is_tls = certificates is not None
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
            if client_ca is not None:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations(client_ca)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Cluster:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    # -- for tests -----------------------------------------------------------------------------

    def kubeconfig(self, file: Path, *, cluster: Any = None, user: Any = None) -> Path:
        """Write a kubeconfig for this cluster."""
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [
                {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}
            ],
            "clusters": [{"name": "c", "cluster": {"server": self.url, **(cluster or {})}}],
            "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        }
        file.write_text(yaml.safe_dump(data))
        file.chmod(0o600)
        return file

    def secret(self, name: str) -> dict[str, str]:
        """Return the keys of a Secret in plain text."""
        return self.objects.history[("secrets", "shop", name)][-1]

    def workload(self, plural: str, name: str, pod: dict[str, Any], **more: Any) -> Key:
        """Create a workload, and let its pods start."""
        key = (plural, "shop", name)
        labels = {"app": name}
        spec: dict[str, Any] = {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **({} if plural == "daemonsets" else {"replicas": 2}),
            **({"serviceName": name} if plural == "statefulsets" else {}),
            **more,
        }
        metadata = {"annotations": {"nodes": "2"}}
        with self.lock:
            self.objects.update(key, {"metadata": metadata, "spec": spec}, "kubectl-create")
            self.controllers.settle()
        return key

    def restarts(self, key: Key) -> int:
        with self.lock:
            self.controllers.note()
            return len(self.controllers.restarts.get(key, []))

    def made(self, *verbs: str) -> list[str]:
        """Return the calls of some verbs, in order."""
        return [str(call) for call in self.calls if call.verb in verbs]

    # -- answers -------------------------------------------------------------------------------

    def _permit(self, verb: str, group: str, plural: str, name: str) -> None:
        if self.rules is None:
            return
        api = "" if group == "api/v1" else "apps"
        for rule in self.rules:
            names = rule.get("resourceNames")
            # A list, and the creation of an object, have no name that could be compared.
            is_named = names is None or (verb not in ("list", "create") and name in names)
            if (
                verb in rule["verbs"]
                and plural in rule["resources"]
                and api in rule["apiGroups"]
                and is_named
            ):
                return
        text = f'{plural} "{name}" is forbidden: User "agent" cannot {verb} resource "{plural}"'
        raise StatusError(403, "Forbidden", text)

    def serve(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        found = _PATH.fullmatch(parts.path)
        if found is None:
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        group, namespace, plural, name = found[1], found[2], found[3], unquote(found[4] or "")
        if plural not in KINDS or (group == "api/v1") is not (KINDS[plural][0] == "v1"):
            raise StatusError(404, "NotFound", "the server could not find the requested resource")
        key = (plural, namespace, name)
        if method == "GET":
            self._permit("get" if name else "list", group, plural, name)
            if name:
                return 200, self.objects.get(key)
            return 200, self._list(plural, namespace, query, headers.get("Accept", ""))
        if method != "PATCH" or not name:
            raise StatusError(405, "MethodNotAllowed", "not implemented here")
        self._permit("patch", group, plural, name)
        kind = headers.get("Content-Type", "")
        manager, force = query.get("fieldManager", ""), query.get("force")
        data = yaml.safe_load(body)
        if kind == _APPLY:
            if key not in self.objects.stored:
                self._permit("create", group, plural, name)
            status = self.objects.apply(key, data, manager, force=force == "true")
            return status, self.objects.get(key)
        if kind != _MERGE:
            raise StatusError(415, "UnsupportedMediaType", f"the body was in {kind}")
        if force is not None:
            raise StatusError(422, "Invalid", "force: Forbidden: may not be specified")
        self.objects.merge(key, data, manager)
        self.controllers.note()
        return 200, self.objects.get(key)

    def _list(self, plural: str, namespace: str, query: dict[str, str], accept: str) -> Any:
        if accept not in (_WHOLE, _METADATA):
            raise StatusError(406, "NotAcceptable", "only these media types are served")
        items = [
            self.objects.get(key)
            for key in sorted(self.objects.stored)
            if key[:2] == (plural, namespace)
        ]
        items = [
            one
            for one in items
            if _has_labels(one["metadata"].get("labels", {}), query.get("labelSelector", ""))
            and _has_fields(one, query.get("fieldSelector", ""))
        ]
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "0"))
        page = items[start : start + limit] if limit else items
        metadata: dict[str, Any] = {"resourceVersion": str(self.objects.revision)}
        if limit and start + limit < len(items):
            metadata["continue"] = str(start + limit)
        if accept == _METADATA:
            page = [
                {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": one["metadata"],
                }
                for one in page
            ]
        return {"kind": "List", "metadata": metadata, "items": page}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answered(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                found = _PATH.fullmatch(urlsplit(self.path).path)
                verb = {"GET": "get" if found and found[4] else "list"}.get(
                    self.command, self.command.lower()
                )
                with cluster.lock:
                    number = len(cluster.calls) + 1
                    plural, name = (found[3], found[4] or "") if found else (self.path, "")
                    call = Call(number, verb, plural, name, body)
                    cluster.calls.append(call)
                after = None
                try:
                    if cluster.fault is not None:
                        after = cluster.fault(call)
                    cluster.require_login(self)
                    with cluster.lock:
                        answer = cluster.serve(self.command, self.path, self.headers, body)
                    if after is not None:
                        after()
                except Dropped:
                    self.close_connection = True
                    return
                except StatusError as error:
                    answer = error.code, error.body
                self._send(*answer)

            do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = _answered  # noqa: N815 # the base's names

            def _send(self, status: int, data: Any) -> None:
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(cluster.objects.clock.now(), usegmt=True))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in cluster.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: Any) -> None:
                """Log nothing."""

        class Quiet(Handler):
            def handle(self) -> None:
                try:
                    super().handle()
                except (BrokenPipeError, ConnectionResetError):
                    return

        return Quiet

    def require_login(self, handler: BaseHTTPRequestHandler) -> None:
        scheme, _, token = handler.headers.get("Authorization", "").partition(" ")
        connection = handler.connection
        has_certificate = isinstance(connection, ssl.SSLSocket) and connection.getpeercert()
        if not has_certificate and not (scheme == "Bearer" and token in self.tokens):
            raise StatusError(401, "Unauthorized", "Unauthorized")


def _has_labels(labels: dict[str, str], selector: str) -> bool:
    for part in re.split(r",(?![^(]*\))", selector) if selector else ():
        if found := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", part):
            is_in = labels.get(found[1]) in found[3].split(",")
            holds = is_in is (found[2] == "in")
        elif part.startswith("!"):
            holds = part[1:] not in labels
        elif "=" in part:
            name, _, value = part.partition("=")
            holds = labels.get(name) == value
        else:
            holds = part in labels
        if not holds:
            return False
    return True


def _has_fields(one: dict[str, Any], selector: str) -> bool:
    for part in selector.split(",") if selector else ():
        name, _, value = part.partition("!=")
        if name != "status.phase":
            raise StatusError(400, "BadRequest", f"field label not supported: {name}")
        if one.get("status", {}).get("phase") == value:
            return False
    return True
