"""E-mail in an mbox file, as every mail program and list archive exports it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.parser
import email.policy
import email.utils
import hashlib
import html.parser
import itertools
import mailbox
import re
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, ClassVar

from feedback_lib.errors import SourceError
from feedback_lib.plugins import register
from feedback_lib.records import Item, Rejected, Signal, real_time

# what the standard library raises for headers and bodies that break the rules
_BROKEN = (ValueError, LookupError, AttributeError, TypeError, AssertionError, RecursionError)
_SEPARATOR = re.compile(rb"From .*[0-9]{1,2}:[0-9]{2}.*[0-9]{4}|From .*[0-9]{4}.*[0-9]{1,2}:[0-9]{2}")


@register("sources", "mbox")
@dataclasses.dataclass(frozen=True)
class Mbox:
    """One mbox file; each message is a signal, replies carry the label of their thread."""

    path: str
    name: str | None = None

    personal_fields: ClassVar[tuple[str, ...]] = ("from", "from_name")
    plain_fields: ClassVar[tuple[str, ...]] = ("key", "thread", "date")

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
        heads: list[_Head] = []
        for number, keys in enumerate(_pieces(box), 1):
            where = f"{label}: message {number}"
            try:
                heads.append(_head(box, keys, where))
            except ValueError as error:
                yield Rejected(where, str(error))
            except RecursionError:
                yield Rejected(where, "has parts too deep in each other")
        threads = _threads(heads)
        seen: set[str] = set()
        for head in sorted(heads, key=lambda h: h.date):
            if head.key in seen or head.date >= until or (since is not None and head.date < since):
                continue
            seen.add(head.key)
            try:
                body = _body(_message(box, head.keys))
            except RecursionError:
                yield Rejected(head.where, "has parts too deep in each other")
                continue
            name, address = head.sender
            payload = {
                "key": head.key,
                "thread": threads[head.key],
                "date": head.date.isoformat(),
                "from": address.lower() or name,
                "from_name": name,
                "subject": head.subject,
                "body": body,
            }
            yield Item(payload, head.where, head.key, head.date, head.date)

    def check(self) -> str:
        """How large the file is; raises SourceError as `fetch` does."""
        next(self.fetch(None, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)), None)
        return f"{Path(self.path).expanduser().stat().st_size / 1e6:.3g} MB"

    def parse(self, payload: Mapping[str, Any]) -> Signal:
        """Turn one message into a signal; quoted text, the signature and what is forwarded stay out of the body.

        Raises:
            ValueError: the message has neither subject nor text.
        """
        if "key" not in payload:
            raise ValueError("is no message")
        subject, body = str(payload["subject"]), own_words(str(payload["body"]))
        if not subject and not body:
            raise ValueError("has neither subject nor text")
        date = dt.datetime.fromisoformat(payload["date"])
        return Signal(
            kind="mbox",
            origin=self.origin,
            native_id=str(payload["key"]),
            type="mail",
            title=subject,
            body=body,
            created_at=date,
            updated_at=date,
            author=str(payload["from"]) or None,
            labels=(f"thread {str(payload['thread'])[:12]}",),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Head:
    key: str
    parents: tuple[str, ...]  # keys of the messages this one answers, the oldest first
    date: dt.datetime
    sender: tuple[str, str]  # name, address
    subject: str
    where: str
    keys: tuple[str, ...]


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


def _message(box: mailbox.mbox, keys: tuple[str, ...], *, head_only: bool = False) -> EmailMessage:
    content = box.get_bytes(keys[0])
    parser = email.parser.BytesHeaderParser if head_only else email.parser.BytesParser
    if not head_only:
        content += b"".join(b"\n" + box.get_bytes(key, from_=True) for key in keys[1:])
        content = re.sub(rb"^>(>*From )", rb"\1", content, flags=re.MULTILINE)  # how mbox writes such a line
    message = parser(policy=email.policy.default).parsebytes(content)
    assert isinstance(message, EmailMessage)  # what that policy makes
    return message


def _head(box: mailbox.mbox, keys: tuple[str, ...], where: str) -> _Head:
    """Raises ValueError when nothing says when it was sent, or when there are no headers at all."""
    message = _message(box, keys, head_only=True)
    if not list(message.raw_items()):
        raise ValueError("has no headers")
    sender = email.utils.parseaddr(_header(message, "From"))
    subject = " ".join(_header(message, "Subject").split())
    told = _ids(_header(message, "Message-ID"))
    date = _sent(message)
    if told:
        key = told[0]
    else:
        digest = hashlib.sha256()
        for part in (_header(message, "From"), _header(message, "Date"), subject, _body(_message(box, keys))):
            digest.update(part.encode("utf-8", "replace") + b"\0")
        key = digest.hexdigest()
    parents = _ids(_header(message, "References")) + _ids(_header(message, "In-Reply-To"))
    return _Head(key, tuple(p for p in parents if p != key), date, sender, subject, where, keys)


def _header(message: EmailMessage, name: str) -> str:
    """A header's decoded text, as it stands in the file where the rules were broken; empty when there is none."""
    try:
        text = str(message.get(name, ""))
    except _BROKEN:
        text = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), "")
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def _ids(header: str) -> tuple[str, ...]:
    """Keys of the message ids in a header. An id often holds an address, so only its hash is kept."""
    ids = re.findall(r"<([^<>\s]{1,990})>", header) or header.split()[:1]
    return tuple(hashlib.sha256(i.encode("utf-8", "replace")).hexdigest() for i in ids)


