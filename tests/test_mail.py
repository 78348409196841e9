"""What the sender of a mail wrote, and what was quoted, signed or forwarded."""

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
