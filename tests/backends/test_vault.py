"""The Vault backend over a real OpenBao: the contract, lost answers, logins, rights, findings."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from rotator.api import (
    Access,
    Credential,
    Denied,
    Secret,
    Severity,
    StepError,
    Transient,
    Unavailable,
    Unknown,
    UsageError,
)
from rotator.backends.vault.backend import PLUGIN, VaultBackend
from rotator.backends.vault.errors import (
    MountAbsent,
    NotAllowed,
    NotVersioned,
    RateLimited,
    Sealed,
    VersionGone,
)
from rotator.backends.vault.options import AuthOptions, VaultOptions
from rotator.backends.vault.session import VaultClient
from rotator.testing.backend_suite import BackendSuite, credential, publish
from rotator.testing.fakes import ManualClock
from tests.servers.openbao import ScratchOpenBao

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Opener(Protocol):
    """Opens backends of one server."""

    def __call__(self, token: str | None = None, **given: Any) -> VaultBackend: ...


@pytest.fixture(scope="module")
def bao() -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao() as started:
        yield started


@pytest.fixture
def opened(bao: ScratchOpenBao) -> Iterator[Opener]:
    """Open backends of the server, as root where nothing else is said."""
    backends: list[VaultBackend] = []

    def open_one(token: str | None = None, **given: Any) -> VaultBackend:
        secrets = {"env:VAULT_TOKEN": Secret(token or bao.root_token)}
        options = VaultOptions(address=bao.address, **given)
        backends.append(VaultBackend("vault", options, VaultClient(options, secrets.__getitem__)))
        return backends[-1]

    yield open_one
    for one in backends:
        one.close()


@pytest.fixture(scope="module", params=["inmem", "raft"])
def store(request: pytest.FixtureRequest) -> Iterator[ScratchOpenBao]:
    with ScratchOpenBao(durable=request.param == "raft") as started:
        yield started


class TestContract(BackendSuite):
    """What every backend does, in memory and on raft storage."""

    plugin = PLUGIN

    @pytest.fixture
    def backend(self, store: ScratchOpenBao) -> Iterator[VaultBackend]:
        """Return the backend."""
        backend = _rooted(store)
        yield backend
        backend.close()

    @pytest.fixture
    def another(self, store: ScratchOpenBao) -> Iterator[VaultBackend]:
        """Return a second client with a login of its own."""
        backend = _rooted(store)
        yield backend
        backend.close()


def _rooted(bao: ScratchOpenBao) -> VaultBackend:
    secrets = {"env:VAULT_TOKEN": Secret(bao.root_token)}
    options = VaultOptions(address=bao.address)
    return VaultBackend("vault", options, VaultClient(options, secrets.__getitem__))


# -- what consumers and operators see -----------------------------------------------------------


def _kv(bao: ScratchOpenBao, path: str, **query: Any) -> dict[str, Any]:
    extra = "&".join(f"{key}={value}" for key, value in query.items())
    return bao.call("GET", f"secret/data/{path}?{extra}")["data"]


def test_consumers_read_the_keys_they_know(bao: ScratchOpenBao, opened: Opener):
    """Keys of the operator's choice, what else was there, and a URL made of them."""
    backend = opened(
        username_field="user",
        password_field="pass",
        templates={"url": "postgresql://{username}:{password:url}@{host}:{port}/app"},
    )
    path = "apps/own-keys"
    first = {"user": "old", "pass": "old", "host": "db", "port": 5432, "team": {"name": "x"}}
    bao.call("POST", f"secret/data/{path}", data=first)
    current = backend.current(path)
    assert current is not None
    assert (current.credential.username, current.rotation_id) == ("old", None)
    fields = current.credential.fields
    new = Credential(username="new", password=Secret("p@ss/w rd"), fields=fields)
    backend.stage(path, "r1", new)
    backend.publish(path, "r1", expect=current.id)
    served = _kv(bao, path)["data"]
    assert served.pop("rotator_rotation_id") == "r1"
    assert served == first | {
        "user": "new",
        "pass": "p@ss/w rd",
        "url": "postgresql://new:p%40ss%2Fw%20rd@db:5432/app",
    }
    again = backend.current(path)
    assert again is not None
    assert again.credential.fields == fields


