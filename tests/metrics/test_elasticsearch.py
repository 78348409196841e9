"""Elasticsearch: recorded answers, counts that are 0 or unknown, and answers that are incomplete."""

import datetime as dt
import json

import pytest

from feedback_lib.errors import ConfigError, MetricsError
from feedback_lib.metrics.elasticsearch import Elasticsearch

AT = dt.datetime(2026, 11, 20, 10, 4, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
COUNT = {"filter": "level: error", "value": "count"}


@pytest.fixture
def backend(service):
    return Elasticsearch(url=service.url, index="logs-*")


def answers(service, **body):
    shards = {"_shards": {"total": 3, "failed": 0}, "timed_out": False}
    service.answers.append((200, {}, json.dumps(shards | body).encode()))


def slices(*buckets):
    """Buckets of (minutes after 10:00, documents, matching documents)."""
    start = int(AT.timestamp()) - 240
    made = [{"key": (start + 60 * m) * 1000, "doc_count": n, "matching": {"doc_count": k}} for m, n, k in buckets]
    return {"aggregations": {"slices": {"buckets": made}}}


@pytest.mark.parametrize(("name", "count"), [("search", 20.0), ("slo-generator_os_generic_response", 120.0)])
def test_the_total_of_a_recorded_search_is_its_count(backend, service, reference, name, count):
    service.answers = [(200, {}, (reference / f"contracts/elasticsearch/{name}.json").read_bytes())]
    answer = backend.now(COUNT, AT)
    assert answer.frame.rows() == [("", AT, count)]
    assert answer.partial is None


def test_a_recorded_percentage_of_an_answer_is_never_taken_for_an_aggregate(backend, service, reference):
    service.answers = [(200, {}, (reference / "contracts/elasticsearch/search.json").read_bytes())]
    with pytest.raises(MetricsError, match="another shape"):
        backend.between(COUNT, AT, AT, 60)


@pytest.mark.parametrize("name", ["async_search_submit", "open_pit"])
def test_a_recorded_answer_of_another_call_is_never_taken_for_a_value(backend, service, reference, name):
    service.usual = (200, {}, (reference / f"contracts/elasticsearch/{name}.json").read_bytes())
    with pytest.raises(MetricsError, match="another shape"):
        backend.now(COUNT, AT)
    with pytest.raises(MetricsError, match="another shape"):
        backend.between(COUNT, AT, AT, 60)


def test_a_total_that_is_only_a_lower_bound_is_partial(backend, service):
    answers(service, hits={"total": {"value": 10000, "relation": "gte"}})
    answer = backend.now(COUNT, AT)
    assert answer.frame["value"].to_list() == [10000.0]
    assert "more than the 10000" in answer.partial


def test_a_count_of_old_versions_is_a_plain_number(backend, service):
    answers(service, hits={"total": 7})
    assert backend.now(COUNT, AT).frame["value"].to_list() == [7.0]


@pytest.mark.parametrize(("newest", "rows"), [(1.7e12, [0.0]), (None, [])])
def test_no_match_is_0_when_other_documents_came_and_no_data_when_none_did(backend, service, newest, rows):
    answers(service, hits={"total": {"value": 0, "relation": "eq"}}, aggregations={"newest": {"value": newest}})
    assert backend.now(COUNT, AT).frame["value"].to_list() == rows
    sent = service.requests[0].json()
    assert sent["post_filter"] == {"query_string": {"query": "level: error"}}
    assert "query_string" not in str(sent["query"])  # so that other documents are seen


def test_a_slice_without_any_document_has_no_count_and_one_without_a_match_has_0(backend, service):
    answers(service, **slices((0, 9, 2), (2, 5, 0)))
    found = backend.between(COUNT, AT - 3 * MINUTE, AT, 60).frame.rows()
    assert found == [("", AT - 3 * MINUTE, 2.0), ("", AT - MINUTE, 0.0)]


@pytest.mark.parametrize("operation", ["avg", "sum", "max", "min"])
def test_an_aggregate_of_a_field_narrows_the_search_to_what_matches(backend, service, operation):
    answers(service, aggregations={"v": {"value": 12.5}})
    query = {"filter": {"term": {"service": "api"}}, "value": {operation: "took"}}
    assert backend.now(query, AT).frame["value"].to_list() == [12.5]
    sent = service.requests[0].json()
    assert sent["aggs"] == {"v": {operation: {"field": "took"}}}
    assert sent["query"]["bool"]["filter"][1] == {"term": {"service": "api"}}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"timed_out": True}, "ran out of time"),
        ({"_shards": {"total": 5, "failed": 2}}, "2 of 5 shards failed"),
        ({"_clusters": {"total": 2, "skipped": 1}}, "left out a part"),
    ],
)
def test_an_incomplete_answer_with_status_200_is_partial(backend, service, more, reason):
    for _ in range(2):
        answers(service, hits={"total": 3}, **slices((3, 5, 1)), **more)
    assert reason in backend.now(COUNT, AT).partial
    assert reason in backend.between(COUNT, AT, AT, 60).partial


