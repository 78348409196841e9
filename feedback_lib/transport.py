"""Calls to one service over HTTP: reading only unless asked, with retries, patience and a log without secrets.

What a service may be asked is fixed when the client is made: its own address, GET and HEAD, the POST paths named as
searches, and writing only with ``writes=True``. The check sits in the lowest layer, so no caller can go around it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http
import http.cookiejar
import json
import logging
import math
import os
import random
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import httpcore
import httpx
import orjson
import stamina

from feedback_lib import limits, privacy, wire
from feedback_lib.errors import ConfigError, TransportError

logger = logging.getLogger(__name__)

_RETRIED = frozenset((408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529))  # 52x: a gateway's own
_REFUSALS = 20  # a service that says "later" this often in a row will not be asked again
_PACKED = ("", "identity", "gzip", "x-gzip", "deflate")  # packed twice, a few bytes would be more than memory holds
_NO_JSON = 3  # a gateway's page may pass, a log-in page stays
_HINTS = {
    401: "; are the credentials right?",
    403: "; may these credentials see it?",
    404: "; is the address right?",
    407: "; a proxy stands in between",
}
_BROKEN = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)
_KEYRING = "feedback-workbench"
_UNREAD = object()


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
            try:
                return json.loads(self.content)
            except UnicodeDecodeError:  # a letter that is cut in half costs itself, not all that stands around it
                return json.loads(self.content.decode("utf-8", "replace"))
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
        inside = url.raw_path.startswith(prefix) and b"%2e" not in url.raw_path.partition(b"?")[0].lower()
        if wire.origin(url) != wire.origin(base) or url.userinfo or not inside:
            raise self._error(f"its link rel={rel} leads away from the address of this client; it is not followed")
        return url.raw_path[len(prefix) - 1 :].decode()

    def _error(self, message: str) -> TransportError:
        place = f"{self.place}: " if self.place else ""
        return TransportError(self.kind, place + message, status=self.status)


class Transport:
    """A client of one service, for use from any number of threads.

    A call takes at most ``attempts`` × ``timeout_s`` seconds, pauses included; only waiting for its turn and looking up
    the host's name can add to that. A service that asks for a longer pause is not waited for.

    With ``patience_s`` each try still ends after ``timeout_s``, but limits (see `limits.limit`) are waited for besides:
    they count as no try, other calls of this client wait with it, and an answer that was the last one of a budget makes
    the next call wait first.

    Args:
        kind: plug-in name, for messages and logs.
        base_url: where the service's paths start, such as ``http://prometheus:9090``.
        headers: sent with each request; a function is called for each, so that a secret is read when it is used.
        searches: paths that may be asked by POST although nothing is written.
        writes: allow every method; for sinks only.
        timeout_s: seconds one try may take, from connecting to the last byte.
        attempts: tries in all, for what may pass: no connection, a cut answer, 408, 429, 529, and most of 5xx.
        ca: a file of certificates to trust instead of the usual ones.
        max_bytes: a longer answer is refused.
        hidden: secrets that stand in the address itself; messages and logs show ``[token]`` in their place.
        proxy: what to go through, such as ``http://proxy.example:3128``; else HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
            NO_PROXY count, though never for this machine itself.
        patience_s: seconds in all that this client may wait because the service says "later".
        per_minute: requests to this host in any minute, shared with the clients of this process that name the same.
        concurrent: requests to this host at a time, those of other clients of this process counted.
        notify: told, in a line without secrets, whenever a limit is waited for.

    Raises:
        ConfigError: the address, ``ca``, ``proxy`` or a number cannot be used.
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
        _check_number(kind, "timeout_s", timeout_s, "seconds, more than 0", above=0)
        _check_number(kind, "patience_s", patience_s, "seconds, 0 or more")
        _check_number(kind, "per_minute", 1 if per_minute is None else per_minute, "requests, more than 0", above=0)
        _check_number(kind, "concurrent", concurrent, "requests, 1 or more", least=1)
        self.kind, self.host = kind, url.host
        self._place = url.netloc.decode()
        self._headers = headers if callable(headers) else lambda: headers or {}
        self._attempts, self._timeout_s, self._max_bytes = attempts, timeout_s, max_bytes
        self._hidden, self._notify = hidden, notify
        self._line = limits.Line(wire.origin(url), concurrent, per_minute, patience_s)
        between = wire.proxy(kind, url, proxy, ca)
        self._proxy = f"{between.url.host.decode()}:{between.url.origin.port}" if between else ""
        context = wire.certificates(kind, url, ca)
        self._client = httpx.Client(
            base_url=url,
            transport=wire.Guard(
                kind, url, writes=writes, searches=searches, context=context, hidden=hidden, proxy=between
            ),
            timeout=timeout_s,
            follow_redirects=False,
            headers={"User-Agent": "feedback-workbench", "Accept-Encoding": "gzip, deflate"},
            cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=())),
        )
        self._close = weakref.finalize(self, _close, self._client, self._line.closed)

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
        """Ask for JSON: GET, or POST when there is a ``body`` or a ``form``.

        An answer that is not JSON is asked for again, three times in all: a gateway's page may pass, a log-in page
        stays. The reply's `Reply.json` is decoded already and does not fail.

        Raises: see `call`.
        """
        method = "GET" if body is None and form is None else "POST"
        make = functools.partial(self._request, method, path, params=params, body=body, form=form, headers={})
        return self._over_limits(make, decode=True)

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
            TransportError: no answer, or a status of 300 and above; ``status`` and ``body`` hold what came, and
                ``retry_after_s`` the seconds it asks to be left alone.
        """
        make = functools.partial(
            self._request, method, path, params=params, body=body, form=form, headers=headers or {}
        )
        return self._over_limits(make, decode=False)

    def _over_limits(self, make: Callable[[], httpx.Request], *, decode: bool) -> Reply:
        """The answer, after as many waits as patience allows."""
        told: TransportError | None = None
        for nth in range(1, _REFUSALS + 1):
            asked = self._line.hold(functools.partial(self._tell, told))
            if asked:
                told = told or TransportError(self.kind, self._place, retry_after_s=asked)
                raise _more(told, f": it asks to wait {limits.span(asked)}, more than patience_s leaves", asked)
            try:
                return self._over_failures(make, decode=decode)
            except _MayPass as last:
                told = last.told
                if last.limit is None or not self._line.patient:
                    raise told from None
                self._line.refuse(last.limit.wait_s(nth))
        assert told is not None
        raise _more(told, f" {_REFUSALS} times in a row", told.retry_after_s)

    def _tell(self, told: TransportError | None, seconds: float) -> None:
        busy = told is not None and told.status is not None and told.status >= 500
        why = f"{self.kind} is busy" if busy else f"{self.kind}'s rate limit"
        logger.info("kind=%s host=%s waits=%.0f", self.kind, self._place, seconds)
        if self._notify:
            self._notify(f"waits {limits.span(seconds)}: {why}")

    def _over_failures(self, make: Callable[[], httpx.Request], *, decode: bool) -> Reply:
        """The answer, after as many tries as there are; each begins when it is its turn.

        Raises:
            _MayPass: the last try failed too, or there is a limit.
        """
        patient = self._line.patient
        longest = 30.0 if patient else 10.0  # seconds between two tries
        ends = time.monotonic() + self._attempts * (self._timeout_s + (longest if patient else 0))
        tried = 0

        def pause(error: Exception) -> bool | float:
            nonlocal tried
            tried += 1
            if not isinstance(error, _MayPass) or tried >= error.tries or (error.limit and patient):
                return False
            wait = min(longest, 0.2 * 2 ** (tried - 1)) * random.uniform(1, 1.5)
            wait = max(wait, error.least_s)
            return wait if time.monotonic() + wait < ends else False

        with wire.until(math.inf):
            for attempt in stamina.retry_context(on=pause, attempts=self._attempts, timeout=None):
                with attempt:
                    request, queued = make(), time.monotonic()
                    with self._line.turn(lambda seconds: self._tell(None, seconds)):
                        if self._line.closed.is_set():
                            raise TransportError(self.kind, f"{self._place}: this client was closed")
                        began = time.monotonic()
                        ends += began - queued
                        with wire.until(min(ends, began + self._timeout_s)):
                            reply = self._once(request)
                    if decode:
                        _check_json(reply)
                    return reply
        raise AssertionError("stamina leaves by returning or raising")

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None,
        body: Any,
        form: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx.Request:
        sent = self._sendable({**self._headers(), **headers})
        try:
            return self._client.build_request(method, path, params=params, json=body, data=form, headers=sent)
        except (httpx.InvalidURL, UnicodeEncodeError):  # half a character cannot be sent either
            shown = self._shown(path.partition("?")[0])
            raise ConfigError(f"{self.kind}: {shown!r} is no path on {self._place}") from None

    def _once(self, request: httpx.Request) -> Reply:
        began = time.monotonic()
        at = f"{self._place} {self._shown(request.url.path)}"
        status, content = 0, bytearray()
        try:
            answer = self._client.send(request, stream=True)
            with contextlib.closing(answer):
                status = answer.status_code
                announced = answer.headers.get("content-length", "")
                if request.method != "HEAD" and announced.isdecimal():
                    self._check_size(at, int(announced))
                if answer.headers.get("content-encoding", "").lower() not in _PACKED:
                    raise TransportError(self.kind, f"{at} sent an answer packed in another way than was asked for")
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
        told = {name: wire.cut(text.encode("utf-8", "replace")).decode() for name, text in answer.headers.items()}
        if status >= 300:
            raise self._refusal(at, status, told, request.url, wire.cut(bytes(content))[:65536])
        self._line.heed(told)
        base = str(self._client.base_url)
        return Reply(status, told, wire.cut(bytes(content)), self.kind, at, str(request.url), base)

    def _refusal(self, at: str, status: int, headers: Mapping[str, str], asked_at: httpx.URL, body: bytes) -> Exception:
        """What to raise for a status of 300 and above."""
        limit = limits.limit(status, headers, body)
        asked = limit.told_s if limit else None
        words = (
            _points_to(status, headers, asked_at) if limit is None else "; a rate limit" if status in (400, 403) else ""
        )
        if asked and not self._line.patient:
            words += f"; it asks to wait {limits.span(asked)}"
        message = f"{at} answered {_said(status)}{words}"
        told = TransportError(self.kind, message, status=status, body=body, retry_after_s=asked)
        passes = status in _RETRIED or (limit and (self._line.patient or asked is not None))
        return _MayPass(told, limit) if passes else told

    def _sendable(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not (value.isascii() and (value.isprintable() or not value) and value == value.strip()):
                raise ConfigError(
                    f"{self.kind}: what header {name} should hold has a line break, a space at an end or a letter that "
                    "no header can carry; look at the environment variable it comes from"
                )
            if name.lower() == "authorization":
                wire.hide(value.rpartition(" ")[2])
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
        if isinstance(cause, ssl.SSLError) and not status and not isinstance(cause, ssl.SSLEOFError):
            return TransportError(self.kind, f"{at}: no TLS connection ({cause.reason}); does it speak https?")
        if isinstance(error, httpcore.ProxyError):
            return self._proxy_failure(at, str(cause))
        if isinstance(cause, socket.gaierror):
            whom = f"its proxy {self._proxy}" if self._proxy else "the host"
            return self._may_pass(f"{at}: the name of {whom} is not known here")
        if isinstance(error, httpcore.ConnectError) and self._proxy:
            return self._may_pass(f"{at}: no connection to its proxy {self._proxy}; is it running?")
        if isinstance(error, httpcore.ConnectError):
            return self._may_pass(f"{at}: no connection; is it running, and is the address right?")
        if isinstance(error, httpcore.NetworkError | httpcore.RemoteProtocolError):
            return self._may_pass(f"{at}: the connection broke {'in the middle of' if status else 'before'} its answer")
        return TransportError(self.kind, f"{at}: {type(error).__name__}; is this the address of its API?")

    def _proxy_failure(self, at: str, said: str) -> Exception:
        """What to raise when the proxy makes no connection; what it said may hold anything, so only its status."""
        status = int(said[:3]) if said[:3].isdecimal() else None
        why = "wants other credentials" if status == 407 else f"refused ({_said(status) if status else 'SOCKS'})"
        told = TransportError(self.kind, f"{at}: its proxy {self._proxy} {why}", status=status)
        return _MayPass(told) if status in _RETRIED else told

    def _may_pass(self, message: str) -> Exception:
        return _MayPass(TransportError(self.kind, message))

    def _shown(self, text: str) -> str:
        return wire.without(text, self._hidden)

    def close(self) -> None:
        """Close its connections. It is also done when nothing refers to this client any more."""
        self._close()


class _MayPass(Exception):  # a mark, not an error of its own
    """Around a TransportError that another try may not meet; ``tries`` of it are enough."""

    def __init__(self, told: TransportError, limit: limits.Limit | None = None, tries: float = math.inf) -> None:
        super().__init__(str(told))
        self.told, self.limit, self.tries = told, limit, tries
        self.least_s = told.retry_after_s or 0


def _more(told: TransportError, words: str, retry_after_s: float | None) -> TransportError:
    message = str(told).removeprefix(f"{told.kind}: ") + words
    return TransportError(told.kind, message, status=told.status, body=told.body, retry_after_s=retry_after_s)


def _check_json(reply: Reply) -> None:
    try:
        reply.json()
    except TransportError as told:
        raise _MayPass(told, tries=_NO_JSON) from None
    if b'"RATELIMITED"' in reply.content and (limit := limits.limit(reply.status, reply.headers, reply.content)):
        message = f"{reply.place} answered {_said(reply.status)} with errors; a rate limit"
        raise _MayPass(TransportError(reply.kind, message, status=reply.status, retry_after_s=limit.told_s), limit)


def _close(client: httpx.Client, closed: threading.Event) -> None:
    closed.set()
    client.close()


def secret(name: str, kind: str, *, hidden: bool = True) -> str:
    """A secret, read at the moment of use: an environment variable, else an entry of the system's keyring.

    The keyring's entry is the one of service "feedback-workbench" with the variable's name as the user; it is looked
    for when the package keyring is installed (the extra ``keyring``). A line end after the secret is dropped. What is
    ``hidden`` is from then on cut out of all that services answer; leave that off for a name people are known by.

    Raises:
        ConfigError: neither holds it, or the name is none, perhaps the secret itself; then it is not repeated.
    """
    if not privacy.is_name(name):
        raise ConfigError(
            f"{kind}: something else stands where the name of an environment variable should; if it is the secret, "
            "take it out, put it into a variable, and write the variable's name"
        )
    value = (os.environ.get(name) or _kept(name)).strip("\r\n")
    if value and hidden:
        wire.hide(value)
    if not value:
        raise ConfigError(
            f"{kind}: environment variable {name} is not set; it should hold the credentials, or keep them in the "
            f"system's keyring: keyring set {_KEYRING} {name}"
        )
    return value


def _kept(name: str) -> str:
    """What the system's keyring holds; nothing when there is none that works here."""
    try:
        import keyring
        import keyring.errors
    except ImportError:  # also of a backend that its settings name
        return ""
    try:
        return keyring.get_password(_KEYRING, name) or ""
    except keyring.errors.KeyringError:
        return ""


