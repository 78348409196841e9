"""IMAP servers on loopback: a small one with the faults of real ones, and a real one (Dovecot)."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import needed

USER, WORD = "support@example.org", 'p"ss\\wörd-5f2d'
ARRIVED = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)


@dataclasses.dataclass
class Mail:
    """A message in a folder."""

    uid: int
    content: bytes
    arrived: dt.datetime = ARRIVED

    def bytes(self) -> bytes:
        return self.content


@dataclasses.dataclass
class Folder:
    mails: list[Mail] = dataclasses.field(default_factory=list)
    validity: int = 1
    following: int | None = None  # UIDNEXT; None: the one after the last

    def add(self, content: bytes, arrived: dt.datetime = ARRIVED) -> Mail:
        self.mails.append(Mail(self.next(), content, arrived))
        return self.mails[-1]

    def next(self) -> int:
        return self.following or max((mail.uid for mail in self.mails), default=0) + 1


def message(number: int, body: str = "", **headers: str | None) -> bytes:
    """A plain message; an hour lies between two."""
    at = ARRIVED + dt.timedelta(hours=number)
    told = {"Message-ID": f"<{number}@example.org>", "From": f"p{number}@example.net", "Subject": f"Question {number}"}
    told |= {"Date": f"{at:%a, %d %b %Y %H:%M:%S +0000}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if not body.isascii():
        told |= {"Content-Type": "text/plain; charset=utf-8", "Content-Transfer-Encoding": "8bit"}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value is not None)
    return f"{head}\r\n{body or f'It takes {number} minutes since Monday.'}\r\n".encode()


@dataclasses.dataclass
class Fault:
    """What goes wrong at commands that begin with ``at``: the next ``left`` of them, after ``after`` others.

    ``act`` gets the server and the connection; it returns lines to answer instead (``TAG`` stands for the command's),
    or None to go on as usual.
    """

    at: str
    act: Callable[[ImapServer, Connection], bytes | None]
    left: int = 1
    after: int = 0
    done: int = 0

    def meets(self, command: str) -> bool:
        if not command.startswith(self.at) or not self.left:
            return False
        if self.after:
            self.after -= 1
            return False
        self.left -= 1
        self.done += 1
        return True


def says(line: str) -> Callable[..., bytes]:
    """An answer instead, such as ``NO [LIMIT] Slow down``."""
    return lambda *_: f"TAG {line}\r\n".encode()


class ImapServer:
    """``with ImapServer(INBOX=[...]) as server:`` answers at ``server.port``; ``commands`` are those it was asked.

    Logging in and out, CAPABILITY, STARTTLS, LIST, EXAMINE, SELECT, SEARCH, FETCH and NOOP are known; all others are
    refused, and more than ``limit`` commands too.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, at_once: bool = True, fault: Fault | None = None, word: str = WORD,
        capabilities: str = "IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2", limit: int = 400, **folders: list[bytes],
    ) -> None:  # fmt: skip
        self.folders = {name: Folder() for name in (folders or ("INBOX",))}
        for name, contents in folders.items():
            for number, content in enumerate(contents):
                self.folders[name].add(content, ARRIVED + dt.timedelta(hours=number))
        self.tls, self.at_once, self.fault, self.capabilities = tls, at_once, fault, capabilities
        self.user, self.word, self.limit = USER, word, limit
        self.commands: list[str] = []
        self.connections = 0
        self.lock = threading.Lock()
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ssl.SSLError):
                    Connection(server, self.request).run()

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.port = self._listener.server_address[1]
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> ImapServer:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    @property
    def inbox(self) -> Folder:
        return self.folders["INBOX"]

    def asked(self, word: str) -> list[str]:
        return [command for command in self.commands if command.startswith(word)]


