"""Elasticsearch and OpenSearch: recorded documents, points in time, incomplete answers, names of fields."""

import base64
import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import TOKEN, UNTIL, Answer, read, service

from feedback_lib import plugins, privacy
from feedback_lib.errors import ConfigError
from feedback_lib.testing import KEY

RECORDED = REFERENCE / "contracts" / "elasticsearch"
Fake = service("elasticsearch")


def source(**more):
    options = {"url": "https://es.example.org", "index": "logs-app", "token_env": "FAKE_TOKEN"}
    return plugins.build("sources", {"kind": "elasticsearch", **options, **more})


def hit(source, ms=1772355600120, **more):
    return {"_index": "logs-app", "_id": "a1", "sort": [ms], "_source": source, **more}


def items(one, *hits):
    """The items of rows, their payloads as they are archived."""
    found = [item for row in hits for item in one._document(row)]
    scrubbed = [privacy.scrub(i.payload, personal=one.personal_fields, plain=one.plain_fields, key=KEY) for i in found]
    return list(zip(found, scrubbed, strict=True))


class Single(Fake):
    """Answers every search with what the test gives."""

    given = None

    def _search(self, request):
        return self.given if isinstance(self.given, Answer) else Answer(self.given)


# Recorded answers


@pytest.mark.skipif(not RECORDED.exists(), reason="recorded answers are not here")
class TestRecorded:
    def answers(self):
        yield json.loads((RECORDED / "search.json").read_text("utf-8"))
        text = (RECORDED / "SearchResponseExample1.yaml").read_text("utf-8")
        yield json.loads(text.partition("value: |-\n")[2])

    def test_a_document_of_every_recorded_answer(self):
        for answer in self.answers():
            (row,) = answer["hits"]["hits"]
            signal = source().parse(row)
            at = dt.datetime(2099, 11, 15, 14, 12, 12, tzinfo=dt.UTC)
            assert (signal.native_id, signal.type) == ("my-index-000001/0", "error")
            assert (signal.created_at, signal.updated_at) == (at, at)
            assert signal.title == signal.body == "GET /search HTTP/1.1 200 1070000"
            assert (signal.author, signal.severity, signal.service, signal.version) == (None, None, None, None)
            assert signal.labels == ()
            mapped = source(fields={"author": "user.id", "product_area": "http.request.method"}).parse(row)
            assert (mapped.author, mapped.product_area) == ("kimchy", "get")
            (((item, payload)),) = items(source(), {**row, "sort": [4098435132000]})
            assert payload["_source"] == {"message": signal.body, "@timestamp": "2099-11-15T14:12:12"}
            assert item.created_at == at

    def test_the_recorded_point_in_time_is_walked(self):
        opened = json.loads((RECORDED / "open_pit.json").read_text("utf-8"))
        opened["id"] += "-0"  # the fake counts

        class Recorded(Fake):
            def answer(self, request):
                answer = super().answer(request)
                if request.path.endswith("/_pit"):
                    self.pits[opened["id"].rpartition("-")[0]] = self.items
                    return Answer(opened)
                return answer

        with Recorded() as there:
            assert read(there.source()).ids() == there.expected()
            (first,) = [r for r in there.requests if r.path == "/_search" and "search_after" not in r.json()][:1]
            assert first.json()["pit"]["id"] == opened["id"]

    @pytest.mark.parametrize("name", ["slo-generator_os_generic_response.json", "async_search_submit.json"])
    def test_an_answer_without_documents_is_refused(self, name):
        with Single(0) as there:
            there.given = json.loads((RECORDED / name).read_text("utf-8"))
            done = read(there.source())
            assert "another shape" in str(done.error)
            assert not done.items
            assert done.cursor is None


# Walking


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"timed_out": True}, "ran out of time"),
        ({"_shards": {"total": 5, "successful": 3, "failed": 2}}, "2 of 5 shards failed"),
        ({"_clusters": {"total": 2, "skipped": 1}}, "left out a part"),
        ({"terminated_early": True}, "left out a part"),
    ],
)
def test_half_an_answer_with_status_200_keeps_the_watermark(more, reason):
    with Fake(30) as there:
        stood = read(there.source())
        whole, there.answer = there.answer, lambda request: Answer({**whole(request).body, **more})
        there.items.append(there._document(UNTIL - dt.timedelta(days=1)))
        done = read(there.source(), stood)
        assert reason in str(done.error)
        assert "goes on there" in str(done.error)
        assert done.watermark < UNTIL - dt.timedelta(days=2)
        there.answer = whole
        assert read(there.source(), done).ids() == there.expected()


