"""What every source must do, as tests: for the authors of plug-ins, and run over every source of this package.

In a test file of your own package:

    from feedback_lib.testing import SourceContract

    class TestAcme(SourceContract):
        kind = "acme"
        example = Path(__file__).parent / "example"

``example`` is a folder with ``options.json``, the options that read it, and the files or the recorded answers to read.
Recorded answers stand in ``exchanges.json``, a list of

    {"method": "GET", "path": "/issues", "query": {"state": "all"}, "status": 200, "headers": {}, "answer": …}

They are served on loopback; ``{url}`` in an option becomes the server's address. A request gets the first exchange
with its method and path whose ``query`` (and ``body``, of JSON or a form) say nothing else than the request does, one
with ``"once": true`` only the first time. Only ``path`` and ``answer`` are needed. Somewhere in the example `PLANTED`
must stand where people stand, so that the tests can look for it in what is stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import http.server
import json
import os
import shutil
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import stamina

from feedback_lib import plugins, privacy, records
from feedback_lib.errors import SourceError
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
WRITTEN = dt.datetime(2025, 12, 1, tzinfo=dt.UTC)  # the recorded files, so that a fresh checkout changes nothing
KEY = b"k" * 32
TOKEN = "a-token-of-the-tests-7c1e"  # in every environment variable an option ``…_env`` names
PLANTED = "jane.doe@example.org"
_PERSONAL = ("jane.doe", "5550 1234", "ghp_0123", "203.0.113.9")


class Loopback:
    """HTTP on loopback; a subclass answers each request in ``serve``. ``url`` is its address."""

    def __init__(self) -> None:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                service.serve(self)

            do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *ignored: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failed: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Replay(Loopback):
    """Serves recorded exchanges on loopback; ``requests`` and ``unknown`` hold what was asked, as "GET /path?query"."""

    def __init__(self, exchanges: list[dict[str, Any]]) -> None:
        self.exchanges = [dict(e) for e in exchanges]
        self.requests: list[str] = []
        self.unknown: list[str] = []
        super().__init__()

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """Answer with what was recorded."""
        content = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(handler.path)
        asked = {
            "method": handler.command,
            "path": urllib.parse.unquote(url.path),
            "query": dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True)),
            "body": _body(content),
        }
        self.requests.append(f"{handler.command} {handler.path}")
        found = next((e for e in self.exchanges if _fits(e, asked)), None)
        if found is None:
            self.unknown.append(self.requests[-1])
            found = {"status": 404, "answer": {"message": "no exchange was recorded"}}
        elif found.get("once"):
            self.exchanges.remove(found)
        text = found["answer"] if isinstance(found["answer"], str) else json.dumps(found["answer"])
        sent = text.replace("{url}", self.url).encode()
        with contextlib.suppress(OSError):
            handler.send_response(found.get("status", 200))
            headers = {"Content-Type": "application/json", "Content-Length": str(len(sent)), **found.get("headers", {})}
            for name, value in headers.items():
                handler.send_header(name, str(value).replace("{url}", self.url))
            handler.end_headers()
            handler.wfile.write(sent)


def _body(content: bytes) -> Any:
    try:
        return json.loads(content) if content else {}
    except ValueError:
        return dict(urllib.parse.parse_qsl(content.decode("utf-8", "replace")))


def _fits(exchange: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    if (exchange.get("method", "GET"), exchange["path"]) != (asked["method"], asked["path"]):
        return False
    return all(_within(exchange.get(part, {}), asked[part]) for part in ("query", "body"))


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(k in whole and _within(v, whole[k]) for k, v in part.items())
    return bool(part == whole)


class SourceContract:
    """Subclass it with a name that begins with ``Test``, and set ``kind`` and ``example``."""

    kind: ClassVar[str]
    example: ClassVar[Path]
    streamed: ClassVar[bool] = False  # larger than memory and unsorted, so in the order of the file

    @pytest.fixture
    def options(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
        """The options of the example, in a copy of its folder, its recorded answers served."""
        given = self.example / "options.json"
        assert given.exists(), f"add {given} (options for a recorded example)"
        folder = tmp_path / "example"
        shutil.copytree(self.example, folder)
        for path in folder.rglob("*"):
            os.utime(path, (WRITTEN.timestamp(), WRITTEN.timestamp()))
        monkeypatch.chdir(folder)
        options = json.loads(given.read_text("utf-8"))
        recorded = folder / "exchanges.json"
        served = Replay(json.loads(recorded.read_text("utf-8"))) if recorded.exists() else None
        cls = plugins.get("sources", self.kind)
        with served or contextlib.nullcontext(), stamina.set_testing(True, attempts=10, cap=True):
            if served:
                options = {k: v.replace("{url}", served.url) if isinstance(v, str) else v for k, v in options.items()}
            for name in {f.name for f in dataclasses.fields(cls)} | options.keys():
                default = getattr(cls, name, "")
                if name.endswith("_env") and (variable := options.get(name, default)):
                    monkeypatch.setenv(str(variable), TOKEN)
            yield options
            assert not served or not served.unknown, f"add to exchanges.json what was asked: {served.unknown}"

    @pytest.fixture
    def source(self, options: dict[str, Any]) -> Any:
        """The plug-in, built with the options."""
        return plugins.build("sources", {"kind": self.kind, **options})

    def test_yields_at_least_two_signals_of_its_kind(self, source: Any) -> None:
        """Fewer show little."""
        signals = read(source)
        assert len(signals) >= 2
        assert {(s.kind, s.origin) for s in signals} == {(self.kind, source.origin)}

    def test_reading_twice_gives_the_same_signals_in_the_same_order(self, source: Any) -> None:
        """Nothing depends on the clock or on chance."""
        assert list(source.fetch(None, END)) == list(source.fetch(None, END))
        assert read(source) == read(source)

    def test_ids_are_unique_and_times_are_aware_utc(self, source: Any) -> None:
        """Also those of replies."""
        signals = read(source)
        everything: list[Signal | Reply] = [*signals, *replies(source)]
        assert len({one.uid for one in everything}) == len(everything)
        times = [at for one in everything for at in (one.created_at, one.updated_at)]
        times += [at for s in signals for at in (s.first_response_at, s.closed_at) if at]
        assert all(at.tzinfo is dt.UTC for at in times)

    def test_an_item_says_what_its_signal_says(self, source: Any) -> None:
        """Its id and times are those under which it is archived before it is parsed."""
        for item in items(source):
            try:
                parsed = source.parse(scrubbed(source, item)) if item.parent is None else _reply(source, item)
            except ValueError:
                continue
            assert parsed.uid == records.uid(self.kind, source.origin, item.native_id)
            assert (parsed.created_at, parsed.updated_at) == (item.created_at, item.updated_at)
            assert item.parent is None or parsed.parent == item.parent

    def test_oldest_comes_first_unless_it_is_streamed(self, source: Any) -> None:
        """A source with checkpoints may have several streams; its watermark only moves on."""
        marks = [found.watermark for found in source.fetch(None, END) if isinstance(found, Checkpoint)]
        if marks:
            known = [mark for mark in marks if mark]
            assert known == sorted(known)
            return
        times = [s.updated_at for s in read(source)]
        assert (times == sorted(times)) is not self.streamed

    def test_the_window_is_half_open(self, source: Any) -> None:
        """``since`` is in it, ``until`` is not."""
        signals = read(source)
        first = min(signals, key=lambda s: s.updated_at)
        last = max(signals, key=lambda s: s.updated_at)
        assert first in read(source, since=first.updated_at)
        assert first not in read(source, until=first.created_at)
        assert last in read(source, since=last.updated_at)
        assert last not in read(source, since=last.updated_at + dt.timedelta(microseconds=1))

    def test_two_windows_side_by_side_read_everything(self, source: Any) -> None:
        """Nothing falls between them."""
        signals = read(source)
        middle = sorted(s.updated_at for s in signals)[len(signals) // 2]
        both = [*read(source, until=middle), *read(source, since=middle)]
        assert {s.uid for s in both} == {s.uid for s in signals}

    def test_goes_on_at_every_checkpoint(self, source: Any) -> None:
        """What comes after one is at least what had not come before it."""
        whole = {item.native_id for item in items(source)}
        before: set[str] = set()
        for found in source.fetch(None, END):
            if isinstance(found, Item):
                before.add(found.native_id)
            elif isinstance(found, Checkpoint):
                cursor = json.loads(json.dumps(found.cursor))
                after = {i.native_id for i in source.fetch(None, END, cursor) if isinstance(i, Item)}
                assert before | after == whole

    def test_what_cannot_be_read_says_where_and_why(self, source: Any) -> None:
        """So that somebody can mend it."""
        for found in source.fetch(None, END):
            if isinstance(found, Rejected):
                assert found.where.strip()
                assert found.reason.strip()
            elif isinstance(found, Item):
                assert found.where.strip()

    def test_an_empty_payload_is_refused_with_a_reason(self, source: Any) -> None:
        """Never a signal out of nothing."""
        with pytest.raises(ValueError, match=r"\w"):
            source.parse({})

    def test_a_place_that_is_not_there_is_a_source_error_that_names_it(self, options: dict[str, Any]) -> None:
        """For a file, a folder, a host."""
        elsewhere = {"path": "nowhere/at-all", "folder": "nowhere/at-all", "url": "http://127.0.0.1:9", "port": 9}
        place = next(name for name in elsewhere if name in options)
        source = plugins.build("sources", {"kind": self.kind, **options, place: elsewhere[place]})
        told = str(elsewhere[place]).removeprefix("http://")
        for call in (lambda: list(source.fetch(None, END)), source.check):
            with pytest.raises(SourceError, match=told) as error:
                call()
            assert error.value.kind == self.kind
            assert TOKEN not in str(error.value)

    def test_checking_says_what_is_there(self, source: Any) -> None:
        """In one line."""
        line = source.check()
        assert line.strip()
        assert "\n" not in line

    def test_reading_writes_nothing(self, source: Any) -> None:
        """Not beside the example either."""

        def prints() -> dict[Path, Any]:
            files = (p for p in Path().rglob("*") if p.is_file())
            return {p: (hashlib.sha256(p.read_bytes()).digest(), p.stat().st_mtime) for p in files}

        before = prints()
        read(source)
        assert prints() == before

    def test_a_payload_is_json_as_it_is(self, source: Any) -> None:
        """It is archived as such."""
        for item in items(source):
            assert json.loads(json.dumps(item.payload, allow_nan=False)) == item.payload
            json.dumps(item.payload, ensure_ascii=False).encode("utf-8")

    def test_no_personal_data_passes_into_the_store(self, source: Any) -> None:
        """Planted in every example, so a source that forgets a field fails here."""
        before = json.dumps([item.payload for item in items(source)])
        assert PLANTED in before, f"plant {PLANTED} in the recorded example"
        after = json.dumps([scrubbed(source, item) for item in items(source)])
        after += repr(read(source)) + repr(replies(source)) + repr([item.native_id for item in items(source)])
        for part in _PERSONAL:
            assert part not in after

    def test_no_secret_shows(self, source: Any) -> None:
        """Not in its options, nor in what it yields."""
        assert TOKEN not in repr(source) + repr(list(source.fetch(None, END)))

    def test_what_is_stored_would_be_stored_again_unchanged(self, source: Any) -> None:
        """Or the archive could not be parsed again."""
        for item in items(source):
            once = scrubbed(source, item)
            again = privacy.scrub(once, personal=source.personal_fields, plain=source.plain_fields, key=KEY)
            assert again == once

    def test_a_signal_is_hashable_and_its_text_is_not_empty(self, source: Any) -> None:
        """It is a frozen record of words."""
        for signal in read(source):
            assert isinstance(signal, Signal)
            assert signal.text
            hash(signal)


def items(source: Any, since: dt.datetime | None = None, until: dt.datetime = END) -> list[Item]:
    """The items of a source, replies too."""
    return [found for found in source.fetch(since, until) if isinstance(found, Item)]


def scrubbed(source: Any, item: Item) -> dict[str, Any]:
    """The payload as it is archived."""
    return privacy.scrub(item.payload, personal=source.personal_fields, plain=source.plain_fields, key=KEY)


def read(source: Any, since: dt.datetime | None = None, until: dt.datetime = END) -> list[Signal]:
    """The signals of a source, without those that are quarantined."""
    signals = []
    for item in items(source, since, until):
        if item.parent is None:
            with contextlib.suppress(ValueError):
                signals.append(source.parse(scrubbed(source, item)))
    return signals


def replies(source: Any) -> list[Reply]:
    """The replies of a source."""
    return [_reply(source, item) for item in items(source) if item.parent is not None]


def _reply(source: Any, item: Item) -> Reply:
    made: Reply = source.reply(scrubbed(source, item))
    return made
