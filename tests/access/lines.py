"""Lines of audit logs, as the servers write them."""

from __future__ import annotations

import json
from typing import Any

HASHED = "hmac-sha256:67f5e2d89d8d8fba3d5bfa3e6143283dd0449b708a631fbf87de50ebb78c3d75"


def vault(
    path: str = "secret/data/apps/shop",
    *,
    version: int | None = 2,
    at: str = "2026-01-02T12:00:00.168646516Z",
    role: str = "web",
    address: str = "10.0.0.1",
    kind: str = "response",
    operation: str = "read",
    password: str = HASHED,
    token: str = HASHED,
    namespace: dict[str, str] | None = None,
    **more: Any,
) -> bytes:
    """Return what OpenBao 2.7 writes for a read of KV version 2; checked against a real one."""
    request = {
        "id": "fa9c354f-fb2b-0dba-0b15-4e50348c2998",
        "operation": operation,
        "mount_point": "secret/",
        "mount_type": "kv",
        "client_token": token,
        "namespace": namespace or {"id": "root"},
        "path": path,
        "remote_address": address,
    }
    data = {
        "data": {"password": password, "username": HASHED},
        "metadata": {"created_time": at, "destroyed": False, "version": version},
    }
    record = {
        "time": at,
        "type": kind,
        "auth": {"client_token": token, "display_name": "approle", "metadata": {"role_name": role}},
        "request": request,
    }
    if kind == "response":
        record["response"] = {"mount_type": "kv", "data": data if version is not None else {}}
    return json.dumps(record | more, separators=(",", ":")).encode()


def cloudtrail(
    name: str = "apps/shop", *, at: str = "2026-01-02T12:00:00Z", **parameters: str
) -> dict[str, Any]:
    """Return an event of CloudTrail, with the fields that its documentation shows."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "AssumedRole",
            "arn": "arn:aws:sts::123456789012:assumed-role/web/session-1",
            "sessionContext": {"sessionIssuer": {"arn": "arn:aws:iam::123456789012:role/web"}},
        },
        "eventTime": at,
        "eventSource": "secretsmanager.amazonaws.com",
        "eventName": "GetSecretValue",
        "sourceIPAddress": "10.0.0.2",
        "requestParameters": {"secretId": name, **parameters},
        "responseElements": None,
        "eventID": "4d1a6c0e-0000-0000-0000-000000000001",
    }
