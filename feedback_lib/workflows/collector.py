"""The maintainers' end of sync: the service that takes tool feedback from many installations.

No address is kept or logged; what is kept is in `collected`.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import hmac
import importlib.util
import ipaddress
import json
import logging
import os
import secrets
import signal
import socket
import sqlite3
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib.errors import ConfigError
from feedback_lib.workflows.anonymous import MOST_ENTRIES, SCHEMA, entry_problem
from feedback_lib.workflows.collected import Collected, Taken
from feedback_lib.workflows.ids import HASH

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger(__name__)

TOKEN = "COLLECTOR_TOKEN"
_SENDERS = 20_000  # remembered at most by the rate limit; about 4 MB
_CONNECTIONS = 256
_LARGE = 32 * 1024  # bytes of a body from which on it is checked in another thread; for less the change costs more
_COUNTED = 64 * 1024  # bytes of a body that count as another request: checking the words of so many takes up to 0.2 s


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one sender may do.

    Args:
        rate: requests a minute, by client address and by installation; as many may come at once. Each whole 64 KB of
            a body count as another request of the address.
        max_kb: of a request's body.
        entries: in one request.
        max_mb: of the file; when it is full, nothing more is taken.
        head_s: for the head of a request to arrive.
        read_s: for its body.
        forwarded: a proxy stands in front; the sender's address is the last one in its ``X-Forwarded-For``.
    """

    rate: int = 60
    max_kb: int = 512
    entries: int = MOST_ENTRIES
    max_mb: int = 4096
    head_s: float = 10.0
    read_s: float = 10.0
    forwarded: bool = False


class _Writer:
    """The one writer: requests that wait while it writes go together into its next transaction."""

    def __init__(self, path: Path, max_mb: int) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "collector")  # SQLite wants the same thread every time
        try:
            self._held = self._thread.submit(Collected, path, max_mb).result()
        except ConfigError:
            self._thread.shutdown()
            raise
        self._waiting: list[tuple[str, Sequence[Mapping[str, Any]], asyncio.Future[Taken]]] = []
        self._task: asyncio.Task[None] | None = None
        self.failing = False

    @property
    def entries(self) -> int:
        return self._held.entries

    async def take(self, installation: str, entries: Sequence[Mapping[str, Any]]) -> Taken:
        """What became of the entries, after they are on the disk. Raises sqlite3.Error."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Taken] = loop.create_future()
        self._waiting.append((installation, entries, told))
        if self._task is None:
            self._task = loop.create_task(self._write())
        return await told

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        batch: list[tuple[str, Sequence[Mapping[str, Any]], asyncio.Future[Taken]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                requests = [(installation, entries) for installation, entries, _ in batch]
                try:
                    answers = await loop.run_in_executor(self._thread, self._held.take, requests)
                except sqlite3.Error as problem:
                    self.failing = True
                    _fail(batch, problem)
                    continue
                self.failing = False
                for (_, _, told), answer in zip(batch, answers, strict=True):
                    if not told.done():
                        told.set_result(answer)
        finally:  # whatever happened, nobody waits for ever
            _fail([*batch, *self._waiting], sqlite3.OperationalError("the writer broke off"))
            self._waiting, self._task = [], None

    async def close(self) -> None:
        """Finish what waits, and close the file."""
        if self._task is not None:
            await self._task
        self._thread.submit(self._held.close).result()
        self._thread.shutdown()


def _fail(batch: Sequence[tuple[str, Any, asyncio.Future[Taken]]], problem: sqlite3.Error) -> None:
    for _, _, told in batch:
        if not told.done():
            told.set_exception(problem)


# --- what is let in ---------------------------------------------------------------------------------------------------


class _Buckets:
    """How often each sender came lately, in bounded memory: the ones not seen for longest are forgotten first."""

    def __init__(self, rate: int, most: int = _SENDERS) -> None:
        self.rate, self.most = rate, most
        self._held: collections.OrderedDict[bytes, tuple[float, float]] = collections.OrderedDict()
        self._secret = secrets.token_bytes(16)  # an address is not even in memory longer than its request

    def wait_s(self, sender: str, now: float, cost: int = 1) -> float:
        """Seconds until this sender may come again; 0 lets it in, and counts as so many requests."""
        key = hashlib.blake2b(sender.encode("utf-8", "replace"), key=self._secret, digest_size=8).digest()
        left, at = self._held.pop(key, (float(self.rate), now))
        left = min(float(self.rate), left + (now - at) * self.rate / 60)
        self._held[key] = (left - cost if left >= cost else left, now)
        if len(self._held) > self.most:
            self._held.popitem(last=False)
        return 0.0 if left >= cost else (cost - left) * 60 / self.rate

    def __len__(self) -> int:
        return len(self._held)


class _Refusal(Exception):
    """A request that is not taken; ``told`` is the answer's body."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None, **told: Any) -> None:
        super().__init__(error)
        self.status, self.headers, self.told = status, dict(headers or {}), {"error": error, **told}


