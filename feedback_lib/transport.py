"""Calls to one service over HTTP: reading only unless asked, with retries, a deadline and a log without secrets.

What a service may be asked is fixed when the client is made: its own address, GET and HEAD, the POST paths named as
searches, and writing only with ``writes=True``. The check sits in the lowest layer, so no caller can go around it.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import datetime as dt
import email.utils
import http
import http.cookiejar
import json
import logging
import math
import os
import random
import socket
import ssl
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import httpcore
import httpx
import orjson
import stamina

from feedback_lib.errors import ConfigError, ReadOnlyError, TransportError

logger = logging.getLogger(__name__)

_RETRIED = frozenset((429, 500, 502, 503, 504))
_OVERRIDES = frozenset(("x-http-method-override", "x-http-method", "x-method-override"))
_HINTS = {
    401: "; are the credentials right?",
    403: "; may these credentials see it?",
    404: "; is the address right?",
    407: "; a proxy stands in between",
}
_CHATTY = "httpx httpcore.connection httpcore.http11 httpcore.http2 hpack.hpack hpack.table stamina"
_BROKEN = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_UNREAD = object()
_ends: contextvars.ContextVar[float | None] = contextvars.ContextVar("ends", default=None)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status under 300."""

    status: int
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    content: bytes = dataclasses.field(repr=False)
    kind: str
    place: str = ""  # who answered and to which path, for messages
    _asked: str = dataclasses.field(default="", repr=False)
    _base: str = dataclasses.field(default="", repr=False)
    _read: Any = dataclasses.field(default=_UNREAD, repr=False, compare=False)

    def json(self) -> Any:
        """The body as JSON, decoded once.

        Raises:
            TransportError: it is something else, such as a log-in page with status 200.
        """
        if self._read is _UNREAD:
            object.__setattr__(self, "_read", self._decoded())
        return self._read

    def _decoded(self) -> Any:
        try:
            return orjson.loads(self.content)
        except ValueError:
            pass  # NaN, a byte order mark and the like, which the standard library reads
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            what = self.headers.get("content-type", "no content type").split(";")[0][:60]
            raise self._error(f"the answer is not JSON ({what}); is this the address of its API?") from None

    def link(self, rel: str = "next") -> str | None:
        """The target of the ``Link`` header with this ``rel``: path and query below the client's address.

        Raises:
            TransportError: it points to another host or above the client's address, where its token has no business.
        """
        links = httpx.Response(200, headers={"Link": self.headers.get("link", "")}).links.values()
        target = next((link["url"] for link in links if rel in link.get("rel", "").lower().split()), None)
        if target is None:
            return None
        base = httpx.URL(self._base)
        try:
            url = httpx.URL(self._asked).join(target)
        except httpx.InvalidURL:
            raise self._error(f"its link rel={rel} is no address") from None
        prefix = base.raw_path.rstrip(b"/") + b"/"
        if _origin(url) != _origin(base) or url.userinfo or not url.raw_path.startswith(prefix):
            raise self._error(f"its link rel={rel} points away from {base.host}{base.path}; it is not followed")
        return url.raw_path[len(prefix) - 1 :].decode()

    def _error(self, message: str) -> TransportError:
        place = f"{self.place}: " if self.place else ""
        return TransportError(self.kind, place + message, status=self.status)