def _sent(message: EmailMessage) -> dt.datetime:
    """The Date header, in UTC when it has no zone; else the time in the newest Received header."""
    for text in (_header(message, "Date"), _header(message, "Received").rpartition(";")[2]):
        try:
            at = email.utils.parsedate_to_datetime(text)
            return real_time(at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC))
        except (*_BROKEN, OverflowError):
            continue
    raise ValueError("has no date that can be read, in Date or in Received")


def _threads(heads: list[_Head]) -> dict[str, str]:
    """For each message the key of its thread's oldest known ancestor, also when its parents are not in the file."""
    parent: dict[str, str] = {}
    for head in heads:
        for older, newer in itertools.pairwise((*head.parents, head.key)):
            parent.setdefault(newer, older)
    roots: dict[str, str] = {}
    for head in heads:
        root, passed = head.key, {head.key}
        while (above := parent.get(root)) and above not in passed:
            passed.add(above)
            root = above
        roots[head.key] = root
    return roots


# The body


def _body(message: EmailMessage) -> str:
    """The text of a message, from HTML when it has no other; attachments are left out."""
    try:
        part = message.get_body(preferencelist=("plain", "html"))
    except _BROKEN:
        part = None
    if part is None:
        return ""
    assert isinstance(part, EmailMessage)
    text = _decoded(part)
    if part.get_content_type() == "text/html":
        text = _html_text(text)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()


def _decoded(part: EmailMessage) -> str:
    """The text of a part, whatever its charset claims: UTF-8 where it is, else as declared, else Windows-1252."""
    try:
        content = part.get_payload(decode=True)
    except _BROKEN:
        content = None
    if not isinstance(content, bytes):
        return ""
    try:
        declared = part.get_content_charset() or "utf-8"
    except _BROKEN:
        declared = "utf-8"
    honest = "utf-8" if not declared.startswith(("utf-16", "utf-32", "iso-2022", "utf-7", "hz")) else declared
    for charset in (honest, declared):
        try:
            return content.decode(charset)
        except (UnicodeError, LookupError):
            continue
    return content.decode("cp1252", "replace")


class _Text(html.parser.HTMLParser):
    """The words of an HTML mail, a line for each block, without what is quoted."""

    _BLOCKS = frozenset(("p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "ul", "ol", "table", "pre", "hr"))
    _HIDDEN = frozenset(("script", "style", "head", "title", "blockquote"))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._hidden: list[str] = []  # the open elements from the outermost hidden one on

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        quoted = tag == "div" and any(k == "class" and "gmail_quote" in (v or "") for k, v in attrs)
        if tag in self._HIDDEN or quoted or (self._hidden and tag == self._hidden[-1]):
            self._hidden.append(tag)
        if tag in self._BLOCKS:
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()
        if tag in self._BLOCKS:
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(re.sub(r"\s+", " ", data))


def _html_text(text: str) -> str:
    reader = _Text()
    try:
        reader.feed(text)
        reader.close()
    except _BROKEN:
        return re.sub(r"<[^>]*>", " ", text)
    lines = (" ".join(line.split()) for line in "".join(reader.words).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


_WROTE = re.compile(
    r"^(?:On|Am|Le|El|Op|Il|Em|Den|Dne)\b.{5,200}\b"
    r"(?:wrote|schrieb|écrit|escribió|schreef|ha scritto|escreveu|skrev)\b.{0,80}:\s*$",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"^\s*(?:-{2,}\s*(?:Original Message|Forwarded message|Urspr.ngliche Nachricht|Message d'origine|Mensaje original)"
    r"\s*-{2,}|_{20,}|Begin forwarded message:)\s*$",
    re.IGNORECASE,
)
_SENT_FROM = re.compile(
    r"^(?:Sent from my |Get Outlook for |Von meinem \w+ gesendet|Envoyé de mon |Enviado desde mi )", re.IGNORECASE
)


def own_words(text: str) -> str:
    """What the sender wrote: without quoted lines, the line that introduces them, the signature and forwarded mail.

    >>> own_words(chr(10).join(["Same here.", "", "On Mon, 2 Mar 2026, Sam wrote:", "> It is slow.", "-- ", "Jane"]))
    'Same here.'
    """
    lines = text.split("\n")
    kept: list[str] = []
    for i, line in enumerate(lines):
        if line.rstrip("\r") in ("-- ", "--") or _FORWARDED.match(line) or _outlook_head(lines[i : i + 5]):
            break
        if line.lstrip().startswith(">"):
            while kept and not kept[-1].strip():
                kept.pop()
            for taken in (1, 2):  # the introduction may be wrapped
                if len(kept) >= taken and _WROTE.match(" ".join(part.strip() for part in kept[-taken:])):
                    del kept[-taken:]
                    break
            kept.append("")
            continue
        kept.append(line.rstrip())
    while kept and (not kept[-1].strip() or _SENT_FROM.match(kept[-1]) or _WROTE.match(kept[-1])):
        kept.pop()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _outlook_head(lines: list[str]) -> bool:
    """Whether the head of a quoted mail begins here: From, then Sent or Date, To and Subject on the next lines."""
    if not re.match(r"^\*?(?:From|Von|De)\*?:", lines[0]):
        return False
    rest = "\n".join(lines[1:])
    return bool(re.search(r"^\*?(?:Sent|Date|Gesendet|Datum|Envoyé|Enviado)", rest, re.MULTILINE)) and bool(
        re.search(r"^\*?(?:Subject|Betreff|Objet|Asunto|To|An|À|Para)\*?\s?:", rest, re.MULTILINE)
    )