def _envelope(body: bytes, most: int) -> tuple[str, list[Any]]:
    """Installation and entries of a request, the entries not looked at yet.

    Raises:
        _Refusal: it is not the schema; names what is wrong, repeats nothing of it.
    """

    def no(field: str, reason: str, status: int = 422, **more: Any) -> _Refusal:
        return _Refusal(status, reason, refused=[{"index": None, "field": field, "reason": reason}], **more)

    try:
        held = json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except _TwiceError:
        raise no("", "a key stands twice in one object") from None
    except RecursionError:
        raise no("", "is nested too deeply") from None
    except ValueError:
        raise no("", "is not JSON in UTF-8", 400) from None
    if not isinstance(held, dict):
        raise no("", "expected an object with schema, installation and entries")
    schema = held.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise no("schema", f"this collector knows schema {SCHEMA} only; update the tool", known_schemas=[SCHEMA])
    if held.keys() != {"schema", "installation", "entries"}:
        raise no("", "expected schema, installation and entries, and nothing else")
    if not isinstance(held["installation"], str) or not HASH.fullmatch(held["installation"]):
        raise no("installation", "expected 32 hex digits")
    entries = held["entries"]
    if not isinstance(entries, list):
        raise no("entries", "expected a list")
    if len(entries) > most:
        raise no("entries", f"expected at most {most}; send the others in another request", 413)
    return held["installation"], entries


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of a key that stands twice, one would be checked by some reader and not by ours."""
    if len(made := dict(pairs)) != len(pairs):
        raise _TwiceError
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _sorted_out(entries: Sequence[Any]) -> tuple[list[int], list[dict[str, Any]]]:
    """Places of the entries that may be kept, and what is wrong with the others, by the sender's own rules."""
    good: list[int] = []
    refused: list[dict[str, Any]] = []
    for index, entry in enumerate(entries):
        if problem := entry_problem(entry):
            refused.append({"index": index, "field": problem[0], "reason": problem[1]})
        else:
            good.append(index)
    return good, refused


# --- the service ------------------------------------------------------------------------------------------------------