class Transport:
    """A client of one service, for use from any number of threads.

    A call takes at most ``attempts`` × ``timeout_s`` seconds, pauses included; only looking up the host's name can add
    what the system allows it. A service that asks for a longer pause is not waited for.

    Args:
        kind: plug-in name, for messages and logs.
        base_url: where the service's paths start, such as ``http://prometheus:9090``.
        headers: sent with each request; a function is called for each, so that a secret is read when it is used.
        searches: paths that may be asked by POST although nothing is written.
        writes: allow every method; for sinks only.
        timeout_s: seconds one try may take, from connecting to the last byte.
        attempts: tries in all, for what may pass: no connection, 429, 500, 502, 503, 504.
        ca: a file of certificates to trust instead of the usual ones.
        max_bytes: a longer answer is refused.
        hidden: secrets that stand in the address itself; messages and logs show ``[token]`` in their place.

    Raises:
        ConfigError: the address, ``timeout_s`` or ``ca`` cannot be used.
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
        max_bytes: int = 256 * 2**20,
        hidden: tuple[str, ...] = (),
        proxy: str | None = None,
        patience_s: float = 0,
        per_minute: float | None = None,
        concurrent: int = 8,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        url = _address(kind, base_url)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
            raise ConfigError(f"{kind}: timeout_s = {timeout_s!r}: expected seconds, more than 0")
        self.kind, self.host, self._path = kind, url.host, url.path.rstrip("/")
        self._place = url.netloc.decode()
        self._headers = headers if callable(headers) else lambda: headers or {}
        self._attempts, self._timeout_s, self._max_bytes = attempts, timeout_s, max_bytes
        self._hidden = hidden
        context = _certificates(kind, url, ca)
        guard = _Guard(kind, url, writes=writes, searches=searches, context=context, hidden=hidden)
        self._client = httpx.Client(
            base_url=url,
            transport=guard,
            timeout=timeout_s,
            follow_redirects=False,
            headers={"User-Agent": "feedback-workbench"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=())),
        )
        self._close = weakref.finalize(self, self._client.close)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Reply:
        """Ask for ``path``. Raises TransportError, see `call`."""
        return self.call("GET", path, params=params)

    def ask(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        form: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Ask for JSON: GET, or POST when there is a ``body`` or a ``form``; the reply's `json` will not fail.

        Raises: see `call`.
        """
        method = "GET" if body is None and form is None else "POST"
        reply = self.call(method, path, params=params, body=body, form=form)
        reply.json()
        return reply

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
            ConfigError: the path or a header cannot be sent.
            TransportError: no answer, or a status of 300 and above; ``status`` and ``body`` hold what came.
        """
        ends = time.monotonic() + self._attempts * self._timeout_s
        tried = 0

        def pause(error: Exception) -> bool | float:
            nonlocal tried
            if not isinstance(error, _MayPass):
                return False
            tried += 1
            wait = min(10.0, 0.2 * 2 ** (tried - 1)) + random.uniform(0, 0.2)
            wait = max(wait, error.told.retry_after_s or 0)
            return wait if time.monotonic() + wait < ends else False

        with _until(ends):
            try:
                for attempt in stamina.retry_context(on=pause, attempts=self._attempts, timeout=None):
                    with attempt, _until(min(ends, time.monotonic() + self._timeout_s)):
                        return self._once(method, path, params=params, body=body, form=form, headers=headers)
            except _MayPass as last:
                raise last.told from None
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
        sent = self._sendable({**self._headers(), **(headers or {})})
        try:
            request = self._client.build_request(method, path, params=params, json=body, data=form, headers=sent)
        except httpx.InvalidURL:
            shown = self._shown(path.partition("?")[0])
            raise ConfigError(f"{self.kind}: {shown!r} is no path on {self._place}") from None
        at = f"{self._place} {self._shown(request.url.path)}"
        status, content = 0, bytearray()
        try:
            answer = self._client.send(request, stream=True)
            with contextlib.closing(answer):
                status = answer.status_code
                announced = answer.headers.get("content-length", "")
                if request.method != "HEAD" and announced.isdecimal():
                    self._check_size(at, int(announced))
                for part in answer.iter_bytes():
                    content += part
                    self._check_size(at, len(content))
        except (*_BROKEN, httpx.HTTPError) as error:
            raise self._failure(at, error, status, time.monotonic() - began) from None
        finally:
            logger.debug(
                "kind=%s method=%s host=%s path=%s status=%s bytes=%d seconds=%.3f",
                self.kind, request.method, self._place, self._shown(request.url.path), status or "none", len(content),
                time.monotonic() - began,
            )  # fmt: skip
        if status >= 300:
            told = TransportError(
                self.kind,
                f"{at} answered {_said(status)}{_points_to(answer)}",
                status=status,
                body=bytes(content[:65536]),
                retry_after_s=_retry_after(answer.headers),
            )
            raise _MayPass(told) if status in _RETRIED else told
        base = str(self._client.base_url)
        return Reply(status, dict(answer.headers), bytes(content), self.kind, at, str(request.url), base)

    def _sendable(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not (value.isascii() and (value.isprintable() or not value) and value == value.strip()):
                raise ConfigError(
                    f"{self.kind}: what header {name} should hold has a line break, a space at an end or a letter that "
                    "no header can carry; look at the environment variable it comes from"
                )
        return headers

    def _check_size(self, at: str, size: int) -> None:
        if size > self._max_bytes:
            raise TransportError(self.kind, f"{at} sent more than {self._max_bytes / 2**20:g} MiB; ask for less")

    def _failure(self, at: str, error: Exception, status: int, seconds: float) -> Exception:
        """What to raise for a failure below HTTP; the library's own text may hold the whole address."""
        cause = error.args[0] if error.args else None  # httpcore keeps what the system said
        if isinstance(error, httpcore.TimeoutException):
            words = "was still sending" if status else "did not answer"
            return self._may_pass(f"{at} {words} after {seconds:.1f} s")
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"{at}: its certificate is not accepted ({cause.verify_message.rstrip('.')})"
            return TransportError(self.kind, f"{what}; is the host's name right, and does it need a file in 'ca'?")
        if isinstance(cause, ssl.SSLError):
            return TransportError(self.kind, f"{at}: no TLS connection ({cause.reason}); does it speak https?")
        if isinstance(cause, socket.gaierror):
            return self._may_pass(f"{at}: the name of the host is not known here")
        if isinstance(error, httpcore.ConnectError):
            return self._may_pass(f"{at}: no connection; is it running, and is the address right?")
        if isinstance(error, httpcore.NetworkError | httpcore.RemoteProtocolError):
            return self._may_pass(f"{at}: the connection broke {'in the middle of' if status else 'before'} its answer")
        return TransportError(self.kind, f"{at}: {type(error).__name__}; is this the address of its API?")

    def _may_pass(self, message: str) -> Exception:
        return _MayPass(TransportError(self.kind, message))

    def _shown(self, text: str) -> str:
        return _without(text, self._hidden)

    def close(self) -> None:
        """Close its connections. It is also done when nothing refers to this client any more."""
        self._close()


