"""One login at a Vault, kept alive, shared by threads."""

from __future__ import annotations

import re
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import hvac
import requests
from hvac import exceptions

from rotator.api import Secret, ServerResponse, Transient, Unavailable, seconds_left
from rotator.backends.bounded_http import budget
from rotator.backends.responses import Malformed, part, table
from rotator.backends.vault.adapter import RedirectRefused, VaultAdapter, VaultSession
from rotator.backends.vault.errors import Foreign, MountAbsent, is_mount_absent, said, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from rotator.backends.vault.options import VaultOptions

# A token is renewed when two thirds of its life are over, as Vault's own agent does.
_RENEW_AT: Final = 2 / 3
# Ten years, in seconds: a server may say anything.
_LONGEST_LIFE: Final = 315_360_000
_TOKEN: Final = re.compile(r"[!-~]{1,65536}")
_NO_LOGIN: Final = (
    "Create a token with the policy that `rotator policy BACKEND` prints (bao token create"
    " -policy=rotator -period=768h), and store it where the backend's `auth.token` points. Or"
    " use an auth method that can log in again, such as AppRole."
)


def _authorities() -> str | bool:
    """Return the system's certificate authorities; those that requests brings where it has none."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


class VaultClient:
    """A client that is logged in. Safe to use from threads: they share one login."""

    def __init__(
        self,
        options: VaultOptions,
        resolve: Callable[[str], Secret],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is connected yet. `resolve` turns a reference into its value."""
        self.where: str = f"Vault at {options.address}"
        self._options: VaultOptions = options
        self._resolve: Callable[[str], Secret] = resolve
        self._monotonic: Callable[[], float] = monotonic
        self._guard: threading.Lock = threading.Lock()
        self._renew_at: float | None = None
        self._renewable: bool = False
        # The token, known to the scrubber, and what a wrapping token held.
        self._held: Secret | None = None
        self._unwrapped: Secret | None = None
        http = VaultSession(options.address, options.nodes)
        http.verify = str(options.ca) if options.ca is not None else _authorities()
        if options.client_cert is not None and options.client_key is not None:
            http.cert = (str(options.client_cert), str(options.client_key))
        self._client: Any = hvac.Client(
            url=options.address,
            namespace=options.namespace,
            timeout=max(1, round(options.timeout.total_seconds())),
            session=http,
            allow_redirects=True,
            adapter=VaultAdapter,
        )
        # hvac takes VAULT_TOKEN or ~/.vault-token by itself: only what is configured counts.
        self._client.token = None

    def close(self) -> None:
        """Close the connections. The token is left to expire: others may share it."""
        self._client.adapter.close()

    def ask(
        self,
        do: Callable[[Any], Any],
        *,
        path: str,
        capability: str,
        writing: bool = False,
        optional: bool = False,
    ) -> Any:
        """Call `do` with a client that is logged in; after a 403 once more with a new login.

        `path` and `capability` say what a policy must allow. Raises our errors, `CasMismatch`, and,
        where what is asked for is `optional`, `hvac.exceptions.InvalidPath` when it is not there. All
        of it takes no longer than the backend's timeout.
        """
        try:
            return self._ask(do, path, capability, writing=writing)
        except exceptions.InvalidPath:
            if optional:
                raise
        raise Foreign(
            f"{self.where} has no path {path!r} (404).",
            hint="Check whether the address belongs to another service, or whether the mount was"
            " removed.",
        )

    def _ask(self, do: Callable[[Any], Any], path: str, capability: str, *, writing: bool) -> Any:
        with self.limit():
            token = self._token()
            if not seconds_left(1):
                raise Transient(f"{self.where} did not answer in time; rotator sent nothing more.")
            with translated(self.where, path, capability, writing=writing):
                try:
                    return do(self._client)
                except exceptions.Forbidden:
                    if self._lives(token):
                        raise
                    if not self._again(token):
                        raise self._token_rejected() from None
                    return do(self._client)

    def limit(self) -> AbstractContextManager[None]:
        """Let what is asked inside take no longer than the backend's timeout, all requests together."""
        return budget(self._options.timeout.total_seconds())

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None, *, capability: str
    ) -> ServerResponse:
        """Send one request to any part of the server; a refusal by that part is an answer too."""

        def send(client: Any) -> ServerResponse:
            try:
                found: Any = client.adapter.request(
                    method.lower(), f"/v1/{quote(path)}", json=dict(body) if body else None
                )
            except exceptions.InvalidPath as error:
                if is_mount_absent(error):
                    raise
                return ServerResponse(status=404, said=said(error))
            except exceptions.InvalidRequest as error:
                return ServerResponse(status=400, said=said(error))
            except exceptions.InternalServerError as error:
                return ServerResponse(status=500, said=said(error))
            # 204 comes as an empty object.
            if found.get("data") is None:
                return ServerResponse(status=204)
            return ServerResponse(status=200, data=table(found, "data"))

        writing = capability in ("update", "create")
        try:
            return self.ask(send, path=path, capability=capability, writing=writing, optional=True)
        except exceptions.InvalidPath:
            mount = path.partition("/")[0]
            raise MountAbsent(
                f"{self.where} has no secrets engine at {mount!r}.",
                hint="List the engines: bao secrets list. Create one: bao secrets enable. Then set"
                " `mount`.",
            ) from None

    def lookup(self) -> dict[str, Any]:
        """Return what the server knows of our own token."""
        return self.ask(
            lambda client: table(client.auth.token.lookup_self(), "data"),
            path="auth/token/lookup-self",
            capability="read",
        )

    # -- the login -----------------------------------------------------------------------------

    def _token(self) -> str:
        """Return a token that is not about to expire."""
        token: str | None = self._client.token
        due = self._renew_at is not None and self._monotonic() >= self._renew_at
        if token is not None and not due:
            return token
        with self._guard:
            # While one logs in the others wait here, and find it done.
            due = self._renew_at is not None and self._monotonic() >= self._renew_at
            if self._client.token is None or (due and not self._renewed()):
                self._login()
            return str(self._client.token)

    def _again(self, refused: str) -> bool:
        """Log in anew after a token was refused; False when there is no other to be had."""
        with self._guard:
            if self._client.token == refused:
                self._login()
            return self._client.token != refused

    def _lives(self, token: str) -> bool:
        """Return whether this token is still valid, so that a 403 was about a right."""
        if self._client.token != token:
            return False
        try:
            # Answered for every valid token, whatever its policies.
            self._client.adapter.get("/v1/sys/internal/ui/mounts")
        except exceptions.Forbidden:
            return False
        return True

    def _token_rejected(self) -> Unavailable:
        """Return the error for a token that is no longer valid, where no login gives another one."""
        return Unavailable(
            f"{self.where} rejected rotator's token: it is expired, revoked, or from another"
            " server.",
            hint=_NO_LOGIN,
        )

    def _renewed(self) -> bool:
        if not self._renewable:
            return False
        try:
            answer = table(self._client.auth.token.renew_self(), "auth")
            before = self._renew_at
            self._take(answer)
        except (exceptions.VaultError, requests.RequestException, RedirectRefused, Malformed):
            return False
        # Near its greatest age a token is renewed by less each time: then log in anew.
        return self._renew_at is None or before is None or self._renew_at > self._monotonic() + 1

    def _take(self, auth: dict[str, Any]) -> None:
        life = min(part(auth, "lease_duration", kind=(int, float)), _LONGEST_LIFE)
        self._renewable = bool(auth.get("renewable"))
        self._renew_at = self._monotonic() + life * _RENEW_AT if life else None

    def _login(self) -> None:
        auth = self._options.auth
        mount = auth.mount or auth.method
        path = f"auth/{mount}/login"
        self._client.token, self._renew_at = None, None
        if auth.method == "token":
            self._client.token = self._given_token()
            return
        with translated(self.where, path, "update"):
            try:
                answer = table(self._methods()[auth.method](mount), "auth")
                token = part(answer, "client_token", kind=str)
                self._take(answer)
            except (exceptions.InvalidRequest, exceptions.Forbidden, exceptions.Unauthorized):
                raise Unavailable(
                    f"{self.where} rejected the login by {auth.method} (at auth/{mount}).",
                    hint="Check the backend's `auth`: the role, id or password may be wrong, used"
                    " up or expired.",
                ) from None
            except exceptions.InvalidPath:
                raise Unavailable(
                    f"{self.where} has no auth method at auth/{mount}.",
                    hint="Set `auth.mount` to the path of the auth method.",
                ) from None
        self._client.token = self._sendable(Secret(token))

    def _given_token(self) -> str:
        auth = self._options.auth
        if auth.token_file is not None:
            try:
                text = auth.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise Unavailable(
                    f"cannot read the token file {auth.token_file}.",
                    hint="Check that the agent that writes it is running, and that rotator may"
                    f" read it: ls -l {auth.token_file}",
                ) from None
            self._held = Secret(text)
        else:
            self._held = self._resolve(auth.token or "env:VAULT_TOKEN")
        return self._sendable(self._held)

    def _sendable(self, token: Secret) -> str:
        """Return a token for a header. Raises `Unavailable` where it holds what no header may."""
        self._held = token
        if not _TOKEN.fullmatch(token.reveal()):
            raise Unavailable(
                f"the token for {self.where} is empty, or contains characters that are invalid"
                " in a token.",
                hint="Check the backend's `auth`: the token's source may contain something else.",
            )
        return token.reveal()

    def _methods(self) -> dict[str, Callable[[str], Any]]:
        auth, client = self._options.auth, self._client

        def approle(mount: str) -> Any:
            secret_id = self._unwrapped or self._resolve(auth.secret_id or "")
            if auth.wrapped and self._unwrapped is None:
                # Unwrapping uses the token up, so what was in it is kept for the next login.
                answer = client.adapter.post(
                    "/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": secret_id.reveal()}
                )
                secret_id = self._unwrapped = Secret(part(answer, "data", "secret_id", kind=str))
            return client.auth.approle.login(
                auth.role_id, secret_id.reveal(), use_token=False, mount_point=mount
            )

        def kubernetes(mount: str) -> Any:
            return client.auth.kubernetes.login(
                auth.role, self._jwt(), use_token=False, mount_point=mount
            )

        def jwt(mount: str) -> Any:
            return client.auth.jwt.jwt_login(auth.role, self._jwt(), use_token=False, path=mount)

        def userpass(mount: str) -> Any:
            password = self._resolve(auth.password or "")
            return client.auth.userpass.login(
                auth.username, password.reveal(), use_token=False, mount_point=mount
            )

        def aws(mount: str) -> Any:
            from botocore.session import get_session  # noqa: PLC0415 # only this method needs it

            found = get_session().get_credentials()
            if found is None:
                raise Unavailable(
                    "no AWS credentials were found for the login by aws.",
                    hint="Give this process a role, or set AWS_PROFILE.",
                )
            keys = found.get_frozen_credentials()
            return client.auth.aws.iam_login(
                keys.access_key,
                keys.secret_key,
                session_token=keys.token,
                header_value=auth.server_id,
                role=auth.role,
                use_token=False,
                mount_point=mount,
            )

        return {
            "approle": approle,
            "kubernetes": kubernetes,
            "jwt": jwt,
            "userpass": userpass,
            "aws": aws,
        }

    def _jwt(self) -> str:
        """Read the projected token: it is replaced every hour or so."""
        file = self._options.auth.jwt_file
        try:
            return Secret(file.read_text(encoding="utf-8").strip()).reveal()
        except (OSError, UnicodeDecodeError):
            raise Unavailable(
                f"cannot read the token file {file}.", hint="Set `auth.jwt_file`."
            ) from None
