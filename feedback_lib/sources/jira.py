"""Jira: issues and requests with their comments, of Jira Cloud or Data Center."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.markup import adf_text
from feedback_lib.plugins import register
from feedback_lib.privacy import redact
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, inside, names
from feedback_lib.transport import Reply as Answer
from feedback_lib.transport import secret

_APIS = {"cloud": ("/rest/api/3", "/search/jql"), "datacenter": ("/rest/api/2", "/search")}
_COUNT = "/rest/api/3/search/approximate-count"
_FIELDS = (
    "summary", "description", "issuetype", "project", "reporter", "creator", "status", "statuscategorychangedate",
    "resolution", "resolutiondate", "priority", "labels", "components", "versions", "created", "updated", "votes",
    "comment",
)  # fmt: skip
_DESK = "service_desk"
_DROPPED = ("self", "iconUrl", "avatarUrls", "expand", "properties")
_MENTION = re.compile(r"\[~[^\]\n]{1,200}\]")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


@register("sources", "jira")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Jira(Service):
    """Issues of one project, or of all that the account sees, and the comments on them.

    Options:
        url: the site, such as ``https://acme.atlassian.net``.
        deployment: ``cloud`` or ``datacenter``.
        project: its key.
        jql: a further condition, such as ``issuetype = Bug AND level is EMPTY``.
        user: the e-mail of the API token's owner; without it the token is sent as a bearer token.
        user_env: environment variable, or entry of the keyring, that holds it.
        satisfaction_field: the id of the field Satisfaction, such as ``customfield_10045``.
        site: where people open issues, when that is not ``url``.
    """

    url: str
    deployment: str = "cloud"
    project: str = ""
    jql: str = ""
    user: str = ""
    user_env: str = ""
    satisfaction_field: str = ""
    site: str = ""
    token_env: str = "JIRA_TOKEN"

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=15)  # a search shows a change later than it happened
    searches: ClassVar[tuple[str, ...]] = (_COUNT,)
    personal_fields: ClassVar[tuple[str, ...]] = (
        "*.accountId", "fields.reporter.key", "fields.reporter.name", "fields.creator.key", "fields.creator.name",
        "author.key", "author.name", "updateAuthor.key", "updateAuthor.name",
    )  # fmt: skip
    plain_fields: ClassVar[tuple[str, ...]] = (
        "id", "key", "created", "updated", "issueId", "author.accountType", "updateAuthor.accountType",
        "fields.created", "fields.updated", "fields.resolutiondate", "fields.statuscategorychangedate",
        "fields.status.name", "fields.priority.name", "fields.versions.name", "fields.project.key",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {
        401: "on Cloud a token goes with its owner's e-mail (user or user_env) and expires after a year at most; one "
        "with scopes needs read:jira-work and url: https://api.atlassian.com/ex/jira/CLOUD-ID",
        403: "its owner needs the permission to browse the project",
        404: "deployment is cloud or datacenter",
        410: "this is Jira Cloud: write deployment: cloud",
    }

    def __post_init__(self) -> None:
        self.one_of("deployment", _APIS)
        if re.search(r"\border\s+by\b", _QUOTED.sub("", self.jql), re.IGNORECASE):
            raise ConfigError("sources jira: jql says ORDER BY; leave that out, issues are read oldest change first")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the host, and the project where one is named."""
        host = urllib.parse.urlsplit(self.site or self.url).hostname or self.url
        return self.name or "/".join(filter(None, (host, self.project)))

    def headers(self) -> Mapping[str, str]:
        """Basic with e-mail and API token, or a bearer token, unless ``token_env`` is empty."""
        return self.authorization(
            user=self.user or (secret(self.user_env, self.kind, hidden=False) if self.user_env else "")
        )

    def hint(self, problem: TransportError) -> str:
        """What Jira says of a condition, else what a status means."""
        if problem.status != 400:
            return super().hint(problem)
        told = [str(one)[:300].rstrip(".") for one in json.loads(problem.body)["errorMessages"]]
        return f"Jira says: {redact(' '.join(told))}" if told else ""

    def _ask(self, path: str, params: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        reply: Answer = self.client.ask(path, params, body=body)
        reason = reply.headers.get("x-seraph-loginreason", "")
        if "FAILED" in reason or "DENIED" in reason:  # it goes on as nobody, who sees no issue
            raise TransportError(self.kind, f"{reply.place} did not accept the credentials", status=401)
        return reply.json()

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues; a comment changes the time of its issue, so there is no stream of comments."""
        yield from walk.pages("issues", self._issues, self._issue, at=_updated)

    def _jql(self, since: dt.datetime | None) -> str:
        """The condition; a number is milliseconds since 1970, while a day would be read in the account's time zone.

        Data Center keeps and orders times by the second, so a search begins with the whole second.
        """
        own = [f"project = {json.dumps(self.project)}"] if self.project else []
        own += [f"({self.jql})"] if self.jql else []
        return " AND ".join((*own, f"updated >= {int(since.timestamp()) * 1000 if since else 0}"))

    def _issues(self, since: dt.datetime | None, following: Any) -> Page:
        base, path = _APIS[self.deployment]
        fields = ",".join((*_FIELDS, *filter(None, (self.satisfaction_field,))))
        asked = {"jql": f"{self._jql(since)} ORDER BY updated ASC, key ASC", "fields": fields, "maxResults": "100"}
        if following is not None:
            asked["nextPageToken" if self.deployment == "cloud" else "startAt"] = str(following)
        answer = self._ask(base + path, asked)
        rows = self.detailed(answer["issues"], _lacks, self._with_comments)
        if self.deployment == "cloud":
            return Page(rows, None if answer.get("isLast") else answer.get("nextPageToken"))
        return Page(rows, _following(answer, len(rows)))

    def _with_comments(self, row: Row) -> Row:
        """An issue with all its comments, each with what says whether it is internal."""
        path = f"{_APIS[self.deployment][0]}/issue/{row.get('id')}/comment"
        found: list[Any] = []
        while True:
            asked = {"orderBy": "created", "maxResults": "100", "expand": "properties", "startAt": str(len(found))}
            try:
                answer = self._ask(path, asked)
            except TransportError as problem:
                if problem.status != 404:
                    raise
                break  # the issue has just been deleted; which comments of the search are internal is not known
            found += answer["comments"]
            if not answer["comments"] or len(found) >= answer["total"]:
                break
        return {**row, "comments": found}

    def _issue(self, row: Row) -> Iterator[Item | Rejected]:
        url = self._url(row)
        listed = row["comments"] if "comments" in row else inside(row["fields"], "comment", "comments")
        comments = [one for one in listed or () if not _hidden(one)]
        times = _time(row["fields"], "created"), _updated(row)
        yield self.item(_kept(row, len(comments)), url, row["id"], *times)
        yield from self.each_alone(functools.partial(self._comment, str(row["id"]), url), comments, url)

    def _comment(self, issue: str, url: str, row: Row) -> Iterator[Item]:
        kept, where = (
            {**_slim(row), "body": _words(row.get("body")), "issueId": issue},
            f"{url}?focusedCommentId={row['id']}",
        )
        yield self.item(kept, where, row["id"], _time(row, "created"), _time(row, "updated"), parent=issue)

    def _url(self, row: Row) -> str:
        return f"{(self.site or self.url).rstrip('/')}/browse/{row['key']}"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an issue into a signal, a request of a service project into a ticket."""
        fields = payload.get("fields")
        if not isinstance(fields, Mapping):
            raise ValueError("is no issue: it has no fields")
        done = inside(fields, "status", "statusCategory", "key") == "done"
        satisfaction = fields.get(self.satisfaction_field) if self.satisfaction_field else None
        return self.signal(
            payload["id"],
            "ticket" if inside(fields, "project", "projectTypeKey") == _DESK else "issue",
            title=fields.get("summary"),
            body=_words(fields.get("description")),
            created_at=_time(fields, "created"),
            updated_at=_updated(payload),
            closed_at=fields.get("resolutiondate") or (fields.get("statuscategorychangedate") if done else None),
            url=self._url(payload),
            author=_id(fields.get("reporter")) or _id(fields.get("creator")),
            state=inside(fields, "status", "name"),
            labels=tuple(fields.get("labels") or ()),
            product_area=next(iter(names(fields.get("components"))), None),
            version=next(iter(names(fields.get("versions"))), None),
            severity=inside(fields, "priority", "name"),
            rating=_rating(satisfaction),
            reactions=inside(fields, "votes", "votes"),
            thread_count=inside(fields, "comment", "total"),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; customers are not the team, of others Jira does not say."""
        return self.reply_to(
            payload["issueId"],
            payload["id"],
            body=_words(payload.get("body")),
            created_at=payload["created"],
            updated_at=payload["updated"],
            author=_id(payload.get("author")),
            team=False if inside(payload, "author", "accountType") == "customer" else None,
        )

    def look(self) -> str:
        """How many issues there are."""
        if self.deployment == "cloud":
            count = self._ask(_COUNT, body={"jql": self._jql(None)})["count"]
        else:
            count = self._ask("/rest/api/2/search", {"jql": self._jql(None), "maxResults": "0"})["total"]
        return f"{self.origin}: {count:,} issues" + ("" if count else "; may this account browse the project?")


def _following(answer: Mapping[str, Any], rows: int) -> int | None:
    """Where Data Center's next page starts; it may give fewer rows than were asked for."""
    end = int(answer["startAt"]) + rows
    return end if rows and end < answer["total"] else None


def _lacks(row: Any) -> bool:
    """Whether a search gave only some of an issue's comments, or not what says which are internal."""
    fields = row.get("fields") if isinstance(row, Mapping) else None
    if not isinstance(fields, Mapping) or not fields.get("comment"):
        return False
    try:
        comments, total = fields["comment"]["comments"], fields["comment"]["total"]
        desk = fields["project"]["projectTypeKey"] == _DESK  # where comments may be internal
        return len(comments) < total or (desk and not all("jsdPublic" in one for one in comments))
    except MALFORMED:
        return True


def _hidden(comment: Any) -> bool:
    """Whether only some people of the team may read it, or an app wrote it; where that is not clear, it is hidden."""
    if not isinstance(comment, Mapping):
        return False  # and told of when it is read
    try:
        properties = {one["key"]: one.get("value") for one in comment.get("properties") or ()}
        internal = inside(properties, "sd.public.comment", "internal")
        robot = inside(comment, "author", "accountType") == "app"
    except MALFORMED:
        return True
    return bool(comment.get("jsdPublic") is False or comment.get("visibility") or internal or robot)


def _kept(row: Row, comments: int) -> dict[str, Any]:
    """An issue without links of the API, what they repeat of every person, and its comments."""
    fields = _slim(row["fields"])
    fields = {**fields, "description": _words(fields.get("description")), "comment": {"total": comments}}
    return {**{k: v for k, v in row.items() if k not in (*_DROPPED, "comments")}, "fields": fields}


def _slim(row: Row) -> dict[str, Any]:
    """An object whose parts have no links; of a person, what tells people apart."""
    return {name: _part(value) for name, value in row.items() if name not in _DROPPED}


def _part(value: Any) -> Any:
    if isinstance(value, list):
        return [_part(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "displayName" in value or "accountId" in value:
        return {k: v for k in ("accountId", "accountType", "key", "name") if (v := value.get(k))}
    return _slim(value)


def _words(text: Any) -> str:
    """The words of a text or a document without the names of those it mentions.

    They are archived so too: redaction sees a document's parts one by one, and a number may begin in one part.
    """
    return _MENTION.sub("@someone", adf_text(text))


def _id(person: Any) -> str | None:
    """What tells people apart: an account on Cloud, a key on Data Center."""
    return inside(person, "accountId") or inside(person, "key") or inside(person, "name") or None


def _rating(value: Any) -> float | None:
    """Stars, 1 to 5, as the field of a service project or of an app holds them."""
    stars = value.get("rating", value.get("value")) if isinstance(value, Mapping) else value
    return None if stars is None else float(stars)


def _updated(row: Row) -> str:
    return _time(row["fields"], "updated")


def _time(row: Row, name: str) -> str:
    """A time, which Jira tells as text; the number of a shortened example would be seconds."""
    if not isinstance(row.get(name), str):
        raise ValueError(f"has no time {name!r}")
    return str(row[name])
