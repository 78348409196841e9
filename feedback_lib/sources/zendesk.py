"""Zendesk Support: the tickets of an account and what is said on them in public.

Both come from incremental exports, 10 requests a minute. For 10,000 tickets with 10 changes each those are 10 requests
for the tickets and 100 for the events that hold their comments; asking each ticket for its comments would be 10,000,
50 minutes on a plan of 200 requests a minute. Only a ticket whose comments were redacted or made private is asked.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, instant

_SCOPES = ("agent", "ai_agent", "all")
_KEPT = (  # of a ticket; the rest repeats names and addresses of people
    "id", "subject", "description", "type", "priority", "status", "tags", "created_at", "updated_at",
    "generated_timestamp", "requester_id", "submitter_id", "assignee_id", "organization_id", "group_id", "brand_id",
    "ticket_form_id", "custom_status_id", "problem_id", "has_incidents", "is_public", "satisfaction_rating",
    "comment_count", "due_at",
)  # fmt: skip
_SAID = ("id", "author_id", "body", "public")  # of a comment
_AGAIN = frozenset(("CommentRedactionEvent", "CommentPrivacyChange"))  # they name an earlier comment
_MACHINES = frozenset(("rule", "system"))
_EDITABLE = dt.timedelta(days=29)  # an answer to a survey may be changed for 28 days
_RATINGS = {"good": 5.0, "bad": 1.0}  # the ends of the scale of 1 to 5 that other services have
_HINTS = {
    401: " Write in email whose API token it is; leave it out for an OAuth token.",
    403: " The exports need an administrator's token; one of OAuth, the scope read.",
}


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

    def __post_init__(self) -> None:
        if bool(self.url) == bool(re.fullmatch(r"[\w-]+", self.subdomain)):
            raise ConfigError("sources zendesk: write subdomain, the acme of acme.zendesk.com, or url, the address")
        if self.scope not in _SCOPES:
            raise ConfigError(f"sources zendesk: scope = {self.scope!r}; write one of {', '.join(_SCOPES)}")
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
        if not self.email:
            return {"Authorization": f"Bearer {self.token()}"}
        pair = f"{self.email}/token:{self.token()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def _words(self, problem: Exception) -> str:
        return super()._words(problem) + _HINTS.get(getattr(problem, "status", None) or 0, "")

    def streams(self, walk: Walk) -> Iterator[Found]:
        """Tickets by the export's cursor, which is valid for ever; comments out of their events; surveys."""
        self.__dict__.pop("_team", None)
        yield from walk.pages("tickets", self._tickets, self._ticket, at=_generated, anchored=False)
        yield from walk.pages("comments", self._events, self._comments, at=_happened)
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
        ours = {k: row[k] for k in (*_KEPT, "locale", "metric_set") if k in row}
        ours["via"] = {"channel": (row.get("via") or {}).get("channel")}
        if rated := ours.get("satisfaction_rating"):
            ours["satisfaction_rating"] = {k: rated[k] for k in ("score", "comment", "reason") if k in rated}
        yield Item(ours, self._page(row["id"]), str(row["id"]), instant(row["created_at"]), _updated(row))

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
        at, children = _happened(row), row["child_events"]
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
        begun = said.get("created_at") or row.get("created_at")
        created = instant(begun) if begun else at
        ours = {k: said[k] for k in _SAID if k in said}
        ours |= {"ticket_id": row["ticket_id"], "created_at": created.isoformat(), "updated_at": at.isoformat()}
        ours["agent"] = author in self._team
        ticket = str(row["ticket_id"])
        yield Item(ours, self._page(ticket), f"{ticket}#{said['id']}", created, at, parent=ticket)

    def _surveys(self, walk: Walk) -> Iterator[Found]:
        """Answers to surveys, all at once: they are listed by the time a survey was sent, not by that of its answer."""
        since, newest = walk.begin("surveys"), None
        sent = {"filter[created_at_start]": str(max(0, _epoch(since - _EDITABLE)) * 1000)} if since else {}
        asked: dict[str, str] | None = {"page[size]": "50", "sort": "id", **sent}
        while asked:
            rows, asked = self._answers(asked)
            for row in rows:
                try:
                    item = self._survey(row)
                except MALFORMED as problem:
                    where = f"{self.origin} surveys {row.get('id') if isinstance(row, Mapping) else '?'}"
                    yield Rejected(where, f"was not understood ({type(problem).__name__}: {problem})")
                    continue
                if item and (since is None or since <= item.updated_at) and item.updated_at < walk.until:
                    newest = max(newest or item.updated_at, item.updated_at)
                    yield item
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

    def _survey(self, row: Row) -> Item | None:
        """What somebody answered; nothing when nobody did."""
        answers = [one for one in row.get("answers") or () if one.get("type") in ("rating_scale", "open_ended")]
        if not answers:
            return None
        ours: dict[str, Any] = {"survey_response": row["id"], "responder_id": row.get("responder_id")}
        about = [str(one["id"]) for one in row.get("subjects") or () if str(one.get("type")).endswith("ticket")]
        ours["answers"] = [{k: one.get(k) for k in ("type", "rating", "rating_category", "value")} for one in answers]
        created = min(instant(one["created_at"]) for one in answers)
        at = max(instant(one.get("updated_at") or one["created_at"]) for one in answers)
        ours |= {
            "ticket_id": about[0] if about else None,
            "created_at": created.isoformat(),
            "updated_at": at.isoformat(),
        }
        return Item(ours, self._page(ours["ticket_id"]), f"survey-{row['id']}", created, at)

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
        rated, metrics = payload.get("satisfaction_rating") or {}, payload.get("metric_set") or {}
        score, waited = rated.get("score"), (metrics.get("reply_time_in_minutes") or {}).get("calendar")
        closed, said = metrics.get("solved_at"), (payload.get("description"), rated.get("comment"))
        count = payload.get("comment_count")
        return Signal(
            kind="zendesk",
            origin=self.origin,
            native_id=str(payload["id"]),
            type="ticket",
            title=payload.get("subject") or "",
            body="\n\n".join(one for one in said if one),
            created_at=created,
            updated_at=_updated(payload),
            url=self._page(payload["id"]),
            author=_who(payload.get("requester_id")),
            state=status,
            labels=(*(payload.get("tags") or ()), *([f"csat:{score}"] if score in _RATINGS else ())),
            severity=payload.get("priority"),
            rating=_RATINGS.get(str(score)),
            locale=payload.get("locale"),
            thread_count=None if count is None else max(0, count - 1),
            first_response_at=None if waited is None else created + dt.timedelta(minutes=waited),
            closed_at=instant(closed) if closed and status in ("solved", "closed") else None,
        )

    def _rated(self, payload: Mapping[str, Any]) -> Signal:
        answers, ticket = payload["answers"], payload.get("ticket_id")
        scale: Mapping[str, Any] = next((one for one in answers if one.get("type") == "rating_scale"), {})
        rating, word = scale.get("rating"), scale.get("rating_category")
        return Signal(
            kind="zendesk",
            origin=self.origin,
            native_id=f"survey-{payload['survey_response']}",
            type="review",
            title="Satisfaction survey" if rating is None else f"Satisfaction survey: {rating}",
            body="\n\n".join(one["value"] for one in answers if one.get("value")),
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
            url=self._page(ticket) if ticket else None,
            author=_who(payload.get("responder_id")),
            labels=(f"csat:{word}",) if word else (),
            rating=None if rating is None else float(rating),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a public comment into a reply; agents and administrators are the team."""
        ticket = str(payload["ticket_id"])
        return Reply(
            kind="zendesk",
            origin=self.origin,
            native_id=f"{ticket}#{payload['id']}",
            parent=ticket,
            body=payload.get("body") or "",
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
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
        kept = {k: times[k] for k in ("reply_time_in_minutes", "solved_at") if k in times}
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


def _generated(row: Row) -> dt.datetime:
    return instant(row["generated_timestamp"])


def _happened(row: Row) -> dt.datetime:
    return instant(row["timestamp"])


def _updated(row: Mapping[str, Any]) -> dt.datetime:
    return instant(row["updated_at"])
