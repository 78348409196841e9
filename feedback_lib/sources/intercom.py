"""Intercom: conversations with what is said in them, and tickets of customers."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.markup import html_text
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import Found, Page, Row, Service, Walk, inside, instant, names, picked

_REGIONS = {"us": "", "eu": ".eu", "au": ".au"}
_SIZE = 150  # the most a search gives
_DAY = dt.timedelta(days=1)
_TEAM = {"admin": True, "team": True, "user": False, "lead": False, "contact": False}  # all others are bots
_SAID = ("comment", "quick_reply")  # all other parts are notes to colleagues, or tell what happened
_INTERNAL = ("Back-office", "Tracker")  # tickets that colleagues write to each other
_KEPT = (  # the rest repeats names and addresses of people
    "id", "created_at", "updated_at", "open", "state", "priority", "ticket_id", "category", "is_shared",
    "waiting_since", "ai_agent_participated",
)  # fmt: skip
_TIMES = ("first_contact_reply_at", "first_admin_reply_at", "last_close_at", "count_reopens")
_PRIORITY = {"priority": "high", "not_priority": None, "none": None}  # older versions know only two


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
    hints: ClassVar[Mapping[Any, str]] = {
        401: "it needs the access token of an app of this workspace; is region right?",
        403: "the app needs the permission to read conversations, and the one to read tickets",
    }

    def __post_init__(self) -> None:
        self.one_of("region", _REGIONS)
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
        return {**self.authorization(), "Intercom-Version": "2.16"}

    def streams(self, walk: Walk) -> Iterator[Found]:
        """Conversations, then tickets. A cursor holds the last row's time and id, so nothing moves under it."""
        for what, read in (("conversations", self._conversation), ("tickets", self._ticket)):
            ask = functools.partial(self._search, what, walk.begin(what))
            yield from walk.pages(what, ask, read, at=itemgetter("updated_at"), anchored=False)

    def _search(self, what: str, lower: dt.datetime | None, since: dt.datetime | None, following: str | None) -> Page:
        # searches of Intercom have compared whole days; with a day less, those of the first day are in the answer
        least = int((since - _DAY).timestamp()) if since else 0
        body = {
            "query": {"operator": "AND", "value": [{"field": "updated_at", "operator": ">", "value": least}]},
            "sort": {"field": "updated_at", "order": "ascending"},
            "pagination": {"per_page": _SIZE, **({"starting_after": following} if following else {})},
        }
        found = self.client.ask(f"/{what}/search", body=body).json()
        parts = f"{what[:-1]}_parts"

        def lacks(row: Row) -> bool:
            """A search leaves parts out of conversations, and some out of long tickets."""
            known = row.get(parts) or {"total_count": inside(row, "statistics", "count_conversation_parts")}
            new = lower is None or instant(row["updated_at"]) >= lower
            return new and str(row["id"]).isdecimal() and known.get("total_count") != len(known.get(parts) or ())

        def add(row: Row) -> Row:
            return {**row, parts: self.client.ask(f"/{what}/{row['id']}").json()[parts]}

        rows = self.detailed(found[what], lacks, add)
        return Page(rows, inside(found, "pages", "next", "starting_after"))

    def _conversation(self, row: Row) -> Iterator[Item | Rejected]:
        source, said = row.get("source") or {}, _said(row, "conversation_parts")
        opening, title = source, row.get("title") or html_text(source.get("subject") or "")
        if not _is_customer(opening):
            nth = next((n for n, part in enumerate(said) if _is_customer(part)), None)
            if nth is None:
                return  # nobody has answered what the team or a bot wrote
            opening, said = said[nth], said[nth + 1 :]
        rating = row.get("conversation_rating") or {}
        more = {
            "type": "conversation",
            "title": title,
            "body": opening.get("body"),
            "author": _person(opening.get("author")),
            "source": picked(source, ("type", "delivered_as")),
            "statistics": picked(row.get("statistics") or {}, _TIMES),
            "rating": rating.get("rating"),
            "monthly_spend": inside(row, "company", "monthly_spend"),
        }
        if rating.get("remark"):
            asked = rating.get("created_at") or row["updated_at"]
            times = {"created_at": asked, "updated_at": rating.get("updated_at") or asked}
            said = [*said, {"id": "rating", "body": rating["remark"], "author": opening.get("author"), **times}]
        yield from self._thread(row, str(row["id"]), more, said)
        yield from self._cut(row, "conversation_parts")

    def _ticket(self, row: Row) -> Iterator[Item | Rejected]:
        if row.get("category") in _INTERNAL:
            return
        contact = next(iter(inside(row, "contacts", "contacts") or ()), None)
        state = row.get("ticket_state")
        more = {
            "type": "ticket",
            "title": inside(row, "ticket_attributes", "_default_title_"),
            "body": inside(row, "ticket_attributes", "_default_description_"),
            "author": _person({**contact, "type": "contact"} if contact else None),
            "state": state.get("category") if isinstance(state, Mapping) else state,
            "ticket_type": inside(row, "ticket_type", "name"),
        }
        yield from self._thread(row, f"ticket-{row['id']}", more, _said(row, "ticket_parts"))
        yield from self._cut(row, "ticket_parts")

    def _thread(self, row: Row, key: str, more: Row, said: list[Any]) -> Iterator[Item | Rejected]:
        where = f"{self.address}/{key}"
        ours = {**picked(row, _KEPT), **more, "app": self._app, "replies": len(said)}
        ours["tags"] = list(names(inside(row, "tags", "tags")))
        yield self.item(ours, where, key, row["created_at"], row["updated_at"])
        yield from self.each_alone(functools.partial(self._part, key, where), said, where)

    def _cut(self, row: Row, parts: str) -> Iterator[Rejected]:
        missing = (inside(row, parts, "total_count") or 0) - len(inside(row, parts, parts) or ())
        if missing > 0:
            where = f"{self.origin} {parts} of {row['id']}"
            yield Rejected(where, f"has {missing:,} earlier parts that Intercom does not give; it gives the last 500")

    def _part(self, key: str, where: str, part: Row) -> Iterator[Item]:
        updated = part.get("updated_at") or part["created_at"]
        ours = picked(part, ("id", "part_type", "body", "created_at"))
        ours |= {"parent": key, "updated_at": updated, "author": _person(part.get("author"))}
        yield self.item(ours, where, part["id"], part["created_at"], updated, parent=key)

    @functools.cached_property
    def _app(self) -> str | None:
        """The workspace's id, which is part of every address."""
        return inside(self.client.ask("/me").json(), "app", "id_code")  # type: ignore[no-any-return]

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a conversation or a ticket into a signal; ratings are 1 to 5, what is written to one is a reply."""
        if "author" not in payload or "replies" not in payload:
            raise ValueError("is neither a conversation with a customer nor a ticket")
        number, app, kind = payload["id"], payload.get("app"), payload.get("ticket_type")
        web = f"https://app{_REGIONS[self.region]}.intercom.com/a/inbox/{app}/inbox/conversation/{number}"
        priority, rating, state = payload.get("priority"), payload.get("rating"), payload.get("state")
        return self.signal(
            f"ticket-{number}" if payload.get("type") == "ticket" else number,
            "ticket",
            title=payload.get("title"),
            body=html_text(payload.get("body") or ""),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            first_response_at=inside(payload, "statistics", "first_admin_reply_at"),
            closed_at=inside(payload, "statistics", "last_close_at") if state == "closed" else None,
            url=web if app else None,
            author=inside(payload, "author", "id"),
            state=state,
            labels=(*payload.get("tags", ()), *([kind] if kind else ())),
            severity=_PRIORITY.get(str(priority), priority),
            rating=None if rating is None else float(rating),
            customer_value=payload.get("monthly_spend") or None,
            thread_count=payload["replies"],
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a part into a reply; admins are the team, the customer who goes on writing is not."""
        return self.reply_to(
            payload["parent"],
            payload["id"],
            body=html_text(payload.get("body") or ""),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            author=inside(payload, "author", "id"),
            team=_TEAM.get(inside(payload, "author", "type")),
        )

    def look(self) -> str:
        """The workspace the token opens."""
        app = self.client.ask("/me").json()["app"]
        return f"{app['name']}: workspace {app['id_code']}, in region {app.get('region') or self.region}"


def _said(row: Row, parts: str) -> list[Any]:
    """What people wrote to each other; a part whose text was taken back stays, to take it back here too."""
    said = [one for one in inside(row, parts, parts) or () if one.get("part_type") in _SAID and not _is_bot(one)]
    return [one for one in said if one.get("body") or one.get("redacted")]


def _is_bot(part: Row) -> bool:
    return inside(part, "author", "type") == "bot" or bool(inside(part, "author", "from_ai_agent"))


def _is_customer(part: Row) -> bool:
    return _TEAM.get(inside(part, "author", "type")) is False


def _person(author: Any) -> dict[str, Any] | None:
    known = isinstance(author, Mapping) and author.get("id")
    return {"type": author.get("type"), "id": str(author["id"])} if known else None
