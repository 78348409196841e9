"""Mail in the folders of an IMAP account, such as a support mailbox; nothing is marked as read."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from feedback_lib import config, mail
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.imap_client import PART, WHOLE, Account, Client, Connection, Failed, Renumbered, printable
from feedback_lib.plugins import register
from feedback_lib.records import Checkpoint, Item, Rejected, Reply, Signal
from feedback_lib.services import Found, instant
from feedback_lib.wire import cut

BATCH = 200  # messages between two checkpoints
_LAG = dt.timedelta(days=2)  # SINCE knows whole days, of the server's time zone


@register("sources", "imap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Imap(Account):
    """Messages in folders of one account; those of the ``team`` are replies to the first message of their thread.

    Options:
        folders: their names as a mail program shows them.
        team: addresses and domains of those who answer.
        start: the first day to read; everything when left out.
        name: what it is called instead of its host.
    """

    folders: Sequence[str] = ("INBOX",)
    team: Sequence[str] = ()
    start: str = ""
    name: str = ""

    kind: ClassVar[str]  # set by plugins.register
    personal_fields: ClassVar[tuple[str, ...]] = mail.PERSONAL_FIELDS
    plain_fields: ClassVar[tuple[str, ...]] = mail.PLAIN_FIELDS

    def __post_init__(self) -> None:
        if not self._folders or not all(printable(one) for one in self._folders):
            raise ConfigError(f"sources imap: folders = {self.folders!r}: expected names of folders")
        super().__post_init__()
        _ = self._first, self._team  # a wrong day or address is said now

    @property
    def origin(self) -> str:
        """The option ``name``; else the host."""
        return self.name or self.host

    @functools.cached_property
    def _first(self) -> dt.datetime | None:
        try:
            return config.parse_time(self.start) if self.start else None
        except ConfigError as problem:
            raise ConfigError(f"sources imap: start = {problem}") from None

    @functools.cached_property
    def _team(self) -> frozenset[str]:
        return mail.team_of(self.team, "sources imap")

    @property
    def _folders(self) -> list[str]:
        return [self.folders] if isinstance(self.folders, str) else list(self.folders)

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Found]:
        """Yield messages dated in ``[since, until)`` folder by folder, with a `Checkpoint` after each 200 messages.

        ``since`` None goes on after the last message of each folder that ``cursor`` speaks of, whatever its date; a
        folder whose messages were numbered anew is read again from two days before. Of copies the first counts.

        Raises:
            SourceError: the account or a folder could not be read; it says what is missing.
        """
        walk = _Walk(self, since, until, cursor or {})
        with contextlib.closing(Connection(self)) as account:
            try:
                for folder in self._folders:
                    yield from walk.folder(account, folder)
            except Failed as problem:
                raise SourceError("imap", self.origin, walk.told(str(problem))) from None

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one message into a signal, see `feedback_lib.mail.signal`."""
        return mail.signal(payload, "imap", self.origin)

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn one message of the team into a reply, see `feedback_lib.mail.reply`."""
        return mail.reply(payload, "imap", self.origin)

    def check(self) -> str:
        """Log in and say how many messages each folder has.

        Raises:
            SourceError, ConfigError: what is wrong, and what to do.
        """
        with contextlib.closing(Connection(self, attempts=1)) as account:
            try:
                counts = [(folder, account.ask(folder, lambda client: client.box.count)) for folder in self._folders]
            except Failed as problem:
                raise SourceError("imap", self.origin, str(problem)) from None
        return "; ".join(f"{folder}: {count:,} messages" for folder, count in counts) + ", read only"


class _Walk:
    """One reading of an account: where each folder stands, and which messages were seen."""

    def __init__(self, source: Imap, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any]) -> None:
        self._source, self._until = source, until
        self._since, self._from = since, since or source._first
        self._cursor: dict[str, Any] = dict(cursor)  # by folder: validity, uid, at
        marks = [instant(mark["at"]) for mark in self._cursor.values() if mark.get("at")]
        self._newest = max(marks, default=None)
        self._seen: set[int] = set()
        self._folder = ""

    def told(self, problem: str) -> str:
        """A problem with what is missing because of it."""
        at = self._mark().get("at")
        missing = self._folder + (f" from {at[:16].replace('T', ' ')} UTC on" if at else "")
        rest = self._source._folders[self._source._folders.index(self._folder) + 1 :] if self._folder else []
        return f"{problem}. Not read: {', '.join((missing or 'anything', *rest))}; the next run goes on there"

    def folder(self, account: Connection, name: str) -> Iterator[Found]:
        """Yield what one folder has."""
        self._folder = name
        for _ in range(3):
            try:
                yield from self._numbered(account)
            except Renumbered:
                continue
            return
        raise Failed(f"{account.place}: folder {name!r} changes its UIDVALIDITY all the time")

    def _numbered(self, account: Connection) -> Iterator[Found]:
        """Yield what it has, as long as its messages keep their numbers. Raises Renumbered."""
        box = account.ask(self._folder, lambda client: client.box)
        mark = self._mark()
        same = mark.get("validity") == box.validity
        last = mark["uid"] if same else 0
        begin = instant(mark["at"]) if mark.get("at") and not same else self._from
        uids: list[int] = []
        if box.following is None or box.following > last + 1:
            day = begin and begin - _LAG
            uids = account.ask(self._folder, lambda client: client.numbers(last + 1, day), box.validity)
        held = False
        for at in range(0, len(uids), BATCH):
            part = uids[at : at + BATCH]
            batch = account.ask(self._folder, functools.partial(self._batch, part), box.validity)
            yield from self._new(batch)
            if not held:
                held = batch.held is not None
                last = (batch.held or part[-1] + 1) - 1
                yield self._checkpoint(box.validity, last, batch.newest)
        if not held:
            yield self._checkpoint(box.validity, max(last, (box.following or 1) - 1), None)

    def _mark(self) -> Mapping[str, Any]:
        return self._cursor.get(self._folder) or {}

    def _checkpoint(self, validity: int, uid: int, at: dt.datetime | None) -> Checkpoint:
        before = self._mark().get("at")
        newest = max((t for t in (at, before and instant(before)) if t), default=None)
        self._newest = max((t for t in (newest, self._newest) if t), default=None)
        mark = {"validity": validity, "uid": uid, "at": newest and newest.isoformat()}
        self._cursor = {**self._cursor, self._folder: mark}
        return Checkpoint(self._cursor, self._newest)

    def _new(self, batch: _Batch) -> Iterator[Found]:
        yield from batch.rejected
        for item in batch.items:
            short = int(item.native_id[:16], 16)
            if short not in self._seen:
                self._seen.add(short)
                yield item

    def _batch(self, uids: Sequence[int], client: Client) -> _Batch:
        """Read messages; those dated ``until`` or later are left for a later run, which ``held`` is to remind of."""
        batch = _Batch([], [], None, None)
        heads: list[mail.Head] = []
        words: dict[str, str] = {}
        for uid, arrived, content in client.messages(uids):
            where = f"{self._folder}: uid {uid}"
            try:
                head, text = self._read(client, uid, arrived, content, where)
            except (ValueError, LookupError, AttributeError, TypeError, AssertionError) as problem:
                reason = (
                    str(problem) if type(problem) is ValueError else f"was not understood ({type(problem).__name__})"
                )
                batch.rejected.append(Rejected(where, reason))
                continue
            except RecursionError:
                batch.rejected.append(Rejected(where, mail.TOO_DEEP))
                continue
            if head.date >= self._until:
                batch.held = min(uid, batch.held or uid)
                continue
            if batch.held is None:
                stands = min(arrived or head.date, self._until)
                batch.newest = max(stands, batch.newest or stands)
            if not (self._from and head.date < self._from):
                heads.append(head)
                words[head.where] = text
        threads = mail.threads(heads)
        for head in sorted(heads, key=lambda h: h.date):
            if item := mail.item(head, threads[head.key], words[head.where], self._source._team):
                said = {name: cut(text.encode("utf-8", "replace")).decode() for name, text in item.payload.items()}
                batch.items.append(dataclasses.replace(item, payload=said))
        return batch

    def _read(
        self, client: Client, uid: int, arrived: dt.datetime | None, content: bytes | None, where: str
    ) -> tuple[mail.Head, str]:
        """Raises what the standard library raises for what breaks the rules, with words where it is ValueError."""
        if content is None:
            raise ValueError("was refused by the server")
        message = mail.parsed(content)
        text = mail.text(message)
        if not text and len(content) >= PART:
            message = mail.parsed(client.beginning(uid, WHOLE) or content)
            text = mail.text(message)
        head = mail.head(message, where, lambda: text, arrived)
        if arrived and arrived < self._until <= head.date:
            head = dataclasses.replace(head, date=arrived)  # the sender's clock is wrong
        return head, text


@dataclasses.dataclass(slots=True)
class _Batch:
    items: list[Item]
    rejected: list[Rejected]
    newest: dt.datetime | None
    held: int | None  # the first message that is not to be read yet
