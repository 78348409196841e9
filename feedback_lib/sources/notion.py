"""Notion: the rows of a database, by a map of its properties to our fields, with their text and comments if wanted."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, get_args

from feedback_lib.errors import ConfigError, TransportError, nearest
from feedback_lib.plugins import register
from feedback_lib.privacy import redact_address
from feedback_lib.records import Item, Reply, Signal, SignalType
from feedback_lib.services import Found, Page, Row, Service, Walk, inside, picked

_MINUTE = dt.timedelta(minutes=1)
_DEEPEST = 8  # blocks in blocks
_PEOPLE = ("people", "created_by", "last_edited_by", "email", "phone_number")  # types whose values name somebody
_TIMES = ("created_at", "first_response_at", "closed_at")
_NUMBERS: Mapping[str, Callable[[Any], Any]] = {
    "rating": float, "reactions": int, "customer_value": float, "thread_count": int,
}  # fmt: skip
_TEXTS = (
    "title", "body", "author", "state", "product_area", "service", "spec_id", "version", "severity", "locale", "url",
)  # fmt: skip
_FIELDS = (*_TEXTS, "labels", *_NUMBERS, *_TIMES)
_SPEAKER = "customer|reporter|author|requester|contact"
# our field, the types that can be it, and what its name must hold; of several lines the first that fits
_GUESSED: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("title", ("title",), ""),
    ("body", ("rich_text",), "descri|body|feedback|comment|detail|text|note|message|content"),
    ("body", ("rich_text",), f"^(?!.*(?:{_SPEAKER}|name|user))"),
    ("state", ("status",), ""),
    ("severity", ("select", "status", "number"), "severity|priority"),
    ("rating", ("number",), "rating|score|csat|stars"),
    ("reactions", ("number",), "vote"),
    ("author", ("email",), ""),
    ("author", ("people", "created_by", "rich_text", "select"), _SPEAKER),
)


@register("sources", "notion")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Notion(Service):
    """Rows of a database, or of one of its data sources; each is a page.

    Options:
        database: its id, the 32 digits in its address; all its data sources are read.
        data_source: id of the one data source to read instead.
        columns: our field: name of a property, or names whose values are put together; the others are guessed.
        personal: further properties that name people.
        type: what a row is.
        content: read the text of each page too; it follows the body.
        comments: read the open comments on each page too.
        url: where ``/v1`` is.
    """

    database: str = ""
    data_source: str = ""
    columns: Mapping[str, str | Sequence[str]] = dataclasses.field(default_factory=dict)
    personal: Sequence[str] = ()
    type: SignalType = "ticket"
    content: bool = False
    comments: bool = False
    url: str = "https://api.notion.com"
    token_env: str = "NOTION_TOKEN"

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=2)  # its times are whole minutes
    per_minute: ClassVar[float | None] = 180
    personal_fields: ClassVar[tuple[str, ...]] = (
        "created_by.id", "properties.person", "properties.rollup.array.person",
    )  # fmt: skip
    plain_fields: ClassVar[tuple[str, ...]] = (
        "object", "id", "url", "created_time", "last_edited_time", "page", "parent.type", "parent.page_id",
        "parent.block_id", "display_name.type", "properties.type", "properties.url", "properties.date.start",
        "properties.created_time", "properties.last_edited_time", "properties.relation.id", "blocks.type",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {
        403: "the integration needs the capability to read content, and for comments the one to read comments",
        404: "is the database shared with the integration (••• > Connections)?",
    }

    def __post_init__(self) -> None:
        where = self.database or self.data_source
        if bool(self.database) == bool(self.data_source) or not re.fullmatch(r"[0-9a-f-]{32,36}", where):
            raise ConfigError("sources notion: write the id (32 digits) of either a database or a data_source")
        for field in self.columns:
            if field not in _FIELDS:
                raise ConfigError(f"sources notion: columns has {field!r}; {nearest(str(field), list(_FIELDS))}")
        self.one_of("type", get_args(SignalType))
        super().__post_init__()

    @functools.cached_property
    def searches(self) -> tuple[str, ...]:  # type: ignore[override]
        """The query of the data source."""
        return (f"/v1/data_sources/{self.data_source}/query",) if self.data_source else ()

    @property
    def origin(self) -> str:
        """The option ``name``; else the id."""
        return self.name or self.database or self.data_source

    def headers(self) -> Mapping[str, str]:
        """A bearer token and the version of the API."""
        return {**self.authorization(), "Notion-Version": "2025-09-03"}

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The rows of each data source, and those in the trash."""
        for one in self._parts():
            about = one.data_source
            yield from walk.pages(
                f"rows {about}", functools.partial(one._rows, False), one._read, at=itemgetter("last_edited_time")
            )
            yield from walk.pages(
                f"trash {about}", functools.partial(one._rows, True), one._read, at=itemgetter("last_edited_time")
            )

    def _parts(self) -> list[Notion]:
        """This source for each data source of the database, whose path is then the only one asked by POST."""
        if self.data_source:
            return [self]
        found = self.client.ask(f"/v1/databases/{self.database}").json()["data_sources"]
        return [dataclasses.replace(self, database="", data_source=one["id"], name=self.origin) for one in found]

    def _rows(self, trash: bool, since: dt.datetime | None, following: Any) -> Page:
        """``following``: a filter and a cursor.

        A query ends after 10,000 rows. When as many changed in one minute, they go on by the time they were created.
        """
        wanted, cursor = following or (_after(since), None)
        sorts = [{"timestamp": name, "direction": "ascending"} for name in ("last_edited_time", "created_time")]
        body = {"sorts": sorts, "page_size": 100, "in_trash": trash, **({"filter": {"and": wanted}} if wanted else {})}
        found = self.client.ask(self.searches[0], body={**body, **({"start_cursor": cursor} if cursor else {})}).json()
        rows = found["results"]
        following = None
        if found["has_more"]:
            following = (wanted, found["next_cursor"])
        elif (found.get("request_status") or {}).get("type") == "incomplete" and since:
            created = {"timestamp": "created_time", "created_time": {"on_or_after": rows[-1]["created_time"]}}
            following = ([*_after(since), *_before(since + _MINUTE), created], None)
        elif len(wanted) > 1 and since:
            following = (_after(since + _MINUTE), None)
        return Page(
            self.detailed(rows, lambda row: row["id"] and (self.content or self.comments), self._details), following
        )

    def _details(self, row: Row) -> Row:
        blocks = {"blocks": list(self._blocks(row["id"]))} if self.content else {}
        comments = {"comments": list(self._all("/v1/comments", block_id=row["id"]))} if self.comments else {}
        return {**row, **blocks, **comments}

    def _blocks(self, parent: str, deep: int = 0) -> Iterator[Row]:
        for block in self._all(f"/v1/blocks/{urllib.parse.quote(parent, safe='')}/children"):
            kind = block["type"]
            yield {"type": kind, "plain_text": _said(block.get(kind) or {})}
            if block.get("has_children") and kind not in ("child_page", "child_database") and deep < _DEEPEST:
                yield from self._blocks(block["id"], deep + 1)

    def _all(self, path: str, **asked: str) -> Iterator[Row]:
        """A list to its end; nothing of a page that has just been deleted."""
        cursors: set[str] = set()
        while True:
            try:
                found = self.client.ask(path, {"page_size": "100", **asked}).json()
            except TransportError as problem:
                if problem.status == 404:
                    return
                raise
            yield from found["results"]
            if not found["has_more"]:
                return
            asked["start_cursor"] = found["next_cursor"]
            if asked["start_cursor"] in cursors:
                raise TransportError(self.kind, f"{self.url} sent the same page of {path} twice")
            cursors.add(asked["start_cursor"])

    def _read(self, row: Row) -> Iterator[Item]:
        if row["object"] != "page":
            return  # a data source in a wiki
        self._check_names(row["properties"])
        kept = self._kept(row)
        where = kept["url"] or row["id"]
        yield self.item(kept, where, row["id"], self._created(kept), row["last_edited_time"])
        for said in row.get("comments") or ():
            if inside(said, "display_name", "type") != "integration":
                times = said["created_time"], said["last_edited_time"]
                yield self.item(_comment(said, row["id"]), where, said["id"], *times, parent=row["id"])

    def _check_names(self, known: Mapping[str, Any]) -> None:
        for name in (*itertools.chain.from_iterable(self._mapped().values()), *self.personal):
            if name not in known:
                raise ConfigError(f"no row has the property {name!r}; {nearest(name, sorted(known))}")

    def _mapped(self) -> dict[str, list[str]]:
        return {field: [names] if isinstance(names, str) else list(names) for field, names in self.columns.items()}

    def _chosen(self, properties: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[str]]:
        """Which properties are which field: what the options say, else what types and names suggest."""
        return {**_guess(tuple(sorted((value["name"], value["type"]) for value in properties))), **self._mapped()}

    def _kept(self, row: Row) -> dict[str, Any]:
        """A row without looks, links that expire and names of people; its properties are a list."""
        properties = [{"name": name, **_slim(value)} for name, value in row["properties"].items()]
        mapped = set(itertools.chain.from_iterable(self._mapped().values()))
        people = {*self._chosen(properties).get("author", ()), *self.personal}
        people |= {value["name"] for value in properties if _names_people(value) and value["name"] not in mapped}
        return {
            **picked(row, ("object", "id", "created_time", "last_edited_time", "blocks")),
            "in_trash": bool(row.get("in_trash") or row.get("archived")),
            "url": _address(row.get("url")),
            "created_by": {"id": inside(row, "created_by", "id")},
            "properties": [_person(value) if value["name"] in people else value for value in properties],
        }

    def _created(self, kept: Mapping[str, Any]) -> Any:
        """When the row was made, unless a property is said to tell."""
        return next(iter(_found(kept, self._mapped().get("created_at", ()))), kept["created_time"])

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a row into a signal; it may have the shape of any version of the API."""
        if payload.get("object") != "page":
            raise ValueError(f"is no page but {payload.get('object') or 'nothing known'}")
        kept = self._kept(payload) if isinstance(payload["properties"], Mapping) else payload
        chosen = self._chosen(kept["properties"])
        values = {field: _found(kept, chosen.get(field, ())) for field in _FIELDS}
        lines = (block["plain_text"] for block in kept.get("blocks") or ())
        body = "\n\n".join(filter(None, (*map(str, values["body"]), "\n".join(filter(None, lines)))))
        texts = {field: ", ".join(map(str, values[field])) or None for field in _TEXTS}
        about = [one for one in kept["properties"] if one["name"] in chosen.get("author", ())]
        people = [person for one in about for person in one.get("person") or ()]  # none in rows kept for another author
        made = {
            **texts,
            **{field: _number(field, values[field]) for field in _NUMBERS},
            **{field: next(iter(values[field]), None) for field in _TIMES},
            "body": body,
            "url": texts["url"] or kept["url"],
            "author": next(iter(people), kept["created_by"]["id"]),
            "created_at": self._created(kept),
            "updated_at": kept["last_edited_time"],
            "state": "deleted" if kept["in_trash"] else texts["state"],
            "labels": tuple(map(str, values["labels"])),
        }
        return self.signal(kept["id"], self.type, **made)

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; Notion does not say who is of the team."""
        return self.reply_to(
            payload.get("page") or payload["parent"]["page_id"],
            payload["id"],
            body=_plain(payload["rich_text"]),
            created_at=payload["created_time"],
            updated_at=payload["last_edited_time"],
            author=inside(payload, "created_by", "id"),
            team=None,
        )

    def look(self) -> str:
        """Each data source's name, and which of its properties are read as what."""
        lines = []
        for one in self._parts():
            about = one.client.ask(f"/v1/data_sources/{one.data_source}").json()
            self._check_names(about["properties"])
            properties = [{"name": name, "type": value["type"]} for name, value in about["properties"].items()]
            chosen = self._chosen(properties)
            shown = ", ".join(f"{field} from {' and '.join(found)}" for field, found in chosen.items() if found)
            lines.append(f"{_plain(about.get('title') or ())}: {shown}")
        return "; ".join(lines)


