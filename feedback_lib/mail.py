"""What a mail says, wherever it was kept: its id, date, thread and sender, and the words its sender wrote."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.parser
import email.policy
import email.utils
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.message import EmailMessage
from typing import Any

from feedback_lib.errors import ConfigError
from feedback_lib.markup import html_text
from feedback_lib.records import Item, Reply, Signal, real_time

PERSONAL_FIELDS = ("from", "from_name")  # of the payload that `item` makes
PLAIN_FIELDS = ("key", "thread", "date")
_LONGEST = 16_384  # characters of a header; the references of a thread of 250 messages
_MULTIPART = re.compile(rb"^content-type:\s*+multipart/", re.IGNORECASE | re.MULTILINE)
_MOST = 500  # of these in one message
TOO_DEEP = "has parts too deep in each other"
# what the standard library raises for headers and bodies that break the rules
_BROKEN = (ValueError, LookupError, AttributeError, TypeError, AssertionError, RecursionError)


class _Policy(email.policy.EmailPolicy):
    """The standard library's, without what only hostile headers have: reading a long one takes it minutes."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[: _LONGEST if name.lower() == "references" else _LONGEST // 4]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What the headers of a message say."""

    key: str  # the hash of its Message-ID; without one, of sender, date, subject and words
    parents: tuple[str, ...]  # keys of the messages this one answers, the oldest first
    date: dt.datetime
    sender: tuple[str, str]  # name, address
    subject: str
    where: str


def parsed(content: bytes, *, head_only: bool = False) -> EmailMessage:
    """A message as the standard library understands it.

    Raises:
        RecursionError: it has parts too deep in each other, or hundreds that could be.
    """
    if not head_only and len(_MULTIPART.findall(content)) > _MOST:
        raise RecursionError(TOO_DEEP)
    parser = email.parser.BytesHeaderParser if head_only else email.parser.BytesParser
    message = parser(policy=_Policy()).parsebytes(content)
    assert isinstance(message, EmailMessage)  # what that policy makes
    return message


def head(message: EmailMessage, where: str, words: Callable[[], str], arrived: dt.datetime | None = None) -> Head:
    """Read the headers of a message.

    Args:
        message: at least its headers.
        where: where it stands.
        words: gives its text, asked for only when it has no Message-ID.
        arrived: its date when neither Date nor Received tell one.

    Raises:
        ValueError: nothing says when it was sent, or there are no headers at all.
    """
    if not list(message.raw_items()):
        raise ValueError("has no headers")
    sender = email.utils.parseaddr(_header(message, "From"))
    subject = " ".join(_header(message, "Subject").split())
    told = _ids(_header(message, "Message-ID"))
    date = _sent(message) or arrived
    if date is None:
        raise ValueError("has no date that can be read, in Date or in Received")
    if told:
        key = told[0]
    else:
        digest = hashlib.sha256()
        for part in (_header(message, "From"), _header(message, "Date"), subject, words()):
            digest.update(part.encode("utf-8", "replace") + b"\0")
        key = digest.hexdigest()
    parents = _ids(_header(message, "References")) + _ids(_header(message, "In-Reply-To"))
    return Head(key, tuple(p for p in parents if p != key), date, sender, subject, where)


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


def _sent(message: EmailMessage) -> dt.datetime | None:
    """The Date header, in UTC when it has no zone; else the time in the newest Received header."""
    for text in (_header(message, "Date"), _header(message, "Received").rpartition(";")[2]):
        try:
            at = email.utils.parsedate_to_datetime(text)
            return real_time(at.replace(tzinfo=dt.UTC) if at.tzinfo is None else at.astimezone(dt.UTC))
        except (*_BROKEN, OverflowError):
            continue
    return None


def threads(heads: Iterable[Head]) -> dict[str, str]:
    """For each message the key of its thread's oldest known ancestor, also when its parents are not in the given."""
    heads = list(heads)
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


# From a message to a signal


def team_of(options: Sequence[str], place: str) -> frozenset[str]:
    """The addresses and domains of those who answer, as given in an option ``team``.

    Raises:
        ConfigError: an entry is neither.
    """
    given = [options] if isinstance(options, str) else options
    for entry in given:
        if not isinstance(entry, str) or not re.fullmatch(r"[^@\s]*@?[^@\s]+\.[^@\s]+", entry):
            raise ConfigError(f"{place}: team = {entry!r}: expected an address or a domain, such as example.org")
    return frozenset(entry.lower().removeprefix("@") for entry in given)


def item(head: Head, thread: str, words: str, team: frozenset[str]) -> Item | None:
    """The item of a message: a signal, or by a member of the ``team`` a reply to what began its thread.

    None for a message of the team that answers nothing.
    """
    name, address = head.sender
    mail = address.lower()
    parent = thread if mail in team or mail.rpartition("@")[2] in team else None
    if parent == head.key:
        return None
    payload = {
        "key": head.key,
        "thread": thread,
        "date": head.date.isoformat(),
        "from": mail or name,
        "from_name": name,
        "subject": head.subject,
        "body": words,
    }
    return Item(payload, head.where, head.key, head.date, head.date, parent)


def signal(payload: Mapping[str, Any], kind: str, origin: str) -> Signal:
    """Turn one message into a signal; quoted text, the signature and what is forwarded stay out of the body.

    Raises:
        ValueError: it has neither subject nor text.
    """
    subject, body, date = _told(payload)
    return Signal(
        kind=kind,
        origin=origin,
        native_id=str(payload["key"]),
        type="mail",
        title=subject,
        body=body,
        created_at=date,
        updated_at=date,
        author=str(payload["from"]) or None,
        labels=(f"thread {str(payload['thread'])[:12]}",),
    )


def reply(payload: Mapping[str, Any], kind: str, origin: str) -> Reply:
    """Turn one message of the team into a reply to the first message of its thread; raises as `signal`."""
    subject, body, date = _told(payload)
    return Reply(
        kind=kind,
        origin=origin,
        native_id=str(payload["key"]),
        parent=str(payload["thread"]),
        body=body or subject,
        created_at=date,
        updated_at=date,
        author=str(payload["from"]) or None,
        team=True,
    )


def _told(payload: Mapping[str, Any]) -> tuple[str, str, dt.datetime]:
    if "key" not in payload:
        raise ValueError("is no message")
    subject, body = str(payload["subject"]), own_words(str(payload["body"]))
    if not subject and not body:
        raise ValueError("has neither subject nor text")
    return subject, body, dt.datetime.fromisoformat(payload["date"])


# The body


def text(message: EmailMessage) -> str:
    """The text of a message, from HTML when it has no other; attachments are left out."""
    try:
        part = message.get_body(preferencelist=("plain", "html"))
    except _BROKEN:
        part = None
    if part is None:
        return ""
    assert isinstance(part, EmailMessage)
    words = _decoded(part)
    if part.get_content_type() == "text/html":
        words = html_text(words, quotes=False)
    return words.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()


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
