"""Elasticsearch and OpenSearch: logged errors and other documents with a time, as signals."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_args

from feedback_lib import logs, privacy
from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Signal, SignalType, micros, moment, real_time
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, instant

_USUAL = {
    "message": "message",
    "error": "error.message",
    "stack_trace": "error.stack_trace",
    "severity": "log.level",
    "service": "service.name",
    "version": "service.version",
    "labels": "tags",
}
_PITS = {  # by flavour: the path that opens a point in time, the name of its id, what orders documents in it
    "elasticsearch": ("_pit", "id", "_shard_doc"),
    "opensearch": ("_search/point_in_time", "pit_id", "_id"),
}
_KEPT = "1m"  # how long a point in time waits for the next page; closing it would be a DELETE
_REST: dict[str, Any] = {}  # "go on in a point in time": more documents than a page share one time
_MOVED = re.compile(r"^(?:partial-|restored-|shrink-[\w-]{4}-)+")  # what an index's life cycle puts before its name
_RIGHTS = "the key or user needs the privilege 'read' on this index"


@register("sources", "elasticsearch")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Elasticsearch(Service):
    """Documents of an index, an alias, a data stream or a pattern, oldest first.

    Options:
        url: where it runs.
        index: an index, a pattern such as ``logs-*``, or several with commas.
        query: which documents, as a query string (``log.level: error``) or query DSL.
        fields: our field: dotted field of a document; an empty one leaves a usual one out.
        time_field: when the event was.
        ingested_field: when it arrived, if every document says so, such as ``event.ingested``.
        type: of the signals, such as ``error``.
        size: documents a page, 10,000 at most.
        flavour: ``elasticsearch`` or ``opensearch``.
        tiebreaker: a sortable field that tells documents of one time apart; the service's own when left out.
        scheme: of the token: ``ApiKey`` or ``Bearer``.
        user: for basic authentication; the token is then the password.
    """

    index: str
    query: str | Mapping[str, Any] = ""
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    time_field: str = "@timestamp"
    ingested_field: str = ""
    type: SignalType = "error"
    size: int = 1_000
    flavour: str = "elasticsearch"
    tiebreaker: str = ""
    scheme: str = "ApiKey"
    user: str = ""
    token_env: str = "ELASTICSEARCH_TOKEN"

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=15)  # shippers and refreshes take their time
    hints: ClassVar[Mapping[Any, str]] = {401: _RIGHTS, 403: _RIGHTS}

    def __post_init__(self) -> None:
        logs.elastic_index(self.index, "sources")
        self.one_of("flavour", _PITS)
        self.one_of("scheme", ("ApiKey", "Bearer"))
        self.one_of("type", get_args(SignalType))
        if not isinstance(self.size, int) or not 1 <= self.size <= 10_000:
            raise self.wrong("size", "write a number from 1 to 10000")
        if not isinstance(self.query, str | Mapping):
            raise ConfigError("sources elasticsearch: query is neither a query string nor query DSL")
        _ = self._names
        object.__setattr__(self, "searches", (self._search, "/_search", self._opening))
        super().__post_init__()

    @functools.cached_property
    def personal_fields(self) -> tuple[str, ...]:
        """The field mapped to the author, and those of the common schema that name people and machines."""
        return logs.personal_fields(self._names, "_source.")

    @functools.cached_property
    def plain_fields(self) -> tuple[str, ...]:
        """The document's place, and the fields mapped to an id, an address or a version."""
        return ("_index", "_id", f"_source.{self.time_field}", *logs.plain_fields(self._names, "_source."))

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        return logs.columns("elasticsearch", self.fields, _USUAL)

    @property
    def _search(self) -> str:
        return f"/{self.index}/_search"

    @property
    def _opening(self) -> str:
        return f"/{self.index}/{_PITS[self.flavour][0]}"

    @property
    def origin(self) -> str:
        """The option ``name``; else the index."""
        return self.name or self.index

    def headers(self) -> Mapping[str, str]:
        """The key, token or password, unless ``token_env`` is empty."""
        return self.authorization(self.scheme, self.user)

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The documents by the time they arrived, else by their own."""

        def ask(since: dt.datetime | None, following: Mapping[str, Any] | None) -> Page:
            return self._documents(since, walk.until, following)

        yield from walk.pages("documents", ask, self._document, at=_at, key=lambda row: (row["_index"], row["_id"]))

    def _documents(self, since: dt.datetime | None, until: dt.datetime, following: Mapping[str, Any] | None) -> Page:
        """A page from ``since`` on; ``following`` walks on in a point in time, which is opened at its first page."""
        body: dict[str, Any] = {
            "size": self.size,
            "track_total_hits": False,
            "timeout": f"{round(self.timeout_s * 800)}ms",  # so short that it can still say that it did not finish
            "_source": sorted({*self._names.values(), self.time_field}),
            "query": {"bool": {"filter": [self._between(since, until), self._wanted]}},
            "sort": self._order(),
        }
        if following is None:
            hits = self._hits(self._search, body)["hits"]["hits"]
            return Page(hits, _REST if len(hits) >= self.size else None)
        pit = following.get("pit") or self._open()
        body["sort"] = self._order(self.tiebreaker or _PITS[self.flavour][2])
        body["pit"] = {"id": pit, "keep_alive": _KEPT}
        if following:
            body["search_after"] = following["after"]
        found = self._hits("/_search", body)
        hits = found["hits"]["hits"]
        after = {"pit": found.get("pit_id") or pit, "after": hits[-1]["sort"]} if len(hits) >= self.size else None
        return Page(hits, after)

    @property
    def _times(self) -> tuple[str, ...]:
        """What documents are sorted by: when they arrived, if they say so, and when the event was."""
        return tuple(dict.fromkeys((self.ingested_field or self.time_field, self.time_field)))

    @property
    def _wanted(self) -> Mapping[str, Any]:
        if isinstance(self.query, str):
            return {"query_string": {"query": self.query}} if self.query.strip() else {"match_all": {}}
        return self.query

    def _between(self, since: dt.datetime | None, until: dt.datetime) -> dict[str, Any]:
        bounds: dict[str, Any] = {"lt": _ms(until) + 1, "format": "epoch_millis"}
        return {"range": {self._times[0]: {**bounds, **({"gte": _ms(since)} if since else {})}}}

    def _order(self, *tiebreaker: str) -> list[dict[str, Any]]:
        """Times in milliseconds, also where one index of a pattern counts nanoseconds or has no such field."""
        date = {"order": "asc", "numeric_type": "date", "unmapped_type": "date"}
        return [*({name: date} for name in self._times), *({name: "asc"} for name in tiebreaker)]

    def _open(self) -> str:
        """The id of a new point in time."""
        path, name = self._opening, _PITS[self.flavour][1]
        return str(self.client.call("POST", path, params={"keep_alive": _KEPT}).json()[name])

    def _hits(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A whole answer: half of one would move the watermark over what is missing."""
        found: Mapping[str, Any] = self.client.ask(path, {"allow_partial_search_results": "false"}, body=body).json()
        if problem := logs.elastic_partial(found):
            raise TransportError(self.kind, f"{self.address}: {problem}")
        return found

    def _document(self, row: Row) -> Iterator[Item]:
        payload = {
            "_index": privacy.redact_id(_MOVED.sub("", row["_index"])),
            "_id": privacy.redact_id(row["_id"]),
            "sort": row["sort"][: len(self._times)],
            "_source": logs.kept(row["_source"], {**self._names, "at": self.time_field}),
        }
        where = f"{row['_index']}/_doc/{payload['_id']}"
        yield self.item(payload, where, self._native_id(payload), self._created(payload), _at(payload))

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a document into a signal; the first line of its message is the title."""
        source = payload.get("_source")
        if not isinstance(source, Mapping):
            raise ValueError("is no document: it has no _source")
        return self.signal(
            self._native_id(payload),
            self.type,
            created_at=self._created(payload),
            updated_at=_at(payload) if payload.get("sort") else self._created(payload),
            **logs.told(source, self._names),
        )

    def _native_id(self, payload: Mapping[str, Any]) -> str:
        """The mapped field's; else index and id, which stay as long as nobody reindexes."""
        mapped = logs.first(payload["_source"], self._names.get("native_id", ""))
        return mapped or f"{payload['_index']}/{payload['_id']}"

    def _created(self, payload: Mapping[str, Any]) -> dt.datetime:
        """The event's own time, as the service sorted it; else as the document says it."""
        try:
            return _instant(payload["sort"][len(self._times) - 1])
        except MALFORMED:
            return instant(logs.first(payload["_source"], self.time_field))

    def look(self) -> str:
        """How many documents there are, and of when the newest is."""
        body = {"size": 1, "track_total_hits": 10_000, "query": self._wanted, "_source": False}
        order = [{self._times[0]: {"order": "desc", "numeric_type": "date", "unmapped_type": "date"}}]
        found = self._hits(self._search, {**body, "sort": order})
        if not found["_shards"]["total"]:
            raise TransportError(self.kind, f"{self.address} has no index {self.index}")
        total, hits = found["hits"]["total"], found["hits"]["hits"]
        count = total["value"] if isinstance(total, Mapping) else total
        more = " or more" if isinstance(total, Mapping) and total.get("relation") == "gte" else ""
        newest = f", the newest of {_at(hits[0]):%Y-%m-%d %H:%M} UTC" if hits else ""
        return f"{self.index}: {count:,}{more} documents{newest}"

    def hint(self, problem: TransportError) -> str:
        """What the service says is wrong with a request, else what a status means."""
        if problem.status not in (400, 404):
            return super().hint(problem)
        error = json.loads(problem.body)["error"]
        return privacy.redact(str((error.get("root_cause") or [error])[0]["reason"]))[:300]


def _ms(at: dt.datetime) -> int:
    return micros(at) // 1000


def _at(row: Mapping[str, Any]) -> dt.datetime:
    return _instant(row["sort"][0])


def _instant(ms: Any) -> dt.datetime:
    if not isinstance(ms, int):
        raise ValueError("the service gave no time in milliseconds")
    return real_time(moment(ms * 1000))
