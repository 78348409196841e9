"""An account on an IMAP server: how to reach it, connections that are tried again, folders and messages; only read."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import email.utils
import functools
import imaplib
import io
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import stamina

from feedback_lib.errors import ConfigError, FeedbackError, nearest
from feedback_lib.transport import secret

T = TypeVar("T")
PART = 256 * 1024  # bytes of a message that are asked for: its text stands before what is attached
WHOLE = 5 * 2**20  # bytes of one whose text does not
_TOGETHER = 4 * 2**20  # bytes asked for at once
_LINE = 32 * 2**20  # a search that finds a million messages answers in one line of 8 MB
_PASSES = frozenset(("UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG", "THROTTLED", "OVERQUOTA"))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Account:
    """How to reach an account.

    Options:
        host: the server.
        port: where it answers.
        user: who logs in.
        user_env: environment variable, or entry of the system's keyring, that holds who logs in.
        password_env: environment variable, or entry of the system's keyring, that holds the password.
        token_env: the same with an OAuth access token, instead of a password.
        tls: ``tls``, ``starttls``, or towards this machine ``none``.
        ca: file of certificates to trust instead of the system's.
        timeout_s: seconds one answer may keep us waiting; all of it may take ten times that.
    """

    host: str
    port: int = 993
    user: str = ""
    user_env: str = ""
    password_env: str = ""
    token_env: str = ""
    tls: str = "tls"
    ca: str = ""
    timeout_s: float = 30

    def __post_init__(self) -> None:
        for option, value, right, words in (
            ("host", self.host, printable(self.host), "the name of a server"),
            ("port", self.port, type(self.port) is int and 0 < self.port < 65536, "a number such as 993"),
            ("tls", self.tls, self.tls in ("tls", "starttls", "none"), "tls, starttls or none"),
            ("timeout_s", self.timeout_s, _seconds(self.timeout_s), "seconds, more than 0"),
        ):
            if not right:
                raise ConfigError(f"sources imap: {option} = {value!r}: expected {words}")
        if self.tls == "none" and not _is_here(self.host):
            raise ConfigError(f"sources imap: tls = 'none' would send the password to {self.host} as plain text")
        if bool(self.user) == bool(self.user_env) or bool(self.password_env) == bool(self.token_env):
            raise ConfigError("sources imap: give user or user_env, and password_env or token_env")

    @functools.cached_property
    def trusted(self) -> ssl.SSLContext:
        """What certificates are checked by. Raises ConfigError when ``ca`` holds none."""
        try:
            return ssl.create_default_context(cafile=self.ca or None)
        except (OSError, ssl.SSLError):
            raise ConfigError(f"sources imap: ca = {self.ca!r} is no file of certificates (PEM)") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """A folder as it was when it was opened."""

    validity: int
    following: int | None  # the number that the next message will have
    count: int


class Failed(FeedbackError):  # a message on its way to a SourceError
    """The account cannot be read."""


class MayPass(Failed):
    """Another try may not meet it."""


class Renumbered(Failed):
    """The folder's numbers stand for other messages than before."""


