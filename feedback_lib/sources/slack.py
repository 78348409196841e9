"""Slack: the messages of a channel, and what was answered in their threads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from feedback_lib.errors import ConfigError, TransportError
from feedback_lib.plugins import register
from feedback_lib.privacy import redact
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.services import MALFORMED, Found, Page, Row, Service, Walk, instant, picked

_SIZE = 200  # messages an answer may hold: what Slack recommends
_LAUNCH = dt.datetime(2013, 8, 1, tzinfo=dt.UTC)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SPAN = dt.timedelta(days=30)
_WIDEST, _NARROWEST = dt.timedelta(days=3650), dt.timedelta(hours=1)
_READING = dt.timedelta(hours=1)  # how long a run may take: threads went on meanwhile
_SAID = (None, "file_share", "me_message", "thread_broadcast", "bot_message", "tombstone")
_FIELDS = ("type", "subtype", "ts", "thread_ts", "user", "bot_id", "reply_count", "reply_users_count", "latest_reply")
_MENTION = re.compile(r"<@[UW][A-Z0-9]*(?:\|[^<>]*)?>")
_QUERY = re.compile(r"(<https?://[^<>|?#\s]*)[?#][^<>|]*\|")
_LINK = re.compile(r"<([^<>|\s][^<>|]*)(?:\|([^<>]*))?>")
_STATUS = {"invalid_cursor": 400, "thread_not_found": 404}  # what other services answer; Slack's is 200
_TOKEN = "is the token the one that the app's page shows?"
_INVITE = "invite the app: write /invite @its-name in the channel"


@register("sources", "slack")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Slack(Service):
    """Messages of one channel and the threads below them; joins, other events and robots are left out.

    Options:
        channel: its id, such as ``C012AB3CD``, or its name.
        team: ids of the members who answer, such as ``U012AB3CD``.
        bots: ids of bots whose posts are feedback, such as those of a form; ``B012AB3CD``.
        url: the API.
    """

    channel: str
    team: Sequence[str] = ()
    bots: Sequence[str] = ()
    url: str = "https://slack.com/api"
    token_env: str = "SLACK_TOKEN"

    lag: ClassVar[dt.timedelta] = dt.timedelta(days=14)  # an edit or a new answer moves no message
    per_minute: ClassVar[float | None] = 50
    held: ClassVar[int] = 3000  # messages kept in memory
    personal_fields: ClassVar[tuple[str, ...]] = ("user",)
    plain_fields: ClassVar[tuple[str, ...]] = (
        "type", "subtype", "ts", "thread_ts", "bot_id", "latest_reply", "edited.ts", "permalink",
    )  # fmt: skip
    hints: ClassVar[Mapping[Any, str]] = {  # by the name of an error
        "invalid_auth": _TOKEN, "not_authed": _TOKEN, "token_expired": _TOKEN, "token_revoked": _TOKEN,
        "account_inactive": "the account of the token is gone, so make a new one", "not_in_channel": _INVITE,
        "channel_not_found": f"is its id right? A private channel is found only by an app in it; {_INVITE}",
        "ratelimited": "it was asked too often, try again in some minutes",
    }  # fmt: skip

    def __post_init__(self) -> None:
        if not self.channel.strip("# "):
            raise ConfigError("sources slack: channel is empty; write its id or its name")
        for option in ("team", "bots"):
            given = getattr(self, option)
            if isinstance(given, str) or not all(isinstance(one, str) for one in given):
                raise self.wrong(option, "write a list of ids")
        super().__post_init__()

    @property
    def origin(self) -> str:
        """The option ``name``; else the channel."""
        return self.name or self.channel.strip("# ")

    def streams(self, walk: Walk) -> Iterator[Found]:
        """The messages by the time they were posted; those of the last 14 days each time, for edits and new answers."""
        walk.begin("messages")
        reader = _Reader(self, walk)
        yield from walk.pages("messages", reader.window, reader.read, at=_posted, key=lambda row: row["ts"])
        if walk.newest:
            yield walk.checkpoint("messages", None, whole=walk.newest.isoformat())

    @functools.cached_property
    def id(self) -> str:
        """The channel's id, looked up when its name was given."""
        given = self.channel.strip("# ")
        if re.fullmatch(r"[CGD][A-Z0-9]{6,}", given):
            return given
        asked = {"types": "public_channel,private_channel", "limit": "1000"}
        for answer in self.pages("conversations.list", asked):
            for one in answer["channels"]:
                if one["name"] == given.lower():
                    return str(one["id"])
        raise TransportError(self.kind, f"no channel #{given} that the app can see; {_INVITE}")

    @functools.cached_property
    def web(self) -> str:
        """Where the workspace is read by people."""
        return str(self.call("auth.test", {})["url"]).rstrip("/")

    def call(self, method: str, params: Mapping[str, str]) -> dict[str, Any]:
        """One answer. Raises TransportError with the name of the error as its body, also for one of status 200."""
        answer = self.client.ask(f"/{method}", params).json()
        if answer.get("ok"):
            return dict(answer)
        error, needed = (redact(str(answer.get(name) or ""))[:100] for name in ("error", "needed"))
        scope = f"; give the app the scope {needed}" if needed else ""
        words, status = f"{method} says {error or 'no reason'}{scope}", _STATUS.get(error, 200)
        raise TransportError(self.kind, words, status=status, body=error.encode())

    def hint(self, problem: TransportError) -> str:
        """By the error's name."""
        return self.hints.get(problem.body.decode(), "")

    def pages(self, method: str, params: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """All answers of a method, by its cursor."""
        asked, seen = dict(params), {""}
        while True:
            answer = self.call(method, asked)
            if _next(answer) and not any(isinstance(rows, list) and rows for rows in answer.values()):
                answer = self.call(method, asked)  # empty in the middle: asked once more
            yield answer
            if not (cursor := _next(answer)):
                return
            if cursor in seen:
                raise TransportError(self.kind, f"{method} sent the same page twice", status=400)
            seen.add(cursor)
            asked["cursor"] = cursor

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn a message into a signal."""
        if "ts" not in payload:
            raise ValueError("is no message")
        return self.signal(
            payload["ts"],
            "ticket",
            title="",
            body=plain(payload["text"]),
            created_at=_time(payload["ts"]),
            updated_at=_changed(payload),
            url=payload.get("permalink"),
            author=payload.get("user") or None,
            state="deleted" if payload.get("subtype") == "tombstone" else None,
            reactions=sum(int(one.get("count") or 0) for one in payload.get("reactions") or ()),
            thread_count=int(payload.get("reply_count") or 0),
        )

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn an answer in a thread into a reply; ``team`` was told by its author's id."""
        return self.reply_to(
            payload["thread_ts"],
            payload["ts"],
            body=plain(payload["text"]),
            created_at=_time(payload["ts"]),
            updated_at=_changed(payload),
            author=payload.get("user"),
            team=payload.get("team"),
        )

    def look(self) -> str:
        """When the last message was posted."""
        found = self.call("conversations.history", {"channel": self.id, "limit": "1"})["messages"]
        last = f"last message of {_time(found[0]['ts']):%Y-%m-%d %H:%M} UTC" if found else "no messages"
        return f"{self.channel} of {self.web.removeprefix('https://')}: {last}"


class _Reader:
    """One reading of a channel: Slack lists the newest first, so windows of time are read whole, the oldest first."""

    def __init__(self, source: Slack, walk: Walk) -> None:
        self.source, self.until, self.span = source, walk.until, _SPAN
        whole = walk.mark("messages").get("whole")
        self.known = instant(whole) - _READING if whole else None  # answers before it are known

    def window(self, start: dt.datetime | None, end: dt.datetime | None) -> Page:
        """The messages from ``start`` to ``end``, the oldest first, each with its new answers."""
        begin = start or _LAUNCH
        end = min(end or begin + self.span, self.until)
        while (rows := self._history(start, end)) is None:
            self.span = end - begin
            end = begin + self.span / 8
        self.span = max(end - begin, _NARROWEST)
        if len(rows) < self.source.held / 8:
            self.span = min(self.span * 4, _WIDEST)
        rows.sort(key=lambda row: _order(row) or begin)
        further = None if end >= self.until else end + self.span
        return Page(self.source.detailed(rows, self._goes_on, self._with_answers), further)

    def _history(self, start: dt.datetime | None, end: dt.datetime) -> list[Row] | None:
        """All messages of a window; None when they are too many to hold."""
        asked = {"channel": self.source.id, "limit": str(_SIZE), "latest": _ts(end), "inclusive": "true"}
        asked["oldest"] = _ts(start) if start else "0"
        narrow = end - (start or _LAUNCH) <= _NARROWEST
        again = True
        while True:
            found: dict[str, Row] = {}
            try:
                for answer in self.source.pages("conversations.history", asked):
                    rows = [row for row in answer["messages"] if (start or _EPOCH) <= (_order(row) or end) <= end]
                    if again and len(rows) < len(answer["messages"]):
                        raise TransportError(self.source.kind, "the answer is one to another request", status=400)
                    found.update((repr(_order(row) or row), row) for row in rows)
                    if len(found) > self.source.held and not narrow:
                        return None
                return list(found.values())
            except TransportError as problem:
                if problem.status != 400 or not again:
                    raise
                again = False  # its cursor is no more, or another window came

    def _goes_on(self, row: Row) -> bool:
        """Whether it has answers that are not known yet."""
        if not row.get("reply_count") or row.get("thread_ts") != row["ts"]:
            return False
        latest = _order({"ts": row.get("latest_reply")})
        return not (self.known and latest and latest < self.known)

    def _with_answers(self, row: Row) -> Row:
        asked = {"channel": self.source.id, "ts": row["ts"], "limit": str(_SIZE)}
        asked["oldest"] = _ts(self.known) if self.known else "0"
        pages = self.source.pages("conversations.replies", asked)
        return {**row, "answers": [one for page in pages for one in page["messages"]]}

    def read(self, row: Row) -> Iterator[Item | Rejected]:
        """A message and its answers; nothing of events, robots, and what has no words."""
        main = row.get("thread_ts") in (None, row["ts"])  # else it is an answer that was sent to the channel too
        if not main or not self._said(row):
            return
        yield self._item(row)
        where = f"{self.source.origin} messages {row['ts']}"
        answer = functools.partial(self._answer, row["ts"])
        yield from self.source.each_alone(answer, row.get("answers") or (), where)

    def _answer(self, thread: str, row: Row) -> Iterator[Item]:
        if row["ts"] != thread and self._said(row) and _posted(row) < self.until:
            yield self._item({**row, "thread_ts": thread}, parent=thread)

    def _said(self, row: Row) -> bool:
        if row.get("type") != "message" or row.get("subtype") not in _SAID or not _words(row):
            return False
        if row.get("subtype") == "tombstone":
            return True
        robot = row.get("bot_id") or row.get("subtype") == "bot_message" or row.get("user") == "USLACKBOT"
        return not robot or row.get("bot_id") in self.source.bots

    def _item(self, row: Row, parent: str | None = None) -> Item:
        at = row["ts"]
        kept = picked(row, _FIELDS)
        kept["text"] = _QUERY.sub(
            r"\1|", _MENTION.sub("@someone", _words(row))
        )  # or redaction would take the label too
        if row.get("edited"):
            kept["edited"] = {"ts": row["edited"]["ts"]}
        if row.get("reactions"):
            kept["reactions"] = [picked(one, ("name", "count")) for one in row["reactions"]]
        if row.get("subtype") == "tombstone":
            kept.pop("user", None)
        where = f"{self.source.web}/archives/{self.source.id}/p{at.replace('.', '')}"
        if parent:
            where += f"?thread_ts={parent}&cid={self.source.id}"
            kept["team"] = row.get("user") in self.source.team if self.source.team else None
        kept["permalink"] = where
        return self.source.item(kept, where, at, _time(at), _changed(kept), parent)


def plain(text: str) -> str:
    """The words of a text in Slack's mark-up: links keep their label, people and groups are not named.

    >>> plain("<@U012AB3CD> see <https://example.org/a|the page> in <#C012AB3CD|help> &amp; <!here>")
    '@someone see the page in #help & @here'
    """
    return html.unescape(_LINK.sub(_shown, text))


def _shown(found: re.Match[str]) -> str:
    target, label = found[1], found[2]
    if target.startswith("@"):
        return "@someone"
    if target.startswith("#"):
        return f"#{label or 'channel'}"
    if target.startswith("!subteam"):
        return "@group"
    if target.startswith("!"):
        return label or "@" + target[1:].partition("^")[0]
    return label or target


def _words(row: Row) -> str:
    """What a message says; a bot may say it in sections or attachments only."""
    if text := str(row.get("text") or "").strip():
        return text
    parts: list[Any] = []
    for block in row.get("blocks") or ():
        parts += [block.get("text"), *(block.get("fields") or ())]
    words = [part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str)]
    for one in row.get("attachments") or ():
        words += [one[name] for name in ("pretext", "title", "text") if one.get(name)] or [one.get("fallback") or ""]
    return "\n".join(words).strip()


def _next(answer: Mapping[str, Any]) -> str:
    return str((answer.get("response_metadata") or {}).get("next_cursor") or "")


def _time(ts: Any) -> dt.datetime:
    """Exactly; as a float it would lose the last digit, which tells messages apart."""
    seconds, _, micros = ts.partition(".")
    return instant(int(seconds)) + dt.timedelta(microseconds=int((micros + "000000")[:6]))


def _posted(row: Row) -> dt.datetime:
    return _time(row["ts"])


def _ts(at: dt.datetime) -> str:
    return f"{int(at.timestamp())}.{at.microsecond:06}"


def _changed(row: Mapping[str, Any]) -> dt.datetime:
    edited = (row.get("edited") or {}).get("ts")
    return max(_time(row["ts"]), _time(edited)) if edited else _time(row["ts"])


def _order(row: Any) -> dt.datetime | None:
    try:
        return _time(row["ts"])
    except MALFORMED:
        return None
