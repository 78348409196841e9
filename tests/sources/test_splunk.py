"""Splunk: recorded answers, windows, incomplete exports, commands that only read, names of fields."""

import base64
import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import TOKEN, UNTIL, Answer, read, service
from fake_services.splunk import EMPTY, export

from feedback_lib import logs, plugins, privacy
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.testing import KEY
from feedback_lib.transport import Reply

RECORDED = REFERENCE / "contracts" / "splunk"
Fake = service("splunk")
GUID = "BC509B13-C34D-4A69-B216-488806E9EA63"


def source(**more):
    options = {"url": "https://splunk.example.org:8089", "query": "index=web", "token_env": "FAKE_TOKEN"}
    return plugins.build("sources", {"kind": "splunk", **options, **more})


def event(**more):
    return {"_bkt": f"web~1~{GUID}", "_cd": "1:20", "_indextime": "1772355605", "_raw": "Boom\nagain", "index": "web",
            "feedback_time": "1772355600.581", "_time": "2026-03-01 09:00:00.581 CET", **more}  # fmt: skip


def scrubbed(one, item):
    return privacy.scrub(item.payload, personal=one.personal_fields, plain=one.plain_fields, key=KEY)


BEGIN = dt.datetime.fromtimestamp(1772355605 // 4096 * 4096, dt.UTC)


def once(there, **more):
    """A reading that is one window."""
    return read(there.source(**more), since=BEGIN, until=BEGIN + dt.timedelta(seconds=4096))


class Single(Fake):
    """Answers every search with what the test gives, one after the other; the last stays."""

    given = ()

    def answer(self, request):
        first, *rest = self.given
        self.given = tuple(rest) or self.given
        return first if isinstance(first, Answer) else Answer(first.encode() if isinstance(first, str) else first)


# Recorded answers


@pytest.mark.skipif(not RECORDED.exists(), reason="recorded answers are not here")
class TestRecorded:
    def rows(self, name):
        return logs.splunk_rows(Reply(200, {}, (RECORDED / name).read_bytes(), "splunk"))

    def test_the_recorded_event(self):
        rows, messages, whole = self.rows("results_multivalue_v5.json")
        assert whole
        assert {kind for kind, _ in messages} == {"DEBUG"}
        (row,) = rows
        at = dt.datetime(2012, 11, 28, 0, 44, 22, 581000, tzinfo=dt.UTC)
        one = source(fields={"service": "source", "product_area": "index"})
        for signal in (one.parse(row), one.parse(scrubbed(one, one._event(row)))):
            assert signal.native_id == f"_internal~115~{GUID}/115:5186"
            assert (signal.created_at, signal.updated_at) == (at, dt.datetime(2012, 11, 28, 0, 44, 22, tzinfo=dt.UTC))
            assert signal.title == signal.body
            assert signal.title.startswith("127.0.0.1 - admin [27/Nov/2012:16:44:22.581 -0800]")
            assert signal.title.endswith('count=-1 HTTP/1.1" 200 1998 - - - 1ms')
            assert signal.labels == ("splunkd_access",)
            assert signal.service == "/Applications/splunkbeta_140868_rc7/var/log/splunk/splunkd_access.log"
            assert signal.product_area == "_internal"
            assert (signal.type, signal.author, signal.severity, signal.version) == ("error", None, None, None)

    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("results_v4.json", 3),
            ("results_v5.json", 3),
            ("slo-generator_splunk_generic_response.json", 1),
            ("search_jobs_export.ndjson", 5),
        ],
    )
    def test_rows_of_tables_are_refused(self, name, count):
        rows, _, whole = self.rows(name)
        assert whole
        assert len(rows) == count, "previews are left out, a byte order mark is read over"
        for row in rows:
            with pytest.raises(ValueError, match="leave out commands such as stats"):
                source().parse(row)
        with Single(0) as there:
            there.given = (Answer((RECORDED / name).read_bytes()),)
            done = read(there.source())
            assert "leave out commands such as stats" in str(done.error)
            assert not done.items

    @pytest.mark.parametrize("name", ["export_results_v5.xml", "sdk_results.xml"])
    def test_xml_or_nothing_is_no_answer(self, name):
        with Single(0) as there:
            there.given = (Answer((RECORDED / name).read_bytes(), headers={"Content-Type": "text/xml"}),)
            done = read(there.source())
            assert done.error
            assert len(there.requests) == 3
            assert done.watermark is None


# Windows


def test_a_window_with_too_many_events_is_cut_down_to_a_second_and_grows_again():
    with Fake() as there:
        done = read(there.source(size=20))
        assert done.ids() == there.expected()
        asked = [
            (int(r.form["index_latest"]) - int(r.form["index_earliest"]), r.form["search"]) for r in there.requests
        ]
        assert all(("| head 21" in search) == (span > 1) for span, search in asked)
        assert min(asked)[0] == 1, "130 of one second"
        assert len(asked) < 130
        assert all(count == 1 for count in done.versions.values()), "each is given once"


