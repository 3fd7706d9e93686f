"""`make lambda-bench`: what a cold start of the rotation function costs, against its bare libraries.

In fresh processes, one after the other in turn: importing boto3, making one client, importing psycopg;
and importing the handler and serving its first step (createSecret) over loopback. From inside each process,
so that starting Python counts for neither. It fails above 1.5 times the bare libraries, or 128 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import uuid

from rotator.testing.postgres import ScratchPostgres
from tests.aws_lambda.sandboxes import ACCESS, ROLES, Sandbox
from tests.load.programs import end_in_order
from tests.servers.secrets_manager import PENDING, SecretsManager

_MOST_TIMES = 1.5
_MOST_MB = 128.0
_BARE = """
import time; begun = time.perf_counter()
import boto3; boto3.client("secretsmanager", region_name="eu-central-1"); import psycopg
taken = time.perf_counter() - begun
"""
_OURS = """
import json, sys, time; begun = time.perf_counter()
from rotator.faces.aws_lambda import handler
imported = time.perf_counter() - begun
class Context: invoked_function_arn = ""; aws_request_id = "r"; get_remaining_time_in_millis = lambda _: 60_000
sys.stdout, out = sys.stderr, sys.stdout
handler(json.loads(sys.argv[1]), Context())
sys.stdout = out
taken = time.perf_counter() - begun
"""
_TELL = """
import resource
print(taken * 1000, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, locals().get("imported", 0) * 1000)
"""


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9)
    given = parser.parse_args()
    with ScratchPostgres() as server, SecretsManager() as aws:
        with server.connect() as admin:
            admin.execute(ROLES.encode())
        sandbox = Sandbox(server=server, aws=aws, dbname="postgres")
        arn = sandbox.secret(masterarn=sandbox.master())
        environ = (
            os.environ
            | ACCESS
            | {
                "AWS_REGION": "eu-central-1",
                "SECRETS_MANAGER_ENDPOINT": aws.endpoint,
            }
        )
        bare, ours = list[list[float]](), list[list[float]]()
        for _ in range(given.times + 1):
            bare.append(_run(_BARE + _TELL, environ))
            ours.append(_run(_OURS + _TELL, environ, _next(sandbox, arn)))
    found = summary(bare, ours)
    print(json.dumps(found, indent=2))
    missed = over(found)
    for one in missed:
        print(one, file=sys.stderr)
    sys.exit(bool(missed))


def summary(bare: list[list[float]], ours: list[list[float]]) -> dict[str, float]:
    """Return the figures of all runs, of which each has milliseconds, megabytes, and those of the import."""
    # The first of each warmed the disk.
    bare_ms, ours_ms = (statistics.median(one[0] for one in many[1:]) for many in (bare, ours))
    return {
        "bare_ms": round(bare_ms, 1),
        "ours_ms": round(ours_ms, 1),
        "of_that_import_ms": round(statistics.median(one[2] for one in ours[1:]), 1),
        "ratio": round(ours_ms / bare_ms, 2),
        "bare_rss_mb": round(max(one[1] for one in bare), 1),
        "ours_rss_mb": round(max(one[1] for one in ours), 1),
    }


def over(found: dict[str, float]) -> list[str]:
    """Return which limits were missed."""
    limits = {"ratio": _MOST_TIMES, "ours_rss_mb": _MOST_MB}
    return [
        f"{name} is {found[name]}, and may be {most} at most"
        for name, most in limits.items()
        if found[name] > most
    ]


def _next(sandbox: Sandbox, arn: str) -> str:
    """Begin a rotation as AWS does: a version with AWSPENDING and no value.

    As if it were the first: what the run before has begun would have to be undone, which no cold start does.
    """
    kept, token = sandbox.aws.secret(sandbox.name), str(uuid.uuid4())
    kept.tags.clear()
    for name in [name for name, one in kept.versions.items() if PENDING in one.stages]:
        del kept.versions[name]
    function, kept.function = kept.function, lambda _event: None
    sandbox.aws.answer("RotateSecret", {"SecretId": sandbox.name, "ClientRequestToken": token})
    sandbox.aws.wait()
    kept.function = function
    return json.dumps({"Step": "createSecret", "SecretId": arn, "ClientRequestToken": token})


def _run(code: str, environ: dict[str, str], *arguments: str) -> list[float]:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(one) for one in done.stdout.split()]


if __name__ == "__main__":
    end_in_order()
    main()