def test_a_template_that_cannot_be_filled_stops_before_anything_is_kept(opened: Opener):
    """With the key that is missing."""
    backend = opened(templates={"url": "postgresql://{username}@{host}"})
    with pytest.raises(UsageError, match="requires 'host'"):
        backend.stage("apps/no-host", "r1", credential("a"))
    assert backend.staged("apps/no-host", "r1") is None


def test_the_settings_of_a_key_and_of_the_mount_stay_as_they_are(
    bao: ScratchOpenBao, opened: Opener
):
    """However often it is rotated."""
    backend, path = opened(), "apps/settings"
    settings = {"max_versions": 7, "delete_version_after": "720h0m0s", "cas_required": True}
    about = {"owner": "team x"}
    bao.call("POST", f"secret/metadata/{path}", custom_metadata=about, **settings)
    mount = bao.call("GET", "secret/config")["data"]
    for number in range(3):
        publish(backend, path, f"r{number}", f"login-{number}")
    found = bao.call("GET", f"secret/metadata/{path}")["data"]
    assert {key: found[key] for key in settings} == settings
    assert found["custom_metadata"] == about
    assert bao.call("GET", "secret/config")["data"] == mount


def test_a_staged_value_is_marked_as_ours_and_expires(bao: ScratchOpenBao, opened: Opener):
    """So that nobody wonders what it is, and nothing is left for ever; afterwards it is gone."""
    backend, path = opened(), "apps/marked"
    backend.stage(path, "r1", credential("a"))
    beside = f"secret/metadata/rotator-pending/{path}/r1"
    found = bao.call("GET", beside)["data"]
    assert found["custom_metadata"] == {"managed-by": "rotator", "rotation-id": "r1"}
    assert (found["max_versions"], found["delete_version_after"]) == (1, "720h0m0s")
    backend.publish(path, "r1", expect=None)
    with pytest.raises(RuntimeError, match="404"):
        bao.call("GET", beside)


def test_values_of_others_at_a_path_are_kept(bao: ScratchOpenBao, opened: Opener):
    """A single value is written beside what is there, whoever writes meanwhile."""
    backend, path = opened(), "keys/shared"
    bao.call("POST", f"secret/data/{path}", data={"theirs": "stays"})
    backend.put_value(path, "ours", Secret("x"))
    assert _kv(bao, path)["data"] == {"theirs": "stays", "ours": "x"}


# -- answers that are lost ----------------------------------------------------------------------


class _Wire:
    """Loses the answers to writes on a path, after the server has done what was asked."""

    def __init__(self, backend: VaultBackend) -> None:
        self.lose = ""
        self.sent: list[tuple[str, str]] = []
        session = backend._session._client.adapter.session
        self._real, session.request = session.request, self._request

    def _request(self, *, method: str, url: str, **given: Any) -> Any:
        self.sent.append((method, url))
        answer = self._real(method=method, url=url, **given)
        if self.lose and method == "post" and self.lose in url:
            self.lose = ""
            raise requests.exceptions.ReadTimeout
        return answer


def test_a_lost_answer_to_publish_is_found_out(bao: ScratchOpenBao, opened: Opener):
    """It was done once; that is what is returned, and it is not done again."""
    backend, path = opened(), "apps/lost-publish"
    first = publish(backend, path, "r1", "a")
    backend.stage(path, "r2", credential("b"))
    wire = _Wire(backend)
    wire.lose = f"data/{path}"
    version = backend.publish(path, "r2", expect=first)
    assert int(version) == int(first) + 1
    assert backend.publish(path, "r2", expect=first) == version
    assert _kv(bao, path)["metadata"]["version"] == int(version)
    assert backend.staged(path, "r2") is None


