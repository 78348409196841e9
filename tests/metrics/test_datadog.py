"""Datadog: recorded answers read field by field, and what differs between its calls."""

import datetime as dt
import json

import pytest

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.datadog import Datadog

QUERY = "avg:system.cpu.user{*}"


@pytest.fixture(autouse=True)
def _keys(monkeypatch):
    monkeypatch.setenv("DD_API_KEY", "k1")
    monkeypatch.setenv("DD_APP_KEY", "k2")


@pytest.fixture
def backend(service):
    return Datadog(url=service.url, lookback_s=3600)


@pytest.fixture
def recorded(reference, service):
    """Makes the service answer as recorded; gives the exchange."""

    def answer(name):
        found = json.loads((reference / "contracts/datadog" / f"{name}.json").read_text("utf-8"))
        one = found[0] if isinstance(found, list) else {"status": 200, "body": found}
        service.answers = [(one["status"], {}, json.dumps(one["body"]).encode())]
        return one

    return answer


def at(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def test_a_recorded_day_by_v1_stands_at_the_ends_of_its_buckets(backend, service, recorded):
    body = recorded("v1_query_timeseries_ok")["body"]
    answer = backend.between({"v1": "system.cpu.idle{*}"}, at(1641344400), at(1641430500), 300)
    points = body["series"][0]["pointlist"]
    assert len(points) == 288
    assert answer.frame.rows() == [("", at(ms / 1000 + 300), value) for ms, value in points]
    request = service.requests[0]
    assert request.method == "GET"
    assert request.path.startswith("/api/v1/query?from=1641344100&to=1641430500&query=system.cpu.idle")
    assert (request.headers["dd-api-key"], request.headers["dd-application-key"]) == ("k1", "k2")


def test_a_recorded_quotient_by_v1_is_read_in_its_own_steps_of_20_seconds(backend, recorded):
    body = recorded("slo-generator_dd_timeseries")["body"]
    query = body["query"]
    assert "/" in query  # so it goes to v1
    answer = backend.between(query, at(1601567860), at(1601571420), 20)
    assert answer.frame.rows() == [("", at(1601567860), 0.1853508224854845), ("", at(1601571420), 0.18535713648676658)]


def test_an_answer_of_v1_in_other_steps_is_refused_with_the_cure(backend, recorded):
    recorded("v1_query_timeseries_ok")
    with pytest.raises(MetricsError, match=r"steps of 300 s, not 60 s; .*\.rollup\(avg, 60\)"):
        backend.between({"v1": "system.cpu.idle{*}"}, at(1641344400), at(1641430500), 60)


def test_the_present_by_v1_is_the_last_bucket_that_has_ended(backend, recorded):
    points = recorded("v1_query_timeseries_ok")["body"]["series"][0]["pointlist"]
    now = at(points[-1][0] / 1000 + 299)  # the last bucket ends a second later
    assert backend.now({"v1": "system.cpu.idle{*}"}, now).frame.rows() == [("", now, points[-2][1])]


def test_a_recorded_v2_series_is_asked_for_with_our_interval_in_milliseconds(backend, service, recorded):
    one = recorded("v2_timeseries_ok")
    query = one["request"]["body"]["data"]["attributes"]["queries"][0]["query"]
    answer = backend.between(query, at(1711977605), at(1711981200), 5)
    assert answer.frame.rows() == [("", at(1711977650), 1.0), ("", at(1711977710), 1.0), ("", at(1711980230), 87.0)]
    sent = service.requests[0].json()["data"]
    assert sent["type"] == one["request"]["body"]["data"]["type"]
    assert sent["attributes"] == {
        "formulas": [{"formula": "a"}],
        "queries": one["request"]["body"]["data"]["attributes"]["queries"],
        "interval": 5000,
        "from": 1711977600000,
        "to": 1711981200000,
    }


def test_a_recorded_v2_number_is_the_value_of_the_present(backend, service, recorded):
    one = recorded("v2_scalar_ok")
    asked = one["request"]["body"]["data"]
    now = at(asked["attributes"]["to"] / 1000)
    assert backend.now(QUERY, now).frame.rows() == [("", now, 6.368151928283307)]
    sent = service.requests[0].json()["data"]
    assert sent["attributes"]["queries"] == asked["attributes"]["queries"]
    assert (sent["attributes"]["from"], sent["type"]) == (asked["attributes"]["from"], "scalar_request")


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("v2_scalar_400", 400, "Queries ending outside the retention date are invalid"),
        ("v2_timeseries_400", 400, "API input validation failed: Invalid type."),
        ("v1_validate_403", 403, "API key required"),
        ("v1_monitor_404", 404, "Monitor not found"),
    ],
)
def test_a_recorded_refusal_is_passed_on_in_its_own_words(backend, recorded, name, status, words):
    assert recorded(name)["status"] == status
    with pytest.raises(MetricsError) as failed:
        backend.now(QUERY, at(1711977600))
    assert str(status) in str(failed.value)
    assert words in str(failed.value)