class Connection:
    """The connection to an account: a new one after each that broke."""

    def __init__(self, account: Account, attempts: int = 5) -> None:
        self._account, self._attempts = account, attempts
        self.place = f"{account.host}:{account.port}"
        self._client: Client | None = None

    def ask(self, folder: str, work: Callable[[Client], T], validity: int | None = None) -> T:
        """What ``work`` gives in a folder. What may pass is tried again, over a new connection.

        Raises:
            Failed: it cannot be read.
            Renumbered: a message's number stands for another one than under ``validity``.
        """
        for attempt in stamina.retry_context(
            on=MayPass, attempts=self._attempts, wait_initial=1, wait_max=60, wait_jitter=1, timeout=None
        ):
            with attempt, self._in_words():
                client = self._client or self._connected()
                if client.folder != folder:
                    self._open(client, folder)
                if validity is not None and client.box.validity != validity:
                    raise Renumbered(folder)
                return work(client)
        raise AssertionError("stamina leaves by returning or raising")

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        """Close what broke, and say it in words; the server's own could hold anything."""
        try:
            yield
        except BaseException as error:
            client, self._client = self._client, None
            if client:
                client.shutdown()
            if isinstance(error, Failed) or not isinstance(error, _BROKEN):
                raise
            raise self._problem(error, client) from None

    def _problem(self, error: BaseException, client: Client | None) -> Failed:
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"{self.place}: its certificate is not accepted ({error.verify_message.rstrip('.')})"
            return Failed(f"{what}; is the host's name right, and does it need a file in 'ca'?")
        if isinstance(error, ssl.SSLError) and client is None:
            return Failed(f"{self.place}: no TLS connection ({error.reason}); is tls = {self._account.tls!r} right?")
        if isinstance(error, socket.gaierror):
            return MayPass(f"{self.place}: the name of the host is not known here")
        if isinstance(error, TimeoutError):
            return MayPass(f"{self.place} did not answer in time")
        if client is None and isinstance(error, OSError):
            return MayPass(f"{self.place}: no connection; is it running, and are host and port right?")
        if client is None:
            return MayPass(f"{self.place} does not answer as an IMAP server does, or takes no more connections")
        if isinstance(error, OSError | imaplib.IMAP4.abort):
            farewell = client.untagged_responses.get("BYE", [])
            code = _code(farewell[-1]) if farewell else ""
            return MayPass(f"{self.place}: the connection broke" + (f" ({code})" if code else ""))
        return Failed(f"{self.place} refused a command or gave an answer that is not IMAP; please report")

    def _connected(self) -> Client:
        account = self._account
        client = Client(
            account.host, account.port, account.trusted if account.tls == "tls" else None, account.timeout_s
        )
        try:
            if account.tls == "starttls":
                if "STARTTLS" not in client.capabilities:
                    raise Failed(f"{self.place} offers no STARTTLS; use tls = 'tls', usually with port 993")
                client.secure(account.trusted)
            self._log_in(client)
        except BaseException:
            client.shutdown()
            raise
        self._client = client
        return client

    def _log_in(self, client: Client) -> None:
        account = self._account
        user = account.user or secret(account.user_env, "imap", hidden=False)
        word = secret(account.token_env or account.password_env, "imap")
        if not printable(user) or not printable(word):
            raise ConfigError("sources imap: the user or the password has a control character")
        if client.state == "AUTH":  # the server knows us already
            return
        try:
            code = client.log_in(user, word, oauth=bool(account.token_env))
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as refused:
            code = _code(str(refused).encode()) or "NO"
        if code in _PASSES:
            raise MayPass(f"{self.place} takes no log-in now ({code})")
        if code == "LOGINDISABLED":
            raise Failed(f"{self.place} takes no password over this connection; is tls = {account.tls!r} right?")
        if code:
            name = account.token_env or account.password_env
            hint = (
                "did the token expire" if account.token_env else "is it the password for IMAP, such as an app password"
            )
            raise Failed(f"{self.place} refused the log-in ({code}); look at {name}: {hint}?")

    def _open(self, client: Client, folder: str) -> None:
        code = client.examine(folder)
        if code is None:
            return
        if code in _PASSES:
            raise MayPass(f"{self.place}: folder {folder!r} cannot be opened now ({code})")
        known = client.folders()
        if folder in known:
            raise Failed(f"{self.place}: folder {folder!r} may not be read ({code or 'NO'})")
        raise Failed(f"{self.place} has no folder {folder!r}; {nearest(folder, known)}")

    def close(self) -> None:
        """Say good-bye."""
        if self._client:
            with contextlib.suppress(*_BROKEN):
                self._client.logout()
            self._client.shutdown()
        self._client = None


_BROKEN = (OSError, imaplib.IMAP4.error, ValueError, LookupError, AttributeError, TypeError)