def test_what_is_indexed_later_comes_although_its_own_time_is_long_past():
    with Fake(20) as there:
        done = read(there.source(), until=UNTIL - dt.timedelta(days=30))
        late = there._event(UNTIL - dt.timedelta(days=29))
        late |= {"_time": "2025-01-01 00:00:00.000 UTC", "feedback_time": "1735689600.000000"}
        there.items.append(late)
        (new,) = read(there.source(), done).ids().keys() - {f"{e['_bkt']}/{e['_cd']}" for e in there.items[:-1]}
        assert done.items[new].created_at == dt.datetime(2025, 1, 1, tzinfo=dt.UTC)


def test_a_reading_goes_on_the_lag_before_its_latest_event_with_the_width_it_had():
    with Fake(20) as there:
        done = read(there.source())
        last = max(there.expected().values())
        assert done.watermark == last
        before = len(there.requests)
        read(there.source(), done)
        (request,) = there.requests[before:]
        assert int(request.form["index_earliest"]) == last.timestamp() - 15 * 60
        assert int(request.form["index_latest"]) == UNTIL.timestamp()


def test_a_clock_that_is_ahead_loses_nothing():
    with Fake(20) as there:
        done = read(there.source(), until=UNTIL)
        there.touch(there.items[0], UNTIL - dt.timedelta(hours=3))
        assert read(there.source(), done).ids() == there.expected()


def test_events_of_days_around_a_window_only():
    with Single(0) as there:
        there.given = (export([]),)
        once(there, event_days=2)
        (request,) = there.requests
        start, end = (int(request.form[n]) for n in ("index_earliest", "index_latest"))
        earliest, latest = (int(request.form[n]) for n in ("earliest_time", "latest_time"))
        assert (start - earliest, latest - end) == (2 * 86_400, 2 * 86_400)


def test_a_window_that_fails_is_smaller_in_the_next_run():
    class Slow(Fake):
        def answer(self, request):
            span = int(request.form["index_latest"]) - int(request.form["index_earliest"])
            return Answer(b"", 400) if span > 86_400 * 10 else super().answer(request)

    with Slow(20) as there:
        done, runs = read(there.source()), 1
        while done.error and runs < 9:
            assert "goes on there" in str(done.error)
            done, runs = read(there.source(), done), runs + 1
            there.requests.clear()
        assert done.ids() == there.expected()


# Answers


ROW = {"preview": False, "offset": 0, "result": event()}


@pytest.mark.parametrize(
    "broken",
    [
        "",
        json.dumps(ROW),
        json.dumps({**ROW, "lastrow": True})[:-9],
        json.dumps({"preview": True, "lastrow": True, "result": event()}),
        export([event(_indextime="1735689600")]),
        Answer(b"<html>Log in</html>", headers={"Content-Type": "text/html"}),
    ],
)
def test_an_answer_that_is_not_whole_or_not_asked_for_is_asked_again(broken):
    with Single(0) as there:
        there.given = (broken, export([event()]))
        done = once(there)
        assert done.error is None
        assert list(done.items) == [f"web~1~{GUID}/1:20"]
        assert len(there.requests) == 2


@pytest.mark.parametrize(
    ("kind", "text", "fails"),
    [
        ("FATAL", "Unknown search command 'x'.", True),
        ("ERROR", "[idx2] Search results might be incomplete: the search process ended prematurely.", True),
        ("WARN", "Unable to distribute to peer named idx2 because peer has status = Down.", True),
        ("WARN", "Field 'x' does not exist in the data.", False),
        ("DEBUG", "base lispy: [ AND index::web ] failed", False),
    ],
)
def test_messages_say_whether_the_answer_is_all(kind, text, fails):
    with Single(0) as there:
        there.given = (export([event()], (kind, text)),)
        done = read(there.source())
        assert bool(done.error) is fails
        assert bool(done.items) is not fails
        assert not fails or text[:40] in str(done.error)
        assert not fails or done.watermark is None


def test_an_odd_row_is_quarantined_alone():
    with Single(0) as there:
        rows = [event(), event(_cd="1:21", _indextime="soon"), event(_cd="1:22", _raw=17), event(_cd="1:23", _time=[])]
        there.given = (export(rows),)
        done = once(there)
        assert sorted(i.rpartition("/")[2] for i in done.items) == ["1:20", "1:22", "1:23"]
        (bad,) = done.rejected
        assert "1:21" in bad.where