class _MayPass(Exception):  # a mark, not an error of its own
    """Around a TransportError that another try may not meet."""

    def __init__(self, told: TransportError) -> None:
        super().__init__(str(told))
        self.told = told


class _Guard(httpx.BaseTransport):
    """Lets out only what the client was made for, and ends each try at its deadline."""

    def __init__(
        self,
        kind: str,
        base: httpx.URL,
        *,
        writes: bool,
        searches: tuple[str, ...],
        context: ssl.SSLContext | None,
        hidden: tuple[str, ...],
    ) -> None:
        path = base.path.rstrip("/")
        self._hidden = hidden
        self._kind, self._writes, self._origin = kind, writes, _origin(base)
        self._searches = frozenset((path + search).encode() for search in searches)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            http2=context is not None,
            network_backend=_Network(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._check(request)
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        assert isinstance(request.stream, httpx.SyncByteStream)
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                target,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def _check(self, request: httpx.Request) -> None:
        if _origin(request.url) != self._origin:
            raise ReadOnlyError(f"{self._kind}: {request.url.host} is not the service this client was made for")
        search = request.method == "POST" and request.url.raw_path.partition(b"?")[0] in self._searches
        asks = request.method in ("GET", "HEAD") or search
        if not self._writes and (not asks or not _OVERRIDES.isdisjoint(request.headers)):
            path = _without(request.url.path, self._hidden)
            raise ReadOnlyError(f"{self._kind}: {request.method} {path} would write; this client only reads")

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The bytes of an answer as they come."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


class _Network(httpcore.SyncBackend):
    """Connections on which nothing waits longer than the calling thread's try may still take.

    A plain timeout starts anew with each byte, so a service that drips could hold a thread for ever.
    """

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, real: httpcore.NetworkStream) -> None:
        self._real = real

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._real.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._real.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._real.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._real.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._real.get_extra_info(info)


