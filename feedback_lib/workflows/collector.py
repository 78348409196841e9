"""The maintainers' end of sync: takes tool feedback from many installations, and what they say together.

Nothing here knows who sent what: no address is kept or logged, ids are hashed again with a secret of the file, and the
rows stand in the order of these hashes, so that not even the order of arrival remains.
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
import re
import secrets
import signal
import socket
import sqlite3
import statistics
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback_lib.analysis.patterns import USUAL, Pattern, Thresholds, find
from feedback_lib.errors import ConfigError, StoreError
from feedback_lib.workflows import anonymous
from feedback_lib.workflows.review import Review

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

logger = logging.getLogger(__name__)

SCHEMA = anonymous.SCHEMA
TOKEN = "COLLECTOR_TOKEN"
LEAST_K = 5  # installations that must say a thing before it is shown; options may ask for more, never for less
_APPLICATION = 0x46624331  # of the file, so that another SQLite file is not taken for ours
_INSTALLATION = re.compile(r"[0-9a-f]{32}")
_SENDERS = 20_000  # remembered at most by the rate limit; about 4 MB
_CONNECTIONS = 256
_LARGE = 32 * 1024  # bytes of a body from which on it is checked in another thread; for less the change costs more
_COUNTED = 64 * 1024  # bytes of a body that count as another request: checking the words of so many takes up to 0.2 s
_BUSY_S = 10.0  # for another process to finish its write


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
    entries: int = anonymous.MOST_ENTRIES
    max_mb: int = 4096
    head_s: float = 10.0
    read_s: float = 10.0
    forwarded: bool = False


# --- what is held -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class Taken:
    """What became of the entries of one request. ``foreign``: places of those that belong to somebody else."""

    accepted: int = 0
    known: int = 0
    foreign: list[int] = dataclasses.field(default_factory=list)


class Collected:
    """The file with what was received: one row per workflow, the latest version of it.

    Args:
        path: the file, made if missing.
        max_mb: how large it may become.

    Raises:
        StoreError: it cannot be opened, is no such file, or is of a newer version.
    """

    def __init__(self, path: Path, max_mb: int = 4096) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        except (OSError, sqlite3.Error) as problem:
            raise _unusable(self.path, problem) from None
        try:
            self._secret = self._set_up(max_mb)
            self.entries: int = self._connection.execute("SELECT count(*) FROM entries").fetchone()[0]
        except sqlite3.Error as problem:
            self._connection.close()
            raise _unusable(self.path, problem) from None

    def _set_up(self, max_mb: int) -> bytes:
        run = self._connection.execute
        if run("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            _check_file(self._connection)  # before anything of it changes
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")  # what was acknowledged is on the disk
        run("PRAGMA secure_delete = ON")  # and a version that was replaced is no longer
        run(f"PRAGMA max_page_count = {max_mb * 1024 * 1024 // run('PRAGMA page_size').fetchone()[0]}")
        run("BEGIN IMMEDIATE")
        if run("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            run(f"PRAGMA application_id = {_APPLICATION}")
            run(f"PRAGMA user_version = {SCHEMA}")
            run("CREATE TABLE secret (key BLOB NOT NULL)")
            run("INSERT INTO secret VALUES (?)", [secrets.token_bytes(32)])
            run(
                "CREATE TABLE entries (id BLOB PRIMARY KEY, installation BLOB NOT NULL, day TEXT NOT NULL, "
                "seconds INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID"
            )
        run("COMMIT")
        _check_file(self._connection)
        return bytes(run("SELECT key FROM secret").fetchone()[0])

    def take(self, requests: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[Taken]:
        """Write the entries of several requests (installation, entries) at once; when it returns they are on the disk.

        Raises:
            sqlite3.Error: nothing was written.
        """
        run = self._connection.execute
        before = self._connection.total_changes
        run("BEGIN IMMEDIATE")
        try:
            told = [self._take(installation, entries) for installation, entries in requests]
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        if self._connection.total_changes != before:
            self.entries = run("SELECT count(*) FROM entries").fetchone()[0]
        return told

    def _take(self, installation: str, entries: Sequence[Mapping[str, Any]]) -> Taken:
        run, told = self._connection.execute, Taken()
        owner = self._hidden("installation", installation)
        for place, entry in enumerate(entries):
            key = self._hidden("workflow", entry["workflow_id_hash"])
            day, seconds = str(entry["timestamp"])[:10], int(entry["duration_seconds"])
            content = json.dumps({name: entry[name] for name in sorted(entry) if name != "workflow_id_hash"})
            held = run("SELECT installation, day, seconds, content FROM entries WHERE id = ?", [key]).fetchone()
            if held is None:
                run("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", [key, owner, day, seconds, content])
                told.accepted += 1
            elif held[0] != owner:
                told.foreign.append(place)
            elif held[3] == content or (day, seconds) < (held[1], held[2]):  # a log only grows: this one is older
                told.known += 1
            else:
                run("UPDATE entries SET day = ?, seconds = ?, content = ? WHERE id = ?", [day, seconds, content, key])
                told.accepted += 1
        return told

    def _hidden(self, what: str, text: str) -> bytes:
        """An id as it is kept: what was sent can be found again, but not read from the file."""
        return hmac.new(self._secret, f"{what} {text}".encode(), hashlib.sha256).digest()[:16]

    def close(self) -> None:
        """Close the file; what the log of writes holds goes into it."""
        self._connection.close()


def _check_file(connection: sqlite3.Connection) -> None:
    run = connection.execute
    found = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
    if found[0] != _APPLICATION:
        raise sqlite3.DatabaseError("is not a file of feedback collect")
    if found[1] != SCHEMA:
        raise sqlite3.DatabaseError(f"has version {found[1]} and this program knows {SCHEMA}; use a newer one")


def _unusable(path: Path, problem: Exception) -> StoreError:
    words = (problem.strerror if isinstance(problem, OSError) else str(problem)) or type(problem).__name__
    return StoreError("collected", f"{path}: {words}. Name another file with --data, or put it right.")


class _Writer:
    """The one writer: requests that wait while it writes go together into its next transaction."""

    def __init__(self, path: Path, max_mb: int) -> None:
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "collector")  # SQLite wants the same thread every time
        try:
            self._held = self._thread.submit(Collected, path, max_mb).result()
        except StoreError:
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
    if not isinstance(held["installation"], str) or not _INSTALLATION.fullmatch(held["installation"]):
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
        if problem := anonymous.entry_problem(entry):
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
        ConfigError: the extra ``collector`` is not installed.
        StoreError: the file cannot be used.
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
        ConfigError: nothing can listen there, or the extra ``collector`` is not installed.
        StoreError: the file cannot be used.
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


# --- what they say together -------------------------------------------------------------------------------------------

_EDGES = (0, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 604800)  # s; between them a phase lasts
_LISTS = ("items_skipped", "orchestrator_errors", "confusing_items")
_KINDS = ("error", "skip", "reviews", "guidance", "confusing")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AllUsers(Review):
    """What many installations say, of which nothing is said by fewer than ``k`` of them.

    ``installations`` is a multiple of ``k``, rounded down; None: there are fewer than ``k``. Counts of patterns are
    those of `shares`. No installation is named, so that ``workflows`` is empty.
    """

    window: str = "all users"
    workflows: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    k: int = LEAST_K
    installations: int | None = None
    phases: tuple[Mapping[str, Any], ...] = ()
    versions: tuple[Mapping[str, Any], ...] = ()

    def text(self) -> str:
        """As it is printed."""
        if self.installations is None:
            return f"Too few installations have sent feedback: nothing is shown of fewer than {self.k}."
        head = f"Feedback Review (all users, {_about(self.installations, self.k)})"
        lines = [head, "━" * len(head), "", "PATTERNS DETECTED:"]
        for pattern in self.patterns:
            lines.append(f"{pattern.mark} {pattern.sentence()}")
            lines += [f"   → Suggestion: {pattern.advice}"] if pattern.advice else []
        if not self.patterns:
            lines.append(f"None that {self.k} installations or more share.")
        if self.phases:
            lines += ["", "PHASES (what they usually take):"]
            lines += [f"  • {p['phase']}: {_span(p['from_s'], p['to_s'])} ({p['counted']})" for p in self.phases]
        if self.versions:
            lines += ["", "VERSIONS:", *(f"  • {v['version']}: {v['counted']}" for v in self.versions)]
        lines += [
            "",
            f"Each installation counts once. Nothing is shown that fewer than {self.k} say.",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-like; with nothing in it that the text does not tell."""
        fields = ("kind", "key", "warns", "title", "count", "of", "advice", "facts")
        return {
            "scope": "all users",
            "k": self.k,
            "installations": self.installations,
            "patterns": [{name: getattr(pattern, name) for name in fields} for pattern in self.patterns],
            "phases": [dict(phase) for phase in self.phases],
            "versions": [dict(version) for version in self.versions],
        }