class Connection:
    """One client."""

    def __init__(self, server: ImapServer, link: socket.socket) -> None:
        self.server, self.link, self.folder = server, link, None
        self.known = False
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        with self.server.lock:
            self.server.connections += 1
        if self.server.tls and self.server.at_once:
            self.link = self.server.tls.wrap_socket(self.link, server_side=True)
        self.lines = self.link.makefile("rb")
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: (self.lines.close(), self.link.close()))
            if not self.instead("", "GREETING"):
                self.send("* OK IMAP4rev1 ready")
            while line := self.lines.readline(65536):
                tag, _, command = line.decode("utf-8", "replace").rstrip("\r\n").partition(" ")
                if not self.command(tag, command):
                    return

    def send(self, line: str | bytes) -> None:
        self.link.sendall((line.encode() if isinstance(line, str) else line) + b"\r\n")

    def instead(self, tag: str, command: str) -> bool:
        fault = self.server.fault
        if not fault or not fault.meets(command):
            return False
        answer = fault.act(self.server, self)
        if answer is None:
            return False
        with contextlib.suppress(OSError):
            self.link.sendall(answer.replace(b"TAG", tag.encode()))
        return True

    def command(self, tag: str, line: str) -> bool:
        """Answer; returns whether to go on."""
        name = " ".join(line.upper().split()[: 2 if line.upper().startswith("UID ") else 1])
        with self.server.lock:
            kept = name if name in ("LOGIN", "AUTHENTICATE") else line
            self.server.commands.append(kept)
            many = len(self.server.commands) > self.server.limit
        if many:
            self.send(f"{tag} BAD too many commands")
            return False
        if self.instead(tag, line):
            return True
        do = getattr(self, "do_" + name.replace(" ", "_").lower(), None)
        if do is None or (not self.known and name.startswith(("UID", "EXAMINE", "SELECT", "LIST"))):
            self.send(f"{tag} BAD not known, or not now")
            return True
        told = do(line.partition(name.split()[-1])[2].strip() if name != "LOGIN" else line[6:])
        self.send(f"{tag} {told}")
        if name == "STARTTLS":
            self.lines.close()
            self.link = self.server.tls.wrap_socket(self.link, server_side=True)
            self.lines = self.link.makefile("rb")
        return name != "LOGOUT"

    def do_capability(self, _: str) -> str:
        self.send(f"* CAPABILITY {self.server.capabilities}")
        return "OK done"

    def do_noop(self, _: str) -> str:
        return "OK done"

    def do_starttls(self, _: str) -> str:
        return "OK begin"

    def do_logout(self, _: str) -> str:
        self.send("* BYE good-bye")
        return "OK done"

    def do_login(self, given: str) -> str:
        found = re.fullmatch(r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"', given)
        user, word = (re.sub(r"\\(.)", r"\1", part) for part in found.groups())
        return self.let_in(user, word)

    def do_authenticate(self, mechanism: str) -> str:
        self.send("+ ")
        said = base64.b64decode(self.lines.readline()).decode()
        if mechanism == "PLAIN":
            _, user, word = said.split("\0")
            return self.let_in(user, word)
        user, word = re.fullmatch("user=(.*)\1auth=Bearer (.*)\1\1", said).groups()
        told = self.let_in(user, word)
        if told.startswith("NO"):
            self.send("+ " + base64.b64encode(b'{"status":"400"}').decode())
            assert self.lines.readline() == b"\r\n"
        return told

    def let_in(self, user: str, word: str) -> str:
        self.known = (user, word) == (self.server.user, self.server.word)
        return "OK welcome" if self.known else f"NO [AUTHENTICATIONFAILED] {user} gave {word}"

    def do_list(self, _: str) -> str:
        for name in self.server.folders:
            self.send(f'* LIST (\\HasNoChildren) "/" "{name}"')
        return "OK done"

    def do_select(self, given: str) -> str:
        return self.do_examine(given).replace("READ-ONLY", "READ-WRITE")

    def do_examine(self, given: str) -> str:
        folder = self.server.folders.get(given.strip('"'))
        if folder is None:
            return "NO [NONEXISTENT] no such folder"
        self.folder = folder
        self.send(f"* {len(folder.mails)} EXISTS\r\n* 0 RECENT\r\n* FLAGS (\\Seen)")
        self.send(f"* OK [UIDVALIDITY {folder.validity}] valid\r\n* OK [UIDNEXT {folder.next()}] next")
        return "OK [READ-ONLY] done"

    def do_uid_search(self, given: str) -> str:
        found = re.fullmatch(r"UID (\d+):\*(?: SINCE (\S+))?", given)
        first = int(found[1])
        day = dt.datetime.strptime(found[2] + " +0000", "%d-%b-%Y %z") if found[2] else None
        hits = [mail for mail in self.folder.mails if mail.uid >= first] or self.folder.mails[-1:]  # what n:* means
        uids = [str(mail.uid) for mail in hits if not day or mail.arrived >= day]
        self.send(" ".join(("* SEARCH", *uids)))
        return "OK done"

    def do_uid_fetch(self, given: str) -> str:
        numbers, _, what = given.partition(" ")
        wanted = {int(number) for number in numbers.split(",")}
        for place, mail in enumerate(list(self.folder.mails), 1):
            if mail.uid in wanted:
                self.send(self.fetched(place, mail, what))
        return "OK done"

    def fetched(self, place: int, mail: Mail, what: str) -> bytes:
        parts = [f"UID {mail.uid}"]
        if "INTERNALDATE" in what:
            parts.append(f'INTERNALDATE "{mail.arrived:%d-%b-%Y %H:%M:%S +0000}"')
        if "RFC822.SIZE" in what:
            parts.append(f"RFC822.SIZE {len(mail.content)}")
        said = f"* {place} FETCH ({' '.join(parts)}".encode()
        if found := re.search(r"BODY\.PEEK\[\]<0\.(\d+)>", what):
            piece = mail.content[: int(found[1])]
            said += b" BODY[]<0> {%d}\r\n%b" % (len(piece), piece)
        return said + b")"


CONFIG = """
base_dir = {folder}/run
state_dir = {folder}
log_path = {folder}/log
protocols = imap
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
disable_plaintext_auth = no
auth_failure_delay = 0
ssl = {ssl}
ssl_cert = <{cert}
ssl_key = <{cert}
first_valid_uid = 1
mail_location = maildir:{folder}/mail
passdb {{
  driver = static
  args = password={word}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={folder}
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


@dataclasses.dataclass
class Dovecot:
    port: int
    inbox: Path  # a file per message; its name ends in the letters of its flags


@contextlib.contextmanager
def dovecot(contents: list[bytes], certificate: Path | None = None):
    """A real server with messages in its INBOX, for any user with the password "secret"; with a certificate it offers
    STARTTLS.
    """
    program = needed("Dovecot", "dovecot", "/usr/sbin/dovecot")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("2.3."):
        pytest.skip(f"its configuration is written for Dovecot 2.3, as in Debian 12; this is {version.strip()}")
    root = os.geteuid() == 0  # then it has to be told to be somebody else
    owner = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
    as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if root else {}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="dovecot-", ignore_cleanup_errors=True) as made:
        folder = Path(made)  # not pytest's, which nobody else may look into
        inbox = folder / "mail" / "cur"
        for part in ("cur", "new", "tmp"):
            (folder / "mail" / part).mkdir(parents=True)
        for number, content in enumerate(contents):
            (inbox / f"{1772000000 + number}.M{number}.here:2,").write_bytes(content)
        cert = shutil.copy(certificate, folder) if certificate else "/dev/null"
        given = {"ssl": "yes" if certificate else "no", "cert": cert, "word": "secret", "port": port}
        group = grp.getgrgid(owner.pw_gid).gr_name
        (folder / "conf").write_text(CONFIG.format(folder=folder, user=owner.pw_name, group=group, **given))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        process = subprocess.Popen([program, "-F", "-c", folder / "conf"], start_new_session=True, **as_owner)
        try:
            _wait(process, port, folder / "log")
            yield Dovecot(port, inbox)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        break
    raise RuntimeError(f"Dovecot did not start: {log.read_text()[-2000:] if log.exists() else 'it wrote no log'}")
