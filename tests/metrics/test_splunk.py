"""Splunk: recorded answers of the export call and of older calls, and searches that would write."""

import datetime as dt
import json
import urllib.parse

import pytest

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.splunk import Splunk

AT = dt.datetime(2026, 11, 20, 10, 4, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
QUERY = "index=web | timechart span=60s count"


@pytest.fixture(autouse=True)
def _password(monkeypatch):
    monkeypatch.setenv("SPLUNK_TOKEN", "t0ken")


@pytest.fixture
def backend(service):
    return Splunk(url=service.url, token_env="SPLUNK_TOKEN")


@pytest.fixture
def recorded(reference, service):
    def answer(name):
        service.answers = [(200, {}, (reference / "contracts/splunk" / name).read_bytes())]

    return answer


def answers(service, *lines):
    service.answers.append((200, {}, "\n".join(json.dumps(line) for line in lines).encode()))


def row(minute, last=False, **cells):
    cells = {"_time": f"2026-11-20T10:{minute:02}:00.000+00:00", **cells}
    return {"preview": False, "offset": minute, "result": cells, **({"lastrow": True} if last else {})}


def test_a_recorded_export_keeps_the_final_rows_only(backend, recorded, reference):
    text = (reference / "contracts/splunk/search_jobs_export.ndjson").read_text("utf-8-sig")
    lines = [json.loads(line) for line in text.splitlines()]
    assert (len(lines), sum(line["preview"] for line in lines)) == (69, 64)
    recorded("search_jobs_export.ndjson")
    assert backend.now("index=_internal | stats count by host", AT).frame.rows() == [
        ('host="172.16.35.130"', AT, 16.0),
        ('host="ANDY-PC"', AT, 29732.0),
        ('host="Andy-PC"', AT, 36185.0),
        ('host="andy-pc"', AT, 135.0),
        ('host="three.four.com"', AT, 35994.0),
    ]


@pytest.mark.parametrize("name", ["results_v4.json", "results_v5.json"])
def test_recorded_tables_of_old_versions_have_the_same_rows(backend, recorded, name):
    recorded(name)
    assert backend.now("index=_internal | chart sum(kb) by series", AT).frame.rows() == [
        ('series="splunkd"', AT, 267802.333926),
        ('series="splunkd_access"', AT, 5979.036338),
        ('series="twitter"', AT, 14372242.758775),
    ]


def test_several_recorded_columns_of_numbers_are_a_series_each(backend, recorded):
    recorded("slo-generator_splunk_generic_response.json")
    assert backend.now("index=web | stats sum(good) AS good", AT).frame.rows() == [
        ('series="bad"', AT, 2.0),
        ('series="good"', AT, 13666.0),
        ('series="sli"', AT, 99.99),
        ('series="valid"', AT, 13668.0),
    ]


def test_a_recorded_event_is_named_by_its_texts_and_keeps_its_moment(backend, recorded):
    recorded("results_multivalue_v5.json")
    event = dt.datetime(2012, 11, 28, 0, 44, 22, 581000, dt.UTC)  # 16:44:22.581 -08:00
    found = backend.between("index=_internal", dt.datetime(2012, 11, 28, 0, 45, tzinfo=dt.UTC), event + 5 * MINUTE, 60)
    (series, at, value), *none = found.frame.rows()
    assert none == []
    assert (at, value) == (dt.datetime(2012, 11, 28, 0, 45, tzinfo=dt.UTC), 1.0)  # its only number is linecount
    assert 'host="dfoster-mbp17.local"' in series
    assert "_raw" not in series


def test_recorded_xml_is_not_the_answer_that_was_asked_for(backend, recorded):
    recorded("export_results_v5.xml")
    with pytest.raises(MetricsError, match=r"127\.0\.0\.1.*not JSON"):
        backend.now(QUERY, AT)


def test_a_recorded_empty_answer_is_one_that_broke_off(backend, recorded):
    recorded("sdk_results.xml")
    with pytest.raises(MetricsError, match="broke off"):
        backend.now(QUERY, AT)


def test_the_search_is_sent_as_a_form_for_the_seconds_asked_about(backend, service):
    answers(service, row(3, last=True, count="5"))
    backend.between(QUERY, AT, AT, 60)
    request = service.requests[0]
    assert (request.method, request.path) == ("POST", "/services/search/v2/jobs/export")
    assert request.headers["authorization"] == "Bearer t0ken"
    assert dict(urllib.parse.parse_qsl(request.body.decode())) == {
        "search": "search " + QUERY,
        "earliest_time": "1795168980.000",
        "latest_time": "1795169040.000",
        "output_mode": "json",
        "preview": "false",
    }


def test_without_the_last_row_the_answer_broke_off(backend, service):
    answers(service, row(2, count="5"), row(3, count="5"))
    with pytest.raises(MetricsError, match="broke off before its last row"):
        backend.between(QUERY, AT - MINUTE, AT, 60)


def test_rows_of_a_preview_are_not_results_and_do_not_end_the_answer(backend, service):
    preview = {**row(2, last=True, host="old", count="5"), "preview": True}
    answers(service, preview, row(3, last=True, host="new", count="6"))
    assert backend.now(QUERY, AT).frame["series"].to_list() == ['host="new"']
    answers(service, preview)
    with pytest.raises(MetricsError, match="broke off"):
        backend.now(QUERY, AT)


@pytest.mark.parametrize("kind", ["FATAL", "ERROR"])
def test_a_message_of_failure_is_an_error_although_rows_came(backend, service, kind):
    failed = {"messages": [{"type": kind, "text": "Search not executed: quota of user jane.doe@example.org"}]}
    answers(service, row(3, last=True, count="5"), failed)
    with pytest.raises(MetricsError, match="Search not executed") as raised:
        backend.now(QUERY, AT)
    assert "jane.doe" not in str(raised.value)


def test_a_warning_makes_the_answer_partial_and_debug_does_not(backend, service):
    said = [{"type": "WARN", "text": "peer idx2 is down"}, {"type": "DEBUG", "text": "base lispy"}]
    answers(service, {"preview": False, "messages": said}, row(3, last=True, count="5"))
    answer = backend.now(QUERY, AT)
    assert (answer.frame["value"].to_list(), answer.partial) == ([5.0], "peer idx2 is down")


def test_a_span_that_is_not_the_step_is_refused_with_the_cure(backend, service):
    answers(service, row(0, last=True, count="5", _span="300"))
    with pytest.raises(ConfigError, match="steps of 300 s; write span=60s"):
        backend.between(QUERY, AT - 3 * MINUTE, AT, 60)


def test_rows_without_a_time_have_no_history(backend, service):
    answers(service, {"preview": False, "lastrow": True, "result": {"count": "5"}})
    with pytest.raises(ConfigError, match=r"without _time; end it as in .* timechart"):
        backend.between("index=web | stats count", AT, AT, 60)


def test_empty_cells_are_no_data_and_a_column_of_them_is_no_series(backend, service):
    answers(service, row(2, a="", b="1"), row(3, last=True, a=None, b="NaN"))
    found = backend.between(QUERY, AT - MINUTE, AT, 60).frame.rows()
    assert found == [('series="b"', AT - MINUTE, 1.0)]


def test_offsets_are_read_and_a_time_without_one_is_not_guessed(backend, service):
    answers(service, row(0, last=True, _time="2026-11-20T15:33:00.000+05:30", count="5"))
    assert backend.between(QUERY, AT, AT, 60).frame.rows() == [("", AT, 5.0)]
    answers(service, row(0, last=True, _time="2026-11-20T10:03:00", count="5"))
    with pytest.raises(MetricsError, match="another shape"):
        backend.between(QUERY, AT, AT, 60)


@pytest.mark.parametrize(
    ("query", "command"),
    [
        ("index=web | stats count | outputlookup seen.csv", "outputlookup"),
        ("index=web | delete", "delete"),
        ("index=web | COLLECT index=summary", "collect"),
        ('| makeresults | map search="search index=x | delete"', "map"),
        ("index=web | script python evil", "script"),
        ("index=web | sendemail to=a@example.org", "sendemail"),
        ("index=web | append [search index=b | outputcsv x]", "outputcsv"),
        ("index=a [| inputlookup x | sendalert y]", "sendalert"),
        ("index=a | append [collect index=b]", "collect"),
        ("|delete", "delete"),
        ('index=web "a | b" |\n\tmcollect index=m', "mcollect"),
        (r'index=web "\" | delete "  | dump basefilename=x', "dump"),
        ("| savedsearch nightly", "savedsearch"),
        ("| from savedsearch:nightly", "from"),
    ],
)
def test_a_search_with_a_command_that_may_write_is_refused_by_its_name(backend, service, query, command):
    with pytest.raises(ConfigError, match=f"'{command}'"):
        backend.now(query, AT)
    assert service.requests == []


def test_a_macro_is_refused_because_it_may_hide_a_command(backend, service):
    with pytest.raises(ConfigError, match="macro"):
        backend.now("index=web | `finish(count)`", AT)
    assert service.requests == []


@pytest.mark.parametrize(
    "query",
    [
        'index=web "outputlookup | delete" | rex "(?<x>a|delete)" | where match(x, "[|]") | timechart span=60s count',
        "| tstats count where index=web by _time span=60s",
        "search index=web ```why: | delete is only a remark``` | bin _time span=60s | stats count by _time, host",
        "index=web [search index=users | fields user] | foreach a* [eval b=b+1] | timechart span=60s p99(b)",
        "index=web error | eval delete=1 | fields - delete | timechart span=60s count",
    ],
)
def test_a_search_that_only_reads_is_sent_as_written(backend, service, query):
    answers(service, row(3, last=True, count="5"))
    assert backend.now(query, AT).frame["value"].to_list() == [5.0]
    sent = dict(urllib.parse.parse_qsl(service.requests[0].body.decode()))["search"]
    assert sent in (query, f"search {query}")