def test_a_lost_answer_to_stage_keeps_the_first_value(opened: Opener):
    """The next try, with another value, gets the one that was kept."""
    backend, path = opened(), "apps/lost-stage"
    wire = _Wire(backend)
    wire.lose = "/data/rotator-pending"
    with pytest.raises(Unknown):
        backend.stage(path, "r1", credential("a"))
    assert backend.stage(path, "r1", credential("b")).username == "a"


def test_a_lost_answer_to_restore_makes_one_copy(bao: ScratchOpenBao, opened: Opener):
    """The next try finds it."""
    backend, path = opened(), "apps/lost-restore"
    first, second = publish(backend, path, "r1", "a"), publish(backend, path, "r2", "b")
    wire = _Wire(backend)
    wire.lose = f"data/{path}"
    with pytest.raises(Unknown):
        backend.restore(path, expect=second, to=first)
    version = backend.restore(path, expect=second, to=first)
    assert _kv(bao, path)["metadata"]["version"] == int(version) == 3


def test_a_server_that_is_killed_has_kept_what_it_said(opened: Opener):
    """Staged, it can be published after the restart; published, it is served."""
    with ScratchOpenBao(durable=True) as bao:
        backend = _rooted(bao)
        publish(backend, "apps/app", "r1", "a")
        backend.stage("apps/app", "r2", credential("b"))
        bao.kill()
        with pytest.raises(Transient, match="is unreachable"):
            backend.publish("apps/app", "r2", expect="1")
        bao.restart()
        assert backend.publish("apps/app", "r2", expect="1") == "2"
        bao.kill()
        bao.restart()
        current = backend.current("apps/app")
        assert current is not None
        assert current.credential.username == "b"
        backend.close()


# -- what a server may say ----------------------------------------------------------------------


def test_a_sealed_server_is_told(opened: Opener):
    """It may be unsealed in a minute, so it is tried again; nothing was written."""
    with ScratchOpenBao() as bao:
        backend = _rooted(bao)
        publish(backend, "apps/app", "r1", "a")
        bao.seal()
        with pytest.raises(Sealed, match="is sealed"):
            backend.stage("apps/app", "r2", credential("b"))
        bao.unseal()
        assert backend.staged("apps/app", "r2") is None
        backend.close()


def test_a_rate_limit_is_told(bao: ScratchOpenBao, opened: Opener):
    """As something that passes."""
    backend = opened()
    publish(backend, "apps/limited", "r1", "a")
    bao.call("POST", "sys/quotas/rate-limit/tests", rate=1, path="secret")
    try:
        with pytest.raises(RateLimited, match="429"):
            _read_often(backend)
    finally:
        bao.call("DELETE", "sys/quotas/rate-limit/tests")


def _read_often(backend: VaultBackend) -> None:
    for _ in range(50):
        backend.current("apps/limited")


def test_a_missing_right_is_named_with_its_path(bao: ScratchOpenBao, opened: Opener):
    """As the line that the policy needs."""
    bao.policy("reader", 'path "secret/data/apps/app" { capabilities = ["read"] }')
    backend = opened(bao.token("reader"))
    assert backend.current("apps/app") is None
    with pytest.raises(NotAllowed, match="create and update") as raised:
        backend.stage("apps/app", "r1", credential("a"))
    assert "secret/metadata/rotator-pending/apps/app/+" in raised.value.hint
    with pytest.raises(NotAllowed, match="does not allow read on 'secret/data/apps/other'"):
        backend.current("apps/other")


def test_a_mount_that_is_not_there_is_told(opened: Opener):
    """With the command that makes it."""
    with pytest.raises(MountAbsent, match="no mount 'elsewhere'") as raised:
        opened(mount="elsewhere").current("apps/app")
    assert "bao secrets enable -path=elsewhere" in raised.value.hint


def test_version_1_is_refused_before_anything_is_written(bao: ScratchOpenBao, opened: Opener):
    """It has no versions, so two writers could not be told apart."""
    bao.call("POST", "sys/mounts/plain", type="kv", options={"version": "1"})
    backend = opened(mount="plain")
    with pytest.raises(NotVersioned, match="not a KV version 2 store"):
        backend.stage("apps/app", "r1", credential("a"))
    with pytest.raises(RuntimeError, match="404"):
        bao.call("LIST", "plain/")


