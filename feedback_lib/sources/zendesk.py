"""Zendesk Support: the tickets of an account and what is said on them in public.

Both come from incremental exports, 10 requests a minute. For 10,000 tickets with 10 changes each those are 10 requests
for the tickets and 100 for the events that hold their comments; asking each ticket for its comments would be 10,000,
50 minutes on a plan of 200 requests a minute. Only a ticket whose comments were redacted or made private is asked.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Collection, Iterator, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, inside, instant, picked

_SCOPES = ("agent", "ai_agent", "all")
_KEPT = (  # of a ticket; the rest repeats names and addresses of people
    "id", "subject", "description", "type", "priority", "status", "tags", "created_at", "updated_at",
    "generated_timestamp", "requester_id", "submitter_id", "assignee_id", "organization_id", "group_id", "brand_id",
    "ticket_form_id", "custom_status_id", "problem_id", "has_incidents", "is_public", "satisfaction_rating",
    "comment_count", "due_at",
)  # fmt: skip
_AGAIN = frozenset(("CommentRedactionEvent", "CommentPrivacyChange"))  # they name an earlier comment
_MACHINES = frozenset(("rule", "system"))
_EDITABLE = dt.timedelta(days=29)  # an answer to a survey may be changed for 28 days
_RATINGS = {"good": 5.0, "bad": 1.0}  # the ends of the scale of 1 to 5 that other services have


@register("sources", "zendesk")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Zendesk(Service):
    """Tickets of one account, their public comments and ratings.

    Options:
        subdomain: ``acme`` of ``acme.zendesk.com``; this or ``url``.
        url: the account's address, such as ``https://acme.zendesk.com``.
        email: of the administrator whose API token it is; without, the token is one of OAuth.
        surveys: read the answers to satisfaction surveys; False where the plan has none.
        scope: tickets for people (``agent``), for AI agents (``ai_agent``), or ``all``.
    """

    subdomain: str = ""
    url: str = ""
    email: str = ""
    scope: str = "agent"
    surveys: bool = True
    token_env: str = "ZENDESK_TOKEN"

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=2)  # the exports withhold the last minute
    per_minute: ClassVar[float | None] = 10
    personal_fields: ClassVar[tuple[str, ...]] = (
        "requester_id", "submitter_id", "assignee_id", "author_id", "responder_id",
    )  # fmt: skip
    plain_fields: ClassVar[tuple[str, ...]] = (
        "created_at", "updated_at", "due_at", "status", "priority", "type", "locale", "via.channel",
        "satisfaction_rating.score", "metric_set.solved_at", "answers.type", "answers.rating_category",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {
        401: "write in email whose API token it is; leave it out for an OAuth token",
        403: "the exports need an administrator's token; one of OAuth, the scope read",
    }

    def __post_init__(self) -> None:
        if bool(self.url) == bool(re.fullmatch(r"[\w-]+", self.subdomain)):
            raise ConfigError("sources zendesk: write subdomain, the acme of acme.zendesk.com, or url, the address")
        self.one_of("scope", _SCOPES)
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the subdomain or host."""
        return self.name or self.subdomain or self.client.host

    @property
    def address(self) -> str:
        """The account's address."""
        return self.url.rstrip("/") or f"https://{self.subdomain}.zendesk.com"

    def headers(self) -> Mapping[str, str]:
        """The e-mail address and API token, or the OAuth token."""
        return self.authorization(user=f"{self.email}/token" if self.email else "")

    def streams(self, walk: Walk) -> Iterator[Found]:
        """Tickets by the export's cursor, which is valid for ever; comments out of their events; surveys."""
        self.__dict__.pop("_team", None)
        yield from walk.pages(
            "tickets", self._tickets, self._ticket, at=itemgetter("generated_timestamp"), anchored=False
        )
        yield from walk.pages("comments", self._events, self._comments, at=itemgetter("timestamp"))
        if self.surveys:
            yield from self._surveys(walk)

    def _tickets(self, since: dt.datetime | None, cursor: str | None) -> Page:
        asked = {"cursor": cursor} if cursor else {"start_time": str(_epoch(since))}
        asked |= {"per_page": "1000", "include": "users,metric_sets,comment_count", "support_type_scope": self.scope}
        found = self.client.ask("/api/v2/incremental/tickets/cursor", asked).json()
        locales = {one["id"]: one.get("locale") for one in found.get("users") or ()}
        metrics = {one["ticket_id"]: one for one in found.get("metric_sets") or ()}
        rows = [_with(row, locales, metrics) for row in found["tickets"]]
        after = found.get("after_cursor")
        return Page(rows, None if found["end_of_stream"] else after, after)

    def _ticket(self, row: Row) -> Iterator[Item]:
        if row.get("is_public") is False:
            return  # only colleagues ever wrote on it
        ours = picked(row, (*_KEPT, "locale", "metric_set"))
        if row.get("submitter_id") not in (None, row.get("requester_id")):
            ours["description"] = ""  # an agent's words, perhaps to colleagues alone: the export does not say
        ours["via"] = {"channel": inside(row, "via", "channel")}
        if rated := ours.get("satisfaction_rating"):
            ours["satisfaction_rating"] = picked(rated, ("score", "comment", "reason"))
        yield self.item(ours, self._page(row["id"]), row["id"], row["created_at"], row["updated_at"])

    def _events(self, since: dt.datetime | None, following: int | None) -> Page:
        start = following or _epoch(since)
        asked = {"start_time": str(start), "include": "comment_events"}
        found = self.client.ask("/api/v2/incremental/ticket_events", asked).json()
        rows = [row if isinstance(row, dict) else {} for row in found["ticket_events"]]
        changing = [row for row in rows if _changed(row)]
        again = {id(row): said for row, said in zip(changing, self.each(self._again, changing), strict=True)}
        gone = {(str(row.get("ticket_id")), one) for row in changing for one in _changed(row)}
        rows = [{**row, "child_events": _left(row, gone), "comments": again.get(id(row), ())} for row in rows]
        # more events of one second than fit into an answer: the export would give them again and again
        return Page(rows, None if found["end_of_stream"] else max(found["end_time"], start + 1))

    def _again(self, row: Row) -> list[Row]:
        """The comments that an event took back or changed, as they are now; not the first, the ticket's description."""
        comments: list[Any] = []
        asked: dict[str, str] | None = {"page[size]": "100"}
        while asked:
            try:
                found = self.client.ask(f"/api/v2/tickets/{int(row['ticket_id'])}/comments", asked).json()
            except TransportError as problem:
                if problem.status != 404:
                    raise
                break  # the ticket was deleted
            comments += found["comments"]
            meta = found.get("meta") or {}
            asked = {"page[size]": "100", "page[after]": meta["after_cursor"]} if meta.get("has_more") else None
        return [one for one in comments[1:] if str(one.get("id")) in _changed(row)]

    def _comments(self, row: Row) -> Iterator[Item]:
        at, children = instant(row["timestamp"]), row["child_events"]
        begins = any(_kind(child) == "Create" for child in children)  # with what is the ticket's description
        for said in () if begins else children:
            if _kind(said) == "Comment" and said.get("public"):
                yield from self._comment(row, said, at)
        for said in row["comments"]:
            yield from self._comment(row, said if said.get("public") else {**said, "body": ""}, at)

    def _comment(self, row: Row, said: Row, at: dt.datetime) -> Iterator[Item]:
        via, author = said.get("via"), said.get("author_id")
        channel = via.get("channel") if isinstance(via, Mapping) else via
        if str(channel or "").lower() in _MACHINES or (author or 0) < 0:
            return
        created = instant(said.get("created_at") or row.get("created_at") or at)
        ours = picked(said, ("id", "author_id", "body", "public"))
        ours |= {"ticket_id": row["ticket_id"], "created_at": created.isoformat(), "updated_at": at.isoformat()}
        ours["agent"] = author in self._team
        yield self.item(ours, self._page(row["ticket_id"]), said["id"], created, at, parent=row["ticket_id"])

    def _surveys(self, walk: Walk) -> Iterator[Found]:
        """Answers to surveys, all at once: they are listed by the time a survey was sent, not by that of its answer."""
        since, newest = walk.begin("surveys"), None
        sent = {"filter[created_at_start]": str(max(0, _epoch(since - _EDITABLE)) * 1000)} if since else {}
        asked: dict[str, str] | None = {"page[size]": "50", "sort": "id", **sent}
        while asked:
            rows, asked = self._answers(asked)
            for found in self.each_alone(self._survey, rows, f"{self.origin} surveys"):
                if isinstance(found, Item):
                    if (since and found.updated_at < since) or found.updated_at >= walk.until:
                        continue
                    newest = max(newest or found.updated_at, found.updated_at)
                yield found
        yield walk.checkpoint("surveys", newest)

    def _answers(self, asked: dict[str, str]) -> tuple[list[Any], dict[str, str] | None]:
        """A page of surveys, and what asks for the next one."""
        try:
            found = self.client.ask("/api/v2/guide/survey_responses", asked).json()
            meta = found.get("meta") or {}
            following = {**asked, "page[after]": meta["after_cursor"]} if meta.get("has_more") else None
            return list(found["survey_responses"]), following
        except MALFORMED as problem:
            words = f"{self.address} gave surveys of another shape ({type(problem).__name__})"
            raise TransportError(self.kind, words) from None
        except TransportError as problem:
            if problem.status not in (403, 404):
                raise
            words = f"{super()._words(problem)}. Write surveys: false for an account without surveys"
            raise TransportError(self.kind, words) from None

    def _survey(self, row: Row) -> Iterator[Item]:
        """What somebody answered; nothing when nobody did."""
        answers = [one for one in row.get("answers") or () if one.get("type") in ("rating_scale", "open_ended")]
        if not answers:
            return
        about = [str(one["id"]) for one in row.get("subjects") or () if str(one.get("type")).endswith("ticket")]
        created = min(instant(one["created_at"]) for one in answers)
        at = max(instant(one.get("updated_at") or one["created_at"]) for one in answers)
        ours = {
            "survey_response": row["id"],
            "responder_id": row.get("responder_id"),
            "answers": [picked(one, ("type", "rating", "rating_category", "value")) for one in answers],
            "ticket_id": about[0] if about else None,
            "created_at": created.isoformat(),
            "updated_at": at.isoformat(),
        }
        yield self.item(ours, self._page(ours["ticket_id"]), f"survey-{row['id']}", created, at)

    @functools.cached_property
    def _team(self) -> frozenset[Any]:
        """Who answers: agents and administrators. An event does not say which of both its writer is."""
        found: set[Any] = set()
        asked: dict[str, Any] = {"role[]": ["agent", "admin"], "page[size]": "100"}
        while True:
            page = self.client.ask("/api/v2/users", asked).json()
            found.update(user["id"] for user in page["users"])
            if not page["meta"]["has_more"]:
                return frozenset(found)
            asked["page[after]"] = page["meta"]["after_cursor"]

    def _page(self, ticket: Any) -> str:
        return f"{self.address}/agent/tickets/{ticket}"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a ticket into a signal.

        A good rating is 5 and a bad one 1, with the word as a label ``csat:good``; what was written to it follows the
        description. An answer to a survey is a signal of its own. The first response is told in minutes after the
        ticket began.
        """
        if "survey_response" in payload:
            return self._rated(payload)
        if "subject" not in payload or "id" not in payload:
            raise ValueError("is no ticket")
        created, status = instant(payload["created_at"]), payload.get("status")
        score, remark = (inside(payload, "satisfaction_rating", name) for name in ("score", "comment"))
        waited = inside(payload, "metric_set", "reply_time_in_minutes", "calendar")
        count = payload.get("comment_count")
        return self.signal(
            payload["id"],
            "ticket",
            title=payload.get("subject"),
            body="\n\n".join(filter(None, (payload.get("description"), remark))),
            created_at=created,
            updated_at=payload["updated_at"],
            first_response_at=None if waited is None else created + dt.timedelta(minutes=waited),
            closed_at=inside(payload, "metric_set", "solved_at") if status in ("solved", "closed") else None,
            url=self._page(payload["id"]),
            author=_who(payload.get("requester_id")),
            state=status,
            labels=(*(payload.get("tags") or ()), *([f"csat:{score}"] if score in _RATINGS else ())),
            severity=payload.get("priority"),
            rating=_RATINGS.get(str(score)),
            locale=payload.get("locale"),
            thread_count=None if count is None else max(0, count - 1),
        )

    def _rated(self, payload: Mapping[str, Any]) -> Signal:
        answers, ticket = payload["answers"], payload.get("ticket_id")
        scale: Mapping[str, Any] = next((one for one in answers if one.get("type") == "rating_scale"), {})
        rating, word = scale.get("rating"), scale.get("rating_category")
        return self.signal(
            f"survey-{payload['survey_response']}",
            "review",
            title="Satisfaction survey" if rating is None else f"Satisfaction survey: {rating}",
            body="\n\n".join(one["value"] for one in answers if one.get("value")),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            url=self._page(ticket) if ticket else None,
            author=_who(payload.get("responder_id")),
            labels=(f"csat:{word}",) if word else (),
            rating=None if rating is None else float(rating),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a public comment into a reply; agents and administrators are the team."""
        return self.reply_to(
            payload["ticket_id"],
            payload["id"],
            body=payload.get("body"),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            author=_who(payload.get("author_id")),
            team=payload["agent"],
        )

    def look(self) -> str:
        """How many tickets there are, and whether the token may export them."""
        role = self.client.ask("/api/v2/users/me").json()["user"].get("role")
        if role != "admin":  # also what Zendesk answers to nobody at all
            raise ConfigError(f"zendesk: the token is one of role {role}; the exports need an administrator's")
        count = self.client.ask("/api/v2/tickets/count").json()["count"]["value"]
        return f"{self.origin}: {count:,} tickets"


