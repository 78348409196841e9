"""Discourse: the topics of a forum, or of one of its categories, with their posts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.markup import html_text
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, inside, instant, names, picked

_POSTS = 50  # asked for at once
_HELD = 200  # topics kept in memory, because a page may be read twice
_AGAIN = dt.timedelta(days=14)  # posts that are read again when their topic goes on
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_WORDS = (1, 2)  # types of posts: by somebody, by staff as such; 3 says what was done, 4 is a whisper among staff
_GONE = (404, 410)
_TOPIC = (
    "id", "title", "created_at", "bumped_at", "last_posted_at", "posts_count", "like_count", "op_like_count", "views",
    "closed", "archived", "category_id", "has_accepted_answer",
)  # fmt: skip
_POST = (
    "id", "topic_id", "post_number", "post_type", "username", "created_at", "updated_at", "reply_to_post_number",
    "version", "moderator", "admin", "staff", "user_deleted", "accepted_answer", "locale",
)  # fmt: skip
_OTHERS = re.compile(r"""<aside class=["'](?:quote|onebox)""")
_MENTION = re.compile(r"""<(a|span) class=["']mention(?:-group)?[ "'][^<>]*>@[^<]*</\1>""")


@register("sources", "discourse")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Discourse(Service):
    """Topics of a forum and the posts on them; whispers, hidden posts, notes of what was done are left out.

    Options:
        url: the forum.
        category: slug of a category to read with those below it; ``parent:child`` for one of those. Everything when
            left out.
        user: in whose name the key of an administrator asks; without, the token is the API key of a user.
        token_env: as of every service; left out, the forum is read as everybody sees it.
    """

    category: str = ""
    user: str = ""

    lag: ClassVar[dt.timedelta] = dt.timedelta(minutes=2)  # lists for everybody are kept for a minute
    per_minute: ClassVar[float | None] = 60
    personal_fields: ClassVar[tuple[str, ...]] = ("*.username",)
    plain_fields: ClassVar[tuple[str, ...]] = (
        "url", "created_at", "bumped_at", "last_posted_at", "updated_at", "solved_at", "closed_at", "locale",
        "post.created_at", "post.updated_at", "post.locale",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {
        403: "a forum that asks for a log-in needs a key, named in token_env, and its user, in user",
        404: "Discourse before version 3.1 answers so",
    }

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w:%.-]*", self.category):
            raise self.wrong("category", "write the slug of its address")
        if self.user and not self.token_env:
            raise ConfigError("sources discourse: user needs token_env, the name of the variable with its key")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the host, with the category."""
        host = urllib.parse.urlsplit(self.url).hostname or self.url
        return self.name or (f"{host}/{self.category}" if self.category else host)

    def headers(self) -> Mapping[str, str]:
        """The key with its user, or that of a user, or none."""
        sent = {"Accept": "application/json"}
        if self.user:
            return {**sent, "Api-Key": self.token(), "Api-Username": self.user}
        return {**sent, "User-Api-Key": self.token()} if self.token_env else sent

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The topics by their last activity, each with its posts."""
        walk.begin("topics")
        reader = _Reader(self, walk)
        yield from walk.pages("topics", reader.page, reader.read, at=itemgetter("at"))
        if walk.newest:
            yield walk.checkpoint("topics", None, whole=walk.newest.isoformat())

    def ask(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """What the forum answers. Raises TransportError."""
        return self.client.ask(path, params).json()

    def topics(self, since: dt.datetime | None, order: str, page: int = 0) -> Mapping[str, Any]:
        """One list of topics: those of the day of ``since`` and later."""
        wanted = [f"category:{self.category}"] if self.category else []
        wanted += [f"activity-after:{since:%Y-%m-%d}"] if since else []
        asked = {"q": " ".join([*wanted, f"order:{order}"])}
        listed = self.ask("/filter.json", {**asked, "page": str(page)} if page else asked)["topic_list"]
        return dict(listed)

    def categories(self) -> list[Mapping[str, Any]]:
        """What is known of the categories. Raises TransportError when there is none of that slug: no empty forum."""
        known = list(self.ask("/site.json").get("categories") or ())
        if self.category and known and not self.wanted(known):
            raise TransportError(
                self.kind, f"no category {self.category!r} that can be read; is it the slug of its address?"
            )
        return known

    def wanted(self, known: Sequence[Mapping[str, Any]]) -> set[Any]:
        """Ids of the category that was asked for and of those below it."""
        ids = {one["id"] for one in known if one.get("slug") == self.category.rpartition(":")[2]}
        for _ in range(3):
            ids |= {one["id"] for one in known if one.get("parent_category_id") in ids}
        return ids

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a topic with its first post into a signal."""
        if "post" not in payload:
            raise ValueError("is no topic with its first post")
        post, likes, count = payload["post"], payload.get("op_like_count"), payload.get("posts_count")
        return self.signal(
            payload["id"],
            "ticket",
            title=payload.get("title"),
            body=html_text(post.get("cooked") or ""),
            created_at=payload["created_at"],
            updated_at=payload["bumped_at"],
            closed_at=payload.get("solved_at") or payload.get("closed_at"),
            url=payload.get("url"),
            author=post.get("username") or None,
            state=_state(payload),
            labels=tuple(payload.get("tags") or ()),
            product_area=payload.get("category") or None,
            reactions=payload.get("like_count") if likes is None else likes,
            locale=post.get("locale") or None,
            thread_count=None if count is None else max(0, count - 1),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn a post into a reply; moderators and administrators are the team."""
        roles = [payload[role] for role in ("staff", "moderator", "admin") if role in payload]
        return self.reply_to(
            payload["topic_id"],
            payload["id"],
            body=html_text(payload.get("cooked") or "", quotes=False),
            created_at=payload["created_at"],
            updated_at=_edited(payload),
            author=payload.get("username"),
            team=any(roles) if roles else None,
        )

    def look(self) -> str:
        """When something was last written, in how many categories."""
        known = self.categories()
        rows = self.topics(None, "activity")["topics"]
        last = max((row["bumped_at"] for row in rows), default="")[:16].replace("T", " ")
        return f"{self.origin}: {f'last activity {last} UTC' if last else 'no topics'}, {len(known)} categories"


class _Reader:
    """One reading of a forum: its lists know no finer bound than a day, so within one they are walked by number."""

    def __init__(self, source: Discourse, walk: Walk) -> None:
        self.source, self.since, self.until = source, walk.since, walk.until
        known = source.categories()
        self.names = {one["id"]: one["name"] for one in known}
        self.wanted = source.wanted(known) if source.category else set()
        self.day: dt.date | None = None
        self.number = 0  # of the page of that day where unread topics should begin
        self.held: dict[tuple[Any, Any], Row] = {}
        self.pinned: dict[Any, Any] = {}  # when those given were last written on
        whole = walk.mark("topics").get("whole")
        self.known = instant(whole) - _AGAIN if whole else None

    def page(self, start: dt.datetime | None, number: int | None) -> Page:
        """Topics from ``start`` on, oldest activity first, each with its posts."""
        day = start.date() if start else None
        if day != self.day:
            self.day, self.number = day, 0
        try:
            rows, number, more = self._rows(start, number)
        except TransportError as problem:
            if problem.status != 400 or number is not None or not self.number:
                raise
            self.number = 0
            rows, number, more = self._rows(start, None)
        self.number = number + 1 if more else number
        self.held = dict(list(self.held.items())[-_HELD:])
        # a slug that its filters cannot spell, such as one with an underscore, is passed over by Discourse
        rows = [row for row in rows if not self.wanted or row["at"] is None or row.get("category_id") in self.wanted]
        kept = [row for row in rows if start is None or row["at"] is None or row["at"] >= start]
        return Page(self.source.each(self._with_posts, kept), number + 1 if more else None)

    def _rows(self, start: dt.datetime | None, number: int | None) -> tuple[list[dict[str, Any]], int, bool]:
        """Rows with their times, the number of the last page they are from, and whether there are more."""
        if number is not None:
            return self._numbered(start, number)
        rows, top, more = self._numbered(start, self.number)
        while start and more and rows and _last(rows) < start:
            rows, top, more = self._numbered(start, top + 1)
        first = top
        while start and first and (not rows or _first(rows) >= start):
            first -= 1  # backwards: what is written on meanwhile leaves its place, and those behind it move forward
            rows = self._numbered(start, first)[0] + rows
        return rows, top, more

    def _numbered(self, start: dt.datetime | None, number: int) -> tuple[list[dict[str, Any]], int, bool]:
        listed = self.source.topics(start, "activity-asc", number)
        self.names |= {one["id"]: one["name"] for one in listed.get("categories") or ()}
        rows = [{**(row if isinstance(row, Mapping) else {}), "at": _when(row)} for row in listed["topics"]]
        pins = [row for row in rows if row.get("pinned") and row.get("pinned_globally")]
        rows = [row for row in rows if row not in pins]
        # what is pinned stands before all others, whenever it was written on: it takes the time of its place
        rows[:0] = [{**row, "at": start or _EPOCH} for row in pins if not number and self._unread(row)]
        return rows, number, bool(listed.get("more_topics_url"))

    def _unread(self, row: Row) -> bool:
        within = row["at"] and (self.since or _EPOCH) <= row["at"] < self.until
        return bool(within and self.pinned.get(row["id"]) != row["bumped_at"])

    def _with_posts(self, row: Row) -> Row:
        key = row.get("id"), row.get("bumped_at")
        if row["at"] is None or row["at"] >= self.until:
            return row
        if key not in self.held:
            self.held[key] = {**row, **self._posts(row["id"])}
        return {**self.held[key], "at": row["at"]}

    def _posts(self, topic: Any) -> dict[str, Any]:
        """All posts of a topic that are not yet known, with its first ones."""
        try:
            view = self.source.ask(f"/t/{topic}.json")
            posts = list(view["post_stream"]["posts"])
            there = {post["id"] for post in posts}
            rest = [one for one in view["post_stream"].get("stream") or () if one not in there]
            while rest:
                part, rest = rest[-_POSTS:], rest[:-_POSTS]
                more = self.source.ask(f"/t/{topic}/posts.json", {"post_ids[]": part})["post_stream"]["posts"]
                posts += more
                if self.known and any(instant(post["created_at"]) < self.known for post in more):
                    break
            return {"posts": posts, "view": view}
        except TransportError as problem:
            if problem.status in _GONE:  # deleted meanwhile
                return {"posts": [], "view": {}}
            raise
        except MALFORMED:
            return {"posts": None}  # said by `read`, of this topic alone

    def read(self, row: Row) -> Iterator[Item | Rejected]:
        """A topic and the posts on it; nothing of what is hidden, or written by the forum itself."""
        self.pinned[row["id"]] = row["bumped_at"]
        if row["posts"] is None:
            raise ValueError("its posts have another shape")
        posts = sorted({_number(post): post for post in row["posts"] if _number(post)}.values(), key=_number)
        first = next((post for post in posts if post["post_number"] == 1), None)
        listed = row.get("visible") is not False and row.get("archetype", "regular") == "regular"
        if not first or not listed or not _said(first):
            return
        yield self._topic(row, first, posts)
        said = [post for post in posts if post is not first]
        answer = functools.partial(self._answer, row["id"])
        yield from self.source.each_alone(answer, said, f"{self.source.origin} topics {row['id']}")

    def _answer(self, topic: Any, post: Row) -> Iterator[Item]:
        if _said(post) and not post.get("user_deleted") and instant(post["created_at"]) < self.until:
            where = f"{self.source.url.rstrip('/')}/t/{topic}/{post['post_number']}"
            kept = {**_kept(post), "topic_id": topic, "url": where}
            yield self.source.item(kept, where, post["id"], post["created_at"], _edited(post), parent=topic)

    def _topic(self, row: Row, first: Row, posts: Sequence[Row]) -> Item:
        where = f"{self.source.url.rstrip('/')}/t/{row['id']}"
        kept = picked(row, _TOPIC)
        kept |= {"url": where, "post": _kept(first), "category": self.names.get(row.get("category_id"))}
        kept["tags"] = list(names(row.get("tags")))
        answer = inside(row["view"], "accepted_answer", "post_number")
        kept["solved"] = bool(answer or row.get("has_accepted_answer"))
        for post in posts:
            if post.get("accepted_answer") or post["post_number"] == answer:
                kept["solved_at"] = post["created_at"]
            if row.get("closed") and str(post.get("action_code") or "").endswith("closed.enabled"):
                kept["closed_at"] = post["created_at"]
        return self.source.item(kept, where, row["id"], row["created_at"], row["bumped_at"])


def _state(topic: Mapping[str, Any]) -> str:
    if topic["post"].get("user_deleted"):
        return "deleted"
    return next((state for state in ("solved", "archived", "closed") if topic.get(state)), "open")


def _said(post: Row) -> bool:
    """Whether somebody says something there that everybody may read; the forum's own accounts have ids below 0."""
    if post.get("post_type", 1) not in _WORDS or post.get("action_code") or (post.get("user_id") or 0) < 0:
        return False
    return not post.get("hidden") and not post.get("deleted_at")


def _kept(post: Row) -> dict[str, Any]:
    """A post without what others said and without anybody's name but the author's."""
    kept = picked(post, _POST)
    own, *others = _OTHERS.split(post.get("cooked") or "")
    depth = 0
    for part in others:  # each begins inside of one more
        bits = part.split("</aside>", depth + 1)
        depth += 2 - len(bits)
        own += bits[-1] if not depth else ""
    return {**kept, "cooked": _MENTION.sub("@someone", own)}


def _edited(post: Row) -> dt.datetime:
    """When it was last edited: its first version keeps the time it was written, whatever else was done to it."""
    if (post.get("version") or 1) > 1 and post.get("updated_at"):
        return max(instant(post["created_at"]), instant(post["updated_at"]))
    return instant(post["created_at"])


def _when(topic: Any) -> dt.datetime | None:
    """When it was last written on; None for one that does not say so, and is told of where it is read."""
    try:
        return instant(topic["bumped_at"])
    except MALFORMED:
        return None


def _number(post: Any) -> int:
    """Its place in the topic; 0 for what is no post."""
    number = post.get("post_number") if isinstance(post, Mapping) else 0
    return number if isinstance(number, int) else 0


def _last(rows: Sequence[Row]) -> dt.datetime:
    return max((row["at"] for row in rows if row["at"]), default=_EPOCH)


def _first(rows: Sequence[Row]) -> dt.datetime:
    return min((row["at"] for row in rows if row["at"]), default=_EPOCH)
