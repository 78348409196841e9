"""What is special about mail."""

import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_lib import plugins
from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Item, Rejected

END = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
LINE = b"From x Mon Mar  2 09:00:00 2026\n"


def mail(body=b"Hello", **headers):
    head = {"Message-ID": "<m1@example.org>", "From": "Jane <jane@example.org>", "Subject": "Hi"}
    head |= {"Date": "Mon, 02 Mar 2026 09:00:00 +0100"} | {k.replace("_", "-"): v for k, v in headers.items()}
    lines = [f"{k}: {v}".encode("utf-8", "surrogateescape") for k, v in head.items() if v is not None]
    return LINE + b"\n".join(lines) + b"\n\n" + body + b"\n\n"


def read(tmp_path, *mails, **options):
    (tmp_path / "a.mbox").write_bytes(b"".join(mails))
    source = plugins.build("sources", {"kind": "mbox", "path": str(tmp_path / "a.mbox"), **options})
    found = list(source.fetch(None, END))
    items = [item for item in found if isinstance(item, Item)]
    signals = [(source.reply if item.parent else source.parse)(item.payload) for item in items]
    return signals, [item for item in found if isinstance(item, Rejected)]


def test_real_messages_all_load_with_their_dates(reference, tmp_path):
    """Digests, bounces, attachments and odd headers from the test mails of Python's email package."""
    mails = []
    for path in sorted((reference / "contracts" / "email").glob("*.eml")):
        content = path.read_bytes()
        mails.append((b"" if content.startswith(b"From ") else LINE) + content.rstrip(b"\n") + b"\n\n")
    signals, rejected = read(tmp_path, *mails)
    assert len(mails) == 8
    assert rejected == []
    told = {s.title: (s.created_at.isoformat(), s.body.split("\n")[0]) for s in signals}
    assert told["This is a test message"] == ("2001-05-04T18:05:44+00:00", "Hi,")
    assert told["Here is your dingus fish"] == ("2001-04-20T23:35:02+00:00", "Hi there,")
    assert told["IMAP file test"] == ("2002-05-12T07:56:15+00:00", "Simple email with attachment.")
    assert told["Banned file: auto__mail.python.bat in mail from you"][0] == "2004-11-27T03:41:44+00:00"
    assert len(told) == 8


def test_the_key_is_the_message_id_and_a_copy_counts_once(tmp_path):
    signals, _ = read(tmp_path, mail(), mail(b"Hello again"), mail(Message_ID="<m2@example.org>"))
    assert len(signals) == 2
    assert all(len(s.native_id) == 64 for s in signals)


def test_without_a_message_id_the_words_are_the_key(tmp_path):
    none = {"Message_ID": None}
    signals, _ = read(tmp_path, mail(b"one", **none), mail(b"two", **none), mail(b"two", **none))
    assert sorted(s.body for s in signals) == ["one", "two"]


def test_replies_share_the_label_of_their_thread_in_whatever_order_they_stand(tmp_path):
    first = mail(Message_ID="<1@x>")
    second = mail(Message_ID="<2@x>", In_Reply_To="<1@x>", Date="Mon, 02 Mar 2026 10:00:00 +0100")
    third = mail(Message_ID="<3@x>", In_Reply_To="<2@x>", Date="Mon, 02 Mar 2026 11:00:00 +0100")
    orphan = mail(Message_ID="<5@x>", References="<0@x> <4@x>", Date="Mon, 02 Mar 2026 12:00:00 +0100")
    other = mail(Message_ID="<6@x>", References="<0@x>", Date="Mon, 02 Mar 2026 13:00:00 +0100")
    signals, _ = read(tmp_path, third, orphan, second, first, other)
    labels = [s.labels for s in signals]
    assert labels[0] == labels[1] == labels[2]
    assert labels[3] == labels[4] != labels[0]


def test_messages_that_answer_each_other_in_a_circle_end(tmp_path):
    signals, _ = read(
        tmp_path, mail(Message_ID="<1@x>", In_Reply_To="<2@x>"), mail(Message_ID="<2@x>", In_Reply_To="<1@x>")
    )
    assert len(signals) == 2


def test_what_the_team_answers_belongs_to_the_first_message_of_its_thread(tmp_path):
    asked = mail(Message_ID="<1@x>", From="Jane <jane@example.net>")
    answer = mail(b"Try 4.2.\n> Hi", Message_ID="<2@x>", In_Reply_To="<1@x>", Date="Mon, 02 Mar 2026 10:00:00 +0100")
    again = mail(Message_ID="<3@x>", References="<1@x> <2@x>", From="jane@example.net", Date="3 Mar 2026 10:00 +0100")
    solved = mail(Message_ID="<4@x>", References="<1@x> <2@x> <3@x>", From="Sam@Help.example.org")
    news = mail(b"We have news.", Message_ID="<5@x>", From="news@example.org")
    (first, reply, later), _ = read(tmp_path, asked, answer, again, news, team=["example.org"])
    assert reply.parent == first.native_id
    assert (reply.body, reply.team, reply.author) == ("Try 4.2.", True, "jane@example.org")
    assert later.labels == first.labels
    (_, by_address, _), _ = read(tmp_path, asked, again, solved, team=["sam@help.example.org"])
    assert (by_address.team, by_address.parent) == (True, first.native_id)