def app(path: Path, *, limits: Limits | None = None, token: str = "") -> Starlette:
    """The service: ``POST /submit`` and ``GET /healthz``.

    Args:
        path: the SQLite file; made if missing.
        limits: for senders.
        token: when given, senders must show it as ``Authorization: Bearer``.

    Raises:
        ConfigError: the extra ``collector`` is not installed, or the file cannot be used.
    """
    _needed()
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    limits = limits or Limits()
    writer = _Writer(path, limits.max_mb)
    addresses, installations = _Buckets(limits.rate), _Buckets(limits.rate)
    most = limits.max_kb * 1024

    def may(buckets: _Buckets, sender: str, cost: int = 1) -> None:
        if wait := buckets.wait_s(sender, time.monotonic(), cost):
            seconds = str(int(wait) + 1)
            raise _Refusal(429, f"too many requests; come back in {seconds} s", {"Retry-After": seconds})

    def look(request: Request) -> None:
        """Raise a `_Refusal` for what can be told from the head alone."""
        may(addresses, _sender(request, limits.forwarded))
        if token and not hmac.compare_digest(_shown(request).encode(), token.encode()):
            raise _Refusal(403, "this collector wants a token: Authorization: Bearer …")
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise _Refusal(415, "send the body as it is, not compressed", {"Accept-Encoding": "identity"})
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _Refusal(415, "send application/json")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise _too_large(limits)

    async def submit(request: Request) -> Response:
        try:
            return await taken(request)
        except _Refusal as no:
            request.scope["counts"]["refused"] = len(no.told.get("refused", ()))
            return JSONResponse(no.told, no.status, no.headers)

    async def taken(request: Request) -> Response:
        early: _Refusal | None = None
        try:
            look(request)
        except _Refusal as no:
            early = no
            early.headers["Connection"] = "close"
        body = await _body(request, limits, keep=early is None)
        if early:
            raise early
        if more := min(len(body) // _COUNTED, limits.rate - 1):  # what is large may come, if it is the first
            may(addresses, _sender(request, limits.forwarded), more)
        aside = asyncio.to_thread if len(body) > _LARGE else _at_once
        installation, entries = await aside(_envelope, body, limits.entries)
        may(installations, installation)
        good, refused = await aside(_sorted_out, entries)
        if entries and not good:
            raise _Refusal(422, "no entry could be taken", accepted=0, known=0, refused=refused)
        try:
            told = await writer.take(installation, [entries[index] for index in good]) if good else Taken()
        except sqlite3.Error as problem:
            logger.error("nothing could be written: %s", problem)
            raise _Refusal(503, "nothing can be kept just now; come back later", {"Retry-After": "60"}) from None
        for place in told.foreign:
            reason = "another installation sent this workflow"
            refused.append({"index": good[place], "field": "workflow_id_hash", "reason": reason})
        refused.sort(key=lambda one: one["index"])
        counts = {"accepted": told.accepted, "known": told.known, "refused": len(refused)}
        request.scope["counts"].update(counts)
        return JSONResponse({**counts, "refused": refused})

    async def healthz(request: Request) -> Response:
        if writer.failing:
            return JSONResponse({"status": "failing", "entries": writer.entries}, 503)
        return JSONResponse({"status": "ok", "entries": writer.entries})

    async def no_route(request: Request, problem: Exception) -> Response:
        status, headers = (problem.status_code, problem.headers) if isinstance(problem, HTTPException) else (500, None)
        return JSONResponse({"error": "POST /submit or GET /healthz"}, status, headers)

    @contextlib.asynccontextmanager
    async def open_(_: Starlette) -> AsyncIterator[None]:
        yield
        await writer.close()

    made = Starlette(
        routes=[Route("/submit", submit, methods=["POST"]), Route("/healthz", healthz, methods=["GET"])],
        middleware=[Middleware(_Logged)],
        exception_handlers={HTTPException: no_route},
        lifespan=open_,
    )
    made.router.redirect_slashes = False  # an answer with the address that the sender wrote helps nobody
    return made


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _too_large(limits: Limits) -> _Refusal:
    return _Refusal(413, f"more than {limits.max_kb} KB; send fewer entries at once", {"Connection": "close"})


async def _body(request: Request, limits: Limits, *, keep: bool) -> bytes:
    """The body, never more of it in memory than the limit.

    One that is refused is read on for a while and dropped: who closes on a sender in the middle of its words takes away
    the answer, too. Raises `_Refusal` when it is too large or too slow.
    """
    from starlette.requests import ClientDisconnect

    most, size, held = limits.max_kb * 1024, 0, bytearray()
    if not keep and request.headers.get("expect"):
        return b""  # the sender waits for leave
    try:
        async with asyncio.timeout(limits.read_s):
            async for chunk in request.stream():
                size += len(chunk)
                if keep and size <= most:
                    held += chunk
                elif size > 4 * most:
                    break
    except TimeoutError:
        raise _Refusal(408, f"the body took more than {limits.read_s:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise _Refusal(400, "the body broke off", {"Connection": "close"}) from None
    finally:
        request.scope["counts"]["bytes"] = size
    if keep and size > most:
        raise _too_large(limits)
    return bytes(held)


def _shown(request: Request) -> str:
    """The token in a request."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _sender(request: Request, forwarded: bool) -> str:
    """Whose requests count together: an IPv4 address, or the network of an IPv6 one, where addresses are for free."""
    text = request.client.host if request.client else ""
    if forwarded and (told := request.headers.getlist("x-forwarded-for")):
        text = told[-1].rpartition(",")[2].strip()  # what stands before it anybody may have written
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


class _Logged:
    """One line per request: what was asked for, how it ended, and counts. No address, no path, no words."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        counts = scope["counts"] = {"bytes": 0, "accepted": 0, "known": 0, "refused": 0}

        async def note(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            route = scope["path"][1:] if scope["path"] in ("/submit", "/healthz") else "other"
            told = " ".join(f"{name}={number}" for name, number in counts.items())
            logger.info("route=%s status=%d %s seconds=%.4f", route, status or 500, told, time.perf_counter() - began)


def serve(
    path: Path,
    host: str = "127.0.0.1",
    port: int = 8787,
    *,
    limits: Limits | None = None,
    token: str = "",
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Run the service until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        path: the SQLite file.
        host: an address of this machine.
        port: 0 takes a free one.
        limits: for senders.
        token: see `app`.
        tell: told where it listens, and when it stopped.

    Raises:
        ConfigError: nothing can listen there, the file cannot be used, or the extra ``collector`` is not installed.
    """
    _needed()
    import uvicorn

    limits = limits or Limits()
    listening = _listening(host, port)
    try:
        service = app(path, limits=limits, token=token)
    except BaseException:
        listening.close()
        raise
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(_without_words)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = uvicorn.Server(
        uvicorn.Config(
            service,
            http=_protocol(limits.head_s),
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
    )
    before = {number: signal.signal(number, lambda *_: _stop(server)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        where = listening.getsockname()
        shown = f"[{where[0]}]" if ":" in where[0] else where[0]
        tell(f"Listening on http://{shown}:{where[1]}/submit; entries go into {path} (Ctrl-C stops it)")
        if not ipaddress.ip_address(where[0].partition("%")[0]).is_loopback:
            tell(
                "Other machines can reach it. It speaks plain HTTP: put a proxy with TLS in front"
                + ("." if token else f", and consider a token in {TOKEN}.")
            )
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        listening.close()
    tell("Stopped.")


def token_of_environment() -> str:
    """The token that senders must show, from ``COLLECTOR_TOKEN``; "" when they need none.

    Raises:
        ConfigError: the variable is set and blank, which would let everybody in by mistake.
    """
    value = os.environ.get(TOKEN)
    if value is not None and not value.strip():
        raise ConfigError(f"environment variable {TOKEN} is set but empty; put a token into it, or unset it")
    return (value or "").strip()


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_CONNECTIONS)
    except (OSError, UnicodeError, OverflowError) as problem:
        words = getattr(problem, "strerror", None) or str(problem)
        raise ConfigError(
            f"cannot listen on {host} port {port}: {words}. Choose with --host an address of this machine, and with "
            "--port one that is free (0: any)."
        ) from None


def _needed() -> None:
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"feedback collect needs the package {name}: pip install 'feedback_lib[collector]'")


def _without_words(record: logging.LogRecord) -> bool:
    """An error of the server by its type and place: its message, or a value in it, may be a sender's words."""
    if record.exc_info and record.exc_info[1]:
        frames = traceback.extract_tb(record.exc_info[2])
        where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        record.msg, record.args = f"{type(record.exc_info[1]).__name__}{where}", ()
        record.exc_info = record.exc_text = None
    return True


@functools.cache
def _protocol(head_s: float) -> Any:
    """Uvicorn's HTTP protocol with an end for those that do not finish a request's head in so many seconds."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def _in_progress(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _watch(self) -> None:
            """The time for a head starts with its connection or first byte, and no byte prolongs it."""
            if self._in_progress() or self.transport.is_closing():
                self._unwatch()
            elif self._late is None:
                self._late = self.loop.call_later(head_s, self._too_late)

        def _unwatch(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _too_late(self) -> None:
            self._late = None
            if not self._in_progress():
                self.transport.abort()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > 2 * _CONNECTIONS:
                transport.abort()
            else:
                self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            """Garbage: an answer if none is under way, and the end of the connection either way."""
            logger.info("route=none status=400 bytes=0 accepted=0 known=0 refused=0 seconds=0")
            if self._in_progress():
                self.cycle.disconnected = True
                self.cycle.message_event.set()
                self.transport.close()
                return
            try:
                super().send_400_response(msg)
            except h11.LocalProtocolError:
                self.transport.close()

    return Protocol
