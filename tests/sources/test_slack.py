"""Slack: its documented answers field by field, and what a channel's history has of its own."""

import datetime as dt
import json

import pytest
from conftest import REFERENCE
from fake_services import UNTIL, Answer, found, patient, read
from fake_services.slack import CHANNEL, WEB, message, ts
from fake_services.slack import Slack as Fake

from feedback_lib.errors import ConfigError, SourceError
from feedback_lib.records import Item, Rejected, Reply, Signal
from feedback_lib.sources.slack import Slack, plain
from feedback_lib.testing import Replay

RECORDED = REFERENCE / "contracts" / "slack"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="Slack's documented answers are not there")
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def channel(rows=(), answers=None, **more):
    """A channel with these messages, the answers by the time of their thread."""
    there = Fake(0)
    there.items += rows
    there.answers |= answers or {}
    for parent, given in there.answers.items():
        next(row for row in rows if row["ts"] == parent).update(
            thread_ts=parent, reply_count=len(given), latest_reply=given[-1]["ts"]
        )
    return there


def said(text, **more):
    return message(NOON, text, "U0JANE", **more)


# Documented answers


def items(*exchanges, **options):
    """What a channel with these recorded answers gives."""
    first = {"path": "/auth.test", "answer": {"ok": True, "url": f"{WEB}/"}}
    with Replay([first, *exchanges]) as there, patient():
        source = Slack(channel=CHANNEL, url=there.url, token_env="FAKE_TOKEN", start="2016-12-01", **options)
        rows = [one for one in source.fetch(None, dt.datetime(2018, 1, 1, tzinfo=dt.UTC)) if isinstance(one, Item)]
    return source, list({item.native_id: item for item in rows}.values())


@recorded
def test_the_documented_history():
    answer = json.loads((RECORDED / "conversations_history_ok.json").read_text())
    last = {**answer, "has_more": False, "response_metadata": {"next_cursor": ""}}
    source, rows = items({"path": "/conversations.history", "answer": last})
    assert [source.parse(item.payload) for item in rows] == [
        Signal(
            kind="slack", origin=CHANNEL, native_id=native_id, type="ticket", title="", body=body, created_at=at,
            updated_at=at, url=f"{WEB}/archives/{CHANNEL}/p{native_id.replace('.', '')}", author=author, reactions=0,
            thread_count=0,
        )
        for native_id, body, at, author in (
            (
                "1512085950.000216", "I find you punny and would like to smell your nose letter",
                dt.datetime(2017, 11, 30, 23, 52, 30, 216, tzinfo=dt.UTC), "U012AB3CDE",
            ),
            (
                "1512104434.000490", "What, you want to smell my shoes better?",
                dt.datetime(2017, 12, 1, 5, 0, 34, 490, tzinfo=dt.UTC), "U061F7AUR",
            ),
        )
    ]  # fmt: skip


@recorded
def test_the_documented_thread():
    answer = json.loads((RECORDED / "conversations_replies_ok.json").read_text())
    last = {**answer, "has_more": False, "response_metadata": {"next_cursor": ""}}
    root = answer["messages"][0]
    history = {"path": "/conversations.history", "answer": {"ok": True, "messages": [root], "has_more": False}}
    source, rows = items(history, {"path": "/conversations.replies", "query": {"ts": root["ts"]}, "answer": last})
    signal, *replies = [source.reply(i.payload) if i.parent else source.parse(i.payload) for i in rows]
    assert (signal.native_id, signal.body, signal.thread_count) == ("1482960137.003543", "island", 3)
    parent = "1482960137.003543"
    assert replies == [
        Reply(
            kind="slack", origin=CHANNEL, native_id=f"{parent}#{one}", parent=parent, body=body, created_at=at,
            updated_at=at, author="U061F7AUR", team=None,
        )
        for one, body, at in (
            ("1483037603.017503", "one island", dt.datetime(2016, 12, 29, 18, 53, 23, 17503, tzinfo=dt.UTC)),
            ("1483051909.018632", "two island", dt.datetime(2016, 12, 29, 22, 51, 49, 18632, tzinfo=dt.UTC)),
            ("1483125339.020269", "three for the land", dt.datetime(2016, 12, 30, 19, 15, 39, 20269, tzinfo=dt.UTC)),
        )
    ]  # fmt: skip