@pytest.mark.parametrize("entry", ["support", "a@b@c.org", "", 3])
def test_a_team_is_addresses_and_domains(tmp_path, entry):
    with pytest.raises(ConfigError, match=r"sources mbox: team = .*: expected an address or a domain"):
        plugins.build("sources", {"kind": "mbox", "path": "a.mbox", "team": [entry]})


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Date": "Mon, 02 Mar 2026 09:00:00"}, 9),
        ({"Date": "Mon, 02 Mar 2026 09:00:00 -0000"}, 9),
        ({"Date": "Mon, 02 Mar 2026 09:00:00 -0500 (EST)"}, 14),
        ({"Date": None, "Received": "from a by b; Mon, 2 Mar 2026 08:00:00 +0000"}, 8),
        ({"Date": "soon", "Received": "from a by b;\n\tMon, 2 Mar 2026 08:00:00 +0000"}, 8),
    ],
)
def test_a_date_without_zone_is_utc_and_a_missing_one_is_the_time_received(tmp_path, headers, expected):
    ((signal,), _) = read(tmp_path, mail(**headers))
    assert signal.created_at == dt.datetime(2026, 3, 2, expected, tzinfo=dt.UTC)


def test_a_message_nobody_dated_is_rejected_with_its_number(tmp_path):
    signals, (bad,) = read(tmp_path, mail(), mail(Date=None, Message_ID="<2@x>"))
    assert len(signals) == 1
    assert bad.where == "a.mbox: message 2"
    assert "no date" in bad.reason


@pytest.mark.parametrize(
    ("charset", "content"),
    [
        ("us-ascii", "Grüße".encode()),
        ("iso-8859-1", "Grüße".encode()),
        ("x-unknown", "Grüße".encode("cp1252")),
        ("iso-8859-1", "Grüße".encode("latin-1")),
        ("utf-8", "Grüße".encode("latin-1")),
    ],
    ids=["ascii that is UTF-8", "latin that is UTF-8", "unknown", "honest latin", "UTF-8 that is latin"],
)
def test_a_charset_that_lies_is_seen_through(tmp_path, charset, content):
    ((signal,), _) = read(tmp_path, mail(content, Content_Type=f"text/plain; charset={charset}"))
    assert signal.body == "Grüße"


def test_html_becomes_text_without_scripts_styles_and_quotes(tmp_path):
    page = (
        b"<html><head><title>t</title><style>p {}</style></head><body><p>First &amp; <b>second</b><br>line</p>"
        b"<script>x()</script><ul><li>one<li>two</ul><div class='gmail_quote'><div>On Monday</div>old</div>"
        b"<blockquote>older</blockquote><p>end</p></body></html>"
    )
    ((signal,), _) = read(tmp_path, mail(page, Content_Type="text/html; charset=utf-8"))
    assert signal.body == "First & second\nline\n\none\ntwo\n\nend"


def test_the_plain_part_wins_and_attachments_are_left_out(tmp_path):
    parts = (
        b'--B\nContent-Type: multipart/alternative; boundary="C"\n\n--C\nContent-Type: text/html\n\n<p>html</p>\n'
        b"--C\nContent-Type: text/plain\n\nplain\n--C--\n"
        b"--B\nContent-Type: text/plain\nContent-Disposition: attachment; filename=a.txt\n\nattached\n--B--\n"
    )
    ((signal,), _) = read(tmp_path, mail(parts, Content_Type='multipart/mixed; boundary="B"'))
    assert signal.body == "plain"


def test_a_body_line_that_begins_with_from_does_not_split_the_message(tmp_path):
    signals, rejected = read(
        tmp_path, mail(b"Hello\n\nFrom the start it was slow.\n>From here on too."), mail(Message_ID="<2@x>")
    )
    assert rejected == []
    assert signals[0].body == "Hello\n\nFrom the start it was slow.\nFrom here on too."
    assert len(signals) == 2


def test_encoded_subjects_and_broken_headers_are_read_as_well_as_can_be(tmp_path):
    ((signal,), _) = read(tmp_path, mail(Subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?=", From="MAILER DAEMON <>"))
    assert signal.title == "Grüße"
    ((raw,), _) = read(tmp_path, mail(Subject="Gr\udcfc\udcdfe", From="<<<"))
    assert raw.title.startswith("Gr")
    raw.title.encode("utf-8")


def test_a_message_with_neither_subject_nor_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither subject nor text"):
        read(tmp_path, mail(b"> only quoted", Subject=None))


def test_a_file_that_is_no_mbox_says_so(tmp_path):
    with pytest.raises(SourceError, match="does not begin with 'From '"):
        read(tmp_path, b"Subject: x\n\nhello\n")
    assert read(tmp_path, b"") == ([], [])


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([LINE, b"Date: Mon, 02 Mar 2026 09:00:00 +0100\n"]))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_no_file_whatever_it_holds_ends_in_a_traceback(tmp_path, pieces):
    (tmp_path / "a.mbox").write_bytes(LINE + b"".join(pieces))
    source = plugins.build("sources", {"kind": "mbox", "path": str(tmp_path / "a.mbox")})
    for found in source.fetch(None, END):
        assert isinstance(found, Item | Rejected)