def test_no_event_at_all():
    with Single(0) as there:
        there.given = (json.dumps(EMPTY) + "\n",)
        done = read(there.source())
        assert (done.error, done.items, done.watermark) == (None, {}, None)


# Events


def test_the_fields_of_an_event():
    one = source(fields={"author": "user", "message": "msg", "stack_trace": "exc.stack", "native_id": "trace"})
    row = event(user="Jane", msg="Disk is full", trace="t-1", log_level="ERROR", service="api", version="1.2.3.4",
                sourcetype="app", **{"exc.stack": "at put:1", "secret_note": "x"})  # fmt: skip
    item = one._event(row)
    assert not {"_raw", "_bkt", "secret_note"} & item.payload.keys()
    signal = one.parse(scrubbed(one, item))
    assert (signal.title, signal.body) == ("Disk is full", "Disk is full\nat put:1")
    assert (signal.severity, signal.service, signal.version) == ("ERROR", "api", "1.2.3.4")
    assert (signal.native_id, item.native_id, signal.labels) == ("t-1", "t-1", ("app",))
    assert signal.author == privacy.pseudonym("Jane", KEY)
    assert (signal.created_at.microsecond, signal.updated_at.microsecond) == (581000, 0)


def test_an_event_without_the_mapped_message_is_told_by_its_raw_text():
    one = source(fields={"message": "msg"})
    assert one.parse(scrubbed(one, one._event(event()))).body == "Boom\nagain"


@pytest.mark.parametrize(
    ("row", "native_id"),
    [
        (event(), f"web~1~{GUID}/1:20"),
        (event(_bkt=None, _si=["idx1", "web"]), "idx1~web/1:20"),
        (event(_bkt=None, _si="idx1\nweb"), "idx1~web/1:20"),
    ],
)
def test_an_event_is_told_by_where_it_lies(row, native_id):
    assert source()._event(row).native_id == native_id


def test_an_event_that_does_not_say_where_it_lies_is_told_by_its_text():
    first, again, other = (event(_bkt=None, _cd=None, _raw=raw) for raw in ("a", "a", "b"))
    ids = [source()._event(row).native_id for row in (first, again, other)]
    assert ids[0] == ids[1] != ids[2]
    item = source()._event({**first, "_raw": "for jane@example.org"})
    assert source().parse(scrubbed(source(), item)).native_id == item.native_id, "redacted, and yet the same"


@pytest.mark.parametrize(
    ("more", "created"),
    [
        ({"feedback_time": None, "_time": "2026-03-01T09:00:00.581+01:00"}, "2026-03-01T08:00:00.581"),
        ({"feedback_time": None, "_time": "1772355600"}, "2026-03-01T09:00:00"),
        ({"feedback_time": None, "_time": "2026-03-01 09:00:00.581 CET"}, "2026-03-01T09:00:05"),
    ],
)
def test_the_time_of_an_event(more, created):
    assert source().parse(event(**more)).created_at == dt.datetime.fromisoformat(created).replace(tzinfo=dt.UTC)


# Options, credentials and the check


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"query": ""}, "finds events"),
        ({"query": "| tstats count"}, "finds events"),
        ({"query": "index=web | delete"}, "'delete', which is not known to only read"),
        ({"query": "index=web | outputlookup x"}, "'outputlookup'"),
        ({"query": "index=web [search x | collect index=y]"}, "'collect'"),
        ({"query": "index=web `mine`"}, "macro"),
        ({"size": 0}, "from 1 on"),
        ({"event_days": -1}, "from 0 on"),
        ({"scheme": "bearer"}, "did you mean 'Bearer'"),
        ({"type": "eror"}, "did you mean 'error'"),
        ({"fields": {"message": 'x" | delete | fields "'}}, "no name of a field"),
        ({"fields": {"sevrity": "level"}}, "did you mean 'severity'"),
    ],
)
def test_a_wrong_option_says_what_to_write(wrong, words):
    with pytest.raises(ConfigError, match=words):
        source(**wrong)


def test_credentials():
    assert source().headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert source(scheme="Splunk").headers() == {"Authorization": f"Splunk {TOKEN}"}
    login = base64.b64encode(f"jo:{TOKEN}".encode()).decode()
    assert source(user="jo").headers() == {"Authorization": f"Basic {login}"}


def test_the_check_counts_and_says_what_is_missing():
    with Fake(30) as there:
        assert there.source().check() == "web: 30 events indexed in the last day"
        with pytest.raises(SourceError, match="capability search"):
            there.source(token_env="", name="other").check()
    with Single(0) as there:
        there.given = (Answer({"messages": [{"type": "FATAL", "text": "Unbalanced quotes."}]}, 400),)
        with pytest.raises(SourceError, match="Unbalanced quotes"):
            there.source().check()