def _check_number(kind: str, name: str, value: Any, wanted: str, *, least: float = 0, above: float = -1) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < math.inf or value <= above:
        raise ConfigError(f"{kind}: {name} = {value!r}: expected {wanted}")


def _address(kind: str, text: str) -> httpx.URL:
    """The address a client is made for; what stands in it may be a secret, so only a plain one is repeated."""
    shown = "the address" if set("@?#") & set(str(text)) else repr(text)
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        raise ConfigError(f"{kind}: {shown} is no address; write one such as https://tools.example.org") from None
    if url.userinfo:
        raise ConfigError(f"{kind}: the address holds a user or password; use the options for credentials")
    if url.query or url.fragment:
        raise ConfigError(f"{kind}: the address holds a '?' or '#'; end it before")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{kind}: {shown} is no address; write one such as https://tools.example.org")
    return url


def _said(status: int) -> str:
    """A status in words; the service's own could hold anything."""
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _points_to(status: int, headers: Mapping[str, str], asked_at: httpx.URL) -> str:
    """A hint for the reader of an error."""
    if not 300 <= status < 400:
        return _HINTS.get(status, "")
    try:
        host = asked_at.join(headers.get("location", "")).host
    except httpx.InvalidURL:
        host = ""
    return f" and points to {host or 'nowhere'}; a redirect is not followed, write the address it should use"
