"""GitHub: the issues of a repository with their comments; pull requests are left out."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.markup import unnamed
from feedback_lib.plugins import register
from feedback_lib.records import Item, Reply, Signal
from feedback_lib.services import Found, Page, Row, Service, Walk, inside, names, severity

_NESTED = (dict, list)  # as JSON has them
_TEAM = frozenset(("OWNER", "MEMBER", "COLLABORATOR"))


@register("sources", "github")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Github(Service):
    """Issues of one repository and the comments on them.

    Options:
        repo: ``owner/name``.
        url: the API; of GitHub Enterprise Server it is ``https://HOST/api/v3``.
    """

    repo: str
    url: str = "https://api.github.com"
    token_env: str = "GITHUB_TOKEN"

    personal_fields: ClassVar[tuple[str, ...]] = ("*.login",)
    plain_fields: ClassVar[tuple[str, ...]] = (
        "html_url", "issue_url", "created_at", "updated_at", "closed_at", "state", "state_reason", "user.type",
        "author_association",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise self.wrong("repo", "write owner/name")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the repository."""
        return self.name or self.repo

    def headers(self) -> Mapping[str, str]:
        """A bearer token, unless ``token_env`` is empty, and the version of the API."""
        api = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return {**api, **self.authorization()}

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues, then the comments of the whole repository."""
        yield from walk.pages("issues", self._issues, self._issue, at=itemgetter("updated_at"))
        yield from walk.pages("comments", self._comments, self._comment, at=itemgetter("updated_at"))

    def _issues(self, since: dt.datetime | None, following: str | None) -> Page:
        return self._list("issues", since, following, state="all")

    def _comments(self, since: dt.datetime | None, following: str | None) -> Page:
        return self._list("issues/comments", since, following)

    def _list(self, what: str, since: dt.datetime | None, following: str | None, **more: str) -> Page:
        asked = {**more, "sort": "updated", "direction": "asc", "per_page": "100"}
        if since:
            asked["since"] = f"{since:%Y-%m-%dT%H:%M:%SZ}"
        reply = self.client.ask(following) if following else self.client.ask(f"/repos/{self.repo}/{what}", asked)
        rows = reply.json()
        if not isinstance(rows, list):
            raise TypeError("is no list")
        return Page(rows, reply.link("next"))

    def _issue(self, row: Row) -> Iterator[Item]:
        if "pull_request" not in row:
            yield self.item(_kept(row), row["html_url"], row["number"], row["created_at"], row["updated_at"])

    def _comment(self, row: Row) -> Iterator[Item]:
        if "/pull/" not in row["html_url"]:
            times = row["created_at"], row["updated_at"]
            yield self.item(_kept(row), row["html_url"], row["id"], *times, parent=_number(row))

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an issue into a signal; a ``priority: …`` or ``severity: …`` label is its severity."""
        if "number" not in payload:
            raise ValueError("is no issue")
        labels, closed = names(payload.get("labels")), payload.get("closed_at")
        return self.signal(
            payload["number"],
            "issue",
            title=payload.get("title"),
            body=payload.get("body"),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            closed_at=closed,
            url=payload.get("html_url"),
            author=inside(payload, "user", "login") or None,
            state=(closed and payload.get("state_reason")) or payload.get("state"),  # of one reopened it is "reopened"
            labels=labels,
            severity=severity(labels),
            reactions=inside(payload, "reactions", "total_count"),
            thread_count=payload.get("comments"),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; owners, members and collaborators are the team, robots are not."""
        robot = inside(payload, "user", "type") == "Bot"
        return self.reply_to(
            _number(payload),
            payload["id"],
            body=payload.get("body"),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            author=inside(payload, "user", "login"),
            team=payload.get("author_association") in _TEAM and not robot,
        )

    def look(self) -> str:
        """The repository's number of open issues, and whether it can be read."""
        found = self.client.ask(f"/repos/{self.repo}").json()
        return f"{found['full_name']}: {found['open_issues_count']:,} open issues and pull requests"


def _kept(row: Row) -> dict[str, Any]:
    """An object without the links of the API, which repeat names of people in every item, and without mentions."""
    kept: dict[str, Any] = _part(row) | {k: row[k] for k in ("html_url", "issue_url") if k in row}
    return kept | {k: unnamed(kept[k]) for k in ("title", "body") if isinstance(kept.get(k), str)}


def _part(value: Any) -> Any:
    if type(value) is list:
        return [_part(one) for one in value]
    if type(value) is not dict:
        return value
    if "login" in value:
        return {k: v for k in ("login", "type") if isinstance(v := value.get(k), str)}
    return {k: _part(v) if type(v) in _NESTED else v for k, v in value.items() if not k.endswith("url")}


def _number(comment: Row) -> str:
    """Of the issue it belongs to."""
    return str(comment["issue_url"].rpartition("/")[2])
