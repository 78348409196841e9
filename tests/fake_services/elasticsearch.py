"""An index of Elasticsearch: search, points in time and search_after, as https://elastic.co/docs/api describes them."""

import datetime as dt

from fake_services import TOKEN, Answer, FakeService, at

INDEX = "logs-app"
SHARDS = {"total": 2, "successful": 2, "skipped": 0, "failed": 0}
PAGE = 100


def ms(when):
    return int(when.timestamp() * 1000)


def error(status, kind, reason):
    cause = {"type": kind, "reason": reason}
    return Answer({"error": {"root_cause": [cause], **cause}, "status": status}, status)


class Elasticsearch(FakeService):
    kind = "elasticsearch"
    unauthorised = error(401, "security_exception", "unable to authenticate user")
    unauthorised = (401, unauthorised.body)

    def options(self):
        return {"url": self.url, "index": INDEX, "token_env": "FAKE_TOKEN", "size": PAGE, "query": "log.level:error"}

    def allowed(self, request):
        return request.headers.get("authorization") == f"ApiKey {TOKEN}"

    def make(self, count):
        self.pits, self.made = {}, 0
        return [self._document(at(i)) for i in range(count)]

    def _document(self, when):
        self.made += 1
        n = self.made
        return {
            "_index": f".ds-{INDEX}-2026.01.01-00000{n % 3 + 1}", "_id": f"AZx{n:05}kQ", "_score": None,
            "when": when, "doc": n * 7919 % 1009,
            "_source": {
                "@timestamp": f"{when:%Y-%m-%dT%H:%M:%S}.000Z", "message": f"Upload {n} failed",
                "log.level": "error", "service": {"name": "api", "version": "4.2.1.17"}, "tags": ["prod"],
                "user": {"name": f"user-{n % 7}"}, "client": {"ip": "203.0.113.9"},
                **({"error": {"message": "Disk is full", "stack_trace": f"at put:{n}"}} if n % 3 else {}),
            },
        }  # fmt: skip

    def answer(self, request):
        assert request.method == "POST"
        if request.path == f"/{INDEX}/_pit":
            assert not request.body
            assert request.query["keep_alive"].endswith("m")
            pit = f"pit-{len(self.pits)}-0"
            self.pits[pit.rpartition("-")[0]] = [dict(one) for one in self.items]
            return Answer({"id": pit, "_shards": SHARDS})
        if request.path in (f"/{INDEX}/_search", "/_search"):
            return self._search(request)
        return error(404, "index_not_found_exception", f"no such index [{request.path}]")

    def _search(self, request):
        asked = request.json()
        assert asked["size"] <= 10_000
        assert "from" not in asked
        assert request.query == {"allow_partial_search_results": "false"}
        names = [next(iter(one)) for one in asked["sort"]]
        assert asked["sort"][0]["@timestamp"]["numeric_type"] == "date"
        pit = asked.get("pit")
        assert (pit is None) == (request.path != "/_search"), "an index beside a point in time is refused"
        if "_shard_doc" in names and pit is None:
            return error(
                400, "illegal_argument_exception", "[_shard_doc] sort field cannot be used without [point in time]"
            )
        documents = self.items
        if pit:
            assert pit["keep_alive"]
            documents = self.pits.get(pit["id"].rpartition("-")[0])
            if documents is None:
                return error(404, "search_context_missing_exception", "No search context found for id [1]")
        wanted = asked["query"].get("bool", {"filter": [{"match_all": {}}, asked["query"]]})["filter"]
        assert wanted[1] == {"query_string": {"query": "log.level:error"}}
        bounds = wanted[0].get("range", {}).get("@timestamp", {})
        found = [
            d for d in documents
            if bounds.get("gte", 0) <= ms(d["when"]) < bounds.get("lt", 10**14)
        ]  # fmt: skip
        down = asked["sort"][0]["@timestamp"]["order"] == "desc"
        # without a tiebreaker documents of one time come in any order: here in another one each time
        self.pages_sorted = getattr(self, "pages_sorted", 0) + 1
        turn = 1 if pit else self.pages_sorted
        found.sort(key=lambda d: (-ms(d["when"]) if down else ms(d["when"]), (d["doc"] + 37 * turn) % 1009))
        hits = []
        for d in found:
            values = [ms(d["when"]), *([(d["doc"] + 37) % 1009] if "_shard_doc" in names else [])]
            if "search_after" not in asked or values > asked["search_after"]:
                source = d["_source"] if asked["_source"] else {}
                hits.append({k: d[k] for k in ("_index", "_id", "_score")} | {"_source": source, "sort": values})
        answer = {
            "took": 3, "timed_out": False, "_shards": SHARDS,
            "hits": {"max_score": None, "hits": hits[: asked["size"]]},
        }  # fmt: skip
        if asked["track_total_hits"]:
            answer["hits"]["total"] = {"value": len(found), "relation": "eq"}
        if pit:
            stem, _, number = pit["id"].rpartition("-")
            answer["pit_id"] = f"{stem}-{int(number) + 1}"
        return Answer(answer)

    def lists(self, request):
        return request.path.endswith("/_search") and request.json()["track_total_hits"] is False

    def follows(self, request):
        return "search_after" in request.json()

    def empty(self, answer):
        return Answer({**answer.body, "hits": {**answer.body["hits"], "hits": []}})

    def touch(self, item, when):
        """Documents of a log do not change; a later one comes."""
        self.items.append(self._document(when))

    def expected(self):
        return {f"{d['_index']}/{d['_id']}": d["when"].astimezone(dt.UTC) for d in self.items}


SERVICE = Elasticsearch