@recorded
def test_the_documented_refusals():
    """A status of 200 says nothing."""
    history = json.loads((RECORDED / "conversations_history_error.json").read_text())
    with pytest.raises(SourceError, match=r"channel_not_found; is its id right\? .*invite the app"):
        items({"path": "/conversations.history", "answer": history})
    row = said("Slow", thread_ts=ts(NOON), reply_count=1, latest_reply=ts(NOON))
    row |= {"ts": "1512085950.000216", "thread_ts": "1512085950.000216"}
    replies = json.loads((RECORDED / "conversations_replies_error.json").read_text())
    answers = {"path": "/conversations.history", "answer": {"ok": True, "messages": [row], "has_more": False}}
    _, rows = items(answers, {"path": "/conversations.replies", "answer": replies})
    assert [item.native_id for item in rows] == ["1512085950.000216"]  # the thread was deleted meanwhile


# What was said and what was not


def test_events_robots_and_what_has_no_words_are_left_out():
    rows = [
        message(NOON, "<@U0JANE> has joined", "U0JANE", subtype="channel_join"),
        message(NOON + DAY, "set the topic", "U0JANE", subtype="channel_topic"),
        message(NOON + 2 * DAY, "Deployed 4.2", "U0APP", bot_id="B0DEPLOY"),
        message(NOON + 3 * DAY, "Reminder", "USLACKBOT"),
        message(NOON + 4 * DAY, "", "U0JANE", files=[{"title": "a picture of jane.doe"}]),
        message(NOON + 5 * DAY, "here is a picture", "U0JANE", subtype="file_share", files=[{"title": "jane.doe"}]),
    ]
    with channel(rows) as there:
        made, _ = found(there)
    assert [one.body for one in made.values()] == ["here is a picture"]
    assert "jane" not in repr(made)


def test_the_posts_of_a_form_are_feedback_when_its_bot_is_named():
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "*Wish*: dark mode"}, "fields": None}
    rows = [
        {**said(""), "subtype": "bot_message", "bot_id": "B0FORM", "user": None, "blocks": [section]},
        {
            "type": "message", "subtype": "bot_message", "ts": ts(NOON + DAY), "bot_id": "B0FORM", "text": "",
            "attachments": [{"title": "Wish", "text": "A faster search"}, {"fallback": "from the form"}],
        },
        message(NOON + 2 * DAY, "Deployed 4.2", "U0APP", bot_id="B0DEPLOY"),
    ]  # fmt: skip
    with channel(rows) as there:
        made, _ = found(there, bots=["B0FORM"])
    bodies = ["*Wish*: dark mode", "Wish\nA faster search\nfrom the form"]
    assert [(one.body, one.author) for one in made.values()] == [(body, None) for body in bodies]


def test_an_answer_that_was_sent_to_the_channel_too_is_one_answer():
    row = said("It is slow")
    answer = message(NOON + DAY, "Since when?", "U0SAM", thread_ts=row["ts"], subtype="thread_broadcast")
    with channel([row], {row["ts"]: [answer]}) as there:
        there.items.append({**answer, "root": row})
        made, _ = found(there, team=["U0SAM"])
    parent, reply = row["ts"], f"{row['ts']}#{answer['ts']}"
    assert list(made) == [parent, reply]
    assert made[reply].team
    assert made[parent].thread_count == 1


def test_whoever_answers_is_the_team_only_when_it_is_named():
    row = said("It is slow")
    answers = [message(NOON + DAY, "Here too", "U0LEE"), message(NOON + 2 * DAY, "Fixed", "U0SAM")]
    with channel([row], {row["ts"]: answers}) as there:
        named, _ = found(there, team=["U0SAM"])
        unnamed, _ = found(there)
    assert [one.team for one in named.values() if isinstance(one, Reply)] == [False, True]
    assert [one.team for one in unnamed.values() if isinstance(one, Reply)] == [None, None]