@pytest.mark.parametrize("how", ["delete", "destroy"])
def test_a_newest_version_that_was_removed_is_no_empty_place(
    bao: ScratchOpenBao, opened: Opener, how: str
):
    """Nobody takes it for a secret that has never been there, and rotates from nothing."""
    backend, path = opened(), f"apps/{how}"
    version = publish(backend, path, "r1", "a")
    bao.call("POST", f"secret/{how}/{path}", versions=[int(version)])
    with pytest.raises(VersionGone, match=r"deleted|destroyed") as raised:
        backend.current(path)
    assert "bao kv undelete" in raised.value.hint
    assert backend.read(path, version) is None


def test_a_secret_with_other_keys_is_told(bao: ScratchOpenBao, opened: Opener):
    """With the names that were looked for."""
    bao.call("POST", "secret/data/apps/other-keys", data={"user": "a", "pass": "b"})
    with pytest.raises(Denied, match="no 'username' and 'password'"):
        opened().current("apps/other-keys")


def test_plain_http_to_another_machine_is_refused():
    """Every secret would cross the network in the clear."""
    with pytest.raises(UsageError, match="not encrypted"):
        VaultOptions(address="http://vault.example.org:8200")
    VaultOptions(address="https://vault.example.org:8200")


def test_tls_is_verified_by_the_authority_and_the_client_shows_its_certificate():
    """A server that nobody vouches for is refused, and so are we without a certificate."""
    with ScratchOpenBao(tls=True) as bao, ScratchOpenBao(tls=True) as other:
        secrets = {"env:VAULT_TOKEN": Secret(bao.root_token)}
        shown = {
            "client_cert": bao.folder / "server.crt",
            "client_key": bao.folder / "server.key",
        }

        def opened(**given: Any) -> VaultBackend:
            options = VaultOptions(address=bao.address, **given)
            return VaultBackend("vault", options, VaultClient(options, secrets.__getitem__))

        backend = opened(ca=bao.folder / "ca.crt", **shown)
        publish(backend, "apps/tls", "r1", "a")
        backend.close()
        for wrong in ({"ca": other.folder / "ca.crt", **shown}, shown):
            backend = opened(**wrong)
            with pytest.raises(Unavailable, match="the TLS connection failed"):
                backend.current("apps/tls")
            backend.close()
        backend = opened(ca=bao.folder / "ca.crt")
        with pytest.raises(StepError):
            backend.current("apps/tls")
        backend.close()


# -- logins --------------------------------------------------------------------------------------

_POLICY = 'path "secret/*" { capabilities = ["create", "read", "update", "delete", "list"] }'


@pytest.fixture(scope="module")
def logins(bao: ScratchOpenBao) -> ScratchOpenBao:
    """Auth methods, as an operator would set them up."""
    bao.policy("apps", _POLICY)
    for method in ("approle", "userpass", "jwt"):
        bao.call("POST", f"sys/auth/{method}", type=method)
    bao.call("POST", "auth/approle/role/app", token_policies=["apps"], token_ttl="1h")
    bao.call("POST", "auth/userpass/users/app", password="word", token_policies=["apps"])
    return bao


def _session(bao: ScratchOpenBao, secrets: dict[str, str], *given: Any, **auth: Any) -> VaultClient:
    options = VaultOptions(address=bao.address, auth=AuthOptions(**auth))
    known = {name: Secret(value) for name, value in secrets.items()}
    return VaultClient(options, known.__getitem__, *given)


def _works(session: VaultClient) -> bool:
    backend = VaultBackend("vault", VaultOptions(address=session._options.address), session)
    publish(backend, f"apps/{uuid4()}", "r1", "a")
    session.close()
    return True


