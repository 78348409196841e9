"""Calls to one service over HTTP: reading only unless asked, with retries, a deadline and a log without secrets.

What a service may be asked is fixed when the client is made: GET and HEAD, the POST paths named as searches, and
writing only with ``writes=True``. The check sits in the lowest layer, so no caller can go around it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import stamina

from feedback_lib.errors import ConfigError, ReadOnlyError, TransportError

logger = logging.getLogger(__name__)

_RETRIED = frozenset((429, 500, 502, 503, 504))
_MAX_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status under 400."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    kind: str

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            TransportError: it is something else, such as a log-in page with status 200.
        """
        try:
            return json.loads(self.content)
        except ValueError:
            what = self.headers.get("content-type", "no content type").split(";")[0]
            raise TransportError(
                self.kind, f"the answer is not JSON ({what}); is this the address of its API?"
            ) from None


class Transport:
    """A client of one service.

    Args:
        kind: plug-in name, for messages and logs.
        base_url: where the service's paths start, such as ``http://prometheus:9090``.
        headers: sent with each request; a function is called for each, so that a secret is read when it is used.
        searches: paths that may be asked by POST although nothing is written.
        writes: allow every method; for sinks only.
        timeout_s: seconds one try may take, from connecting to the last byte.
        attempts: tries in all, for what may pass: no connection, 429, 500, 502, 503, 504.
        ca: a file of certificates to trust instead of the system's.
    """

    def __init__(
        self,
        kind: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        searches: tuple[str, ...] = (),
        writes: bool = False,
        timeout_s: float = 10,
        attempts: int = 3,
        ca: str | None = None,
    ) -> None:
        url = httpx.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"{kind}: {base_url!r} is no address; write one such as http://prometheus:9090")
        if url.userinfo:
            raise ConfigError(f"{kind}: the address holds a user or password; use the options for credentials")
        self.kind, self.host, self._path = kind, url.host, url.path.rstrip("/")
        self._headers = headers if callable(headers) else lambda: headers or {}
        self._attempts, self._timeout_s = attempts, timeout_s
        guard = _Guard(
            kind,
            writes=writes,
            searches=tuple(self._path + p for p in searches),
            verify=ca or True,
            http2=url.scheme == "https",
        )
        self._client = httpx.Client(base_url=url, transport=guard, timeout=timeout_s, follow_redirects=False)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Reply:
        """Ask for ``path``. Raises TransportError, see `call`."""
        return self.call("GET", path, params=params)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request and return the answer.

        Args:
            method: GET, or POST to a path named as a search; anything with ``writes``.
            path: below the base address.
            params: the query string; never a secret.
            body: sent as JSON.
            form: sent as a form.
            headers: for this request only.

        Raises:
            ReadOnlyError: the request would write and this client only reads.
            TransportError: no answer, or a status of 300 and above; ``status`` and ``body`` hold what came.
        """
        tries = stamina.retry_context(
            on=_pause, attempts=self._attempts, timeout=None, wait_initial=0.2, wait_max=10, wait_jitter=0.2
        )
        for attempt in tries:
            with attempt:
                return self._once(method, path, params=params, body=body, form=form, headers=headers)
        raise AssertionError("stamina leaves by returning or raising")

    def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None,
        body: Any,
        form: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        began = time.monotonic()
        status: int | str = "none"
        try:
            with self._client.stream(
                method, path, params=params, json=body, data=form, headers={**self._headers(), **(headers or {})}
            ) as answer:
                status = answer.status_code
                content = bytearray()
                for part in answer.iter_bytes():
                    content += part
                    if time.monotonic() - began > self._timeout_s:
                        raise TransportError(
                            self.kind, f"{self._at(path)} was still sending after {self._timeout_s:g} s"
                        )
                    if len(content) > _MAX_BYTES:
                        raise TransportError(
                            self.kind, f"{self._at(path)} sent more than {_MAX_BYTES >> 20} MiB; ask for less"
                        )
        except httpx.TimeoutException:
            raise TransportError(self.kind, f"{self._at(path)} did not answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise TransportError(self.kind, f"{self._at(path)}: {_reason(error)}") from None
        finally:
            logger.debug(
                "kind=%s method=%s host=%s path=%s status=%s seconds=%.3f",
                self.kind, method, self.host, path, status, time.monotonic() - began,
            )  # fmt: skip
        if answer.status_code >= 300:
            raise TransportError(
                self.kind,
                f"{self._at(path)} answered {answer.status_code} {answer.reason_phrase}".rstrip(),
                status=answer.status_code,
                body=bytes(content[:65536]),
                retry_after_s=_retry_after(answer.headers.get("retry-after")),
            )
        return Reply(answer.status_code, dict(answer.headers), bytes(content), self.kind)

    def _at(self, path: str) -> str:
        return f"{self.host} {self._path}{path}"

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


class _Guard(httpx.HTTPTransport):
    """Lets out only what the client was made for."""

    def __init__(self, kind: str, *, writes: bool, searches: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self._kind, self._writes, self._searches = kind, writes, searches

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        search = request.method == "POST" and request.url.path in self._searches
        if not (self._writes or search or request.method in ("GET", "HEAD")):
            raise ReadOnlyError(
                f"{self._kind}: {request.method} {request.url.path} would write; this client only reads"
            )
        return super().handle_request(request)


def secret(name: str, kind: str) -> str:
    """The value of an environment variable that holds a secret, read at the moment of use.

    Raises:
        ConfigError: it is not set.
    """
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(f"{kind}: environment variable {name} is not set; it should hold the credentials")
    return value


def _pause(error: Exception) -> bool | float:
    """Whether a failed try may be repeated, and after how many seconds if the service said so."""
    if not isinstance(error, TransportError) or (error.status is not None and error.status not in _RETRIED):
        return False
    return True if error.retry_after_s is None else min(error.retry_after_s, 60.0)


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or an HTTP date."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at - dt.datetime.now(dt.UTC)).total_seconds())


def _reason(error: httpx.HTTPError) -> str:
    """Words for a failure below HTTP; the library's own text may hold the whole address."""
    if isinstance(error, httpx.ConnectError):
        return "no connection; is it running, and is the address right?"
    return f"the connection broke ({type(error).__name__})"