def test_what_was_deleted_below_answers_is_said_to_be():
    row = message(NOON, "This message was deleted.", "USLACKBOT", subtype="tombstone", hidden=True)
    answer = message(NOON + DAY, "Same here", "U0LEE")
    with channel([row], {row["ts"]: [answer]}) as there:
        made, _ = found(there)
    signal, reply = made.values()
    assert (signal.state, signal.author, signal.body) == ("deleted", None, "This message was deleted.")
    assert reply.body == "Same here"


def test_reactions_are_counted_and_nobody_is_named():
    marks = [{"name": "eyes", "users": ["U0SAM", "U0LEE"], "count": 2}, {"name": "+1", "users": ["U0LEE"], "count": 1}]
    row = said("<@U0SAM|jane.doe> it is slow", reactions=marks, user_profile={"real_name": "jane.doe"})
    with channel([row]) as there:
        made, done = found(there)
    (signal,) = made.values()
    assert (signal.reactions, signal.body) == (3, "@someone it is slow")
    archived = repr([item.payload for item in done.items.values()])
    assert "U0LEE" not in archived
    assert "jane.doe" not in archived


def test_the_label_of_a_link_outlives_redaction():
    with channel([said("See <https://example.org/a?user=jane|the whole page>.")]) as there:
        made, _ = found(there)
    assert [one.body for one in made.values()] == ["See the whole page."]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<https://example.org/a?b=1|the page> &lt;b&gt; &amp;amp;", "the page <b> &amp;"),
        ("<https://example.org/a>", "https://example.org/a"),
        ("<mailto:help@example.org|help@example.org>", "help@example.org"),
        ("in <#C012AB3CD|help> or <#C012AB3CE>", "in #help or #channel"),
        ("<!here> <!channel> <!subteam^S012|@support>", "@here @channel @group"),
        ("<!date^1392734382^{date}|18 Feb 2014>", "18 Feb 2014"),
        ("a < b and c > d", "a < b and c > d"),
        ("<unclosed", "<unclosed"),
    ],
)
def test_mark_up_becomes_plain_text(written, shown):
    assert plain(written) == shown


# History


def test_an_edit_of_the_last_two_weeks_comes_with_the_next_run():
    rows = [message(NOON + n * DAY, f"It is slow {n}", "U0JANE") for n in range(20)]
    with channel(rows) as there:
        _, done = found(there)
        old, young = rows[2], rows[15]
        for row in (old, young):
            row |= {"text": "It was the proxy", "edited": {"user": "U0JANE", "ts": ts(NOON + 30 * DAY)}}
        made, _ = found(there, done)
    assert (made[young["ts"]].body, made[young["ts"]].updated_at) == ("It was the proxy", NOON + 30 * DAY)
    assert made[old["ts"]].body == "It is slow 2"  # documented: edits of older messages are missed


def test_a_new_answer_to_an_old_thread_comes_with_the_next_run():
    rows = [message(NOON + n * DAY, f"It is slow {n}", "U0JANE") for n in range(6)]
    first = message(NOON + 2 * DAY, "Since when?", "U0SAM")
    with channel(rows, {rows[1]["ts"]: [first], rows[2]["ts"]: [{**first, "ts": ts(NOON + 3 * DAY)}]}) as there:
        _, done = found(there)
        second = message(NOON + 8 * DAY, "Since Monday", "U0JANE")
        there.answers[rows[1]["ts"]].append(second)
        rows[1] |= {"reply_count": 2, "latest_reply": second["ts"]}
        before = len(there.requests)
        made, _ = found(there, done)
        threads = [r for r in there.requests[before:] if r.path.endswith("replies")]
    assert made[rows[1]["ts"]].thread_count == 2
    assert made[f"{rows[1]['ts']}#{second['ts']}"].body == "Since Monday"
    assert {r.query["ts"] for r in threads} == {rows[1]["ts"]}, "what has nothing new was asked for"
    assert all(float(r.query["oldest"]) > NOON.timestamp() for r in threads), "what is known was asked for"


