"""What goes over the network: only what a client was made for, no longer than its deadline, and nothing into a log.

`Guard` is the lowest layer of a client, so no caller can go around what it refuses.
"""

from __future__ import annotations

import contextlib
import contextvars
import html
import importlib.util
import ipaddress
import logging
import re
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore
import httpx

from feedback_lib.errors import ConfigError, ReadOnlyError

CHATTY = (
    "httpx httpcore.connection httpcore.http11 httpcore.http2 httpcore.proxy httpcore.socks hpack.hpack hpack.table "
    "stamina"
)
_OVERRIDES = frozenset(("x-http-method-override", "x-http-method", "x-method-override"))
_NO_SECRET = re.compile(r".{0,7}|[0-9.eE+-]*|[A-Za-z_]{0,20}", re.DOTALL)  # stands in other texts too
_ends: contextvars.ContextVar[float | None] = contextvars.ContextVar("ends", default=None)
_secrets: dict[str, tuple[bytes, re.Pattern[bytes]]] = {}  # with the longest part that is always written the same way


class Guard(httpx.BaseTransport):
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
        proxy: httpcore.Proxy | None,
    ) -> None:
        path = base.path.rstrip("/")
        self._hidden, self._path = hidden, path.encode()
        self._kind, self._writes, self._origin = kind, writes, origin(base)
        self._searches = frozenset((path + search).encode() for search in searches)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            http2=context is not None,
            network_backend=_Network(),
            proxy=proxy,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, or raise ReadOnlyError."""
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
        if origin(request.url) != self._origin:
            raise ReadOnlyError(f"{self._kind}: {request.url.host} is not the service this client was made for")
        path = request.url.raw_path.partition(b"?")[0]
        if not (path + b"/").startswith(self._path + b"/") or b".." in urllib.parse.unquote_to_bytes(path).split(b"/"):
            raise ReadOnlyError(
                f"{self._kind}: {without(request.url.path, self._hidden)} is above this client's address"
            )
        search = request.method == "POST" and path in self._searches
        asks = request.method in ("GET", "HEAD") or search
        if not self._writes and (
            not asks or not _OVERRIDES.isdisjoint(name.replace("_", "-") for name in request.headers)
        ):
            shown = without(request.url.path, self._hidden)
            raise ReadOnlyError(f"{self._kind}: {request.method} {shown} would write; this client only reads")

    def close(self) -> None:
        """Close the connections."""
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


for _name in CHATTY.split():
    logging.getLogger(_name).addFilter(_Quiet())


@contextlib.contextmanager
def until(ends: float) -> Iterator[None]:
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


def certificates(kind: str, url: httpx.URL, ca: str | None) -> ssl.SSLContext | None:
    """Whom to trust; None without TLS, which saves the 20 ms that reading them takes."""
    if url.scheme != "https":
        return None
    if ca is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{kind}: ca = {ca!r} is no file of certificates (PEM)") from None


def without(text: str, hidden: tuple[str, ...]) -> str:
    """The text with ``[token]`` in place of each secret."""
    for secret_text in filter(None, hidden):
        text = text.replace(secret_text, "[token]")
    return text


def hide(secret_text: str) -> None:
    """From now on `cut` finds this secret, unless it is so short or plain that other texts hold it too."""
    if secret_text in _secrets or _NO_SECRET.fullmatch(secret_text):
        return
    part = max(re.findall("[A-Za-z0-9]*", secret_text), key=len).encode()
    _secrets[secret_text] = part, re.compile(b"".join(map(_written, secret_text)))


def cut(content: bytes) -> bytes:
    """What a service sent, with ``[token]`` in place of each secret of ours that it repeats.

    Services do so in the text of an error, and people in what they report.
    """
    for part, pattern in list(_secrets.values()):
        if part in content:
            content = pattern.sub(b"[token]", content)
    return content


def _written(letter: str) -> bytes:
    """A letter, however JSON, HTML and addresses write it."""
    plain, number = re.escape(letter.encode("utf-8", "surrogatepass")), ord(letter)
    if letter.isascii() and letter.isalnum():
        return plain
    quoted = urllib.parse.quote(letter, errors="surrogatepass").encode() if letter != "%" else b"%25"
    others = rb"\\u%04x|&#0*%d;|&#x0*%x;" % (number, number, number)
    return rb"(?:\\?%b|(?i:%b|%b|%b|%%%02x))" % (plain, others, re.escape(html.escape(letter).encode()), quoted, number)


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, name and port."""
    return url.scheme, url.host, url.port


def proxy(kind: str, url: httpx.URL, option: str | None, ca: str | None) -> httpcore.Proxy | None:
    """What stands between this machine and ``url``: ``option``, else what the environment names for it.

    Without the option, loopback addresses and those in NO_PROXY (names, endings, addresses, networks) are reached
    directly.

    Raises:
        ConfigError: it cannot be used; the message repeats no user and no password.
    """
    text, named = option, "proxy"
    if not option:
        text, named = _from_environment(url), "the proxy that the environment names"
    if not text:
        return None
    try:
        address = httpx.URL(text if "://" in text else f"http://{text}")
    except (httpx.InvalidURL, TypeError):
        address = httpx.URL("")
    if not address.host or address.scheme not in ("http", "https", "socks5", "socks5h"):
        raise ConfigError(f"{kind}: {named} is no address; write one such as http://proxy.example:3128")
    if address.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(f"{kind}: {named} speaks SOCKS, which needs a package: pip install 'httpx[socks]'")
    hide(address.password)
    return httpcore.Proxy(
        httpcore.URL(scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=b"/"),
        auth=(address.username.encode(), address.password.encode()) if address.userinfo else None,
        ssl_context=certificates(kind, address, ca),
    )


def _from_environment(url: httpx.URL) -> str | None:
    here = _ip(url.host)
    if url.host == "localhost" or (here and here.is_loopback):
        return None
    named = urllib.request.getproxies()
    text = named.get(url.scheme) or named.get("all")
    if not text or urllib.request.proxy_bypass(url.netloc.decode()):
        return None
    for entry in named.get("no", "").split(","):
        with contextlib.suppress(ValueError):
            if here and here in ipaddress.ip_network(entry.strip(), strict=False):
                return None
    return text


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