class _Quiet(logging.Filter):
    """Keeps what libraries say about our calls out of every log: they write addresses and headers whole."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _ends.get() is None


for _name in _CHATTY.split():
    logging.getLogger(_name).addFilter(_Quiet())


@contextlib.contextmanager
def _until(ends: float) -> Iterator[None]:
    """The deadline of what this thread does inside."""
    mark = _ends.set(ends)
    try:
        yield
    finally:
        _ends.reset(mark)


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """Seconds that may still be waited; raises ``late`` when there are none."""
    ends = _ends.get()
    if ends is None:
        return timeout
    left = ends - time.monotonic()
    if left <= 0:
        raise late
    return left if timeout is None else min(left, timeout)


def secret(name: str, kind: str) -> str:
    """The value of an environment variable that holds a secret, read at the moment of use, without its line end.

    Raises:
        ConfigError: it is not set.
    """
    value = os.environ.get(name, "").strip("\r\n")
    if not value:
        raise ConfigError(f"{kind}: environment variable {name} is not set; it should hold the credentials")
    return value


def _address(kind: str, text: str) -> httpx.URL:
    """The address a client is made for; what stands in it may be a secret, so only a plain one is repeated."""
    shown = "the address" if set("@?#") & set(str(text)) else repr(text)
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        raise ConfigError(f"{kind}: {shown} is no address; write one such as http://prometheus:9090") from None
    if url.userinfo:
        raise ConfigError(f"{kind}: the address holds a user or password; use the options for credentials")
    if url.query or url.fragment:
        raise ConfigError(f"{kind}: the address holds a '?' or '#'; end it before")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{kind}: {shown} is no address; write one such as http://prometheus:9090")
    return url


def _certificates(kind: str, url: httpx.URL, ca: str | None) -> ssl.SSLContext | None:
    """Whom to trust; None without TLS, which saves the 20 ms that reading them takes."""
    if url.scheme != "https":
        return None
    if ca is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{kind}: ca = {ca!r} is no file of certificates (PEM)") from None


def _without(text: str, hidden: tuple[str, ...]) -> str:
    for secret_text in filter(None, hidden):
        text = text.replace(secret_text, "[token]")
    return text


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _said(status: int) -> str:
    """A status in words; the service's own could hold anything."""
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _points_to(answer: httpx.Response) -> str:
    """A hint for the reader of an error."""
    if not 300 <= answer.status_code < 400:
        return _HINTS.get(answer.status_code, "")
    try:
        host = answer.url.join(answer.headers.get("location", "")).host
    except httpx.InvalidURL:
        host = ""
    return f" and points to {host or 'nowhere'}; a redirect is not followed, write the address it should use"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: a number of them or an HTTP date, or when the limit of a rate starts anew."""
    text = headers.get("retry-after") or headers.get("x-ratelimit-reset") or ""
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = email.utils.parsedate_to_datetime(text)
            seconds = (at.replace(tzinfo=at.tzinfo or dt.UTC) - dt.datetime.now(dt.UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    if seconds > 1e9:  # a moment, not a duration
        seconds -= time.time()
    return max(0.0, seconds) if math.isfinite(seconds) else None
