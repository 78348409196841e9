"""What is special about mail on an IMAP server."""

import datetime as dt
import json
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import stamina
from conftest import needed
from imap_server import ARRIVED, USER, WORD, Fault, ImapServer, dovecot, message, says

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.ingest import gather
from feedback_lib.records import Checkpoint, Rejected
from feedback_lib.sources.imap import BATCH, PART
from feedback_lib.store import Store

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MANY = [message(i) for i in range(BATCH + 10)]


@pytest.fixture(autouse=True)
def _password(monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", WORD)
    with stamina.set_testing(True, attempts=10, cap=True):  # without pauses
        yield


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that is its own authority, and its key."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [needed("OpenSSL", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


def source(server, **options):
    given = {"host": "127.0.0.1", "port": getattr(server, "port", 1), "tls": "none", "name": "support"}
    given |= {"user": USER, "password_env": "MAIL_PASSWORD", "timeout_s": 5}
    return plugins.build("sources", {"kind": "imap", **given, **options})


class Read:
    """One reading, or several that go on from each other."""

    def __init__(self, source, cursor=None, since=None, until=END):
        self.items, self.rejected, self.marks, self.error = [], [], [], None
        self.cursor, self.source = cursor, source
        try:
            for found in source.fetch(since, until, cursor):
                if isinstance(found, Checkpoint):
                    self.cursor = json.loads(json.dumps(found.cursor))
                    self.marks.append(found.watermark)
                else:
                    (self.rejected if isinstance(found, Rejected) else self.items).append(found)
        except SourceError as error:
            self.error = str(error)

    @property
    def subjects(self):
        return [item.payload["subject"] for item in self.items]


def subjects(numbers):
    return [f"Question {number}" for number in numbers]


# A real server


def test_a_real_server_is_read_and_left_as_it_was(certificate, monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "secret")
    large = message(3, "at the end").replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x " * PART + b"\r\n\r\n", 1)
    with dovecot([message(1), message(2, "Grüße & 日本"), large], certificate) as server:
        before = sorted(path.name for path in server.inbox.iterdir())
        for where in ({"tls": "none"}, {"tls": "starttls", "host": "localhost", "ca": str(certificate)}):
            account = source(server, **where)
            assert account.check() == "INBOX: 3 messages, read only"
            first = Read(account)
            assert (first.error, first.rejected, first.subjects) == (None, [], subjects([1, 2, 3]))
            assert [item.payload["body"] for item in first.items[1:]] == ["Grüße & 日本", "at the end"]
            assert Read(account, first.cursor).items == []
        assert "has no folder 'Inbix'; known: INBOX" in Read(source(server, folders=["Inbix"])).error
        assert sorted(path.name for path in server.inbox.iterdir()) == before  # no flag was set


# Reading on


def test_a_second_run_reads_what_came_since_and_asks_nothing_else():
    with ImapServer(INBOX=MANY[:3]) as server:
        account = source(server)
        first = Read(account)
        assert first.subjects == subjects(range(3))
        assert first.marks[-1] == ARRIVED + 2 * HOUR
        server.commands.clear()
        quiet = Read(account, first.cursor)
        assert (quiet.items, quiet.cursor, quiet.marks) == ([], first.cursor, first.marks[-1:])
        assert [c.split()[0] for c in server.commands] == ["CAPABILITY", "AUTHENTICATE", "EXAMINE", "LOGOUT"]
        late = message(9, Date="Fri, 02 Jan 2026 08:00:00 +0000")  # moved in from elsewhere
        server.inbox.add(late, ARRIVED - 24 * HOUR)
        server.inbox.add(message(10), ARRIVED + 10 * HOUR)
        again = Read(account, quiet.cursor)
        assert again.subjects == subjects([9, 10])
        assert again.marks[-1] == ARRIVED + 10 * HOUR


def test_a_folder_that_was_numbered_anew_is_read_again_from_shortly_before():
    with ImapServer(INBOX=[message(0)]) as server:
        for day in range(1, 10):
            server.inbox.add(message(24 * day), ARRIVED + 24 * day * HOUR)
        account = source(server)
        first = Read(account)
        assert len(first.items) == 10
        server.inbox.validity = 2
        server.inbox.mails = server.inbox.mails[5:]
        for uid, mail in enumerate(server.inbox.mails, 1):
            mail.uid = uid
        server.inbox.add(message(240), ARRIVED + 240 * HOUR)
        again = Read(account, first.cursor)
        assert again.error is None
        assert again.subjects == subjects([168, 192, 216, 240])
        assert {i.native_id for i in again.items[:3]} <= {i.native_id for i in first.items}
        assert Read(account, again.cursor).items == []


def test_a_folder_that_is_numbered_anew_while_it_is_read_is_begun_again():
    def renumber(server, connection):
        server.inbox.validity += 1
        return hang_up(server, connection)

    fault = Fault("UID FETCH", renumber, after=2)
    with ImapServer(INBOX=MANY, fault=fault) as server:
        done = Read(source(server))
        assert fault.done
        assert done.error is None
        assert set(done.subjects) == set(subjects(range(len(MANY))))
        assert done.cursor["INBOX"]["validity"] == 2


def test_what_is_dated_after_the_end_of_a_run_comes_with_a_later_one():
    wrong = message(3, Date="Tue, 01 Jan 2030 08:00:00 +0000")  # the sender's clock is wrong
    with ImapServer(INBOX=[message(0), message(5), message(2), wrong]) as server:
        server.inbox.mails[1].arrived = ARRIVED + 5 * HOUR
        account = source(server)
        first = Read(account, until=ARRIVED + 4 * HOUR)
        assert first.subjects == subjects([0, 2, 3])
        assert first.items[-1].updated_at == ARRIVED + 3 * HOUR
        assert first.cursor["INBOX"]["uid"] == 1
        assert set(Read(account, first.cursor).subjects) == set(subjects([2, 3, 5]))


def test_a_window_and_a_first_day_bound_what_is_read():
    with ImapServer(INBOX=[message(i) for i in range(96)]) as server:
        assert Read(source(server, start="2026-03-05")).subjects == subjects(range(64, 96))
        server.commands.clear()
        window = Read(source(server), since=ARRIVED + 80 * HOUR, until=ARRIVED + 84 * HOUR)
        assert window.subjects == subjects(range(80, 84))
        assert server.asked("UID SEARCH") == ["UID SEARCH UID 1:* SINCE 3-Mar-2026"]


def test_copies_in_several_folders_count_once_and_the_team_answers():
    folders = {"INBOX": [message(1), message(2)], "Sent": [message(2), message(3, In_Reply_To="<1@example.org>")]}
    with ImapServer(**folders) as server:
        done = Read(source(server, folders=["INBOX", "Sent"], team=["p3@example.net"]))
        assert done.subjects == subjects([1, 2, 3])
        assert [item.parent for item in done.items] == [None, None, done.items[0].native_id]
        assert done.source.reply(done.items[2].payload).team is True
        assert list(done.cursor) == ["INBOX", "Sent"]
        assert source(server, folders=["INBOX", "Sent"]).check() == "INBOX: 2 messages; Sent: 2 messages, read only"


def test_a_message_has_the_id_it_has_in_an_mbox(tmp_path):
    (tmp_path / "a.mbox").write_bytes(b"From x Mon Mar  2 09:00:00 2026\n" + message(1).replace(b"\r\n", b"\n"))
    (same,) = plugins.build("sources", {"kind": "mbox", "path": str(tmp_path / "a.mbox")}).fetch(None, END)
    with ImapServer(INBOX=[message(1)]) as server:
        (item,) = Read(source(server)).items
    assert (item.native_id, item.payload) == (same.native_id, same.payload)


# Faults


def cut(server, connection):
    connection.link.sendall(b"* 1 FETCH (UID 1 BODY[]<0> {500}\r\nFrom: so")
    connection.link.shutdown(2)
    return b""


def hang_up(server, connection):
    connection.link.shutdown(2)
    return b""


def bye(server, connection):
    connection.link.sendall(b"* BYE [UNAVAILABLE] jane.doe@example.org has to go\r\n")
    return hang_up(server, connection)


def drip(server, connection):
    for _ in range(400):
        connection.link.sendall(b"*")
        time.sleep(0.01)
    return b""


def wrong_size(server, connection):
    return b"* 1 FETCH (UID 1 BODY[]<0> {5}\r\nFrom: somebody\r\n\r\nhello)\r\nTAG OK done\r\n"


def huge(server, connection):
    return b"* 1 FETCH (UID 1 BODY[]<0> {99999999999}\r\n"


PASSING = {
    "cut in a literal": (cut, 2),
    "hang-up": (hang_up, 3),
    "BYE": (bye, 2),
    "NO [LIMIT]": (says("NO [LIMIT] p1@example.net asks too much"), 3),
    "NO [UNAVAILABLE]": (says("NO [UNAVAILABLE] later"), 2),
    "wrong size": (wrong_size, 1),
    "huge size": (huge, 1),
    "not IMAP": (lambda *_: b"HTTP/1.1 200 OK\r\n\r\n", 1),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_costs_nothing_but_another_connection(name):
    act, left = PASSING[name]
    fault = Fault("UID FETCH", act, left=left, after=2)
    with ImapServer(INBOX=MANY, fault=fault) as server:
        done = Read(source(server))
        assert fault.done == left
        assert (done.error, done.rejected) == (None, [])
        assert done.subjects == subjects(range(len(MANY)))
        assert server.connections == left + 1


@pytest.mark.parametrize("act", [lambda *_: b"", drip], ids=["silence", "byte by byte"])
def test_a_server_that_is_too_slow_is_left(act):
    fault = Fault("UID SEARCH", act, left=1)
    with ImapServer(INBOX=MANY[:2], fault=fault) as server:
        done = Read(source(server, timeout_s=0.05))
        assert fault.done
        assert (done.error, len(done.items)) == (None, 2)


REFUSALS = {
    "NO [LIMIT] p1@example.net": "gave no answer about 'INBOX' (LIMIT)",
    "NO not today, p1@example.net": "gave no answer about 'INBOX' (NO)",
    "BAD p1@example.net what": "refused a command",
}


@pytest.mark.parametrize("line", REFUSALS)
def test_what_does_not_pass_says_what_is_missing_and_the_next_run_has_it(line):
    fault = Fault("UID FETCH", says(line), left=99, after=2)
    with ImapServer(INBOX=MANY, Other=[message(999)], fault=fault) as server:
        account = source(server, folders=["INBOX", "Other"])
        done = Read(account)
        assert REFUSALS[line] in done.error
        assert "example.net" not in done.error
        newest = ARRIVED + (BATCH - 1) * HOUR
        assert done.error.endswith(
            f"Not read: INBOX from {newest:%Y-%m-%d %H:%M} UTC on, Other; the next run goes on there"
        )
        assert done.marks == [newest]
        fault.left = 0
        rest = Read(account, done.cursor)
        assert (rest.error, rest.subjects) == (None, subjects([*range(BATCH, len(MANY)), 999]))


def test_a_log_in_that_is_revoked_in_the_middle_of_a_run_says_so():
    def revoke(server, connection):
        server.word = "another"
        return hang_up(server, connection)

    fault = Fault("UID FETCH", revoke, after=2)
    with ImapServer(INBOX=MANY, fault=fault) as server:
        done = Read(source(server))
        assert len(done.items) == BATCH
        assert "refused the log-in (AUTHENTICATIONFAILED); look at MAIL_PASSWORD" in done.error
        assert "Not read: INBOX from 2026-03-10 15:00 UTC on; the next run goes on there" in done.error
        assert len(server.asked("AUTHENTICATE")) == 2  # a wrong password is not tried again


def test_messages_deleted_between_two_commands_are_not_missed():
    def delete(server, connection):
        server.inbox.mails = server.inbox.mails[2:]

    with ImapServer(INBOX=MANY[:5], fault=Fault("UID FETCH", delete)) as server:
        done = Read(source(server))
        assert (done.error, done.rejected, done.subjects) == (None, [], subjects([2, 3, 4]))

    def gone(server, connection):
        kept = "".join(f"* {n} FETCH (UID {n} BODY[] {{{len(MANY[n])}}}\r\n{MANY[n].decode()})\r\n" for n in (2, 3))
        return kept.encode() + b"TAG NO [EXPUNGEISSUED] some are gone\r\n"

    with ImapServer(INBOX=MANY[:5], fault=Fault("UID FETCH", gone, after=1)) as server:
        done = Read(source(server))
        assert (done.error, done.subjects) == (None, subjects([2, 3]))


def test_one_message_that_the_server_cannot_read_stops_no_other():
    def unless_alone(server, connection):
        alone = server.commands[-1].startswith(("UID FETCH 1 ", "UID FETCH 3 "))
        return None if alone else b"TAG NO Some messages could not be fetched\r\n"

    with ImapServer(INBOX=MANY[:3], fault=Fault("UID FETCH", unless_alone, left=9, after=1)) as server:
        done = Read(source(server))
        assert (done.error, done.subjects) == (None, subjects([0, 2]))
        assert done.rejected == [Rejected("INBOX: uid 2", "was refused by the server")]


def test_odd_messages_are_read_as_well_as_can_be():
    bare = b"\r\njust words\r\n"
    nothing = b""
    no_ids = message(2, Message_ID=None, Date=None)
    long_line = message(3, X_Long="y" * 100_000)
    deep = b"Date: Mon, 02 Mar 2026 11:00:00 +0000\r\nSubject: deep\r\n" + b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (i, i) for i in range(250)
    )
    with ImapServer(INBOX=[bare, nothing, no_ids, long_line, deep]) as server:
        done = Read(source(server))
        assert done.error is None
        assert [found.where for found in done.rejected][:2] == ["INBOX: uid 1", "INBOX: uid 2"]
        assert {found.reason for found in done.rejected} <= {"has no headers", "has parts too deep in each other"}
        assert done.items[0].created_at == ARRIVED + 2 * HOUR  # when it arrived
        assert done.subjects[:2] == subjects([2, 3])


def test_of_a_large_message_only_the_beginning_is_asked_unless_its_text_stands_behind():
    attached = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUFB" * PART
    text = b"Content-Type: text/plain; charset=utf-8\r\n\r\nThe scan is attached."
    head = message(1, Content_Type='multipart/mixed; boundary="B"').partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    before, after = (
        head.replace(b"<1@", b"<%d@" % number) + b"--B\r\n%b\r\n--B\r\n%b\r\n--B--\r\n" % parts
        for number, parts in enumerate(((text, attached), (attached, text)))
    )
    with ImapServer(INBOX=[before, after]) as server:
        done = Read(source(server))
        assert [item.payload["body"] for item in done.items] == ["The scan is attached."] * 2
        assert [c.split()[2] for c in server.asked("UID FETCH") if "BODY" in c] == ["1,2", "2"]


def test_nothing_but_reading_is_asked():
    with ImapServer(INBOX=MANY, Sent=MANY[:2], tls=None) as server:
        account = source(server, folders=["INBOX", "Sent"])
        account.check()
        Read(account, Read(account).cursor)
        allowed = ("CAPABILITY", "AUTHENTICATE", "EXAMINE", "UID SEARCH", "UID FETCH", "LOGOUT")
        assert all(command.startswith(allowed) for command in server.commands)
        assert all("BODY.PEEK[" in c or "BODY" not in c for c in server.asked("UID FETCH"))


# Getting in


@pytest.mark.parametrize(
    ("capabilities", "options", "command"),
    [
        ("IMAP4rev1 AUTH=PLAIN", {}, "AUTHENTICATE"),
        ("IMAP4rev1", {}, "LOGIN"),
        ("IMAP4rev1 AUTH=XOAUTH2", {"password_env": "", "token_env": "MAIL_PASSWORD"}, "AUTHENTICATE"),
        ("IMAP4rev1 AUTH=PLAIN", {"user": "", "user_env": "MAIL_USER"}, "AUTHENTICATE"),
    ],
    ids=["PLAIN", "LOGIN", "XOAUTH2", "user from the environment"],
)
def test_ways_to_log_in(capabilities, options, command, monkeypatch):
    monkeypatch.setenv("MAIL_USER", USER)
    with ImapServer(INBOX=MANY[:2], capabilities=capabilities) as server:
        account = source(server, **options)
        assert account.check() == "INBOX: 2 messages, read only"
        assert len(server.asked(command)) == 1
        server.word = "another"
        with pytest.raises(SourceError, match=r"refused the log-in .* look at MAIL_PASSWORD") as refused:
            account.check()
        assert WORD not in str(refused.value)
        assert USER not in str(refused.value)
        monkeypatch.delenv("MAIL_PASSWORD")
        with pytest.raises(ConfigError, match="MAIL_PASSWORD is not set"):
            Read(account)


def test_a_password_is_never_sent_where_the_server_does_not_want_it():
    with ImapServer(capabilities="IMAP4rev1 LOGINDISABLED") as server:
        assert "takes no password over this connection" in Read(source(server)).error
        with pytest.raises(SourceError, match="offers no STARTTLS"):
            source(server, tls="starttls").check()
        assert server.asked("LOGIN") == server.asked("AUTHENTICATE") == []


def test_a_server_that_is_busy_is_asked_again():
    with ImapServer(INBOX=MANY[:1], fault=Fault("GREETING", lambda *_: b"* BYE too many\r\n", left=2)) as server:
        assert Read(source(server)).subjects == subjects([0])
        assert server.connections == 3
    with ImapServer(INBOX=MANY[:1], fault=Fault("AUTH", says("NO [UNAVAILABLE] later"), left=9)) as server:
        assert "takes no log-in now (UNAVAILABLE). Not read: INBOX;" in Read(source(server)).error
        assert server.connections == 5


def test_tls_is_checked_against_whom_to_trust(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ImapServer(INBOX=MANY[:2], tls=context) as server:
        good = {"host": "localhost", "tls": "tls", "ca": str(certificate)}
        assert Read(source(server, **good)).subjects == subjects([0, 1])
        assert "its certificate is not accepted" in Read(source(server, **good | {"ca": ""})).error
        assert "its certificate is not accepted" in Read(source(server, **good | {"host": "127.0.0.1"})).error
        with pytest.raises(ConfigError, match="is no file of certificates"):
            Read(source(server, **good | {"ca": "nowhere.pem"}))
    with ImapServer(INBOX=MANY[:2]) as server:
        assert "no TLS connection" in Read(source(server, **good)).error
    late = "IMAP4rev1 AUTH=PLAIN STARTTLS"
    with ImapServer(INBOX=MANY[:2], tls=context, at_once=False, capabilities=late) as server:
        assert Read(source(server, **good | {"tls": "starttls"})).subjects == subjects([0, 1])
        assert server.commands.index("STARTTLS") < server.commands.index("AUTHENTICATE")


def test_a_folder_of_another_language_is_found():
    with ImapServer(**{"Entw&APw-rfe &- mehr": MANY[:1], "INBOX": []}) as server:
        assert Read(source(server, folders=["Entwürfe & mehr"])).subjects == subjects([0])
        missing = Read(source(server, folders=["Entwurfe & mehr"]))
        assert "has no folder 'Entwurfe & mehr'; did you mean 'Entwürfe & mehr'?" in missing.error


def test_nobody_there_is_said_at_once_when_it_is_checked():
    with ImapServer() as server:
        gone = server
    with pytest.raises(SourceError, match=rf"127.0.0.1:{gone.port}: no connection; is it running"):
        source(gone).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "imap.example.org"}, "tls = 'none' would send the password to imap.example.org as plain text"),
        ({"host": "a\r\nb"}, "host = .*: expected the name of a server"),
        ({"port": "993"}, "port = '993': expected a number such as 993"),
        ({"folders": []}, "folders = .*: expected names of folders"),
        ({"folders": ["a\r\nb"]}, "folders = .*: expected names of folders"),
        ({"tls": "ssl"}, "tls = 'ssl': expected tls, starttls or none"),
        ({"timeout_s": 0}, "timeout_s = 0: expected seconds"),
        ({"user_env": "MAIL_USER"}, "give user or user_env, and password_env or token_env"),
        ({"token_env": "MAIL_TOKEN"}, "give user or user_env, and password_env or token_env"),
        ({"start": "yesterday"}, "start = 'yesterday' is not a day or time"),
        ({"team": ["us"]}, "team = 'us': expected an address or a domain"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_asked(options, message):
    with pytest.raises(ConfigError, match=f"sources imap: {message}"):
        source(None, **options)


def test_a_password_with_a_line_break_is_not_sent(monkeypatch):
    monkeypatch.setenv("MAIL_PASSWORD", "a\r\nA1 DELETE INBOX")
    with ImapServer() as server:
        with pytest.raises(ConfigError, match="control character"):
            Read(source(server))
        assert server.commands == ["CAPABILITY"]


def test_a_support_mailbox_in_the_store(tmp_path):
    """Answers of the team are counted at what they answer, also when they come a run later."""
    asked, also = message(1), message(2)
    answer = message(3, "Try 4.2.", From="help@example.org", References="<1@example.org>")
    store = Store(tmp_path / "store")
    with ImapServer(INBOX=[asked, also], Sent=[]) as server:
        account = source(server, folders=["INBOX", "Sent"], team=["example.org"])

        def run(at):
            (told,) = gather([("imap", account)], store, since=None, until=END, fetched_at=at, run_id="r")
            return told.status, told.new

        assert run(ARRIVED) == ("ok", 2)
        server.folders["Sent"].add(answer, ARRIVED + 3 * HOUR)
        assert run(ARRIVED + HOUR) == ("ok", 1)
        assert run(ARRIVED + HOUR) == ("empty", 0)
    signals = store.read("signals").sort("created_at").select("title", "thread_count", "first_response_at").rows()
    assert signals == [("Question 1", 1, ARRIVED + 3 * HOUR), ("Question 2", None, None)]
    assert store.read("replies")["body"].to_list() == ["Try 4.2."]