def test_many_documents_of_one_time_are_walked_in_a_point_in_time_that_expires():
    with Fake() as there:
        gone = []

        def expire(request):
            if "search_after" in request.json() and not gone:
                gone.append(there.pits.clear())

        whole, there.answer = (
            there.answer,
            lambda request: (expire(request) if request.body else None, whole(request))[1],
        )
        done = read(there.source())
        assert done.error is None
        assert gone
        assert done.ids() == there.expected()
        opened = [r for r in there.requests if r.path.endswith("/_pit")]
        assert 2 <= len(opened) <= 4, "another one after the first expired"
        assert not [r for r in there.requests if r.method == "DELETE"]
        used = [r.json()["pit"]["id"] for r in there.requests if r.path == "/_search"]
        assert any(pit.endswith("-1") for pit in used), "the newest id is used"


def test_opensearch_opens_its_point_in_time_elsewhere_and_has_another_tiebreaker():
    class Open(Fake):
        def answer(self, request):
            assert not request.path.endswith("/_pit")
            if request.path == "/logs-app/_search/point_in_time":
                request.path = "/logs-app/_pit"
                return Answer({"pit_id": super().answer(request).body["id"], "creation_time": 1772355600120})
            asked = json.loads(request.body)
            assert not any("_shard_doc" in one for one in asked["sort"])
            request.body = json.dumps({**asked, "sort": [{("_shard_doc" if "_id" in one else next(iter(one))): (
                next(iter(one.values())))} for one in asked["sort"]]}).encode()  # fmt: skip
            return super().answer(request)

    with Open() as there:
        assert read(there.source(flavour="opensearch")).ids() == there.expected()


def test_documents_are_ordered_by_when_they_arrived_where_they_say_so():
    with Single(0) as there:
        late = hit({"@timestamp": "2026-01-01T00:00:00Z", "message": "late"}, sort=[1772355600000, 1767225600000])
        there.given = {"hits": {"hits": [late]}, "timed_out": False, "_shards": {"total": 1, "failed": 0}}
        done = read(there.source(ingested_field="event.ingested"))
        (asked,) = [r.json() for r in there.requests]
        assert [next(iter(one)) for one in asked["sort"]] == ["event.ingested", "@timestamp"]
        assert "event.ingested" in asked["query"]["bool"]["filter"][0]["range"]
        (item,) = done.items.values()
        assert (item.created_at, item.updated_at) == (
            dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)
        )  # fmt: skip
        assert done.watermark == item.updated_at


def test_a_page_begins_the_lag_before_the_watermark_and_ends_at_the_run():
    with Fake(20) as there:
        done = read(there.source())
        read(there.source(), done)
        asked = there.requests[-1].json()["query"]["bool"]["filter"][0]["range"]["@timestamp"]
        assert asked["gte"] == (done.watermark - dt.timedelta(minutes=15)).timestamp() * 1000
        assert asked["lt"] == UNTIL.timestamp() * 1000 + 1
        assert asked["format"] == "epoch_millis"


def test_a_document_without_a_time_is_quarantined_alone():
    with Single(0) as there:
        rows = [hit({"message": "a"}), hit({"message": "b"}, _id="a2", sort=[9223372036854775807])]
        rows.append(hit({"message": "c"}, _id="a3", sort=[None]))
        there.given = {"hits": {"hits": rows}, "_shards": {"total": 1, "failed": 0}}
        done = read(there.source())
        assert list(done.items) == ["logs-app/a1"]
        assert len(done.rejected) == 2
        assert done.error is None


# Documents


def test_dots_of_a_name_are_levels_or_part_of_a_key():
    nested = {"log": {"level": "error"}, "service": {"name": "api", "version": "1.2.3.4"}, "message": "Boom\nagain"}
    flat = {"log.level": "error", "service.name": "api", "service": {"version": "1.2.3.4"}, "message": "Boom\nagain"}
    for one in (nested, flat):
        (((_, payload)),) = items(source(), hit(one))
        signal = source().parse(payload)
        assert (signal.severity, signal.service, signal.version) == ("error", "api", "1.2.3.4")
        assert (signal.title, signal.body) == ("Boom", "Boom\nagain")


@pytest.mark.parametrize(
    ("given", "title", "body"),
    [
        ({"message": "Boom", "error": {"message": "Full", "stack_trace": "at a:1"}}, "Boom", "Boom\nFull\nat a:1"),
        ({"error": {"message": "Full", "stack_trace": "Full\n at a:1"}}, "Full", "Full\nFull\n at a:1"),
        ({"message": "Boom\n at a:1", "error": {"stack_trace": " at a:1"}}, "Boom", "Boom\n at a:1"),
        ({"message": ["one", "two"]}, "one", "one\ntwo"),
        ({"message": "x" * 400}, "x" * 299 + "…", "x" * 400),
    ],
)
def test_the_first_line_of_the_message_is_the_title(given, title, body):
    signal = source().parse(hit(given))
    assert (signal.title, signal.body) == (title, body)


