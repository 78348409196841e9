"""Intercom: conversations with what is said in them, and tickets of customers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.markup import html_text
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, instant

_REGIONS = {"us": "", "eu": ".eu", "au": ".au"}
_SIZE = 150  # the most a search gives
_DAY = dt.timedelta(days=1)
_CUSTOMERS = ("user", "lead", "contact")
_TEAM = ("admin", "team")
_SAID = ("comment", "quick_reply")  # all other parts are notes to colleagues, or tell what happened
_INTERNAL = ("Back-office", "Tracker")  # tickets that colleagues write to each other
_KEPT = (  # the rest repeats names and addresses of people
    "id", "created_at", "updated_at", "open", "state", "priority", "ticket_id", "category", "is_shared",
    "waiting_since", "ai_agent_participated",
)  # fmt: skip
_TIMES = ("first_contact_reply_at", "first_admin_reply_at", "last_close_at", "count_reopens")
_PRIORITY = {"priority": "high", "not_priority": None, "none": None}  # older versions know only two
_HINTS = {
    401: " It needs the access token of an app of this workspace; is region right?",
    403: " The app needs the permission to read conversations, and the one to read tickets.",
}


@register("sources", "intercom")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Intercom(Service):
    """Conversations that a customer took part in, tickets of customers, and the replies to both.

    What the team writes first is no feedback: there the customer's first answer is the signal. Answers of bots, Fin's
    too, are left out, so that no question counts as answered because a machine answered it.

    Options:
        region: where the workspace is: ``us``, ``eu`` or ``au``.
        url: the API, where it has another address.
    """

    region: str = "us"
    url: str = ""
    token_env: str = "INTERCOM_TOKEN"

    searches: ClassVar[tuple[str, ...]] = ("/conversations/search", "/tickets/search")
    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=5)
    personal_fields: ClassVar[tuple[str, ...]] = ("author.id",)
    plain_fields: ClassVar[tuple[str, ...]] = (
        "id", "parent", "app", "type", "part_type", "state", "priority", "category", "ticket_id", "author.type",
        "source.type", "source.delivered_as",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.region not in _REGIONS:
            raise ConfigError(f"sources intercom: region = {self.region!r}; write one of {', '.join(_REGIONS)}")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the region. Two workspaces of one region need a name each."""
        return self.name or self.region

    @property
    def address(self) -> str:
        """The option ``url``, else the region's API."""
        return self.url or f"https://api{_REGIONS[self.region]}.intercom.io"

    def headers(self) -> Mapping[str, str]:
        """The token and the version of the API whose shapes are read here."""
        return {"Authorization": f"Bearer {self.token()}", "Intercom-Version": "2.16"}

    def _words(self, problem: Exception) -> str:
        return super()._words(problem) + _HINTS.get(getattr(problem, "status", None) or 0, "")

    def streams(self, walk: Walk) -> Iterator[Found]:
        """Conversations, then tickets. A cursor holds the last row's time and id, so nothing moves under it."""
        for what, read in (("conversations", self._conversation), ("tickets", self._ticket)):
            ask = functools.partial(self._search, what, walk.begin(what))
            yield from walk.pages(what, ask, read, at=_updated, anchored=False)

    def _search(self, what: str, lower: dt.datetime | None, since: dt.datetime | None, following: str | None) -> Page:
        # searches of Intercom have compared whole days; with a day less, those of the first day are in the answer
        least = int((since - _DAY).timestamp()) if since else 0
        body = {
            "query": {"operator": "AND", "value": [{"field": "updated_at", "operator": ">", "value": least}]},
            "sort": {"field": "updated_at", "order": "ascending"},
            "pagination": {"per_page": _SIZE, **({"starting_after": following} if following else {})},
        }
        found = self.client.ask(f"/{what}/search", body=body).json()
        rows = self.each(functools.partial(self._with_parts, what, lower), found[what])
        return Page(rows, ((found.get("pages") or {}).get("next") or {}).get("starting_after"))

    def _with_parts(self, what: str, lower: dt.datetime | None, row: Any) -> Any:
        """A row with its ``parts``; a search leaves them out of conversations, and some out of long tickets."""
        name = f"{what[:-1]}_parts"
        try:
            parts = row.get(name) or {"total_count": (row.get("statistics") or {}).get("count_conversation_parts")}
            whole = parts.get("total_count") == len(parts.get(name) or ()) or (lower and _updated(row) < lower)
            path = f"/{what}/{int(row['id'])}"
        except MALFORMED:
            return row  # told of where it is read
        try:
            parts = parts if whole else self.client.ask(path).json()[name]
        except TransportError as problem:
            if problem.status != 404:
                raise
            return row  # it has just been deleted
        return {**row, "parts": parts.get(name) or [], "total": parts.get("total_count") or 0}

    def _conversation(self, row: Row) -> Iterator[Item | Rejected]:
        source, said = row.get("source") or {}, _said(row)
        opening, title = source, row.get("title") or html_text(source.get("subject") or "")
        if not _is_customer(opening):
            nth = next((n for n, part in enumerate(said) if _is_customer(part)), None)
            if nth is None:
                return  # nobody has answered what the team or a bot wrote
            opening, said = said[nth], said[nth + 1 :]
        statistics, rating = row.get("statistics") or {}, row.get("conversation_rating") or {}
        more = {
            "type": "conversation",
            "title": title,
            "body": opening.get("body"),
            "author": _person(opening.get("author")),
            "source": {k: source.get(k) for k in ("type", "delivered_as")},
            "statistics": {k: statistics.get(k) for k in _TIMES},
            "rating": rating.get("rating"),
            "monthly_spend": (row.get("company") or {}).get("monthly_spend"),
        }
        if rating.get("remark"):
            asked = rating.get("created_at") or row["updated_at"]
            times = {"created_at": asked, "updated_at": rating.get("updated_at") or asked}
            said = [*said, {"id": "rating", "body": rating["remark"], "author": opening.get("author"), **times}]
        yield from self._thread(row, str(row["id"]), more, said)

    def _ticket(self, row: Row) -> Iterator[Item | Rejected]:
        if row.get("category") in _INTERNAL:
            return
        attributes, kind = row.get("ticket_attributes") or {}, row.get("ticket_type") or {}
        contact = next(iter((row.get("contacts") or {}).get("contacts") or ()), None)
        state = row.get("ticket_state")
        more = {
            "type": "ticket",
            "title": attributes.get("_default_title_"),
            "body": attributes.get("_default_description_"),
            "author": _person({**contact, "type": "contact"} if contact else None),
            "state": state.get("category") if isinstance(state, Mapping) else state,
            "ticket_type": kind.get("name"),
        }
        yield from self._thread(row, f"ticket-{row['id']}", more, _said(row))

    def _thread(self, row: Row, key: str, more: Row, said: list[Any]) -> Iterator[Item | Rejected]:
        where = f"{self.address}/{key}"
        ours = {k: row[k] for k in _KEPT if k in row} | {**more, "app": self._app, "replies": len(said)}
        ours["tags"] = [tag["name"] for tag in (row.get("tags") or {}).get("tags") or ()]
        yield Item(ours, where, key, instant(row["created_at"]), _updated(row))
        for part in said:
            one = {k: part.get(k) for k in ("id", "part_type", "body", "created_at")} | {"parent": key}
            one |= {"updated_at": part.get("updated_at") or part["created_at"], "author": _person(part.get("author"))}
            yield Item(one, where, f"{key}#{part['id']}", instant(one["created_at"]), _updated(one), parent=key)
        if (missing := row.get("total", 0) - len(row.get("parts") or ())) > 0:
            yield Rejected(where, f"has {missing:,} earlier parts that Intercom does not give; it gives the last 500")

    @functools.cached_property
    def _app(self) -> str | None:
        """The workspace's id, which is part of every address."""
        return (self.client.ask("/me").json().get("app") or {}).get("id_code")

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a conversation or a ticket into a signal; ratings are 1 to 5, what is written to one is a reply."""
        if "author" not in payload or "replies" not in payload:
            raise ValueError("is neither a conversation with a customer nor a ticket")
        ticket = payload.get("type") == "ticket"
        number, app, times = payload["id"], payload.get("app"), payload.get("statistics") or {}
        web = f"https://app{_REGIONS[self.region]}.intercom.com/a/inbox/{app}/inbox/conversation/{number}"
        priority, rating, kind = payload.get("priority"), payload.get("rating"), payload.get("ticket_type")
        answered, closed = times.get("first_admin_reply_at"), times.get("last_close_at")
        state = payload.get("state")
        return Signal(
            kind="intercom",
            origin=self.origin,
            native_id=f"ticket-{number}" if ticket else str(number),
            type="ticket",
            title=payload.get("title") or "",
            body=html_text(payload.get("body") or ""),
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
            url=web if app else None,
            author=(payload["author"] or {}).get("id"),
            state=state,
            labels=(*payload.get("tags", ()), *([kind] if kind else ())),
            severity=_PRIORITY.get(str(priority), priority),
            rating=None if rating is None else float(rating),
            customer_value=payload.get("monthly_spend") or None,
            thread_count=payload["replies"],
            first_response_at=instant(answered) if answered else None,
            closed_at=instant(closed) if closed and state == "closed" else None,
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a part into a reply; admins are the team, the customer who goes on writing is not."""
        author = payload.get("author") or {}
        return Reply(
            kind="intercom",
            origin=self.origin,
            native_id=f"{payload['parent']}#{payload['id']}",
            parent=payload["parent"],
            body=html_text(payload.get("body") or ""),
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
            author=author.get("id"),
            team=author.get("type") in _TEAM if author.get("type") in _TEAM + _CUSTOMERS else None,
        )

    def look(self) -> str:
        """The workspace the token opens."""
        app = self.client.ask("/me").json()["app"]
        return f"{app['name']}: workspace {app['id_code']}, in region {app.get('region') or self.region}"


def _said(row: Row) -> list[Any]:
    """What people wrote to each other; a part whose text was taken back stays, to take it back here too."""
    parts = row.get("parts") or ()
    said = [one for one in parts if one.get("part_type") in _SAID and not _is_bot(one)]
    return [one for one in said if one.get("body") or one.get("redacted")]


def _is_bot(part: Row) -> bool:
    author = part.get("author") or {}
    return author.get("type") == "bot" or bool(author.get("from_ai_agent"))


def _is_customer(part: Row) -> bool:
    return (part.get("author") or {}).get("type") in _CUSTOMERS


def _person(author: Any) -> dict[str, Any] | None:
    known = isinstance(author, Mapping) and author.get("id")
    return {"type": author.get("type"), "id": str(author["id"])} if known else None


def _updated(row: Mapping[str, Any]) -> dt.datetime:
    return instant(row["updated_at"])