def test_nan_of_old_versions_is_no_data(backend, service):
    answers(service, aggregations={"v": {"values": [{"key": 99.0, "value": "NaN"}]}})
    assert backend.now({"value": {"percentile": 99, "field": "took"}}, AT).frame.is_empty()


def test_the_service_says_why_a_search_is_wrong(backend, service):
    reason = {"type": "query_shard_exception", "reason": "Failed to parse query [level:]"}
    service.usual = (400, {}, json.dumps({"error": {"root_cause": [reason], **reason}, "status": 400}).encode())
    with pytest.raises(MetricsError, match=r"127\.0\.0\.1.*400 Bad Request.*Failed to parse query"):
        backend.now(COUNT, AT)


def test_a_query_may_name_another_index_and_time_field(backend, service):
    answers(service, hits={"total": 1})
    backend.now({**COUNT, "index": "audit-2026,audit-2025", "time_field": "event.ingested"}, AT)
    assert service.requests[0].path == "/audit-2026,audit-2025/_search"
    assert "event.ingested" in service.requests[0].json()["query"]["bool"]["filter"][0]["range"]


@pytest.mark.parametrize("index", ["", "a/../_all", "_all", "logs/_delete_by_query", "a?b", "..", "a b", "%2e", "Logs"])
def test_an_index_that_could_lead_to_another_call_is_refused(service, index):
    backend = Elasticsearch(url=service.url)
    with pytest.raises(ConfigError, match="index = "):
        backend.now({**COUNT, "index": index}, AT)
    assert service.requests == []


@pytest.mark.parametrize(
    "value", [None, "total", {"percentile": "99", "field": "x"}, {"median": "x"}, {"avg": "a", "max": "b"}]
)
def test_an_unknown_value_says_what_to_write(backend, value):
    with pytest.raises(ConfigError, match=r"value = .*; write \{filter"):
        backend.now({"value": value}, AT)


def test_a_month_of_minutes_is_asked_for_in_pieces_below_the_limit_of_buckets(backend, service):
    service.usual = (200, {}, json.dumps(slices()).encode())
    backend.between(COUNT, AT - dt.timedelta(days=30), AT, 60)
    ranges = [r.json()["query"]["bool"]["filter"][0]["range"]["@timestamp"] for r in service.requests]
    assert len(ranges) == 5
    assert all((r["lt"] - r["gte"]) // 60_000 <= 10_000 for r in ranges)
    assert ranges[-1]["lt"] == AT.timestamp() * 1000
    assert [r["gte"] for r in ranges[1:]] == [r["lt"] for r in ranges[:-1]]


def test_a_key_and_a_user_together_are_wrong():
    with pytest.raises(ConfigError, match="api_key_env, or user and password_env"):
        Elasticsearch(url="http://127.0.0.1:9", api_key_env="A", user="me", password_env="B")
