"""GitHub: the issues of a repository with their comments; pull requests are left out."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError
from feedback_lib.markup import unnamed
from feedback_lib.plugins import register
from feedback_lib.records import Item, Reply, Signal
from feedback_lib.services import Found, Page, Row, Service, Walk, instant

_TEAM = frozenset(("OWNER", "MEMBER", "COLLABORATOR"))
_SEVERITY = re.compile(r"(?:severity|priority|prio)[\s:/_-]+(.+)", re.IGNORECASE)


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
            raise ConfigError(f"sources github: repo = {self.repo!r}; write owner/name")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the repository."""
        return self.name or self.repo

    @property
    def address(self) -> str:
        """The option ``url``."""
        return self.url

    def headers(self) -> Mapping[str, str]:
        """A bearer token, unless ``token_env`` is empty, and the version of the API."""
        kind = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        return {**kind, "Authorization": f"Bearer {self.token()}"} if self.token_env else kind

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues, then the comments of the whole repository."""
        yield from walk.pages("issues", self._issues, self._issue, at=_updated)
        yield from walk.pages("comments", self._comments, self._comment, at=_updated)

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
            yield Item(_kept(row), row["html_url"], str(row["number"]), instant(row["created_at"]), _updated(row))

    def _comment(self, row: Row) -> Iterator[Item]:
        if "/pull/" not in row["html_url"]:
            issue = row["issue_url"].rpartition("/")[2]
            at = instant(row["created_at"])
            yield Item(_kept(row), row["html_url"], f"{issue}#{row['id']}", at, _updated(row), parent=issue)

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an issue into a signal; a ``priority: …`` or ``severity: …`` label is its severity."""
        if "number" not in payload:
            raise ValueError("is no issue")
        labels = tuple(name for one in payload.get("labels") or () if (name := _label(one)))
        severity = next((m[1] for label in labels if (m := _SEVERITY.fullmatch(label))), None)
        closed = payload.get("closed_at")
        return Signal(
            kind="github",
            origin=self.origin,
            native_id=str(payload["number"]),
            type="issue",
            title=payload.get("title") or "",
            body=payload.get("body") or "",
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
            url=payload.get("html_url"),
            author=_login(payload),
            state=(closed and payload.get("state_reason")) or payload.get("state"),  # of one reopened it is "reopened"
            labels=labels,
            severity=severity,
            reactions=(payload.get("reactions") or {}).get("total_count"),
            thread_count=payload.get("comments"),
            closed_at=instant(closed) if closed else None,
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a comment into a reply; owners, members and collaborators are the team, robots are not."""
        robot = (payload.get("user") or {}).get("type") == "Bot"
        issue = payload["issue_url"].rpartition("/")[2]
        return Reply(
            kind="github",
            origin=self.origin,
            native_id=f"{issue}#{payload['id']}",
            parent=issue,
            body=payload.get("body") or "",
            created_at=instant(payload["created_at"]),
            updated_at=_updated(payload),
            author=_login(payload),
            team=payload.get("author_association") in _TEAM and not robot,
        )

    def look(self) -> str:
        """The repository's number of open issues, and whether it can be read."""
        found = self.client.ask(f"/repos/{self.repo}").json()
        return f"{found['full_name']}: {found['open_issues_count']:,} open issues and pull requests"


def _kept(row: Row) -> dict[str, Any]:
    """An object without the links of the API, which repeat names of people in every item, and without mentions."""
    kept = {k: _part(v) for k, v in row.items() if k in ("html_url", "issue_url") or not k.endswith("url")}
    return kept | {k: unnamed(kept[k]) for k in ("title", "body") if isinstance(kept.get(k), str)}


def _part(value: Any) -> Any:
    if isinstance(value, list):
        return [_part(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "login" in value:
        return {k: v for k in ("login", "type") if isinstance(v := value.get(k), str)}
    return {k: _part(v) for k, v in value.items() if not k.endswith("url")}


def _login(payload: Mapping[str, Any]) -> str | None:
    """Who wrote it; nobody when the account is gone."""
    return (payload.get("user") or {}).get("login") or None


def _label(label: Any) -> str | None:
    return label.get("name") if isinstance(label, Mapping) else label


def _updated(row: Mapping[str, Any]) -> dt.datetime:
    return instant(row["updated_at"])