def _with(row: Any, locales: Mapping[Any, Any], metrics: Mapping[Any, Any]) -> Any:
    """A ticket with what stands beside it in the answer: its times, and the language of who asks."""
    try:
        times = row.get("metric_set") or metrics.get(row["id"]) or {}
        kept = picked(times, ("reply_time_in_minutes", "solved_at"))
        return {**row, "metric_set": kept, "locale": locales.get(row.get("requester_id"))}
    except MALFORMED:
        return row  # told of where it is read


def _children(row: Row) -> list[Row]:
    children = row.get("child_events")
    return [one for one in children if isinstance(one, Mapping)] if isinstance(children, list) else []


def _left(row: Row, gone: Collection[tuple[str, str]]) -> list[Row]:
    """What an event holds, without comments that a later event took back or changed."""
    ticket = str(row.get("ticket_id"))
    return [one for one in _children(row) if _kind(one) != "Comment" or (ticket, str(one.get("id"))) not in gone]


def _kind(child: Row) -> Any:
    return child.get("event_type")


def _changed(row: Row) -> set[str]:
    """The comments that an event took back or made private."""
    return {str(child.get("comment_id")) for child in _children(row) if _kind(child) in _AGAIN}


def _who(number: Any) -> str | None:
    return str(number) if number else None


def _epoch(at: dt.datetime | None) -> int:
    return int(at.timestamp()) if at else 0