@functools.lru_cache(maxsize=64)
def _guess(types: tuple[tuple[str, str], ...]) -> Mapping[str, Sequence[str]]:
    """Fields by the names and types of properties, in the order of their names."""
    chosen: dict[str, Sequence[str]] = {"labels": [name for name, kind in types if kind == "multi_select"]}
    for field, fitting, pattern in _GUESSED:
        fits = [name for name, kind in types if kind in fitting and re.search(pattern, name, re.IGNORECASE)]
        if fits and field not in chosen:
            chosen[field] = fits[:1]
    return chosen


def _after(since: dt.datetime | None) -> list[dict[str, Any]]:
    return [{"timestamp": "last_edited_time", "last_edited_time": {"on_or_after": _told(since)}}] if since else []


def _before(until: dt.datetime) -> list[dict[str, Any]]:
    return [{"timestamp": "last_edited_time", "last_edited_time": {"before": _told(until)}}]


def _told(at: dt.datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}:00.000Z"


def _plain(parts: Any) -> str:
    """Rich text as plain text; whoever is mentioned becomes ``@someone``."""
    return "".join(
        "@someone" if (part.get("mention") or {}).get("type") == "user" else part.get("plain_text") or ""
        for part in parts
    )


def _said(block: Mapping[str, Any]) -> str:
    """The words of a block: its text, or what stands under a picture, in a row of a table, in a formula."""
    cells = [_plain(cell) for cell in block.get("cells") or ()]
    rich = block.get("rich_text") or block.get("caption") or ()
    return _plain(rich) or " | ".join(cells) or block.get("title") or block.get("expression") or ""


