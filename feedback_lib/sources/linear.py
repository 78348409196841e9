"""Linear: issues with their comments, and customers' requests as voices of their own."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.markup import unnamed
from feedback_lib.plugins import register
from feedback_lib.privacy import redact_address
from feedback_lib.records import Item, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, inside, instant, names

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
    "customers' requests need the workspace's feature of that name and, with OAuth, the scope customer:read, else "
    "leave them out with requests: false"
)


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
    hints: ClassVar[Mapping[Any, str]] = {  # by the code of an error
        "AUTHENTICATION_ERROR": "the key is wrong, or no longer valid",
        "FORBIDDEN": f"the key needs the permission Read, and its owner access to the team; {_CUSTOMERS}",
        "FEATURE_NOT_ACCESSIBLE": _CUSTOMERS,
        "GRAPHQL_VALIDATION_FAILED": "its API has changed, and this version of the workbench asks for what is no more",
    }

    def __post_init__(self) -> None:
        if not self.workspace or "/" in self.workspace:
            raise self.wrong("workspace", "write WORKSPACE of linear.app/WORKSPACE")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the workspace, with the team where one is given."""
        return self.name or "/".join(part for part in (self.workspace, self.team) if part)

    def headers(self) -> Mapping[str, str]:
        """A personal key as it is, a token of OAuth as bearer."""
        token = self.token()
        return {"Authorization": token} if token.startswith("lin_api_") else self.authorization()

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues, the comments on them, and last, because not every token may see them, customers' requests."""
        team = {"team": {"key": {"eq": self.team}}} if self.team else {}
        on_issue = {"issue": {"null": False, **team}}
        yield from walk.pages("issues", self._pages("issues", team), self._signal, at=itemgetter("updatedAt"))
        yield from walk.pages("comments", self._pages("comments", on_issue), self._comment, at=itemgetter("updatedAt"))
        if self.requests:
            of_team = {"issue": team} if team else {}
            yield from walk.pages(
                "requests", self._pages("customerNeeds", of_team), self._signal, at=itemgetter("updatedAt")
            )

    def _pages(self, name: str, where: Mapping[str, Any]) -> Callable[[dt.datetime | None, Any], Page]:
        def ask(since: dt.datetime | None, before: Any) -> Page:
            start = {"updatedAt": {"gte": since.isoformat(timespec="milliseconds")}} if since else {}
            data = self._ask(name, QUERIES[name], filter={**where, **start}, before=before)
            rows, about = sorted(data["page"]["nodes"], key=_changed), data["page"]["pageInfo"]
            if _NEVER < _latest(data["first"]["nodes"]) < _latest(rows):
                raise TransportError(self.kind, f"{self.url} no longer shows the latest change first")
            return Page(rows, about["startCursor"] if about["hasPreviousPage"] else None)

        return ask

    def _ask(self, name: str, query: str, **variables: Any) -> Any:
        reply = self.client.ask("/graphql", body={"operationName": name, "query": query, "variables": variables})
        if reply.json().get("errors"):
            told, status = f"{reply.place} answered {reply.status} with errors", _error(reply.content).get("statusCode")
            raise TransportError(self.kind, told, status=status or 400, body=reply.content)
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
        return self.signal(
            issue["id"],
            "issue",
            title=issue.get("title"),
            body=issue.get("description"),
            created_at=issue["createdAt"],
            updated_at=issue["updatedAt"],
            closed_at=issue.get("completedAt") or issue.get("canceledAt"),
            url=issue.get("url"),
            author=_author(issue, "externalUserCreator", "creator"),
            state="deleted" if issue.get("trashed") else inside(issue, "state", "name"),
            labels=names(inside(issue, "labels", "nodes")),
            product_area=inside(issue, "team", "name"),
            severity=issue.get("priorityLabel") if issue.get("priority") else None,
            reactions=len(issue.get("reactions") or ()) + (issue.get("customerTicketCount") or 0),
        )

    def _of_need(self, need: Mapping[str, Any]) -> Signal:
        """It is titled with the issue, or the project, it asks for; the person heard is the customer."""
        issue = need.get("issue") or {}
        named = " ".join(filter(None, (issue.get("identifier"), issue.get("title"))))
        tier, revenue = inside(need, "customer", "tier", "name"), inside(need, "customer", "revenue")
        return self.signal(
            need["id"],
            "ticket",
            title=named or inside(need, "project", "name"),
            body=need.get("content"),
            created_at=need["createdAt"],
            updated_at=need["updatedAt"],
            url=need.get("url") or issue.get("url") or inside(need, "project", "url"),
            author=inside(need, "customer", "id"),
            state=inside(issue, "state", "name"),
            labels=(tier,) if tier else (),
            product_area=inside(issue, "team", "name"),
            severity="important" if need.get("priority") else None,
            customer_value=float(revenue) if revenue is not None else None,
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; members of the workspace are the team, people of Slack and the like are not."""
        return self.reply_to(
            payload["issue"]["id"],
            payload["id"],
            body=payload.get("body"),
            created_at=payload["createdAt"],
            updated_at=payload["updatedAt"],
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

    def hint(self, problem: TransportError) -> str:
        """By the error's code; GraphQL refuses with status 200 or 400 whatever it was."""
        return self.hints.get(_error(problem.body).get("code"), "")

    def _signal(self, row: Row) -> Iterator[Item]:
        kept = _kept(row)
        yield self.item(kept, kept["url"] or f"need {row['id']}", row["id"], row["createdAt"], row["updatedAt"])

    def _comment(self, row: Row) -> Iterator[Item]:
        """Nothing for what an application says, unless it says it for a person."""
        if row.get("issue") and _author(row, "externalUser", "user"):
            kept, issue = _kept(row), row["issue"]["id"]
            where = kept["url"] or f"comment {row['id']}"
            yield self.item(kept, where, row["id"], row["createdAt"], row["updatedAt"], parent=issue)


def _kept(row: Row) -> dict[str, Any]:
    """A row without the words of titles in addresses, and without mentions."""
    kept = {**row, "url": _address(row.get("url"))}
    for name in ("title", "description", "content", "body"):
        if isinstance(kept.get(name), str):
            kept[name] = unnamed(_PROFILE.sub("@someone", kept[name]))
    if row.get("issue") and "url" in row["issue"]:
        kept["issue"] = {**row["issue"], "url": _address(row["issue"]["url"])}
    return kept


def _address(url: str | None) -> str | None:
    """Without the words of the title, which Linear does not need to find the issue."""
    return redact_address(re.sub(r"(/issue/[^/#?]+)/[^#?]*", r"\1", url)) if url else None


def _author(row: Mapping[str, Any], outside: str, member: str) -> str | None:
    """Who speaks: somebody of another service, also through its robot, else a member; no application."""
    speaks = inside(row, outside, "id") or inside(row, "botActor", "userDisplayName")
    return speaks or (None if inside(row, member, "app") else inside(row, member, "id"))


def _latest(rows: Any) -> dt.datetime:
    return max(map(_changed, rows), default=_NEVER)


def _changed(row: Row) -> dt.datetime:
    """When a row changed; one that does not say it is told later, with the row."""
    try:
        return instant(row["updatedAt"])
    except MALFORMED:
        return _NEVER


def _error(body: bytes) -> Mapping[str, Any]:
    """What GraphQL tells of the first error beside its message, which could hold anything."""
    try:
        about = json.loads(body)["errors"][0]["extensions"]
    except (ValueError, LookupError, TypeError):
        return {}
    return about if isinstance(about, Mapping) else {}
