"""Linear: issues with their comments, and customers' requests as voices of their own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.markup import unnamed
from feedback_lib.plugins import register
from feedback_lib.privacy import redact_address
from feedback_lib.records import Item, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, instant

_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)
_FIELDS = {  # of people the ids only
    "issues": """id identifier title description url createdAt updatedAt completedAt canceledAt archivedAt trashed
        priority priorityLabel customerTicketCount slaBreachesAt reactions { emoji } state { name type }
        team { key name } project { name } labels(first: 20) { nodes { name } } creator { id app }
        externalUserCreator { id } botActor { type userDisplayName }""",
    "customerNeeds": """id content priority url createdAt updatedAt archivedAt customer { id revenue tier { name } }
        issue { id identifier title url state { name type } team { key name } } project { name url }""",
    "comments": """id body url createdAt updatedAt user { id app } externalUser { id } botActor { type userDisplayName }
        issue { id }""",
}
_PROFILE = re.compile(  # how somebody is mentioned: a link to what Linear says of them
    r"(?:\[[^\[\]\n]{1,100}\]\()?https://linear\.app/[\w.-]{1,100}/profiles/[^\s()\[\]<>]{1,100}\)?"
)
_FILTERS = {"issues": "IssueFilter", "customerNeeds": "CustomerNeedFilter", "comments": "CommentFilter"}

# Linear shows the latest change first and takes no direction: pages are asked for from the end. Should it ever turn
# round, they would hold the newest and the rest be lost; the first row of all, asked for beside each page, tells.
_QUERY = """query {name}($filter: {type}, $before: String) {{
    first: {name}(first: 1, orderBy: updatedAt, includeArchived: true, filter: $filter) {{ nodes {{ updatedAt }} }}
    page: {name}(last: 100, before: $before, orderBy: updatedAt, includeArchived: true, filter: $filter) {{
        nodes {{ {fields} }} pageInfo {{ hasPreviousPage startCursor }}
    }}
}}"""
QUERIES = {name: _QUERY.format(name=name, type=_FILTERS[name], fields=fields) for name, fields in _FIELDS.items()}
LOOK = "query look { organization { name urlKey createdIssueCount } teams(first: 250) { nodes { key } } }"

_CUSTOMERS = (
    "; customers' requests need the workspace's feature of that name and, with OAuth, the scope customer:read, else "
    "leave them out with requests: false"
)
_HINTS = {
    "AUTHENTICATION_ERROR": "; the key is wrong, or no longer valid",
    "FORBIDDEN": f"; the key needs the permission Read, and its owner access to the team{_CUSTOMERS}",
    "FEATURE_NOT_ACCESSIBLE": _CUSTOMERS,
    "GRAPHQL_VALIDATION_FAILED": "; its API has changed, and this version of the workbench asks for what is no more",
}


@register("sources", "linear")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Service):
    """Issues of a workspace with their comments, and the requests of customers.

    Options:
        workspace: its name in addresses, ``linear.app/WORKSPACE``.
        team: key of the one team to read, such as ``ENG``; all that the token may see when left out.
        requests: read customers' requests too; false for a workspace or a token without them.
        url: where ``/graphql`` is.
    """

    workspace: str
    team: str = ""
    requests: bool = True
    url: str = "https://api.linear.app"
    token_env: str = "LINEAR_API_KEY"

    searches: ClassVar[tuple[str, ...]] = ("/graphql",)
    personal_fields: ClassVar[tuple[str, ...]] = (
        "creator.id", "externalUserCreator.id", "user.id", "externalUser.id", "customer.id", "*.userDisplayName",
    )  # fmt: skip
    plain_fields: ClassVar[tuple[str, ...]] = (
        "id", "identifier", "url", "createdAt", "updatedAt", "completedAt", "canceledAt", "archivedAt",
        "slaBreachesAt", "state.type", "team.key", "issue.id", "issue.identifier", "issue.url", "issue.state.type",
        "issue.team.key", "project.url", "botActor.type",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.workspace or "/" in self.workspace:
            raise ConfigError(
                f"sources linear: workspace = {self.workspace!r}; write WORKSPACE of linear.app/WORKSPACE"
            )
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the workspace, with the team where one is given."""
        return self.name or "/".join(part for part in (self.workspace, self.team) if part)

    @property
    def address(self) -> str:
        """The option ``url``."""
        return self.url

    def headers(self) -> Mapping[str, str]:
        """A personal key as it is, a token of OAuth as bearer."""
        token = self.token()
        return {"Authorization": token if token.startswith("lin_api_") else f"Bearer {token}"}

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues, the comments on them, and last, because not every token may see them, customers' requests."""
        team = {"team": {"key": {"eq": self.team}}} if self.team else {}
        on_issue = {"issue": {"null": False, **team}}
        yield from walk.pages("issues", self._pages("issues", team), _signal, at=_updated)
        yield from walk.pages("comments", self._pages("comments", on_issue), _comment, at=_updated)
        if self.requests:
            of_team = {"issue": team} if team else {}
            yield from walk.pages("requests", self._pages("customerNeeds", of_team), _signal, at=_updated)

    def _pages(self, name: str, where: Mapping[str, Any]) -> Callable[[dt.datetime | None, Any], Page]:
        def ask(since: dt.datetime | None, before: Any) -> Page:
            start = {"updatedAt": {"gte": since.isoformat(timespec="milliseconds")}} if since else {}
            data = self._ask(name, QUERIES[name], filter={**where, **start}, before=before)
            rows, about = sorted(data["page"]["nodes"], key=_changed), data["page"]["pageInfo"]
            if _NEVER < _latest(data["first"]["nodes"]) < _latest(rows):
                raise TransportError("linear", f"{self.url} no longer shows the latest change first")
            return Page(rows, about["startCursor"] if about["hasPreviousPage"] else None)

        return ask

    def _ask(self, name: str, query: str, **variables: Any) -> Any:
        reply = self.client.ask("/graphql", body={"operationName": name, "query": query, "variables": variables})
        if reply.json().get("errors"):
            told = f"{reply.place} answered {reply.status} with errors"
            raise TransportError(
                "linear", told, status=_error(reply.content).get("statusCode", 400), body=reply.content
            )
        return reply.json()["data"]

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an issue, or a customer's request, into a signal."""
        if "identifier" in payload:
            return self._of_issue(payload)
        if "content" in payload:
            return self._of_need(payload)
        raise ValueError("is neither an issue nor a customer's request")

    def _of_issue(self, issue: Mapping[str, Any]) -> Signal:
        """Severity is the priority; reactions are those to it and the support tickets linked with it."""
        closed = issue.get("completedAt") or issue.get("canceledAt")
        return Signal(
            kind="linear",
            origin=self.origin,
            native_id=issue["id"],
            type="issue",
            title=issue.get("title") or "",
            body=issue.get("description") or "",
            created_at=instant(issue["createdAt"]),
            updated_at=_updated(issue),
            url=issue.get("url"),
            author=_author(issue, "externalUserCreator", "creator"),
            state="deleted" if issue.get("trashed") else _in(issue, "state", "name"),
            labels=tuple(label["name"] for label in _in(issue, "labels", "nodes") or ()),
            product_area=_in(issue, "team", "name"),
            severity=issue.get("priorityLabel") if issue.get("priority") else None,
            reactions=len(issue.get("reactions") or ()) + (issue.get("customerTicketCount") or 0),
            closed_at=instant(closed) if closed else None,
        )

    def _of_need(self, need: Mapping[str, Any]) -> Signal:
        """It is titled with the issue, or the project, it asks for; the person heard is the customer."""
        issue, customer = need.get("issue") or {}, need.get("customer") or {}
        named = " ".join(filter(None, (issue.get("identifier"), issue.get("title")))) or _in(need, "project", "name")
        tier, revenue = _in(customer, "tier", "name"), customer.get("revenue")
        return Signal(
            kind="linear",
            origin=self.origin,
            native_id=need["id"],
            type="ticket",
            title=named or "",
            body=need.get("content") or "",
            created_at=instant(need["createdAt"]),
            updated_at=_updated(need),
            url=need.get("url") or issue.get("url") or _in(need, "project", "url"),
            author=customer.get("id"),
            state=_in(issue, "state", "name"),
            labels=(tier,) if tier else (),
            product_area=_in(issue, "team", "name"),
            severity="important" if need.get("priority") else None,
            customer_value=float(revenue) if revenue is not None else None,
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; members of the workspace are the team, people of Slack and the like are not."""
        return Reply(
            kind="linear",
            origin=self.origin,
            native_id=f"{payload['issue']['id']}#{payload['id']}",
            parent=payload["issue"]["id"],
            body=payload.get("body") or "",
            created_at=instant(payload["createdAt"]),
            updated_at=_updated(payload),
            author=_author(payload, "externalUser", "user"),
            team=payload.get("externalUser") is None and payload.get("user") is not None,
        )

    def look(self) -> str:
        """The workspace's number of issues; whether it and the team are those of the options."""
        found = self._ask("look", LOOK)
        about, teams = found["organization"], sorted(team["key"] for team in found["teams"]["nodes"])
        if about["urlKey"] != self.workspace:
            raise ConfigError(f"workspace = {self.workspace!r}, but the token belongs to {about['urlKey']!r}")
        if self.team and self.team not in teams:
            raise ConfigError(f"team = {self.team!r} is none that the token may see; it sees {', '.join(teams)}")
        return f"{about['name']}: {about['createdIssueCount']:,} issues in all, teams {', '.join(teams)}"

    def _words(self, problem: Exception) -> str:
        code = str(_error(getattr(problem, "body", b"")).get("code"))
        return f"{super()._words(problem)}{_HINTS.get(code, '')}"


def _signal(row: Row) -> Iterator[Item]:
    yield _item(row, row["id"])


def _comment(row: Row) -> Iterator[Item]:
    """Nothing for what an application says, unless it says it for a person."""
    if row.get("issue") and _author(row, "externalUser", "user"):
        yield _item(row, f"{row['issue']['id']}#{row['id']}", row["issue"]["id"])


def _item(row: Row, native_id: str, parent: str | None = None) -> Item:
    kept = {**row, "url": _address(row.get("url"))}
    for name in ("title", "description", "content", "body"):
        if isinstance(kept.get(name), str):
            kept[name] = unnamed(_PROFILE.sub("@someone", kept[name]))
    if row.get("issue") and "url" in row["issue"]:
        kept["issue"] = {**row["issue"], "url": _address(row["issue"]["url"])}
    where = kept["url"] or f"need {native_id}"
    return Item(kept, where, native_id, instant(row["createdAt"]), _updated(row), parent=parent)


def _address(url: str | None) -> str | None:
    """Without the words of the title, which Linear does not need to find the issue."""
    return redact_address(re.sub(r"(/issue/[^/#?]+)/[^#?]*", r"\1", url)) if url else None


def _author(row: Mapping[str, Any], outside: str, inside: str) -> str | None:
    """Who speaks: somebody of another service, also through its robot, else a member; no application."""
    member = row.get(inside) or {}
    speaks = _in(row, outside, "id") or _in(row, "botActor", "userDisplayName")
    return speaks or (None if member.get("app") else member.get("id"))


def _in(row: Mapping[str, Any], name: str, inner: str) -> Any:
    return (row.get(name) or {}).get(inner)


def _latest(rows: Any) -> dt.datetime:
    return max(map(_changed, rows), default=_NEVER)


def _changed(row: Row) -> dt.datetime:
    """When a row changed; one that does not say it is told later, with the row."""
    try:
        return _updated(row)
    except MALFORMED:
        return _NEVER


def _error(body: bytes) -> Mapping[str, Any]:
    """What GraphQL tells of the first error beside its message, which could hold anything."""
    try:
        about = json.loads(body)["errors"][0]["extensions"]
    except (ValueError, LookupError, TypeError):
        return {}
    return about if isinstance(about, Mapping) else {}


def _updated(row: Mapping[str, Any]) -> dt.datetime:
    return instant(row["updatedAt"])