class Client(imaplib.IMAP4):
    """A connection that only reads, with an end to each command and to what a server may send at once."""

    def __init__(self, host: str, port: int, trusted: ssl.SSLContext | None, timeout_s: float) -> None:
        self._trusted, self._timeout_s = trusted, timeout_s
        self.folder: str | None = None
        self.box = Box(0, None, 0)
        super().__init__(host, port)

    # What imaplib leaves to its heirs

    def open(self, host: str = "", port: int = 993, timeout: float | None = None) -> None:
        """Connect."""
        self.host, self.port = host, port
        self._ends = time.monotonic() + self._timeout_s
        self._use(socket.create_connection((host, port), self._timeout_s), self._trusted)

    def _use(self, link: socket.socket, trusted: ssl.SSLContext | None) -> None:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = trusted.wrap_socket(link, server_hostname=self.host) if trusted else link
        self._incoming = io.BufferedReader(_Incoming(self), 65536)

    def receive(self, room: Any) -> int:
        """Fill ``room`` with what comes; TimeoutError when nothing does, or when the command takes too long."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.sock.settimeout(min(left, self._timeout_s))
        return self.sock.recv_into(room)

    def read(self, size: int) -> bytes:
        """A literal."""
        if size > WHOLE + _LINE:
            raise self.abort("a literal of more than was asked for")
        return self._incoming.read(size)

    def readline(self) -> bytes:
        """A line of an answer."""
        line = self._incoming.readline(_LINE + 1)
        if len(line) > _LINE:
            raise self.abort("a line without end")
        return line

    def send(self, data: Any) -> None:
        """Send a command or a part of one; from here on its time runs."""
        self._ends = time.monotonic() + 10 * self._timeout_s
        self.sock.settimeout(self._timeout_s)
        self.sock.sendall(data)

    def shutdown(self) -> None:
        """Close the connection."""
        self.sock.close()

    def _mesg(self, *_: Any) -> None:
        """Show nothing, whatever imaplib.Debug says: commands hold the password, and answers what people wrote."""

    _log = _mesg

    # What we ask

    def secure(self, trusted: ssl.SSLContext) -> None:
        """STARTTLS; what came before it counts no more."""
        if self.xatom("STARTTLS")[0] != "OK":
            raise self.abort("no STARTTLS")
        self._use(self.sock, trusted)
        self.capabilities = tuple(str(self.capability()[1][-1], "ascii").upper().split())

    def log_in(self, user: str, word: str, *, oauth: bool) -> str:
        """Log in; returns "", or the code of a refusal. Raises imaplib's error with the server's words for others."""
        if oauth:
            answers = iter((f"user={user}\1auth=Bearer {word}\1\1", ""))  # the second to what explains a refusal
            self.authenticate("XOAUTH2", lambda _: next(answers, "").encode())
        elif "AUTH=PLAIN" in self.capabilities:
            self.authenticate("PLAIN", lambda _: f"\0{user}\0{word}".encode())
        elif "LOGINDISABLED" in self.capabilities:
            return "LOGINDISABLED"
        else:
            done, said = self.xatom("LOGIN", *(_quoted(one.encode()) for one in (user, word)))  # type: ignore[arg-type]
            if done != "OK":
                return _code(said[-1]) or "NO"
            self.state = "AUTH"
        return ""

    def examine(self, folder: str) -> str | None:
        """Open a folder for reading; returns None, or the code of a refusal, "" when it has none."""
        done, said = self.select(_quoted(_utf7(folder)), readonly=True)  # type: ignore[arg-type]
        if done != "OK":
            return _code(said[-1])
        count = said[-1]
        told: dict[str, Any] = {name: self.untagged_responses.get(name) for name in ("UIDVALIDITY", "UIDNEXT")}
        validity, following = (int(values[-1]) if values else None for values in told.values())
        self.folder, self.box = folder, Box(validity or 0, following, int(count) if isinstance(count, bytes) else 0)
        return None

    def folders(self) -> list[str]:
        """The names of all folders there are."""
        names = []
        for line in self.list()[1]:
            said, literal = line if isinstance(line, tuple) else (line or b"", None)
            found = re.match(rb'\([^)]*\) (?:"(?:[^"\\]|\\.)*"|NIL) (.*)', said)
            if found:
                name = literal or re.sub(rb"\\(.)", rb"\1", found[1].strip(b'"'))
                names.append(_from_utf7(name))
        return names

    def numbers(self, first: int, since: dt.datetime | None) -> list[int]:
        """Numbers of messages from ``first`` on, that arrived on the day of ``since`` or later, ascending."""
        day = [f"SINCE {since.day}-{_MONTHS[since.month - 1]}-{since.year}"] if since else []
        done, said = self.uid("SEARCH", f"UID {first}:*", *day)
        self._must(done, said)
        return sorted({uid for line in said if line for one in line.split() if (uid := int(one)) >= first})

    def messages(self, uids: Sequence[int]) -> Iterator[tuple[int, dt.datetime | None, bytes | None]]:
        """Number, time of arrival and beginning of each message that is still there; None for one that is refused."""
        done, said = self._fetch(uids, "UID INTERNALDATE RFC822.SIZE")
        self._must(done, said)
        known = {uid: (_arrived(words), _size(words)) for uid, words, _ in _answers(said) if "INTERNALDATE" in words}
        group: list[int] = []
        for uid in sorted(known.keys() & set(uids)):
            group.append(uid)
            if sum(min(known[one][1], PART) for one in group) >= _TOGETHER:
                yield from self._bodies(group, known)
                group = []
        yield from self._bodies(group, known)

    def _bodies(
        self, uids: Sequence[int], known: Mapping[int, tuple[dt.datetime | None, int]]
    ) -> Iterator[tuple[int, dt.datetime | None, bytes | None]]:
        if not uids:
            return
        done, said = self._fetch(uids, f"UID BODY.PEEK[]<0.{PART}>")
        if done == "OK":
            there = {
                uid: literals[0] if literals else b"" for uid, words, literals in _answers(said) if "BODY[" in words
            }
            yield from ((uid, known[uid][0], there[uid]) for uid in uids if uid in there)
        elif _code(said[-1]) in _PASSES or len(uids) == 1:
            self._must(done, said)
        else:  # one that the server cannot read stands in the way of the others
            each = {uid: self._fetch([uid], f"UID BODY.PEEK[]<0.{PART}>") for uid in uids}
            if all(done != "OK" for done, _ in each.values()):
                self._must(done, said)
            for uid, (one, answer) in each.items():
                found = [literals[0] for _, words, literals in _answers(answer) if literals and "BODY[" in words]
                if found or one != "OK":
                    yield uid, known[uid][0], found[0] if found else None

    def beginning(self, uid: int, size: int) -> bytes | None:
        """The first bytes of a message; None when it is gone."""
        done, said = self._fetch([uid], f"UID BODY.PEEK[]<0.{size}>")
        self._must(done, said)
        return next((literals[0] for _, words, literals in _answers(said) if literals and "BODY[" in words), None)

    def _fetch(self, uids: Sequence[int], what: str) -> tuple[str, list[Any]]:
        done, said = self.uid("FETCH", ",".join(map(str, uids)), f"({what})")
        if done == "NO" and _code(said[-1]) == "EXPUNGEISSUED":
            return "OK", self.response("FETCH")[1]  # some were deleted just now; the others came
        return done, said

    def _must(self, done: str, said: Sequence[Any]) -> None:
        if done != "OK":
            raise MayPass(f"{self.host}:{self.port} gave no answer about {self.folder!r} ({_code(said[-1]) or done})")


class _Incoming(io.RawIOBase):
    def __init__(self, client: Client) -> None:
        self._client = client

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        return self._client.receive(room)


def _answers(data: Sequence[Any]) -> Iterator[tuple[int, str, list[bytes]]]:
    """Number, words and literals of each answer to a FETCH as imaplib gives them."""
    said, literals = b"", list[bytes]()
    for part in data:
        if isinstance(part, tuple):
            said, literals = said + part[0], [*literals, part[1]]
            continue
        words = (said + (part or b"")).decode("ascii", "replace")
        if found := re.search(r"\bUID (\d+)", words):
            yield int(found[1]), words, literals
        said, literals = b"", []


def _arrived(words: str) -> dt.datetime | None:
    found = re.search(r'INTERNALDATE "([^"]*)"', words)
    try:
        return email.utils.parsedate_to_datetime(found[1].strip()).astimezone(dt.UTC) if found else None
    except (ValueError, TypeError, OverflowError):
        return None


def _size(words: str) -> int:
    found = re.search(r"RFC822\.SIZE (\d{1,15})", words)
    return int(found[1]) if found else PART


def _code(words: Any) -> str:
    """The code in square brackets with which a refusal begins; nothing else of it, for it may name people."""
    found = re.search(rb"\[([A-Z-]+)", words or b"")
    return found[1].decode() if found else ""


def printable(text: Any) -> bool:
    """Whether it is a text without control characters, and not empty."""
    return isinstance(text, str) and bool(text) and text.isprintable()


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 86_400


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _quoted(text: bytes) -> bytes:
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", text) + b'"'


def _utf7(name: str) -> bytes:
    """A folder's name as IMAP writes it (RFC 3501, 5.1.3)."""

    def coded(found: re.Match[str]) -> str:
        return "&" + base64.b64encode(found[0].encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"

    return re.sub(r"[^\x20-\x7e]+", coded, name.replace("&", "&-")).encode("ascii")


def _from_utf7(name: bytes) -> str:
    def plain(found: re.Match[bytes]) -> bytes:
        inner = found[1].replace(b",", b"/")
        try:
            return base64.b64decode(inner + b"=" * (-len(inner) % 4)).decode("utf-16-be").encode() or b"&"
        except ValueError:
            return found[0]

    return re.sub(rb"&([^-]*)-", plain, name).decode("utf-8", "replace")