def _approle(bao: ScratchOpenBao, **wrap: Any) -> tuple[str, str]:
    role = bao.call("GET", "auth/approle/role/app/role-id")["data"]["role_id"]
    return role, bao.call("POST", "auth/approle/role/app/secret-id")["data"]["secret_id"]


def test_approle_logs_in(logins: ScratchOpenBao):
    """By role id and secret id."""
    role_id, secret_id = _approle(logins)
    given = {"role_id": role_id, "secret_id": "env:ID"}
    assert _works(_session(logins, {"env:ID": secret_id}, method="approle", **given))


def test_a_new_secret_id_takes_over_without_a_restart(logins: ScratchOpenBao, tmp_path: Path):
    """As the guide says: issue, prove by a login, replace the file, destroy the old one."""
    role_id, old = _approle(logins)
    _, new = _approle(logins)
    file = tmp_path / "secret-id"
    file.write_text(old)
    auth = AuthOptions(method="approle", role_id=role_id, secret_id="file:secret-id")
    options = VaultOptions(address=logins.address, auth=auth)
    session = VaultClient(options, lambda _reference: Secret(file.read_text()))
    before = session.lookup()["id"]
    logins.call("POST", "auth/approle/login", role_id=role_id, secret_id=new)
    file.write_text(new)
    logins.call("POST", "auth/approle/role/app/secret-id/destroy", secret_id=old)
    assert session.lookup()["id"] == before
    logins.call("POST", "auth/token/revoke", token=before)
    assert session.lookup()["id"] != before
    session.close()


def test_a_wrapped_secret_id_is_unwrapped_once(logins: ScratchOpenBao):
    """The wrapping token is used up by it; a later login uses what was in it."""
    role_id, _ = _approle(logins)
    wrapped = logins.wrapped("auth/approle/role/app/secret-id")
    auth = {"method": "approle", "role_id": role_id, "secret_id": "env:ID", "wrapped": True}
    session = _session(logins, {"env:ID": wrapped}, **auth)
    first = session.lookup()["id"]
    logins.call("POST", "auth/token/revoke", token=first)
    assert session.lookup()["id"] != first
    session.close()


def test_userpass_logs_in(logins: ScratchOpenBao):
    """By user and password."""
    auth = {"method": "userpass", "username": "app", "password": "env:WORD"}
    assert _works(_session(logins, {"env:WORD": "word"}, **auth))


def test_a_refused_login_is_told_without_what_was_given(logins: ScratchOpenBao):
    """With the method and where it is."""
    auth = {"method": "userpass", "username": "app", "password": "env:WORD"}
    session = _session(logins, {"env:WORD": "not-the-word"}, **auth)
    with pytest.raises(Unavailable, match="rejected the login by userpass") as raised:
        session.lookup()
    assert "not-the-word" not in f"{raised.value!r} {raised.value.__cause__!r}"
    absent = _session(logins, {"env:WORD": "x"}, mount="nowhere", **auth)
    with pytest.raises(Unavailable, match="auth/nowhere"):
        absent.lookup()