def patterns(path: Path, options: Thresholds = USUAL) -> AllUsers:
    """What the installations in a collector's file say together.

    An installation weighs once, whatever it sent: it skips an item if it does so in at least half of its workflows,
    likewise guidance and reviews; it has an error or is confused by an item if any workflow says so; of each phase its
    median counts. A value that fewer than ``k`` installations sent is dropped before anything is computed.

    There is no window of time: two windows that differ by a day differ by what was sent on that day.

    Args:
        path: the file of ``feedback collect``; it may be in use.
        options: thresholds; ``k`` is at least `LEAST_K`, whatever stands there.

    Raises:
        ConfigError: there is no such file.
        StoreError: it is another file, or damaged.
    """
    k = max(LEAST_K, options.k)
    voices = _frequent([_voice(number, entries) for number, entries in enumerate(_by_installation(Path(path)))], k)
    if len(voices) < k:
        return AllUsers(k=k)
    options = dataclasses.replace(
        options, error_workflows=k, skip_workflows=k, challenge_workflows=k, k=k
    )  # a pattern that fewer say is none
    found = find([{**voice, "phases": {}} for voice in voices], (), options)
    shown = [_shown_pattern(pattern, len(voices), k) for pattern in found if pattern.kind in _KINDS]
    return AllUsers(
        k=k,
        installations=_down(len(voices), k),
        patterns=tuple(sorted(filter(None, shown), key=lambda p: (not p.warns, _KINDS.index(p.kind), -p.count, p.key))),
        phases=tuple(_phases(voices, k)),
        versions=tuple(_versions(voices, k)),
    )