def _slim(value: Mapping[str, Any]) -> dict[str, Any]:
    kind = value["type"]
    inside: Any = value.get(kind)
    if kind in _PEOPLE:
        users = inside if isinstance(inside, list) else [inside]
        return {"type": kind, "person": [one["id"] if isinstance(one, Mapping) else one for one in users if one]}
    if kind in ("title", "rich_text"):
        inside = [{"plain_text": _plain(inside or ())}]
    elif kind == "url" and inside:
        inside = redact_address(inside)
    elif kind == "rollup" and inside and "array" in inside:
        inside = {**inside, "array": [_slim(one) for one in inside["array"]]}
    elif kind == "verification" and inside:
        inside = {"state": inside["state"], "date": inside.get("date")}  # not by whom
    return {"type": kind, kind: None if kind == "files" else inside}


def _names_people(value: Mapping[str, Any]) -> bool:
    made = value["type"] == "formula" and (value.get("formula") or {}).get("type") == "string"
    return (made or value["type"] in ("rich_text", "select")) and bool(
        re.search(_SPEAKER, value["name"], re.IGNORECASE)
    )


def _person(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": value["name"], "type": value["type"], "person": [str(one) for one in _flat(value)]}


_INSIDE: Mapping[str, Callable[[Any], list[Any]]] = {
    "title": lambda parts: [_plain(parts)],
    "rich_text": lambda parts: [_plain(parts)],
    "select": lambda option: [option["name"]],
    "status": lambda option: [option["name"]],
    "multi_select": lambda options: [option["name"] for option in options],
    "date": lambda date: [date["start"]],
    "checkbox": lambda ticked: ["yes" if ticked else "no"],
    "boolean": lambda true: ["yes" if true else "no"],
    "unique_id": lambda number: ["-".join(str(p) for p in (number.get("prefix"), number["number"]) if p is not None)],
    "relation": lambda pages: [page["id"] for page in pages],
    "verification": lambda about: [about["state"]],
    "formula": lambda result: _flat(result),
    "rollup": lambda result: _flat(result),
    "array": lambda values: [one for value in values for one in _flat(value)],
}


def _flat(value: Mapping[str, Any]) -> list[Any]:
    """The texts and numbers in a property of any type, in a formula's result and in a rollup."""
    if "person" in value:
        return list(value["person"])
    inside = value.get(value["type"])
    if inside is None:
        return []
    found = _INSIDE.get(value["type"], lambda plain: [plain])(inside)
    return [one for one in found if isinstance(one, str | int | float) and one != ""]


def _found(kept: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    by_name = {value["name"]: value for value in kept["properties"] if value["name"] in names}
    return [one for name in names if name in by_name for one in _flat(by_name[name])]


def _number(field: str, values: Sequence[Any]) -> Any:
    if not values:
        return None
    try:
        return _NUMBERS[field](float(values[0]))
    except (ValueError, OverflowError):
        raise ValueError(f"{field} is no number") from None


def _comment(comment: Mapping[str, Any], page: str) -> dict[str, Any]:
    kept = picked(comment, ("object", "id", "created_time", "last_edited_time", "parent"))
    text = [{"plain_text": _plain(comment["rich_text"])}]
    return {**kept, "page": page, "rich_text": text, "created_by": {"id": inside(comment, "created_by", "id")}}


def _address(url: str | None) -> str | None:
    """Without the words of the title, which Notion does not need to find the page."""
    return redact_address(re.sub(r"(://[^/?#]+/)[^?#]*?([0-9a-f]{32})(?=$|[?#])", r"\1\2", url)) if url else None