def test_a_window_with_more_messages_than_are_held_is_narrowed():
    class Narrow(Slack):
        held = 40

    rows = [message(NOON + n * dt.timedelta(hours=1), f"Line {n}", "U0JANE") for n in range(150)]
    with channel(rows) as there:
        done = read(Narrow(**there.options()))
    assert done.error is None
    assert list(done.items) == [row["ts"] for row in rows]
    bounds = [(float(r.query["oldest"]), float(r.query["latest"])) for r in there.requests if "latest" in r.query]
    asked = [(latest - oldest) / 86400 for oldest, latest in bounds]
    assert min(asked) < 2
    assert max(asked) > 100  # where nothing was said


def test_without_a_start_the_history_begins_where_slack_does():
    rows = [message(dt.datetime(2014, 5, 1, tzinfo=dt.UTC), "Early", "U0JANE"), said("Late")]
    with channel(rows) as there:
        done = read(there.source(start=""))
        assert [item.payload["text"] for item in done.items.values()] == ["Early", "Late"]
        assert len(there.requests) < 20


def test_one_odd_message_is_quarantined_alone():
    with channel([said("Slow")]) as there:
        odd = [{"type": "message", "text": "no time"}, {**said("odd"), "ts": 5}, {**said("odd"), "ts": ts(NOON + DAY)}]
        odd[2]["reactions"] = 7
        ask, given = there.answer, Answer({"ok": True, "has_more": False, "messages": [*odd, said("Slow")]})
        there.answer = lambda request: given if request.path.endswith("history") else ask(request)
        walk = list(there.source().fetch(None, UNTIL))
    assert {one.native_id for one in walk if isinstance(one, Item)} == {ts(NOON)}
    refused = {(one.where.rpartition(" ")[2], one.reason[:6]) for one in walk if isinstance(one, Rejected)}
    assert refused == {("?", "has no"), ("5", "has no"), (ts(NOON + DAY), "was no")}


def test_one_odd_answer_is_quarantined_alone():
    row = said("Slow")
    answers = [{"type": "message", "text": "no time"}, message(NOON + DAY, "odd", "U0SAM", reactions=7)]
    with channel([row], {row["ts"]: [*answers, message(NOON + 2 * DAY, "Me too", "U0LEE")]}) as there:
        ask, given = there.answer, Answer({"ok": True, "messages": [row, "odd", *there.answers[row["ts"]]]})
        there.answer = lambda request: given if request.path.endswith("replies") else ask(request)
        row["latest_reply"] = "soon"
        made, done = found(there)
    assert [one.body for one in made.values()] == ["Slow", "Me too"]
    assert {one.where for one in done.rejected} == {
        f"{CHANNEL} messages {row['ts']}#?", f"{CHANNEL} messages {row['ts']}#{ts(NOON + DAY)}",
    }  # fmt: skip


# Access


def test_a_channel_is_found_by_its_name():
    with channel([said("Slow")]) as there:
        made, _ = found(there, channel="#Feedback")
        assert {one.origin for one in made.values()} == {"Feedback"}
        with pytest.raises(SourceError, match="no channel #nowhere that the app can see; invite the app"):
            there.source(channel="nowhere").check()


def test_checking_says_when_the_last_message_was_posted():
    with channel([said("Slow")]) as there:
        assert there.source().check() == f"{CHANNEL} of acme.slack.com: last message of 2026-03-02 12:00 UTC"
    with channel() as there:
        assert there.source().check().endswith("no messages")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ({"error": "missing_scope", "needed": "groups:history", "provided": "chat:write"}, "the scope groups:history"),
        ({"error": "not_in_channel"}, "/invite"),
        ({"error": "invalid_auth"}, "is the token"),
        ({"error": "ratelimited"}, "asked too often"),
        ({"error": "fatal_error"}, "says fatal_error"),
    ],
)
def test_a_refusal_says_what_to_do(error, told):
    with channel([said("Slow")]) as there:
        there.answer = lambda request: Answer({"ok": False, **error})
        with pytest.raises(SourceError, match=told):
            there.source().check()
        assert told in str(read(there.source()).error)


@pytest.mark.parametrize(
    ("options", "told"), [({"channel": "#"}, "channel"), ({"channel": "C0X", "team": "U0SAM"}, "team .* list of ids")]
)
def test_options_that_cannot_be_right_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        Slack(**options)
