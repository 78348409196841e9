"""E-mail in an mbox file, as every mail program and list archive exports it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import mailbox
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from feedback_lib import mail
from feedback_lib.errors import SourceError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Reply, Signal

_SEPARATOR = re.compile(rb"From .*[0-9]{1,2}:[0-9]{2}.*[0-9]{4}|From .*[0-9]{4}.*[0-9]{1,2}:[0-9]{2}")


@register("sources", "mbox")
@dataclasses.dataclass(frozen=True)
class Mbox:
    """One mbox file; each message is a signal, replies carry the label of their thread.

    Options:
        path: the file.
        name: what it is called instead of its file.
        team: addresses and domains of those who answer; their mails are replies to the first of their thread.
    """

    path: str
    name: str | None = None
    team: Sequence[str] = ()

    personal_fields: ClassVar[tuple[str, ...]] = mail.PERSONAL_FIELDS
    plain_fields: ClassVar[tuple[str, ...]] = mail.PLAIN_FIELDS

    def __post_init__(self) -> None:
        _ = self._team  # a wrong entry is said now

    @functools.cached_property
    def _team(self) -> frozenset[str]:
        return mail.team_of(self.team, "sources mbox")

    @property
    def origin(self) -> str:
        """The option ``name``; else the file's name without suffix."""
        return self.name or Path(self.path).stem

    def fetch(
        self, since: dt.datetime | None, until: dt.datetime, cursor: Mapping[str, Any] | None = None
    ) -> Iterator[Item | Rejected]:
        """Yield messages dated in ``[since, until)``, oldest first; of copies with one Message-ID, the first.

        The headers are read first and the bodies one by one, so the file may be larger than memory.

        Raises:
            SourceError: there is no such file, or it is no mbox.
        """
        path = Path(self.path).expanduser()
        try:
            with path.open("rb") as file:
                start = file.readline()
        except OSError as error:
            raise SourceError(
                "mbox", self.origin, f"{self.path} cannot be read ({error.strerror}); correct the option 'path'"
            ) from error
        if start and not start.startswith(b"From "):
            raise SourceError(
                "mbox", self.origin, f"{path.name} is no mbox: its first line does not begin with 'From '"
            )
        box = mailbox.mbox(path, create=False)
        try:
            yield from self._messages(box, path.name, since, until)
        finally:
            box.close()

    def _messages(
        self, box: mailbox.mbox, label: str, since: dt.datetime | None, until: dt.datetime
    ) -> Iterator[Item | Rejected]:
        heads: list[mail.Head] = []
        pieces: dict[str, tuple[str, ...]] = {}  # by where the message stands
        for number, keys in enumerate(_pieces(box), 1):
            where = f"{label}: message {number}"
            pieces[where] = keys
            try:
                message = mail.parsed(box.get_bytes(keys[0]), head_only=True)
                heads.append(mail.head(message, where, lambda keys=keys: _text(box, keys)))  # type: ignore[misc]
            except ValueError as error:
                yield Rejected(where, str(error))
            except RecursionError:
                yield Rejected(where, mail.TOO_DEEP)
        threads = mail.threads(heads)
        seen: set[str] = set()
        for head in sorted(heads, key=lambda h: h.date):
            if head.key in seen or head.date >= until or (since is not None and head.date < since):
                continue
            seen.add(head.key)
            try:
                item = mail.item(head, threads[head.key], _text(box, pieces[head.where]), self._team)
            except RecursionError:
                yield Rejected(head.where, mail.TOO_DEEP)
                continue
            if item:
                yield item

    def check(self) -> str:
        """How large the file is; raises SourceError as `fetch` does."""
        next(self.fetch(None, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)), None)
        return f"{Path(self.path).expanduser().stat().st_size / 1e6:.3g} MB"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one message into a signal, see `feedback_lib.mail.signal`."""
        return mail.signal(payload, "mbox", self.origin)

    def reply(self, payload: Mapping[str, Any]) -> Reply:
        """Turn one message of the team into a reply, see `feedback_lib.mail.reply`."""
        return mail.reply(payload, "mbox", self.origin)


def _pieces(box: mailbox.mbox) -> Iterator[tuple[str, ...]]:
    """The parts of each message: a body line that begins with "From " and was not escaped splits it for mailbox."""
    together: list[str] = []
    for key in box.iterkeys():
        with box.get_file(key, from_=True) as file:
            line = file.readline()
        if together and not _SEPARATOR.match(line):
            together.append(key)
            continue
        if together:
            yield tuple(together)
        together = [key]
    if together:
        yield tuple(together)


def _text(box: mailbox.mbox, keys: tuple[str, ...]) -> str:
    content = b"".join((box.get_bytes(keys[0]), *(b"\n" + box.get_bytes(key, from_=True) for key in keys[1:])))
    content = re.sub(rb"^>(>*From )", rb"\1", content, flags=re.MULTILINE)  # how mbox writes such a line
    return mail.text(mail.parsed(content))