def _by_installation(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The entries of each installation, oldest first."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; --data names the one that feedback collect fills")
    try:
        with contextlib.closing(_reading(path)) as connection:
            _check_file(connection)
            rows = connection.execute(
                "SELECT installation, content FROM entries ORDER BY installation, day, seconds, id"
            )
            held: list[dict[str, Any]] = []
            before = None
            for installation, content in rows:
                if installation != before and held:
                    yield held
                    held = []
                before = installation
                held.append(json.loads(content))
            if held:
                yield held
    except (sqlite3.Error, ValueError) as problem:
        raise _unusable(path, problem) from None


def _reading(path: Path) -> sqlite3.Connection:
    """The file, for reading only; also from a folder that nobody may write to."""
    place = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=_BUSY_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        return sqlite3.connect(f"{place}&immutable=1", uri=True)  # nobody has it open
    return connection


def _voice(number: int, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one installation says in all its workflows, as one entry."""
    skipped = collections.Counter(item for entry in entries for item in set(entry["items_skipped"]))
    told = [entry["phase0_guidance_used"] for entry in entries if entry["phase0_guidance_used"] is not None]
    reviews = [entry["reviews_worked"] for entry in entries if entry["reviews_worked"] is not None]
    seconds: dict[str, list[int]] = {}
    for entry in entries:
        for phase, lasted in entry["phases"].items():
            seconds.setdefault(phase, []).append(lasted)
    return {
        "workflow": str(number),
        "timestamp": None,
        "items_skipped": sorted(item for item, count in skipped.items() if 2 * count >= len(entries)),
        "orchestrator_errors": sorted({text for entry in entries for text in entry["orchestrator_errors"]}),
        "confusing_items": sorted({text for entry in entries for text in entry["confusing_items"]}),
        "phase0_guidance_used": 2 * sum(told) >= len(told) if told else None,
        "reviews_worked": 2 * sum(reviews) >= len(reviews) if 2 * len(reviews) >= len(entries) else None,
        "phases": {phase: statistics.median(lasted) for phase, lasted in seconds.items()},
        "orchestrator_version": entries[-1]["orchestrator_version"],
    }


def _frequent(voices: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """The voices without what fewer than ``k`` of them say, so that no rare text can come through a group."""
    for field in _LISTS:
        said = collections.Counter(text for voice in voices for text in voice[field])
        for voice in voices:
            voice[field] = [text for text in voice[field] if said[text] >= k]
    return voices


def _down(count: int, k: int) -> int:
    return count // k * k


def shares(count: int, rest: int, silent: int, k: int) -> tuple[int, int] | None:
    """A count and what it is of, as they may be shown, both as lower bounds; None for not at all.

    Neither leads to a group of fewer than ``k``: what it is of is a multiple of ``k``; the count is one, too, or all
    but ``k - 1`` when fewer than ``k``, or none, are left. Those that tell nothing are counted with those that say
    otherwise when they are fewer than ``k``, and left out when they are more.

    Args:
        count: installations that say it.
        rest: that say otherwise.
        silent: that tell nothing.
        k: the least to be shown.

    >>> shares(17, 6, 0, 5), shares(17, 4, 0, 5), shares(20, 0, 0, 5), shares(4, 30, 0, 5)
    ((15, 20), (16, 20), (16, 20), None)
    """
    if count < k:
        return None
    rest += silent if silent < k else 0
    of = _down(count + rest, k)
    return (max(k, of - k + 1) if rest < k else _down(count, k)), of


def _about(of: int, k: int) -> str:
    return f"{of}–{of + k - 1} installations"


def _told(count: int, of: int, k: int, which: str = "") -> dict[str, Any]:
    """The two numbers, also in words; a share only where the steps make little of it."""
    share = count / of if of >= 10 * k else None
    words = f", about {100 * share:.0f}%" if share is not None else ""
    return {"count": count, "of": of, "share": share, "counted": f"at least {count} of {_about(of, k)}{which}{words}"}


def _shown_pattern(pattern: Pattern, all_: int, k: int) -> Pattern | None:
    """A pattern of installations as it may be shown; it names none of them."""
    of = all_ if pattern.key == "failed" else pattern.of  # how many made reviews is not told twice
    title = pattern.title
    may = shares(pattern.count, of - pattern.count, all_ - of, k)
    if pattern.kind == "guidance":
        title = "Phase 0 guidance helpful"
        if may is None:
            title, may = "Phase 0 guidance not helpful", shares(of - pattern.count, pattern.count, all_ - of, k)
    if may is None:
        return None
    told = _told(*may, k, " that tell" if may[1] < _down(all_, k) else "")
    facts = {name: told[name] for name in ("counted", "share")}
    return dataclasses.replace(pattern, title=title, count=may[0], of=may[1], workflows=(), facts=facts)


def _phases(voices: Sequence[Mapping[str, Any]], k: int) -> Iterator[dict[str, Any]]:
    """Between which of the fixed edges a phase lasts in the middle of the installations, and in at least k of them."""
    for phase in sorted({phase for voice in voices for phase in voice["phases"]}):
        lasted = sorted(voice["phases"][phase] for voice in voices if phase in voice["phases"])
        may = shares(len(lasted), len(voices) - len(lasted), 0, k)
        if may is None:
            continue
        middle = lasted[(len(lasted) - 1) // 2]
        low = high = next(at for at in reversed(range(len(_EDGES))) if _EDGES[at] <= middle)
        while True:
            ceiling = _EDGES[high + 1] if high + 1 < len(_EDGES) else None
            if sum(_EDGES[low] <= s and (ceiling is None or s < ceiling) for s in lasted) >= k:
                break
            low, high = max(0, low - 1), min(len(_EDGES) - 1, high + 1)
        yield {"phase": phase, "from_s": _EDGES[low], "to_s": ceiling} | _told(*may, k)


def _versions(voices: Sequence[Mapping[str, Any]], k: int) -> list[dict[str, Any]]:
    """Versions by the installations that used them last; what is not shown is none or at least k."""
    held = collections.Counter(str(voice["orchestrator_version"]) for voice in voices)
    kept = sorted(((name, count) for name, count in held.items() if count >= k), key=lambda row: (-row[1], row[0]))
    rest = len(voices) - sum(count for _, count in kept)
    while len(kept) > 1 and 0 < rest < k:
        rest += kept.pop()[1]
    rows = []
    for name, count in kept:
        if may := shares(count, len(voices) - count, 0, k):
            rows.append({"version": name} | _told(*may, k))
    return sorted(rows, key=lambda row: (-row["count"], row["version"]))  # their exact order would tell more


def _span(low: int, high: int | None) -> str:
    """Two edges in words."""

    def words(seconds: int) -> str:
        for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if seconds >= size:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"

    return f"{words(low)} or more" if high is None else f"{words(low)}–{words(high)}" if low else f"up to {words(high)}"
