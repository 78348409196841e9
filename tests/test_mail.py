"""What the sender of a mail wrote, and what was quoted, signed or forwarded."""

import datetime as dt
import time

import pytest

from feedback_lib import mail


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mine.\n\nOn Mon, 2 Mar 2026 at 09:00, Sam\n<sam@x.org> wrote:\n> old\n> older", "Mine."),
        ("Am 02.03.2026 schrieb Sam:\n> alt\n\nStimmt nicht.", "Stimmt nicht."),
        ("> one\nYes.\n> two\nNo.", "Yes.\n\nNo."),
        ("Mine.\n-- \nJane Doe\n+49 30 5550 1234", "Mine."),
        ("Mine.\n\n-----Original Message-----\nFrom: Sam\n\nold", "Mine."),
        ("Mine.\n\nFrom: Sam\nSent: Monday\nTo: Jane\nSubject: x\n\nold", "Mine."),
        ("Mine.\n\nSent from my phone", "Mine."),
        (
            "a > b is fine\n\nOn Monday I wrote a test:\nit passed",
            "a > b is fine\n\nOn Monday I wrote a test:\nit passed",
        ),
    ],
)
def test_only_the_senders_own_words_are_kept(text, expected):
    assert mail.own_words(text) == expected


def test_a_mail_with_more_broken_parts_than_whole_ones_has_a_text():
    page = b'Content-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: text/plain; charset="\n\nHello\n--B\n\n'
    assert mail.text(mail.parsed(page)) == "Hello"


def test_html_in_a_mail_loses_what_was_quoted_by_programs():
    page = b"Content-Type: text/html\n\n<p>Mine.</p><div id=divRplyFwdMsg>From: Sam</div>old"
    assert mail.text(mail.parsed(page)) == "Mine."


HOSTILE = {
    "quotes in From": b"From: " + b'"' * 200_000,
    "encoded words in From": b"From: " + b"=?utf-8?q?a?= " * 20_000,
    "parameters": b"Content-Type: text/plain; " + b";" * 100_000,
    "multiparts in multiparts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 20_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_mails_are_read_or_refused_in_little_time(content):
    began = time.process_time()
    try:
        message = mail.parsed(content + b"\r\n\r\nHello")
        mail.text(message)
        mail.head(message, "a.mbox", str, dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    except RecursionError:
        pass
    assert time.process_time() - began < 2  # it took minutes


def test_a_thread_of_many_messages_has_its_first():
    ids = " ".join(f"<{n}.0123456789abcdef@mail.example.org>" for n in range(1000))
    message = mail.parsed(
        f"Message-ID: <x@y>\r\nDate: Mon, 2 Mar 2026 10:00:00 +0100\r\nReferences: {ids}\r\n".encode()
    )
    first = mail.parsed(b"Message-ID: <0.0123456789abcdef@mail.example.org>\r\nDate: 2 Mar 2026 09:00 +0000")
    answer, asked = (mail.head(one, "", str) for one in (message, first))
    assert mail.threads([answer]) == {answer.key: asked.key}