def test_a_recorded_refusal_inside_an_answer_with_status_200_is_an_error(backend, recorded):
    recorded("slo-generator_dd_error")
    with pytest.raises(MetricsError, match="Forbidden"):
        backend.now(QUERY, at(1711977600))


@pytest.mark.parametrize(
    "name",
    [
        "v1_validate_ok",
        "v1_monitor_get",
        "v1_search_slos",
        "v1_slo_history_no_data",
        "slo-generator_dd_slo",
        "slo-generator_dd_slo_history",
    ],
)
def test_a_recorded_answer_of_another_call_is_never_taken_for_a_value(backend, recorded, name):
    for ask in (lambda query: backend.now(query, at(1711977600)), lambda q: backend.between(q, at(60), at(120), 60)):
        for query in (QUERY, {"v1": QUERY}):
            recorded(name)
            with pytest.raises(MetricsError, match=r"another shape|127\.0\.0\.1"):
                ask(query)


def test_an_error_in_the_body_of_v1_is_an_error(backend, service):
    service.usual = (200, {}, b'{"status": "error", "error": "Error parsing query", "series": []}')
    with pytest.raises(MetricsError, match="Error parsing query"):
        backend.now({"v1": "oops"}, at(1711977600))


@pytest.mark.parametrize("query", [QUERY, {"v1": QUERY}], ids=["v2", "v1"])
def test_an_empty_list_of_series_is_no_data(backend, service, query):
    body = {"status": "ok", "series": [], "data": {"attributes": {"series": [], "times": [], "values": []}}}
    service.usual = (200, {}, json.dumps(body).encode())
    assert backend.between(query, at(60), at(600), 60).frame.is_empty()


def test_a_week_of_minutes_is_asked_for_in_days_without_a_moment_twice(backend, service):
    body = {"data": {"attributes": {"series": [], "times": [], "values": []}}}
    service.usual = (200, {}, json.dumps(body).encode())
    backend.between(QUERY, at(60), at(7 * 86400), 60)
    windows = [(r.json()["data"]["attributes"]["from"], r.json()["data"]["attributes"]["to"]) for r in service.requests]
    assert windows == [(day * 86_400_000, (day + 1) * 86_400_000) for day in range(7)]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("p99:trace.web.request{service:my-api,env:prod} by {resource-name}", "/api/v2/query/scalar"),
        ("sum:hits{*}.as_count().rollup(sum, 60)", "/api/v2/query/scalar"),
        ("100 - avg:system.cpu.idle{*}", "/api/v1/query"),
        ("abs(avg:a{*} / avg:b{x:y})", "/api/v1/query"),
        ({"queries": {"bad": "sum:e{*}", "all": "sum:h{*}"}, "formula": "bad / all"}, "/api/v2/query/scalar"),
    ],
)
def test_a_text_with_arithmetic_goes_to_v1_and_everything_else_to_v2(backend, service, query, path):
    service.usual = (404, {}, b"{}")
    with pytest.raises(MetricsError):
        backend.now(query, at(1711977600))
    assert [request.path.partition("?")[0] for request in service.requests] == [path]


def test_two_queries_without_a_formula_and_an_unknown_aggregator_are_wrong(backend):
    with pytest.raises(ConfigError, match="needs a formula"):
        backend.now({"queries": {"a": "x{*}", "b": "y{*}"}}, at(0))
    with pytest.raises(ConfigError, match="known: avg"):
        backend.now({"queries": {"a": "x{*}"}, "aggregator": "mode"}, at(0))


def test_a_site_is_a_host_and_nothing_more():
    assert Datadog(site="us5.datadoghq.com")._transport.host == "api.us5.datadoghq.com"
    for site in ("example.org/x", "evil.example.org@datadoghq.com", "datadoghq"):
        with pytest.raises(ConfigError, match="is no site"):
            Datadog(site=site)