def test_a_projected_token_is_read_anew_at_each_login(logins: ScratchOpenBao, tmp_path: Path):
    """The kubelet replaces it every hour or so."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    logins.call("POST", "auth/jwt/config", jwt_validation_pubkeys=[public.decode()])
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["rotator"]}
    logins.call("POST", "auth/jwt/role/app", token_policies=["apps"], **role)
    file = tmp_path / "token"
    file.write_text(_jwt(key, life=600))
    session = _session(logins, {}, method="jwt", role="app", jwt_file=file)
    first = session.lookup()["id"]
    file.write_text("spoilt")
    assert session.lookup()["id"] == first
    logins.call("POST", "auth/token/revoke", token=first)
    with pytest.raises(Unavailable, match="rejected the login by jwt"):
        session.lookup()
    file.write_text(_jwt(key, life=600))
    assert session.lookup()["id"] != first
    session.close()


def _jwt(key: ec.EllipticCurvePrivateKey, *, life: int) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = int(time.time())
    claims = {"sub": "app", "aud": "rotator", "iat": now, "nbf": now - 5, "exp": now + life}
    head = part(json.dumps({"alg": "ES256", "typ": "JWT"}).encode())
    text = f"{head}.{part(json.dumps(claims).encode())}"
    r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_an_agents_token_file_is_read_anew_when_its_token_is_refused(
    logins: ScratchOpenBao, tmp_path: Path
):
    """The agent has written a new one meanwhile."""
    sink = tmp_path / "sink"
    first, second = logins.token("apps"), logins.token("apps")
    sink.write_text(first + "\n")
    session = _session(logins, {}, method="token", token_file=sink)
    assert _works(session)
    logins.call("POST", "auth/token/revoke", token=first)
    backend = VaultBackend("vault", VaultOptions(address=logins.address), session)
    with pytest.raises(Unavailable):
        backend.current("apps/app")
    sink.write_text(second)
    assert backend.current("apps/sink") is None


def test_a_token_is_renewed_when_two_thirds_of_its_life_are_over(logins: ScratchOpenBao):
    """Once, whoever asks; and nobody logs in anew for it."""
    role_id, secret_id = _approle(logins)
    clock = ManualClock()
    auth = {"method": "approle", "role_id": role_id, "secret_id": "env:ID"}
    session = _session(logins, {"env:ID": secret_id}, clock.monotonic, **auth)
    token = session.lookup()["id"]
    clock.advance(timedelta(minutes=39))
    session.lookup()
    before = _requests(logins, "auth/token/renew-self")
    clock.advance(timedelta(minutes=2))
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: session.lookup()["id"], range(16)))
    assert ids == {token}
    assert _requests(logins, "auth/token/renew-self") == before + 1
    session.close()


def test_a_token_that_was_revoked_leads_to_one_new_login_from_many_threads(
    logins: ScratchOpenBao,
):
    """No storm: the others wait for the one."""
    role_id, secret_id = _approle(logins)
    auth = {"method": "approle", "role_id": role_id, "secret_id": "env:ID"}
    session = _session(logins, {"env:ID": secret_id}, **auth)
    first = session.lookup()["id"]
    logins.call("POST", "auth/token/revoke", token=first)
    before = _requests(logins, "auth/approle/login")
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: session.lookup()["id"], range(32)))
    assert len(ids) == 1
    assert ids != {first}
    assert _requests(logins, "auth/approle/login") == before + 1
    session.close()


def test_fifty_threads_whose_token_expires_in_the_middle_lose_nothing(logins: ScratchOpenBao):
    """Each goes on with the one new login; none of their calls fails."""
    role_id, secret_id = _approle(logins)
    auth = {"method": "approle", "role_id": role_id, "secret_id": "env:ID"}
    session = _session(logins, {"env:ID": secret_id}, **auth)
    backend = VaultBackend("vault", VaultOptions(address=logins.address), session)
    token, expired = session.lookup()["id"], Barrier(51)
    before = _requests(logins, "auth/approle/login")

    def work(number: int) -> str:
        path = f"apps/fifty-{number}"
        publish(backend, path, f"{uuid4()}", "first")
        expired.wait()
        expired.wait()
        publish(backend, path, f"{uuid4()}", "second")
        served = backend.current(path)
        return served.credential.username if served else ""

    with ThreadPoolExecutor(50) as pool:
        working = [pool.submit(work, number) for number in range(50)]
        expired.wait()
        logins.call("POST", "auth/token/revoke", token=token)
        expired.wait()
        assert {one.result() for one in working} == {"second"}
    assert _requests(logins, "auth/approle/login") == before + 1
    backend.close()


def test_a_right_that_is_missing_leads_to_no_new_login(logins: ScratchOpenBao):
    """The token is good; another one would have the same rights."""
    role_id, secret_id = _approle(logins)
    auth = {"method": "approle", "role_id": role_id, "secret_id": "env:ID"}
    session = _session(logins, {"env:ID": secret_id}, **auth)
    session.lookup()
    before = _requests(logins, "auth/approle/login")
    backend = VaultBackend("vault", VaultOptions(address=logins.address, mount="cubby"), session)
    for _ in range(5):
        with pytest.raises(Denied):
            backend.current("apps/app")
    assert _requests(logins, "auth/approle/login") == before
    session.close()


def _requests(bao: ScratchOpenBao, path: str) -> int:
    lines = map(json.loads, bao.audit_text.splitlines())
    return sum(one["type"] == "request" and one["request"]["path"] == path for one in lines)


def test_no_debug_log_of_a_library_and_no_error_holds_a_secret(
    bao: ScratchOpenBao, opened: Opener, caplog: pytest.LogCaptureFixture
):
    """Neither the password nor the token, in what hvac, requests and urllib3 log and raise."""
    caplog.set_level(logging.DEBUG)
    backend, path, strange = opened(), "apps/canary", f"s.{uuid4()}"
    publish(backend, path, "r1", "canary")
    backend.stage(path, "r2", credential("canary-two"))
    said = []
    for ask in (
        lambda: backend.publish(path, "r2", expect="7"),
        lambda: opened(strange).stage(path, "r3", credential("canary-three")),
        lambda: opened(mount="nowhere").stage(path, "r3", credential("canary-three")),
    ):
        with pytest.raises(StepError) as raised:
            ask()
        said += traceback.format_exception(raised.value)
    said += [record.getMessage() for record in caplog.records]
    said.append(bao.audit_text)
    assert any("/v1/secret/data/apps/canary" in one for one in said)
    for secret in ("password-of-canary", bao.root_token, strange):
        assert not any(secret in one for one in said)


def test_nothing_of_the_environment_is_taken_by_chance(
    bao: ScratchOpenBao, monkeypatch: pytest.MonkeyPatch
):
    """Neither a token nor a proxy nor an address that nobody named."""
    monkeypatch.setenv("VAULT_TOKEN", bao.root_token)
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    session = _session(bao, {"env:VAULT_TOKEN": "none-of-its-tokens"})
    with pytest.raises(Unavailable):
        session.lookup()
    session.close()


# -- findings ------------------------------------------------------------------------------------


def _found(backend: VaultBackend, path: str, days: int = 30) -> str:
    return " | ".join(
        f"{one.severity.value}: {one.message}"
        for one in backend.examine({path: timedelta(days=days)})
        if one.severity is not Severity.OK
    )


def test_a_life_shorter_than_the_period_is_an_error(bao: ScratchOpenBao, opened: Opener):
    """The secret that is in use would vanish before the next rotation."""
    backend = opened(bao.token("default"))
    path = "apps/short-lived"
    bao.policy("look", _POLICY)
    backend = opened(bao.token("look"))
    bao.call("POST", f"secret/metadata/{path}", delete_version_after="240h")
    assert "error: each version is deleted after 10 days" in _found(backend, path)
    assert _found(backend, path, days=9) == ""


def test_too_few_versions_a_root_token_and_what_was_left_behind_are_told(
    bao: ScratchOpenBao, opened: Opener
):
    """Each with its remedy."""
    backend, path = opened(), "apps/findings"
    bao.call("POST", f"secret/metadata/{path}", max_versions=2)
    backend.stage(path, "r1", credential("a"))
    found = _found(backend, path)
    assert "only 2 version(s) are kept" in found
    assert "the token is a root token" in found
    assert "1 pending value(s)" in found


# -- the policy ----------------------------------------------------------------------------------

_ACCESS = Access(rotated=("team/app",), kept=("rotator/audit",), read=("admin/main",))


def _whole_work(backend: VaultBackend, bao: ScratchOpenBao) -> None:
    """Everything that rotator does with a backend, on paths that nobody has used."""
    for path in ("team/app", "rotator/audit", "rotator-pending/team/app/r1"):
        bao.call("DELETE", f"secret/metadata/{path}")
    bao.call("POST", "secret/data/admin/main", data={"username": "root", "password": "p"})
    first = publish(backend, "team/app", "r1", "a")
    backend.stage("team/app", "r2", credential("b"))
    backend.discard("team/app", "r2")
    second = publish(backend, "team/app", "r3", "c")
    backend.restore("team/app", expect=second, to=first)
    backend.stage("team/app", "r4", credential("d"))
    assert backend.staged("team/app", "r4") is not None
    assert backend.stage("team/app", "r4", credential("e")).username == "d"
    assert backend.rotation_ids("team/app") == {"r1", "r3", "r4"}
    backend.discard("team/app", "r4")
    backend.put_value("rotator/audit", "anchor", Secret("1"))
    backend.put_value("rotator/audit", "anchor", Secret("2"))
    assert backend.get_value("rotator/audit", "anchor") == Secret("2")
    admin = backend.current("admin/main")
    assert admin is not None
    findings = backend.examine({"team/app": None})
    assert all(one.severity is not Severity.ERROR for one in findings)


def test_the_policy_is_enough_and_no_line_of_it_too_much(bao: ScratchOpenBao, opened: Opener):
    """With it everything works; without any line, or any capability of one, something does not."""
    text = PLUGIN.policy(VaultOptions(), _ACCESS, of="rotator")
    bao.policy("whole", text)
    _whole_work(opened(bao.token("whole")), bao)
    lines = text.splitlines()
    assert len(lines) == 8
    for number, line in enumerate(lines):
        listed = re.findall(r'"(\w+)"', line.partition("[")[2].partition("]")[0])
        for one in listed:
            left = ", ".join(f'"{other}"' for other in listed if other != one)
            less = re.sub(r"\[.*?\]", f"[{left}]" if left else '["deny"]', line)
            bao.policy("less", "\n".join([*lines[:number], less, *lines[number + 1 :]]))
            with pytest.raises(StepError, match="does not allow"):
                _whole_work(opened(bao.token("less")), bao)


def test_doctor_tells_which_right_a_token_lacks(bao: ScratchOpenBao, opened: Opener):
    """Before a rotation stops in the middle for want of it."""
    text = PLUGIN.policy(VaultOptions(), _ACCESS, of="rotator")
    bao.policy("nearly", text.replace('["create", "read", "update"]', '["read"]', 1))
    found = opened(bao.token("nearly", "default")).examine({"team/app": None})
    [missing] = [one for one in found if one.severity is Severity.ERROR]
    assert "lacks create and update on secret/data/team/app" in missing.message
    assert "rotator policy" in missing.remedy


def test_doctor_tells_how_long_a_token_lives(bao: ScratchOpenBao, opened: Opener):
    """One that can be renewed ends too, unless it has a period."""
    bao.policy("whole", PLUGIN.policy(VaultOptions(), _ACCESS, of="rotator"))
    for given, says in (
        ({"ttl": "1h"}, "renewed only up to its maximum TTL"),
        ({"ttl": "1h", "renewable": False}, "cannot be renewed"),
        ({"period": "1h"}, ""),
    ):
        told = [
            one.message
            for one in opened(bao.token("whole", "default", **given)).examine({"team/app": None})
            if "the token expires" in one.message
        ]
        assert [says in one for one in told] == ([True] if says else [])


def test_a_consumer_reads_its_secret_and_nothing_else(bao: ScratchOpenBao, opened: Opener):
    """Neither what is staged beside it, nor may it write."""
    root = opened()
    version = publish(root, "team/app", "r9", "a")
    root.stage("team/app", "r10", credential("b"))
    bao.policy("consumer", PLUGIN.policy(VaultOptions(), _ACCESS, of="consumer"))
    consumer = opened(bao.token("consumer"))
    current = consumer.current("team/app")
    assert current is not None
    assert current.id == version
    for forbidden in (
        lambda: consumer.staged("team/app", "r10"),
        lambda: consumer.stage("team/app", "r11", credential("c")),
        lambda: consumer.current("admin/main"),
    ):
        with pytest.raises(NotAllowed):
            forbidden()
    root.discard("team/app", "r10")
