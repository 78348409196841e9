"""Grafana: both frame shapes of recorded answers, and queries that would write."""

import datetime as dt
import itertools
import json
import math
import urllib.parse

import pytest

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.grafana import Grafana

UTC = dt.UTC


@pytest.fixture
def backend(service):
    return Grafana(url=service.url, datasource="uid1")


def at(ms):
    return dt.datetime.fromtimestamp(ms // 1000, UTC) + dt.timedelta(milliseconds=ms % 1000)


def answers(service, result, status=200):
    service.answers.append((status, {}, json.dumps({"results": {"A": result}}).encode()))


def fields(*more):
    return [{"name": "Time", "type": "time"}, *more]


def number(name="Value", **labels):
    return {"name": name, "type": "number", "labels": labels}


def test_recorded_series_of_the_prometheus_source_keep_their_labels(backend, service, reference):
    golden = json.loads((reference / "contracts/grafana/promlib_range_simple.golden.json").read_text("utf-8"))
    answers(service, golden)
    found = backend.between("up", at(1641889530000), at(1641889533000), 1).frame
    names = [
        f'__name__="prometheus_http_requests_total", code="{code}", handler="/api/v1/query_range", job="prometheus"'
        for code in (200, 400)
    ]
    # points at .123 lie in the second that ends after them
    assert found.rows() == [
        (names[0], at(1641889531000), 21.0),
        (names[0], at(1641889532000), 32.0),
        (names[0], at(1641889533000), 43.0),
        (names[1], at(1641889530000), 54.0),
        (names[1], at(1641889533000), 76.0),
    ]


def test_recorded_nan_is_no_data(backend, service, reference):
    golden = json.loads((reference / "contracts/grafana/promlib_range_nan.golden.json").read_text("utf-8"))
    assert golden["frames"][0]["data"]["entities"][1] == {"NaN": [0, 1, 2]}
    answers(service, golden)
    assert backend.between("up", at(1641889530000), at(1641889532000), 1).frame.is_empty()


def test_the_recorded_wide_frame_of_the_documentation_has_one_unnamed_series(backend, service, reference):
    example = json.loads((reference / "contracts/grafana/ds_query_docs_example.json").read_text("utf-8"))
    service.answers = [(200, {}, json.dumps(example).encode())]
    found = backend.between("x", at(1644488160000), at(1644488460000), 60).frame
    first = 1644488160000  # 10:16:00, after the point at 10:15:52.084
    assert found.rows() == [("", at(first + 60000 * i), v) for i, v in enumerate([1.0, 20.0, 90.0, 30.0, 5.0, 0.0])]


def test_a_wide_frame_with_several_columns_names_each_series(backend, service):
    frame = {
        "schema": {"fields": fields(number("a"), number("b", pod="x"), {"name": "note", "type": "other"})},
        "data": {"values": [[60000, 120000], [1, None], [3, 4], ["", ""]]},
    }
    answers(service, {"frames": [frame]})
    found = backend.between("x", at(60000), at(120000), 60).frame.rows()
    assert found == [
        ('__name__="a"', at(60000), 1.0),
        ('pod="x"', at(60000), 3.0),
        ('pod="x"', at(120000), 4.0),
    ]


def test_a_long_frame_takes_its_labels_from_columns_of_text(backend, service):
    frame = {
        "schema": {"fields": fields({"name": "host", "type": "string"}, number("p99"))},
        "data": {"values": [[60000, 60000, 120000], ["a", "b", "a"], [1, 2, 3]]},
    }
    answers(service, {"frames": [frame]})
    found = backend.between("x", at(60000), at(120000), 60).frame.rows()
    assert found == [('host="a"', at(60000), 1.0), ('host="a"', at(120000), 3.0), ('host="b"', at(60000), 2.0)]


def test_of_several_points_in_a_slice_the_newest_stays(backend, service):
    frame = {
        "schema": {"fields": fields(number())},
        "data": {"values": [[60_001, 119_999, 120_000, 120_001], [1, 2, 3, 4]]},
    }
    answers(service, {"frames": [frame]})
    assert backend.between("x", at(60000), at(180000), 60).frame.rows() == [
        ("", at(120000), 3.0),
        ("", at(180000), 4.0),
    ]


def test_infinities_stand_beside_the_values_and_are_kept(backend, service):
    frame = {
        "schema": {"fields": fields(number())},
        "data": {
            "values": [[60000, 120000, 180000], [None, None, None]],
            "entities": [None, {"NaN": [0], "Inf": [1], "NegInf": [2]}],
        },
    }
    answers(service, {"frames": [frame]})
    found = backend.between("x", at(60000), at(180000), 60).frame["value"].to_list()
    assert found == [math.inf, -math.inf]


@pytest.mark.parametrize("status", [200, 207, 400, 500])
def test_an_error_of_the_data_source_is_an_error_whatever_the_status(backend, service, status):
    answers(service, {"error": "bad_data: 1:1: parse error", "errorSource": "downstream", "status": 400}, status)
    with pytest.raises(MetricsError, match=r"^grafana: 127\.0\.0\.1.*parse error"):
        backend.now("sum(", at(60000))


def test_a_status_of_failure_without_words_is_an_error(backend, service):
    answers(service, {"status": 502, "frames": []})
    with pytest.raises(MetricsError, match=r"127\.0\.0\.1: the data source failed: status 502"):
        backend.now("up", at(60000))


def test_an_error_beside_data_and_a_warning_make_the_answer_partial(backend, service):
    frame = {
        "schema": {
            "meta": {
                "notices": [{"severity": "warning", "text": "shard 3 is away"}, {"severity": "info", "text": "x"}]
            },
            "fields": fields(number()),
        },
        "data": {"values": [[60000], [1]]},
    }
    answers(service, {"error": "timeout of one source", "frames": [frame]})
    answer = backend.now("up", at(60000))
    assert answer.frame["value"].to_list() == [1.0]
    assert answer.partial == "timeout of one source; shard 3 is away"


def test_the_present_is_the_newest_point_that_is_not_too_old(backend, service):
    points = {"values": [[50_000, 100_000, 900_000], [1, 2, 3]]}
    for _ in range(2):
        answers(service, {"frames": [{"schema": {"fields": fields(number())}, "data": points}]})
    assert backend.now("up", at(400_000)).frame.rows() == [("", at(400_000), 2.0)]
    assert backend.now("up", at(400_001)).frame.is_empty()


def test_a_month_of_minutes_is_asked_for_in_pieces_below_the_limit_of_the_source(backend, service):
    service.usual = (200, {}, b'{"results": {"A": {"frames": []}}}')
    backend.between("up", at(60_000), at(30 * 86_400_000), 60)
    sent = [request.json() for request in service.requests]
    assert [s["queries"][0]["maxDataPoints"] for s in sent] == [10_000] * 4 + [3_200]
    assert sent[0]["from"] == "60000"
    assert all(int(b["from"]) - int(a["to"]) == 60_000 for a, b in itertools.pairwise(sent))


def test_a_model_of_another_data_source_is_sent_as_it_is(backend, service):
    answers(service, {"frames": []})
    model = {"rawSql": "SELECT time, value FROM p99 WHERE $__timeFilter(time)", "format": "time_series"}
    page = backend.now(model, at(60000)).address
    sent = service.requests[0].json()["queries"][0]
    assert sent == model | {"refId": "A", "datasource": {"uid": "uid1"}, "intervalMs": 60000, "maxDataPoints": 6}
    panes = json.loads(urllib.parse.parse_qs(urllib.parse.urlsplit(page).query)["panes"][0])
    assert panes["a"]["queries"][0]["rawSql"] == model["rawSql"]


@pytest.mark.parametrize(
    "model",
    [
        {"rawSql": "DELETE FROM p99"},
        {"rawSql": "delete /* all */ from p99"},
        {"rawSql": "WITH x AS (INSERT INTO a VALUES (1) RETURNING *) SELECT * FROM x"},
        {"rawSql": "SELECT 1; DROP TABLE p99"},
        {"rawSql": "SELECT * INTO copied FROM p99"},
        {"query": 'from(bucket: "a") |> range(start: -1h) |> to(bucket: "b")'},
        {"query": 'DROP SERIES FROM "p99"'},
        {"url": "https://example.org", "url_options": {"method": "POST", "data": "x"}},
        {"targets": [{"rawSql": "update p99 set value = 0"}]},
    ],
    ids=str,
)
def test_a_query_that_would_write_is_refused_before_it_is_sent(backend, service, model):
    with pytest.raises(ConfigError, match=r"would (write|send)"):
        backend.now(model, at(60000))
    assert service.requests == []


@pytest.mark.parametrize(
    "model",
    [
        {"rawSql": "SELECT time, updated, created_at FROM orders WHERE state = 'drop table x'"},
        {"expr": 'sum(rate(sql_delete_total{query="delete from x"}[1m]))'},
        {"query": 'from(bucket: "a") |> range(start: -1h) |> toFloat()', "method": "get"},
    ],
    ids=str,
)
def test_a_query_that_only_sounds_like_writing_is_sent(backend, service, model):
    answers(service, {"frames": []})
    assert backend.now(model, at(60000)).frame.is_empty()
