"""Services on loopback that speak the protocols of the real ones, with the faults of the real ones.

One module per service (`fake_services.github`) with a class named in ``SERVICE``: it answers requests from a list of
items in the service's own shape. This module has the HTTP, the faults, and the loop that reads a source as `ingest`
does: a fault is injected into what goes over the wire, so it is the same for every service.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import email.utils
import http.server
import importlib
import json
import pkgutil
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import orjson
import stamina

from feedback_lib import plugins, privacy
from feedback_lib.errors import SourceError
from feedback_lib.records import Checkpoint, Item, Rejected
from feedback_lib.testing import KEY, Loopback

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
TOKEN = "fake-service-token-5f2d"
CUT = "cut"  # as a body: break the connection in the middle of the answer


def kinds() -> list[str]:
    """The services there is a fake of."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__))


@dataclasses.dataclass
class Request:
    """What was asked; ``query`` and ``form`` have one value per name, ``path`` is decoded and without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in small letters
    body: bytes
    every: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)  # the query, all values of a name

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> Mapping[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))


@dataclasses.dataclass
class Answer:
    """``body`` is sent as JSON unless it is bytes; ``CUT`` in ``how`` breaks it off, a number drips it for so long."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    how: Any = None

    def bytes(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


class FakeService(Loopback):
    """A service with ``count`` items (and replies to some) that change in the order they were made.

    A subclass has ``kind``, ``options(url)``, ``make(count)``, ``answer(request)`` and what the faults need: ``touch``
    and ``remove`` change an item as a user of the service would, ``lists`` says whether a request asks for a page of
    items (faults about pages hit only these), ``empty`` is a page without items. ``expected()`` are the native ids that
    a complete reading gives, of items and of replies, with the newest ``updated_at`` of each.
    """

    kind: ClassVar[str]
    unauthorised: ClassVar[tuple[int, Any]] = (401, {"message": "Bad credentials"})
    cursors: ClassVar[bool] = True  # whether an answer names what to ask for next
    enough: ClassVar[int] = 240  # items, so that every fault has a page before it and one after
    quiet_extra: ClassVar[int] = 0  # requests a quiet run makes beyond one per stream, such as opening a view

    def __init__(self, count: int = 350, fault: Fault | None = None, limit: int = 400) -> None:
        self.items: list[dict[str, Any]] = self.make(count)
        self.requests: list[Request] = []
        self.fault, self.limit = fault, limit
        self.pages = 0  # of items, asked for so far
        self.last_page: Answer | None = None
        self._lock = threading.Lock()
        super().__init__()

    # What a subclass says

    def options(self) -> dict[str, Any]:
        """Options of the plug-in that reads this service; ``token_env`` names a variable that holds `TOKEN`."""
        raise NotImplementedError

    def make(self, count: int) -> list[dict[str, Any]]:
        """Items in the service's own shape, by ``at(i)``; several share a time, one has no author."""
        raise NotImplementedError

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def allowed(self, request: Request) -> bool:
        """Whether the request carries the credentials."""
        return TOKEN in request.headers.get("authorization", "")

    def lists(self, request: Request) -> bool:
        raise NotImplementedError

    def follows(self, request: Request) -> bool:
        """Whether the request asks for a page by a cursor or number that an earlier answer gave."""
        return False

    def empty(self, answer: Answer) -> Answer:
        """A page as it came, but without its items and with the same ``next``."""
        raise NotImplementedError

    def touch(self, item: dict[str, Any], at: dt.datetime) -> None:
        """Change an item at a time."""
        raise NotImplementedError

    def remove(self, item: dict[str, Any]) -> None:
        """Delete an item for good; override where a service goes on showing it."""
        self.items.remove(item)

    def expected(self) -> dict[str, dt.datetime]:
        raise NotImplementedError

    # The wire

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        every = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        request = Request(handler.command, urllib.parse.unquote(url.path), query, headers, body, every)
        with self._lock:
            self.requests.append(request)
            answer = self._answer(request) if len(self.requests) <= self.limit else Answer({"too": "many"}, 418)
        content = answer.bytes()
        with contextlib.suppress(OSError):
            handler.send_response(answer.status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), **answer.headers}
            for name, value in sent.items():
                handler.send_header(name, value)
            handler.end_headers()
            if answer.how == CUT:
                handler.wfile.write(content[: len(content) // 2])
                handler.wfile.flush()
                handler.close_connection = True
                handler.connection.shutdown(socket.SHUT_RDWR)
            elif answer.how:
                for at in range(0, len(content), len(content) // 4 + 1):
                    handler.wfile.write(content[at : at + len(content) // 4 + 1])
                    time.sleep(answer.how / 4)
            elif handler.command != "HEAD":
                handler.wfile.write(content)

    def _answer(self, request: Request) -> Answer:
        if not self.allowed(request):
            status, body = self.unauthorised
            return Answer(body, status)
        page = self.lists(request)
        self.pages += page
        if self.fault and (instead := self.fault(self, request)):
            return instead
        answer = self.answer(request)
        if page and answer.status == 200:
            self.last_page = answer
        return answer

    def source(self, **more: Any) -> Any:
        """The plug-in that reads this service."""
        return plugins.build("sources", {"kind": self.kind, **self.options(), **more})


def at(i: int) -> dt.datetime:
    """When item ``i`` was made and last changed: ten in a row share one time, and once more than a page do."""
    return BEGIN + dt.timedelta(hours=100 if 100 <= i < 230 else i - i % 10)


def service(kind: str) -> type[FakeService]:
    """The fake of a kind."""
    return importlib.import_module(f"fake_services.{kind}").SERVICE


# Reading as `ingest` does: what a checkpoint stands behind is kept, a failed reading goes on there


@dataclasses.dataclass
class Read:
    """What arrived: by native id the newest version; ``times`` how often each version was given."""

    items: dict[str, Item] = dataclasses.field(default_factory=dict)
    versions: dict[tuple[str, dt.datetime], int] = dataclasses.field(default_factory=dict)
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    cursor: Mapping[str, Any] | None = None
    watermark: dt.datetime | None = None
    error: SourceError | None = None

    def ids(self) -> dict[str, dt.datetime]:
        return {native_id: item.updated_at for native_id, item in self.items.items()}


def read(source: Any, into: Read | None = None, until: dt.datetime = UNTIL, since: dt.datetime | None = None) -> Read:
    """Read a source from where ``into`` stands; what came after the last checkpoint before an error counts too."""
    done = into or Read()
    done.error = None
    try:
        for found in source.fetch(since, until, done.cursor):
            if isinstance(found, Checkpoint):
                done.cursor = json.loads(json.dumps(found.cursor))
                assert done.watermark is None or found.watermark >= done.watermark
                done.watermark = found.watermark
            elif isinstance(found, Rejected):
                done.rejected.append(found)
            else:
                version = found.native_id, found.updated_at
                done.versions[version] = done.versions.get(version, 0) + 1
                before = done.items.get(found.native_id)
                if before is None or found.updated_at >= before.updated_at:
                    done.items[found.native_id] = found
    except SourceError as error:
        done.error = error
    return done


def found(there, into=None, until=UNTIL, **options):
    """What a reading gives: signals and replies by native id, from what would be archived."""
    source = there.source(**options)
    done = read(source, into, until=until)
    assert done.error is None
    made = {}
    for native_id, item in done.items.items():
        payload = privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=KEY)
        made[native_id] = source.reply(payload) if item.parent else source.parse(payload)
    return made, done


# The faults


@dataclasses.dataclass
class Fault:
    """Something that goes wrong: told of each request, it may change the service or give another answer.

    ``fails``: the reading ends in an error that says what is missing, and the next reading, when it is over, completes.
    ``when``: to which requests for a page it happens.
    """

    act: Callable[[FakeService, Request, Fault], Answer | None]
    fails: bool = False
    when: Callable[[FakeService, Request], bool] = lambda service, request: True
    left: int = 1  # how often it happens
    page: int = 3  # at which page of items it begins
    done: int = 0
    first: dt.datetime | None = None

    def __call__(self, service: FakeService, request: Request) -> Answer | None:
        if self.left and service.pages >= self.page and service.lists(request) and self.when(service, request):
            self.left -= 1
            self.done += 1
            return self.act(service, request, self)
        return None


def _says(status: int, body: Any = None, **headers: Any) -> Callable[..., Answer]:
    """An answer instead; a header may be a function of now."""

    def act(*ignored: Any) -> Answer:
        sent = {n.replace("_", "-"): str(v() if callable(v) else v) for n, v in headers.items()}
        return Answer({"message": "no"} if body is None else body, status, sent)

    return act


def _worse(how: Any) -> Callable[..., Answer]:
    def act(service: FakeService, request: Request, fault: Fault) -> Answer:
        return dataclasses.replace(service.answer(request), how=how)

    return act


def _same_page(service: FakeService, request: Request, fault: Fault) -> Answer | None:
    return service.last_page


def _no_page(service: FakeService, request: Request, fault: Fault) -> Answer:
    return service.empty(service.answer(request))


def _changes(service: FakeService, request: Request, fault: Fault) -> None:
    """Items already read and items still to come change, later than all others."""
    for place in (3, 60, 120, len(service.items) - 5):
        service.touch(service.items[place], at(len(service.items) + 40 + fault.done))


def _removes(service: FakeService, request: Request, fault: Fault) -> None:
    """One that was read long ago, and one that ends a page: what follows moves up."""
    for place in (110, 2):
        service.remove(service.items[place])


def _follows(service: FakeService, request: Request) -> bool:
    return service.follows(request)


def _soon(seconds: float = 1) -> Callable[[], str]:
    return lambda: str(int(time.time() + seconds))


def _http_date() -> str:
    return email.utils.formatdate(time.time() + 1, usegmt=True)


def _ms() -> str:
    return str(int(time.time() * 1000) + 900)


_SECONDARY = {"message": "You have exceeded a secondary rate limit."}
_LIMITED = {"errors": [{"message": "no", "extensions": {"code": "RATELIMITED"}}]}
_PAGE = b"<!doctype html><title>Log in</title>"

FAULTS: dict[str, Callable[[], Fault]] = {
    "429, Retry-After in seconds": lambda: Fault(_says(429, Retry_After=1)),
    "429, Retry-After as a date": lambda: Fault(_says(429, Retry_After=_http_date)),
    "429, reset in seconds": lambda: Fault(_says(429, X_RateLimit_Remaining=0, X_RateLimit_Reset=_soon())),
    "429, reset in milliseconds": lambda: Fault(_says(429, X_RateLimit_Requests_Reset=_ms)),
    "429, no header": lambda: Fault(_says(429), left=2),
    "403, limit used up": lambda: Fault(_says(403, X_RateLimit_Remaining=0, X_RateLimit_Reset=_soon())),
    "403, secondary limit": lambda: Fault(_says(403, _SECONDARY, Retry_After=1)),
    "400, RATELIMITED": lambda: Fault(_says(400, _LIMITED)),
    "529": lambda: Fault(_says(529)),
    "six times 500": lambda: Fault(_says(500), left=6),
    "502": lambda: Fault(_says(502, b"<html>Bad gateway</html>")),
    "503, Retry-After": lambda: Fault(_says(503, Retry_After=1)),
    "cut body": lambda: Fault(_worse(CUT), left=2),
    "HTML with status 200": lambda: Fault(_says(200, _PAGE, Content_Type="text/html")),
    "slow body": lambda: Fault(_worse(0.02)),
    "duplicate page": lambda: Fault(_same_page),
    "missing page": lambda: Fault(_no_page),
    "items change": lambda: Fault(_changes),
    "items are deleted": lambda: Fault(_removes),
    "expired cursor": lambda: Fault(_says(400, {"message": "invalid cursor"}), when=_follows),
    "token revoked": lambda: Fault(_says(401, {"message": "Bad credentials"}), fails=True, left=40),
}


@contextlib.contextmanager
def patient() -> Any:
    """Nothing waits inside: pauses of retries and limits are over at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


def page_number(text: str, pattern: str) -> int:
    """A number in a text, such as that of a page in an address."""
    found = re.search(pattern, text)
    return int(found[1]) if found else 1