@pytest.mark.parametrize("given", [{}, {"message": ""}, {"message": None}, {"message": {"a": 1}}, {"level": "error"}])
def test_a_document_without_words_says_what_to_do(given):
    with pytest.raises(ValueError, match="option fields"):
        source().parse(hit(given))


def test_only_mapped_fields_are_asked_for_and_kept():
    one = source(fields={"author": "user.name", "product_area": "client.ip", "labels": "", "native_id": "event.id"})
    document = {"message": "a", "user": {"name": "Jane", "email": "j@example.org"}, "client": {"ip": "203.0.113.9"}}
    (((item, payload)),) = items(one, hit({**document, "tags": ["x"], "event": {"id": "jane@example.org"}}))
    assert set(payload["_source"]) == {"message", "user.name", "client.ip", "event.id"}
    assert payload["_source"]["user.name"].startswith("anon-")
    assert payload["_source"]["client.ip"].startswith("anon-")
    assert item.native_id == one.parse(payload).native_id == privacy.redact_id("jane@example.org")
    assert one.parse(payload).author == privacy.pseudonym("Jane", KEY)


@pytest.mark.parametrize("moved", ["partial-", "restored-", "shrink-x1-y-", "partial-restored-"])
def test_an_index_that_its_life_cycle_renames_keeps_the_ids(moved):
    (((item, _)),) = items(source(), hit({"message": "a"}, _index=f"{moved}.ds-logs-2026.01.01-000001"))
    assert item.native_id == ".ds-logs-2026.01.01-000001/a1"


def test_odd_values_are_left_out():
    odd = {"message": 17, "log": "text", "service": {"name": {"x": 1}, "version": 4.5}, "tags": ["a", None, 3, True]}
    signal = source().parse(items(source(), hit(odd))[0][1])
    assert (signal.title, signal.severity, signal.service, signal.version) == ("17", None, None, "4.5")
    assert signal.labels == ("a", "3", "true")


# Options, credentials and the check


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"index": "../_all"}, "in small letters"),
        ({"index": "Logs"}, "in small letters"),
        ({"flavour": "elastic"}, "did you mean 'elasticsearch'"),
        ({"scheme": "Apikey"}, "ApiKey"),
        ({"type": "eror"}, "did you mean 'error'"),
        ({"size": 10_001}, "from 1 to 10000"),
        ({"query": 3}, "query DSL"),
        ({"fields": {"sevrity": "level"}}, "did you mean 'severity'"),
        ({"fields": {"severity": 'a"b'}}, "no name of a field"),
    ],
)
def test_a_wrong_option_says_what_to_write(wrong, words):
    with pytest.raises(ConfigError, match=words):
        source(**wrong)


def test_credentials():
    assert source().headers() == {"Authorization": f"ApiKey {TOKEN}"}
    assert source(scheme="Bearer").headers() == {"Authorization": f"Bearer {TOKEN}"}
    login = base64.b64encode(f"jo:{TOKEN}".encode()).decode()
    assert source(user="jo").headers() == {"Authorization": f"Basic {login}"}
    assert source(token_env="").headers() == {}


def test_the_check_counts_and_says_what_is_missing():
    with Fake(30) as there:
        assert there.source().check() == "logs-app: 30 documents, the newest of 2026-01-01 20:00 UTC"
        with pytest.raises(Exception, match="privilege 'read'"):
            there.source(token_env="", name="other").check()
    with Single(0) as there:
        there.given = {"hits": {"total": {"value": 0}, "hits": []}, "_shards": {"total": 0, "failed": 0}}
        with pytest.raises(Exception, match="has no index logs-app"):
            there.source().check()
        cause = {"type": "parse_exception", "reason": "Failed to parse query [(]"}
        there.given = Answer({"error": {"root_cause": [cause], **cause}, "status": 400}, 400)
        with pytest.raises(Exception, match="Failed to parse query"):
            there.source().check()


def test_a_query_in_dsl_is_sent_as_it_is():
    with Single(0) as there:
        there.given = {"hits": {"hits": []}, "_shards": {"total": 1, "failed": 0}}
        read(there.source(query={"term": {"log.level": "error"}}))
        read(there.source(query=""))
        wanted = [r.json()["query"]["bool"]["filter"][1] for r in there.requests]
        assert wanted == [{"term": {"log.level": "error"}}, {"match_all": {}}]
