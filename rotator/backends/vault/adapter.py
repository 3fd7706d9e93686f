"""What hvac sends through: within limits, to no place that was not named, and read as JSON objects."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import requests
from hvac.adapters import RawAdapter
from hvac.exceptions import VaultError
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from rotator.api import TooLarge, json_object, split_address
from rotator.backends.bounded_http import Limited
from rotator.backends.responses import Excessive, Malformed, part

if TYPE_CHECKING:
    from collections.abc import Sequence

_POOL: Final = 32
_MOST_REDIRECTS: Final = 3
_PORTS: Final = {"http": 80, "https": 443}
# Those by which a standby leads to another node, with the same method and body.
_REDIRECTS: Final = (307, 308)
_OK: Final = 200
_NOTHING: Final = 204


class RedirectRefused(Exception):
    """The server leads to a place that the configuration does not name."""


class VaultSession(requests.Session):
    """A session of requests that follows redirects to the named nodes only, by the same scheme."""

    def __init__(self, address: str, nodes: Sequence[str]) -> None:
        """`nodes`: HOST or HOST:PORT of others than the one at `address`."""
        super().__init__()
        parts = urlsplit(address)
        self._scheme: str = parts.scheme
        port = parts.port or _PORTS[self._scheme]
        self._places: frozenset[tuple[str, int]] = frozenset(
            [(str(parts.hostname), port)]
            + [(host.lower(), at) for host, at in (split_address(one, port) for one in nodes)]
        )
        # Retries are the engine's business, which knows what may be sent twice.
        for scheme in ("http://", "https://"):
            self.mount(scheme, _LimitedAdapter(pool_maxsize=_POOL, max_retries=0))
        # A few bytes can stand for gigabytes.
        self.headers["Accept-Encoding"] = "identity"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.max_redirects: int = _MOST_REDIRECTS
        # No proxy and no other authority by chance of the environment.
        self.trust_env: bool = False

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer leads to. Raises `RedirectRefused`: the token would go there too."""
        if not resp.is_redirect:
            return None
        url = self._known(resp.url, resp.headers["location"])
        if url is None or resp.status_code not in _REDIRECTS:
            resp.close()
            raise RedirectRefused
        return url

    def _known(self, here: str, location: str) -> str | None:
        """Return the URL of a redirect to one of our nodes, None for every other."""
        try:
            url = urljoin(here, location)
            parts = urlsplit(url)
            place = (parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        except ValueError:
            return None
        is_known = parts.scheme == self._scheme and place in self._places
        return url if is_known and "@" not in parts.netloc else None


class VaultAdapter(RawAdapter):
    """Answers with the object that the server sent; an empty one where it sent nothing."""

    def request(self, *args: Any, **given: Any) -> Any:
        """Send a request. Raises `Malformed` for an answer that is no object."""
        answer: requests.Response = super().request(*args, **given)
        if answer.status_code == _NOTHING:
            return {}
        if answer.status_code != _OK:
            raise Malformed("its status is not one that Vault sends")
        return _object(answer)

    def get_login_token(self, response: Any) -> Any:
        """Return the token of an answer to a login; not used, as it is looked at first."""
        return part(response, "auth", "client_token", kind=str)

    def _raise_for_error(self, method: str, url: str, response: requests.Response) -> None:
        """Raise hvac's error. What is no JSON, such as a proxy's page, is not kept."""
        try:
            body = _object(response)
        except Malformed:
            body = {}
        errors: Any = body.get("errors")
        said = [one for one in errors if isinstance(one, str)] if isinstance(errors, list) else []
        # Of a version that was deleted; nothing else of the answer is kept.
        data = body.get("data")
        about = {"metadata": data.get("metadata")} if isinstance(data, dict) else None
        error = VaultError.from_status(
            response.status_code, "", method=method, url=url, json={"data": about}
        )
        # Told apart by, and no part of the error's own text: a server may repeat what it was sent.
        error.errors = said
        raise error


def _object(answer: requests.Response) -> dict[str, Any]:
    try:
        return json_object(answer.content)
    except TooLarge as error:
        failed: Malformed = Excessive(str(error))
    except ValueError as error:
        failed = Malformed(str(error))
    raise failed


class _LimitedAdapter(HTTPAdapter):
    """An adapter whose connections are limited."""

    def init_poolmanager(self, *args: Any, **given: Any) -> None:
        """Make the pools."""
        super().init_poolmanager(*args, **given)
        pools: Any = {"http": _HttpPool, "https": _HttpsPool}
        self.poolmanager.pool_classes_by_scheme = pools

    def send(self, *args: Any, **given: Any) -> requests.Response:
        """Send a request. Raises `ContentDecodingError` for an answer that is packed."""
        answer = super().send(*args, **given)
        if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            answer.close()
            raise requests.exceptions.ContentDecodingError("the response is compressed")
        return answer


class _Https(Limited, HTTPSConnection):
    """Over TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls: type[Any] = Limited


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls: type[Any] = _Https
