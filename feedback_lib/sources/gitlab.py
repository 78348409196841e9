"""GitLab: the issues of a project or a group with their notes, of gitlab.com or a self-managed instance."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError
from feedback_lib.markup import unnamed
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal, SignalType
from feedback_lib.services import Found, Page, Row, Service, Walk, inside, names, severity
from feedback_lib.transport import Reply as Answer

_SIZE = 100  # the most GitLab gives
_ROBOT = re.compile(r"(?:project|group)_\d+_bot(?:_\w+)?|(?!support-)[\w-]+-bot|GitLabDuo", re.IGNORECASE)
_EVERYBODY = ("ghost", "support-bot")  # GitLab's own accounts: of all that are gone, of all who write by e-mail
_TYPES: dict[Any, SignalType] = {"incident": "incident", "ticket": "ticket"}


@register("sources", "gitlab")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gitlab(Service):
    """Issues of one project, or of all projects of a group, and the notes on them.

    Options:
        project: its path, such as ``group/name``, or its number; this or ``group``.
        group: its path or its number; subgroups are read too.
        url: the instance.
        confidential: read confidential issues too. They are left out because whoever may read the reports need not be
            among the few who may read such an issue.
    """

    project: int | str = ""
    group: int | str = ""
    url: str = "https://gitlab.com"
    confidential: bool = False
    token_env: str = "GITLAB_TOKEN"

    personal_fields: ClassVar[tuple[str, ...]] = ("*.username", "service_desk_reply_to")
    plain_fields: ClassVar[tuple[str, ...]] = (
        "web_url", "created_at", "updated_at", "closed_at", "state", "severity", "issue_type", "type",
        "references.short", "references.relative", "references.full", "author.service",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {
        401: "it needs a token with the scope read_api that has not expired",
        403: "the token needs the scope read_api, and its owner the right to read issues",
        404: "GitLab also says so of what the token may not see",
    }

    def __post_init__(self) -> None:
        if bool(self.project) == bool(self.group):
            raise ConfigError("sources gitlab: write one of project and group, its path or its number")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the project or group."""
        return self.name or str(self.project or self.group)

    @property
    def address(self) -> str:
        """The API of the instance."""
        return f"{self.url.rstrip('/')}/api/v4"

    def headers(self) -> Mapping[str, str]:
        """The token, unless ``token_env`` is empty; never in an address, where logs would keep it."""
        return {"PRIVATE-TOKEN": self.token()} if self.token_env else {}

    @property
    def _place(self) -> str:
        kind, path = ("projects", self.project) if self.project else ("groups", self.group)
        return f"/{kind}/{urllib.parse.quote(str(path), safe='')}"

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The issues; a note changes the time of its issue, so there is no stream of notes."""
        yield from walk.pages("issues", self._issues, self._issue, at=itemgetter("updated_at"))

    def _issues(self, since: dt.datetime | None, following: int | None) -> Page:
        asked = {"scope": "all", "order_by": "updated_at", "sort": "asc"}
        if not self.confidential:
            asked["confidential"] = "false"
        if since:
            asked["updated_after"] = f"{since:%Y-%m-%dT%H:%M:%S}.{since.microsecond // 1000:03}Z"
        page = self._page(f"{self._place}/issues", asked, following or 1)
        rows = self.detailed(page.rows, lambda row: row.get("user_notes_count"), self._with_notes)
        return Page(rows, page.next)

    def _page(self, path: str, asked: Mapping[str, str], number: int) -> Page:
        reply = self.client.ask(path, {**asked, "per_page": str(_SIZE), "page": str(number)})
        rows = reply.json()
        if not isinstance(rows, list):
            raise TypeError("is no list")
        return Page(rows, _following(reply, rows, number))

    def _with_notes(self, row: Row) -> Row:
        """An issue with all its notes, asked for in an order that does not change while they are read."""
        path, number = f"/projects/{row.get('project_id')}/issues/{row.get('iid')}/notes", 1
        notes: list[Any] = []
        while number:
            page = self._page(path, {"order_by": "created_at", "sort": "asc"}, number)
            notes += page.rows
            number = page.next
        return {**row, "notes": notes}

    def _issue(self, row: Row) -> Iterator[Item | Rejected]:
        if row.get("confidential") and not self.confidential:
            return
        yield self.item(_kept(row), row["web_url"], row["id"], row["created_at"], row["updated_at"])
        yield from self.each_alone(functools.partial(self._note, row), row.get("notes") or (), row["web_url"])

    def _note(self, row: Row, note: Row) -> Iterator[Item]:
        writer = inside(note, "author", "username") or ""
        if note.get("system") or note.get("internal") or note.get("confidential") or _ROBOT.fullmatch(writer):
            return
        ours, where = {**_kept(note), "noteable_id": row["id"]}, f"{row['web_url']}#note_{note['id']}"
        yield self.item(ours, where, note["id"], note["created_at"], note["updated_at"], parent=row["id"])

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn an issue into a signal; a ``severity::…`` or ``priority::…`` label stands in for a severity."""
        if "iid" not in payload:
            raise ValueError("is no issue")
        labels, votes = names(payload.get("labels")), payload.get("upvotes")
        said = str(payload.get("severity") or "unknown").lower()
        project = (inside(payload, "references", "full") or "").rpartition("#")[0]
        return self.signal(
            payload["id"],
            _TYPES.get(payload.get("issue_type"), "issue"),
            title=payload.get("title"),
            body=payload.get("description"),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            closed_at=payload.get("closed_at"),
            url=payload.get("web_url"),
            author=payload.get("service_desk_reply_to") or inside(payload, "author", "username") or None,
            state="moved" if payload.get("moved_to_id") else payload.get("state"),
            labels=labels,
            product_area=(project or None) if self.group else None,
            severity=severity(labels) if said == "unknown" else said,
            reactions=None if votes is None else votes - (payload.get("downvotes") or 0),
            thread_count=payload.get("user_notes_count"),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a note into a reply; who writes by e-mail is not the team, of others GitLab does not say."""
        return self.reply_to(
            payload["noteable_id"],
            payload["id"],
            body=payload.get("body"),
            created_at=payload["created_at"],
            updated_at=payload["updated_at"],
            author=inside(payload, "author", "username"),
            team=False if inside(payload, "author", "service") == "support-bot" else None,
        )

    def look(self) -> str:
        """How many issues there are."""
        counts = self.client.ask(f"{self._place}/issues_statistics", {"scope": "all"}).json()["statistics"]["counts"]
        return f"{self.origin}: {counts['all']:,} issues, {counts['opened']:,} of them open"


def _following(reply: Answer, rows: list[Any], number: int) -> int | None:
    """The next page's number; some proxies drop the header, and GitLab's links may name an inner host."""
    told = reply.headers.get("x-next-page")
    if told is None:
        return number + 1 if len(rows) >= _SIZE else None
    return int(told) if told.strip() else None


def _kept(row: Row) -> dict[str, Any]:
    """An object without the links of the API, what it repeats of every person, and mentions."""
    kept = {k: _slim(v) for k, v in row.items() if k not in ("_links", "notes")}
    return kept | {k: unnamed(kept[k]) for k in ("title", "description", "body") if isinstance(kept.get(k), str)}


def _slim(value: Any) -> Any:
    if isinstance(value, list):
        return [_slim(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if "username" not in value:
        return {k: _slim(v) for k, v in value.items()}
    name = value["username"]
    return {"service" if name in _EVERYBODY else "username": name}
